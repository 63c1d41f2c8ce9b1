//! Untrusted text on its way to a terminal.

use std::fmt;

/// Shows bytes so that a terminal obeys none of them: control characters, format characters that
/// reorder text, and bytes that are not UTF-8 appear as escapes.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || is_bidi_control(c) || c == '\\' {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    fmt::Write::write_char(f, c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The explicit directional characters of Unicode (UAX #9), which can show text in another order
/// than it has.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_none_of_it() {
        let shown = Escaped(b"a\x1b[2Jb\xff\r\n\xe2\x80\xaec\\\xc3\xa4").to_string();
        assert_eq!(shown, r"a\u{1b}[2Jb\xff\r\n\u{202e}c\\ä");
    }
}
