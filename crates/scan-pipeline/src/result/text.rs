//! Quoting untrusted bytes: short, and never through the middle of a character.

/// Characters of a sample.
const SAMPLE_CHARS: usize = 100;
/// Bytes of a metadata field.
const FIELD_BYTES: usize = 1024;

/// At most `limit` bytes from the start. Where the text is UTF-8, no character is cut in two.
pub(super) fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    if bytes.len() <= limit {
        return bytes;
    }
    // A character has at most three continuation bytes; more of them is no UTF-8 and cut anywhere.
    let is_start = |at: &usize| bytes[*at] & 0xc0 != 0x80;
    let end = (limit.saturating_sub(3)..=limit)
        .rev()
        .find(is_start)
        .unwrap_or(limit);
    &bytes[..end]
}

/// A metadata field, at most [`FIELD_BYTES`] long.
pub(super) fn cut_field(field: &str) -> &str {
    let mut end = field.len().min(FIELD_BYTES);
    while !field.is_char_boundary(end) {
        end -= 1;
    }
    &field[..end]
}

/// At most [`SAMPLE_CHARS`] characters from the start.
pub(super) fn sample(bytes: &[u8]) -> String {
    // No character is longer than 4 bytes.
    let start = cut(bytes, SAMPLE_CHARS * 4);
    String::from_utf8_lossy(start)
        .chars()
        .take(SAMPLE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_is_cut_between_characters_and_as_late_as_possible(text in "\\PC{0,40}", limit in 0usize..60) {
            let kept = cut(text.as_bytes(), limit);
            let kept = std::str::from_utf8(kept).unwrap();
            prop_assert!(text.starts_with(kept) && kept.len() <= limit);
            if let Some(next) = text[kept.len()..].chars().next() {
                prop_assert!(kept.len() + next.len_utf8() > limit);
            }
        }

        #[test]
        fn any_bytes_are_cut_near_the_limit(bytes: Vec<u8>, limit in 0usize..60) {
            let kept = cut(&bytes, limit);
            prop_assert!(bytes.starts_with(kept) && kept.len() <= limit);
            prop_assert!(kept.len() + 3 >= limit.min(bytes.len()));
            prop_assert!(sample(&bytes).chars().count() <= SAMPLE_CHARS);
        }

        #[test]
        fn a_field_is_cut_between_characters(text in "\\PC{0,600}") {
            let kept = cut_field(&text);
            prop_assert!(text.starts_with(kept) && kept.len() <= FIELD_BYTES);
            prop_assert!(kept.len() == text.len() || kept.len() + 3 >= FIELD_BYTES);
        }
    }
}
