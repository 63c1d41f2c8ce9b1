//! The longest text of a log line.

use std::borrow::Cow;

/// Characters of a text that was taken from a record.
pub const LONGEST_RECORD_TEXT: usize = 256;
/// Characters of any text, for errors that name several files.
pub const LONGEST_TEXT: usize = 4096;

/// The first `longest` characters of a text. One that is longer ends with how many bytes are missing.
pub fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    // No character is shorter than a byte.
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    match text.char_indices().nth(longest) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!(
            "{}… ({} bytes more)",
            &text[..end],
            text.len() - end
        )),
    }
}
