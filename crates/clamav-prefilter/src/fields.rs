//! Fields of a line, as libclamav reads them.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
