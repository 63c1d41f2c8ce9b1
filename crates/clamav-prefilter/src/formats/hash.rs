//! Lines with the hash of a whole file: `hash:size:name[:min[:max]]`, where size may be `*`.
//!
//! The functionality levels at the end are not looked at: they only keep libclamav from loading.

use super::hex_digit;
use crate::hashes::{HashKind, Start};

/// One such line, as far as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashLine {
    pub(crate) kind: HashKind,
    /// Bytes of the file; `None` is any number.
    pub size: Option<u32>,
    /// How the digest starts.
    pub(crate) start: Start,
}

/// # Errors
///
/// Why the line is not understood.
pub fn parse(line: &[u8]) -> Result<HashLine, &'static str> {
    let mut fields = line.split(|&byte| byte == b':');
    let (Some(digits), Some(size), Some(_name)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err("fewer than three fields");
    };
    if fields.count() > 2 {
        return Err("more than five fields");
    }
    let kind = HashKind::of_digits(digits.len()).ok_or("a hash of no known length")?;
    Ok(HashLine {
        kind,
        size: match size {
            b"*" => None,
            digits => Some(file_size(digits).ok_or("a size that is no size")?),
        },
        start: start(digits).ok_or("a hash that is not hexadecimal")?,
    })
}

/// The name in a line, whether the line is understood or not.
pub(crate) fn name(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b':').nth(2).unwrap_or_default()
}

fn file_size(digits: &[u8]) -> Option<u32> {
    let size: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (1..u32::MAX).contains(&size).then_some(size)
}

/// The first bytes of a digest, if all of it is hexadecimal.
pub(super) fn start(digits: &[u8]) -> Option<Start> {
    let mut start = Start::default();
    for (i, &digit) in digits.iter().enumerate() {
        let value = hex_digit(digit)?;
        if let Some(byte) = start.get_mut(i / 2) {
            *byte = *byte << 4 | value;
        }
    }
    Some(start)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    #[test]
    fn lines_that_are_understood() {
        let md5 = "44d88612fea8a8f36de82e1278abb02f";
        let line = HashLine {
            kind: HashKind::Md5,
            size: Some(68),
            start: [0x44, 0xd8, 0x86, 0x12, 0xfe, 0xa8, 0xa8, 0xf3],
        };
        assert_eq!(parse(format!("{md5}:68:Eicar").as_bytes()), Ok(line));
        let any = HashLine { size: None, ..line };
        let text = format!("{}:*:Eicar:73", md5.to_uppercase());
        assert_eq!(parse(text.as_bytes()), Ok(any));
        let text = format!("{md5}:4294967294:Eicar");
        assert_eq!(parse(text.as_bytes()).unwrap().size, Some(4_294_967_294));
        for bad in [
            String::new(),
            md5.to_owned(),
            format!("{md5}:68"),
            format!("{md5}:0:A"),
            format!("{md5}:4294967295:A"),
            format!("{}g:68:A", &md5[..31]),
            format!("{}:68:A", &md5[..31]),
            format!("{md5}:68:A:1:2:3"),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(line in prop::collection::vec(any::<u8>(), 0..120)) {
            let _either = parse(&line);
        }

        #[test]
        fn any_line_comes_back(
            kind in prop::sample::select(&HashKind::ALL[..]),
            digest in any::<[u8; 32]>(),
            size in prop::option::of(1..u32::MAX),
            upper in any::<bool>(),
            name in "[^:]{0,10}",
        ) {
            let mut digits = hex(&digest[..kind.digits() / 2]);
            if upper {
                digits.make_ascii_uppercase();
            }
            let text = size.map_or("*".to_owned(), |size| size.to_string());
            let line = format!("{digits}:{text}:{name}:73");
            let start = *digest.first_chunk().unwrap();
            prop_assert_eq!(parse(line.as_bytes()), Ok(HashLine { kind, size, start }));
        }
    }
}
