//! Records that are made to hurt: each gets its own verdict, and costs no other record anything.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use support::broker::Broker;
use support::client::Outgoing;
use support::scene::{Answer, Scene, assert_answered_once, assert_in_order, line};
use support::{announce, data};

const PATIENCE: Duration = Duration::from_secs(60);

/// Lines about whose content libclamav logs an error.
const MALFORMED: [&str; 5] = [
    "EGGA the quick brown fox jumps over",
    r#"{"message":"EGGA hello, this is text"}"#,
    "GET / ua=RUdHQSBoZWxsbyB0aGlzIGlzIHRleHQ=",
    "<13>Oct 20 02:44:02 web app: ua=/Td6WFoAAATm1g==",
    "<13>Oct 20 02:44:02 web app: ua=/Td6WFoAAAAAAAAA",
];

fn limits(answer: &Answer) -> Vec<&str> {
    let limits = answer.json["limits"].as_array().unwrap();
    limits.iter().map(|limit| limit.as_str().unwrap()).collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-nc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip does not start");
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&data).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn carrying(payload: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(payload);
    format!("<13>Oct 20 02:44:02 web app: ua={encoded}")
}

/// Proves: 300 records with malformed content among 20,000 others are answered as fast as these, each as partial with the words of
/// libclamav; readiness holds throughout, and no dead letter is written.
#[test]
fn malformed_records_are_partial_and_stop_nothing() {
    const RECORDS: usize = 20_000;
    const POISON: usize = 300;
    let scene = Scene::new(Broker::shared(), "poison", 3);
    let scanner = scene.ready_replica("scanner-0");
    let every = RECORDS / POISON;
    let is_poison = |n: usize| n.is_multiple_of(every) && n / every < POISON;
    let records = (0..RECORDS).map(|n| match is_poison(n) {
        true => Outgoing::of(MALFORMED[n / every % MALFORMED.len()]),
        false => Outgoing::of(line(n)),
    });
    let records = records
        .enumerate()
        .map(|(n, record)| record.partition(n as i32 % 3));
    let places = scene.produce(records);
    let since = Instant::now();
    let answered = |scene: &Scene<'_>| -> i64 { scene.broker.ends(&scene.output).values().sum() };
    while answered(&scene) < RECORDS as i64 {
        assert!(since.elapsed() < PATIENCE, "{} records", answered(&scene));
        let (status, reason) = scanner.get("/readyz").unwrap();
        assert_eq!(status, 200, "{reason}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = since.elapsed();
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_answered_once(&answers, &places.into_iter().collect());
    assert_in_order(&answers);
    let malformed: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status() == "partial")
        .collect();
    assert_eq!(malformed.len(), POISON);
    for answer in &malformed {
        answer.assert_valid();
        assert_eq!(limits(answer), ["malformed"]);
        assert_eq!(answer.json["engines"]["clamav"]["state"], "ok");
        let reason = answer.json["reason"].as_str().unwrap();
        assert!(reason.contains("cli_"), "{reason}");
    }
    let clean = answers.iter().filter(|answer| answer.status() == "clean");
    assert_eq!(clean.count(), RECORDS - POISON);

    let metrics = scanner.scrape();
    let failures = |class: &str| {
        metrics.get(&format!(
            r#"scanner_engine_failures_total{{class="{class}",file_type="archive"}}"#
        ))
    };
    assert_eq!(
        (failures("content"), failures("environment")),
        (POISON as f64, 0.0)
    );
    assert_eq!(metrics.sum("scanner_scan_errors_total"), 0.0);
    assert_eq!(metrics.sum("scanner_dlq_limit_tripped_total"), 0.0);
    let letters: i64 = scene.broker.ends(&scene.dead_letters).values().sum();
    assert_eq!(letters, 0);
    announce!("hostile: {RECORDS} records with {POISON} malformed ones answered in {took:?}");
}

/// Proves: what exceeds a limit of decoding or unpacking is partial and says which, and what does not is found.
#[test]
fn a_record_beyond_a_limit_is_partial_with_that_limit() {
    let nested = |depth| {
        let eicar = scanlib::eicar::text().as_bytes().to_vec();
        let inner = (0..depth).fold(eicar, |inner, _| BASE64_STANDARD.encode(inner).into_bytes());
        format!(
            "<13>Oct 20 02:44:02 web app: run {}",
            String::from_utf8(inner).unwrap()
        )
    };
    let many: Vec<_> = (0..9)
        .map(|n| BASE64_STANDARD.encode(format!("the payload of number {n}")))
        .collect();
    let scene = Scene::new(Broker::shared(), "limits", 1);
    let scanner = scene.ready_replica("scanner-0");
    let records = [
        (nested(3), "threat", None),
        (nested(4), "partial", Some("decode_depth")),
        (many.join(" "), "partial", Some("max_decoded_payloads")),
        (
            carrying(&gzip(&vec![0; 20 << 20])),
            "partial",
            Some("max_filesize"),
        ),
        ("an ordinary line".to_owned(), "clean", None),
    ];
    scene.produce(records.iter().map(|(text, ..)| Outgoing::of(text.as_str())));
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_eq!(answers.len(), records.len());
    for (answer, (_, status, limit)) in answers.iter().zip(&records) {
        answer.assert_valid();
        assert_eq!(answer.status(), *status, "{:#}", answer.json);
        assert_eq!(limits(answer), limit.as_slice(), "{:#}", answer.json);
    }
    assert_eq!(scanner.scrape().sum("scanner_dlq_produced_total"), 0.0);
}

/// Proves: each of the bombs that took up to five minutes is partial.
#[test]
fn a_record_that_unpacks_to_much_more_than_itself_is_partial() {
    let Some(dir) = data("hostile") else {
        return;
    };
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let bombs = files.filter(|path| path.extension().is_some_and(|end| end == "line"));
    let mut records: Vec<_> = bombs.map(|path| fs::read(path).unwrap()).collect();
    assert!(!records.is_empty());
    for record in &mut records {
        record.truncate(record.trim_ascii_end().len());
    }
    let scene = Scene::new(Broker::shared(), "bombs", 1);
    let scanner = scene.ready_replica("scanner-0");
    let sent = records.len();
    scene.produce(records.into_iter().map(Outgoing::of));
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_eq!(answers.len(), sent);
    for answer in &answers {
        assert_eq!(answer.status(), "partial", "{:#}", answer.json);
        assert_eq!(limits(answer).len(), 1, "{:#}", answer.json);
    }
    assert_eq!(scanner.get("/livez").unwrap().0, 200);
    assert_eq!(scanner.scrape().sum("scanner_dlq_produced_total"), 0.0);
}

/// Proves: a record has the time that is set and no more, and what is left of it is not called clean.
#[test]
fn a_record_that_takes_too_long_is_partial_with_the_limit_on_time() {
    let scene = Scene::new(Broker::shared(), "time", 1);
    let mut scanner = scene
        .replica("scanner-0")
        .env("SCANNER_SCAN__MAX_SCAN_TIME", "300ms")
        .env("SCANNER_SCAN__MAX_RECORD_TIME", "300ms")
        .start();
    scanner.wait_until_ready(PATIENCE);
    // Eight pages of 15 MB each.
    let page = |n| format!("<html><body><p>text {n}</p></body></html>\n").repeat(380_000);
    let pages: Vec<_> = (0..8)
        .map(|n| BASE64_STANDARD.encode(gzip(page(n).as_bytes())))
        .collect();
    scene.produce([Outgoing::of(pages.join(" "))]);
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_eq!(answers[0].status(), "partial", "{:#}", answers[0].json);
    let limits = limits(&answers[0]);
    let of_time = ["max_scantime", "max_record_time"];
    assert!(of_time.contains(&limits[0]), "{limits:?}");
    assert_eq!(scanner.scrape().sum("scanner_dlq_produced_total"), 0.0);
}
