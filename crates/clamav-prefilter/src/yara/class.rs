//! Sets of bytes in regular expressions: escapes and bracketed classes, as PCRE reads them with its
//! built-in tables and without UTF.

use super::lexer::nibble;
use crate::text::ByteSet;

/// What follows a backslash.
pub(super) enum Escape {
    /// This byte.
    Byte(u8),
    /// One of these.
    Set(ByteSet),
}

/// Reads what follows a backslash, if it means the same within brackets and outside of them, or
/// gives up on it.
pub(super) fn escape(pattern: &[u8], at: &mut usize) -> Result<Escape, &'static str> {
    let letter = next(pattern, at).ok_or("a backslash at the end")?;
    Ok(match letter {
        b'a' => Escape::Byte(0x07),
        b'e' => Escape::Byte(0x1b),
        b'f' => Escape::Byte(0x0c),
        b'n' => Escape::Byte(b'\n'),
        b'r' => Escape::Byte(b'\r'),
        b't' => Escape::Byte(b'\t'),
        b'x' => Escape::Byte(hexadecimal(pattern, at)?),
        b'd' => Escape::Set(set(|byte| byte.is_ascii_digit())),
        b'D' => Escape::Set(set(|byte| !byte.is_ascii_digit())),
        b's' => Escape::Set(set(|byte| matches!(byte, b'\t'..=b'\r' | b' '))),
        b'S' => Escape::Set(set(|byte| !matches!(byte, b'\t'..=b'\r' | b' '))),
        b'w' => Escape::Set(set(|byte| byte.is_ascii_alphanumeric() || byte == b'_')),
        b'W' => Escape::Set(set(|byte| !byte.is_ascii_alphanumeric() && byte != b'_')),
        b'h' => Escape::Set(set(is_horizontal)),
        b'H' => Escape::Set(set(|byte| !is_horizontal(byte))),
        b'v' => Escape::Set(set(is_vertical)),
        b'V' => Escape::Set(set(|byte| !is_vertical(byte))),
        letter if letter.is_ascii_alphanumeric() => return Err("an escape that is not known"),
        sign => Escape::Byte(sign),
    })
}

/// Reads a class, of which the opening bracket has been read.
pub(super) fn class(pattern: &[u8], at: &mut usize) -> Result<ByteSet, &'static str> {
    const OPEN: &str = "a class without an end";
    let negated = accept(pattern, at, b'^');
    let mut members = ByteSet::EMPTY;
    let mut first = true;
    loop {
        let member = next(pattern, at).ok_or(OPEN)?;
        if member == b']' && !first {
            return Ok(if negated {
                members.complement()
            } else {
                members
            });
        }
        first = false;
        let Some(low) = single(member, pattern, at, &mut members)? else {
            continue;
        };
        // A hyphen makes a range, unless it is the last.
        let range = matches!(pattern.get(*at..), Some([b'-', high, ..]) if *high != b']');
        if !range {
            members = members.with(low);
            continue;
        }
        *at += 1;
        let high = next(pattern, at).ok_or(OPEN)?;
        let Some(high) = single(high, pattern, at, &mut members)? else {
            return Err("a range that ends with a class");
        };
        if low > high {
            return Err("a range that runs backwards");
        }
        members = (low..=high).fold(members, |members, byte| members.with(byte));
    }
}

/// A member that is one byte; one that is several goes right into the set.
fn single(
    member: u8,
    pattern: &[u8],
    at: &mut usize,
    members: &mut ByteSet,
) -> Result<Option<u8>, &'static str> {
    match member {
        b'\\' if accept(pattern, at, b'b') => Ok(Some(0x08)),
        b'\\' => match escape(pattern, at)? {
            Escape::Byte(byte) => Ok(Some(byte)),
            Escape::Set(set) => {
                *members = members.union(set);
                Ok(None)
            }
        },
        b'[' if matches!(pattern.get(*at), Some(b':' | b'.' | b'=')) => Err("a class with a name"),
        byte => Ok(Some(byte)),
    }
}

/// `\xhh`, with two digits or fewer, or `\x{hh}`.
fn hexadecimal(pattern: &[u8], at: &mut usize) -> Result<u8, &'static str> {
    let braced = accept(pattern, at, b'{');
    let mut value = 0_u32;
    for _ in 0..if braced { 6 } else { 2 } {
        match pattern.get(*at) {
            Some(digit) if digit.is_ascii_hexdigit() => {
                value = value << 4 | u32::from(nibble(*digit));
                *at += 1;
            }
            _ => break,
        }
    }
    if braced && !accept(pattern, at, b'}') {
        return Err("an escape that is not known");
    }
    u8::try_from(value).map_err(|_| "a character that is no byte")
}

pub(super) fn next(pattern: &[u8], at: &mut usize) -> Option<u8> {
    let byte = pattern.get(*at).copied()?;
    *at += 1;
    Some(byte)
}

pub(super) fn accept(pattern: &[u8], at: &mut usize, wanted: u8) -> bool {
    let found = pattern.get(*at) == Some(&wanted);
    *at += usize::from(found);
    found
}

fn set(such: impl Fn(u8) -> bool) -> ByteSet {
    (0..=255)
        .filter(|byte| such(*byte))
        .fold(ByteSet::EMPTY, ByteSet::with)
}

fn is_horizontal(byte: u8) -> bool {
    matches!(byte, b'\t' | b' ' | 0xa0)
}

fn is_vertical(byte: u8) -> bool {
    matches!(byte, b'\n'..=b'\r' | 0x85)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Result<Vec<u8>, &'static str> {
        let mut at = 1;
        let set = class(text.as_bytes(), &mut at)?;
        assert_eq!(at, text.len(), "{text}");
        Ok(set.iter().collect())
    }

    #[test]
    fn classes() {
        for (text, expected) in [
            ("[abc]", "abc"),
            ("[]a]", "]a"),
            ("[a-c-]", "-abc"),
            ("[-a]", "-a"),
            ("[[a]", "[a"),
            (r"[\x41-\x{43}\]\\]", r"ABC\]"),
            (r"[\t-\n\b]", "\u{8}\t\n"),
            (r"[^\x00-\x60\x62-\xff]", "a"),
            (r"[^\D]", "0123456789"),
            (r"[\d.]", ".0123456789"),
        ] {
            let mut expected = expected.as_bytes().to_vec();
            expected.sort_unstable();
            assert_eq!(members(text), Ok(expected), "{text}");
        }
        for text in [
            "[",
            "[a",
            "[]",
            "[^]",
            "[z-a]",
            r"[a-\d]",
            "[[:alpha:]]",
            r"[\1]",
            r"[\q]",
        ] {
            assert!(members(text).is_err(), "{text}");
        }
    }
}
