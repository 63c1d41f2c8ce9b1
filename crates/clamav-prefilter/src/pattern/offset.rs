//! Where a pattern may stand.

use crate::fields::{number, split_once};

/// Where a pattern must start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// Anywhere.
    Any,
    /// From `at` to `at + range`, both included.
    Absolute {
        /// First place, in bytes from the start.
        at: u32,
        /// Number of further places.
        range: u32,
    },
    /// From `back` bytes before the end to `range` behind that.
    FromEnd {
        /// First place, in bytes from the end.
        back: u32,
        /// Number of further places.
        range: u32,
    },
    /// Relative to entry point, section or version of an executable: never in a plain message.
    Executable,
    /// The pattern belongs to a macro group and reports nothing of its own.
    Macro,
    /// Not understood; libclamav may read it as anything, or refuse it.
    Unknown,
}

impl Offset {
    /// Whether it may take more than the start of a file to know the place.
    pub(crate) fn is_relative(self) -> bool {
        !matches!(self, Offset::Any | Offset::Absolute { .. })
    }

    /// From the offset field of a signature.
    pub fn parse(text: &[u8]) -> Offset {
        if text == b"*" {
            return Offset::Any;
        }
        if text.len() > 64 {
            return Offset::Unknown;
        }
        let (start, range) = split_once(text, b',').unwrap_or((text, b""));
        match number(range) {
            Some(range) => Offset::start(start, range).unwrap_or(Offset::Unknown),
            None => Offset::Unknown,
        }
    }

    fn start(start: &[u8], range: u32) -> Option<Offset> {
        // In libclamav's order, in which the first prefix decides.
        let executable = |digits| number(digits).map(|_| Offset::Executable);
        match start {
            [b'E', b'P', b'+' | b'-', digits @ ..]
            | [b'S', b'E', digits @ ..]
            | [b'S', b'L', b'+', digits @ ..] => executable(digits),
            [b'S', section @ ..] => {
                let (section, digits) = split_once(section, b'+')?;
                let both = !section.is_empty() && !digits.is_empty();
                number(section).filter(|_| both)?;
                executable(digits)
            }
            [b'E', b'O', b'F', b'-', digits @ ..] => {
                number(digits).map(|back| Offset::FromEnd { back, range })
            }
            [b'V', b'I', ..] => Some(Offset::Executable),
            [b'$', group @ .., b'$'] if !group.is_empty() => number(group).map(|_| Offset::Macro),
            digits => number(digits).map(|at| Offset::Absolute { at, range }),
        }
    }
}
