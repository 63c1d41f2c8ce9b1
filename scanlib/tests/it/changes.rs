//! A file that changes while it is scanned is never clean, and harms nobody.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scanlib::{Detector, FileState, Incomplete, Payload, Request, RuleSet, Verdict};
use support::memory_dir;

/// As long as the machine may be busy with something else.
const PATIENCE: Duration = Duration::from_secs(120);

type Change = fn(&File, u64, u64);
type Hand = for<'a> fn(&'a File, &'a Path) -> Payload<'a>;

/// Scans a file in a loop while `change` is applied to it in another, until the scan reports the change. Gives what was
/// reported while nobody changed it.
fn until_seen(detector: &Detector, len: u64, change: Change, payload: Hand) -> Verdict {
    let dir = memory_dir();
    let path = dir.path().join("file");
    File::create(&path).unwrap().set_len(len).unwrap();
    let mut scanner = detector.scanner();
    let mut scan = || {
        let file = File::open(&path).unwrap();
        let report = scanner.scan(payload(&file, &path), &Request::new());
        report.unwrap().verdict
    };
    let before = scan();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            for n in 0.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                change(&file, len, n);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let started = Instant::now();
        let mut seen = false;
        while !seen && started.elapsed() < PATIENCE {
            let verdict = scan();
            seen = matches!(
                verdict,
                Verdict::Incomplete {
                    cause: Incomplete::Changed,
                    ..
                }
            );
        }
        done.store(true, Ordering::Relaxed);
        assert!(seen, "no scan reported the change");
    });
    before
}

fn rewrite(file: &File, len: u64, n: u64) {
    file.write_all_at(&[n as u8], n % len).unwrap();
}

fn truncate(file: &File, len: u64, n: u64) {
    file.set_len(if n.is_multiple_of(2) { 0 } else { len })
        .unwrap();
}

fn by_path<'a>(_: &'a File, path: &'a Path) -> Payload<'a> {
    Payload::Path(path)
}

fn by_file<'a>(file: &'a File, path: &'a Path) -> Payload<'a> {
    Payload::File { file, path }
}

fn engine_only() -> Detector {
    let (builder, _database) = support::builder();
    let engine = builder.compile().unwrap();
    Detector::builder().engine(engine).build().unwrap()
}

#[test]
fn a_file_that_is_rewritten_while_libclamav_reads_it_is_not_clean() {
    let detector = engine_only();
    for payload in [by_file as Hand, by_path] {
        let before = until_seen(&detector, 32 << 20, rewrite, payload);
        assert_eq!(before, Verdict::Clean);
    }
}

#[test]
fn a_file_that_is_truncated_while_libclamav_reads_it_is_not_clean_and_kills_nobody() {
    let before = until_seen(&engine_only(), 32 << 20, truncate, by_path);
    assert_eq!(before, Verdict::Clean);
}

#[test]
fn a_file_that_changes_while_rules_look_at_its_copy_is_not_clean() {
    let rules = Detector::builder().rules(RuleSet::builtin());
    let rules = rules.build().unwrap();
    for change in [rewrite as Change, truncate] {
        let before = until_seen(&rules, 1 << 20, change, by_path);
        assert_eq!(before, Verdict::Clean);
    }
}

#[test]
fn every_change_after_a_settled_state_shows_however_soon_it_comes() {
    let dir = memory_dir();
    let path = dir.path().join("file");
    for round in 0..100u8 {
        fs::write(&path, [round; 10]).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let before = FileState::settled(&file).unwrap();
        assert_eq!(FileState::of(&file).unwrap(), before);
        // As long as before, and with the time of before.
        file.write_all_at(&[round + 1; 10], 0).unwrap();
        let modified = path.metadata().unwrap().modified().unwrap();
        file.set_modified(modified).unwrap();
        let after = FileState::of(&file).unwrap();
        assert_ne!(after, before, "round {round}");
        assert!(after.is_same_file(&before));
    }
}
