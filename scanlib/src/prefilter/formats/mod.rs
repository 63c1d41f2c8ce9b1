//! Reading signature files as libclamav's loader does: which files it takes, how it cuts them into
//! lines and fields.
//!
//! Parsing is total. Whatever libclamav loads becomes a known thing or a reason why it was not
//! understood; what libclamav refuses may become anything, for then there is no engine either.

pub(crate) mod body;
pub(crate) mod container;
pub(crate) mod file_types;
pub(crate) mod hash;
pub(crate) mod ioc;
pub(crate) mod lines;

use std::io::{self, BufRead, Read as _};

/// What a file holds, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
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
    /// By the file's name without its directory. Case does not count, and a name may be nothing but
    /// an ending. Without a dot it has none: containers carry a licence text that way.
    pub(crate) fn of(name: &[u8]) -> Format {
        let Some(dot) = memchr::memrchr(b'.', name) else {
            return Format::Irrelevant("its name has no ending");
        };
        let ending = name.get(dot..).unwrap_or_default();
        ENDINGS
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(ending))
            .map_or(Format::Unknown, |&(_, format)| format)
    }
}

/// Is handed one file: its name, its format, its content, of which it may leave some unread.
pub(crate) type Visitor<'v> = dyn FnMut(&[u8], Format, &mut dyn BufRead) -> io::Result<()> + 'v;

/// Hands on the file or, if it is a container, its members. The visitor never sees a container.
///
/// # Errors
///
/// What the content or the visitor says, and [`io::ErrorKind::InvalidData`] for a broken container.
pub(crate) fn visit(
    name: &[u8],
    content: &mut dyn BufRead,
    visitor: &mut Visitor<'_>,
) -> io::Result<()> {
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
fn number(digits: &[u8]) -> Option<u32> {
    if digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u32::from(digit - b'0'))
    })
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
