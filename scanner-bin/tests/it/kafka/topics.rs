//! Topics that are not what they were: with gaps, made anew under their name, with nobody to take what is written. Needs a real Apache Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::announce;
use support::broker::Broker;
use support::client::Outgoing;
use support::process::Scanner;
use support::scene::{LARGE, Place, Scene, assert_answered_once, line, load};
use support::wait_for;

const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(120);

/// The shared broker, if it is a real one; else says what is left out.
fn real(what: &str) -> Option<&'static Broker> {
    let broker = Broker::shared();
    if !broker.is_real() {
        announce!("left out: {what}; there is no real Apache Kafka");
        return None;
    }
    Some(broker)
}

/// Until the replica says that nothing waits.
fn wait_until_no_lag(scanner: &Scanner) {
    wait_for("no lag", PATIENCE, || {
        let metrics = scanner.scrape();
        let lag = metrics.sum("scanner_consumer_lag_messages")
            + metrics.sum("scanner_consumer_lag_committed_messages");
        (lag == 0.0).then_some(())
    });
}

/// Proves: offsets that hold no record, as compaction and transactions leave them, hold nothing up: every record there is is answered once,
/// everything is committed up to the end, and no lag is left.
#[test]
fn offsets_without_a_record_are_passed_over_to_the_end() {
    pass_gaps("at-least-once");
}

/// Proves: the same with exactly-once delivery, where a transaction takes the offset to the end.
#[test]
fn offsets_without_a_record_are_passed_over_in_transactions() {
    pass_gaps("exactly-once");
}

fn pass_gaps(delivery: &str) {
    let Some(broker) = real("gaps of compaction and of transactions") else {
        return;
    };
    let scene = Scene::without_topics(broker, "gaps");
    let compact = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("segment.ms", "500"),
        ("delete.retention.ms", "0"),
    ];
    broker.create_topic(&scene.input, PARTITIONS, &compact);
    broker.create_topic(&scene.output, 1, &[LARGE]);
    broker.create_topic(&scene.dead_letters, 1, &[LARGE]);
    let keyed = |from: usize| {
        let record = move |n: usize| {
            let of = Outgoing::of(line(n)).key(format!("host-{}", n % 7));
            of.partition(n as i32 % PARTITIONS)
        };
        (from..from + 600).map(record)
    };
    scene.produce(keyed(0));
    // What is written after a moment is in a new segment, and lets the ones before be compacted.
    std::thread::sleep(Duration::from_millis(700));
    scene.produce(keyed(600));
    abort_a_transaction(&scene);
    let left = wait_for("compaction", PATIENCE, || {
        let left: BTreeSet<Place> = broker
            .read_all(&scene.input)
            .into_iter()
            .map(|record| (record.partition, record.offset))
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        (left.len() < 700).then_some(left)
    });

    let launch = scene.replica("scanner-0");
    let mut scanner = launch.env("SCANNER_KAFKA__DELIVERY", delivery).start();
    scene.wait_until_committed(PATIENCE);
    wait_until_no_lag(&scanner);
    let answers = scene.answers();
    // Compaction goes on: what was there at first may not be there any more.
    assert!(answers.len() <= left.len());
    let still: BTreeSet<Place> = broker
        .read_all(&scene.input)
        .into_iter()
        .map(|record| (record.partition, record.offset))
        .collect();
    let answered: BTreeSet<Place> = answers.iter().map(|answer| answer.place()).collect();
    assert_answered_once(&answers, &answered);
    assert!(answered.is_superset(&still) && answered.is_subset(&left));
    scanner.terminate();
    assert_eq!(scanner.wait(PATIENCE).code(), Some(0));
    assert_eq!(scene.committed(), broker.ends(&scene.input));
    announce!(
        "topics: {delivery}: {} records at 1240 offsets and some markers were answered once, and everything is committed",
        answers.len()
    );
}

/// Leaves records that nobody is to read, and the end of their transaction, behind everything else.
fn abort_a_transaction(scene: &Scene<'_>) {
    let producer: BaseProducer = scene
        .broker
        .client()
        .set("transactional.id", &scene.group)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    for n in 0..40 {
        let text = line(n);
        let record = BaseRecord::<[u8], [u8]>::to(&scene.input)
            .key(&b"taken back"[..])
            .payload(&text[..])
            .partition(n as i32 % PARTITIONS);
        producer.send(record).map_err(|(why, _)| why).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
}

/// Proves: when the topic is deleted and made anew under the same name, with more records than it had, the replica that was at work on
/// the old one says so and ends, instead of standing still or going on in the middle; and the next one reads the new topic from its start.
#[test]
fn a_topic_made_anew_is_read_from_its_start() {
    let Some(broker) = real("a topic that is made anew") else {
        return;
    };
    let scene = Scene::new(broker, "anew", PARTITIONS);
    let mut scanner = scene.ready_replica("scanner-0");
    scene.produce(load(200, PARTITIONS));
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    let before = scene.answers().len();

    broker.delete_topic(&scene.input);
    broker.create_topic(&scene.input, PARTITIONS, &[LARGE]);
    scene.produce(load(500, PARTITIONS));
    let status = scanner.wait(PATIENCE);
    assert_ne!(status.code(), Some(0));
    let why = scanner.wait_for_line(PATIENCE, |line| line.contains("was deleted"));
    assert!(
        why.contains("Start the service again") && why.contains(&scene.input),
        "{why}"
    );

    let mut scanner = scene.ready_replica("scanner-0");
    let answers = wait_for("the records of the new topic", PATIENCE, || {
        let answers = scene.answers().split_off(before);
        let places: BTreeSet<Place> = answers.iter().map(|answer| answer.place()).collect();
        std::thread::sleep(Duration::from_millis(300));
        (places == scene.places()).then_some(answers)
    });
    scene.wait_until_committed(PATIENCE);
    wait_until_no_lag(&scanner);
    scanner.terminate();
    assert_eq!(scanner.wait(PATIENCE).code(), Some(0));
    announce!(
        "topics: made anew, {} records have {} answers",
        scene.places().len(),
        answers.len()
    );
}

/// Proves: while the output topic is gone, nothing is lost and nothing becomes a dead letter; `/livez` stays 200, `/readyz` tells, and once it
/// is there again each record that came meanwhile has its one answer.
#[test]
fn an_output_topic_that_takes_nothing_costs_nothing() {
    const SHORT: u64 = 15;
    let seconds = std::env::var("SCANNER_TEST_AWAY_SECONDS");
    let seconds = seconds.map_or(SHORT, |text| text.parse().expect("a number of seconds"));
    let away = Duration::from_secs(seconds);
    let Some(broker) = real("an output topic that takes nothing") else {
        return;
    };
    let scene = Scene::new(broker, "away", PARTITIONS);
    let mut scanner = scene.ready_replica("scanner-0");
    scene.produce(load(100, PARTITIONS));
    scene.wait_until_answered(PATIENCE);

    let before = scene.places();
    broker.delete_topic(&scene.output);
    let until = Instant::now() + away;
    scene.produce(load(2_000, PARTITIONS));
    let reason = wait_for("readiness to fail", PATIENCE, || {
        let (status, reason) = scanner.get("/readyz").unwrap();
        (status == 503).then_some(reason)
    });
    while Instant::now() < until {
        assert_eq!(scanner.get("/livez").unwrap().0, 200);
        std::thread::sleep(Duration::from_millis(300));
    }
    broker.create_topic(&scene.output, 1, &[LARGE]);
    scanner.wait_until_ready(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    let after: BTreeSet<Place> = scene.places().difference(&before).copied().collect();
    assert_answered_once(&scene.answers(), &after);
    assert_eq!(scanner.scrape().sum("scanner_dlq_produced_total"), 0.0);
    scanner.terminate();
    assert_eq!(scanner.wait(PATIENCE).code(), Some(0));
    assert_eq!(scene.committed(), broker.ends(&scene.input));
    announce!("topics: {away:?} without an output topic; /readyz said {reason}");
}
