//! Over-scan: the share of lines that reach libclamav, for each log, of `raw` alone and of all views, and the signatures that cost most.
//!
//! No line is scanned, only judged by the prefilter. All lines of all logs are taken (`BENCH_STEP`: every so manyth), with ClamAV's own
//! signatures and with everything in the test data.

// A bench that cannot go on panics, and nobody documents a program's parts.
#![allow(
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use benches::{Log, databases, engine, is_only_tested, logs, number, payloads, surroundings};
use scanlib::prefilter::{Cause, DisabledReason, Gate, Prefilter, Scratch};
use scanlib::{Parser, ViewBuffers, ViewSet};

/// Recorded during attacks, or made of them: told apart from ordinary lines.
const APART: [&str; 5] = [
    "web-attack-",
    "windows-events",
    "sigma-events",
    "zeek-otrf",
    "payloads",
];
/// So many signatures are named.
const DEAREST: usize = 12;

/// What becomes of a log's lines.
#[derive(Default)]
struct Count {
    lines: usize,
    /// Lines of which libclamav has to see the bytes as they came.
    raw: usize,
    /// Lines of which it has to see any view.
    any: usize,
    /// Buffers that it has to see at most, a second look behind a line feed (`guarded`) included.
    looks: usize,
    /// Why, of the first view of each line.
    causes: [usize; Cause::ALL.len()],
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.lines += other.lines;
        self.raw += other.raw;
        self.any += other.any;
        self.looks += other.looks;
        for (all, one) in self.causes.iter_mut().zip(other.causes) {
            *all += one;
        }
    }

    fn row(&self, name: &str) {
        let share = |count: usize| 100.0 * count as f64 / self.lines.max(1) as f64;
        let told = Cause::ALL
            .iter()
            .zip(self.causes)
            .filter(|(_, count)| *count > 0);
        let why: Vec<String> = told
            .map(|(cause, count)| format!("{count} {}", cause.as_str()))
            .collect();
        println!(
            "| {name} | {} | {} | {:.4} % | {} | {:.4} % | {} | {} |",
            self.lines,
            self.raw,
            share(self.raw),
            self.any,
            share(self.any),
            self.looks,
            why.join(", ")
        );
    }
}

/// In how many lines a signature keeps the prefilter from clearing, and of which logs.
type Dear = BTreeMap<String, (usize, BTreeSet<String>)>;

struct Judge<'p> {
    prefilter: &'p Prefilter,
    scratch: Scratch,
    views: ViewBuffers,
    parser: Parser,
    dear: Dear,
}

impl Judge<'_> {
    fn count(&mut self, log: &Log) -> Count {
        let mut count = Count::default();
        let mut guarded = Vec::new();
        for line in log.lines.iter().step_by(number("BENCH_STEP", 1)) {
            count.lines += 1;
            let message = self.parser.parse(line);
            let mut names = BTreeSet::new();
            let mut first = None;
            for (place, view) in self.views.views(&message, ViewSet::ALL).enumerate() {
                let Gate::MustScan(cause) = self.prefilter.check(view.data, &mut self.scratch)
                else {
                    continue;
                };
                first.get_or_insert(cause);
                count.raw += usize::from(place == 0);
                count.looks += 1;
                guarded.clear();
                guarded.push(b'\n');
                guarded.extend_from_slice(view.data);
                count.looks +=
                    usize::from(self.prefilter.check(&guarded, &mut self.scratch) != Gate::Cleared);
                names.extend(reasons(self.prefilter, view.data, cause));
            }
            if let Some(cause) = first {
                count.any += 1;
                count.causes[cause as usize] += 1;
            }
            for name in names {
                let (lines, of) = self.dear.entry(name).or_default();
                *lines += 1;
                of.insert(log.name.clone());
            }
        }
        count
    }
}

/// The signatures, or what else it is.
fn reasons(prefilter: &Prefilter, buffer: &[u8], cause: Cause) -> Vec<String> {
    let explanation = prefilter.explain(buffer);
    let possible = explanation
        .candidates
        .into_iter()
        .filter(|one| one.is_possible);
    let mut names: Vec<String> = possible
        .map(|one| match one.is_file_type {
            true => format!(
                "type {}, by `{}`",
                one.name,
                String::from_utf8_lossy(&one.text).escape_debug()
            ),
            false => one.name,
        })
        .collect();
    names.extend(explanation.unprovable);
    if names.is_empty() {
        names.push(format!("({cause})"));
    }
    names
}

fn judge(title: &str, prefilter: &Prefilter, logs: &[Log]) {
    println!("\n## {title}\n");
    if let Some(off) = prefilter.off() {
        println!("the prefilter is off, all lines reach libclamav: {off}");
        return;
    }
    let started = Instant::now();
    let mut judge = Judge {
        prefilter,
        scratch: Scratch::default(),
        views: ViewBuffers::default(),
        parser: Parser::default(),
        dear: Dear::new(),
    };
    println!(
        "| log | lines | raw | | all views | | looks at most | why |\n|---|---:|---:|---:|---:|---:|---:|---|"
    );
    let (mut ordinary, mut apart) = (Count::default(), Count::default());
    for log in logs {
        let count = judge.count(log);
        count.row(&log.name);
        match APART.iter().any(|name| log.name.starts_with(name)) {
            true => apart.add(&count),
            false => ordinary.add(&count),
        }
    }
    ordinary.row("**ordinary lines**");
    apart.row("**attacks and the like**");
    let mut dear: Vec<_> = judge.dear.into_iter().collect();
    dear.sort_by_key(|(name, (lines, _))| (std::cmp::Reverse(*lines), name.clone()));
    println!(
        "\n| what keeps it from clearing ({} in all) | lines | logs |\n|---|---:|---|",
        dear.len()
    );
    for (name, (lines, of)) in dear.into_iter().take(DEAREST) {
        let of: Vec<String> = of.into_iter().collect();
        println!("| {name} | {lines} | {} |", of.join(", "));
    }
    println!("\n{:.1} s", started.elapsed().as_secs_f64());
}

/// The signatures that turn it off.
fn culprits(prefilter: &Prefilter) -> Vec<String> {
    let doubts = prefilter.doubts().iter();
    let mut names: Vec<String> = doubts.filter_map(|doubt| doubt.signature.clone()).collect();
    if let Some(DisabledReason::Anything { signatures }) = prefilter.off() {
        names.extend_from_slice(signatures);
    }
    names
}

fn main() {
    if is_only_tested() {
        return;
    }
    println!("{}", surroundings());
    let mut logs = logs();
    logs.extend(payloads());
    let official = databases("official-");
    let title = match &official {
        Some(_) => "ClamAV's own signatures",
        None => "the built-in signature",
    };
    judge(
        title,
        engine(official.as_ref().map(|set| set.path()), true).prefilter(),
        &logs,
    );
    let Some(all) = databases("") else { return };
    let prefilter = engine(Some(all.path()), true).prefilter().clone();
    judge("everything", &prefilter, &logs);
    let culprits = culprits(&prefilter);
    if !culprits.is_empty() {
        let without = rules::remove(all.path(), &culprits).expect("rules to be removed");
        println!("\nremoved: {}", without.join(", "));
        judge(
            "everything but these rules",
            engine(Some(Path::new(all.path())), true).prefilter(),
            &logs,
        );
    }
}
