//! How much memory more workers take: each has a thread and buffers, all share one engine and one prefilter.
//!
//! One to eight workers, each number in a process of its own, are measured after a thousand scans each (`BENCH_SCANS`), all still there. On
//! the ordinary path nearly all is cleared; on the other the prefilter is off, so that each scan is libclamav's. Fails if eight workers take
//! 2 % more than one on the first, or a worker 1 MB on the second.

// A bench that cannot go on panics, and nobody documents a program's parts.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread;

use benches::child::{self, tell};
use benches::memory::own_bytes;
use benches::{databases, engine, is_only_tested, log_lines, number, surroundings};
use scanlib::{Detector, Parser, Request, RuleSet, Verdict, ViewSet, hold_little_memory};

const MOST_WORKERS: usize = 8;
/// From one worker to eight, on the ordinary path.
const MOST_GROWTH: f64 = 0.02;
/// For each worker more where libclamav looks at everything: what it holds is its own and the C library's, whatever the signatures.
const MOST_BYTES: f64 = 1e6;
/// The ordinary path, and the one on which libclamav looks at everything.
const PATHS: [&str; 2] = ["all views and rules, prefilter on", "raw, prefilter off"];

/// So many workers, each with its scans.
fn child(path: &str) {
    // As the service does.
    hold_little_memory();
    let ordinary = path == PATHS[0];
    let (workers, scans) = (number("BENCH_WORKERS", 1), number("BENCH_SCANS", 1000));
    let lines = log_lines(scans);
    let dir = std::env::var("BENCH_SET").ok();
    let engine = engine(dir.as_deref().map(Path::new), ordinary);
    assert_eq!(engine.prefilter().off().is_none(), ordinary);
    let detector = match ordinary {
        true => Detector::builder().rules(RuleSet::builtin()),
        false => Detector::builder().views(ViewSet::RAW),
    };
    let detector = detector.engine(engine).build().expect("a detector");
    // Every worker says that its scans are done, and stays until this is given free.
    let stay = Mutex::new(());
    let (done, all_done) = mpsc::channel();
    let worker = |start: usize, done: Sender<()>| {
        let (mut scanner, parser) = (detector.scanner(), Parser::default());
        let first = start * lines.len() / workers;
        for line in lines.iter().cycle().skip(first).take(scans) {
            let report = scanner.scan_message(&parser.parse(line), &Request::new());
            let verdict = report.expect("the scan failed").verdict;
            assert!(
                !matches!(verdict, Verdict::Incomplete { .. }),
                "{verdict:?}"
            );
        }
        done.send(()).expect("somebody waits for it");
        drop(done);
        drop(stay.lock());
        scanner.stats().engine_calls
    };
    let calls: u64 = thread::scope(|scope| {
        let staying = stay.lock();
        let worker = &worker;
        let all: Vec<_> = (0..workers)
            .map(|start| {
                let done = done.clone();
                scope.spawn(move || worker(start, done))
            })
            .collect();
        drop(done);
        assert_eq!(all_done.iter().count(), workers, "a worker failed");
        tell("own", own_bytes() as f64);
        drop(staying);
        all.into_iter()
            .map(|one| one.join().expect("a worker"))
            .sum()
    });
    tell("calls", calls as f64);
    let expected = (workers * scans) as u64;
    assert!(
        ordinary || calls == expected,
        "libclamav was asked {calls} times, not {expected}"
    );
}

fn main() {
    match child::role() {
        Some(path) => return child(&path),
        None if is_only_tested() => return,
        None => println!("{}", surroundings()),
    }
    let set = databases("official-");
    let dir = set
        .as_ref()
        .map(|set| set.path().to_string_lossy().into_owned());
    if set.is_none() {
        println!(
            "with the built-in signature, where an engine takes next to nothing: growth says little"
        );
    }
    let scans = number("BENCH_SCANS", 1000);
    for path in PATHS {
        println!("\n{path}; {scans} scans for each worker\n");
        println!("| workers | MB | more than one, each | growth | libclamav was asked |");
        println!("|---:|---:|---:|---:|---:|");
        let mut one = None;
        for workers in 1..=MOST_WORKERS {
            let count = workers.to_string();
            let mut variables = vec![("BENCH_WORKERS", count.as_str())];
            variables.extend(dir.as_deref().map(|dir| ("BENCH_SET", dir)));
            let numbers = child::measure(path, &variables);
            let taken = numbers.get("own");
            let one = *one.get_or_insert(taken);
            let (growth, each) = (
                taken / one - 1.0,
                (taken - one) / (workers as f64 - 1.0).max(1.0),
            );
            println!(
                "| {workers} | {:.1} | {:.2} | {:.2} % | {} |",
                taken / 1e6,
                each / 1e6,
                100.0 * growth,
                numbers.get("calls")
            );
            let is_little = match path == PATHS[0] {
                true => set.is_none() || growth < MOST_GROWTH,
                false => each < MOST_BYTES,
            };
            assert!(is_little, "{workers} workers take too much");
        }
    }
}
