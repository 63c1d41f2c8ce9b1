//! JSON that is safe to look at: what a terminal could act on is escaped, not only what JSON demands.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::escape::is_deceptive;

/// Appends a value to the buffer.
///
/// # Errors
///
/// Only what the value's own `Serialize` reports; writing to memory does not fail.
pub fn append(out: &mut Vec<u8>, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping))
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        // Most text is ASCII without DEL.
        if fragment.bytes().all(|byte| byte < 0x7f) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(is_deceptive) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                // All of them are in the basic plane: one escape each.
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_string_is_read_back_and_holds_nothing_that_a_terminal_acts_on(
            text in proptest::collection::vec(
                prop_oneof![any::<char>(), (0u32..0xa0).prop_map(|c| char::from_u32(c).unwrap()),
                            (0x2020u32..0x2070).prop_map(|c| char::from_u32(c).unwrap())], 0..40),
        ) {
            let text: String = text.into_iter().collect();
            let mut out = Vec::new();
            append(&mut out, &text).unwrap();
            let written = std::str::from_utf8(&out).unwrap();
            prop_assert!(!written.chars().any(|c| c.is_control() || is_deceptive(c)), "{}", written);
            prop_assert_eq!(serde_json::from_str::<String>(written).unwrap(), text);
        }
    }
}
