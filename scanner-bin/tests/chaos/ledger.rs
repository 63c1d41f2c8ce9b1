//! What each seed came to, a line each: what is there already is not run again.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::oracle::Delivery;
use crate::run::Outcome;
use crate::support::workspace;

const HEAD: &str =
    "commit\trun\tdelivery\tseconds\tfaults\trecords\tlost\trepeated\taborted\tletters\tverdict";
const HELD: &str = "held";

/// Where runs write.
pub(crate) fn path() -> PathBuf {
    workspace().join("target/chaos/results.tsv")
}

/// What is under version control, of earlier runs.
const KEPT: &str = include_str!("seeds.tsv");

/// The seeds and scenarios that held, with their delivery, here or wherever the kept ones were run.
pub(crate) fn held() -> BTreeSet<(String, String)> {
    commit();
    let here = fs::read_to_string(path()).unwrap_or_default();
    held_in(KEPT).chain(held_in(&here)).collect()
}

fn held_in(lines: &str) -> impl Iterator<Item = (String, String)> {
    lines.lines().skip(1).filter_map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let (name, delivery) = (columns.get(1)?, columns.get(2)?);
        (columns.last() == Some(&HELD)).then(|| ((*name).to_owned(), (*delivery).to_owned()))
    })
}

/// Adds a line.
pub(crate) fn add(name: &str, delivery: Delivery, outcome: &Outcome) {
    fs::create_dir_all(path().parent().unwrap()).unwrap();
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path())
        .unwrap();
    if file.metadata().unwrap().len() == 0 {
        writeln!(file, "{HEAD}").unwrap();
    }
    writeln!(file, "{}", line(commit(), name, delivery, outcome)).unwrap();
}

fn line(commit: &str, name: &str, delivery: Delivery, outcome: &Outcome) -> String {
    let faults: Vec<_> = outcome
        .faults
        .iter()
        .map(|(name, n)| format!("{name}={n}"))
        .collect();
    let judgement = &outcome.judgement;
    let verdict = match outcome.charge() {
        None => HELD.to_owned(),
        Some(charge) => format!("FAILED: {}", charge.replace(['\t', '\n'], " ")),
    };
    format!(
        "{commit}\t{name}\t{}\t{:.0}\t{}\t{}\t{}\t{}\t{}\t{}\t{verdict}",
        delivery.as_str(),
        outcome.seconds,
        faults.join(","),
        judgement.records,
        judgement.lost,
        judgement.repeated,
        judgement.aborted,
        judgement.letters,
    )
}

/// The commit under test, with a plus if the tree had changed since when the run began.
fn commit() -> &'static str {
    static COMMIT: OnceLock<String> = OnceLock::new();
    COMMIT.get_or_init(|| {
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            let output = git.args(arguments).current_dir(workspace()).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success().then_some(text)
        };
        let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
            return "unknown".to_owned();
        };
        let sources = [
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            "*.rs",
            "*.toml",
        ];
        match git(&sources) {
            Some(changes) if changes.is_empty() => commit,
            _ => commit + "+",
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_seeds_that_held_are_not_run_again() {
        let lines = format!(
            "{HEAD}\nabc\t1\tat-least-once\t60\tkill=3\t9\t0\t1\t0\t0\theld\nabc\t2\texactly-once\t60\t\t9\t1\t0\t0\t0\tFAILED: Lost 1\n\n"
        );
        let held: Vec<_> = held_in(&lines).collect();
        assert_eq!(held, [("1".to_owned(), "at-least-once".to_owned())]);
    }

    #[test]
    fn the_kept_lines_have_the_columns_of_new_ones() {
        assert_eq!(KEPT.lines().next(), Some(HEAD));
        let columns = |line: &str| line.split('\t').count();
        assert!(KEPT.lines().all(|line| columns(line) == columns(HEAD)));
    }
}
