//! Reading signature files as libclamav's loader does: which files it takes, how it cuts them into
//! lines and fields.
//!
//! Parsing is total. Whatever libclamav loads becomes a known thing or a reason why it was not
//! understood; what libclamav refuses may become anything, for then there is no engine either.

pub mod body;
pub(crate) mod container;
pub(crate) mod file_types;
pub mod hash;
pub(crate) mod ioc;
#[cfg(test)]
mod judge;
pub mod lines;
pub mod logical;

use std::io::{self, BufRead, Read as _};

/// What a file holds, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `name:target:offset:hex`, see [`body`].
    Body,
    /// `name=hex`, see [`body`].
    Plain,
    /// Logical signatures.
    Logical,
    /// One bytecode; its second line may be a logical signature.
    Bytecode,
    /// Hashes of whole files, see [`hash`].
    Hash,
    /// OpenIOC, see [`ioc`].
    Ioc,
    /// YARA rules.
    Yara,
    /// File types, see [`file_types`].
    FileTypes,
    /// Files in a file, see [`container`].
    Container,
    /// Nothing in it can make libclamav report a plain message; why.
    Irrelevant(&'static str),
    /// No ending that is known here. Today's libclamav skips such a file; a later one may not.
    Unknown,
}

const EXECUTABLE: Format = Format::Irrelevant("matches parts of executables");
const MEMBER: Format = Format::Irrelevant("matches members of archives and mail");
const LINK: Format = Format::Irrelevant("matches links in mail");
const ALLOW: Format = Format::Irrelevant("takes detections away");
const PASSWORD: Format = Format::Irrelevant("opens archives");
const SWITCH: Format = Format::Irrelevant("turns parts of the engine off");
const UPDATE: Format = Format::Irrelevant("not loaded as signatures");
const NO_ENDING: Format = Format::Irrelevant("its name has no ending");

const ENDINGS: [(&str, Format); 41] = [
    (".cat", ALLOW),
    (".cbc", Format::Bytecode),
    (".cdb", MEMBER),
    (".cdiff", UPDATE),
    (".cfg", SWITCH),
    (".cld", Format::Container),
    (".crb", ALLOW),
    (".cud", Format::Container),
    (".cvd", Format::Container),
    (".db", Format::Plain),
    (".fp", ALLOW),
    (".ftm", Format::FileTypes),
    (".gdb", LINK),
    (".hdb", Format::Hash),
    (".hdu", Format::Hash),
    (".hsb", Format::Hash),
    (".hsu", Format::Hash),
    (".idb", EXECUTABLE),
    (".ign", ALLOW),
    (".ign2", ALLOW),
    (".imp", EXECUTABLE),
    (".info", UPDATE),
    (".ioc", Format::Ioc),
    (".ldb", Format::Logical),
    (".ldu", Format::Logical),
    (".mdb", EXECUTABLE),
    (".mdu", EXECUTABLE),
    (".msb", EXECUTABLE),
    (".msu", EXECUTABLE),
    (".ndb", Format::Body),
    (".ndu", Format::Body),
    (".pdb", LINK),
    (".pwdb", PASSWORD),
    (".rmd", MEMBER),
    (".sdb", Format::Body),
    (".sfp", ALLOW),
    (".sign", UPDATE),
    (".wdb", LINK),
    (".yar", Format::Yara),
    (".yara", Format::Yara),
    (".zmd", MEMBER),
];

impl Format {
    /// libclamav does not load it: a licence, a list of checksums, an update.
    pub fn is_no_signatures(self) -> bool {
        self == UPDATE || self == NO_ENDING
    }

    /// By the file's name without its directory. Case does not count, and a name may be nothing but
    /// an ending. Without a dot it has none: containers carry a licence text that way.
    pub fn of(name: &[u8]) -> Format {
        let Some(dot) = memchr::memrchr(b'.', name) else {
            return NO_ENDING;
        };
        let ending = name.get(dot..).unwrap_or_default();
        ENDINGS
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(ending))
            .map_or(Format::Unknown, |&(_, format)| format)
    }
}

/// Is handed one file: its name, its format, its content, of which it may leave some unread.
pub type Visitor<'v> = dyn FnMut(&[u8], Format, &mut dyn BufRead) -> io::Result<()> + 'v;

/// Hands on the file or, if it is a container, its members. The visitor never sees a container.
///
/// # Errors
///
/// What the content or the visitor says, and [`io::ErrorKind::InvalidData`] for a broken container.
pub fn visit(name: &[u8], content: &mut dyn BufRead, visitor: &mut Visitor<'_>) -> io::Result<()> {
    match Format::of(name) {
        Format::Container => {
            container::members(content, &mut |name, content| match Format::of(name) {
                Format::Container => Err(broken("a container in a container")),
                format => visitor(name, format, content),
            })
        }
        format => visitor(name, format, content),
    }
}

/// All of a file that is not read line by line.
///
/// # Errors
///
/// It cannot be read, or is larger than `most`.
pub(crate) fn whole(content: &mut dyn BufRead, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(broken("larger than any such file should be"));
    }
    Ok(bytes)
}

fn broken(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// A number as libclamav reads it: digits and nothing else, and none at all is 0. Its arithmetic
/// overflows, ours does not try: more than nine digits are not understood.
pub(crate) fn number(digits: &[u8]) -> Option<u32> {
    if digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u32::from(digit - b'0'))
    })
}

pub(crate) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, text)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| value.try_into().ok())
}

/// Pairs of hexadecimal digits, in any case.
fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|&[high, low]| Some(hex_digit(high)? << 4 | hex_digit(low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use scanlib::database::is_signature_file;

    const NEEDLE: &[u8] = b"find the needle here";
    const BODY: &[u8] = b"Judge.Body:0:*:6e6565646c65\n";

    /// A file of the format that finds [`NEEDLE`].
    fn sample(format: Format) -> Option<&'static [u8]> {
        match format {
            Format::Body => Some(BODY),
            Format::Plain => Some(b"Judge.Plain=6e6565646c65\n"),
            Format::Logical => Some(b"Judge.Logical;Engine:51-255,Target:0;0;6e6565646c65\n"),
            Format::Yara => Some(b"rule Judge { strings: $a = \"needle\" condition: $a }\n"),
            _ => None,
        }
    }

    #[test]
    fn libclamav_loads_a_directory_s_files_by_the_same_endings() {
        for (ending, format) in ENDINGS {
            assert_eq!(is_signature_file(ending), format != UPDATE, "{ending}");
        }
    }

    #[test]
    fn libclamav_reads_the_format_that_the_ending_says() {
        for (ending, format) in ENDINGS {
            let Some(content) = sample(format) else {
                continue;
            };
            let name = format!("a.other{}", ending.to_uppercase());
            assert_eq!(Format::of(name.as_bytes()), format);
            assert!(judge::detects(&[(&name, content)], NEEDLE), "{name}");
        }
    }

    #[test]
    fn irrelevant_files_make_libclamav_report_nothing() {
        for (ending, format) in ENDINGS {
            if let Format::Irrelevant(_) = format {
                let name = format!("a{ending}");
                for format in [Format::Body, Format::Plain, Format::Logical, Format::Yara] {
                    let content = sample(format).unwrap();
                    assert!(!judge::detects(&[(&name, content)], NEEDLE), "{name}");
                }
            }
        }
    }

    #[test]
    fn names_without_a_known_ending() {
        for name in ["", "COPYING", "ndb", "README"] {
            let format = Format::of(name.as_bytes());
            assert!(matches!(format, Format::Irrelevant(_)), "{name}");
        }
        for name in [".", "x.", "x.ndb2", "x.ndb.bak", "x.nd", "x. ndb"] {
            assert_eq!(Format::of(name.as_bytes()), Format::Unknown, "{name}");
        }
    }

    #[test]
    fn numbers_are_libclamav_s() {
        for (digits, value) in [
            ("", Some(0)),
            ("0", Some(0)),
            ("007", Some(7)),
            ("999999999", Some(999_999_999)),
            ("4294967296", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1x", None),
        ] {
            assert_eq!(number(digits.as_bytes()), value, "{digits:?}");
        }
    }

    #[test]
    fn a_whole_file_has_a_limit() {
        assert_eq!(whole(&mut &b"12345"[..], 5).unwrap(), b"12345");
        assert!(whole(&mut &b"12345"[..], 4).is_err());
    }

    proptest! {
        #[test]
        fn any_name_has_a_format(name in prop::collection::vec(any::<u8>(), 0..12)) {
            let naive = ENDINGS
                .iter()
                .find(|(ending, _)| {
                    let name = name.to_ascii_lowercase();
                    name.ends_with(ending.as_bytes())
                })
                .map(|&(_, format)| format);
            prop_assert_eq!(naive.is_some(), naive == Some(Format::of(&name)));
        }

        #[test]
        fn an_ending_decides_alone(
            stem in prop::collection::vec(any::<u8>(), 0..12),
            (ending, format) in prop::sample::select(&ENDINGS[..]),
            upper in any::<bool>(),
        ) {
            let mut name = stem;
            name.extend(ending.bytes().map(|byte| match upper {
                true => byte.to_ascii_uppercase(),
                false => byte,
            }));
            prop_assert_eq!(Format::of(&name), format);
        }

        #[test]
        fn hexadecimal_there_and_back(bytes in prop::collection::vec(any::<u8>(), 0..40), odd in any::<u8>()) {
            let mut digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(unhex(digits.as_bytes()), Some(bytes.clone()));
            prop_assert_eq!(unhex(digits.to_uppercase().as_bytes()), Some(bytes));
            digits.push('a');
            prop_assert_eq!(unhex(digits.as_bytes()), None);
            let mut digits = digits.into_bytes();
            digits.push(odd);
            prop_assert_eq!(unhex(&digits).is_some(), odd.is_ascii_hexdigit());
        }

        #[test]
        fn any_file_is_visited_or_refused(
            ending in prop::sample::select(&ENDINGS[..]),
            content in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let mut files = 0;
            let result = visit(ending.0.as_bytes(), &mut &content[..], &mut |_, format, content| {
                files += 1;
                assert_ne!(format, Format::Container);
                whole(content, 4000).map(drop)
            });
            prop_assert_eq!(result.is_ok() && files == 1, ending.1 != Format::Container);
        }
    }
}
