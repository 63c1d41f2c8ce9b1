//! What was read, compiled for many questions: automata over the covers of all signatures, and what each of these needs.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::cover::{Where, cover};
use super::frequency::TextModel;
use super::hashes::Hashes;
use super::quick::Quick;
use super::read::Reading;
use super::required::{Atom, Required};
use super::signature::{Kind, Signature, SizeRange};
use super::text::{self, ByteSet, Normal};
use super::types::Magic;

/// Larger sets of texts are searched in a form that is slower and takes far less memory.
const LARGEST_TABLE: usize = 256 << 10;

/// A signature that a message may match.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: Box<str>,
    pub(super) kind: Kind,
    pub(super) required: Required,
    pub(super) size: SizeRange,
    /// How often its cover is expected in a message.
    pub(super) expected: f32,
}

/// A signature of which a text was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) signature: u32,
    /// The text has to start here or earlier.
    pub(super) by: u32,
}

/// Texts and whose they are.
#[derive(Debug)]
pub(super) struct Search {
    /// Whether any text is there at all.
    pub(super) quick: Quick,
    /// Which, and where.
    pub(super) automaton: AhoCorasick,
    /// Where each text's owners end.
    ends: Box<[u32]>,
    owners: Box<[Owner]>,
    pub(super) shortest: usize,
}

impl Search {
    /// `None` for no texts: there is nothing to search.
    fn new(
        texts: HashMap<Box<[u8]>, Vec<Owner>>,
        model: &TextModel,
    ) -> Result<Option<Search>, String> {
        let mut texts: Vec<_> = texts.into_iter().collect();
        texts.sort_by(|(a, _), (b, _)| a.cmp(b));
        if texts.is_empty() {
            return Ok(None);
        }
        let bytes: usize = texts.iter().map(|(text, _)| text.len()).sum();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .kind(Some(match bytes <= LARGEST_TABLE {
                true => AhoCorasickKind::DFA,
                false => AhoCorasickKind::ContiguousNFA,
            }))
            .build(texts.iter().map(|(text, _)| text))
            .map_err(|error| format!("the texts to look for: {error}"))?;
        let quick = Quick::new(texts.iter().map(|(text, _)| &**text), model)?;
        let shortest = texts.iter().map(|(text, _)| text.len()).min().unwrap_or(0);
        let (mut owners, mut ends) = (Vec::new(), Vec::new());
        for (_, mut of_text) in texts {
            owners.append(&mut of_text);
            ends.push(u32::try_from(owners.len()).map_err(|_| "too many signatures")?);
        }
        Ok(Some(Search {
            quick,
            automaton,
            ends: ends.into(),
            owners: owners.into(),
            shortest,
        }))
    }

    pub(super) fn texts(&self) -> usize {
        self.ends.len()
    }

    /// Whose text this is.
    pub(super) fn owners(&self, text: usize) -> &[Owner] {
        let end = |text: usize| self.ends.get(text).map_or(0, |end| *end as usize);
        let start = text.checked_sub(1).map_or(0, end);
        self.owners.get(start..end(text)).unwrap_or_default()
    }

    fn memory_bytes(&self) -> usize {
        self.automaton.memory_usage()
            + self.quick.memory_bytes()
            + size_of_val(&*self.ends)
            + size_of_val(&*self.owners)
    }
}

/// Everything that a decision takes, immutable.
#[derive(Debug)]
pub(super) struct Plan {
    /// Longer messages are not judged.
    pub(super) longest: usize,
    pub(super) magics: Magics,
    /// Signatures that may match any message of these sizes.
    pub(super) always: Box<[(SizeRange, Box<str>)]>,
    /// Texts of the normalised message.
    pub(super) text: Option<Search>,
    /// Texts of the message itself, in lower case.
    pub(super) raw: Option<Search>,
    /// None of these can stand in a message of which normalisation loses nothing.
    pub(super) raw_texts_are_lost: bool,
    /// Some signature needs texts of the message itself.
    pub(super) needs_lower: bool,
    /// Texts of the reading as UTF-16.
    pub(super) decoded: Option<AhoCorasick>,
    /// How these start.
    pub(super) decoded_starts: Starts,
    /// What it takes to be HTML in this reading.
    pub(super) decoded_required: Box<[Required]>,
    pub(super) signatures: Box<[Compiled]>,
    pub(super) hashes: Hashes,
    pub(super) hashes_normalised: bool,
}

/// How the texts of the reading as UTF-16 start.
#[derive(Debug)]
pub(super) struct Starts {
    /// The byte that each of them starts with, if there is one and no other byte becomes it.
    first: Option<u8>,
    /// The bytes that come second.
    second: ByteSet,
}

impl Starts {
    fn of(texts: &[&[u8]]) -> Starts {
        // White space and letters stand for several bytes.
        let is_itself = |byte: &u8| *byte != b' ' && !byte.is_ascii_lowercase();
        let first = texts.first().and_then(|text| text.first().copied());
        let first = first.filter(|byte| {
            let starts = |text: &[u8]| text.len() > 1 && text.starts_with(&[*byte]);
            is_itself(byte) && texts.iter().all(|text| starts(text))
        });
        let second = texts.iter().filter_map(|text| text.get(1));
        Starts {
            first,
            second: second.fold(ByteSet::EMPTY, |set, byte| set.with(*byte)),
        }
    }

    /// From the first place on at which a text may start once this is normalised.
    pub(super) fn first<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let Some(first) = self.first else {
            return Some(text);
        };
        let goes_on = |at: &usize| {
            let behind = text.get(at + 1..).unwrap_or_default();
            let next = behind.iter().find_map(|byte| match text::normal(*byte) {
                Normal::Byte(byte) => Some(byte),
                Normal::Space => Some(b' '),
                Normal::Dropped => None,
            });
            next.is_some_and(|byte| self.second.contains(byte))
        };
        let at = memchr::memchr_iter(first, text).find(goes_on)?;
        text.get(at..)
    }
}

/// Bytes at a place, sorted by how they are asked for.
#[derive(Debug, Default)]
pub(super) struct Magics {
    /// By the first byte of the message.
    first: Vec<Vec<Box<[u8]>>>,
    elsewhere: Vec<Magic>,
}

impl Magics {
    fn new(magics: Vec<Magic>) -> Magics {
        let mut sorted = Magics {
            first: vec![Vec::new(); 256],
            elsewhere: Vec::new(),
        };
        for magic in magics {
            let at_start = (magic.offset == 0)
                .then(|| magic.bytes.first().copied())
                .flatten()
                .and_then(|byte| sorted.first.get_mut(usize::from(byte)));
            match at_start {
                Some(list) => list.push(magic.bytes),
                None => sorted.elsewhere.push(magic),
            }
        }
        sorted
    }

    pub(super) fn is_at_its_place(&self, message: &[u8]) -> bool {
        let first = message
            .first()
            .and_then(|byte| self.first.get(usize::from(*byte)));
        first.is_some_and(|list| list.iter().any(|magic| stands_at(message, 0, magic)))
            || self
                .elsewhere
                .iter()
                .any(|magic| stands_at(message, magic.offset, &magic.bytes))
    }
}

/// The last byte is looked at first: it says no to nearly all of them, without a comparison of many.
fn stands_at(message: &[u8], offset: usize, magic: &[u8]) -> bool {
    let part = message.get(offset..offset.saturating_add(magic.len()));
    part.is_some_and(|part| part.last() == magic.last() && part == magic)
}

/// Why there can be no plan.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A signature may match any message.
    Anything(Vec<Box<str>>),
    /// An automaton cannot be built.
    Automaton(String),
}

impl Plan {
    pub(super) fn new(
        reading: Reading,
        longest: usize,
        model: &TextModel,
    ) -> Result<Plan, Refusal> {
        let Reading {
            signatures,
            hashes,
            types,
            normalises_to_file,
            ..
        } = reading;
        let mut tables = Tables::default();
        for signature in signatures.into_iter().chain(types.patterns) {
            if signature.size.min <= longest as u64 {
                tables.add(signature, model);
            }
        }
        let everything = |size: &SizeRange| size.min <= 6 && size.max >= longest as u64;
        let anything: Vec<Box<str>> = tables
            .always
            .iter()
            .filter(|(size, _)| everything(size))
            .map(|(_, name)| name.clone())
            .collect();
        if !anything.is_empty() {
            return Err(Refusal::Anything(anything));
        }
        let mut decoded: Vec<&[u8]> = Vec::new();
        for signature in &types.decoded {
            let Some(cover) = cover(&signature.required, Where::Decoded, model) else {
                return Err(Refusal::Anything(vec![signature.name.clone()]));
            };
            decoded.extend(cover.atoms.iter().filter_map(|atom| match atom {
                Atom::Text { literal, .. } => Some(&**literal),
                _ => None,
            }));
        }
        let decoded_starts = Starts::of(&decoded);
        let decoded = match decoded.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .kind(Some(AhoCorasickKind::DFA))
                    .build(&decoded)
                    .map_err(|error| Refusal::Automaton(error.to_string()))?,
            ),
        };
        let is_lost = |text: &[u8]| {
            let mut normal = Vec::new();
            text::normalise(text, &mut normal);
            normal != text
        };
        let raw_texts_are_lost = tables.raw.keys().all(|text| is_lost(text));
        let needs_lower = tables.signatures.iter().any(|one| has_raw(&one.required));
        Ok(Plan {
            longest,
            magics: Magics::new(types.magics),
            always: tables.always.into(),
            text: Search::new(tables.text, model).map_err(Refusal::Automaton)?,
            raw: Search::new(tables.raw, model).map_err(Refusal::Automaton)?,
            raw_texts_are_lost,
            needs_lower,
            decoded,
            decoded_starts,
            decoded_required: types.decoded.into_iter().map(|one| one.required).collect(),
            signatures: tables.signatures.into(),
            hashes: hashes.build(),
            hashes_normalised: normalises_to_file,
        })
    }

    /// Bytes that the automata and tables take.
    pub(super) fn memory_bytes(&self) -> usize {
        let search = |search: &Option<Search>| search.as_ref().map_or(0, Search::memory_bytes);
        let needs: usize = self
            .signatures
            .iter()
            .map(|one| one.required.memory_bytes())
            .sum();
        search(&self.text)
            + search(&self.raw)
            + self.decoded.as_ref().map_or(0, AhoCorasick::memory_usage)
            + size_of_val(&*self.signatures)
            + needs
            + self.hashes.memory_bytes()
    }
}

/// Whether bytes of the message itself are asked for.
fn has_raw(required: &Required) -> bool {
    match required {
        Required::Has(atom) => matches!(atom, Atom::Raw(_)),
        Required::AtLeast(_, needs) => needs.iter().any(has_raw),
        Required::Never | Required::Always => false,
    }
}

/// What is collected for a plan.
#[derive(Default)]
struct Tables {
    signatures: Vec<Compiled>,
    always: Vec<(SizeRange, Box<str>)>,
    text: HashMap<Box<[u8]>, Vec<Owner>>,
    raw: HashMap<Box<[u8]>, Vec<Owner>>,
}

impl Tables {
    fn add(&mut self, signature: Signature, model: &TextModel) {
        let Signature {
            name,
            kind,
            required,
            size,
            ..
        } = signature;
        let Some(cover) = cover(&required, Where::Message, model) else {
            self.always.push((size, name));
            return;
        };
        let Ok(index) = u32::try_from(self.signatures.len()) else {
            self.always.push((size, name));
            return;
        };
        for atom in &cover.atoms {
            let (texts, text, by) = match atom {
                Atom::Text { literal, by } => (&mut self.text, literal, by.unwrap_or(u32::MAX)),
                Atom::Raw(bytes) => (&mut self.raw, bytes, u32::MAX),
                Atom::Length(_) => continue,
            };
            let owners = texts.entry(text.clone()).or_default();
            match owners.last_mut() {
                Some(last) if last.signature == index => last.by = last.by.max(by),
                _ => owners.push(Owner {
                    signature: index,
                    by,
                }),
            }
        }
        let expected = cover.expected;
        self.signatures.push(Compiled {
            name,
            kind,
            required,
            size,
            expected,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_its_owners() {
        let mut texts: HashMap<Box<[u8]>, Vec<Owner>> = HashMap::new();
        for (signature, text) in [(0, "bb"), (1, "a"), (2, "bb"), (3, "ccc")] {
            let owner = Owner { signature, by: 7 };
            texts.entry(text.as_bytes().into()).or_default().push(owner);
        }
        let search = Search::new(texts, TextModel::built_in()).unwrap().unwrap();
        assert_eq!((search.texts(), search.shortest), (3, 1));
        let mut found = Vec::new();
        for hit in search.automaton.find_overlapping_iter("abbccc") {
            let owners = search.owners(hit.pattern().as_usize());
            found.push(
                owners
                    .iter()
                    .map(|owner| owner.signature)
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(found, [vec![1], vec![0, 2], vec![3]]);
    }

    #[test]
    fn a_magic_stands_where_all_of_it_does_and_an_empty_one_wherever_there_is_room() {
        for (offset, magic, stands) in [
            (0, "", true),
            (2, "", true),
            (3, "", true),
            (4, "", false),
            (usize::MAX, "c", false),
            (2, "c", true),
            (1, "xc", false),
            (1, "bc", true),
            (1, "bcd", false),
        ] {
            assert_eq!(
                stands_at(b"abc", offset, magic.as_bytes()),
                stands,
                "{magic:?} at {offset}"
            );
        }
    }

    #[test]
    fn magics_are_looked_for_at_their_places() {
        let magic = |offset, bytes: &[u8]| Magic {
            offset,
            bytes: bytes.into(),
        };
        let magics = Magics::new(vec![magic(0, b"MZ"), magic(0, b"MM"), magic(3, b"xy")]);
        for (message, at_its_place) in [
            ("MZ", true),
            ("M", false),
            ("MM ", true),
            ("aMZ", false),
            ("abcxy", true),
            ("abxyc", false),
            ("", false),
        ] {
            assert_eq!(
                magics.is_at_its_place(message.as_bytes()),
                at_its_place,
                "{message}"
            );
        }
    }
}
