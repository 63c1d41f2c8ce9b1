//! Bytes that a match holds one after the other, in whatever case.

use crate::required::{Atom, Required};
use crate::text::{self, ByteSet};

/// Normalised, they stand in the normalised message; `by` this position, if they stand there in the
/// message, for normalising moves nothing to the right.
pub(super) fn normalised(bytes: &[u8], by: Option<u32>) -> Required {
    let mut literal = Vec::new();
    text::normalise(bytes, &mut literal);
    match literal.is_empty() {
        true => Required::Always,
        false => Required::Has(Atom::Text {
            literal: literal.into(),
            by,
        }),
    }
}

/// If they cannot stand in a normalised text, then they stand in the message itself.
pub(super) fn raw(bytes: &[u8]) -> Required {
    let raw = bytes.to_ascii_lowercase();
    match raw.iter().all(|byte| ByteSet::NORMALISED.contains(*byte)) {
        true => Required::Always,
        false => Required::Has(Atom::Raw(raw.into())),
    }
}
