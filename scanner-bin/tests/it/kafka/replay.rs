//! `replay`: a part of the topic once more, in a group of its own, with an end and a tally.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use support::announce;
use support::broker::Broker;
use support::client::Outgoing;
use support::process::guarded;
use support::scene::{Answer, Place, Scene, assert_answered_once, line, load, planted};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it to its end.
fn replay(scene: &Scene<'_>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SCANNER_") {
            command.env_remove(name);
        }
    }
    command
        .arg("replay")
        .args(["--brokers", scene.broker.bootstrap()])
        .args(["--input-topic", &scene.input])
        .args(["--output-topic", &scene.output])
        .args(["--dead-letter-topic", &scene.dead_letters])
        .args(["--instance", "again"])
        .args(arguments)
        .env("SCANNER_KAFKA__GROUP", &scene.group)
        .env("SCANNER_SCAN__THREADS", "1")
        .env("SCANNER_SCAN__TMP_DIR", scene.tmp())
        .env("SCANNER_SCAN__CRASH_JOURNAL", scene.journal())
        .stdin(Stdio::null());
    guarded(&mut command).output().unwrap()
}

/// The tally of one that came to its end.
fn tally(output: &Output) -> Value {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let tally: Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else");
    assert_eq!(tally["complete"], true, "{tally}");
    tally
}

/// What was answered again, and what before.
fn split(scene: &Scene<'_>) -> (Vec<Answer>, Vec<Answer>) {
    let answers = scene.answers();
    answers.iter().for_each(Answer::assert_valid);
    answers
        .into_iter()
        .partition(|answer| answer.json["replay"] == true)
}

/// Proves: a whole topic is answered again, marked as such, in a group of its own, and it ends; what the service has committed
/// stands where it stood.
#[test]
fn a_topic_is_answered_again_and_the_service_does_not_notice() {
    let scene = Scene::new(Broker::shared(), "replay", 3);
    let sent: BTreeSet<Place> = scene
        .produce(load(300, 3).chain(planted().into_iter().map(|(text, _)| Outgoing::of(text))))
        .into_iter()
        .collect();
    let service = scene.ready_replica("live");
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    let committed = scene.committed();

    let tally = tally(&replay(&scene, &[]));
    let (again, before) = split(&scene);
    assert_answered_once(&before, &sent);
    assert_answered_once(&again, &sent);
    assert!(again.iter().all(|answer| answer.instance() == "again"));
    let verdicts = |answers: &[Answer]| -> BTreeSet<(Place, String)> {
        answers
            .iter()
            .map(|a| (a.place(), a.status().to_owned()))
            .collect()
    };
    assert_eq!(verdicts(&again), verdicts(&before));
    assert_eq!(scene.committed(), committed, "the group of the service");
    let own = format!("{}-replay", scene.group);
    assert_eq!(
        (
            &tally["records"],
            &tally["group"],
            &tally["verdicts"]["threat"],
            &tally["verdicts"]["clean"]
        ),
        (&304.into(), &own.clone().into(), &4.into(), &300.into()),
        "{tally}"
    );
    assert_eq!(
        scene.broker.committed(&own, &scene.input),
        scene.broker.ends(&scene.input)
    );

    // From where the last one had come to: nothing, and then only what is new.
    assert_eq!(
        self::tally(&replay(&scene, &["--from", "committed"]))["records"],
        0
    );
    scene.produce([Outgoing::of(line(1))]);
    assert_eq!(
        self::tally(&replay(&scene, &["--from", "committed"]))["records"],
        1
    );
    drop(service);
}

/// Proves: offsets and times bound what is read, the end not included.
#[test]
fn offsets_and_times_bound_it() {
    let scene = Scene::new(Broker::shared(), "replay-part", 1);
    // A minute apart each, from 2026-03-01T00:00:00Z.
    let at = |n: i64| 1_772_323_200_000 + n * 60_000;
    let records = (0..10).map(|n| Outgoing::of(line(n)).timestamp_ms(at(n as i64)));
    scene.produce(records);
    let mut seen = 0;
    let mut read = |from: &str, to: &str| -> Vec<i64> {
        let count = tally(&replay(&scene, &["--from", from, "--to", to]))["records"]
            .as_u64()
            .unwrap();
        let answers = scene.answers();
        let new = &answers[seen..];
        assert_eq!(new.len() as u64, count);
        seen = answers.len();
        new.iter().map(|answer| answer.place().1).collect()
    };
    assert_eq!(read("3", "6"), [3, 4, 5]);
    assert_eq!(read("8", "1000"), [8, 9]);
    assert_eq!(read("6", "3"), [] as [i64; 0]);
    if scene.broker.is_real() {
        assert_eq!(read("2026-03-01T00:07:00Z", "end"), [7, 8, 9]);
        assert_eq!(
            read("2026-03-01T00:01:30Z", "2026-03-01T03:04:00+03:00"),
            [2, 3]
        );
        assert_eq!(read("2030-01-01T00:00:00Z", "end"), [] as [i64; 0]);
    } else {
        announce!("left out: replay from a time: the embedded broker does not know any");
    }
}

/// Proves: a topic that ends with what is no record, here an aborted transaction, has an end all the same.
#[test]
fn a_topic_that_ends_with_an_aborted_transaction_has_an_end() {
    let broker = Broker::shared();
    if !broker.is_real() {
        announce!("left out: replay of transactions, which the embedded broker does not have");
        return;
    }
    let scene = Scene::new(broker, "replay-txn", 1);
    let mut config = broker.client();
    config.set("transactional.id", &scene.group);
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for (records, is_committed) in [(20, true), (30, false)] {
        producer.begin_transaction().unwrap();
        for n in 0..records {
            let line = line(n);
            producer
                .send(BaseRecord::<[u8], [u8]>::to(&scene.input).payload(&line[..]))
                .unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        match is_committed {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
    let tally = tally(&replay(&scene, &["--delivery", "exactly-once"]));
    assert_eq!(tally["records"], 20);
    let (again, before) = split(&scene);
    assert_eq!((again.len(), before.len()), (20, 0));
    let own = format!("{}-replay", scene.group);
    assert_eq!(broker.committed(&own, &scene.input), [(0, 20)].into());
}

/// Proves: the group of the service is not moved by accident, and a point that is none is explained.
#[test]
fn the_group_of_the_service_is_refused_and_so_is_a_point_that_is_none() {
    let scene = Scene::new(Broker::shared(), "replay-group", 1);
    let refused = replay(&scene, &["--group", &scene.group]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("is the group of the service itself") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(
        scene.broker.committed(&scene.group, &scene.input),
        [].into()
    );
    let forced = tally(&replay(&scene, &["--group", &scene.group, "--force"]));
    assert_eq!(forced["group"], scene.group.as_str());
    for wrong in ["yesterday", "-1", "2026-03-01"] {
        let refused = replay(&scene, &[&format!("--from={wrong}")]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("--from"),
            "{wrong}"
        );
    }
}
