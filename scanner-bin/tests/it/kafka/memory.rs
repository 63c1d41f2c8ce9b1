//! What the way from Kafka to Kafka may hold is said, and held, when scanning is slow and batches expand many times; and what is held
//! back is not fetched twice.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use support::broker::Broker;
use support::process::Scanner;
use support::scene::{Scene, line};
use support::{announce, wait_for};

const PATIENCE: Duration = Duration::from_secs(120);
/// What the process may take of what it says.
const TOLERANCE: f64 = 1.25;
/// What may be fetched of what is consumed.
const REFETCH: f64 = 1.02;

/// A replica that scans slowly: libclamav looks at every view of every record.
fn slow(scene: &Scene<'_>) -> Scanner {
    let mut scanner = scene
        .replica("scanner-0")
        .env("SCANNER_SCAN__PREFILTER", "false")
        .start();
    scanner.wait_until_ready(PATIENCE);
    scanner
}

fn resident_bytes(scanner: &Scanner) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", scanner.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<f64>().unwrap() * 1024.0
}

/// Writes so many records to each partition, in batches as this client makes them. The records repeat themselves.
fn fill(scene: &Scene<'_>, partitions: i32, each: usize, client: &ClientConfig) {
    let producer: ThreadedProducer<DefaultProducerContext> = client.create().unwrap();
    let lines: Vec<Vec<u8>> = (0..100).map(line).collect();
    for number in 0..each {
        for partition in 0..partitions {
            let mut record = BaseRecord::<[u8], [u8]>::to(&scene.input)
                .payload(&lines[number % lines.len()])
                .partition(partition);
            while let Err((_, returned)) = producer.send(record) {
                record = returned;
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// Proves: however far ahead of the scanner the topic is, and however well its batches are compressed, the process holds no more than it says.
/// Were all of it fetched, it would be half a gigabyte.
#[test]
fn the_memory_that_is_said_is_held_behind_a_slow_scanner() {
    const PARTITIONS: i32 = 64;
    const EACH: usize = 26_000;
    let scene = Scene::new(Broker::shared(), "memory", PARTITIONS);
    let idle = slow(&scene);
    thread::sleep(Duration::from_secs(3));
    let before = resident_bytes(&idle);
    idle.terminate();

    let mut client = scene.broker.client();
    client
        .set("linger.ms", "50")
        .set("compression.codec", "zstd");
    fill(&scene, PARTITIONS, EACH, &client);

    let mut scanner = slow(&scene);
    let said = scanner.scrape().sum("scanner_memory_budget_bytes");
    assert!(said > 0.0, "{}", scanner.output());
    let started = Instant::now();
    let mut most = 0_f64;
    while started.elapsed() < Duration::from_secs(15) {
        most = most.max(resident_bytes(&scanner) - before);
        thread::sleep(Duration::from_millis(100));
    }
    let answered = scanner.scrape().sum("scanner_results_produced_total");
    scanner.kill();
    let mib = |bytes: f64| (bytes / f64::from(1 << 20)).round();
    announce!(
        "memory: {} MiB at the most beside {} MiB when idle, of {} MiB that are said; {answered} records answered meanwhile",
        mib(most),
        mib(before),
        mib(said)
    );
    assert!(answered > 0.0, "it worked all the time");
    assert!(
        answered < f64::from(PARTITIONS) * EACH as f64 / 2.0,
        "it was always behind"
    );
    assert!(
        most <= said * TOLERANCE,
        "{} of {} MiB",
        mib(most),
        mib(said)
    );
}

/// Proves: a partition whose turn has not come keeps what was fetched for it.
#[test]
fn what_waits_for_a_slow_scanner_is_fetched_once() {
    const PARTITIONS: i32 = 16;
    const EACH: usize = 3_000;
    let scene = Scene::new(Broker::shared(), "refetch", PARTITIONS);
    // Small batches: each partition is fetched several times, and stops in between.
    let mut client = scene.broker.client();
    client
        .set("linger.ms", "5")
        .set("batch.num.messages", "100");
    fill(&scene, PARTITIONS, EACH, &client);
    let mut scanner = slow(&scene);
    let all = f64::from(PARTITIONS) * EACH as f64;
    let fetched = wait_for("all records are fetched and answered", PATIENCE, || {
        let scrape = scanner.scrape();
        let answered = scrape.sum("scanner_results_produced_total") >= all;
        // The client tells every 5 s.
        let fetched = scrape.sum("scanner_messages_fetched_total");
        (answered && fetched >= all).then_some(fetched)
    });
    thread::sleep(Duration::from_secs(6));
    let scrape = scanner.scrape();
    assert_eq!(scrape.sum("scanner_messages_consumed_total"), all);
    let fetched = fetched.max(scrape.sum("scanner_messages_fetched_total"));
    announce!("memory: {fetched} records were fetched for {all}");
    assert!(fetched <= all * REFETCH, "{fetched} of {all}");
    scanner.kill();
}
