//! Starting, stopping, and what happens when the broker or a topic is not there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::announce;
use support::broker::Broker;
use support::client::Outgoing;
use support::process::Scanner;
use support::scene::{
    Answer, Scene, assert_all_answered, assert_answered_once, assert_in_order, duplicates,
    heavy_load, line, load,
};
use support::wait_for;

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(90);

/// Wait until the replica is in the middle of its work, with so many records in flight at least.
fn wait_for_work(scanner: &Scanner, at_least: f64) -> f64 {
    wait_for("records in flight", PATIENCE, || {
        let metrics = scanner.scrape();
        let in_flight = metrics.get("scanner_inflight_messages");
        (in_flight >= at_least && metrics.sum("scanner_results_produced_total") > 0.0)
            .then_some(in_flight)
    })
}

/// The number behind `"name":` in a log line.
fn number(line: &str, name: &str) -> i64 {
    let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
    parsed[name]
        .as_i64()
        .unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// How many records of each partition are answered, from its start on without a gap.
fn answered_up_to(answers: &[Answer], scene: &Scene<'_>) -> BTreeMap<i32, i64> {
    let mut counts: BTreeMap<i32, i64> = scene
        .places()
        .into_iter()
        .map(|(partition, _)| (partition, 0))
        .collect();
    for answer in answers {
        let (partition, offset) = answer.place();
        let count = counts.get_mut(&partition).unwrap();
        assert_eq!(
            *count, offset,
            "a gap before {offset} of partition {partition}"
        );
        *count += 1;
    }
    counts
}

/// Proves: SIGTERM under load answers what was read within the budget, commits exactly what is answered, and exits with 0.
#[test]
fn sigterm_drains_what_was_read_and_commits_exactly_what_is_answered() {
    let scene = Scene::new(Broker::shared(), "term", PARTITIONS);
    scene.produce(heavy_load(12_000, PARTITIONS));
    // Less in flight than the topic holds, so that something is left in it.
    let launch = scene
        .replica("scanner-0")
        .env("SCANNER_KAFKA__INFLIGHT_MESSAGES_PER_PARTITION", "512");
    let mut scanner = launch.env("SCANNER_KAFKA__DRAIN_TIMEOUT", "20s").start();
    let in_flight = wait_for_work(&scanner, 1.0);

    let since = Instant::now();
    scanner.terminate();
    let stopping = scanner.wait_for_line(PATIENCE, |line| line.contains("Stopping: draining"));
    let status = scanner.wait(Duration::from_secs(30));
    let took = since.elapsed();

    assert_eq!(status.code(), Some(0), "{}", scanner.output());
    assert!(took < Duration::from_secs(20), "the drain took {took:?}");
    assert!(
        number(&stopping, "in_flight") > 0,
        "there was nothing to drain: {stopping}"
    );
    let answers = scene.answers();
    assert_in_order(&answers);
    let answered = answered_up_to(&answers, &scene);
    assert_eq!(
        scene.committed(),
        answered,
        "committed is not what is answered"
    );
    assert!(
        answers.len() < scene.places().len(),
        "nothing was left: this was no stop under load"
    );
    announce!(
        "lifecycle: SIGTERM with {in_flight} records in flight by /metrics, {} by the log: gone after {took:.1?}, {} of {} answered \
         and committed",
        number(&stopping, "in_flight"),
        answers.len(),
        scene.places().len()
    );
}

/// Proves: a second SIGTERM ends the process at once, and the next replica answers what it left, from what was committed.
#[test]
fn a_second_sigterm_exits_at_once_and_loses_nothing() {
    let scene = Scene::new(Broker::shared(), "twice", PARTITIONS);
    scene.produce(heavy_load(12_000, PARTITIONS));
    // More threads have more ahead of them: the drain is still under way when the second signal comes.
    let mut scanner = scene
        .replica("scanner-0")
        .env("SCANNER_SCAN__THREADS", "8")
        .start();
    let in_flight = wait_for_work(&scanner, 500.0);
    scanner.terminate();
    scanner.wait_for_line(PATIENCE, |line| line.contains("Stopping: draining"));
    let since = Instant::now();
    scanner.terminate();
    let status = scanner.wait(Duration::from_secs(30));
    let took = since.elapsed();
    assert_eq!(
        status.code(),
        Some(128 + 15),
        "it had drained already, or did not end by the signal: {}",
        scanner.output()
    );
    assert!(took < Duration::from_secs(2), "at once took {took:?}");

    let before = scene.answers();
    let committed = scene.committed();
    let answered = answered_up_to(&before, &scene);
    assert!(
        committed
            .iter()
            .all(|(partition, offset)| *offset <= answered[partition]),
        "{committed:?} of {answered:?}"
    );
    assert!(before.len() < scene.places().len());

    let _next = scene.ready_replica("scanner-1");
    let answers = scene.wait_until_answered(PATIENCE);
    assert_all_answered(&answers, &scene.places());
    let repeated = duplicates(&answers);
    assert!(
        repeated
            .iter()
            .all(|(partition, offset)| *offset >= committed[partition]),
        "a committed record came again"
    );
    announce!(
        "lifecycle: second SIGTERM with {in_flight} records in flight: gone after {took:.1?}; the next replica answered the rest, {} \
         twice",
        repeated.len()
    );
}

/// Proves: a broker that crashes under load and comes back within the session costs no record and repeats none; the service waits,
/// lives and goes on by itself.
#[test]
fn a_broker_that_crashes_and_comes_back_costs_no_record_and_repeats_none() {
    let broker = Broker::start();
    let scene = Scene::new(&broker, "restart", PARTITIONS);
    // Longer than the broker is away: the partitions stay this replica's.
    let mut scanner = scene
        .replica("scanner-0")
        .env("SCANNER_KAFKA__SESSION_TIMEOUT", "120s")
        .start();
    scanner.wait_until_ready(PATIENCE);
    scene.produce(heavy_load(6_000, PARTITIONS));
    let in_flight = wait_for_work(&scanner, 1.0);

    let (asked, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let away = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (status, body) = scanner
                    .get("/livez")
                    .expect("/livez does not answer while the broker is away");
                assert_eq!(status, 200, "{body}");
                asked.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let since = Instant::now();
        broker.kill();
        std::thread::sleep(Duration::from_secs(2));
        broker.start_again();
        let away = since.elapsed();
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap();
        away
    });
    scene.produce(load(600, PARTITIONS));
    scene.wait_until_answered(PATIENCE);
    assert!(scanner.try_wait().is_none(), "{}", scanner.output());
    scanner.wait_until_ready(PATIENCE);
    scanner.terminate();
    assert_eq!(
        scanner.wait(Duration::from_secs(40)).code(),
        Some(0),
        "{}",
        scanner.output()
    );
    assert_eq!(scene.committed(), broker.ends(&scene.input));
    assert_answered_once(&scene.answers(), &scene.places());
    assert_in_order(&scene.answers());
    announce!(
        "lifecycle: broker killed with {in_flight} records in flight and away for {away:.1?}: {} records, none lost, none twice; \
         /livez said 200 all {} times",
        scene.places().len(),
        asked.load(Ordering::Relaxed)
    );
}

/// Proves: topics that are missing at the start are named in the log and by `/readyz`, nothing exits, and work begins once they
/// are there.
#[test]
fn missing_topics_are_named_and_waited_for() {
    let broker = Broker::shared();
    if !broker.is_real() {
        announce!("left out: missing topics: the embedded broker creates what it is asked for");
        return;
    }
    let scene = Scene::without_topics(broker, "missing");
    let mut scanner = scene.replica("scanner-0").start();
    let said = scanner.wait_for_line(PATIENCE, |line| line.contains("topics are missing"));
    let (status, reason) = wait_for("an answer of /readyz", PATIENCE, || scanner.get("/readyz"));
    assert_eq!(status, 503);
    for text in [&said, &reason] {
        for topic in [&scene.input, &scene.output, &scene.dead_letters] {
            assert!(
                text.contains(topic.as_str()),
                "{topic} is not named: {text}"
            );
        }
        assert!(
            text.contains("--create-topics"),
            "what to do is not said: {text}"
        );
    }
    assert_eq!(scanner.get("/livez").unwrap().0, 200);
    assert_eq!(scanner.get("/startupz").unwrap().0, 200);

    broker.create_topic(&scene.output, 1, &[]);
    broker.create_topic(&scene.dead_letters, 1, &[]);
    let only_input = |text: &str| text.contains(&scene.input) && !text.contains(&scene.output);
    wait_for("the reason to shrink", PATIENCE, || {
        only_input(&scanner.get("/readyz")?.1).then_some(())
    });
    broker.create_topic(&scene.input, 2, &[]);
    let places = scene.produce(load(20, 2));
    scanner.wait_until_ready(PATIENCE);
    let answers = scene.wait_until_answered(PATIENCE);
    assert_answered_once(&answers, &places.into_iter().collect());
}

/// Proves: `--create-topics` creates all three, and the service works on them.
#[test]
fn missing_topics_are_created_on_request() {
    let broker = Broker::shared();
    if !broker.is_real() {
        announce!("left out: created topics: the embedded broker creates what it is asked for");
        return;
    }
    let scene = Scene::without_topics(broker, "create");
    let mut scanner = scene.replica("scanner-0").switch("--create-topics").start();
    scanner.wait_until_ready(PATIENCE);
    for topic in [&scene.input, &scene.output, &scene.dead_letters] {
        assert!(!scene.broker.ends(topic).is_empty());
    }
    let places = scene.produce([Outgoing::of(line(1))]);
    let answers = scene.wait_until_answered(PATIENCE);
    assert_answered_once(&answers, &places.into_iter().collect());
}

/// Proves: a configuration that cannot be right ends the process at once, with a sentence that names the setting, where it was
/// set, and what to do.
#[test]
fn a_wrong_configuration_ends_with_a_sentence() {
    for (name, value, expected) in [
        (
            "SCANNER_SCAN__THREADS",
            "0",
            &[
                "scan.threads",
                "not between 1 and ",
                "SCANNER_SCAN__THREADS",
            ][..],
        ),
        (
            "SCANNER_KAFKA__SESSION_TIMEOUT",
            "soon",
            &["SCANNER_KAFKA__SESSION_TIMEOUT"][..],
        ),
        (
            "SCANNER_KAFKA__DEAD_LETTER_TOPIC",
            "same",
            &["kafka.dead_letter_topic", "name another topic"][..],
        ),
        (
            "SCANNER_KAFKA__OUPUT_TOPIC",
            "x",
            &["SCANNER_KAFKA__OUTPUT_TOPIC"][..],
        ),
        (
            "SCANNER_SCAN__DATABASE",
            "/no/such/database.hdb",
            &["/no/such/database.hdb"][..],
        ),
    ] {
        let launch = Scanner::launch("127.0.0.1:1").env("SCANNER_KAFKA__OUTPUT_TOPIC", "same");
        let mut scanner = launch.env(name, value).start();
        let status = scanner.wait(Duration::from_secs(20));
        let said = scanner.stderr().join("\n");
        assert_eq!(status.code(), Some(2), "{said}");
        for words in expected {
            assert!(
                said.contains(words),
                "{name}={value}: {words:?} is not in: {said}"
            );
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// Proves: without a database the service works with the built-in signature and says so in log, results and metrics.
#[test]
fn without_a_database_it_says_so_everywhere() {
    let scene = Scene::new(Broker::shared(), "builtin", 1);
    let scanner = scene.ready_replica("scanner-0");
    scene.produce([Outgoing::of(line(1))]);
    let answers = scene.wait_until_answered(PATIENCE);
    assert_eq!(answers[0].json["engines"]["clamav"]["db_mode"], "builtin");
    assert_eq!(answers[0].json["engines"]["clamav"]["db_signatures"], 1);
    let said =
        |line: &str| line.contains(r#""db_mode":"builtin""#) && line.contains("scan.database");
    scanner.wait_for_line(PATIENCE, said);
    let metrics = scanner.scrape();
    assert_eq!(
        metrics.get(r#"scanner_signature_db_info{version="builtin"}"#),
        1.0
    );
    assert_eq!(metrics.get("scanner_signatures_loaded"), 1.0);
    assert_eq!(metrics.get("scanner_engine_ready"), 1.0);
}

/// Proves: with the profile log-only each result names it and how much is left out, the log and metrics say so too, and what stays is found.
#[test]
fn the_log_only_profile_is_named_in_results_log_and_metrics() {
    let scene = Scene::new(Broker::shared(), "profile", 1);
    let database = scene.tmp().join("db");
    std::fs::create_dir(&database).unwrap();
    let signatures = "My.Text:0:*:6d61726b65722d6f6e65\nMy.Program:1:*:6d61726b65722d74776f\n";
    std::fs::write(database.join("my.ndb"), signatures).unwrap();
    let launch = scene.replica("scanner-0").flag("--profile", "log-only");
    let mut scanner = launch.flag("--database", &database).start();
    scanner.wait_until_ready(PATIENCE);
    scene.produce([
        Outgoing::of("a line with marker-one"),
        Outgoing::of(line(1)),
    ]);
    let answers = scene.wait_until_answered(PATIENCE);
    for answer in &answers {
        answer.assert_valid();
        let clamav = &answer.json["engines"]["clamav"];
        assert_eq!(clamav["db_profile"], "log-only");
        assert_eq!(clamav["db_signatures"], 1);
        assert_eq!(clamav["db_left_out"], 1);
    }
    assert_eq!(answers[0].json["threat_name"], "ClamAV: My.Text.UNOFFICIAL");
    let said = |line: &str| line.contains(r#""left_out":1"#) && line.contains("scan.profile");
    scanner.wait_for_line(PATIENCE, said);
    let metrics = scanner.scrape();
    assert_eq!(
        metrics.get(r#"scanner_signatures_left_out{reason="file_type"}"#),
        1.0
    );
    assert_eq!(
        metrics.get(r#"scanner_signature_profile_info{profile="log-only"}"#),
        1.0
    );
}
