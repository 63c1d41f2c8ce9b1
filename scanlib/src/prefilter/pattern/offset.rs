//! Where a pattern may stand.

/// The offset field of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    /// `*`
    Any,
    /// `n` or `n,m`: the pattern starts at `at` or up to `range` bytes later.
    Absolute {
        /// Bytes from the start.
        at: u32,
        /// Bytes behind that.
        range: u32,
    },
    /// `EOF-n` or `EOF-n,m`: it starts `back` bytes before the end, or later.
    FromEnd {
        /// Bytes from the end.
        back: u32,
        /// Bytes behind that.
        range: u32,
    },
    /// Relative to something that only an executable has, or anything else: nothing is known.
    Other,
}

impl Offset {
    /// Total: what is not understood restricts nothing, which is sound.
    pub(crate) fn read(text: &[u8]) -> Offset {
        if text == b"*" || text.is_empty() {
            return Offset::Any;
        }
        let from_end = text.strip_prefix(b"EOF-");
        let numbers = from_end.unwrap_or(text);
        let (first, second) = match numbers.iter().position(|b| *b == b',') {
            Some(comma) => (&numbers[..comma], Some(&numbers[comma + 1..])),
            None => (numbers, None),
        };
        let range = second.map_or(Some(0), number);
        match (number(first), range, from_end) {
            (Some(back), Some(range), Some(_)) => Offset::FromEnd { back, range },
            (Some(at), Some(range), None) => Offset::Absolute { at, range },
            _ => Offset::Other,
        }
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok()?;
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_the_rest_restricts_nothing() {
        for (text, offset) in [
            ("*", Offset::Any),
            ("", Offset::Any),
            ("17", Offset::Absolute { at: 17, range: 0 }),
            ("0,1024", Offset::Absolute { at: 0, range: 1024 }),
            (
                "EOF-512",
                Offset::FromEnd {
                    back: 512,
                    range: 0,
                },
            ),
            ("EOF-5,3", Offset::FromEnd { back: 5, range: 3 }),
            ("EP+5", Offset::Other),
            ("$1$", Offset::Other),
            ("99999999999", Offset::Other),
            ("1,", Offset::Other),
            ("-1", Offset::Other),
        ] {
            assert_eq!(Offset::read(text.as_bytes()), offset, "{text}");
        }
    }
}
