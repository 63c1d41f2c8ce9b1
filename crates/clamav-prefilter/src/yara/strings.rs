//! The strings of a rule: what a message needs for one of them to match.

use super::lexer::Literal;
use super::{Body, BodyOptions, regex};
use crate::required::Required;

/// How a string is written.
pub(super) enum Value<'t> {
    Text(&'t Literal),
    Hex(&'t str),
    Regex(&'t Literal),
}

/// What stands after it.
#[derive(Clone, Copy, Default)]
pub(super) struct Modifiers {
    pub(super) ascii: bool,
    pub(super) wide: bool,
    pub(super) nocase: bool,
    pub(super) fullword: bool,
    /// Something that turns it into other bytes, in a way that libclamav does not know.
    pub(super) recoded: bool,
}

/// libclamav has no shorter patterns.
const SHORTEST: usize = 2;

impl Value<'_> {
    /// What is needed for a match, or why nothing is known.
    pub(super) fn required(
        &self,
        modifiers: Modifiers,
        body: Body<'_>,
    ) -> Result<Required, String> {
        let Modifiers {
            ascii,
            wide,
            nocase,
            fullword,
            recoded,
        } = modifiers;
        if recoded {
            return Err("a modifier that is not known".to_owned());
        }
        let options = BodyOptions { nocase, fullword };
        match self {
            Value::Text(Literal { cut: true, .. }) | Value::Regex(Literal { cut: true, .. }) => {
                Err("a NUL in the file".to_owned())
            }
            // A NUL after every byte.
            Value::Text(_) if wide && !ascii => Ok(Required::Never),
            Value::Text(text) => body(&hex(&text.bytes), options),
            Value::Hex(_) if wide => Err("a hex string that is wide".to_owned()),
            Value::Hex(pattern) => body(&body_pattern(pattern), options),
            Value::Regex(pattern) => regex::required(&pattern.bytes).map_err(str::to_owned),
        }
    }

    /// Whether libclamav leaves out a rule for having this string.
    pub(super) fn is_refused(&self, modifiers: Modifiers) -> bool {
        match self {
            Value::Text(text) => text.bytes.len() < SHORTEST && !text.cut,
            Value::Regex(_) => modifiers.wide,
            Value::Hex(pattern) => {
                let pattern = body_pattern(pattern);
                // A single byte before the first jump, or after the last one.
                pattern.find('{') == Some(2)
                    || pattern.rfind('}').is_some_and(|at| pattern.len() - at == 3)
            }
        }
    }
}

/// A hex string as a body pattern.
fn body_pattern(hex: &str) -> String {
    let mut pattern = String::with_capacity(hex.len());
    let mut rest = hex;
    while let Some(first) = rest.chars().next() {
        let mut len = first.len_utf8();
        match first {
            ' ' | '\t' | '\r' | '\n' => {}
            '/' => len = comment(rest),
            '[' if rest.starts_with("[-]") => {
                pattern.push('*');
                len = 3;
            }
            '[' => pattern.push('{'),
            ']' => pattern.push('}'),
            other => pattern.push(other.to_ascii_lowercase()),
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    pattern
}

/// The length of the comment that starts here.
fn comment(text: &str) -> usize {
    let end = match text.starts_with("//") {
        true => text.find('\n'),
        false => text
            .get(2..)
            .and_then(|inner| inner.find("*/"))
            .map(|end| end + 4),
    };
    end.unwrap_or(text.len())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_strings_become_body_patterns() {
        for (hex, pattern) in [
            (" 4D 5a\t?? \n", "4d5a??"),
            (
                "61 62 [2-4] 63 64 [-] 65 66 [3] 67 68",
                "6162{2-4}6364*6566{3}6768",
            ),
            ("61 62 [4-] (63 | 64 65)", "6162{4-}(63|6465)"),
            ("61 // [2]\n 62 /* 63 */ 64", "616264"),
        ] {
            assert_eq!(body_pattern(hex), pattern);
        }
        assert_eq!(hex(b"\x00aZ\xff"), "00615aff");
    }

    #[test]
    fn what_libclamav_has_no_patterns_for() {
        let literal = |bytes: &[u8]| Literal {
            bytes: bytes.to_vec(),
            cut: false,
        };
        let wide = Modifiers {
            wide: true,
            ..Modifiers::default()
        };
        let plain = Modifiers::default();
        assert!(Value::Text(&literal(b"a")).is_refused(plain));
        assert!(!Value::Text(&literal(b"ab")).is_refused(wide));
        assert!(Value::Regex(&literal(b"abc")).is_refused(wide));
        assert!(!Value::Regex(&literal(b"abc")).is_refused(plain));
        assert!(Value::Hex("61 [2-4] 62 63").is_refused(plain));
        assert!(Value::Hex("61 62 [2-4] 63").is_refused(plain));
        assert!(!Value::Hex("61 62 [2-4] 63 64").is_refused(plain));
        assert!(!Value::Hex("61 [-] 62 63").is_refused(plain));
    }
}
