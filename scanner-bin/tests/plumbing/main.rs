//! What the way through the service costs where nothing is scanned: the poll thread, a worker that writes the full result of each
//! record, the egress thread and the commits, beside a bare relay that consumes the same records and produces the same results.
//!
//! `make compare-plumbing` measures it on a release build and holds it to its bound; otherwise it goes the same way with few
//! records, and only what does not depend on time is held.

// A harness that cannot go on panics, and its modules are used here alone.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod relay;
mod service;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/threads.rs"]
mod threads;

use std::fs;
use std::time::{Duration, Instant};

use scanlib::{Message, Verdict};
use scanner_bin::result::{self, EngineState, Outcome, ScanContext, Summary};
use support::broker::Broker;
use support::client::Outgoing;
use support::scene::{Scene, assert_answered_once};
use support::{announce, corpus, wait_for};

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(300);
const INSTANCE: &str = "scanner-0";
/// The least that the service may do of what the relay does.
const LEAST: f64 = 0.8;
/// What of the records is measured: neither the start nor the end.
const MEASURED: (f64, f64) = (0.1, 0.9);

/// The result of a record in which nothing was found, as the service writes it; rules and engine are off.
fn encode(out: &mut Vec<u8>, context: &ScanContext<'_>, message: &Message<'_>) -> Summary {
    let verdict = Verdict::Clean;
    let outcome = Outcome::Scanned {
        verdict: &verdict,
        type_ignored: false,
        elapsed: Duration::ZERO,
    };
    result::encode(out, context, message, outcome, &EngineState::default())
}

/// What a round came to.
#[derive(Debug, Clone, Copy)]
struct Round {
    per_second: f64,
    /// Processor time of this program for a record, in microseconds.
    cpu_us: f64,
}

/// Processor time that this program has used.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let mut fields = stat.rsplit(')').next().unwrap().split_whitespace();
    // The 14th and 15th field of all, in ticks of 10 ms.
    let user: u64 = fields.nth(11).unwrap().parse().unwrap();
    let system: u64 = fields.next().unwrap().parse().unwrap();
    Duration::from_millis((user + system) * 10)
}

/// Watches a count of acknowledged results grow to `records`, and measures the middle of it.
fn measured(records: u64, count: impl Fn() -> u64) -> Round {
    let reached = |share: f64| {
        wait_for("results", PATIENCE, || {
            let count = count();
            (count as f64 >= records as f64 * share).then(|| (count, Instant::now(), cpu()))
        })
    };
    let (from, to) = (reached(MEASURED.0), reached(MEASURED.1));
    reached(1.0);
    let done = (to.0 - from.0) as f64;
    Round {
        per_second: done / (to.1 - from.1).as_secs_f64(),
        cpu_us: (to.2 - from.2).as_secs_f64() * 1e6 / done,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Proves: every record that goes through the service's threads has its one result; with `make compare-plumbing`: these do at
/// least 0.8 of what a bare relay of the same results does.
#[test]
fn the_way_through_the_service_costs_little_more_than_a_relay() {
    let broker = Broker::shared();
    if !broker.is_real() {
        announce!("left out: what the plumbing costs, for the embedded broker keeps too little");
        return;
    }
    let records = std::env::var("SCANNER_TEST_PLUMBING_RECORDS").ok();
    let is_heavy = records.is_some();
    let records: usize = records.map_or(12_000, |text| text.parse().expect("a number of records"));
    let lines = corpus::log_lines(if is_heavy { 3_000 } else { 600 });
    let input = Scene::new(broker, "plumbing", PARTITIONS);
    let mut left = lines
        .iter()
        .cycle()
        .zip((0..PARTITIONS).cycle())
        .take(records);
    loop {
        let round = left.by_ref().take(100_000);
        let round = round.map(|(line, partition)| Outgoing::of(line.clone()).partition(partition));
        if input.produce(round).is_empty() {
            break;
        }
    }
    // A group and an output of its own for each round, and the same input.
    let scene = |name: &str| {
        let mut scene = Scene::new(broker, name, 1);
        scene.input.clone_from(&input.input);
        scene
    };
    let (mut ratios, mut ours, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..if is_heavy { 5 } else { 1 } {
        let (through, past) = (scene("plumbing-service"), scene("plumbing-relay"));
        let service = service::run(&through, records as u64);
        let relay = relay::run(&past, &lines, records as u64);
        announce!(
            "plumbing: service {:.0} records/s, {:.2} µs of processor each; relay {:.0} records/s, {:.2} µs",
            service.per_second,
            service.cpu_us,
            relay.per_second,
            relay.cpu_us
        );
        if round == 0 && !is_heavy {
            assert_same(&through, &past);
        }
        ratios.push(service.per_second / relay.per_second);
        ours.push(service.cpu_us);
        bare.push(relay.cpu_us);
    }
    let ratio = median(ratios.clone());
    announce!(
        "plumbing: the service does {ratio:.3} of what the relay does, with {:.2} and {:.2} µs of processor for a record \
         ({records} records, medians of {} rounds)",
        median(ours),
        median(bare),
        ratios.len()
    );
    if is_heavy {
        assert!(ratio >= LEAST, "{ratios:?}");
    }
}

/// Panic unless both have answered each record once, and with results that differ in nothing but when and where from.
fn assert_same(service: &Scene<'_>, relay: &Scene<'_>) {
    let answers = service.answers();
    assert_answered_once(&answers, &service.places());
    answers[..100]
        .iter()
        .for_each(support::scene::Answer::assert_valid);
    assert_eq!(service.committed(), service.broker.ends(&service.input));
    let size = |scene: &Scene<'_>| -> Vec<usize> {
        let records = scene.broker.read_all(&scene.output);
        records
            .iter()
            .map(|record| record.payload.as_ref().unwrap().len())
            .collect()
    };
    let (ours, theirs) = (size(service), size(relay));
    assert_eq!(ours.len(), theirs.len());
    let sum = |sizes: &[usize]| sizes.iter().sum::<usize>() as f64;
    let ratio = sum(&ours) / sum(&theirs);
    // An offset has a digit more or less.
    assert!(
        (0.99..1.01).contains(&ratio),
        "results of the service are {ratio} times as long"
    );
}
