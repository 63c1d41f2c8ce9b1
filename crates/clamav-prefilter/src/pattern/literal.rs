//! What the guaranteed tokens of a pattern say about the message.
//!
//! A run of tokens each of which normalises to one byte, or to nothing, is a literal: where the pattern
//! matches the message `R`, the run stands in `R`, and its normal form stands in `N(R)`; where it matches
//! `N(R)`, the run is its own normal form. Either way the literal is in `N(R)`.

use super::super::required::{Atom, Required};
use super::super::text::{ByteSet, Normal, normal};
use super::Target;
use super::offset::Offset;
use super::slack::guaranteed;
use super::token::{Pattern, Token};

pub(super) fn required(pattern: &Pattern, target: Target, offset: Offset) -> Required {
    let facts = Facts::of(pattern, target);
    if !facts.in_message && !facts.in_normalised {
        return Required::Never;
    }
    let mut needs = Vec::new();
    if let Offset::FromEnd { back, .. } = offset {
        needs.push(Required::Has(Atom::Length(back)));
    }
    needs.extend(literals(pattern, &facts, offset));
    needs.extend(alternatives(pattern, &facts));
    if !facts.in_normalised {
        needs.extend(raw_literals(pattern, &facts));
    }
    Required::all(needs)
}

/// Which tokens count, and which texts the pattern can match.
struct Facts {
    guaranteed: Vec<bool>,
    alphabet: ByteSet,
    in_message: bool,
    in_normalised: bool,
}

impl Facts {
    fn of(pattern: &Pattern, target: Target) -> Facts {
        let guaranteed = guaranteed(&pattern.tokens);
        let all_meet = |bytes: ByteSet| {
            let meets = |set: &ByteSet| !set.and(bytes).is_empty();
            pattern
                .tokens
                .iter()
                .zip(&guaranteed)
                .all(|(token, counts)| match token {
                    _ if !counts => true,
                    Token::Byte { set, .. } => meets(set),
                    Token::Alternatives(all) => all.iter().any(|one| one.iter().all(meets)),
                    _ => true,
                })
        };
        let space = ByteSet::one(b' ');
        let is_space = |(token, counts): (&Token, &bool)| {
            *counts
                && matches!(token, Token::Byte { set, .. } if set.and(ByteSet::NORMALISED) == space)
        };
        let spaces: Vec<bool> = pattern
            .tokens
            .iter()
            .zip(&guaranteed)
            .map(is_space)
            .collect();
        // Two spaces in a row do not stand in a normalised text.
        let two_spaces = spaces.windows(2).any(|pair| pair[0] && pair[1]);
        Facts {
            in_message: target.sees_message() && all_meet(target.alphabet()),
            in_normalised: target.sees_normalised() && all_meet(ByteSet::NORMALISED) && !two_spaces,
            alphabet: target.alphabet(),
            guaranteed,
        }
    }

    /// The bytes of the set that can be meant.
    fn feasible(&self, set: ByteSet) -> ByteSet {
        let none = ByteSet::EMPTY;
        let message = if self.in_message { self.alphabet } else { none };
        let normalised = if self.in_normalised {
            ByteSet::NORMALISED
        } else {
            none
        };
        set.and(message.union(normalised))
    }

    /// What all bytes of the set that can be meant become, if that is one thing.
    fn image(&self, set: ByteSet) -> Option<Normal> {
        let mut images = self.feasible(set).iter().map(normal);
        let first = images.next()?;
        images.all(|image| image == first).then_some(first)
    }
}

/// A literal that grows, in normal form.
#[derive(Default)]
struct Run {
    text: Vec<u8>,
    after_space: bool,
    /// Bytes of the pattern in front of it.
    start: usize,
    open: bool,
}

impl Run {
    fn push(&mut self, image: Normal, at: usize) {
        if !self.open {
            *self = Run {
                start: at,
                open: true,
                ..Run::default()
            };
        }
        match image {
            Normal::Byte(byte) => self.text.push(byte),
            Normal::Space if !self.after_space => self.text.push(b' '),
            Normal::Space | Normal::Dropped => {}
        }
        self.after_space = match image {
            Normal::Byte(_) => false,
            Normal::Space => true,
            Normal::Dropped => self.after_space,
        };
    }

    /// The literal, if there is one, and the place in the pattern where it starts.
    fn take(&mut self) -> Option<(Vec<u8>, usize)> {
        let run = std::mem::take(self);
        (run.open && !run.text.is_empty()).then_some((run.text, run.start))
    }
}

/// The runs of single bytes.
fn literals(pattern: &Pattern, facts: &Facts, offset: Offset) -> Vec<Required> {
    // Where the pattern starts at the latest, if its bytes can be counted from there.
    let fixed = pattern.whole
        && pattern
            .tokens
            .iter()
            .all(|token| token.min() == token.max());
    let latest = match offset {
        Offset::Absolute { at, range } if fixed => Some(u64::from(at) + u64::from(range)),
        _ => None,
    };
    let mut needs = Vec::new();
    let (mut run, mut at, mut counted) = (Run::default(), 0, true);
    let mut close = |run: &mut Run, counted: bool| {
        let Some((literal, start)) = run.take() else {
            return;
        };
        let by = latest
            .filter(|_| counted)
            .map(|latest| latest + start as u64);
        needs.push(Required::Has(Atom::Text {
            literal: literal.into(),
            // Normalisation only moves bytes to the left.
            by: by.and_then(|by| u32::try_from(by).ok()),
        }));
    };
    for (token, counts) in pattern.tokens.iter().zip(&facts.guaranteed) {
        let image = match token {
            Token::Byte { set, .. } if *counts => facts.image(*set),
            _ => None,
        };
        match image {
            Some(image) => run.push(image, at),
            None => close(&mut run, counted),
        }
        at += token.min();
        counted &= *token != Token::Gap;
    }
    close(&mut run, counted);
    needs
}

/// For each list of alternatives: one of their longest literals, if each has one.
fn alternatives(pattern: &Pattern, facts: &Facts) -> Vec<Required> {
    let longest = |one: &Vec<ByteSet>| {
        let (mut run, mut best) = (Run::default(), Vec::new());
        let mut close = |run: &mut Run| {
            if let Some((literal, _)) = run.take()
                && literal.len() > best.len()
            {
                best = literal;
            }
        };
        for set in one {
            match facts.image(*set) {
                Some(image) => run.push(image, 0),
                None => close(&mut run),
            }
        }
        close(&mut run);
        Required::text(best)
    };
    let feasible = |one: &&Vec<ByteSet>| {
        let all = |bytes: ByteSet| one.iter().all(|set| !set.and(bytes).is_empty());
        (facts.in_message && all(facts.alphabet))
            || (facts.in_normalised && all(ByteSet::NORMALISED))
    };
    let tokens = pattern.tokens.iter().zip(&facts.guaranteed);
    tokens
        .filter_map(|(token, counts)| match token {
            Token::Alternatives(all) if *counts => Some(Required::any(
                all.iter().filter(feasible).map(longest).collect(),
            )),
            _ => None,
        })
        .collect()
}

/// The runs as they stand in the message, in lower case, where normalisation would lose something of them.
fn raw_literals(pattern: &Pattern, facts: &Facts) -> Vec<Required> {
    let mut needs = Vec::new();
    let mut run: Vec<u8> = Vec::new();
    let mut close = |run: &mut Vec<u8>| {
        if !run.is_empty() {
            needs.push(Required::Has(Atom::Raw(std::mem::take(run).into())));
        }
    };
    for (token, counts) in pattern.tokens.iter().zip(&facts.guaranteed) {
        let low = match token {
            Token::Byte { set, .. } if *counts => {
                let mut low = set
                    .and(facts.alphabet)
                    .iter()
                    .map(|b| b.to_ascii_lowercase());
                low.next().filter(|first| low.all(|byte| byte == *first))
            }
            _ => None,
        };
        match low {
            Some(byte) => run.push(byte),
            None => close(&mut run),
        }
    }
    close(&mut run);
    needs
}
