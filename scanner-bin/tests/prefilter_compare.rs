//! The prefilter changes no verdict: the same lines by `scan` with it and without it, byte for byte.
//!
//! The lines are every so manyth of the real logs and payloads; the signatures are ClamAV's own, and two that match some of them,
//! as ClamAV's do not. `SCANNER_TEST_PREFILTER_NTH` says how many lines lie between two (`make compare-prefilter`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{announce, corpus, data};

/// Lines between two that are compared, unless the variable says otherwise: some seconds.
const NTH: usize = 200;
/// No more lines of signatures may have to be left out for the prefilter to be on.
const MOST_LEFT_OUT: usize = 10;

fn program() -> OsString {
    std::env::var_os("SCANNER_TEST_PROGRAM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_scanner-bin").into())
}

#[test]
fn every_line_has_the_same_verdict_with_the_prefilter_and_without_it() {
    let Some(data) = data(".") else { return };
    let nth = std::env::var("SCANNER_TEST_PREFILTER_NTH")
        .map_or(NTH, |text| text.parse().expect("a number of lines"));
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("database");
    let left_out = official(&data, &database);
    let lines = dir.path().join("lines");
    let count = write_lines(&data, nth, &lines);

    let (with, fast) = scan(&database, "on", &lines);
    let (without, slow) = scan(&database, "off", &lines);
    let rows = |output: &Output| output.stdout.split(|&byte| byte == b'\n').count() - 1;
    assert!(rows(&without) >= count, "{without:?}");
    let differences: Vec<_> = with
        .stdout
        .split(|&byte| byte == b'\n')
        .zip(without.stdout.split(|&byte| byte == b'\n'))
        .filter(|(with, without)| with != without)
        .map(|(with, without)| [with, without].map(String::from_utf8_lossy))
        .take(10)
        .collect();
    assert!(differences.is_empty(), "with, without: {differences:#?}");
    assert_eq!(with.stdout, without.stdout);
    assert_eq!(with.status, without.status);
    let (infected, by_libclamav) = findings(&without);
    assert!(
        by_libclamav > 0 && by_libclamav < count,
        "{by_libclamav} of {count} found by libclamav"
    );
    announce!(
        "prefilter: {} lines ({infected} with threats, {by_libclamav} by libclamav) have the same verdict with it ({fast:.1?}) and \
         without it ({slow:.1?}); {left_out} lines of signatures left out",
        rows(&without)
    );
}

/// Found in log lines: `/etc/passwd`, and `sshd` with `root` or `admin`.
const MATCHING: [(&str, &str); 2] = [
    ("own.ndb", "Own.Passwd:0:*:2f6574632f706173737764\n"),
    (
        "own.ldb",
        "Own.Root;Engine:51-255,Target:0;0&(1|2);73736864;726f6f74;61646d696e\n",
    ),
];

/// Unpacks ClamAV's own signatures, but the lines that turn the prefilter off. Says how many those are.
fn official(data: &Path, into: &Path) -> usize {
    let all = into.with_extension("all");
    corpus::unpack_databases(data, &all);
    fs::create_dir(into).unwrap();
    for entry in fs::read_dir(&all).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("official-") {
            fs::rename(entry.path(), into.join(entry.file_name())).unwrap();
        }
    }
    for (name, line) in MATCHING {
        fs::write(into.join(name), line).unwrap();
    }
    let mut left_out = 0;
    loop {
        let info = info(into);
        if info["on"] == true {
            return left_out;
        }
        let doubts = info["doubts"].as_array().unwrap().iter();
        let named: BTreeSet<(PathBuf, usize)> = doubts
            .filter_map(|doubt| {
                let line = usize::try_from(doubt["line"].as_u64()?).ok()?;
                Some((into.join(doubt["file"].as_str()?), line))
            })
            .collect();
        left_out += named.len();
        assert!(
            !named.is_empty() && left_out <= MOST_LEFT_OUT,
            "ClamAV's own signatures turn the prefilter off: {}",
            info["off"]
        );
        for file in named.iter().map(|(file, _)| file).collect::<BTreeSet<_>>() {
            let text = fs::read(file).unwrap();
            let is_kept = |number: &usize| !named.contains(&(file.clone(), *number));
            let kept: Vec<_> = (1..)
                .zip(text.split(|&byte| byte == b'\n'))
                .filter(|(number, _)| is_kept(number))
                .map(|(_, line)| line)
                .collect();
            fs::write(file, kept.join(&b'\n')).unwrap();
        }
    }
}

fn info(database: &Path) -> Value {
    let mut command = Command::new(program());
    command.args(["db", "info", "--format", "json", "--database"]);
    let output = command.arg(database).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Writes one line for each message; a message of several lines becomes as many. Says how many messages there are.
fn write_lines(data: &Path, nth: usize, into: &Path) -> usize {
    let messages = corpus::every(data, nth);
    fs::write(into, messages.join(&b'\n')).unwrap();
    messages.len()
}

fn scan(database: &Path, prefilter: &str, lines: &Path) -> (Output, Duration) {
    let start = Instant::now();
    let mut command = Command::new(program());
    command.args([
        "scan",
        "--lines",
        "--format",
        "jsonl",
        "--prefilter",
        prefilter,
    ]);
    command.arg("--database").arg(database).arg(lines);
    let output = command.output().unwrap();
    (output, start.elapsed())
}

/// Lines with threats, and those in which libclamav found something.
fn findings(output: &Output) -> (usize, usize) {
    let rows = output.stdout.split(|&byte| byte == b'\n');
    let rows = rows.filter(|row| !row.is_empty());
    rows.fold((0, 0), |(infected, by_libclamav), row| {
        let row: Value = serde_json::from_slice(row).unwrap();
        (
            infected + usize::from(row["status"] == "threat"),
            by_libclamav + usize::from(row["clamav_result"].is_string()),
        )
    })
}
