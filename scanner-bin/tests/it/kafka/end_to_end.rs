//! Real log messages through a real broker: each answered once, in order, with the verdict that the library gives.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use support::announce;
use support::broker::Broker;
use support::client::Outgoing;
use support::corpus::log_lines;
use support::judgement::{detector, judged_by_service, judged_offline};
use support::scene::{LARGE, Scene, assert_answered_once, assert_in_order, line, planted};

const PARTITIONS: i32 = 6;
const LINES: usize = 600;
const PATIENCE: Duration = Duration::from_secs(120);

/// Log lines with the planted messages among them, on all partitions, with keys of every kind.
fn traffic() -> Vec<Outgoing> {
    let mut payloads = log_lines(LINES);
    for (index, (payload, _)) in planted().into_iter().enumerate() {
        payloads.insert(50 + 131 * index, payload);
    }
    let with_key = |(number, payload): (usize, Vec<u8>)| {
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        let record = Outgoing::of(payload).partition(partition);
        match number % 5 {
            0 => record,
            1 => record.key(format!("host-{}", number % 17)),
            2 => record.key([0xff, 0xfe, b'k', (number % 17) as u8]),
            3 => record.key(""),
            _ => record.key("same").header("trace", "not for the result"),
        }
    };
    payloads.into_iter().enumerate().map(with_key).collect()
}

/// Proves: every record of six partitions gets exactly one result, and that result is the right one in every part.
#[test]
fn each_record_is_answered_once_in_order_with_the_librarys_verdict() {
    let broker = Broker::shared();
    let scene = Scene::without_topics(broker, "all");
    broker.create_topic(&scene.input, PARTITIONS, &[LARGE]);
    broker.create_topic(&scene.output, 3, &[LARGE]);
    broker.create_topic(&scene.dead_letters, 1, &[LARGE]);

    let sent = traffic();
    let places = scene.produce(sent.clone());
    let by_place: BTreeMap<_, _> = places.iter().copied().zip(&sent).collect();

    let mut scanner = scene.replica("scanner-0").flag("--threads", "2").start();
    scanner.wait_until_ready(Duration::from_secs(60));
    scene.wait_until_answered(PATIENCE);
    support::wait_for("metrics of all of it", Duration::from_secs(10), || {
        (scanner.scrape().sum("scanner_results_produced_total") == sent.len() as f64).then_some(())
    });
    let metrics = scanner.scrape();
    scanner.terminate();
    let status = scanner.wait(Duration::from_secs(30));

    assert_eq!(status.code(), Some(0), "{}", scanner.output());
    assert_eq!(scene.committed(), broker.ends(&scene.input));
    let answers = scene.answers();
    assert_answered_once(&answers, &places.iter().copied().collect());
    assert_in_order(&answers);
    assert_eq!(broker.ends(&scene.dead_letters), [(0, 0)].into());

    let detector = detector();
    let mut verdicts = BTreeMap::<String, u32>::new();
    let mut partition_of_key = BTreeMap::new();
    for answer in &answers {
        let record = by_place[&answer.place()];
        let payload = record.payload.as_deref().unwrap();
        answer.assert_valid();
        assert_eq!(
            judged_by_service(answer),
            judged_offline(&detector, payload),
            "{:#}",
            answer.json
        );
        assert_eq!(
            answer.record.key, record.key,
            "the key is not the record's own"
        );
        let value = |name: &str| Some(answer.json[name].as_str().unwrap().as_bytes().to_vec());
        let headers = ["status", "severity"].map(|name| (name.to_owned(), value(name)));
        assert_eq!(answer.record.headers, headers);
        if let Some(key) = record.key.as_deref().filter(|key| !key.is_empty()) {
            let partition = *partition_of_key
                .entry(key)
                .or_insert(answer.record.partition);
            assert_eq!(
                partition, answer.record.partition,
                "results of one key are on two partitions"
            );
        }
        *verdicts.entry(answer.status().to_owned()).or_default() += 1;
    }
    for (payload, name) in planted() {
        let found = answers
            .iter()
            .find(|a| by_place[&a.place()].payload.as_ref() == Some(&payload))
            .unwrap();
        assert_eq!(found.json["threat_name"], name);
    }
    let eicar = answers
        .iter()
        .find(|a| a.json["threat_name"] == "Malicious pattern: eicar_test")
        .unwrap();
    assert!(
        eicar.json["clamav_result"]
            .as_str()
            .unwrap()
            .starts_with("Embedded.Test.Eicar")
    );

    let owned: BTreeSet<i32> = metrics
        .by_partition("scanner_partition_owned")
        .into_keys()
        .collect();
    assert_eq!(owned, (0..PARTITIONS).collect());
    assert_eq!(
        metrics.get("scanner_assigned_partitions"),
        f64::from(PARTITIONS)
    );
    assert_eq!(
        metrics.sum("scanner_messages_consumed_total"),
        sent.len() as f64
    );
    for status in ["clean", "threat", "partial", "skipped", "error"] {
        let count = f64::from(verdicts.get(status).copied().unwrap_or_default());
        assert_eq!(
            metrics.get(&format!("scanner_scan_total{{verdict=\"{status}\"}}")),
            count
        );
        assert_eq!(
            metrics.get(&format!(
                "scanner_results_produced_total{{result=\"{status}\"}}"
            )),
            count
        );
    }

    let detection = r#"{"message":"Threat detected","scan_id":""#;
    let logged = scanner
        .stdout()
        .iter()
        .filter(|line| line.starts_with(detection))
        .count();
    assert_eq!(
        logged, verdicts["threat"] as usize,
        "one log line for each threat"
    );
    announce!(
        "end to end: {} records on {PARTITIONS} partitions, verdicts {verdicts:?}",
        sent.len()
    );
}

/// Proves: `--emit threats` leaves out clean results and nothing else, and what it leaves out is still committed.
#[test]
fn only_clean_results_are_left_out_on_request_and_everything_is_committed() {
    let scene = Scene::new(Broker::shared(), "threats", PARTITIONS);
    let detector = detector();
    let sent = traffic();
    let places = scene.produce(sent.clone());
    let skipped = scene.produce([
        Outgoing::tombstone().partition(0),
        Outgoing::of(line(1)).partition(0),
    ]);

    let mut scanner = scene.replica("scanner-0").flag("--emit", "threats").start();
    scene.wait_until_committed(PATIENCE);
    scanner.terminate();
    assert_eq!(scanner.wait(Duration::from_secs(30)).code(), Some(0));
    assert_eq!(scene.committed(), scene.broker.ends(&scene.input));

    let is_clean = |record: &Outgoing| {
        judged_offline(&detector, record.payload.as_deref().unwrap()).0 == "clean"
    };
    let mut wanted: BTreeSet<_> = places
        .iter()
        .zip(&sent)
        .filter(|(_, record)| !is_clean(record))
        .map(|(place, _)| *place)
        .collect();
    wanted.insert(skipped[0]);
    let answers = scene.answers();
    assert_answered_once(&answers, &wanted);
    assert_in_order(&answers);
    assert!(answers.iter().all(|answer| answer.status() != "clean"));
    announce!(
        "emit threats: {} of {} records have a result",
        answers.len(),
        sent.len() + 2
    );
}
