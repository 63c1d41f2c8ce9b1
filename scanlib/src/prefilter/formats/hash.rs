//! Lines with the hash of a whole file: `hash:size:name[:min[:max]]`, where size may be `*`.
//!
//! The functionality levels at the end are not looked at: they only keep libclamav from loading.

use super::hex_digit;
use crate::prefilter::hashes::{HashKind, Start};

/// One such line, as far as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HashLine {
    pub(crate) kind: HashKind,
    /// Bytes of the file; `None` is any number.
    pub(crate) size: Option<u32>,
    /// How the digest starts.
    pub(crate) start: Start,
}

/// # Errors
///
/// Why the line is not understood.
pub(crate) fn parse(line: &[u8]) -> Result<HashLine, &'static str> {
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
