//! Do two workers judge twice as many as one? Messages that the prefilter clears, and beside them libclamav's own path.
//!
//! One worker and two take turns, `BENCH_ROUNDS` (9) times for a second each; each worker has all lines, and its own scanner. The middle ratio
//! counts: a machine that others use gives and takes a third from one second to the next.

// A bench that cannot go on panics, and nobody documents a program's parts.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use benches::{databases, engine, is_only_tested, log_lines, number, surroundings};
use scanlib::prefilter::{Gate, Scratch};
use scanlib::{Detector, Payload, Request, Scanner, ViewSet};

/// Lines of the logs, and of those every so many for libclamav itself.
const LINES: usize = 20_000;
const STEP: usize = 100;
/// As many at a time as a batch of records has.
const AT_A_TIME: usize = 256;
const WINDOW: Duration = Duration::from_secs(1);

/// Messages a second of so many workers, where `scan` has a worker's scanner judge all of them once and says how many they were.
fn rate(
    workers: usize,
    detector: &Detector,
    scan: &(impl Fn(&mut Scanner) -> usize + Sync),
) -> f64 {
    let ready = Barrier::new(workers);
    let worker = || {
        let mut scanner = detector.scanner();
        // What is allocated once is not in the time.
        scan(&mut scanner);
        ready.wait();
        let (since, mut messages) = (Instant::now(), 0);
        while since.elapsed() < WINDOW {
            messages += scan(&mut scanner);
        }
        messages as f64 / since.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        all.into_iter()
            .map(|one| one.join().expect("a worker"))
            .sum()
    })
}

fn compare(name: &str, detector: &Detector, scan: impl Fn(&mut Scanner) -> usize + Sync) {
    let rounds = number("BENCH_ROUNDS", 9);
    let mut ratios: Vec<f64> = (0..rounds)
        .map(|round| {
            let (one, two) = (rate(1, detector, &scan), rate(2, detector, &scan));
            let ratio = two / one;
            println!(
                "| {name} | {} | {one:.0} | {two:.0} | {ratio:.2} |",
                round + 1
            );
            ratio
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("| {name} | middle | | | **{:.2}** |", ratios[rounds / 2]);
}

fn main() {
    if is_only_tested() {
        return;
    }
    println!("{}", surroundings());
    let set = databases("official-");
    let engine = engine(set.as_ref().map(|set| set.path()), true);
    let lines = log_lines(LINES);
    let mut scratch = Scratch::default();
    let is_cleared =
        |line: &&Vec<u8>| engine.prefilter().check(line, &mut scratch) == Gate::Cleared;
    let cleared: Vec<&[u8]> = lines.iter().filter(is_cleared).map(Vec::as_slice).collect();
    let detector = Detector::builder()
        .views(ViewSet::RAW)
        .engine(engine.clone());
    let detector = detector.build().expect("a detector");
    println!("{} of {} lines are cleared\n", cleared.len(), lines.len());
    println!("| path | round | one worker, messages/s | two workers | ratio |");
    println!("|---|---:|---:|---:|---:|");
    let request = Request::new();
    compare("cleared", &detector, |scanner| {
        for batch in cleared.chunks(AT_A_TIME) {
            scanner
                .scan_each(batch, &request)
                .for_each(|report| drop(report.expect("the scan failed")));
        }
        cleared.len()
    });
    compare("libclamav's own", &detector, |_| {
        let some = cleared.iter().step_by(STEP);
        let scan = |line: &&[u8]| {
            drop(
                engine
                    .scan(Payload::Bytes(line), &request)
                    .expect("the scan failed"),
            )
        };
        some.map(scan).count()
    });
}
