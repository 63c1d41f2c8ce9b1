//! Lines with one body pattern: `name:target:offset:hex[:min[:max]]` and `name=hex`.
//!
//! The functionality levels at the end are not looked at: they only keep libclamav from loading.

use super::number;

/// One such line, cut up; the pattern is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body<'l> {
    pub(crate) name: &'l [u8],
    /// The type of file it is for; libclamav passes over those it does not know.
    pub(crate) target: u32,
    pub(crate) offset: Offset,
    pub(crate) hex: &'l [u8],
}

/// Where a pattern must start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    Any,
    /// From `at` to `at + range`, both included.
    Absolute {
        at: u32,
        range: u32,
    },
    /// From `back` bytes before the end to `range` behind that.
    FromEnd {
        back: u32,
        range: u32,
    },
    /// Relative to entry point, section or version of an executable: never in a plain message.
    Executable,
    /// The pattern belongs to a macro group and reports nothing of its own.
    Macro,
    /// Not understood; libclamav may read it as anything, or refuse it.
    Unknown,
}

/// Of a line of `.ndb`, `.ndu`, `.sdb`.
///
/// # Errors
///
/// Why it is not understood.
pub(crate) fn parse(line: &[u8]) -> Result<Body<'_>, &'static str> {
    let mut fields = line.split(|&byte| byte == b':');
    let (Some(name), Some(target), Some(offset), Some(hex)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("fewer than four fields");
    };
    if fields.count() > 2 {
        return Err("more than six fields");
    }
    let target = match target {
        b"*" => 0,
        digits => number(digits).ok_or("a target that is no small number")?,
    };
    Ok(Body {
        name,
        target,
        offset: Offset::parse(offset),
        hex,
    })
}

/// Of a line of `.db`; `None` for the `name==` that libclamav passes over.
///
/// # Errors
///
/// Why it is not understood.
pub(crate) fn parse_plain(line: &[u8]) -> Result<Option<Body<'_>>, &'static str> {
    let (name, hex) = split_once(line, b'=').ok_or("no equals sign")?;
    if hex.starts_with(b"=") {
        return Ok(None);
    }
    Ok(Some(Body {
        name,
        target: 0,
        offset: Offset::Any,
        hex,
    }))
}

impl Offset {
    pub(crate) fn parse(text: &[u8]) -> Offset {
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

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, text)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}
