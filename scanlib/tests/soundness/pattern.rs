//! Body patterns, read well enough to write texts that match them.

use super::bytes::{is_foreign, is_normal};
use super::random::Random;

/// Which bytes a text may be made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alphabet {
    /// Whatever libclamav takes for text.
    Text,
    /// What its normalised text consists of.
    Normal,
    /// Every byte.
    Any,
}

impl Alphabet {
    pub fn has(self, byte: u8) -> bool {
        match self {
            Alphabet::Text => !is_foreign(byte),
            Alphabet::Normal => is_normal(byte),
            Alphabet::Any => true,
        }
    }
}

#[derive(Clone, Debug)]
enum Element {
    /// One of these bytes.
    One(Vec<u8>),
    Either(Vec<Vec<Element>>),
    /// None of these sequences, which are all of one length.
    Neither(Vec<Vec<Element>>),
    Gap(usize, Option<usize>),
    /// `(B)`, `(L)`, `(W)`.
    Marker {
        class: u8,
        negated: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Pattern {
    elements: Vec<Element>,
    wide: bool,
}

/// What a text needs no more than.
const LONGEST: usize = 30_000;

impl Pattern {
    /// The pattern in hexadecimal with its modifiers (`i`, `f`, `w`, `a`); `None` if it is not understood.
    pub fn read(hex: &str, modifiers: &str) -> Option<Pattern> {
        let mut reader = Reader {
            rest: hex.trim().as_bytes(),
            nocase: modifiers.contains('i'),
        };
        let mut elements = reader.sequence(0)?;
        if !reader.rest.is_empty() {
            return None;
        }
        if modifiers.contains('f') {
            let word = || Element::Marker {
                class: b'W',
                negated: false,
            };
            elements.insert(0, word());
            elements.push(word());
        }
        let wide = modifiers.contains('w') && !modifiers.contains('a');
        Some(Pattern { elements, wide })
    }

    /// Whether a text of this alphabet can match.
    pub fn fits(&self, alphabet: Alphabet) -> bool {
        if self.wide {
            return alphabet == Alphabet::Any;
        }
        let spaces = self.elements.windows(2).any(|pair| {
            pair.iter()
                .all(|element| matches!(element, Element::One(set) if set == b" "))
        });
        fits(&self.elements, alphabet) && !(alphabet == Alphabet::Normal && spaces)
    }

    /// The least length of a text that matches.
    pub fn shortest(&self) -> usize {
        shortest(&self.elements) * if self.wide { 2 } else { 1 }
    }

    /// A text that matches, of this alphabet if there is one.
    pub fn instance(&self, alphabet: Alphabet, random: &mut Random) -> Vec<u8> {
        let mut out = Vec::new();
        write(&self.elements, alphabet, random, &mut out);
        if self.wide {
            out = out.into_iter().flat_map(|byte| [byte, 0]).collect();
        }
        out
    }
}

pub fn both_cases(byte: u8) -> Vec<u8> {
    let mut set = vec![byte.to_ascii_lowercase(), byte.to_ascii_uppercase()];
    set.dedup();
    set
}

fn fits(elements: &[Element], alphabet: Alphabet) -> bool {
    elements.iter().all(|element| match element {
        Element::One(set) => set.iter().any(|&byte| alphabet.has(byte)),
        Element::Either(list) => list.iter().any(|one| fits(one, alphabet)),
        Element::Gap(min, _) => *min <= LONGEST,
        Element::Neither(_) | Element::Marker { .. } => true,
    })
}

fn shortest(elements: &[Element]) -> usize {
    elements
        .iter()
        .map(|element| match element {
            Element::One(_) => 1,
            Element::Either(list) => list.iter().map(|one| shortest(one)).min().unwrap_or(0),
            Element::Neither(list) => list.first().map_or(0, |one| shortest(one)),
            Element::Gap(min, _) => *min,
            Element::Marker { .. } => 0,
        })
        .sum()
}

fn write(elements: &[Element], alphabet: Alphabet, random: &mut Random, out: &mut Vec<u8>) {
    for element in elements {
        match element {
            Element::One(set) => out.push(one_of(set, alphabet, random)),
            Element::Either(list) => {
                let fitting: Vec<_> = list.iter().filter(|one| fits(one, alphabet)).collect();
                let one = match fitting.get(random.below(fitting.len())) {
                    Some(one) => one,
                    None => &list[random.below(list.len())],
                };
                write(one, alphabet, random, out);
            }
            Element::Neither(list) => {
                let taken: Vec<u8> = list
                    .iter()
                    .filter_map(|one| match one.first() {
                        Some(Element::One(set)) => Some(set.as_slice()),
                        _ => None,
                    })
                    .flatten()
                    .copied()
                    .collect();
                let len = list.first().map_or(0, |one| shortest(one));
                let free: Vec<u8> = (0..=255).filter(|byte| !taken.contains(byte)).collect();
                for _ in 0..len {
                    out.push(one_of(&free, alphabet, random));
                }
            }
            Element::Gap(min, max) => {
                let most = max.unwrap_or(min + 12);
                let len = match random.below(8) {
                    0..4 => *min,
                    4 => min + 1,
                    5 => most,
                    _ => random.between(*min, most.min(min + 40)),
                };
                let len = len.min(most.max(*min)).min(LONGEST);
                out.extend((0..len).map(|_| filler(random)));
            }
            Element::Marker { class, negated } => {
                let byte = match (class, negated) {
                    (_, true) => b'x',
                    (b'L', false) => b'\n',
                    _ => *random.pick(b"  ,;=\"(/"),
                };
                out.push(byte);
            }
        }
    }
}

/// A byte that hardly ever means anything.
fn filler(random: &mut Random) -> u8 {
    *random.pick(b"qjzvkwy0357")
}

pub fn one_of(set: &[u8], alphabet: Alphabet, random: &mut Random) -> u8 {
    if let [byte] = set {
        return *byte;
    }
    let good: Vec<u8> = set
        .iter()
        .copied()
        .filter(|&byte| alphabet.has(byte))
        .collect();
    let plain: Vec<u8> = good.iter().copied().filter(u8::is_ascii_graphic).collect();
    if !plain.is_empty() && random.percent(95) {
        *random.pick(&plain)
    } else if !good.is_empty() {
        *random.pick(&good)
    } else {
        *random.pick(set)
    }
}

struct Reader<'h> {
    rest: &'h [u8],
    nocase: bool,
}

impl Reader<'_> {
    fn sequence(&mut self, depth: usize) -> Option<Vec<Element>> {
        let mut out = Vec::new();
        loop {
            match self.rest {
                [] | [b'|' | b')', ..] => return Some(out),
                [b'!', b'(', ..] => {
                    self.rest = &self.rest[1..];
                    out.push(self.group(true, depth)?);
                }
                [b'(', ..] => out.push(self.group(false, depth)?),
                [b'*', rest @ ..] => {
                    self.rest = rest;
                    out.push(Element::Gap(0, None));
                }
                [b'{', ..] => out.push(self.gap(b'}')?),
                [b'[', ..] => out.push(self.gap(b']')?),
                [high, low, rest @ ..] => {
                    self.rest = rest;
                    out.push(Element::One(self.byte(*high, *low)?));
                }
                [_] => return None,
            }
        }
    }

    fn byte(&self, high: u8, low: u8) -> Option<Vec<u8>> {
        let nibble = |text: u8| match text {
            b'?' => Some(None),
            _ => char::from(text).to_digit(16).map(|n| Some(n as u8)),
        };
        Some(match (nibble(high)?, nibble(low)?) {
            (Some(high), Some(low)) if self.nocase => both_cases(high << 4 | low),
            (Some(high), Some(low)) => vec![high << 4 | low],
            (Some(high), None) => (0..16).map(|low| high << 4 | low).collect(),
            (None, Some(low)) => (0..16).map(|high| high << 4 | low).collect(),
            (None, None) => (0..=255).collect(),
        })
    }

    fn gap(&mut self, close: u8) -> Option<Element> {
        let end = self.rest.iter().position(|&byte| byte == close)?;
        let text = std::str::from_utf8(&self.rest[1..end]).ok()?;
        self.rest = &self.rest[end + 1..];
        Some(match text.split_once('-') {
            None => {
                let len = text.parse().ok()?;
                Element::Gap(len, Some(len))
            }
            Some(("", "")) => Element::Gap(0, None),
            Some(("", max)) => Element::Gap(0, Some(max.parse().ok()?)),
            Some((min, "")) => Element::Gap(min.parse().ok()?, None),
            Some((min, max)) => Element::Gap(min.parse().ok()?, Some(max.parse().ok()?)),
        })
    }

    /// At an opening parenthesis.
    fn group(&mut self, negated: bool, depth: usize) -> Option<Element> {
        if depth > 20 {
            return None;
        }
        if let [b'(', class @ (b'B' | b'L' | b'W'), b')', rest @ ..] = self.rest {
            self.rest = rest;
            return Some(Element::Marker {
                class: *class,
                negated,
            });
        }
        let mut list = Vec::new();
        loop {
            // Past the parenthesis or the bar.
            self.rest = &self.rest[1..];
            list.push(self.sequence(depth + 1)?);
            match self.rest {
                [b'|', ..] => {}
                [b')', rest @ ..] => {
                    self.rest = rest;
                    return Some(if negated {
                        Element::Neither(list)
                    } else {
                        Element::Either(list)
                    });
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn only(hex: &str, modifiers: &str, expected: &[u8]) {
        let pattern = Pattern::read(hex, modifiers).unwrap();
        for seed in 0..20 {
            let text = pattern.instance(Alphabet::Normal, &mut Random::new(seed));
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn patterns_are_read_as_documented() {
        only("616263", "", b"abc");
        only("616263", "w", b"a\0b\0c\0");
        only("4E65", "i", b"ne");
        only("61(41|62)63", "", b"abc");
        let pattern = Pattern::read("6?{2}(6162|63(64|65))", "").unwrap();
        assert_eq!(pattern.shortest(), 5);
        assert!(!Pattern::read("616200", "").unwrap().fits(Alphabet::Text));
        assert!(!Pattern::read("612020", "").unwrap().fits(Alphabet::Normal));
        assert!(Pattern::read("616", "").is_none());
        assert!(Pattern::read("(61", "").is_none());
    }
}
