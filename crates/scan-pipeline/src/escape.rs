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
                if c.is_control() || is_deceptive(c) || c == '\\' {
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

/// Characters that are allowed in text, in JSON too, and change what a reader sees: DEL, the C1
/// controls, line separators, and the marks that turn the direction of text (Unicode, UAX #9).
pub fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
