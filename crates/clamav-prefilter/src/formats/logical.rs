//! Logical signatures: a name, attributes, an expression and its subsignatures.

use super::{number, split_once};
use crate::logic;
use crate::pattern::{self, Modifiers, Offset, Target};
use crate::required::Required;
use crate::signature::{Kind, Signature, SizeRange};

/// As the trigger of a regular expression it means "always": libclamav's own constant.
const ALWAYS: &[u8] = b"7374756c747a676574737265676578";

/// A line of an `.ldb` or `.ldu` file, or the second one of a `.cbc` file; `None` if it cannot concern a plain
/// message.
pub fn logical(line: &[u8], kind: Kind) -> Option<Signature> {
    let fields = split(line, b';', 2);
    let name = fields.first().copied().unwrap_or_default();
    let signature = |size, required| Some(Signature::read(name, kind, size, required));
    let [_, attributes, expression, subs @ ..] = fields.as_slice() else {
        return signature(SizeRange::ANY, Err("fewer than three fields".to_owned()));
    };
    match Attributes::read(attributes) {
        Ok(Some(Attributes { target, size })) => {
            signature(size, required(expression, subs, target))
        }
        Ok(None) => None,
        Err(why) => signature(SizeRange::ANY, Err(why)),
    }
}

/// The name that stands first on such a line.
pub(crate) fn name(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b';').next().unwrap_or_default()
}

/// The type of file a line is for, by libclamav's number, and the sizes; `None` if its attributes are not understood.
pub fn reach(line: &[u8]) -> Option<(u32, SizeRange)> {
    let (mut target, mut sizes) = (None, None);
    for attribute in line
        .split(|byte| *byte == b';')
        .nth(1)?
        .split(|byte| *byte == b',')
    {
        let (name, value) = split_once(attribute, b':')?;
        match name {
            b"Target" if target.is_none() && !value.is_empty() => target = Some(number(value)?),
            b"FileSize" if sizes.is_none() => sizes = Some(range(value).ok()?),
            b"Target" | b"FileSize" => return None,
            _ => {}
        }
    }
    Some((target.unwrap_or(0), sizes.unwrap_or(SizeRange::ANY)))
}

/// Whether it has a subsignature for normalised text, at a place that depends on where that ends.
pub(crate) fn is_relative_text(line: &[u8]) -> bool {
    let fields = split(line, b';', 2);
    let [_, attributes, _, subs @ ..] = fields.as_slice() else {
        return true;
    };
    let is_for_text = matches!(
        Attributes::read(attributes),
        Ok(Some(Attributes {
            target: Target::Normalised,
            ..
        }))
    );
    let is_relative = |sub: &&[u8]| match split(sub, b':', 0)[..] {
        [offset, _] | [offset, _, _, _] => Offset::parse(offset).is_relative(),
        // A pattern alone, or with modifiers.
        _ => false,
    };
    is_for_text && subs.iter().any(is_relative)
}

struct Attributes {
    target: Target,
    size: SizeRange,
}

impl Attributes {
    /// `None` if no plain message has them.
    fn read(text: &[u8]) -> Result<Option<Attributes>, String> {
        let (mut target, mut size) = (None, None);
        for attribute in text.split(|b| *b == b',') {
            let Some(colon) = attribute.iter().position(|b| *b == b':') else {
                return Err(format!("the attribute {}", attribute.escape_ascii()));
            };
            let (name, value) = (&attribute[..colon], &attribute[colon + 1..]);
            let any = |wanted: &[u8]| wanted == b"CL_TYPE_ANY";
            match name {
                b"Target" if target.is_none() => {
                    let wrong = || format!("the target {}", value.escape_ascii());
                    match Target::of(
                        number(value)
                            .filter(|_| !value.is_empty())
                            .ok_or_else(wrong)?,
                    ) {
                        Some(known) => target = Some(known),
                        None => return Ok(None),
                    }
                }
                b"FileSize" if size.is_none() => size = Some(range(value)?),
                b"Target" | b"FileSize" => {
                    return Err(format!("{} twice", name.escape_ascii()));
                }
                // A message that is scanned by itself has no container.
                b"Container" if !any(value) => return Ok(None),
                b"Intermediates" if !value.split(|b| *b == b'>').all(any) => return Ok(None),
                // They restrict, name an action, or refuse a file: none lets more match.
                _ => {}
            }
        }
        Ok(Some(Attributes {
            target: target.unwrap_or(Target::Generic),
            size: size.unwrap_or(SizeRange::ANY),
        }))
    }
}

fn range(value: &[u8]) -> Result<SizeRange, String> {
    let wrong = || format!("the FileSize {}", value.escape_ascii());
    let dash = value.iter().position(|b| *b == b'-').ok_or_else(wrong)?;
    let min = size(&value[..dash]).ok_or_else(wrong)?;
    let max = size(&value[dash + 1..]).ok_or_else(wrong)?;
    Ok(SizeRange { min, max })
}

/// What fits libclamav's own type; it would cut a larger number down.
fn size(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    text.parse::<u32>().ok().map(u64::from)
}

fn required(expression: &[u8], subs: &[&[u8]], target: Target) -> Result<Required, String> {
    let expression = logic::read(expression)?;
    // Each may refer to those before it only, so they are read in order.
    let mut needs: Vec<Required> = Vec::with_capacity(subs.len());
    for sub in subs {
        let required = subsignature(sub, &needs, target)
            .map_err(|why| format!("subsignature {}: {why}", needs.len()))?;
        needs.push(required);
    }
    let missing = std::cell::Cell::new(None);
    let required = logic::required(&expression, &|id| {
        needs.get(id).cloned().unwrap_or_else(|| {
            missing.set(Some(id));
            Required::Always
        })
    });
    match missing.get() {
        Some(id) => Err(format!("there is no subsignature {id}")),
        None => Ok(required),
    }
}

/// What a subsignature needs to match once. The order of these questions is libclamav's.
fn subsignature(text: &[u8], before: &[Required], target: Target) -> Result<Required, String> {
    if text.starts_with(b"$") {
        // A macro matches next to a match of the one before it.
        return Ok(before.last().cloned().unwrap_or(Required::Never));
    }
    if text.contains(&b'/') {
        return regex(text, before);
    }
    if text.contains(&b'(') && text.iter().filter(|b| **b == b'#').count() >= 2 {
        let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
        let id = number(&text[..digits]);
        let of = id.and_then(|id| before.get(usize::try_from(id).ok()?));
        return of
            .cloned()
            .ok_or_else(|| "a comparison of nothing before it".to_owned());
    }
    if text.starts_with(b"fuzzy_img#") {
        return Ok(Required::Never);
    }
    let (offset, hex, letters): (&[u8], &[u8], &[u8]) = match split(text, b':', 0)[..] {
        [hex] => (b"*", hex, b""),
        [offset, hex] => (offset, hex, b""),
        [hex, b"", letters] => (b"*", hex, letters),
        [offset, hex, b"", letters] => (offset, hex, letters),
        // It counts to five, and of an odd number takes the first for the pattern; the published files have such a line.
        [hex, _, _, _, _, ..] => (b"*", hex, b""),
        _ => return Err("fields that are not understood".to_owned()),
    };
    let mut modifiers = Modifiers::default();
    let (mut wide, mut ascii) = (false, false);
    for letter in letters {
        match letter {
            b'i' => modifiers.nocase = true,
            b'f' => modifiers.fullword = true,
            b'w' => wide = true,
            b'a' => ascii = true,
            other => return Err(format!("the modifier {}", other.escape_ascii())),
        }
    }
    if wide && !ascii {
        // A zero behind every byte.
        return Ok(Required::Never);
    }
    pattern::required(hex, target, Offset::parse(offset), modifiers)
}

/// `[offset:]trigger/expression/flags`: libclamav runs the expression only where the trigger is true.
fn regex(text: &[u8], before: &[Required]) -> Result<Required, String> {
    let body = match split(text, b':', 0)[..] {
        [body] => body,
        [_, body] => body,
        _ => return Err("fields of a regular expression".to_owned()),
    };
    let slash = body.iter().position(|b| *b == b'/').unwrap_or(body.len());
    let trigger = &body[..slash];
    if trigger == ALWAYS {
        return Ok(Required::Always);
    }
    let trigger = logic::read(trigger)?;
    let missing = std::cell::Cell::new(false);
    let required = logic::required(&trigger, &|id| {
        before.get(id).cloned().unwrap_or_else(|| {
            missing.set(true);
            Required::Always
        })
    });
    match missing.get() {
        true => Err("a trigger of nothing before it".to_owned()),
        false => Ok(required),
    }
}

/// Fields between delimiters; from field `from` on, those inside of `/…/` do not count.
fn split(line: &[u8], delimiter: u8, from: usize) -> Vec<&[u8]> {
    let (mut fields, mut start, mut in_regex) = (Vec::new(), 0, false);
    for (at, &byte) in line.iter().enumerate() {
        if byte == delimiter && !in_regex {
            fields.push(&line[start..at]);
            start = at + 1;
        } else if byte == b'/' && fields.len() >= from && at > 0 && line[at - 1] != b'\\' {
            in_regex = !in_regex;
        }
    }
    fields.push(&line[start..]);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::required::Atom;

    fn hex(text: &str) -> String {
        text.bytes().map(|b| format!("{b:02x}")).collect()
    }

    fn text(literal: &str) -> Required {
        Required::text(literal.as_bytes())
    }

    fn read(line: &str) -> Option<Signature> {
        logical(line.as_bytes(), Kind::Logical)
    }

    #[test]
    fn a_line_needs_what_its_expression_needs_of_its_subsignatures() {
        let (alpha, bravo) = (hex("alpha"), hex("bravo"));
        for (line, required) in [
            (
                format!("A;Target:0;0&1;{alpha};{bravo}"),
                Required::all(vec![text("alpha"), text("bravo")]),
            ),
            (
                format!("A;Target:0;0|1;{alpha};{bravo}"),
                Required::any(vec![text("alpha"), text("bravo")]),
            ),
            (format!("A;Target:0;0=0;{alpha}"), Required::Always),
            (
                format!("A;Target:7;(0=1|1)&2;{alpha};{bravo};780000"),
                Required::Never,
            ),
            (
                format!("A;Target:0;1;{alpha};0/alpha[0-9;:]+/i"),
                text("alpha"),
            ),
            (
                format!("A;Target:0;1;{alpha};0=0/z{{3}}/"),
                Required::Always,
            ),
            (
                format!("A;Target:0;0;{}/z{{3}}/", String::from_utf8_lossy(ALWAYS)),
                Required::Always,
            ),
            (
                format!("A;Target:0;1;{};0(>>4#db2#>7)", hex("size=")),
                text("size="),
            ),
            (format!("A;Target:0;1;{alpha};${{4-9}}1$"), text("alpha")),
            (
                format!("A;Target:0;0|1;{alpha};fuzzy_img#af2ad01ed42993c7#0"),
                text("alpha"),
            ),
            (format!("A;Target:0;0|1;{alpha};{bravo}::w"), text("alpha")),
            (
                format!("A;Target:0;0|1;{alpha};{bravo}::wa"),
                Required::any(vec![text("alpha"), text("bravo")]),
            ),
            (
                format!("A;Target:0;0;5:{alpha}::i"),
                Required::Has(Atom::Text {
                    literal: b"alpha".to_vec().into(),
                    by: Some(5),
                }),
            ),
        ] {
            let signature = read(&line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                (signature.required, signature.why),
                (required, None),
                "{line}"
            );
        }
    }

    #[test]
    fn what_no_plain_message_can_be_is_left_out() {
        for attributes in [
            "Target:1",
            "Container:CL_TYPE_ZIP,Target:0",
            "Intermediates:CL_TYPE_ANY>CL_TYPE_ZIP,Target:7",
        ] {
            assert!(
                read(&format!("A;{attributes};0;616263")).is_none(),
                "{attributes}"
            );
        }
        let sized =
            read("A;Engine:51-255,FileSize:100-900,Container:CL_TYPE_ANY,Target:0;0=0;616263");
        assert_eq!(
            sized.map(|s| s.size),
            Some(SizeRange { min: 100, max: 900 })
        );
    }

    #[test]
    fn what_is_not_understood_may_match_anything_and_says_why() {
        for line in [
            "A",
            "A;Target:0",
            "A;Target:x;0;616263",
            "A;Target;0;616263",
            "A;Target:0,Target:7;0;616263",
            "A;Target:0,FileSize:1;0;616263",
            "A;Target:0;1;616263",
            "A;Target:0;0;61626",
            "A;Target:0;0;616263::q",
            "A;Target:0;0;0/x/;616263",
            "A;Target:0;0;1(>>4#db2#>7);616263",
            "A;Target:0;;616263",
            "",
        ] {
            let signature = read(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(signature.required, Required::Always, "{line}");
            assert!(signature.why.is_some_and(|why| !why.is_empty()), "{line}");
        }
    }
}
