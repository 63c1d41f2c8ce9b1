//! The decision for one message.
//!
//! In the order of what it costs: length, byte classes (with the normalised text as a by-product), first bytes, texts of
//! signatures, the reading as UTF-16, digests. A text that was seen only proposes its signatures; each of them is asked what else it needs before the
//! message has to be scanned.

use std::ops::ControlFlow;

use super::digests::{self, Together};
use super::normaliser::Normalised;
use super::plan::{Compiled, Plan, Search};
use super::required::{Atom, Required};
use super::signature::{Kind, SizeRange};
use super::text;
use super::{Cause, Gate};

/// libclamav does not look at messages of this length or less.
const NOT_LOOKED_AT: usize = crate::NOT_LOOKED_AT_BYTES as usize;

/// The digests of messages are taken once their normalised texts come to this many bytes.
const MOST_TOGETHER: usize = 256 << 10;

/// Buffers of one thread, used again and again: no decision allocates once they have grown.
#[derive(Debug, Default)]
pub struct Scratch {
    normal: Normalised,
    /// The reading as UTF-16, and its normalised form.
    pairs: Vec<u8>,
    decoded: Normalised,
    lower: Vec<u8>,
    text_seen: Seen,
    raw_seen: Seen,
    together: Together,
}

impl Scratch {
    /// The normalised text of the message that was judged last, if it was plain.
    pub(super) fn normalised(&self) -> &[u8] {
        self.normal.text()
    }
}

/// Which texts were seen in this message.
#[derive(Debug, Default)]
struct Seen {
    /// When each text was last seen.
    at: Vec<u32>,
    now: u32,
}

impl Seen {
    /// A new message.
    fn start(&mut self, texts: usize) {
        if self.at.len() != texts || self.now == u32::MAX {
            self.at.clear();
            self.at.resize(texts, 0);
            self.now = 0;
        }
        self.now += 1;
    }

    /// Whether it is the first time in this message.
    fn first(&mut self, text: usize) -> bool {
        match self.at.get_mut(text) {
            Some(at) => std::mem::replace(at, self.now) != self.now,
            None => true,
        }
    }
}

/// A signature that a text proposes.
pub(super) struct Candidate<'p, 't> {
    pub(super) signature: &'p Compiled,
    pub(super) text: &'t [u8],
    /// It has everything else that it needs.
    pub(super) is_possible: bool,
}

impl Plan {
    /// Whether the message has to be scanned.
    pub(super) fn decide(&self, message: &[u8], scratch: &mut Scratch) -> Gate {
        match self.before_digests(message, scratch) {
            ControlFlow::Break(gate) => gate,
            ControlFlow::Continue(()) if self.may_be_known(message, scratch) => {
                Gate::MustScan(Cause::Digest)
            }
            ControlFlow::Continue(()) => Gate::Cleared,
        }
    }

    /// The same of each message, with the digests of several taken side by side.
    pub(super) fn decide_each(
        &self,
        messages: &[&[u8]],
        scratch: &mut Scratch,
        gates: &mut Vec<Gate>,
    ) {
        // Whoever caught a panic may go on with this scratch.
        scratch.together.forget();
        for (number, &message) in messages.iter().enumerate() {
            gates.push(match self.before_digests(message, scratch) {
                ControlFlow::Break(gate) => gate,
                ControlFlow::Continue(()) => {
                    let Scratch {
                        normal, together, ..
                    } = scratch;
                    let normal = self.normal_to_know(message, normal.text());
                    match together.add(&self.hashes, (number, message), normal) {
                        true => Gate::MustScan(Cause::Digest),
                        false => Gate::Cleared,
                    }
                }
            });
            if scratch.together.bytes() > MOST_TOGETHER || number + 1 == messages.len() {
                scratch.together.known(&self.hashes, messages, |known| {
                    if let Some(gate) = gates.get_mut(known) {
                        *gate = Gate::MustScan(Cause::Digest);
                    }
                });
            }
        }
    }

    /// What is settled without the digests.
    fn before_digests(&self, message: &[u8], scratch: &mut Scratch) -> ControlFlow<Gate> {
        if message.len() <= NOT_LOOKED_AT {
            return ControlFlow::Break(Gate::Cleared);
        }
        let must_scan = |cause| ControlFlow::Break(Gate::MustScan(cause));
        if let Some(cause) = self.is_not_plain(message, scratch) {
            return must_scan(cause);
        }
        if self.unprovable(message, scratch).next().is_some() {
            return must_scan(Cause::Unprovable);
        }
        let mut cause = None;
        self.each_candidate(message, scratch, &mut |candidate| {
            if !candidate.is_possible {
                return ControlFlow::Continue(());
            }
            cause = Some(match candidate.signature.kind {
                Kind::Type => Cause::FileType,
                _ => Cause::Signature,
            });
            ControlFlow::Break(())
        });
        match cause {
            Some(cause) => must_scan(cause),
            None if self.is_html_in_utf16(message, scratch) => must_scan(Cause::Utf16),
            None => ControlFlow::Continue(()),
        }
    }

    /// What about the message itself, but for patterns of file types, makes it other than plain text. Fills in the normalised text.
    pub(super) fn is_not_plain(&self, message: &[u8], scratch: &mut Scratch) -> Option<Cause> {
        if message.len() > self.longest {
            Some(Cause::Length)
        } else if message.starts_with(b"\xff\xfe") || message.starts_with(b"\xfe\xff") {
            Some(Cause::ByteOrderMark)
        } else if self.magics.is_at_its_place(message) {
            Some(Cause::Magic)
        } else if !scratch.normal.fill(message) {
            Some(Cause::Bytes)
        } else {
            None
        }
    }

    /// Signatures that may match any message of this length. The normalised text is there.
    pub(super) fn unprovable<'p>(
        &'p self,
        message: &[u8],
        scratch: &Scratch,
    ) -> impl Iterator<Item = &'p str> + use<'p> {
        let lengths = Lengths::of(message, scratch.normal.text());
        let fits = move |(size, _): &&(SizeRange, Box<str>)| lengths.fit(*size);
        self.always.iter().filter(fits).map(|(_, name)| &**name)
    }

    /// Hands on every signature of which a text was seen, until told to stop. The normalised text is there.
    pub(super) fn each_candidate(
        &self,
        message: &[u8],
        scratch: &mut Scratch,
        take: &mut dyn FnMut(Candidate<'_, '_>) -> ControlFlow<()>,
    ) {
        let Scratch {
            normal,
            lower,
            text_seen,
            raw_seen,
            ..
        } = scratch;
        let normal_text = normal.text();
        let text = self.text.as_ref();
        let text = text.filter(|search| search.quick.is_match(normal_text));
        // Texts of the message itself are there for what normalisation loses; where it lost nothing, none is to be found.
        let lost_nothing = self.raw_texts_are_lost && normal.is_whole();
        let raw = self.raw.as_ref().filter(|_| !lost_nothing);
        if text.is_none() && raw.is_none() {
            return;
        }
        lower.clear();
        if self.needs_lower {
            lower.extend_from_slice(message);
            lower.make_ascii_lowercase();
        }
        let facts = Facts {
            message,
            normal: normal_text,
            lower,
        };
        if let Some(search) = text
            && self
                .candidates_of(search, facts.normal, facts, text_seen, take)
                .is_break()
        {
            return;
        }
        if let Some(search) = raw
            && search.quick.is_match(facts.lower)
        {
            let _stopped = self.candidates_of(search, facts.lower, facts, raw_seen, take);
        }
    }

    fn candidates_of(
        &self,
        search: &Search,
        text: &[u8],
        facts: Facts<'_>,
        seen: &mut Seen,
        take: &mut dyn FnMut(Candidate<'_, '_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        seen.start(search.texts());
        for hit in search.automaton.find_overlapping_iter(text) {
            let index = hit.pattern().as_usize();
            // The first place is the leftmost: if it is too late, all are.
            if !seen.first(index) {
                continue;
            }
            for owner in search.owners(index) {
                let Some(signature) = self.signatures.get(owner.signature as usize) else {
                    continue;
                };
                if hit.start() > owner.by as usize {
                    continue;
                }
                take(Candidate {
                    signature,
                    text: text.get(hit.range()).unwrap_or_default(),
                    is_possible: Lengths::of(facts.message, facts.normal).fit(signature.size)
                        && facts.fulfil(&signature.required),
                })?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether libclamav may take it for HTML in UTF-16.
    pub(super) fn is_html_in_utf16(&self, message: &[u8], scratch: &mut Scratch) -> bool {
        let Some(automaton) = &self.decoded else {
            return false;
        };
        let Scratch {
            pairs,
            decoded,
            lower,
            ..
        } = scratch;
        pairs.clear();
        pairs.extend(text::pre_decode(message));
        let Some(rest) = self.decoded_starts.first(pairs) else {
            return false;
        };
        decoded.fill_any(rest.iter().copied());
        if !automaton.is_match(decoded.text()) {
            return false;
        }
        decoded.fill_any(pairs.iter().copied());
        let text = decoded.text();
        lower.clear();
        lower.extend_from_slice(pairs);
        lower.make_ascii_lowercase();
        let facts = Facts {
            message: pairs,
            normal: text,
            lower,
        };
        let needs = &self.decoded_required;
        needs.iter().any(|required| facts.fulfil(required))
    }

    /// Whether libclamav may know the message, or its normalised text, by a digest. The normalised text is there.
    pub(super) fn may_be_known(&self, message: &[u8], scratch: &Scratch) -> bool {
        match self.normal_to_know(message, scratch.normal.text()) {
            Some(normal) => digests::may_know_either(&self.hashes, message, normal),
            None => digests::may_know(&self.hashes, message),
        }
    }

    /// The normalised text, if libclamav looks at its digests and they are others than the message's.
    fn normal_to_know<'t>(&self, message: &[u8], normal: &'t [u8]) -> Option<&'t [u8]> {
        let differs = self.hashes_normalised && !normal.is_empty() && normal != message;
        differs.then_some(normal)
    }
}

/// What is true of a message.
#[derive(Clone, Copy)]
struct Facts<'m> {
    message: &'m [u8],
    normal: &'m [u8],
    /// The message in lower case, if some signature asks for it.
    lower: &'m [u8],
}

/// libclamav measures the message or, where it writes the normalised text to a file, that.
#[derive(Clone, Copy)]
struct Lengths {
    message: u64,
    normal: u64,
}

impl Lengths {
    fn of(message: &[u8], normal: &[u8]) -> Lengths {
        Lengths {
            message: message.len() as u64,
            normal: normal.len() as u64,
        }
    }

    fn fit(self, size: SizeRange) -> bool {
        size.min <= self.message && self.normal <= size.max
    }
}

impl Facts<'_> {
    fn fulfil(&self, required: &Required) -> bool {
        match required {
            Required::Never => false,
            Required::Always => true,
            Required::Has(Atom::Length(least)) => self.message.len() >= *least as usize,
            Required::Has(Atom::Text { literal, by }) => {
                let first = memchr::memmem::find(self.normal, literal);
                first.is_some_and(|at| by.is_none_or(|by| at <= by as usize))
            }
            Required::Has(Atom::Raw(bytes)) => memchr::memmem::find(self.lower, bytes).is_some(),
            Required::AtLeast(k, needs) => {
                let mut left = *k;
                let mut rest = needs.len();
                for required in needs {
                    if left == 0 || rest < left {
                        break;
                    }
                    left -= usize::from(self.fulfil(required));
                    rest -= 1;
                }
                left == 0
            }
        }
    }
}
