//! What a regular expression cannot match without.
//!
//! Written for PCRE, whose reading of a pattern decides: other readers give some of the same
//! characters another meaning (`\<`, `[a[b]]`, `(?R)`). What is not known here is refused, and the
//! expression then may match anything.

use super::class::{self, Escape};
use super::literal;
use crate::required::Required;
use crate::text::{self, ByteSet, Normal};

/// The need of a regular expression, or why there is none.
pub(super) fn required(pattern: &[u8]) -> Result<Required, &'static str> {
    if pattern.len() > LENGTH {
        return Err("a regular expression of great length");
    }
    let mut reader = Reader {
        pattern,
        at: 0,
        depth: 0,
    };
    let piece = reader.alternatives()?;
    match reader.peek() {
        None => Ok(piece.required()),
        Some(_) => Err("a parenthesis too many"),
    }
}

/// libclamav takes no longer ones.
const LENGTH: usize = 8192;
/// Groups in groups; enough for people.
const DEPTH: usize = 40;
/// Longer literals are not looked for.
const RUN: usize = 256;

/// A part of the expression.
enum Piece {
    /// Matches one byte of each of these, and nothing else.
    Run(Vec<Unit>),
    /// Matches something for which this is needed.
    Loose(Required),
}

/// Bytes that the normaliser treats alike.
#[derive(Clone, Copy)]
struct Unit {
    /// One of them.
    byte: u8,
    /// There is no other but for its case.
    alone: bool,
}

impl Piece {
    fn of(set: ByteSet) -> Piece {
        let set = set.and(ByteSet::PLAIN);
        let Some(byte) = set.iter().next() else {
            return Piece::Loose(Required::Never);
        };
        if set
            .iter()
            .any(|other| text::normal(other) != text::normal(byte))
        {
            return Piece::Loose(Required::Always);
        }
        let alone = set.iter().all(|other| other.eq_ignore_ascii_case(&byte));
        Piece::Run(vec![Unit { byte, alone }])
    }

    fn required(self) -> Required {
        match self {
            Piece::Run(units) => run_need(&units),
            Piece::Loose(required) => required,
        }
    }

    fn repeated(self, min: usize, max: Option<usize>) -> Piece {
        match self {
            _ if min == 0 => Piece::Loose(Required::Always),
            Piece::Run(units) if units.is_empty() => Piece::Run(units),
            // However often, in the end they are one space, or nothing.
            Piece::Run(units) if is_collapsing(&units) => Piece::Run(
                units
                    .into_iter()
                    .map(|unit| Unit {
                        alone: false,
                        ..unit
                    })
                    .collect(),
            ),
            Piece::Run(units) => {
                let times = min.min(RUN / units.len()).max(1);
                let run = units.repeat(times);
                match max == Some(times) {
                    true => Piece::Run(run),
                    false => Piece::Loose(run_need(&run)),
                }
            }
            loose => loose,
        }
    }
}

/// Whether any number of these, one after the other, normalises like one.
fn is_collapsing(units: &[Unit]) -> bool {
    let mut kinds = units.iter().map(|unit| text::normal(unit.byte));
    let first = kinds.next();
    !matches!(first, Some(Normal::Byte(_))) && kinds.all(|kind| Some(kind) == first)
}

/// A run stands, normalised, in the normalised message; and if it cannot stand there as it is, then
/// it stands in the message itself.
fn run_need(units: &[Unit]) -> Required {
    let bytes = |units: &[Unit]| units.iter().map(|unit| unit.byte).collect::<Vec<_>>();
    let mut needs = vec![literal::normalised(&bytes(units), None)];
    let alone = units.split(|unit| !unit.alone);
    needs.extend(alone.map(|alone| literal::raw(&bytes(alone))));
    Required::all(needs)
}

struct Reader<'t> {
    pattern: &'t [u8],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn accept(&mut self, wanted: u8) -> bool {
        class::accept(self.pattern, &mut self.at, wanted)
    }

    /// Everything up to a closing parenthesis or the end.
    fn alternatives(&mut self) -> Result<Piece, &'static str> {
        let first = self.sequence()?;
        if self.peek() != Some(b'|') {
            return Ok(first);
        }
        let mut needs = vec![first.required()];
        while self.accept(b'|') {
            needs.push(self.sequence()?.required());
        }
        Ok(Piece::Loose(Required::any(needs)))
    }

    fn sequence(&mut self) -> Result<Piece, &'static str> {
        let (mut needs, mut run, mut is_run) = (Vec::new(), Vec::new(), true);
        while !matches!(self.peek(), None | Some(b'|' | b')')) {
            let atom = self.atom()?;
            match self.quantified(atom)? {
                Piece::Run(units) => run.extend(units),
                Piece::Loose(required) => {
                    is_run = false;
                    needs.push(run_need(&run));
                    run.clear();
                    needs.push(required);
                }
            }
            if run.len() > RUN {
                is_run = false;
                needs.push(run_need(&run));
                run.clear();
            }
        }
        if is_run {
            return Ok(Piece::Run(run));
        }
        needs.push(run_need(&run));
        Ok(Piece::Loose(Required::all(needs)))
    }

    fn atom(&mut self) -> Result<Piece, &'static str> {
        let nothing = Ok(Piece::Run(Vec::new()));
        match class::next(self.pattern, &mut self.at) {
            None => nothing,
            Some(b'^' | b'$') => nothing,
            Some(b'.') => Ok(Piece::Loose(Required::Always)),
            Some(b'[') => Ok(Piece::of(class::class(self.pattern, &mut self.at)?)),
            Some(b'(') => self.group(),
            Some(b'*' | b'+' | b'?') => Err("a quantifier of nothing"),
            Some(b'{') if self.counts().is_some() => Err("a quantifier of nothing"),
            Some(b'\\') => match self.peek() {
                Some(b'b' | b'B' | b'A' | b'Z' | b'z' | b'G') => {
                    self.at += 1;
                    nothing
                }
                // Any byte but a line end, any line end, any byte.
                Some(b'N' | b'R' | b'C') if !self.rest().starts_with(b"N{") => {
                    self.at += 1;
                    Ok(Piece::Loose(Required::Always))
                }
                _ => Ok(match class::escape(self.pattern, &mut self.at)? {
                    Escape::Byte(byte) => Piece::of(ByteSet::one(byte)),
                    Escape::Set(set) => Piece::of(set),
                }),
            },
            Some(byte) => Ok(Piece::of(ByteSet::one(byte))),
        }
    }

    /// A group, of which the opening parenthesis has been read.
    fn group(&mut self) -> Result<Piece, &'static str> {
        const UNKNOWN: &str = "a group of a kind that is not known";
        if self.peek() == Some(b'*') {
            return Err(UNKNOWN);
        }
        if self.accept(b'?') {
            let named = match self.rest() {
                [b'P', b'<', first, ..] if is_name(*first) => Some((2, b'>')),
                [b'<', first, ..] if is_name(*first) => Some((1, b'>')),
                [b'\'', first, ..] if is_name(*first) => Some((1, b'\'')),
                _ => None,
            };
            if let Some((skip, end)) = named {
                self.at += skip;
                self.skip(is_name);
                if !self.accept(end) {
                    return Err(UNKNOWN);
                }
            } else {
                // Case and the meaning of `.`, `^` and `$` are nothing to us.
                self.skip(|byte| matches!(byte, b'i' | b's' | b'm' | b'-'));
                match class::next(self.pattern, &mut self.at) {
                    Some(b')') => return Ok(Piece::Run(Vec::new())),
                    Some(b':') => {}
                    _ => return Err(UNKNOWN),
                }
            }
        }
        if self.depth == DEPTH {
            return Err("too many groups in groups");
        }
        self.depth += 1;
        let piece = self.alternatives()?;
        self.depth -= 1;
        match self.accept(b')') {
            true => Ok(piece),
            false => Err("a group without an end"),
        }
    }

    /// The piece with the quantifiers that follow it.
    fn quantified(&mut self, mut piece: Piece) -> Result<Piece, &'static str> {
        loop {
            let (min, max) = match self.peek() {
                Some(b'*') => (0, None),
                Some(b'+') => (1, None),
                Some(b'?') => (0, Some(1)),
                Some(b'{') => {
                    self.at += 1;
                    match self.counts() {
                        // Some versions of PCRE take it as a quantifier, some as it stands.
                        Some(Counts { len, range: None }) => {
                            self.at += len;
                            piece = Piece::Loose(Required::Always);
                            continue;
                        }
                        Some(Counts {
                            len,
                            range: Some(range),
                        }) => {
                            self.at += len - 1;
                            range
                        }
                        None => {
                            self.at -= 1;
                            return Ok(piece);
                        }
                    }
                }
                _ => return Ok(piece),
            };
            self.at += 1;
            // Lazy or possessive.
            let _ = self.accept(b'?') || self.accept(b'+');
            piece = piece.repeated(min, max);
        }
    }

    /// What stands after an opening brace, if it looks like the inside of a quantifier.
    fn counts(&self) -> Option<Counts> {
        let rest = self.rest();
        let end = rest
            .iter()
            .position(|byte| !b"0123456789, \t".contains(byte))?;
        let inner = std::str::from_utf8(rest.get(..end)?).ok()?;
        let len = end + 1;
        if inner.is_empty() || rest.get(end) != Some(&b'}') {
            return None;
        }
        let number = |digits: &str| match digits.bytes().all(|digit| digit.is_ascii_digit()) {
            true => digits.parse::<usize>().ok(),
            false => None,
        };
        let range = match inner.split_once(',') {
            None => number(inner).map(|n| (n, Some(n))),
            Some((min, "")) => number(min).map(|min| (min, None)),
            Some((min, max)) => number(min)
                .zip(number(max))
                .map(|(min, max)| (min, Some(max))),
        };
        Some(Counts { len, range })
    }

    fn skip(&mut self, such: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&such) {
            self.at += 1;
        }
    }
}

/// The inside of a quantifier and its closing brace.
struct Counts {
    len: usize,
    /// How often at least and at most, where all versions of PCRE agree.
    range: Option<(usize, Option<usize>)>,
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
