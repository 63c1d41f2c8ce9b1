//! The service as a whole, in this process, on the embedded broker of librdkafka: fast enough for
//! every build, and with faults that a real broker does not have on order. What the embedded broker
//! cannot show (rebalances without repetition, real commits and restarts) is tested on a real one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::mock;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::BaseRecord;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use scanlib::eicar;
use scanner_bin::config::Emit;
use scanner_bin::ops::health::Probe;
use scanner_bin::ops::metrics::{CodeLabel, DecisionLabel};
use scanner_bin::service::ExitReport;

use mock::*;

#[test]
fn every_record_is_answered_once_in_input_order_with_its_key_and_then_committed() {
    let cluster = cluster(3);
    let lines: Vec<String> = (0..600)
        .map(|i| format!("<13>Oct 20 02:44:02 web app[{i}]: request {i} done"))
        .collect();
    produce(
        &cluster,
        lines.iter().enumerate().map(|(i, line)| match i % 3 {
            0 => text(0, line),
            1 => text(1, line).key(b"\xff\x00key"),
            _ => text(2, line).key(b""),
        }),
    );
    let service = Service::start(config(&cluster));
    let results = results(&cluster, 600);
    assert_eq!(
        service.failures(),
        "self_scan: the engine has not scanned its test data yet",
        "this test starts no self-scan"
    );
    assert_eq!(
        service.stop(),
        ExitReport {
            abandoned: 0,
            committed: true
        }
    );

    assert_eq!(results.len(), 600);
    let mut next = BTreeMap::new();
    for result in &results {
        let (partition, offset) = result.source();
        let expected = next.entry(partition).or_insert(0);
        assert_eq!(offset, *expected, "partition {partition}");
        *expected += 1;
        assert_eq!(
            result.key.as_deref(),
            [None, Some(&b"\xff\x00key"[..]), Some(&b""[..])][partition as usize]
        );
        assert_eq!(
            (result.status().as_str(), result.header("status").as_deref()),
            ("clean", Some("clean"))
        );
    }
    assert_eq!(committed(&cluster, 3), [Some(200); 3]);
}

#[test]
fn decisions_are_counted_and_a_wrong_one_is_counted_and_its_message_kept() {
    let cluster = cluster(1);
    let lines: Vec<String> = (0..200).map(|i| format!("request {i} done")).collect();
    let (before, after) = lines.split_at(100);
    let kept = temporary();
    let mut config = config(&cluster);
    config.scan.wrong_dir = Some(kept.path().to_owned());
    let service = Service::start(config);
    let metrics = &service.watch.metrics;
    let decided = |decision| {
        let label = DecisionLabel { decision };
        metrics.prefilter_decisions.get_or_create(&label).get()
    };

    produce(&cluster, before.iter().map(|line| text(0, line)));
    wait_for("all of them cleared", || decided("cleared") == 100);
    assert_eq!((decided("off"), metrics.prefilter_wrong.get()), (0, 0));

    let names = ["My.Other".to_owned()];
    service
        .prefilter
        .report_false_negative(b"a message", &names);
    produce(&cluster, after.iter().map(|line| text(0, line)));
    wait_for("none of them cleared", || decided("off") == 100);
    wait_for("results", || service.acknowledged() == 200);
    assert_eq!(decided("cleared"), 100);
    assert_eq!(metrics.prefilter_wrong.get(), 1);
    let files: Vec<_> = std::fs::read_dir(kept.path()).unwrap().collect();
    let [Ok(file)] = &files[..] else {
        panic!("{files:?}")
    };
    assert_eq!(std::fs::read(file.path()).unwrap(), b"a message");
    service.stop();
}

#[test]
fn a_stop_answers_what_was_read_and_the_next_run_goes_on_exactly_there() {
    let cluster = cluster(2);
    let lines: Vec<String> = (0..4000).map(|i| format!("line {i}")).collect();
    produce(
        &cluster,
        lines
            .iter()
            .enumerate()
            .map(|(i, line)| text(i as i32 % 2, line)),
    );
    let mut slow = config(&cluster);
    slow.kafka.inflight_messages_per_partition = 50;
    let service = Service::start(slow);
    wait_for("the first results", || service.acknowledged() > 0);
    assert_eq!(
        service.stop(),
        ExitReport {
            abandoned: 0,
            committed: true
        }
    );
    let first = results(&cluster, 1);
    assert!(
        first.len() < 4000,
        "the stop came too late to show anything"
    );
    let mut read_until = [0; 2];
    for result in &first {
        let (partition, offset) = result.source();
        read_until[partition as usize] = offset + 1;
    }
    let expected: Vec<_> = read_until
        .iter()
        .map(|end| Some(*end).filter(|end| *end > 0))
        .collect();
    assert_eq!(committed(&cluster, 2), expected);

    let service = Service::start(config(&cluster));
    let all = results(&cluster, 4000);
    service.stop();
    assert_eq!(all.len(), 4000, "no record was answered twice");
}

#[test]
fn each_kind_of_record_becomes_what_the_table_says() {
    let cluster = cluster(1);
    let eicar = format!("<13>Oct 20 02:44:02 web app: {}", eicar::text());
    let large = "x".repeat(2 << 20);
    produce(
        &cluster,
        [
            text(0, "hello"),
            text(0, &eicar),
            BaseRecord::to(INPUT).partition(0),
            text(0, ""),
            text(0, &large),
            BaseRecord::to(INPUT)
                .partition(0)
                .payload(b"\xff\xfe\x80 not UTF-8"),
            text(0, "{\"message\": broken"),
            text(0, "still alive"),
        ],
    );
    let service = Service::start(config(&cluster));
    let results = results(&cluster, 8);
    service.stop();
    let statuses: Vec<String> = results.iter().map(Received::status).collect();
    assert_eq!(
        statuses,
        [
            "clean", "threat", "skipped", "skipped", "partial", "clean", "clean", "clean"
        ]
    );
    assert_eq!(
        results[1].json()["threat_name"],
        "Malicious pattern: eicar_test"
    );
    assert_eq!(
        results[1].json()["clamav_result"],
        "Embedded.Test.Eicar.UNOFFICIAL"
    );
    assert_eq!(results[1].header("severity").as_deref(), Some("high"));
    assert_eq!(results[4].json()["limits"][0], "max_message_bytes");
    assert_eq!(results[4].json()["message_bytes"], 2 << 20);
    assert!(results[4].payload.as_ref().unwrap().len() < 64 << 10);
    assert_eq!(committed(&cluster, 1), [Some(8)]);
}

#[test]
fn clean_results_that_nobody_wants_are_committed_all_the_same() {
    let cluster = cluster(1);
    let eicar = eicar::text();
    produce(
        &cluster,
        [
            text(0, "hello"),
            text(0, &eicar),
            text(0, "hello"),
            text(0, "hello"),
        ],
    );
    let mut config = config(&cluster);
    config.kafka.emit = Emit::Threats;
    let service = Service::start(config);
    wait_for("commit of the dropped results", || {
        committed(&cluster, 1) == [Some(4)]
    });
    let results = results(&cluster, 1);
    service.stop();
    assert_eq!(
        results.iter().map(Received::source).collect::<Vec<_>>(),
        [(0, 1)]
    );
}

#[test]
fn nothing_is_committed_before_the_broker_has_acknowledged_it() {
    let cluster = cluster(1);
    let lines: Vec<String> = (0..300).map(|i| format!("line {i}")).collect();
    produce(&cluster, lines.iter().map(|line| text(0, line)));
    // Every attempt to write is refused, and repeated by the client.
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 1000],
    );
    let service = Service::start(config(&cluster));
    wait_for("results on their way", || {
        service.watch.metrics.producer_queue_messages.get() > 0
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(committed(&cluster, 1), [None]);
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let results = results(&cluster, 300);
    assert_eq!(
        service.stop(),
        ExitReport {
            abandoned: 0,
            committed: true
        }
    );
    let offsets: Vec<i64> = results.iter().map(|r| r.source().1).collect();
    assert_eq!(offsets, (0..300).collect::<Vec<_>>(), "in order, once each");
    assert_eq!(committed(&cluster, 1), [Some(300)]);
}

#[test]
fn a_stop_that_cannot_be_answered_in_time_says_what_it_abandons_and_commits_none_of_it() {
    let cluster = cluster(1);
    produce(&cluster, [text(0, "one"), text(0, "two")]);
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 1000],
    );
    let mut config = config(&cluster);
    config.kafka.drain_timeout = Duration::from_secs(1);
    let service = Service::start(config);
    wait_for("results on their way", || {
        service.watch.metrics.producer_queue_messages.get() == 2
    });
    let began = Instant::now();
    let report = service.stop();
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(report.abandoned, 2);
    assert_eq!(report.exit_code(), 3);
    assert_eq!(committed(&cluster, 1), [None]);
}

#[test]
fn a_broker_that_goes_away_and_comes_back_costs_nothing() {
    let cluster = cluster(1);
    let lines: Vec<String> = (0..2000).map(|i| format!("line {i}")).collect();
    produce(&cluster, lines.iter().map(|line| text(0, line)));
    let mut slow = config(&cluster);
    slow.kafka.inflight_messages_per_partition = 50;
    let service = Service::start(slow);
    wait_for("the first results", || service.acknowledged() > 0);
    cluster.broker_down(-1).unwrap();
    let before = service.acknowledged();
    assert!(before < 2000, "the broker went too late to show anything");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        service.watch.health.answer(Probe::Live).failures(),
        "",
        "a broker's absence is no reason to restart"
    );
    cluster.broker_up(-1).unwrap();
    let results = results(&cluster, 2000);
    assert_eq!(service.stop().abandoned, 0);
    let seen: std::collections::BTreeSet<i64> = results.iter().map(|r| r.source().1).collect();
    assert_eq!(seen.len(), 2000);
}

#[test]
fn a_full_client_queue_holds_back_and_loses_nothing() {
    let cluster = cluster(1);
    let lines: Vec<String> = (0..1000).map(|i| format!("line {i}")).collect();
    produce(&cluster, lines.iter().map(|line| text(0, line)));
    let mut config = config(&cluster);
    config
        .kafka
        .properties
        .insert("queue.buffering.max.messages".to_owned(), "7".to_owned());
    config.kafka.linger = Duration::from_millis(1);
    let service = Service::start(config);
    let results = results(&cluster, 1000);
    let full = service.watch.metrics.producer_queue_full.get();
    service.stop();
    assert!(full > 0, "the queue was never full, so this shows nothing");
    assert_eq!(
        results.iter().map(|r| r.source().1).collect::<Vec<_>>(),
        (0..1000).collect::<Vec<_>>()
    );
}

#[test]
fn a_result_that_is_too_large_is_sent_without_its_text() {
    let cluster = cluster(1);
    let long = "a long line ".repeat(2000);
    produce(
        &cluster,
        [text(0, "short"), text(0, &long), text(0, "short")],
    );
    let mut config = config(&cluster);
    config
        .kafka
        .properties
        .insert("message.max.bytes".to_owned(), "8000".to_owned());
    let service = Service::start(config);
    let results = results(&cluster, 3);
    service.stop();
    let truncated: Vec<_> = results
        .iter()
        .map(|r| r.json()["truncated"] == true)
        .collect();
    assert_eq!(truncated, [false, true, false]);
    assert_eq!(
        results.iter().map(|r| r.source().1).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(results[1].json()["message_bytes"], long.len());
    assert!(results[1].json().get("message").is_none());
    assert_eq!(results[1].header("status").as_deref(), Some("clean"));
    assert_eq!(committed(&cluster, 1), [Some(3)]);
}

#[test]
fn an_engine_that_cannot_look_stops_the_reading_instead_of_draining_the_topic() {
    let cluster = cluster(1);
    let mut config = config(&cluster);
    config.scan.threads = std::num::NonZeroUsize::MIN;
    config.scan.retries = 1;
    // Else they were clean by proof, whatever libclamav could do.
    config.scan.prefilter = false;
    let service = Service::start(config);
    produce(&cluster, [text(0, "before")]);
    results(&cluster, 1);
    // libclamav makes a directory for each scan in here.
    let (tmp, away) = (
        service.tmp.path().to_owned(),
        service.tmp.path().with_extension("away"),
    );
    std::fs::rename(&tmp, &away).unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "trace",
            value: Some("1"),
        })
        .insert(Header {
            key: "trace",
            value: None::<&str>,
        });
    let lines: Vec<String> = (0..50).map(|i| format!("line {i}")).collect();
    produce(
        &cluster,
        lines.iter().map(|line| {
            text(0, line)
                .key(b"k\x00")
                .timestamp(1_700_000_000_123)
                .headers(headers.clone())
        }),
    );
    wait_for("readiness to fail", || service.failures().contains("scans"));
    // Time enough for all 50 to fail, if they were tried.
    std::thread::sleep(Duration::from_secs(2));
    std::fs::rename(&away, &tmp).unwrap();
    let results = results(&cluster, 51);
    assert!(
        !service.failures().contains("scans"),
        "{}",
        service.failures()
    );
    let dead = read(&cluster, DEAD, |all| !all.is_empty());
    service.stop();
    let errors: Vec<_> = results
        .iter()
        .filter(|r| r.status() == "error")
        .map(|r| r.source().1)
        .collect();
    assert_eq!(errors.len(), dead.len());
    assert!(dead.len() < 10, "{} dead letters", dead.len());
    assert_eq!(
        results.iter().filter(|r| r.status() == "clean").count(),
        51 - dead.len()
    );
    assert_eq!(committed(&cluster, 1), [Some(51)]);

    // The original, byte for byte, and why it is here.
    let (first, offset) = (&dead[0], errors[0]);
    assert_eq!(
        first.payload.as_deref(),
        Some(format!("line {}", offset - 1).as_bytes())
    );
    assert_eq!(first.key.as_deref(), Some(&b"k\x00"[..]));
    assert_eq!(first.timestamp, Some(1_700_000_000_123));
    assert_eq!(
        first.headers[..2],
        [
            ("trace".to_owned(), Some(b"1".to_vec())),
            ("trace".to_owned(), None)
        ]
    );
    assert_eq!(first.header("reason").as_deref(), Some("engine_error"));
    assert_eq!(first.header("source-topic").as_deref(), Some(INPUT));
    assert_eq!(first.header("source-partition").as_deref(), Some("0"));
    assert_eq!(first.header("source-offset"), Some(offset.to_string()));
    assert!(!first.header("error").unwrap().is_empty());
}

#[test]
fn a_missing_topic_is_named_and_waited_for() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(OUTPUT, 1, 1).unwrap();
    cluster.create_topic(DEAD, 1, 1).unwrap();
    cluster
        .topic_error(
            INPUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        )
        .unwrap();
    let service = Service::start(config(&cluster));
    wait_for("the missing topic to be named", || {
        service.failures().contains("topics are missing")
    });
    let failures = service.failures();
    assert!(
        failures.contains(&format!(": {INPUT};")) && failures.contains("--create-topics"),
        "{failures}"
    );
    assert!(!failures.contains(OUTPUT), "{failures}");

    cluster
        .topic_error(INPUT, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
        .unwrap();
    produce(&cluster, [text(0, "at last")]);
    assert_eq!(results(&cluster, 1).len(), 1);
    assert_eq!(service.stop().exit_code(), 0);
}

#[test]
fn a_stop_while_the_brokers_are_away_is_a_stop() {
    let cluster = cluster(1);
    cluster.broker_down(-1).unwrap();
    let service = Service::start(config(&cluster));
    wait_for("the brokers to be missed", || {
        service.failures().contains("cannot be asked")
    });
    assert_eq!(service.stop().exit_code(), 0);
}

#[test]
fn a_producer_that_failed_for_good_is_replaced_and_its_results_are_sent_again() {
    let cluster = cluster(1);
    let lines: Vec<String> = (0..300).map(|i| format!("line {i}")).collect();
    produce(&cluster, lines.iter().map(|line| text(0, line)));
    // An idempotent producer does not survive this answer.
    cluster.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED],
    );
    let service = Service::start(config(&cluster));
    let results = results(&cluster, 300);
    let fatal = CodeLabel {
        code: "Fatal".to_owned(),
    };
    let failed = service
        .watch
        .metrics
        .client_errors
        .get_or_create(&fatal)
        .get();
    assert_eq!(
        service.stop(),
        ExitReport {
            abandoned: 0,
            committed: true
        }
    );
    assert!(
        failed > 0,
        "the producer did not fail, so this shows nothing"
    );
    let offsets: Vec<i64> = results.iter().map(|r| r.source().1).collect();
    assert_eq!(offsets, (0..300).collect::<Vec<_>>());
    assert_eq!(committed(&cluster, 1), [Some(300)]);
}
