//! libclamav judges a gate: what it reports must not have been cleared.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::bytes::{escaped, is_foreign};
use super::database::{Answer, Database, Loaded};
use super::draft::LONGEST_MESSAGE;
use super::signature::Kind;
use scanlib::prefilter::DisabledReason;

/// True for what a gate calls clean.
pub type Cleared<'g> = dyn Fn(&[u8]) -> bool + 'g;

/// Makes the gate of a database.
pub type MakeGate<'g> = dyn Fn(&Rc<Loaded>) -> Box<Cleared<'static>> + 'g;

/// What was counted.
#[derive(Default)]
pub struct Tally {
    pub databases: usize,
    /// Databases that libclamav did not load.
    pub refused: usize,
    pub total: Share,
    /// By where the signatures come from.
    pub shares: BTreeMap<String, Share>,
    /// Clean, and sent to be scanned all the same.
    over: BTreeMap<&'static str, usize>,
    /// For each database: the signatures that were hit by a message of text bytes alone.
    hit: BTreeMap<String, BTreeSet<String>>,
}

/// Messages, and what became of them.
#[derive(Clone, Copy, Default, Debug)]
pub struct Share {
    pub messages: usize,
    pub reported: usize,
    /// Not examined.
    pub unsettled: usize,
    pub cleared: usize,
    /// With the clean cache.
    pub remembered: usize,
    /// With a prefilter that is off.
    pub off: usize,
}

/// A message that was cleared though libclamav reports it.
#[derive(Debug)]
pub struct WrongClean {
    pub message: Vec<u8>,
    pub answer: Answer,
}

impl Tally {
    /// Scans a message and holds the gate to the answer.
    pub fn judge(
        &mut self,
        message: &[u8],
        database: &Database,
        loaded: &Loaded,
        cleared: &Cleared<'_>,
    ) -> Result<(), WrongClean> {
        let answer = loaded.scan(message);
        let is_cleared = cleared(message);
        self.total.messages += 1;
        self.total.cleared += usize::from(is_cleared);
        match &answer {
            Answer::Found(names) => {
                self.total.reported += 1;
                if !message.iter().any(|&byte| is_foreign(byte)) {
                    let hit = self.hit.entry(database.label.clone()).or_default();
                    hit.extend(names.iter().cloned());
                }
            }
            Answer::Unsettled => self.total.unsettled += 1,
            Answer::Nothing if !is_cleared => {
                *self.over.entry(reason(message)).or_default() += 1;
            }
            Answer::Nothing => {}
        }
        if is_cleared && answer != Answer::Nothing {
            return Err(WrongClean {
                message: message.to_vec(),
                answer,
            });
        }
        Ok(())
    }

    /// What was counted since then was of such signatures.
    pub fn of(
        &mut self,
        label: &str,
        before: Share,
        remembered: bool,
        off: Option<&DisabledReason>,
    ) {
        let messages = self.total.messages - before.messages;
        let (remembered, off) = (usize::from(remembered), usize::from(off.is_some()));
        let share = self.shares.entry(label.to_owned()).or_default();
        share.messages += messages;
        share.reported += self.total.reported - before.reported;
        share.unsettled += self.total.unsettled - before.unsettled;
        share.cleared += self.total.cleared - before.cleared;
        share.remembered += messages * remembered;
        share.off += messages * off;
        self.total.remembered += messages * remembered;
        self.total.off += messages * off;
    }

    pub fn was_hit(&self, label: &str, name: &str) -> bool {
        self.hit
            .get(label)
            .is_some_and(|names| names.contains(name))
    }

    /// A table, and a line of what could be cleared and was not.
    pub fn summary(&self) -> String {
        let mut out = format!(
            "{} databases, {} of them refused\n\n\
             | signatures | messages | with the clean cache | prefilter off | reported | not examined | cleared |\n\
             |---|---|---|---|---|---|---|\n",
            self.databases, self.refused
        );
        let all = ("all".to_owned(), self.total);
        for (label, share) in self
            .shares
            .iter()
            .map(|(l, s)| (l, *s))
            .chain([(&all.0, all.1)])
        {
            let percent = |n: usize| n as f64 * 100.0 / share.messages.max(1) as f64;
            out += &format!(
                "| {label} | {} | {} | {} | {} ({:.1} %) | {} | {} ({:.1} %) |\n",
                share.messages,
                share.remembered,
                share.off,
                share.reported,
                percent(share.reported),
                share.unsettled,
                share.cleared,
                percent(share.cleared)
            );
        }
        out += "\nclean and yet not cleared:";
        for (reason, count) in &self.over {
            out += &format!(" {count} {reason};");
        }
        out
    }

    /// Of the signatures that can match a plain message: how many did, by kind, and which did not.
    pub fn coverage(&self, database: &Database) -> Coverage {
        let mut coverage = Coverage::default();
        for signature in &database.signatures {
            let count = coverage.kinds.entry(signature.kind).or_default();
            count.all += 1;
            let hit = self.was_hit(&database.label, &signature.name);
            match signature.impossible {
                // What was hit can be hit, whatever this test thinks of it.
                Some(why) if !hit => *coverage.impossible.entry(why).or_default() += 1,
                _ => {
                    count.possible += 1;
                    count.hit += usize::from(hit);
                    if !hit {
                        coverage.missed.push(signature.name.clone());
                    }
                }
            }
        }
        coverage
    }
}

#[derive(Default)]
pub struct Coverage {
    pub kinds: BTreeMap<Kind, Count>,
    pub impossible: BTreeMap<&'static str, usize>,
    pub missed: Vec<String>,
}

#[derive(Default, Clone, Copy)]
pub struct Count {
    pub all: usize,
    pub possible: usize,
    pub hit: usize,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.all += other.all;
        self.possible += other.possible;
        self.hit += other.hit;
    }
}

impl Coverage {
    pub fn print(&self, label: &str, with_missed: bool) {
        for (kind, count) in &self.kinds {
            println!(
                "{label}: {kind:?}: {} signatures, {} can match a plain message, {} of those did ({:.1} %)",
                count.all,
                count.possible,
                count.hit,
                count.hit as f64 * 100.0 / count.possible.max(1) as f64
            );
        }
        for (why, count) in &self.impossible {
            println!("{label}: {count} cannot: {why}");
        }
        if with_missed {
            println!("{label}: never hit: {:?}", self.missed);
        }
    }
}

/// What any gate has to scan, told apart from what a better one could clear.
fn reason(message: &[u8]) -> &'static str {
    if message.len() > LONGEST_MESSAGE {
        "too long"
    } else if message.iter().any(|&byte| is_foreign(byte)) {
        "with bytes that are no text"
    } else if message.starts_with(b"\xff\xfe") || message.starts_with(b"\xfe\xff") {
        "with a byte-order mark"
    } else {
        "plain bytes"
    }
}

/// A long message is tried so often, and then it is small enough.
const TRIES: usize = 4000;

/// The least message that is still wrongly cleared: chunks are left out for as long as any can be.
pub fn minimised(message: &[u8], wrong: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = message.to_vec();
    let mut tries = 0;
    let mut size = best.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut shrunk = false;
        while at < best.len() {
            tries += 1;
            if tries > TRIES {
                return best;
            }
            let mut less = best.clone();
            less.drain(at..(at + size).min(best.len()));
            if wrong(&less) {
                best = less;
                shrunk = true;
            } else {
                at += size;
            }
        }
        if size > 1 || !shrunk {
            size /= 2;
        }
    }
    best
}

/// Everything one needs to see a wrong answer again.
pub fn explain(
    wrong: &WrongClean,
    database: &Database,
    loaded: &Loaded,
    cleared: &Cleared<'_>,
    repeat: &str,
) -> String {
    let still = |message: &[u8]| loaded.scan(message) != Answer::Nothing && cleared(message);
    let least = minimised(&wrong.message, &still);
    let answer = loaded.scan(&least);
    let mut out = format!(
        "cleared, and yet libclamav says {:?}\nmessage: {}\nat its least: {} ({answer:?})\nsignatures ({}):\n",
        wrong.answer,
        escaped(&wrong.message),
        escaped(&least),
        database.label,
    );
    let names: Vec<&String> = match (&answer, &wrong.answer) {
        (Answer::Found(names), Answer::Found(others)) => names.iter().chain(others).collect(),
        _ => Vec::new(),
    };
    for signature in &database.signatures {
        if names.contains(&&signature.name) || database.signatures.len() <= 3 {
            out += &format!(".{}: {}\n", signature.ending, signature.text);
        }
    }
    out + &format!("again: {repeat}\n")
}

#[test]
fn a_message_is_minimised_to_what_matters() {
    let least = minimised(b"some words and then evil and 99 more", &|message| {
        message.windows(4).any(|text| text == b"evil") && message.contains(&b'9')
    });
    assert_eq!(least, b"evil9");
}
