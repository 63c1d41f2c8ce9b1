//! OpenIOC: XML, of which libclamav takes the text of some elements for hashes of files of any size.
//!
//! No XML is parsed here. Text that libclamav takes for a hash is, but for white space around it, 32,
//! 40 or 64 hexadecimal digits. Whatever element they stand in, they are the start of a run of such
//! digits in the file: the whole run as a rule, less of it if the parser cut a long text in two. So the
//! first 32, 40 and 64 digits of each run are taken, wherever it is.
//!
//! That holds while a character of the text is a byte of the file: no character references, no
//! entities of the file's own, no encoding but those that contain ASCII. Other files are not
//! understood.

use super::hash;
use crate::hashes::{Builder, HashKind};

/// Bytes of a file; real ones have some thousands.
pub(crate) const MOST: u64 = 64 << 20;

const ENCODINGS: [&[u8]; 4] = [b"utf-8", b"us-ascii", b"ascii", b"iso-8859-1"];

/// Adds every hash that libclamav might take from the file.
///
/// # Errors
///
/// Why the file is not understood; then some hashes may have been added.
pub(crate) fn hashes(file: &[u8], builder: &mut Builder) -> Result<(), &'static str> {
    check(file)?;
    for run in file.split(|byte| !byte.is_ascii_hexdigit()) {
        for kind in HashKind::ALL {
            if let Some(start) = run.get(..kind.digits()).and_then(hash::start) {
                builder.add(kind, None, start);
            }
        }
    }
    Ok(())
}

/// That bytes are characters.
fn check(file: &[u8]) -> Result<(), &'static str> {
    let contains = |needle: &[u8]| memchr::memmem::find(file, needle).is_some();
    let text = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    // Anything else, UTF-16 and EBCDIC among it, starts otherwise or holds NUL bytes.
    if !matches!(
        text.first(),
        None | Some(b'<' | b' ' | b'\t' | b'\r' | b'\n')
    ) {
        return Err("does not start like XML");
    }
    if contains(b"\0") {
        return Err("holds NUL bytes");
    }
    if contains(b"&#") {
        return Err("holds character references");
    }
    if contains(b"<!DOCTYPE") || contains(b"<!ENTITY") {
        return Err("declares entities");
    }
    // The declaration of the encoding stands in the first tag, if anywhere.
    let tag = text.split(|&byte| byte == b'>').next().unwrap_or_default();
    match memchr::memmem::find(tag, b"encoding").and_then(|at| tag.get(at..)) {
        Some(rest) if !known_encoding(rest) => Err("is in an encoding that is not known here"),
        _ => Ok(()),
    }
}

/// Of `encoding="..."`, or with the other quotes.
fn known_encoding(rest: &[u8]) -> bool {
    let mut parts = rest.split(|byte| matches!(byte, b'"' | b'\''));
    let _key = parts.next();
    parts.next().is_some_and(|name| {
        ENCODINGS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hashes::Hashes;

    fn read(file: &[u8]) -> Result<Hashes, &'static str> {
        let mut builder = Builder::default();
        hashes(file, &mut builder)?;
        Ok(builder.build())
    }

    #[test]
    fn files_that_hide_their_characters_are_not_understood() {
        for file in [
            &b"\xff\xfe<\0i\0"[..],
            b"<\0i\0o\0c\0",
            b"<ioc>&#48;</ioc>",
            b"<!DOCTYPE ioc><ioc/>",
            b"L\x6f\xa7\x94",
            b"\x1f\x8b",
            b"<?xml version='1.0' encoding='UTF-16'?><ioc/>",
            b"<?xml version='1.0' encoding=?><ioc/>",
        ] {
            assert!(read(file).is_err(), "{file:x?}");
        }
        for file in [
            &b""[..],
            b"<ioc/>",
            b"<?xml version='1.0' encoding = \"UTF-8\" ?><ioc>the encoding of &lt;x&gt;</ioc>",
        ] {
            assert!(read(file).is_ok(), "{file:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(file in prop::collection::vec(any::<u8>(), 0..300)) {
            let _either = read(&file);
        }

        #[test]
        fn the_start_of_every_run_counts(
            before in "[g-z <>]{0,20}",
            digits in "[0-9a-fA-F]{0,100}",
            after in "[g-z <>]{0,20}",
        ) {
            let hashes = read(format!("<{before}>{digits}<{after}").as_bytes()).unwrap();
            for kind in HashKind::ALL {
                let expected = digits.len() >= kind.digits();
                prop_assert_eq!(hashes.needs(kind, 100), expected);
                if let Some(digest) = digits.get(..16).and_then(|start| super::super::unhex(start.as_bytes())) {
                    prop_assert_eq!(hashes.contains(kind, 100, &digest), expected);
                }
            }
        }
    }
}
