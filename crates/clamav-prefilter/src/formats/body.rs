//! Lines with one body pattern: `name:target:offset:hex[:min[:max]]` and `name=hex`.
//!
//! The functionality levels at the end are not looked at: they only keep libclamav from loading.

use super::{number, split_once};
use crate::pattern::{self, Modifiers, Offset, Target};
use crate::signature::{Kind, Signature, SizeRange};

/// One such line, cut up; the pattern is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'l> {
    pub(crate) name: &'l [u8],
    /// The type of file it is for; libclamav passes over those it does not know.
    pub target: u32,
    /// Where the pattern must start.
    pub offset: Offset,
    pub(crate) hex: &'l [u8],
}

/// Of a line of `.ndb`, `.ndu`, `.sdb`.
///
/// # Errors
///
/// Why it is not understood.
pub fn parse(line: &[u8]) -> Result<Body<'_>, &'static str> {
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

/// The name in a line of `.ndb`, whether the line is understood or not.
pub(crate) fn name(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b':').next().unwrap_or_default()
}

/// The same of a line of `.db`.
pub(crate) fn name_plain(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b'=').next().unwrap_or_default()
}

impl Body<'_> {
    /// What it needs to match a plain message; `None` if it never looks at one.
    pub fn signature(&self) -> Option<Signature> {
        let target = Target::of(self.target)?;
        let required = pattern::required(self.hex, target, self.offset, Modifiers::default());
        Some(Signature::read(
            self.name,
            Kind::Body,
            SizeRange::ANY,
            required,
        ))
    }

    /// Whether it is for normalised text, at a place that depends on where that ends.
    pub(crate) fn is_relative_text(&self) -> bool {
        Target::of(self.target) == Some(Target::Normalised) && self.offset.is_relative()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields() {
        let line = b"A.b-1:7:EOF-12,3:61??62:51:255";
        let body = Body {
            name: b"A.b-1",
            target: 7,
            offset: Offset::FromEnd { back: 12, range: 3 },
            hex: b"61??62",
        };
        assert_eq!(parse(line), Ok(body));
        assert_eq!(parse(b"A:1:*").ok(), None);
        assert_eq!(parse(b"A:1:*:61:1:2:3").ok(), None);
        assert_eq!(parse(b"A:x:*:61").ok(), None);
        assert_eq!(parse(b"A:-1:*:61").ok(), None);
        let plain = parse_plain(b"A=61=62").unwrap().unwrap();
        assert_eq!((plain.name, plain.hex), (&b"A"[..], &b"61=62"[..]));
        assert_eq!(parse_plain(b"A==61"), Ok(None));
        assert!(parse_plain(b"A:0:*:61").is_err());
    }

    #[test]
    fn offsets_that_are_understood_are_libclamav_s() {
        for (text, offset) in [
            ("*", Offset::Any),
            ("", Offset::Absolute { at: 0, range: 0 }),
            ("12,34", Offset::Absolute { at: 12, range: 34 }),
            ("EOF-12", Offset::FromEnd { back: 12, range: 0 }),
            ("EP+1", Offset::Executable),
            ("EP-1,3", Offset::Executable),
            ("S1+2", Offset::Executable),
            ("SE1", Offset::Executable),
            ("SL+10", Offset::Executable),
            ("VI", Offset::Executable),
            ("$3$", Offset::Macro),
            ("$$", Offset::Unknown),
            ("S1", Offset::Unknown),
            ("EP1", Offset::Unknown),
            ("EOF+1", Offset::Unknown),
            ("1234567890", Offset::Unknown),
        ] {
            assert_eq!(Offset::parse(text.as_bytes()), offset, "{text}");
        }
        assert_eq!(Offset::parse(&[b'0'; 65]), Offset::Unknown);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _either = parse(&line);
            let _either = parse_plain(&line);
            Offset::parse(&line);
        }

        #[test]
        fn whatever_fields_come_back(
            name in "[^:]{0,10}",
            target in 0..20_u32,
            (at, range) in (0..100_000_u32, 0..100_000_u32),
            hex in "[0-9a-f?*{}()|-]{0,20}",
            levels in prop::sample::select(&["", ":1", ":1:2", ":", "::"][..]),
        ) {
            let line = format!("{name}:{target}:{at},{range}:{hex}{levels}");
            let offset = Offset::Absolute { at, range };
            let body = Body { name: name.as_bytes(), target, offset, hex: hex.as_bytes() };
            prop_assert_eq!(parse(line.as_bytes()), Ok(body));
            let back = Offset::FromEnd { back: at, range };
            let text = format!("EOF-{at},{range}");
            prop_assert_eq!(Offset::parse(text.as_bytes()), back);
        }
    }
}
