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
