//! Records that keep libclamav busy for seconds delay their own partition, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use support::broker::Broker;
use support::client::Outgoing;
use support::process::{Launch, Scanner};
use support::scene::{Answer, Place, Scene, assert_answered_once, assert_in_order, line};

/// A bzip2 file of 99 MiB of zeros.
const BZIP2: &str = "QlpoOTFBWSZTWQ4J4t8BX45AAMAAAAggADCATUZCoCWpCoCXMUFZJlNZDgni3wFfjkAAwAAACCAAMIBNRkKgJakKgJcxQVkmU1kOZW/2AFv+SADAABAAAAggADDMCappqAEW1IAReLuSKcKEgVKJCaA=";

/// A log line with two different ones in base64: libclamav unpacks and matches all of their content that its limits allow, which takes seconds.
fn bomb() -> Outgoing {
    let file = BASE64_STANDARD.decode(BZIP2).unwrap();
    let files = [1_u8, 2].map(|number| BASE64_STANDARD.encode([&file[..], &[number; 3]].concat()));
    Outgoing::of(format!("<13>Oct 20 02:44:02 web app: {}", files.join(" ")))
}

/// How long the records of other partitions may take, which wait for one bomb at the most.
const SECONDS: Duration = Duration::from_secs(20);
/// How long everything may take.
const A_MINUTE_OR_SO: Duration = Duration::from_secs(180);

/// A record that libclamav has to see, and is quick to judge.
fn html(number: usize) -> Vec<u8> {
    format!("<13>Oct 20 02:44:02 web app: comment {number}: <html><script>x()</script></html>")
        .into_bytes()
}

/// A replica with limits under which a bomb takes seconds.
fn patient(scene: &Scene<'_>, instance: &str) -> Launch {
    scene
        .replica(instance)
        .env("SCANNER_SCAN__MAX_FILE_BYTES", "100MiB")
        .env("SCANNER_SCAN__MAX_SCAN_BYTES", "400MiB")
}

/// Follows the output topic until all of these records are answered. Fails if that takes longer than `timeout`.
fn wait_for_answers(scene: &Scene<'_>, places: &BTreeSet<Place>, timeout: Duration) {
    let started = Instant::now();
    let mut missing = places.clone();
    let mut seen = 0;
    scene
        .broker
        .read_until(&scene.output, timeout * 2, |records| {
            for record in &records[seen..] {
                missing.remove(&Answer::of(record.clone()).place());
            }
            seen = records.len();
            let (left, took) = (missing.len(), started.elapsed());
            assert!(
                took < timeout,
                "{left} records are not answered after {took:?}"
            );
            missing.is_empty()
        });
}

fn assert_healthy(scanner: &Scanner) {
    for probe in ["/livez", "/readyz"] {
        let (status, text) = scanner.get(probe).unwrap();
        assert_eq!(status, 200, "{probe}: {text}");
    }
}

/// Proves: with one thread, and bombs on one partition, the records of the other partitions are answered within seconds, those that
/// libclamav has to see among them; then everything is answered, once and in order.
#[test]
fn bombs_on_one_partition_do_not_delay_the_others() {
    const PARTITIONS: i32 = 6;
    const BOMBS: usize = 15;
    let scene = Scene::new(Broker::shared(), "bombs", PARTITIONS);
    let mut scanner = patient(&scene, "scanner-0").start();
    scanner.wait_until_ready(Duration::from_secs(60));
    // The bombs first, and ordinary records behind each of them.
    let bombs = (0..BOMBS).map(|_| bomb().partition(0));
    let mut places = scene.produce(bombs);
    let ordinary = (0..3_000).map(|number| {
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        let text = match number / 6 % 100 {
            50 => html(number),
            _ => line(number),
        };
        Outgoing::of(text).partition(partition)
    });
    places.extend(scene.produce(ordinary));
    let others = places
        .iter()
        .copied()
        .filter(|(partition, _)| *partition != 0);
    wait_for_answers(&scene, &others.collect(), SECONDS);
    assert_healthy(&scanner);
    let places: BTreeSet<Place> = places.into_iter().collect();
    wait_for_answers(&scene, &places, A_MINUTE_OR_SO);
    assert_healthy(&scanner);
    let answers = scene.answers();
    assert_answered_once(&answers, &places);
    assert_in_order(&answers);
    let bombs = answers.iter().filter(|answer| {
        let (partition, offset) = answer.place();
        partition == 0 && offset < i64::try_from(BOMBS).unwrap()
    });
    for bomb in bombs {
        assert!(
            ["clean", "partial"].contains(&bomb.status()),
            "{:#}",
            bomb.json
        );
    }
    scene.wait_until_committed(SECONDS);
}

/// Proves: records that wait for libclamav do not keep a partition from going to another replica, and are answered there, once.
#[test]
fn a_partition_moves_while_its_records_wait_for_libclamav() {
    const PARTITIONS: i32 = 4;
    let scene = Scene::new(Broker::shared(), "bombs-move", PARTITIONS);
    // A record that libclamav has in hand is finished.
    let replica = |name| {
        patient(&scene, name)
            .env("SCANNER_KAFKA__SESSION_TIMEOUT", "60s")
            .env("SCANNER_KAFKA__REVOKE_TIMEOUT", "30s")
    };
    let mut first = replica("scanner-0").start();
    first.wait_until_ready(Duration::from_secs(60));
    let records = (0..400).map(|number| {
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        let record = match number / 4 % 20 {
            0 if partition < 2 && number < 240 => bomb(),
            10 => Outgoing::of(html(number)),
            _ => Outgoing::of(line(number)),
        };
        record.partition(partition)
    });
    let places = scene.produce(records);
    let mut second = replica("scanner-1").start();
    second.wait_until_ready(Duration::from_secs(60));
    scene.wait_until_shared(&[&first, &second], &[2, 2], Duration::from_secs(60));
    let places: BTreeSet<Place> = places.into_iter().collect();
    wait_for_answers(&scene, &places, A_MINUTE_OR_SO);
    let answers = scene.answers();
    assert_answered_once(&answers, &places);
    assert_in_order(&answers);
    scene.wait_until_committed(SECONDS);
    for scanner in [&first, &second] {
        assert_healthy(scanner);
        let timeouts = scanner.scrape().sum("scanner_drain_timeouts_total");
        assert_eq!(timeouts, 0.0, "a drain waited for records in the queue");
    }
}
