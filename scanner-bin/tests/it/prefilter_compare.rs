//! The prefilter changes no verdict: the same lines by `scan` with it and without it, byte for byte.
//!
//! Twice: every so manyth line of the real logs and payloads, with ClamAV's own signatures and two that match some of the lines, as
//! ClamAV's do not; and the messages for which clamscan's answer is known, with everything published, but the rules that turn the
//! prefilter off. `SCANNER_TEST_PREFILTER_NTH` says how many lines lie between two (`make compare-prefilter`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

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
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("database");
    let left_out = official(&data, &database);
    let messages = corpus::every(&data, nth());
    let found = compare(&database, &[], &messages);
    announce!(
        "prefilter, ClamAV's own signatures: {found}; {left_out} lines of signatures left out"
    );
}

#[test]
fn every_message_has_the_same_verdict_with_all_published_signatures_too() {
    let Some(data) = data(".") else { return };
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("database");
    unpack_published(&data, &database);
    let names = in_the_way(&database);
    assert!(
        names.len() <= MOST_LEFT_OUT,
        "these turn the prefilter off: {names:?}"
    );
    let flags: Vec<String> = names
        .iter()
        .map(|name| format!("--leave-out={name}"))
        .collect();
    let wanted: BTreeSet<_> = corpus::scanned(&data).into_iter().step_by(nth()).collect();
    let messages: Vec<_> = corpus::messages(&data, &wanted).into_values().collect();
    let found = compare(&database, &flags, &messages);
    announce!(
        "prefilter, everything published but {}: {found}",
        names.join(", ")
    );
}

/// How many lines lie between two.
fn nth() -> usize {
    let given = std::env::var("SCANNER_TEST_PREFILTER_NTH");
    given.map_or(NTH, |text| text.parse().expect("a number of lines"))
}

/// Scans the messages with the prefilter and without it. Says what was found, if it is the same.
fn compare(database: &Path, flags: &[String], messages: &[Vec<u8>]) -> String {
    let lines = database.with_extension("lines");
    // A message of several lines becomes as many.
    fs::write(&lines, messages.join(&b'\n')).unwrap();
    let count = messages.len();

    let (with, fast) = scan(database, flags, "on", &lines);
    let (without, slow) = scan(database, flags, "off", &lines);
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
    let (looked, all) = (looked(&with), looked(&without));
    assert!(
        looked["off"].is_null() && looked["cleared"].as_u64() > Some(0),
        "{looked}"
    );
    assert_eq!(all["cleared"], 0);
    format!(
        "{} lines ({infected} with threats, {by_libclamav} by libclamav) have the same verdict with it ({fast:.1?}; {} views cleared, \
         {} scanned by libclamav, {} audited) and without it ({slow:.1?}; {} scanned)",
        rows(&without),
        looked["cleared"],
        looked["scanned"],
        looked["audits"],
        all["scanned"]
    )
}

/// The prefilter's part of the summary.
fn looked(output: &Output) -> Value {
    let mut lines = output.stderr.trim_ascii_end().rsplit(|&byte| byte == b'\n');
    let summary: Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
    summary["prefilter"].clone()
}

/// Unpacks every published signature file.
fn unpack_published(data: &Path, into: &Path) {
    fs::create_dir(into).unwrap();
    for entry in fs::read_dir(data.join("sigs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        match name.strip_suffix(".zst") {
            Some(stem) => fs::write(into.join(stem), corpus::unpack(&path)).unwrap(),
            None => drop(fs::copy(&path, into.join(name)).unwrap()),
        }
    }
}

/// Signatures that turn the prefilter off, by name.
fn in_the_way(database: &Path) -> Vec<String> {
    let info = info(database);
    let named = |list: &str, name: fn(&Value) -> Option<&str>| -> Vec<String> {
        let names = info[list].as_array().unwrap().iter().map(name);
        names.map(|name| name.unwrap().to_owned()).collect()
    };
    let doubts = named("doubts", |doubt| doubt["signature"].as_str());
    let names = [doubts, named("anything", Value::as_str)].concat();
    assert_eq!(info["on"], names.is_empty(), "{}", info["off"]);
    names
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

fn scan(database: &Path, flags: &[String], prefilter: &str, lines: &Path) -> (Output, Duration) {
    let start = Instant::now();
    let mut command = Command::new(program());
    command.args(["scan", "--lines", "--format=jsonl", "--stats=json"]);
    command.args(["--prefilter", prefilter]).args(flags);
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
