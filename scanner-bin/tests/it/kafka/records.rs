//! What becomes of a record, row by row: the ordinary, the odd, the too large, and the one that cannot be scanned.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use scanner_bin::random::SplitMix;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::broker::Broker;
use support::client::{Outgoing, Record};
use support::process::Scanner;
use support::scene::{Answer, LARGE, Scene, assert_answered_once, assert_in_order, line, planted};
use support::{announce, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// Send records on one partition and get the result of each, valid and in input order.
fn answered(name: &str, records: Vec<Outgoing>) -> Vec<Answer> {
    let scene = Scene::new(Broker::shared(), name, 1);
    let scanner = scene.ready_replica("scanner-0");
    let places = scene.produce(records);
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_answered_once(&answers, &places.into_iter().collect());
    assert_in_order(&answers);
    answers.iter().for_each(Answer::assert_valid);
    assert_eq!(scanner.scrape().sum("scanner_dlq_produced_total"), 0.0);
    assert_eq!(scene.broker.ends(&scene.dead_letters), [(0, 0)].into());
    answers
}

fn limits(answer: &Answer) -> Vec<&str> {
    answer.json["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| limit.as_str().unwrap())
        .collect()
}

fn sha256(data: &[u8]) -> String {
    hex::encode(Sha256::digest(data))
}

/// `len` characters that no compression makes much shorter, so that the broker's limit sees their length.
fn noise(len: usize) -> Vec<u8> {
    let mut random = SplitMix::new(1);
    (0..len)
        .map(|_| b'!' + u8::try_from(random.below(90)).unwrap())
        .collect()
}

/// Proves: nothing to scan is answered as skipped, with the reason, and never as clean.
#[test]
fn an_empty_record_and_a_tombstone_are_skipped() {
    let answers = answered(
        "skipped",
        vec![
            Outgoing::of(""),
            Outgoing::tombstone().key("k"),
            Outgoing::of(line(1)),
        ],
    );
    let seen: Vec<_> = answers
        .iter()
        .map(|a| (a.status(), a.json["reason"].as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("skipped", Some("empty")),
            ("skipped", Some("tombstone")),
            ("clean", None)
        ]
    );
    assert_eq!(answers[1].record.key.as_deref(), Some(&b"k"[..]));
}

/// Proves: bytes that are not UTF-8 are scanned as they are, shown lossily and kept as base64.
#[test]
fn invalid_utf8_is_scanned_as_bytes_and_kept() {
    let latin = b"<13>Oct 20 02:44:02 web app: caf\xe9 ferm\xe9".to_vec();
    let eicar = [
        b"<13>Oct 20 02:44:02 web app: \xff\xfe ",
        scanlib::eicar::text().as_bytes(),
    ]
    .concat();
    let answers = answered(
        "bytes",
        vec![Outgoing::of(latin.clone()), Outgoing::of(eicar)],
    );
    assert_eq!(answers[0].status(), "clean");
    assert_eq!(
        answers[0].json["message"],
        "<13>Oct 20 02:44:02 web app: caf\u{fffd} ferm\u{fffd}"
    );
    let kept = BASE64_STANDARD
        .decode(answers[0].json["message_base64"].as_str().unwrap())
        .unwrap();
    assert_eq!(kept, latin);
    assert_eq!(answers[1].status(), "threat");
    assert!(
        answers[1].json["clamav_result"]
            .as_str()
            .unwrap()
            .starts_with("Embedded.Test.Eicar")
    );
}

/// Proves: what cannot be parsed is plain text with less metadata, scanned like any other, and never an error.
#[test]
fn broken_json_and_odd_syslog_are_plain_text_and_never_an_error() {
    let odd = [
        r#"{"message": "cut off in the midd"#,
        r#"{"message": 17, "source_ip": ["not", "text"]}"#,
        r#"[1, 2, 3]"#,
        "null",
        "<999>1 not a date - - - -",
        "<13>",
        "<>",
        "<34>1 2003-10-11T22:14:15.003Z host app - ID47 [unclosed",
        "Feb 31 99:99:99 nowhere",
        "\u{feff}\t \r\n",
        "no newline, no header, no meaning",
    ];
    let mut sent: Vec<_> = odd.iter().map(|text| Outgoing::of(*text)).collect();
    // The same kind of damage around something that must be found.
    sent.push(Outgoing::of(format!(
        r#"{{"message": "{} and cut"#,
        scanlib::eicar::text()
    )));
    sent.push(Outgoing::of(format!(
        "<999>9 [[[ {}",
        scanlib::eicar::text()
    )));
    let answers = answered("odd", sent);
    for (text, answer) in odd.iter().zip(&answers) {
        assert_eq!(answer.status(), "clean", "{text:?}: {:#}", answer.json);
        assert_eq!(answer.json["message_sha256"], sha256(text.as_bytes()));
    }
    assert_eq!(
        answers[0].json["message"], odd[0],
        "broken JSON is shown as it came"
    );
    for answer in &answers[odd.len()..] {
        assert_eq!(answer.status(), "threat", "{:#}", answer.json);
        assert!(answer.json["clamav_result"].is_string());
    }
}

/// Proves: a record above `max_message_bytes` is partial, says so, is cut in the result, and holds nothing else up.
#[test]
fn a_record_of_five_megabytes_is_partial_and_its_text_is_cut() {
    // The embedded broker keeps about 5 MiB of a partition.
    let mebibytes = if Broker::shared().is_real() { 5 } else { 2 };
    let large = noise(mebibytes << 20);
    let just_fits = [b"<13>Oct 20 02:44:02 web app: ", &noise(1 << 20)[29..]].concat();
    assert_eq!(just_fits.len(), 1 << 20);
    let sent = [large.clone(), just_fits, line(1)];
    let answers = answered("large", sent.into_iter().map(Outgoing::of).collect());

    let partial = &answers[0];
    assert_eq!(
        (partial.status(), limits(partial)),
        ("partial", vec!["max_message_bytes"])
    );
    assert_eq!(
        partial.json["severity"], "info",
        "what was not looked at is not clean"
    );
    assert_eq!(partial.json["message_truncated"], true);
    let shown = partial.json["message"].as_str().unwrap();
    assert_eq!(shown.len(), 16 << 10);
    assert!(large.starts_with(shown.as_bytes()));
    assert_eq!(partial.json["message_bytes"], large.len());
    assert_eq!(partial.json["message_sha256"], sha256(&large));

    assert_ne!(
        limits(&answers[1]),
        ["max_message_bytes"],
        "the limit itself is not above the limit"
    );
    assert_eq!(answers[2].status(), "clean");
    let bytes = partial.record.payload.as_ref().unwrap().len();
    announce!("records: {mebibytes} MiB in, {bytes} bytes of result out");
}

/// Proves: what libclamav did not examine for a limit of its own is partial with that limit, and what it found is still told.
#[test]
fn a_limit_of_libclamav_makes_a_record_partial_with_the_reason() {
    let nested = |text: &[u8], depth| (0..depth).fold(text.to_vec(), |inner, _| gzip(&inner));
    let deep = nested(b"nothing to see", 20);
    let shallow = nested(b"nothing to see", 3);
    let carrying = [scanlib::eicar::text().as_bytes(), b"\n"].concat();
    let answers = answered(
        "limit",
        vec![
            Outgoing::of(deep),
            Outgoing::of(shallow),
            Outgoing::of(nested(&carrying, 3)),
        ],
    );
    assert_eq!(
        (answers[0].status(), limits(&answers[0])),
        ("partial", vec!["max_recursion"]),
        "{:#}",
        answers[0].json
    );
    assert_eq!(answers[1].status(), "clean", "{:#}", answers[1].json);
    assert_eq!(
        answers[2].status(),
        "threat",
        "libclamav unpacks: {:#}",
        answers[2].json
    );
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-nc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip does not start");
    child.stdin.take().unwrap().write_all(data).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// A replica whose directory for temporary files can be taken away under it: libclamav cannot look then.
struct Fragile {
    scanner: Scanner,
    base: PathBuf,
    scratch: PathBuf,
    _keep: tempfile::TempDir,
}

impl Fragile {
    fn start(scene: &Scene<'_>) -> Self {
        Self::start_with(scene, &[])
    }

    /// With these settings, by the names of their variables.
    fn start_with(scene: &Scene<'_>, settings: &[(&str, &str)]) -> Self {
        let keep = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let base = keep.path().join("tmp");
        fs::create_dir(&base).unwrap();
        let mut launch = scene
            .replica("scanner-0")
            .env("SCANNER_SCAN__TMP_DIR", &base)
            // Else most records were clean by proof, or known, whatever libclamav could do.
            .env("SCANNER_SCAN__PREFILTER", "false")
            .env("SCANNER_SCAN__VERDICT_CACHE_ENTRIES", "0");
        for (name, value) in settings {
            launch = launch.env(&format!("SCANNER_{name}"), value);
        }
        let mut scanner = launch.start();
        scanner.wait_until_ready(PATIENCE);
        let made: Vec<_> = fs::read_dir(&base)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let [scratch] = &made[..] else {
            panic!("not one directory of its own: {made:?}")
        };
        Self {
            scratch: scratch.clone(),
            scanner,
            base,
            _keep: keep,
        }
    }

    fn take_away(&self) {
        fs::remove_dir_all(&self.base).unwrap();
    }

    fn give_back(&self) {
        fs::create_dir_all(&self.scratch).unwrap();
    }

    fn ready(&self) -> (u16, String) {
        self.scanner
            .get("/readyz")
            .expect("/readyz does not answer")
    }

    fn dead_letters(&self) -> f64 {
        self.scanner.scrape().sum("scanner_dlq_produced_total")
    }
}

fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap()
}

/// Headers of a dead letter behind the record's own.
fn own_headers<'a>(letter: &'a Record, sent: &Outgoing) -> Vec<(&'a str, &'a str)> {
    let (original, own) = letter.headers.split_at(sent.headers.len());
    assert_eq!(
        original, sent.headers,
        "the record's own headers are not as they were"
    );
    own.iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                std::str::from_utf8(value.as_ref().unwrap()).unwrap(),
            )
        })
        .collect()
}

/// Proves: a record that libclamav cannot look at is an error, never clean, and its original is a dead letter, byte for byte.
#[test]
fn a_record_that_cannot_be_scanned_is_an_error_and_its_original_a_dead_letter() {
    let scene = Scene::new(Broker::shared(), "error", 1);
    let fragile = Fragile::start(&scene);
    let sent = vec![
        Outgoing::of(b"<13>Oct 20 02:44:02 web app: \xff\x00 bytes".to_vec())
            .key([0xff, 0x00])
            .timestamp_ms(1_700_000_000_123)
            .header("h", "1")
            .header("h", "2")
            .null_header("h")
            .header("empty", "")
            .header("reason", b"\xfe not text".to_vec()),
        Outgoing::of(line(1)),
        // The rules still see it, and what they see is not less true.
        Outgoing::of(planted()[3].0.clone()).key(""),
    ];
    fragile.take_away();
    let places = scene.produce(sent.clone());
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_answered_once(&answers, &places.iter().copied().collect());

    let letters = scene.broker.read_all(&scene.dead_letters);
    assert_eq!(letters.len(), sent.len());
    for ((sent, letter), (partition, offset)) in sent.iter().zip(&letters).zip(&places) {
        assert_eq!(letter.payload, sent.payload);
        assert_eq!(letter.key, sent.key);
        if sent.timestamp_ms.is_some() {
            assert_eq!(letter.timestamp_ms, sent.timestamp_ms);
        }
        let own = own_headers(letter, sent);
        let names: Vec<_> = own.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "reason",
                "error",
                "source-topic",
                "source-partition",
                "source-offset",
                "source-group"
            ]
        );
        assert_eq!(own[0].1, "engine_error");
        assert!(!own[1].1.is_empty());
        let origin: Vec<_> = own[2..]
            .iter()
            .map(|(_, value)| (*value).to_owned())
            .collect();
        assert_eq!(
            origin,
            [
                scene.input.clone(),
                partition.to_string(),
                offset.to_string(),
                scene.group.clone()
            ]
        );
    }
    for answer in &answers[..2] {
        answer.assert_valid();
        assert_eq!(answer.status(), "error");
        assert_eq!(answer.json["engines"]["clamav"]["state"], "error");
    }
    assert_eq!(answers[2].status(), "threat");
    assert_eq!(answers[2].json["engines"]["clamav"]["state"], "error");
    assert_eq!(
        fragile.ready().0,
        200,
        "three records are not the surroundings' fault"
    );

    fragile.give_back();
    scene.produce([Outgoing::of(line(2))]);
    scene.wait_until_answered(PATIENCE);
    assert_eq!(scene.answers().last().unwrap().status(), "clean");
    assert_eq!(scene.broker.ends(&scene.dead_letters)[&0], 3);
    let metrics = fragile.scanner.scrape();
    assert_eq!(
        metrics.get(r#"scanner_dlq_produced_total{reason="engine_error"}"#),
        3.0
    );
    assert_eq!(
        metrics.get(r#"scanner_scan_errors_total{kind="engine_error"}"#),
        3.0
    );
    announce!(
        "records: dead letters say: {}",
        own_headers(&letters[1], &sent[1])[1].1
    );
}

/// Proves: when nothing can be scanned, the topic is not drained into the dead-letter topic: readiness fails, consumption waits,
/// and once scanning works again every record gets its verdict.
#[test]
fn errors_in_a_row_stop_consumption_until_scanning_works_again() {
    const BEFORE_IT_STOPS: f64 = 4.0;
    let scene = Scene::new(Broker::shared(), "circuit", 2);
    let mut fragile = Fragile::start(&scene);
    scene.produce((0..20).map(|n| Outgoing::of(line(n)).partition(n as i32 % 2)));
    scene.wait_until_answered(PATIENCE);

    fragile.take_away();
    assert!(!is_there(&fragile.scratch));
    let eicar = planted()[0].0.clone();
    scene.produce((0..100).map(|n| {
        let payload = if n % 10 == 9 { eicar.clone() } else { line(n) };
        Outgoing::of(payload).partition(n as i32 % 2)
    }));
    let reason = wait_for("readiness to fail", PATIENCE, || {
        let (status, reason) = fragile.ready();
        (status == 503).then_some(reason)
    });
    assert!(reason.contains("could not be scanned"), "{reason}");

    // What waits in the topic stays there, and what was taken stays where it is.
    let held = fragile.scanner.scrape();
    scene.produce((0..500).map(|n| Outgoing::of(line(n)).partition(n as i32 % 2)));
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let now = fragile.scanner.scrape();
        for name in [
            "scanner_messages_consumed_total",
            "scanner_results_produced_total",
            "scanner_dlq_produced_total",
        ] {
            assert_eq!(
                now.sum(name),
                held.sum(name),
                "{name} grows while nothing can be scanned"
            );
        }
        assert!(now.sum("scanner_dlq_produced_total") <= BEFORE_IT_STOPS);
        assert_eq!(fragile.ready().0, 503);
        assert_eq!(
            fragile.scanner.get("/livez").unwrap().0,
            200,
            "a restart would not mend it"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let waiting = scene.places().len() - held.sum("scanner_messages_consumed_total") as usize;

    fragile.give_back();
    wait_for("readiness to come back", Duration::from_secs(20), || {
        (fragile.ready().0 == 200).then_some(())
    });
    scene.wait_until_answered(PATIENCE);
    assert_eq!(fragile.dead_letters(), BEFORE_IT_STOPS);
    let answers = scene.answers();
    assert_answered_once(&answers, &scene.places());
    let count = |status: &str| {
        answers
            .iter()
            .filter(|answer| answer.status() == status)
            .count()
    };
    assert_eq!(count("threat"), 10);
    assert_eq!(count("error") as f64, BEFORE_IT_STOPS);
    assert_eq!(count("clean"), 620 - 10 - BEFORE_IT_STOPS as usize);
    fragile.scanner.terminate();
    assert_eq!(fragile.scanner.wait(PATIENCE).code(), Some(0));
    assert_eq!(scene.committed(), scene.broker.ends(&scene.input));
    announce!(
        "records: nothing could be scanned: {BEFORE_IT_STOPS} dead letters, {waiting} records waited in the topic, all of them answered afterwards"
    );
}

/// Proves: where only some records fail, they fill the dead-letter topic up to the limit and no further. Those above it wait,
/// readiness says so, and they get their verdict once they can be scanned.
#[test]
fn dead_letters_above_the_limit_wait_and_are_scanned_when_that_is_possible() {
    const LIMIT: f64 = 3.0;
    let scene = Scene::new(Broker::shared(), "quota", 1);
    let mut fragile = Fragile::start_with(&scene, &[("KAFKA__DEAD_LETTERS_PER_MINUTE", "3")]);
    fragile.take_away();
    // Fewer than it takes to say that nothing can be scanned.
    let records = [line(0), line(1), line(2), planted()[0].0.clone()];
    scene.produce(records.map(|payload| Outgoing::of(payload).partition(0)));
    let reason = wait_for("readiness to fail", PATIENCE, || {
        let (status, reason) = fragile.ready();
        (status == 503).then_some(reason)
    });
    assert!(
        reason.contains("kafka.dead_letters_per_minute is 3"),
        "{reason}"
    );
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(fragile.scanner.get("/livez").unwrap().0, 200);
        assert!(fragile.dead_letters() <= LIMIT);
        std::thread::sleep(Duration::from_millis(200));
    }
    let metrics = fragile.scanner.scrape();
    assert_eq!(metrics.get("scanner_dlq_limit_tripped_total"), 1.0);

    fragile.give_back();
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_answered_once(&answers, &scene.places());
    let statuses: Vec<_> = answers.iter().map(Answer::status).collect();
    assert_eq!(statuses, ["error", "error", "error", "threat"]);
    assert_eq!(fragile.dead_letters(), LIMIT);
    fragile.scanner.terminate();
    assert_eq!(fragile.scanner.wait(PATIENCE).code(), Some(0));
    assert_eq!(scene.committed(), scene.broker.ends(&scene.input));
}

/// Topics of which one takes no record above 20 kB.
fn narrow<'b>(
    broker: &'b Broker,
    name: &str,
    output: (&str, &str),
    dead_letters: (&str, &str),
) -> Option<Scene<'b>> {
    if !broker.is_real() {
        announce!("left out: {name}: the embedded broker refuses no size");
        return None;
    }
    let scene = Scene::without_topics(broker, name);
    broker.create_topic(&scene.input, 1, &[LARGE]);
    broker.create_topic(&scene.output, 1, &[output]);
    broker.create_topic(&scene.dead_letters, 1, &[dead_letters]);
    Some(scene)
}

const NARROW: (&str, &str) = ("max.message.bytes", "20000");

/// Proves: a result that the broker refuses for its size is sent without text, marked and counted, and its neighbours are whole.
#[test]
fn a_result_too_large_for_the_broker_is_sent_without_its_text_and_marked() {
    let broker = Broker::shared();
    let Some(scene) = narrow(broker, "narrow-out", NARROW, LARGE) else {
        return;
    };
    let scanner = scene.ready_replica("scanner-0");
    let eicar = [scanlib::eicar::text().as_bytes(), b" ", &noise(100_000)].concat();
    let large = [b"<13>Oct 20 02:44:02 web app: ".to_vec(), eicar].concat();
    let mut sent: Vec<_> = (0..300)
        .map(|n| Outgoing::of(line(n)).key(format!("{n}")))
        .collect();
    for at in [0, 150, 151, 299] {
        sent[at].payload = Some(large.clone());
    }
    let places = scene.produce(sent.clone());
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_answered_once(&answers, &places.into_iter().collect());
    assert_in_order(&answers);
    for (answer, sent) in answers.iter().zip(&sent) {
        answer.assert_valid();
        assert_eq!(answer.record.key, sent.key);
        if sent.payload.as_ref() == Some(&large) {
            assert_eq!(answer.json["truncated"], true, "{:#}", answer.json);
            assert_eq!(answer.json["message"], Value::Null);
            assert_eq!(answer.json["message_sha256"], sha256(&large));
            assert_eq!(answer.json["message_bytes"], large.len());
            assert_eq!(
                answer.json["threat_name"], "Malicious pattern: eicar_test",
                "the verdict stays"
            );
            let status = ("status".to_owned(), Some(b"threat".to_vec()));
            assert_eq!(answer.record.headers[0], status);
        } else {
            assert_eq!(answer.json["truncated"], Value::Null);
            assert!(answer.json["message"].is_string());
        }
    }
    let metrics = scanner.scrape();
    let refused = metrics
        .get(r#"scanner_produce_errors_total{code="MessageSizeTooLarge",retriable="false"}"#);
    assert!(
        refused >= 4.0,
        "four results were refused, /metrics says {refused}"
    );
    assert_eq!(
        metrics.get(r#"scanner_results_truncated_total{kind="result"}"#),
        4.0
    );
    announce!(
        "records: 4 of {} results without text, after {refused} refusals by the broker",
        answers.len()
    );
}

/// Proves: a dead letter that the broker refuses for its size is sent as headers, length and digest, and holds nothing up.
#[test]
fn a_dead_letter_too_large_for_the_broker_is_sent_as_headers_and_digest() {
    let broker = Broker::shared();
    let Some(scene) = narrow(broker, "narrow-dlq", LARGE, NARROW) else {
        return;
    };
    let fragile = Fragile::start(&scene);
    let sent = vec![
        Outgoing::of(line(1)),
        Outgoing::of(noise(100_000)).key("k").header("h", "kept"),
        Outgoing::of(line(2)),
    ];
    fragile.take_away();
    let places = scene.produce(sent.clone());
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_answered_once(&answers, &places.into_iter().collect());
    assert!(answers.iter().all(|answer| answer.status() == "error"));

    let letters = broker.read_all(&scene.dead_letters);
    assert_eq!(letters.len(), 3);
    assert_eq!(letters[0].payload, sent[0].payload);
    assert_eq!(letters[2].payload, sent[2].payload);
    let short = &letters[1];
    assert_eq!((&short.payload, &short.key), (&None, &sent[1].key));
    let own = own_headers(short, &sent[1]);
    assert_eq!(
        own[4],
        ("source-offset", "1"),
        "where the original still is"
    );
    let digest = sha256(sent[1].payload.as_ref().unwrap());
    assert_eq!(
        own[6..],
        [
            ("truncated", "true"),
            ("payload-bytes", "100000"),
            ("payload-sha256", digest.as_str())
        ]
    );
    assert_eq!(
        fragile
            .scanner
            .scrape()
            .get(r#"scanner_results_truncated_total{kind="dead_letter"}"#),
        1.0
    );
}
