//! What does isolation cost a scan? One engine in this process and one in a process of its own take turns; the middle scan counts.
//!
//! `BENCH_ROUNDS` (20) times 1,000 scans of each, for each size of message.

// A bench that cannot go on panics, and nobody documents a program's parts.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use benches::{number, surroundings, syslog_line, tmp_dir};
use scanlib::{Engine, EngineBuilder, Isolation, IsolationOptions, Library, Payload, Request};

/// Scans in a round.
const SCANS: usize = 1000;
/// A log message, the longest that goes in one packet, and one that goes in shared memory.
const BYTES: [usize; 3] = [285, 48 << 10, 64 << 10];

fn builder() -> EngineBuilder {
    EngineBuilder::new(Library::init().expect("libclamav"))
        .map(|builder| builder.builtin_signatures().expect("they ship with it"))
        .expect("libclamav")
        .tmp_dir(tmp_dir())
}

fn scans(engine: &Engine, message: &[u8], times: &mut Vec<Duration>) {
    for _ in 0..SCANS {
        let started = Instant::now();
        let scan = engine.scan(Payload::Bytes(message), &Request::new());
        times.push(started.elapsed());
        let scan = scan.expect("bytes can be read");
        assert!(scan.names.is_empty() && scan.incomplete.is_none());
    }
}

fn middle(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() {
    // Before there are threads.
    let isolation = Isolation::start().expect("processes");
    println!("{}", surroundings());
    let options = IsolationOptions::default().threads(NonZeroUsize::MIN);
    let apart = builder().isolation(&isolation, options).compile();
    let (here, apart) = (
        builder().compile().expect("it loads"),
        apart.expect("it loads"),
    );
    let status = apart.isolation().expect("it is isolated");
    println!("confined by {}\n", status.confinement);
    println!("| bytes | in this process, p50 in µs | isolated, p50 in µs | difference |");
    println!("|---:|---:|---:|---:|");
    for bytes in BYTES {
        let message = syslog_line(bytes);
        let (mut direct, mut isolated) = (Vec::new(), Vec::new());
        for _ in 0..number("BENCH_ROUNDS", 20) {
            scans(&here, &message, &mut direct);
            scans(&apart, &message, &mut isolated);
        }
        let (direct, isolated) = (middle(&mut direct), middle(&mut isolated));
        println!(
            "| {bytes} | {direct:.1} | {isolated:.1} | {:.1} |",
            isolated - direct
        );
    }
}
