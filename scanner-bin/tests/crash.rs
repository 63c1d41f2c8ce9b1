//! A record that brings the process down does not do so for ever.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::announce;
use support::broker::Broker;
use support::client::Outgoing;
use support::process::Scanner;
use support::scene::{Answer, Scene, assert_all_answered, assert_answered_once, line};

const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a worker has noted that it scans the first record of partition 0, after so many ends of a process that did.
fn scans_the_first_record(scene: &Scene<'_>, ends: u32) -> bool {
    let Ok(files) = fs::read_dir(scene.journal()) else {
        return false;
    };
    let suspected = format!("0 0 {ends}");
    files
        .filter_map(|file| fs::read_to_string(file.unwrap().path()).ok())
        .any(|notes| {
            let mut lines = notes.lines().map(str::trim_end);
            let known = ends == 0 || lines.clone().any(|line| line == suspected);
            known && lines.any(|line| line == "0 0")
        })
}

/// Proves: a record that was being scanned when the process ended, twice in a row, is not scanned a third time; it is answered
/// as an error, its original is a dead letter, and what lies behind it is scanned as ever.
#[test]
fn a_record_under_way_in_two_ends_in_a_row_is_a_dead_letter_and_the_rest_is_scanned() {
    let scene = Scene::new(Broker::shared(), "crash", 1);
    // Long enough to be caught in the middle of it.
    let fatal = line(0)
        .into_iter()
        .cycle()
        .take(1 << 20)
        .collect::<Vec<u8>>();
    let places = scene.produce([Outgoing::of(fatal.clone()).key("k"), Outgoing::of(line(1))]);

    for ends in 0..2 {
        let mut scanner = scene.replica("scanner-0").start();
        let deadline = Instant::now() + PATIENCE;
        while !scans_the_first_record(&scene, ends) {
            assert!(
                Instant::now() < deadline,
                "not scanned:\n{}",
                scanner.output()
            );
        }
        scanner.kill();
        assert!(
            scans_the_first_record(&scene, ends),
            "the scan was over before the kill"
        );
        assert!(scene.answers().is_empty(), "it was answered");
    }

    let scanner = scene.ready_replica("scanner-0");
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    let answers = scene.answers();
    assert_answered_once(&answers, &places.into_iter().collect());
    assert_eq!(answers[0].status(), "error");
    let reason = answers[0].json["reason"].as_str().unwrap();
    assert!(reason.contains("not scanned"), "{reason}");
    assert_eq!(answers[1].status(), "clean");

    let letters = scene.broker.read_all(&scene.dead_letters);
    assert_eq!(letters.len(), 1);
    assert_eq!(
        letters[0].payload.as_deref(),
        Some(fatal.as_slice()),
        "byte for byte"
    );
    assert_eq!(letters[0].key.as_deref(), Some(b"k".as_slice()));
    let reason = ("reason".to_owned(), Some(b"crash_suspect".to_vec()));
    assert!(
        letters[0].headers.contains(&reason),
        "{:?}",
        letters[0].headers
    );
    assert_eq!(scanner.scrape().sum("scanner_dlq_produced_total"), 1.0);
}

/// What a scan looks for in the buffer that it is given: whoever has it preloaded crashes on it, as on a fault of libclamav.
const MARKER: &str = "crash-of-libclamav";

/// A library that crashes the process that scans [`MARKER`].
fn crashing_library(scene: &Scene<'_>) -> PathBuf {
    let source = scene.tmp().join("crash.c");
    let library = scene.tmp().join("crash.so");
    let text = format!(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <signal.h>\n#include <string.h>\n\
         typedef void *open_memory(const void *, size_t);\n\
         void *cl_fmap_open_memory(const void *start, size_t length) {{\n\
         if (memmem(start, length, \"{MARKER}\", {length})) {{ signal(SIGSEGV, SIG_DFL); raise(SIGSEGV); }}\n\
         open_memory *next = (open_memory *)dlsym(RTLD_NEXT, \"cl_fmap_open_memory\");\n\
         return next(start, length);\n}}\n",
        length = MARKER.len()
    );
    fs::write(&source, text).unwrap();
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status();
    assert!(compiler.unwrap().success());
    library
}

/// Proves: after an end, what was being scanned is scanned by itself: the answers of records that share a batch with others that crash the process
/// are committed before the next crash. Only without isolation does a crash of libclamav end the whole process, so that is set here; with
/// isolation it takes somebody who kills the process, as in the first test.
#[test]
fn what_a_crash_left_is_committed_before_the_next_record_can_crash() {
    let scene = Scene::new(Broker::shared(), "careful", 1);
    let crashing = [5, 6, 100];
    let record = |number: usize| {
        let mut text = line(number);
        if crashing.contains(&number) {
            text.extend_from_slice(MARKER.as_bytes());
        }
        Outgoing::of(text)
    };
    let places = scene.produce((0..150).map(record));
    let library = crashing_library(&scene);
    let start = || {
        let replica = scene.replica("scanner-0");
        replica
            .env("LD_PRELOAD", &library)
            .env("SCANNER_SCAN__PREFILTER", "false")
            .env("SCANNER_SCAN__ISOLATION", "none")
            .start()
    };
    // Two ends for each record that crashes.
    let mut committed = Vec::new();
    for _ in 0..6 {
        let mut scanner = start();
        let status = scanner.wait(PATIENCE);
        assert_eq!(status.code(), None, "{status}: {}", scanner.output());
        committed.push(scene.committed()[&0]);
    }
    // At the third start the first is not scanned, and committed before the second can end the process.
    assert!(committed[2] >= 6, "{committed:?}");
    assert!(committed[4] >= 7, "{committed:?}");
    let mut scanner = start();
    scene.wait_until_committed(PATIENCE);
    let answers = scene.answers();
    assert_all_answered(&answers, &places.into_iter().collect());
    for (number, answer) in answers.iter().map(|answer| (answer.place().1, answer)) {
        let crashes = crashing.contains(&usize::try_from(number).unwrap());
        let status = if crashes { "error" } else { "clean" };
        assert_eq!(answer.status(), status, "{number}");
    }
    let letters = scene.broker.read_all(&scene.dead_letters);
    assert_eq!(letters.len(), crashing.len(), "each once");
    scanner.kill();
}

const REPLICAS: [&str; 3] = ["scanner-0", "scanner-1", "scanner-2"];
/// Records that crash libclamav, and records between two of these.
const CRASHERS: usize = 100;
const BETWEEN: usize = 9;
const BETWEEN_CRASHES: Duration = Duration::from_millis(50);

/// Proves: with isolation each of 100 records that crash libclamav costs one result and one dead letter. Every other record is answered, and
/// no replica leaves its group. Prints how long a record waits that comes right behind such a record, in the same partition.
#[test]
fn a_hundred_records_that_crash_libclamav_cost_their_own_results_and_no_rebalance() {
    let partitions = i32::try_from(REPLICAS.len()).unwrap();
    let scene = Scene::new(Broker::shared(), "crashers", partitions);
    let library = crashing_library(&scene);
    let mut replicas = REPLICAS.map(|name| {
        let replica = scene.replica(name).env("LD_PRELOAD", &library);
        let replica = replica.env("SCANNER_SCAN__ISOLATION", "process");
        replica.env("SCANNER_SCAN__PREFILTER", "false").start()
    });
    for replica in &mut replicas {
        replica.wait_until_ready(PATIENCE);
    }
    let replicas = replicas.each_ref();
    scene.wait_until_shared(&replicas, &[1, 1, 1], PATIENCE);
    let total = |name: &str| -> f64 { replicas.iter().map(|it| it.scrape().sum(name)).sum() };
    let rebalances = total("scanner_rebalances_total");

    let mut crashers = BTreeMap::new();
    let mut behind = BTreeSet::new();
    for number in 0..CRASHERS {
        let partition = i32::try_from(number).unwrap() % partitions;
        let mut payload = line(number);
        payload.extend_from_slice(MARKER.as_bytes());
        let crasher = Outgoing::of(payload.clone()).partition(partition);
        let others = (0..BETWEEN).map(|other| {
            let partition = (partition + i32::try_from(other).unwrap()) % partitions;
            Outgoing::of(line(number * BETWEEN + other)).partition(partition)
        });
        let places = scene.produce([crasher].into_iter().chain(others));
        crashers.insert(places[0], payload);
        behind.insert(places[1]);
        thread::sleep(BETWEEN_CRASHES);
    }
    let answers = scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    assert_answered_once(&answers, &scene.places());
    for answer in &answers {
        let status = match crashers.contains_key(&answer.place()) {
            true => "error",
            false => "clean",
        };
        assert_eq!(answer.status(), status, "{:#}", answer.json);
    }

    let letters = scene.broker.read_all(&scene.dead_letters);
    let mut payloads: Vec<_> = letters
        .iter()
        .map(|it| it.payload.clone().unwrap())
        .collect();
    payloads.sort_unstable();
    let mut expected: Vec<_> = crashers.into_values().collect();
    expected.sort_unstable();
    assert!(payloads == expected, "{} dead letters", letters.len());
    let reason = ("reason".to_owned(), Some(b"crash".to_vec()));
    for letter in &letters {
        assert!(letter.headers.contains(&reason), "{:?}", letter.headers);
    }
    assert_eq!(
        total("scanner_rebalances_total"),
        rebalances,
        "partitions moved"
    );
    // The process that was there, and the one for the record alone; both for its raw text and for its body. Records that are scanned at the
    // same time share the first.
    let crashes = total("scanner_scanning_process_crashes_total");
    let crashers = CRASHERS as f64;
    assert!(
        crashes >= 2.0 * crashers && crashes <= 4.0 * crashers,
        "{crashes} crashes"
    );

    let waited = answers.iter().filter(|it| behind.contains(&it.place()));
    let mut waited: Vec<_> = waited.map(Answer::waited_ms).collect();
    waited.sort_unstable();
    let longest = |it: &&Scanner| {
        it.scrape()
            .get("scanner_scanning_process_longest_outage_seconds")
    };
    let longest = replicas.iter().map(longest).fold(0.0, f64::max);
    announce!(
        "crash: {CRASHERS} crashes cost the records behind them p50 {} ms, p99 {} ms from their production to their results; \
         longest time without a scanning process {:.1} ms",
        waited[CRASHERS / 2],
        waited[CRASHERS * 99 / 100 - 1],
        longest * 1e3
    );
}
