//! Looks for messages that a gate wrongly clears.

use std::rc::Rc;

use super::boundary;
use super::bytes::normalised;
use super::database::{Database, Loaded, other_types, published};
use super::draft::{Draft, LONGEST_MESSAGE};
use super::grammar;
use super::judge::{Cleared, MakeGate, Tally, WrongClean, explain};
use super::mutate::mutated;
use super::random::Random;
use super::words::Words;

/// What messages are made of, read once.
pub struct Quarry {
    pub words: Words,
    /// Published signature files; none where they are not at hand.
    pub published: Vec<Database>,
    level: u32,
}

/// From so many messages on, whole published files are loaded.
pub const LONG: u64 = 500_000;
/// One in so many is then for the official files together, with the clean cache and without.
pub const OFFICIAL: usize = 9;
/// One in so many is for all files together, and as many for all but what lets a prefilter clear nothing.
pub const EVERYTHING: usize = 90;
/// One in so many is for each file of which a plain message can match something.
pub const EACH: usize = 38;

/// Where a round's signatures come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// Made up.
    Grammar,
    /// Always true, for other types of files.
    OtherTypes,
    /// At most so many signatures of a published file.
    Sample(usize, usize),
    /// A published file.
    Whole(usize, Extent),
    /// The files that start with this, together.
    Together(&'static str, Extent),
}

/// What of published files is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    Everything,
    /// All but the signatures that may match any message: while one of them is there, the prefilter clears nothing,
    /// and so proves nothing of itself.
    Provable,
}

/// Some messages for one database.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub source: Source,
    pub seed: u64,
    pub messages: usize,
    /// libclamav remembers what was clean, and scans each message twice.
    pub remember: bool,
}

/// A gate was found out.
#[derive(Debug)]
pub struct Caught {
    /// How many messages it took.
    pub messages: usize,
    pub seed: u64,
    pub report: String,
}

impl Quarry {
    pub fn new(lines: Vec<Vec<u8>>) -> Quarry {
        let level = scanlib::Library::init()
            .unwrap()
            .version()
            .functionality_level;
        Quarry {
            words: Words::new(lines),
            published: published(level),
            level,
        }
    }

    fn database(&self, source: Source, random: &mut Random) -> Database {
        match source {
            Source::Grammar => grammar::database(self.level, random),
            Source::OtherTypes => other_types(self.level),
            Source::Sample(file, most) => self.published[file].sample(most, random),
            Source::Whole(file, extent) => self.together(extent, |index, _| index == file),
            Source::Together(prefix, extent) => {
                self.together(extent, |_, label| label.starts_with(prefix))
            }
        }
    }

    /// What a round's messages are counted as.
    fn label(&self, source: Source) -> String {
        match source {
            Source::Grammar => "made up".to_owned(),
            Source::OtherTypes => "for other types of files".to_owned(),
            Source::Sample(..) => "samples of files".to_owned(),
            Source::Whole(file, _) => self.published[file].label.clone(),
            Source::Together("", Extent::Everything) => "everything".to_owned(),
            Source::Together("", Extent::Provable) => "everything provable".to_owned(),
            Source::Together(prefix, _) => format!("{prefix}*"),
        }
    }

    fn together(&self, extent: Extent, wanted: impl Fn(usize, &str) -> bool) -> Database {
        let files: Vec<_> = self
            .published
            .iter()
            .enumerate()
            .filter(|(index, file)| wanted(*index, &file.label))
            .map(|(_, file)| file)
            .collect();
        let label = match files.as_slice() {
            [one] => one.label.clone(),
            _ => "several files".to_owned(),
        };
        let all = Database {
            label,
            signatures: files
                .iter()
                .flat_map(|file| file.signatures.iter().cloned())
                .collect(),
            planted: Vec::new(),
            letters: None,
        };
        match extent {
            Extent::Everything => all,
            Extent::Provable => all.provable(),
        }
    }

    /// Judges the gate by the messages of a round.
    pub fn run(&self, round: Round, make: &MakeGate<'_>, tally: &mut Tally) -> Result<(), String> {
        let mut random = Random::new(round.seed);
        let database = self.database(round.source, &mut random);
        let repeat = format!("{round:?}");
        tally.databases += 1;
        let loaded = match database.load(round.remember, &repeat) {
            Ok(loaded) => Rc::new(loaded),
            Err(error) if matches!(round.source, Source::Grammar) => {
                // Not every form that the grammar makes is one that libclamav takes.
                let log = error.library_log().join("; ");
                let bad = |name: &str| log.split([' ', ';']).any(|word| word == name);
                let lines = database.signatures.iter().filter(|one| bad(&one.name));
                let lines: Vec<&str> = lines.map(|one| one.text.as_str()).collect();
                println!("{repeat} does not load: {log}; {}", lines.join(" "));
                tally.refused += 1;
                return Ok(());
            }
            Err(error) => panic!("{repeat} does not load: {error}"),
        };
        let cleared = make(&loaded);
        let before = tally.total;
        let check = |message: &[u8], tally: &mut Tally| {
            self.check(
                message,
                &database,
                &loaded,
                &*cleared,
                round.remember,
                tally,
            )
        };
        let mut prey = Prey::new(&database, &mut random);
        for _ in 0..round.messages {
            let mut message = self.message(&database, &mut prey, tally, &mut random);
            if random.below(1000) == 0 {
                message = lengthened(message, &self.words, &mut random);
            }
            if let Err(wrong) = check(&message, tally) {
                return Err(explain(&wrong, &database, &loaded, &*cleared, &repeat));
            }
        }
        let off = loaded.engine.prefilter().off();
        tally.of(&self.label(round.source), before, round.remember, off);
        Ok(())
    }

    fn check(
        &self,
        message: &[u8],
        database: &Database,
        loaded: &Loaded,
        cleared: &Cleared<'_>,
        twice: bool,
        tally: &mut Tally,
    ) -> Result<(), WrongClean> {
        tally.judge(message, database, loaded, cleared)?;
        if twice {
            tally.judge(message, database, loaded, cleared)?;
        }
        Ok(())
    }

    fn message(
        &self,
        database: &Database,
        prey: &mut Prey,
        tally: &Tally,
        random: &mut Random,
    ) -> Vec<u8> {
        let words = &self.words;
        let kind = random.below(100);
        if let Some(letters) = database.letters {
            match kind {
                0..15 => return grammar::text(letters, 60, words, random),
                15..25 if !database.planted.is_empty() => {
                    let from = &database.planted;
                    return planted(&from[random.below(from.len())], random);
                }
                _ => {}
            }
        }
        let boundary = if database.label == "other types" {
            70
        } else {
            6
        };
        if kind >= 100 - boundary {
            return boundary::message(words, random);
        }
        if kind >= 62 - boundary / 2 {
            let line = words.line(random);
            return if random.percent(15) {
                mutated(line, random)
            } else {
                line
            };
        }
        if database.letters.is_some() && random.percent(25) {
            let one = &database.signatures[random.below(database.signatures.len())];
            if let Some(draft) = one.some_parts(random) {
                return draft.message(words, random);
            }
        }
        let Some(draft) = prey.next(database, tally, random) else {
            return words.line(random);
        };
        if random.percent(if database.letters.is_some() { 30 } else { 10 }) {
            return clipped(draft, words, random);
        }
        let message = draft.message(words, random);
        if random.percent(25) {
            mutated(message, random)
        } else {
            message
        }
    }

    /// Published files of which a plain message can match something.
    pub fn able(&self) -> Vec<usize> {
        let able = |file: &Database| file.signatures.iter().any(|one| one.impossible.is_none());
        (0..self.published.len())
            .filter(|&file| able(&self.published[file]))
            .collect()
    }

    /// The rounds that so many messages are spent on. A message that is judged twice counts twice.
    pub fn plan(&self, messages: usize, seed: u64) -> Vec<Round> {
        let mut random = Random::new(seed);
        let able = self.able();
        let mut planned = Vec::new();
        if messages as u64 >= LONG && !able.is_empty() {
            let mut both = |source, share: usize| {
                planned.push((source, share - share / 4, false));
                planned.push((source, share / 4, true));
            };
            both(
                Source::Together("official-", Extent::Provable),
                messages / OFFICIAL,
            );
            for extent in [Extent::Everything, Extent::Provable] {
                both(Source::Together("", extent), messages / EVERYTHING);
            }
            for &file in &able {
                both(Source::Whole(file, Extent::Provable), messages / EACH);
            }
        }
        let mut left = messages.saturating_sub(planned.iter().map(|round| round.1).sum());
        for turn in 1.. {
            if left == 0 {
                break;
            }
            let (source, share) = match turn % 8 {
                4 | 0 if !able.is_empty() => (Source::Sample(*random.pick(&able), 50), 100),
                1 => (Source::OtherTypes, 100),
                _ => (Source::Grammar, 40),
            };
            let share = left.min(share);
            left -= share;
            planned.push((source, share, random.percent(15)));
        }
        let round = |(source, messages, remember)| Round {
            source,
            seed: random.next(),
            messages: if remember {
                usize::div_ceil(messages, 2)
            } else {
                messages
            },
            remember,
        };
        planned.into_iter().map(round).collect()
    }

    /// How many messages it takes until the gate clears one that libclamav reports; `None` if the budget does not suffice.
    pub fn hunt(&self, make: &MakeGate<'_>, budget: usize, seed: u64) -> Option<Caught> {
        let mut tally = Tally::default();
        for round in self.plan(budget, seed) {
            if let Err(report) = self.run(round, make, &mut tally) {
                return Some(Caught {
                    messages: tally.total.messages,
                    seed,
                    report,
                });
            }
        }
        None
    }
}

/// A message that a hash was made of, or one with the same normalised text.
fn planted(message: &[u8], random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => normalised(message),
        1 => message
            .iter()
            .flat_map(|&byte| match byte {
                b' ' | b'\t' => vec![b' ', b'\t'],
                byte => vec![byte.to_ascii_uppercase()],
            })
            .collect(),
        _ => message.to_vec(),
    }
}

/// Text from the middle of the first piece to the middle of the last: what is found there touches an end, where libclamav
/// does not look at all of a pattern.
fn clipped(mut draft: Draft, words: &Words, random: &mut Random) -> Vec<u8> {
    random.shuffle(&mut draft.pieces);
    let (front, back) = *random.pick(&[(true, false), (false, true), (false, true), (true, true)]);
    let mut message = draft.embedded((front, back), words, random);
    let mut cut = |message: &[u8]| random.between(1, 4).min(message.len());
    if front {
        message.drain(..cut(&message));
    }
    if back {
        message.truncate(message.len() - cut(&message));
    }
    message
}

/// Among so many lines that it is longer than what a gate judges, or than what libclamav looks at in one go.
fn lengthened(message: Vec<u8>, words: &Words, random: &mut Random) -> Vec<u8> {
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    let least = *random.pick(&[LONGEST_MESSAGE, LONGEST_MESSAGE, 2 * LONGEST_MESSAGE]);
    while before.len() + behind.len() <= least {
        let side = match random.percent(50) {
            true => &mut before,
            false => &mut behind,
        };
        side.extend(words.line(random));
        side.push(b'\n');
    }
    [before, message, behind].concat()
}

/// The signatures of a database in an order of chance, so that each has its turn.
struct Prey {
    order: Vec<usize>,
    at: usize,
}

impl Prey {
    fn new(database: &Database, random: &mut Random) -> Prey {
        let usable = |&index: &usize| {
            let signature = &database.signatures[index];
            // Those of other types are tried now and then: they look like much that is no plain text.
            signature.impossible.is_none()
        };
        let mut order: Vec<usize> = (0..database.signatures.len()).filter(usable).collect();
        let mut rest: Vec<usize> = (0..database.signatures.len())
            .filter(|index| !usable(index))
            .collect();
        random.shuffle(&mut rest);
        rest.truncate(order.len() / 10 + 1);
        order.extend(rest);
        random.shuffle(&mut order);
        Prey { order, at: 0 }
    }

    fn next(&mut self, database: &Database, tally: &Tally, random: &mut Random) -> Option<Draft> {
        for _ in 0..20 {
            let index = *self.order.get(self.at % self.order.len().max(1))?;
            self.at += 1;
            let signature = &database.signatures[index];
            if tally.was_hit(&database.label, &signature.name) && random.percent(60) {
                continue;
            }
            let Some(mut draft) = signature.draft(random) else {
                // It will not be known the next time, either.
                self.order.retain(|&other| other != index);
                continue;
            };
            if random.percent(15) && !draft.pieces.is_empty() {
                // Not quite.
                match random.below(3) {
                    0 => {
                        let at = random.below(draft.pieces.len());
                        draft.pieces.remove(at);
                    }
                    1 => random.shuffle(&mut draft.pieces),
                    _ => draft.size = None,
                }
            }
            if random.percent(5)
                && let Some(other) = random.pick(&database.signatures).draft(random)
            {
                draft.merge(other);
            }
            return Some(draft);
        }
        None
    }
}
