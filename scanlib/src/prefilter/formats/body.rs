//! Body signatures: a name, a target, an offset and a pattern.

use crate::prefilter::need::Need;
use crate::prefilter::pattern::{self, Modifiers, Offset, Target};
use crate::prefilter::signature::{Kind, Signature, SizeRange};

/// A line of an `.ndb`, `.ndu` or `.sdb` file; `None` if it cannot concern a plain message.
pub(crate) fn body(line: &[u8]) -> Option<Signature> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
    let (name, rest) = fields.split_first()?;
    let &[target, offset, hex, ..] = rest else {
        return Some(unknown(name, "fewer than four fields".to_owned()));
    };
    let target = match target {
        b"*" | b"0" => Target::Generic,
        b"7" => Target::Normalised,
        other if other.iter().all(u8::is_ascii_digit) && !other.is_empty() && other[0] != b'0' => {
            return None;
        }
        other => {
            return Some(unknown(
                name,
                format!("the target {}", other.escape_ascii()),
            ));
        }
    };
    Some(signature(name, target, Offset::read(offset), hex))
}

/// A line of a `.db` file; `None` for a comment of its kind.
pub(crate) fn plain(line: &[u8]) -> Option<Signature> {
    let Some(equals) = line.iter().position(|b| *b == b'=') else {
        return Some(unknown(line, "no `=`".to_owned()));
    };
    let (name, hex) = (&line[..equals], &line[equals + 1..]);
    if hex.starts_with(b"=") {
        return None;
    }
    Some(signature(name, Target::Generic, Offset::Any, hex))
}

fn signature(name: &[u8], target: Target, offset: Offset, hex: &[u8]) -> Signature {
    match pattern::need(hex, target, offset, Modifiers::default()) {
        Ok(need) => Signature {
            name: String::from_utf8_lossy(name).into(),
            kind: Kind::Body,
            need,
            size: SizeRange::ANY,
            why: None,
        },
        Err(why) => unknown(name, why),
    }
}

fn unknown(name: &[u8], why: String) -> Signature {
    Signature {
        name: String::from_utf8_lossy(name).into(),
        kind: Kind::Body,
        need: Need::Always,
        size: SizeRange::ANY,
        why: Some(why),
    }
}
