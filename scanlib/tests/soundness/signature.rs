//! Signature lines, read for one purpose: to write messages that they match. It shares nothing with what reads them in the
//! crate, so that a misreading there is not repeated here.

use super::draft::{Draft, LONGEST_MESSAGE, Place};
use super::logic::Expression;
use super::pattern::{Alphabet, Pattern};
use super::random::Random;
use super::regex::Regex;
use super::yara;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Body,
    Logical,
    Yara,
    Hash,
}

#[derive(Clone, Debug)]
pub struct Signature {
    /// As reported, without what libclamav adds.
    pub name: String,
    pub kind: Kind,
    /// The ending of the file that it stands in.
    pub ending: String,
    /// The line, or the rule.
    pub text: String,
    /// Why no plain message can match it.
    pub impossible: Option<&'static str>,
    target: u32,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Parts(Parts),
    Rule(yara::Rule),
    Nothing,
}

#[derive(Clone, Debug)]
struct Parts {
    expression: Expression,
    parts: Vec<Part>,
    size: Option<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum Part {
    Body {
        patterns: Vec<Pattern>,
        place: Place,
    },
    Regex {
        regex: Regex,
        /// `None`: always looked for.
        trigger: Option<Expression>,
        place: Place,
    },
    /// Bytes at a distance from the start of another part.
    Compare {
        part: usize,
        distance: isize,
        bytes: Vec<u8>,
    },
    Never,
}

/// The functionality level is for [`Signature::impossible`].
pub fn read_file(ending: &str, content: &str, level: u32) -> Vec<Signature> {
    if matches!(ending, "yar" | "yara") {
        return yara::read(content)
            .into_iter()
            .map(|(text, rule)| Signature {
                name: rule.name.clone(),
                kind: Kind::Yara,
                ending: ending.to_owned(),
                text,
                impossible: rule.impossible(),
                target: 0,
                how: How::Rule(rule),
            })
            .collect();
    }
    content
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| read_line(ending, line, level))
        .collect()
}

/// `None` for what cannot detect anything.
pub fn read_line(ending: &str, line: &str, level: u32) -> Option<Signature> {
    let new = |name: &str, kind, target, read: Result<How, &'static str>| {
        let mut signature = Signature {
            name: name.to_owned(),
            kind,
            ending: ending.to_owned(),
            text: line.to_owned(),
            impossible: None,
            target,
            how: How::Nothing,
        };
        match read {
            Ok(how) => {
                signature.how = how;
                signature.impossible = signature.why_impossible();
            }
            Err(why) => signature.impossible = Some(why),
        }
        signature
    };
    Some(match ending {
        "ndb" | "ndu" | "sdb" => {
            let fields: Vec<_> = line.split(':').collect();
            let [name, target, offset, hex, ..] = fields.as_slice() else {
                return None;
            };
            let target = target.parse().unwrap_or(0);
            let read = levels(fields.get(4).copied(), fields.get(5).copied(), level)
                .and_then(|()| looked_at(target))
                .and_then(|()| single(offset, hex));
            new(name, Kind::Body, target, read)
        }
        "db" => {
            let (name, hex) = line.split_once('=')?;
            new(name, Kind::Body, 0, single("*", hex))
        }
        "ldb" | "ldu" => {
            let fields = split(line, b';', 2);
            let [name, description, expression, parts @ ..] = fields.as_slice() else {
                return None;
            };
            let target = target(description);
            let read =
                looked_at(target).and_then(|()| logical(description, expression, parts, level));
            new(name, Kind::Logical, target, read)
        }
        "hdb" | "hsb" | "hdu" | "hsu" => {
            let name = line.split(':').nth(2)?;
            new(name, Kind::Hash, 0, Err("a hash of something unknown"))
        }
        _ => return None,
    })
}

/// At a delimiter, but from the field of this number on not between slashes.
fn split(line: &str, delimiter: u8, from: usize) -> Vec<&str> {
    let bytes = line.as_bytes();
    let (mut fields, mut start, mut within) = (Vec::new(), 0, false);
    for at in 0..bytes.len() {
        if bytes[at] == delimiter && !within {
            fields.push(&line[start..at]);
            start = at + 1;
        } else if bytes[at] == b'/' && fields.len() >= from && (at == 0 || bytes[at - 1] != b'\\') {
            within = !within;
        }
    }
    fields.push(&line[start..]);
    fields
}

fn levels(min: Option<&str>, max: Option<&str>, level: u32) -> Result<(), &'static str> {
    let parse = |text: &str| text.trim().parse().ok();
    let min: u32 = min.and_then(parse).unwrap_or(0);
    let max: u32 = max.and_then(parse).unwrap_or(u32::MAX);
    if (min..=max).contains(&level) {
        Ok(())
    } else {
        Err("for another version of the engine")
    }
}

/// Executables and documents are not written by this test; what looks like a page or a mail is.
fn looked_at(target: u32) -> Result<(), &'static str> {
    if matches!(target, 0 | 3 | 4 | 7) {
        Ok(())
    } else {
        Err(OTHER_TYPE)
    }
}

const OTHER_TYPE: &str = "for another type of file";

fn target(description: &str) -> u32 {
    description
        .split(',')
        .find_map(|item| item.strip_prefix("Target:"))
        .and_then(|target| target.parse().ok())
        .unwrap_or(0)
}

fn place(offset: &str) -> Result<Place, &'static str> {
    let number = |text: &str| text.parse().map_err(|_| "an offset in an executable");
    if offset == "*" || offset.is_empty() {
        return Ok(Place::Anywhere);
    }
    if let Some(end) = offset.strip_prefix("EOF-") {
        return Ok(Place::End(number(end.split(',').next().unwrap_or(""))?));
    }
    Ok(match offset.split_once(',') {
        Some((start, more)) => {
            let start = number(start)?;
            Place::Start(start, start + number(more)?)
        }
        None => Place::Start(number(offset)?, number(offset)?),
    })
}

fn single(offset: &str, hex: &str) -> Result<How, &'static str> {
    let pattern = Pattern::read(hex, "").ok_or("not understood by this test")?;
    Ok(How::Parts(Parts {
        expression: Expression::Leaf(0, None),
        parts: vec![Part::Body {
            patterns: vec![pattern],
            place: place(offset)?,
        }],
        size: None,
    }))
}

fn logical(
    description: &str,
    expression: &str,
    parts: &[&str],
    level: u32,
) -> Result<How, &'static str> {
    let mut size = None;
    for item in description.split(',') {
        let (key, value) = item.split_once(':').unwrap_or((item, ""));
        let range = || {
            let (low, high) = value.split_once('-').unwrap_or((value, value));
            Some((low.parse().ok()?, high.parse().ok()?))
        };
        match key {
            "Engine" => levels(value.split('-').next(), value.split('-').nth(1), level)?,
            "FileSize" => size = range(),
            "Container" if value != "CL_TYPE_ANY" => return Err("inside of a container only"),
            "Intermediates" => return Err("inside of a container only"),
            "EntryPoint" | "NumberOfSections" | "IconGroup1" | "IconGroup2" => {
                return Err("in an executable only");
            }
            _ => {}
        }
    }
    let expression =
        Expression::read(expression.as_bytes()).ok_or("not understood by this test")?;
    let parts: Vec<_> = parts.iter().map(|part| read_part(part)).collect();
    Ok(How::Parts(Parts {
        expression,
        parts,
        size,
    }))
}

fn read_part(text: &str) -> Part {
    let part = if text.starts_with('$') || text.starts_with("fuzzy_img#") {
        None
    } else if text.contains('/') {
        read_regex(text)
    } else if text.contains('(') && text.matches('#').count() == 2 {
        read_compare(text)
    } else {
        read_body(text)
    };
    part.unwrap_or(Part::Never)
}

fn read_body(text: &str) -> Option<Part> {
    let fields: Vec<_> = text.split(':').collect();
    let (offset, hex, modifiers) = match fields.as_slice() {
        [hex] => ("*", *hex, ""),
        [offset, hex] => (*offset, *hex, ""),
        [hex, "", modifiers] => ("*", *hex, *modifiers),
        [offset, hex, "", modifiers] => (*offset, *hex, *modifiers),
        // One published line is like this.
        [hex, _, _, _, _, ..] => ("*", *hex, ""),
        _ => return None,
    };
    let mut patterns = vec![Pattern::read(hex, modifiers)?];
    if modifiers.contains('w') && modifiers.contains('a') {
        patterns.push(Pattern::read(hex, &modifiers.replace('a', ""))?);
    }
    Some(Part::Body {
        patterns,
        place: place(offset).ok()?,
    })
}

fn read_regex(text: &str) -> Option<Part> {
    let open = text.find('/')?;
    let close = text.rfind('/').filter(|&close| close > open)?;
    let flags = &text[close + 1..];
    let (offset, trigger) = text[..open].split_once(':').unwrap_or(("*", &text[..open]));
    let mut place = place(offset).ok()?;
    let regex = Regex::read(&text.as_bytes()[open + 1..close], flags)?;
    if place == Place::Anywhere && regex.at_start {
        place = Place::Start(0, 0);
    } else if place == Place::Anywhere && regex.at_end {
        place = Place::End(0);
    } else if let Place::Start(low, _) = place
        && flags.contains('r')
    {
        place = Place::Start(low, low + 20);
    }
    let always = trigger == "7374756c747a676574737265676578";
    let trigger = (!always)
        .then(|| Expression::read(trigger.as_bytes()))
        .flatten();
    (always || trigger.is_some()).then_some(Part::Regex {
        regex,
        trigger,
        place,
    })
}

/// `part(distance#options#comparison)`.
fn read_compare(text: &str) -> Option<Part> {
    let (part, rest) = text.split_once('(')?;
    let mut fields = rest.strip_suffix(')')?.split('#');
    let (distance, options, comparison) = (fields.next()?, fields.next()?, fields.next()?);
    let distance = match (distance.strip_prefix(">>"), distance.strip_prefix("<<")) {
        (Some(forward), _) => number(forward)? as isize,
        (_, Some(back)) => -(number(back)? as isize),
        _ => return None,
    };
    let first = comparison.split(',').next()?;
    let value = number(first.get(1..)?)?;
    let value = match first.as_bytes()[0] {
        b'>' => value + 1,
        b'<' => value.checked_sub(1)?,
        _ => value,
    };
    let digits = options.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let len = number(digits)?.min(32);
    let bytes = if options.contains('i') {
        let little = value.to_le_bytes();
        let mut bytes = little[..len.min(8)].to_vec();
        if options.contains('b') {
            bytes.reverse();
        }
        bytes
    } else if options.contains('h') {
        format!("{value:0len$x}").into_bytes()
    } else {
        format!("{value:0len$}").into_bytes()
    };
    Some(Part::Compare {
        part: part.trim().parse().ok()?,
        distance,
        bytes,
    })
}

fn number(text: &str) -> Option<usize> {
    match text.strip_prefix("0x") {
        Some(hex) => usize::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Signature {
    fn alphabet(&self) -> Alphabet {
        match self.target {
            0 => Alphabet::Text,
            7 => Alphabet::Normal,
            _ => Alphabet::Any,
        }
    }

    fn why_impossible(&self) -> Option<&'static str> {
        let How::Parts(parts) = &self.how else {
            return None;
        };
        if !matches!(self.target, 0 | 7) {
            return Some(OTHER_TYPE);
        }
        if parts
            .size
            .is_some_and(|(min, max)| min > LONGEST_MESSAGE || max < 6)
        {
            return Some("for another size");
        }
        let possible = |id: usize| parts.possible(id, self.alphabet());
        if parts.expression.can_hold(&possible) {
            None
        } else if parts
            .expression
            .can_hold(&|id| parts.possible(id, Alphabet::Any))
        {
            Some("needs what no plain message holds")
        } else {
            Some("needs a part that this test does not understand, or that nothing matches")
        }
    }

    /// What a message has to hold; `None` if this test does not know.
    pub fn draft(&self, random: &mut Random) -> Option<Draft> {
        match &self.how {
            How::Nothing => None,
            How::Rule(rule) => Some(rule.draft(random)),
            How::Parts(parts) => {
                let counts = parts.counts(self.alphabet(), random)?;
                let mut draft = parts.draft(&counts, self.alphabet(), random);
                match self.target {
                    3 => draft.add(b"<html>".to_vec(), Place::Start(0, 0)),
                    4 => draft.add(b"From: a\nReceived: b\n\n".to_vec(), Place::Start(0, 0)),
                    _ => {}
                }
                Some(draft)
            }
        }
    }

    /// Some parts of it, whether that makes it true or not: the truth of an expression is met from all sides.
    pub fn some_parts(&self, random: &mut Random) -> Option<Draft> {
        let How::Parts(parts) = &self.how else {
            return None;
        };
        let mut counts = Vec::new();
        for _ in &parts.parts {
            counts.push(*random.pick(&[0, 0, 0, 0, 1, 1, 1, 2, 3]));
        }
        Some(parts.draft(&counts, self.alphabet(), random))
    }
}

impl Parts {
    fn possible(&self, id: usize, alphabet: Alphabet) -> bool {
        match self.parts.get(id) {
            Some(Part::Body { patterns, place }) => {
                patterns
                    .iter()
                    .any(|pattern| pattern.fits(alphabet) && pattern.shortest() <= LONGEST_MESSAGE)
                    && !matches!(place, Place::Start(low, _) if *low > LONGEST_MESSAGE)
            }
            Some(Part::Regex { regex, trigger, .. }) => {
                regex.fits(alphabet)
                    && trigger.as_ref().is_none_or(|trigger| {
                        trigger.can_hold(&|other| other < id && self.possible(other, alphabet))
                    })
            }
            Some(Part::Compare { part, bytes, .. }) => {
                *part < id
                    && self.possible(*part, alphabet)
                    && bytes.iter().all(|&byte| alphabet.has(byte))
            }
            Some(Part::Never) | None => false,
        }
    }

    /// How often each part has to occur.
    fn counts(&self, alphabet: Alphabet, random: &mut Random) -> Option<Vec<usize>> {
        let strict = |id: usize| self.possible(id, alphabet);
        let loose = |id: usize| self.possible(id, Alphabet::Any);
        let mut counts = self
            .expression
            .choose(self.parts.len(), &strict, random)
            .or_else(|| self.expression.choose(self.parts.len(), &loose, random))?;
        // What a chosen part refers to has to occur as well; it always stands before.
        for id in (0..self.parts.len()).rev() {
            if counts[id] == 0 {
                continue;
            }
            match &self.parts[id] {
                Part::Regex {
                    trigger: Some(trigger),
                    ..
                } if !trigger.value(&counts).0 => {
                    let more = trigger.choose(self.parts.len(), &strict, random)?;
                    for (count, more) in counts.iter_mut().zip(more) {
                        *count = (*count).max(more);
                    }
                }
                Part::Compare { part, .. } if *part < id => {
                    counts[*part] = counts[*part].max(1);
                }
                _ => {}
            }
        }
        Some(counts)
    }

    fn draft(&self, counts: &[usize], alphabet: Alphabet, random: &mut Random) -> Draft {
        let mut draft = Draft {
            size: self.size,
            ..Draft::default()
        };
        for (id, part) in self.parts.iter().enumerate() {
            for _ in 0..counts[id] {
                let (mut bytes, place) = match part {
                    Part::Body { patterns, place } => {
                        let fitting: Vec<_> = patterns
                            .iter()
                            .filter(|pattern| pattern.fits(alphabet))
                            .collect();
                        let pattern = fitting.first().copied().unwrap_or(&patterns[0]);
                        (pattern.instance(alphabet, random), *place)
                    }
                    Part::Regex { regex, place, .. } => {
                        let bytes = regex.instance(alphabet, random);
                        let place = match place {
                            Place::End(0) => Place::End(bytes.len()),
                            place => *place,
                        };
                        (bytes, place)
                    }
                    Part::Compare { .. } | Part::Never => continue,
                };
                for (other, part) in self.parts.iter().enumerate() {
                    if let Part::Compare {
                        part,
                        distance,
                        bytes: compared,
                    } = part
                        && *part == id
                        && counts[other] > 0
                    {
                        put(&mut bytes, *distance, compared);
                    }
                }
                draft.add(bytes, place);
            }
        }
        draft
    }
}

/// Writes bytes at a distance from the start of a text.
fn put(text: &mut Vec<u8>, distance: isize, bytes: &[u8]) {
    if distance < 0 {
        let gap = (distance.unsigned_abs())
            .saturating_sub(bytes.len())
            .min(1000);
        let filler = vec![b'z'; gap];
        *text = [bytes, &filler, text].concat();
        return;
    }
    // What lies within the part itself is left to chance.
    let at = distance.unsigned_abs().min(10_000);
    if at >= text.len() {
        text.resize(at, b'z');
        text.extend(bytes);
        text.push(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Words;

    fn message(ending: &str, line: &str) -> String {
        let signature = read_line(ending, line, 216).unwrap();
        assert_eq!(signature.impossible, None, "{line}");
        let mut random = Random::new(3);
        let draft = signature.draft(&mut random).unwrap();
        String::from_utf8_lossy(&draft.message(&Words::new(Vec::new()), &mut random)).into_owned()
    }

    #[test]
    fn lines_are_read_as_documented() {
        assert!(message("ndb", "A:0:*:6576696c").contains("evil"));
        assert!(message("ndb", "A:7:3:6576696c")[3..].starts_with("evil"));
        assert!(message("ldb", "A;Target:0;0=2&1;6576696c;0/b[c]{3};d/").contains("bccc;d"));
        assert!(message("ldb", "A;Target:0;1;73697a653d;0(>>5#d2#>7)").contains("size=08"));
        let why = |line| read_line("ldb", line, 216).unwrap().impossible;
        assert!(why("A;Target:1;0;6576696c").is_some());
        assert!(why("A;Target:0,Container:CL_TYPE_ZIP;0;6576696c").is_some());
        assert!(why("A;Engine:1-10,Target:0;0;6576696c").is_some());
        assert!(why("A;Target:0;0&1;6576696c;000000").is_some());
        assert!(why("A;Target:0;0|1;6576696c;000000").is_none());
    }
}
