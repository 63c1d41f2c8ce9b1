//! What may be found on the topics after a run with faults, and what may not. No broker, no process, no clock: evidence goes in,
//! findings come out.
//!
//! Nothing here knows how the scanner works. It knows what was to be answered, what readers saw, what the group had committed
//! at which moments, and which faults there were.

// A test program compiles this module as its own.
#![allow(unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A partition and an offset.
pub type Place = (i32, i64);

/// What results promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

impl Delivery {
    /// As the configuration names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::ExactlyOnce => "exactly-once",
        }
    }
}

/// A result on the output topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where it stands.
    pub at: Place,
    /// The record that it answers.
    pub answers: Place,
    pub id: String,
    pub verdict: String,
    /// The replica that wrote it, and when it did.
    pub writer: String,
    pub written_ms: i64,
}

/// A look at what the group has committed, and *after* that at where the output topic ends.
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub at_ms: i64,
    pub committed: BTreeMap<i32, i64>,
    pub ends: BTreeMap<i32, i64>,
}

/// Why a replica may answer again what was answered.
#[derive(Debug, Clone)]
pub struct Excuse {
    /// Whose; `None` for everybody's.
    pub writer: Option<String>,
    pub from_ms: i64,
    pub to_ms: i64,
    /// The replica slept: what it had in hand then may come late.
    pub is_sleep: bool,
}

/// Everything that was seen of a run.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub delivery: Delivery,
    /// What has to be answered, with the verdict that the library gives. Records of aborted transactions are not among them.
    pub records: BTreeMap<Place, String>,
    /// Results for readers of committed records, when all is over; in the order of each partition.
    pub counted: Vec<Seen>,
    /// The same with those of aborted transactions.
    pub all: Vec<Seen>,
    /// What a reader of committed records was given while it all went on: where it stood, and what it answered.
    pub live: Vec<(Place, Place)>,
    /// Records with a dead letter.
    pub letters: BTreeSet<Place>,
    /// In the order of time.
    pub looks: Vec<Look>,
    /// What the group has committed when all is over.
    pub committed: BTreeMap<i32, i64>,
    /// Where partitions end for readers of committed records: behind the last record, and what of aborted transactions follows it.
    pub ends: BTreeMap<i32, i64>,
    pub excuses: Vec<Excuse>,
}

/// Something that may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A record without a result.
    Lost(Place),
    /// A result of no record, or of one that was aborted.
    Invented(Place),
    /// More than one result for readers of committed records.
    Doubled(Place),
    /// A second result although no fault came between the two, or long after the first was committed.
    Groundless {
        record: Place,
        writers: (String, String),
        why: &'static str,
    },
    /// Two results of one record say different things.
    Contradiction(Place),
    /// Not what the library says of the record.
    Wrong {
        record: Place,
        found: String,
        expected: String,
    },
    /// A record that could not be judged, without a dead letter.
    NoLetter(Place),
    /// Results of one partition do not stand in its order.
    Disorder { at: Place, record: Place },
    /// Readers of committed records were shown something that does not count.
    Vanished(Place),
    /// Something counts that a reader who was there all the time was not shown.
    Hidden(Place),
    /// What counts is not among what is there.
    Impossible(Place),
    /// The group had committed past a record that had no result then.
    TooEarly { record: Place, committed: i64 },
    /// The group has not committed everything in the end, or more than there is.
    Uncommitted {
        partition: i32,
        committed: Option<i64>,
        end: i64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What it comes to.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    pub records: usize,
    pub lost: usize,
    /// Results beyond the first of each record, for readers of committed records.
    pub repeated: usize,
    /// Results that readers of committed records do not see.
    pub aborted: usize,
    /// Records that were suspected of a crash, or could not be judged, and have a dead letter.
    pub letters: usize,
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// The findings by kind and number, with the first few in full.
    pub fn summary(&self) -> String {
        let mut kinds = BTreeMap::<String, usize>::new();
        for finding in &self.findings {
            let text = finding.to_string();
            let end = text
                .find(|c: char| !c.is_alphanumeric())
                .unwrap_or(text.len());
            *kinds.entry(text[..end].to_owned()).or_default() += 1;
        }
        let kinds: Vec<_> = kinds
            .iter()
            .map(|(kind, n)| format!("{kind} {n}"))
            .collect();
        let mut first: Vec<String> = Vec::new();
        let mut last = None;
        for finding in &self.findings {
            // Of each kind the first two.
            let kind = std::mem::discriminant(finding);
            let shown = if last.is_some_and(|(of, _)| of == kind) {
                last.map_or(0, |(_, n)| n)
            } else {
                0
            };
            if shown < 2 {
                first.push(finding.to_string());
            }
            last = Some((kind, shown + 1));
        }
        format!("{}: {}", kinds.join(", "), first.join("; "))
    }
}

/// A result may be a little older or younger than the moment says: two clocks of one machine, and a process that has to wait for it.
const BLUR_MS: i64 = 1_500;
/// How long after a commit a record that it passed may still be in the hands of a replica that is awake.
const LATE_MS: i64 = 5_000;

/// Judges.
pub fn judge(evidence: &Evidence) -> Judgement {
    let mut judgement = Judgement {
        records: evidence.records.len(),
        aborted: evidence.all.len().saturating_sub(evidence.counted.len()),
        ..Judgement::default()
    };
    answered(evidence, &mut judgement);
    ordered(evidence, &mut judgement);
    readers(evidence, &mut judgement);
    commits(evidence, &mut judgement);
    judgement
}

/// Each record has its result, and no record has another one.
fn answered(evidence: &Evidence, judgement: &mut Judgement) {
    let mut answers = BTreeMap::<Place, Vec<&Seen>>::new();
    for seen in &evidence.counted {
        answers.entry(seen.answers).or_default().push(seen);
    }
    let mut findings = Vec::new();
    for place in evidence.records.keys() {
        if !answers.contains_key(place) {
            judgement.lost += 1;
            findings.push(Finding::Lost(*place));
        }
    }
    let passes = Passes::of(&evidence.looks);
    for (place, seen) in &answers {
        let Some(expected) = evidence.records.get(place) else {
            findings.push(Finding::Invented(*place));
            continue;
        };
        for one in seen {
            if one.verdict == "error" {
                // Nobody could judge it: then its original is kept.
                match evidence.letters.contains(place) {
                    true => judgement.letters += 1,
                    false => findings.push(Finding::NoLetter(*place)),
                }
            } else if one.verdict != *expected {
                findings.push(Finding::Wrong {
                    record: *place,
                    found: one.verdict.clone(),
                    expected: expected.clone(),
                });
            }
        }
        judgement.repeated += seen.len() - 1;
        if seen.len() > 1 && evidence.delivery == Delivery::ExactlyOnce {
            findings.push(Finding::Doubled(*place));
            continue;
        }
        for pair in seen.windows(2) {
            if pair[0].id != pair[1].id {
                findings.push(Finding::Contradiction(*place));
            }
            if let Some(why) = groundless(evidence, &passes, pair[0], pair[1]) {
                findings.push(Finding::Groundless {
                    record: *place,
                    writers: (pair[0].writer.clone(), pair[1].writer.clone()),
                    why,
                });
            }
        }
    }
    findings.sort_by_key(rank);
    judgement.findings.append(&mut findings);
}

fn rank(finding: &Finding) -> u8 {
    match finding {
        Finding::Lost(_) => 0,
        Finding::Doubled(_) => 1,
        Finding::Invented(_) => 2,
        Finding::Groundless { .. } => 3,
        Finding::Contradiction(_) => 4,
        _ => 5,
    }
}

/// Why nothing justifies the second of two results.
fn groundless(
    evidence: &Evidence,
    passes: &Passes,
    first: &Seen,
    second: &Seen,
) -> Option<&'static str> {
    let from = first.written_ms.min(second.written_ms) - BLUR_MS;
    let to = first.written_ms.max(second.written_ms) + BLUR_MS;
    let concerns = |excuse: &Excuse, seen: &Seen| {
        excuse
            .writer
            .as_ref()
            .is_none_or(|writer| *writer == seen.writer)
    };
    let is_excused = evidence.excuses.iter().any(|excuse| {
        (concerns(excuse, first) || concerns(excuse, second))
            && excuse.from_ms <= to
            && from <= excuse.to_ms
    });
    if !is_excused {
        return Some("no fault came between them");
    }
    let passed_ms = passes.when(second.answers)?;
    let is_late = second.written_ms > passed_ms + LATE_MS;
    let has_slept = evidence.excuses.iter().any(|excuse| {
        excuse.is_sleep
            && concerns(excuse, second)
            && excuse.to_ms + BLUR_MS >= passed_ms
            && excuse.from_ms - BLUR_MS <= second.written_ms
    });
    (is_late && !has_slept).then_some("it had been committed long before")
}

/// When commits were seen to pass which offset.
struct Passes(BTreeMap<i32, Vec<(i64, i64)>>);

impl Passes {
    fn of(looks: &[Look]) -> Passes {
        // Only what is higher than before: offsets may go back without harm.
        let mut passes = BTreeMap::<i32, Vec<(i64, i64)>>::new();
        for look in looks {
            for (partition, offset) in &look.committed {
                let steps = passes.entry(*partition).or_default();
                if steps.last().is_none_or(|(highest, _)| highest < offset) {
                    steps.push((*offset, look.at_ms));
                }
            }
        }
        Passes(passes)
    }

    /// The first look that saw this record committed.
    fn when(&self, (partition, offset): Place) -> Option<i64> {
        let steps = self.0.get(&partition)?;
        let at = steps.partition_point(|(committed, _)| *committed <= offset);
        steps.get(at).map(|(_, at_ms)| *at_ms)
    }
}

/// What is answered for the first time stands in the order of its partition. Repeats stand where they stand: between two
/// owners of a partition they are interleaved.
fn ordered(evidence: &Evidence, judgement: &mut Judgement) {
    let mut answered = BTreeSet::new();
    let mut last = BTreeMap::new();
    for seen in &evidence.counted {
        let (partition, offset) = seen.answers;
        if !answered.insert(seen.answers) {
            continue;
        }
        let before = last.insert((seen.at.0, partition), offset);
        if before.is_some_and(|before| before > offset) {
            judgement.findings.push(Finding::Disorder {
                at: seen.at,
                record: seen.answers,
            });
        }
    }
}

/// Readers of committed records see the same, early or late, and nothing that is not there.
fn readers(evidence: &Evidence, judgement: &mut Judgement) {
    let key = |seen: &Seen| (seen.at, seen.answers);
    let counted: BTreeSet<_> = evidence.counted.iter().map(key).collect();
    let all: BTreeSet<_> = evidence.all.iter().map(key).collect();
    let live: BTreeSet<_> = evidence.live.iter().copied().collect();
    let findings = &mut judgement.findings;
    findings.extend(
        live.difference(&counted)
            .map(|(at, _)| Finding::Vanished(*at)),
    );
    findings.extend(
        counted
            .difference(&live)
            .map(|(at, _)| Finding::Hidden(*at)),
    );
    findings.extend(
        counted
            .difference(&all)
            .map(|(at, _)| Finding::Impossible(*at)),
    );
}

/// Nothing was ever committed before its result was there, and in the end everything is.
fn commits(evidence: &Evidence, judgement: &mut Judgement) {
    let mut results = BTreeMap::<Place, Vec<Place>>::new();
    for seen in &evidence.counted {
        results.entry(seen.answers).or_default().push(seen.at);
    }
    // Of each partition the records that no look has seen committed.
    let mut unseen = BTreeMap::<i32, Vec<i64>>::new();
    for (partition, offset) in evidence.records.keys().rev() {
        unseen.entry(*partition).or_default().push(*offset);
    }
    for look in &evidence.looks {
        for (partition, committed) in &look.committed {
            let waiting = unseen.entry(*partition).or_default();
            while let Some(offset) = waiting.pop_if(|offset| *offset < *committed) {
                let record = (*partition, offset);
                let is_there = results.get(&record).is_some_and(|places| {
                    let before = |(of, at): &Place| look.ends.get(of).is_some_and(|end| at < end);
                    places.iter().any(before)
                });
                if !is_there {
                    judgement.findings.push(Finding::TooEarly {
                        record,
                        committed: *committed,
                    });
                }
            }
        }
    }
    for (&partition, &end) in &evidence.ends {
        let committed = evidence.committed.get(&partition).copied();
        if committed != Some(end) {
            judgement.findings.push(Finding::Uncommitted {
                partition,
                committed,
                end,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: i64, record: i64, writer: &str, written_ms: i64) -> Seen {
        Seen {
            at: (0, at),
            answers: (3, record),
            id: format!("id-{record}"),
            verdict: "clean".to_owned(),
            writer: writer.to_owned(),
            written_ms,
        }
    }

    /// Ten records of one partition, with a gap, each answered once and committed.
    fn clean(delivery: Delivery) -> Evidence {
        let offsets: Vec<i64> = (0..5).chain(7..12).collect();
        let counted: Vec<_> = (0..)
            .zip(&offsets)
            .map(|(at, record)| seen(at, *record, "a", 1_000 * at))
            .collect();
        Evidence {
            delivery,
            records: offsets
                .iter()
                .map(|o| ((3, *o), "clean".to_owned()))
                .collect(),
            all: counted.clone(),
            live: counted.iter().map(|s| (s.at, s.answers)).collect(),
            counted,
            letters: BTreeSet::new(),
            looks: vec![look(2_500, 2, 3), look(6_500, 8, 7), look(20_000, 12, 10)],
            committed: [(3, 12)].into(),
            ends: [(3, 12)].into(),
            excuses: Vec::new(),
        }
    }

    fn look(at_ms: i64, committed: i64, end: i64) -> Look {
        Look {
            at_ms,
            committed: [(3, committed)].into(),
            ends: [(0, end)].into(),
        }
    }

    fn excuse(writer: &str, from_ms: i64, to_ms: i64, is_sleep: bool) -> Excuse {
        Excuse {
            writer: Some(writer.to_owned()),
            from_ms,
            to_ms,
            is_sleep,
        }
    }

    /// Adds a result for everybody to see.
    fn add(evidence: &mut Evidence, record: i64, writer: &str, written_ms: i64) {
        let at = evidence.all.last().map_or(0, |last| last.at.1 + 1);
        let result = seen(at, record, writer, written_ms);
        evidence.all.push(result.clone());
        evidence.live.push((result.at, result.answers));
        evidence.counted.push(result);
    }

    fn remove(evidence: &mut Evidence, record: i64) {
        evidence.counted.retain(|s| s.answers.1 != record);
        evidence.all.retain(|s| s.answers.1 != record);
        evidence.live.retain(|(_, answers)| answers.1 != record);
    }

    const BOTH: [Delivery; 2] = [Delivery::AtLeastOnce, Delivery::ExactlyOnce];

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        for delivery in BOTH {
            let judgement = judge(&clean(delivery));
            assert_eq!(judgement.findings, []);
            assert_eq!(
                (judgement.records, judgement.lost, judgement.repeated),
                (10, 0, 0)
            );
        }
    }

    #[test]
    fn a_missing_result_is_a_loss_and_what_was_committed_past_it_was_too_early() {
        for delivery in BOTH {
            let mut evidence = clean(delivery);
            remove(&mut evidence, 4);
            let judgement = judge(&evidence);
            assert_eq!(judgement.lost, 1);
            let early = Finding::TooEarly {
                record: (3, 4),
                committed: 8,
            };
            assert_eq!(judgement.findings, [Finding::Lost((3, 4)), early]);
        }
    }

    #[test]
    fn a_second_result_is_one_too_many_for_exactly_once() {
        let mut evidence = clean(Delivery::ExactlyOnce);
        evidence.excuses.push(excuse("a", 9_500, 9_500, false));
        add(&mut evidence, 11, "b", 10_000);
        let judgement = judge(&evidence);
        assert_eq!(judgement.findings, [Finding::Doubled((3, 11))]);
        assert_eq!(judgement.repeated, 1);
    }

    #[test]
    fn for_at_least_once_it_needs_a_fault_of_one_of_its_writers_in_between() {
        let mut evidence = clean(Delivery::AtLeastOnce);
        add(&mut evidence, 11, "b", 10_000);
        for (excuses, is_found) in [
            (vec![], true),
            (vec![excuse("c", 9_500, 9_500, false)], true),
            (vec![excuse("a", 1_000, 2_000, false)], true),
            (vec![excuse("a", 9_500, 9_500, false)], false),
            (vec![excuse("b", 9_500, 9_500, false)], false),
        ] {
            evidence.excuses = excuses;
            let judgement = judge(&evidence);
            assert_eq!(!judgement.findings.is_empty(), is_found, "{evidence:?}");
            assert_eq!(judgement.repeated, 1);
        }
        evidence.excuses = vec![Excuse {
            writer: None,
            ..excuse("", 9_500, 12_000, false)
        }];
        assert_eq!(judge(&evidence).findings, []);
    }

    #[test]
    fn what_was_committed_long_ago_is_repeated_by_nobody_who_was_awake() {
        let mut evidence = clean(Delivery::AtLeastOnce);
        evidence.excuses = vec![excuse("a", 9_500, 9_500, false)];
        add(&mut evidence, 1, "b", 10_000);
        let findings = judge(&evidence).findings;
        assert!(
            matches!(&findings[..], [Finding::Groundless { record: (3, 1), why, .. }] if why.contains("committed")),
            "{findings:?}"
        );
        // One that slept when it was committed may still have it in hand.
        evidence.excuses.push(excuse("b", 1_500, 9_900, true));
        assert_eq!(judge(&evidence).findings, []);
    }

    #[test]
    fn two_results_of_one_record_say_the_same() {
        let mut evidence = clean(Delivery::AtLeastOnce);
        evidence.excuses = vec![excuse("a", 9_500, 9_500, false)];
        add(&mut evidence, 11, "b", 10_000);
        evidence.counted.last_mut().unwrap().id = "another".to_owned();
        assert_eq!(judge(&evidence).findings, [Finding::Contradiction((3, 11))]);
    }

    #[test]
    fn results_of_aborted_or_unknown_records_are_invented() {
        for delivery in BOTH {
            let mut evidence = clean(delivery);
            add(&mut evidence, 5, "a", 10_000);
            let judgement = judge(&evidence);
            assert!(judgement.findings.contains(&Finding::Invented((3, 5))));
        }
    }

    #[test]
    fn a_verdict_is_the_librarys_or_an_error_with_a_dead_letter() {
        let mut evidence = clean(Delivery::ExactlyOnce);
        evidence.counted[2].verdict = "threat".to_owned();
        evidence.counted[3].verdict = "error".to_owned();
        let findings = judge(&evidence).findings;
        let wrong = Finding::Wrong {
            record: (3, 2),
            found: "threat".to_owned(),
            expected: "clean".to_owned(),
        };
        assert_eq!(findings, [wrong, Finding::NoLetter((3, 3))]);
        evidence.letters.insert((3, 3));
        let judgement = judge(&evidence);
        assert_eq!((judgement.findings.len(), judgement.letters), (1, 1));
    }

    #[test]
    fn first_answers_stand_in_input_order_and_repeats_may_not() {
        let mut evidence = clean(Delivery::AtLeastOnce);
        evidence.excuses = vec![excuse("a", 0, 20_000, true)];
        add(&mut evidence, 9, "b", 9_800);
        add(&mut evidence, 8, "a", 9_800);
        assert_eq!(judge(&evidence).findings, []);
        let mut evidence = clean(Delivery::ExactlyOnce);
        for list in [&mut evidence.counted, &mut evidence.all] {
            (list[4].answers, list[5].answers) = ((3, 7), (3, 4));
        }
        evidence.live = evidence.counted.iter().map(|s| (s.at, s.answers)).collect();
        let disorder = Finding::Disorder {
            at: (0, 5),
            record: (3, 4),
        };
        assert!(judge(&evidence).findings.contains(&disorder));
    }

    #[test]
    fn a_reader_who_was_there_all_the_time_saw_what_counts_and_nothing_else() {
        let mut evidence = clean(Delivery::ExactlyOnce);
        evidence.live.pop();
        evidence.live.push(((0, 77), (3, 11)));
        assert_eq!(
            judge(&evidence).findings,
            [Finding::Vanished((0, 77)), Finding::Hidden((0, 9))]
        );
        let mut evidence = clean(Delivery::ExactlyOnce);
        evidence.all.pop();
        assert_eq!(judge(&evidence).findings, [Finding::Impossible((0, 9))]);
    }

    #[test]
    fn results_that_do_not_count_are_aborted_and_harmless() {
        let mut evidence = clean(Delivery::ExactlyOnce);
        evidence.all.push(seen(10, 11, "a", 9_000));
        let judgement = judge(&evidence);
        assert_eq!((judgement.aborted, judgement.findings.len()), (1, 0));
    }

    #[test]
    fn a_commit_ahead_of_a_result_is_found_though_the_result_comes_later() {
        for delivery in BOTH {
            let mut evidence = clean(delivery);
            evidence.looks[1] = look(6_500, 8, 5);
            assert_eq!(
                judge(&evidence).findings,
                [Finding::TooEarly {
                    record: (3, 7),
                    committed: 8
                }]
            );
        }
    }

    #[test]
    fn a_commit_may_go_back_and_forth_where_everything_is_answered() {
        let mut evidence = clean(Delivery::AtLeastOnce);
        evidence.looks.insert(2, look(7_000, 2, 8));
        assert_eq!(judge(&evidence).findings, []);
    }

    #[test]
    fn in_the_end_everything_is_committed_and_no_more() {
        for committed in [[(3, 11)].into(), [(3, 13)].into(), BTreeMap::new()] {
            let mut evidence = clean(Delivery::ExactlyOnce);
            evidence.committed = committed;
            assert_eq!(judge(&evidence).findings.len(), 1, "{evidence:?}");
        }
    }
}
