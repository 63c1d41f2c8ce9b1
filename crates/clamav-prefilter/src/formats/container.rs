//! `.cvd`, `.cld` and `.cud`: a header of 512 bytes, then a tar archive, compressed or not.
//!
//! libclamav reads only names, sizes and types of the archive's headers, and refuses all but plain
//! files without a directory. So do we, but with a crate that also knows checksums; what one of the
//! two finds broken is an error here. Signatures and checksums of a container only keep libclamav
//! from loading it, so nobody checks them here.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::broken;

const HEADER: usize = 512;
const MAGIC: &[u8] = b"ClamAV-VDB:";
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Bytes of a member. The largest official ones have about 300 MB.
const LARGEST: u64 = 2 << 30;

/// Bytes of an archive once unpacked: several of the largest members.
const TOTAL: u64 = 8 << 30;

/// Is handed one member: its name and its content, of which it may leave some unread.
pub(crate) type Member<'m> = dyn FnMut(&[u8], &mut dyn BufRead) -> io::Result<()> + 'm;

/// Hands on name and content of every member, in order. Nothing is held but a few buffers.
///
/// # Errors
///
/// What the content or the callback says, and [`io::ErrorKind::InvalidData`] for what libclamav would
/// not read, or for more than the official containers could ever hold.
pub(crate) fn members(content: &mut dyn BufRead, member: &mut Member<'_>) -> io::Result<()> {
    let mut header = [0; HEADER];
    content.read_exact(&mut header)?;
    if !header.starts_with(MAGIC) {
        return Err(broken("not a signature container"));
    }
    // zlib, which libclamav reads with, goes by these two bytes, too.
    if content.fill_buf()?.starts_with(GZIP) {
        archive(MultiGzDecoder::new(content), TOTAL, member)
    } else {
        archive(content, TOTAL, member)
    }
}

fn archive(content: impl Read, total: u64, member: &mut Member<'_>) -> io::Result<()> {
    let mut archive = tar::Archive::new(Bounded {
        content,
        left: total,
    });
    // Raw: libclamav knows no extended headers either, and refuses them.
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let header = entry.header();
        if !header.entry_type().is_file() {
            return Err(broken("a member that is not a plain file"));
        }
        if header.entry_size()? > LARGEST {
            return Err(broken("a member that is too large"));
        }
        let field = header.as_old().name;
        let name = field.split(|&byte| byte == 0).next().unwrap_or_default();
        if name.contains(&b'/') {
            return Err(broken("a member in a directory"));
        }
        let name = name.to_vec();
        member(&name, &mut BufReader::with_capacity(64 * 1024, entry))?;
    }
    Ok(())
}

/// Fails where it would yield too much; an end there would look like the end of the archive.
struct Bounded<R> {
    content: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| broken("more than a container should hold"))?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::super::visit;
    use super::*;

    type Files = Vec<(Vec<u8>, Vec<u8>)>;

    const NDB: &[u8] = b"Judge.Body:0:*:6e6565646c65\n";

    fn header() -> Vec<u8> {
        let mut header = b"ClamAV-VDB:22 Jun 2021 16-55 -0400:2:0:81:X:X:judge:1624395301".to_vec();
        header.resize(HEADER, b' ');
        header
    }

    fn tar(files: &Files) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_old();
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.append(&header, &content[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn container(tar: &[u8], compressed: bool) -> Vec<u8> {
        let mut container = header();
        if compressed {
            let mut encoder = GzEncoder::new(&mut container, Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap();
        } else {
            container.extend(tar);
        }
        container
    }

    fn read(mut container: &[u8]) -> io::Result<Files> {
        let mut files = Files::new();
        members(&mut container, &mut |name, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            files.push((name.to_vec(), bytes));
            Ok(())
        })?;
        Ok(files)
    }

    /// With the list of checksums that libclamav wants to see.
    fn loadable(name: &str, content: &[u8]) -> Files {
        let digest = Sha256::digest(content)
            .iter()
            .fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").unwrap();
                text
            });
        let head = String::from_utf8(header()).unwrap();
        let info = format!("{}\n{name}:{}:{digest}\n", head.trim_end(), content.len());
        vec![
            (b"COPYING".to_vec(), b"a licence".to_vec()),
            (b"judge.info".to_vec(), info.into_bytes()),
            (name.as_bytes().to_vec(), content.to_vec()),
        ]
    }

    #[test]
    fn what_was_packed_is_read() {
        let files = loadable("a.ndb", NDB);
        for compressed in [false, true] {
            let container = container(&tar(&files), compressed);
            assert_eq!(read(&container).unwrap(), files);
        }
    }

    #[test]
    fn an_archive_may_end_without_an_end_mark_and_go_on_after_one() {
        let files = loadable("a.ndb", NDB);
        let whole = tar(&files);
        let unmarked = &whole[..whole.len() - 1024];
        let mut trailing = whole.clone();
        trailing.extend(b"rubbish");
        for tar in [unmarked, &trailing] {
            for compressed in [false, true] {
                let container = container(tar, compressed);
                assert_eq!(read(&container).unwrap(), files);
            }
        }
    }

    #[test]
    fn pieces_of_gzip_are_one_archive() {
        let files = loadable("a.ndb", NDB);
        let tar = tar(&files);
        let (left, right) = tar.split_at(700);
        let mut whole = container(left, true);
        whole.extend(&container(right, true)[HEADER..]);
        assert_eq!(read(&whole).unwrap(), files);
    }

    #[test]
    fn broken_containers_are_errors() {
        let files = loadable("a.ndb", NDB);
        let good = container(&tar(&files), true);
        assert!(read(b"").is_err());
        assert!(read(&good[..HEADER - 1]).is_err());
        assert!(read(&good[..good.len() / 2]).is_err());
        assert!(read(&good[1..]).is_err());
        let mut flipped = good.clone();
        flipped[HEADER + 30] ^= 0x55;
        assert!(read(&flipped).is_err());

        let plain = container(&tar(&files), false);
        assert!(read(&plain[..HEADER + 700]).is_err());
    }

    #[test]
    fn only_plain_files_without_a_directory() {
        let slash = vec![(b"a/b.ndb".to_vec(), NDB.to_vec())];
        assert!(read(&container(&tar(&slash), false)).is_err());
        for kind in [b'5', b'1', b'2', b'L', b'x', b'7'] {
            for mut header in [tar::Header::new_old(), tar::Header::new_gnu()] {
                let mut tar = tar(&loadable("a.ndb", NDB));
                header.as_old_mut().name[..1].copy_from_slice(b"a");
                header.set_entry_type(tar::EntryType::new(kind));
                header.set_size(9);
                header.set_cksum();
                tar[..512].copy_from_slice(header.as_bytes());
                assert!(read(&container(&tar, false)).is_err(), "{kind}");
            }
        }
    }

    #[test]
    fn members_and_archives_have_a_limit() {
        let mut tar = tar(&vec![(b"a.ndb".to_vec(), NDB.to_vec())]);
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&tar[..512]);
        header.set_size(LARGEST + 1);
        header.set_cksum();
        tar[..512].copy_from_slice(header.as_bytes());
        let error = read(&container(&tar, false)).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");

        let two = self::tar(&vec![
            (b"a.ndb".to_vec(), vec![b'#'; 1000]),
            (b"b.ndb".to_vec(), vec![b'#'; 1000]),
        ]);
        let count = |total| {
            let mut seen = 0;
            archive(&two[..], total, &mut |_, _| {
                seen += 1;
                Ok(())
            })
            .map(|()| seen)
        };
        assert_eq!(count(two.len() as u64).unwrap(), 2);
        assert!(count(1024).is_err());
        assert!(count(1536).is_err());
    }

    #[test]
    fn a_container_in_a_container_is_refused() {
        let container = container(&tar(&loadable("a.cld", NDB)), true);
        let visit = |name: &[u8]| {
            let mut names = Vec::new();
            let result = visit(name, &mut &container[..], &mut |name, _, _| {
                names.push(name.to_vec());
                Ok(())
            });
            (result.is_ok(), names)
        };
        let names = vec![b"COPYING".to_vec(), b"judge.info".to_vec()];
        assert_eq!(visit(b"b.CVD"), (false, names));
        assert_eq!(visit(b"b.ndb"), (true, vec![b"b.ndb".to_vec()]));
    }

    #[test]
    fn a_member_need_not_be_read() {
        let files = loadable("a.ndb", NDB);
        let container = container(&tar(&files), true);
        let mut names = Vec::new();
        members(&mut &container[..], &mut |name, _| {
            names.push(name.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(names, [&b"COPYING"[..], b"judge.info", b"a.ndb"]);
    }

    proptest! {
        #[test]
        fn any_files_come_back(
            files in prop::collection::vec(
                ("[a-z]{1,20}\\.[a-z]{2,4}", prop::collection::vec(any::<u8>(), 0..1500)),
                0..5,
            ),
            compressed in any::<bool>(),
        ) {
            let files: Files = files.into_iter().map(|(name, content)| (name.into_bytes(), content)).collect();
            prop_assert_eq!(read(&container(&tar(&files), compressed)).unwrap(), files);
        }

        #[test]
        fn any_bytes_are_read_or_refused(content in prop::collection::vec(any::<u8>(), 0..3000), gzip in any::<bool>()) {
            let mut container = header();
            if gzip {
                container.extend(GZIP);
            }
            container.extend(content);
            let _either = read(&container);
        }

        #[test]
        fn any_damage_is_seen_or_does_no_harm(at in 0..3000_usize, byte in any::<u8>(), compressed in any::<bool>()) {
            let files = loadable("a.ndb", NDB);
            let mut container = container(&tar(&files), compressed);
            let at = at % container.len();
            container[at] = byte;
            let _either = read(&container);
        }
    }
}
