//! `scanner-bin scan -r -i` against `clamscan -r -i`: the same tree, the same database, and what each says of it.
//!
//! `make compare-clamscan` does this for 20,000 files and wants the scanner to be the faster one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use scanner_bin::escape::Escaped;
use support::{announce, corpus, data};

/// Files of the tree, unless `SCANNER_TEST_TREE_FILES` says otherwise.
const FILES: usize = 400;
/// From here on a comparison of times means something.
const FILES_TO_BE_FASTER: usize = 10_000;

/// What a scanner says of a path: the names it found.
type Findings = BTreeMap<String, BTreeSet<String>>;

#[test]
fn a_tree_of_files_gets_the_verdicts_of_clamscan_name_for_name() {
    let (Some(signatures), Some(hash)) = (data("sigs"), data("sigs-formats/ut-clamav.hdb")) else {
        return;
    };
    let files = std::env::var("SCANNER_TEST_TREE_FILES")
        .map_or(FILES, |count| count.parse().expect("a number of files"));
    // Built with optimisation, if somebody has done so.
    let program = std::env::var_os("SCANNER_TEST_PROGRAM").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_scanner-bin")),
        PathBuf::from,
    );

    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let (database, tree) = (dir.path().join("database"), dir.path().join("tree"));
    fs::create_dir(&database).unwrap();
    corpus::official(&signatures, &database);
    fs::copy(hash, database.join("ut-clamav.hdb")).unwrap();
    let made = tree::make(&tree, files, &samples());

    let scan = |program: &Path, first: &[&str]| {
        let mut command = Command::new(program);
        command.args(first).args(["-r", "-i", "--database"]);
        command.arg(&database).arg(&tree);
        let started = Instant::now();
        let output = command
            .output()
            .expect("clamscan is installed by `tests/setup test`");
        (output, started.elapsed())
    };
    let (theirs, their_time) = scan(Path::new("clamscan"), &[]);
    let (ours, our_time) = scan(&program, &["scan", "--stats", "json"]);

    let stderr = String::from_utf8_lossy(&ours.stderr);
    let stats: serde_json::Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    let summary = String::from_utf8_lossy(&theirs.stdout).into_owned();
    let number = |key: &str| {
        let line = summary.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key} in {summary}"))
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    announce!(
        "{} files, {} KiB, {} signatures: clamscan {}, scanner-bin {} ({} threads): {:.2} times as fast",
        made.files,
        made.bytes >> 10,
        stats["known_signatures"],
        seconds(their_time),
        seconds(our_time),
        stats["threads"],
        their_time.as_secs_f64() / our_time.as_secs_f64()
    );

    assert_eq!(
        stats["known_signatures"],
        number("Known viruses:"),
        "the same database"
    );
    assert_eq!(stats["scanned"], number("Scanned files:"));
    assert_eq!(stats["infected"], number("Infected files:"));
    assert_eq!(stats["scanned"], made.files - made.empty);
    let (their_findings, our_findings) = (findings(&theirs, true), findings(&ours, false));
    assert!(
        their_findings.len() >= made.infected,
        "{} samples, {} findings",
        made.infected,
        their_findings.len()
    );
    let differences: Vec<_> = their_findings
        .keys()
        .chain(our_findings.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|path| their_findings.get(*path) != our_findings.get(*path))
        .map(|path| (path, their_findings.get(path), our_findings.get(path)))
        .collect();
    assert!(
        differences.is_empty(),
        "path, clamscan, ours: {differences:#?}"
    );
    assert_eq!(theirs.status.code(), Some(1), "{summary}");
    assert_eq!(ours.status.code(), theirs.status.code());
    if files >= FILES_TO_BE_FASTER {
        assert!(our_time < their_time, "slower than clamscan");
    }

    // And where nothing is infected.
    let clean = dir.path().join("clean");
    tree::make(&clean, 3, &samples());
    for (program, first) in [(Path::new("clamscan"), &[][..]), (&program, &["scan"])] {
        let output = Command::new(program)
            .args(first)
            .args(["-r", "-i", "--no-summary", "--database"])
            .arg(&database)
            .arg(&clean)
            .output()
            .unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(0), Vec::new()));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// ClamAV's own test files: executables, archives, documents and mail around one harmless program; without the
/// one that is there to meet limits.
fn samples() -> Vec<PathBuf> {
    let folder = Path::new("/usr/share/clamav-testfiles");
    let entries = fs::read_dir(folder).expect("`tests/setup test` installs clamav-testfiles");
    let mut samples: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    samples.retain(|path| !path.ends_with("clam_cache_emax.tgz"));
    samples.sort();
    assert!(samples.len() >= 40);
    samples
}

/// What was printed, by path. Names of files are shown in one way, whoever printed them.
fn findings(output: &Output, clamscan: bool) -> Findings {
    let mut findings = Findings::new();
    for line in output.stdout.split(|&byte| byte == b'\n') {
        let Some(line) = line.strip_suffix(b" FOUND") else {
            // Only clamscan's summary is on standard output; what is not FOUND there would be a partial result.
            assert!(clamscan || line.is_empty(), "{}", line.escape_ascii());
            continue;
        };
        let colon = memchr::memmem::rfind(line, b": ").expect("PATH: NAME");
        let path = std::ffi::OsStr::from_bytes(&line[..colon]);
        let path = if clamscan {
            Escaped(path.as_bytes()).to_string()
        } else {
            path.to_str().expect("escaped").to_owned()
        };
        let name = String::from_utf8(line[colon + 2..].to_vec()).unwrap();
        findings.entry(path).or_default().insert(name);
    }
    findings
}
