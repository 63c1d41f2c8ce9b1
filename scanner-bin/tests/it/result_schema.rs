//! Results as they are written, against the schema that is published for them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jsonschema::Validator;
use proptest::prelude::*;
use scanlib::message::{Message, Parser};
use scanlib::report::{
    Detection, DetectionSource, Detections, Incomplete, Severity, ThreatType, Verdict, View,
};
use scanner_bin::log;
use scanner_bin::result::{
    ClamavState, DbMode, EngineState, Outcome, QUOTED_BYTES, ResultFormat, RulesState, ScanContext,
    Status, Summary, digest_only, encode, encode_as, scan_id,
};
use serde_json::Value;
use support::logs::captured;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let text = include_str!("../../scan-result.schema.json");
    let schema: Value = serde_json::from_str(text).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

fn valid(json: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(json).unwrap();
    let errors: Vec<_> = SCHEMA
        .iter_errors(&value)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?} in {value:#}");
    value
}

fn context() -> ScanContext<'static> {
    let scanned_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_760_928_242_484);
    ScanContext {
        instance: "scanner-0",
        is_replay: false,
        cluster: "abc",
        topic: "syslog-raw",
        partition: 1,
        offset: 4711,
        key: Some(b"10.42.2.1"),
        timestamp_ms: Some(1_760_928_242_101),
        scanned_at,
        processed_at: scanned_at + Duration::from_millis(1),
    }
}

fn engines() -> EngineState {
    EngineState {
        clamav: Some(ClamavState {
            version: "1.4.3".to_owned(),
            db_mode: DbMode::Builtin,
            profile: "log-only",
            left_out: Some(7),
            signatures: 1,
            digest: "0123abcd".to_owned(),
        }),
        rules: Some(RulesState { rules: 6 }),
    }
}

fn scanned(verdict: &Verdict) -> Outcome<'_> {
    Outcome::Scanned {
        verdict,
        type_ignored: false,
        elapsed: Duration::from_micros(184),
    }
}

fn rule(
    id: &str,
    severity: Severity,
    view: View,
    span: std::ops::Range<usize>,
    count: u32,
) -> Detection {
    sampled(id, severity, view, span, count, b"EVIL")
}

fn sampled(
    id: &str,
    severity: Severity,
    view: View,
    span: std::ops::Range<usize>,
    count: u32,
    sample: &[u8],
) -> Detection {
    Detection {
        name: format!("Malicious pattern: {id}"),
        source: DetectionSource::Rule {
            id: id.to_owned(),
            version: 1,
            span,
            count,
            sample: sample.to_vec(),
        },
        view,
        severity,
        threat_type: ThreatType::Malware,
    }
}

fn signature(name: &str) -> Detection {
    Detection {
        name: name.to_owned(),
        source: DetectionSource::Clamav,
        view: View::Body,
        severity: Severity::High,
        threat_type: ThreatType::Virus,
    }
}

fn infected(found: Vec<Detection>) -> Verdict {
    Verdict::Infected(Detections::new(found).unwrap())
}

fn written(record: &[u8], outcome: Outcome<'_>) -> (Value, Summary, Vec<u8>) {
    let parser = Parser::default();
    let message = parser.parse(record);
    written_for(&message, outcome)
}

fn written_for(message: &Message<'_>, outcome: Outcome<'_>) -> (Value, Summary, Vec<u8>) {
    let mut out = Vec::new();
    let summary = encode(&mut out, &context(), message, outcome, &engines());
    let value = valid(&out);
    assert_eq!(value["scan_id"], summary.scan_id.to_string());
    assert_eq!(value["status"], summary.status.as_str());
    assert_eq!(value["severity"], summary.severity);
    assert_eq!(
        value["threat_name"].as_str(),
        summary.threat_name.as_deref()
    );
    (value, summary, out)
}

const RECORD: &[u8] = br#"{"source_ip":"10.42.2.1","source_host":"gateway","source_port":"32596","facility":"user","priority":"notice","level":"notice","program":"<30>Sun","pid":"","timestamp":"2025-10-20T02:44:02+00:00","message":"<13>Oct 20 02:44:02 test-host test-app[7]: payload EVIL EVIL end"}"#;

#[test]
fn a_threat_is_written_in_the_published_form_and_order() {
    let parser = Parser::default();
    let message = parser.parse(RECORD);
    let at = message
        .body()
        .windows(4)
        .position(|w| w == b"EVIL")
        .unwrap();
    let verdict = infected(vec![
        signature("Some.Signature.UNOFFICIAL"),
        rule("low_rule", Severity::Low, View::Raw, 0..4, 1),
        rule("evil", Severity::High, View::Body, at..at + 4, 2),
    ]);
    let (value, summary, bytes) = written(RECORD, scanned(&verdict));
    assert_eq!(summary.status, Status::Threat);
    assert_eq!(summary.engine, Some("rules"));
    for (field, expected) in [
        ("threat_detected", Value::from(true)),
        ("threat_name", "Malicious pattern: evil".into()),
        ("threat_type", "malware".into()),
        ("severity", "high".into()),
        ("clamav_result", "Some.Signature.UNOFFICIAL".into()),
        ("timestamp", "2025-10-20T02:44:02.484Z".into()),
        ("processed_at", "2025-10-20T02:44:02.485Z".into()),
        ("event_time", "2025-10-20T02:44:02.000Z".into()),
        ("ingest_time", "2025-10-20T02:44:02.101Z".into()),
        ("source_ip", "10.42.2.1".into()),
        ("source_host", "gateway".into()),
        ("source_port", "32596".into()),
        ("origin_host", "test-host".into()),
        ("origin_app", "test-app".into()),
        ("origin_pid", "7".into()),
        ("program", "<30>Sun".into()),
        ("pid", "".into()),
        ("message_bytes", RECORD.len().into()),
    ] {
        assert_eq!(value[field], expected, "{field}");
    }
    assert_eq!(
        value["message"].as_str().unwrap().as_bytes(),
        message.text()
    );
    assert_eq!(value["raw_message"].as_str().unwrap().as_bytes(), RECORD);
    assert_eq!(
        value["patterns_found"],
        serde_json::json!([
            {"pattern": "low_rule", "matches": 1, "sample": "EVIL"},
            {"pattern": "evil", "matches": 2, "sample": "EVIL"},
        ])
    );
    assert_eq!(value["matches"].as_array().unwrap().len(), 3);
    assert_eq!(value["matches"][2]["start"], at);
    assert_eq!(
        value["kafka"],
        serde_json::json!({"topic": "syslog-raw", "partition": 1, "offset": 4711, "key": "10.42.2.1", "timestamp": 1_760_928_242_101_i64})
    );
    assert_eq!(value["engines"]["clamav"]["db_mode"], "builtin");
    assert_eq!(value["engines"]["clamav"]["db_profile"], "log-only");
    assert_eq!(value["engines"]["clamav"]["db_left_out"], 7);
    assert_eq!(value["scanner"]["duration_us"], 184);

    // The order of the fields, by where their names stand in the bytes.
    let text = String::from_utf8(bytes).unwrap();
    let order = [
        "schema_version",
        "scan_id",
        "status",
        "threat_detected",
        "threat_name",
        "threat_type",
        "severity",
        "patterns_found",
        "clamav_result",
        "engines",
        "limits",
        "timestamp",
        "processed_at",
        "event_time",
        "ingest_time",
        "source_ip",
        "source_host",
        "source_port",
        "origin_host",
        "facility",
        "priority",
        "level",
        "program",
        "message",
        "raw_message",
        "message_sha256",
        "message_bytes",
        "kafka",
        "scanner",
    ];
    let places: Vec<_> = order
        .iter()
        .map(|name| text.find(&format!("\"{name}\":")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{places:?} in {text}");
}

#[test]
fn the_highest_severity_names_the_threat_and_every_match_is_kept() {
    let of = |id: &str, severity| rule(id, severity, View::Raw, 0..4, 1);
    let found = [
        of("first", Severity::Low),
        of("worst", Severity::Critical),
        of("last", Severity::Medium),
    ];
    for turn in 0..found.len() {
        let mut found = found.to_vec();
        found.rotate_left(turn);
        let (value, ..) = written(RECORD, scanned(&infected(found)));
        assert_eq!(value["threat_name"], "Malicious pattern: worst");
        assert_eq!(value["severity"], "critical");
        assert_eq!(value["matches"].as_array().unwrap().len(), 3);
        assert_eq!(value["patterns_found"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn a_clean_record_says_clean_and_repeats_nothing() {
    let (value, summary, _) = written(b"just a line", scanned(&Verdict::Clean));
    assert_eq!(summary.status, Status::Clean);
    assert_eq!((summary.severity, &summary.threat_name), ("clean", &None));
    assert_eq!(value["threat_name"], Value::Null);
    assert_eq!(value["clamav_result"], Value::Null);
    assert_eq!(value["message"], "just a line");
    for absent in [
        "raw_message",
        "message_base64",
        "message_truncated",
        "reason",
        "truncated",
        "source_ip",
    ] {
        assert_eq!(value.get(absent), None, "{absent}");
    }
}

#[test]
fn nothing_but_a_complete_scan_is_called_clean() {
    let incomplete = |cause| Verdict::Incomplete {
        cause,
        so_far: Vec::new(),
    };
    let deadline = incomplete(Incomplete::Deadline);
    let engine = incomplete(Incomplete::EngineError {
        code: Some(9),
        log: vec!["no space left".into()],
    });
    let malformed = incomplete(Incomplete::Malformed {
        code: Some(26),
        log: vec!["cli_scanxz: premature \u{1b}[31m end".into()],
    });
    let ignored = Outcome::Scanned {
        verdict: &Verdict::Clean,
        type_ignored: true,
        elapsed: Duration::ZERO,
    };
    for (outcome, status, limits) in [
        (scanned(&deadline), "partial", vec!["max_record_time"]),
        (scanned(&malformed), "partial", vec!["malformed"]),
        (Outcome::TooLarge, "partial", vec!["max_message_bytes"]),
        (ignored, "partial", vec!["type_ignored"]),
        (scanned(&engine), "error", vec![]),
        (
            Outcome::Error {
                reason: "the scan panicked: boom",
            },
            "error",
            vec![],
        ),
        (
            Outcome::Skipped {
                reason: "tombstone",
            },
            "skipped",
            vec![],
        ),
    ] {
        let (value, summary, _) = written(b"a record", outcome);
        assert_eq!(value["status"], status);
        assert_eq!(value["limits"], serde_json::json!(limits));
        assert_eq!(summary.severity, "info", "{status} is not clean");
        assert_eq!(value["threat_detected"], false);
    }
    let (value, ..) = written(b"a record", scanned(&engine));
    assert_eq!(value["engines"]["clamav"]["state"], "error");
    assert!(value["reason"].as_str().unwrap().contains("no space left"));
    // The scanner is well, and the words of libclamav are passed on as they are: escaped by JSON.
    let (value, _, bytes) = written(b"a record", scanned(&malformed));
    assert_eq!(value["engines"]["clamav"]["state"], "ok");
    let reason = value["reason"].as_str().unwrap();
    assert!(
        reason.contains("cli_scanxz: premature \u{1b}[31m end"),
        "{reason}"
    );
    assert!(!bytes.iter().any(u8::is_ascii_control));
    let (value, ..) = written(b"", Outcome::Skipped { reason: "empty" });
    assert_eq!(
        (&value["message"], &value["message_bytes"]),
        (&"".into(), &0.into())
    );
}

#[test]
fn a_threat_in_the_part_that_was_examined_is_a_threat_and_the_limit_is_still_told() {
    for (cause, limits) in [
        (Incomplete::ScanBytes, serde_json::json!(["max_scansize"])),
        (
            Incomplete::EngineError {
                code: None,
                log: Vec::new(),
            },
            serde_json::json!([]),
        ),
    ] {
        let verdict = Verdict::Incomplete {
            cause,
            so_far: vec![signature("Eicar")],
        };
        let (value, summary, _) = written(b"a record", scanned(&verdict));
        assert_eq!(summary.status, Status::Threat);
        assert_eq!(summary.engine, Some("clamav"));
        assert_eq!(value["limits"], limits);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_shown_replaced_and_kept_as_base64() {
    let record = b"caf\xe9 <13> \xff";
    let (value, ..) = written(record, scanned(&Verdict::Clean));
    assert_eq!(value["message"], "caf\u{fffd} <13> \u{fffd}");
    let kept = BASE64_STANDARD
        .decode(value["message_base64"].as_str().unwrap())
        .unwrap();
    assert_eq!(kept, record);
}

#[test]
fn a_record_that_is_too_large_is_quoted_up_to_a_character() {
    let record = "ä".repeat(QUOTED_BYTES);
    let (value, _, bytes) = written(record.as_bytes(), Outcome::TooLarge);
    assert_eq!(value["message_truncated"], true);
    assert_eq!(value["message_bytes"], record.len());
    let quoted = value["message"].as_str().unwrap();
    assert!(
        record.starts_with(quoted) && quoted.len() == QUOTED_BYTES,
        "{}",
        quoted.len()
    );
    assert_eq!(value.get("message_base64"), None);
    assert!(bytes.len() < 2 * QUOTED_BYTES);

    let (value, ..) = written(b"larger than a tiny limit", Outcome::TooLarge);
    assert_eq!(value["message"], "larger than a tiny limit");
    assert_eq!(value.get("message_truncated"), None, "nothing was cut");
}

#[test]
fn what_the_record_brings_along_cannot_make_a_result_grow_without_bound() {
    let record = format!(
        r#"{{"message":"x","source_host":"{}"}}"#,
        "ö".repeat(100_000)
    );
    let many = (0..1000)
        .map(|n| rule(&format!("r{n}"), Severity::Low, View::Raw, 0..5, 1))
        .collect();
    let verdict = infected(many);
    let parser = Parser::default();
    let key = vec![b'k'; 100_000];
    let mut out = Vec::new();
    let context = ScanContext {
        key: Some(&key),
        ..context()
    };
    encode(
        &mut out,
        &context,
        &parser.parse(record.as_bytes()),
        scanned(&verdict),
        &engines(),
    );
    let value = valid(&out);
    assert_eq!(value["source_host"].as_str().unwrap().len(), 1024);
    assert_eq!(value["matches"].as_array().unwrap().len(), 100);
    assert_eq!(value["kafka"].get("key"), None);
    assert!(digest_only(&out).len() < 64 << 10);
}

#[test]
fn a_rule_that_matched_in_two_views_is_one_pattern() {
    let found = vec![
        sampled("evil", Severity::High, View::Decoded, 0..4, 1, b"hidden"),
        sampled("evil", Severity::High, View::Raw, 2..6, 3, b"plain"),
    ];
    let (value, ..) = written(b"a record", scanned(&infected(found)));
    assert_eq!(
        value["patterns_found"],
        serde_json::json!([{"pattern": "evil", "matches": 3, "sample": "hidden"}])
    );
    assert_eq!(value["matches"][1]["sample"], "plain");
}

#[test]
fn a_sample_has_at_most_a_hundred_characters_and_is_always_text() {
    let sample_of = |sample: &[u8]| {
        let verdict = infected(vec![sampled(
            "x",
            Severity::Low,
            View::Raw,
            0..9,
            1,
            sample,
        )]);
        let (value, ..) = written(b"a record", scanned(&verdict));
        assert_eq!(
            value["patterns_found"][0]["sample"],
            value["matches"][0]["sample"]
        );
        value["matches"][0]["sample"].as_str().unwrap().to_owned()
    };
    assert_eq!(sample_of(&b"x".repeat(256)), "x".repeat(100));
    assert_eq!(
        sample_of("\u{1f980}".repeat(101).as_bytes()),
        "\u{1f980}".repeat(100)
    );
    assert_eq!(sample_of(b"\x1b[2J\xff"), "\u{1b}[2J\u{fffd}");
}

#[test]
fn a_signature_alone_names_the_threat_after_libclamav() {
    let verdict = infected(vec![signature("Eicar-Test-Signature")]);
    let (value, summary, _) = written(b"a record", scanned(&verdict));
    assert_eq!(value["threat_name"], "ClamAV: Eicar-Test-Signature");
    assert_eq!(value["threat_type"], "virus");
    assert_eq!(value["clamav_result"], "Eicar-Test-Signature");
    assert_eq!(value["matches"][0]["name"], "Eicar-Test-Signature");
    assert_eq!(value["patterns_found"], serde_json::json!([]));
    assert_eq!(summary.engine, Some("clamav"));
}

#[test]
fn engines_that_are_off_are_named_as_off() {
    let parser = Parser::default();
    let mut out = Vec::new();
    let off = EngineState::default();
    encode(
        &mut out,
        &context(),
        &parser.parse(b"x"),
        scanned(&Verdict::Clean),
        &off,
    );
    let engines = &valid(&out)["engines"];
    assert_eq!(
        engines,
        &serde_json::json!({"clamav": {"state": "off"}, "rules": {"state": "off"}})
    );
}

#[test]
fn a_key_that_is_not_utf8_is_base64_and_no_key_is_no_field() {
    let parser = Parser::default();
    let key_of = |key: Option<&[u8]>| {
        let mut out = Vec::new();
        let context = ScanContext {
            key,
            timestamp_ms: None,
            ..context()
        };
        encode(
            &mut out,
            &context,
            &parser.parse(b"x"),
            scanned(&Verdict::Clean),
            &engines(),
        );
        let value = valid(&out);
        assert_eq!(value.get("ingest_time"), None);
        value["kafka"].clone()
    };
    assert_eq!(key_of(Some(b"\xff"))["key_base64"], "/w==");
    assert_eq!(key_of(Some(b""))["key"], "");
    let none = key_of(None);
    assert!(
        none.get("key").is_none() && none.get("key_base64").is_none(),
        "{none}"
    );
}

#[test]
fn the_same_record_has_the_same_identity_and_no_other_has_it() {
    let id = scan_id("c", "t", 1, 2);
    assert_eq!(id, scan_id("c", "t", 1, 2));
    // Fixed for ever: a new value would double every record that is scanned again.
    assert_eq!(id.to_string(), "431bee31-da74-5584-846a-afde0b9ac3ac");
    for other in [
        scan_id("d", "t", 1, 2),
        scan_id("c", "u", 1, 2),
        scan_id("c", "t", 12, 2),
        scan_id("c", "t", 1, 3),
    ] {
        assert_ne!(other, id);
    }
}

#[test]
fn a_digest_has_everything_but_the_text() {
    let verdict = infected(vec![
        rule("evil", Severity::High, View::Raw, 0..4, 1),
        signature("Eicar"),
    ]);
    let (whole, _, bytes) = written(RECORD, scanned(&verdict));
    let digest = digest_only(&bytes);
    let mut expected = whole.clone();
    let object = expected.as_object_mut().unwrap();
    object.remove("message");
    object.remove("raw_message");
    object.insert("truncated".to_owned(), true.into());
    object["patterns_found"][0]
        .as_object_mut()
        .unwrap()
        .remove("sample");
    object["matches"][0]
        .as_object_mut()
        .unwrap()
        .remove("sample");
    assert_eq!(valid(&digest), expected);
    assert!(digest.starts_with(b"{\"schema_version\":\"1.1\",\"scan_id\":"));
    assert_eq!(digest_only(&digest), digest);
    assert_eq!(digest_only(b"no result"), b"no result");
    assert_eq!(digest_only(b"{}"), b"{}");
}

/// The row of a message with its schema, held to what Kafka Connect's `JsonConverter` holds it to: an envelope of exactly two members,
/// each field of the schema with a value of its type, null only where the schema allows it, and no value of which it does not speak.
fn row_of(envelope: &[u8]) -> Value {
    let envelope: Value = serde_json::from_slice(envelope).unwrap();
    let envelope = envelope.as_object().unwrap();
    assert_eq!(envelope.keys().collect::<Vec<_>>(), ["payload", "schema"]);
    let (schema, row) = (
        &envelope["schema"],
        envelope["payload"].as_object().unwrap(),
    );
    assert_eq!(schema["type"], "struct");
    assert_eq!(schema["optional"], false);
    let fields = schema["fields"].as_array().unwrap();
    for field in fields {
        let name = field["field"].as_str().unwrap();
        let value = &row[name];
        let is_of_its_type = match field["type"].as_str().unwrap() {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            other => panic!("{other} is no type of this row"),
        };
        let may_be_null = field["optional"].as_bool().unwrap();
        assert!(
            is_of_its_type || (may_be_null && value.is_null()),
            "{name}: {value}"
        );
    }
    assert_eq!(row.len(), fields.len());
    envelope["payload"].clone()
}

#[test]
fn a_row_has_the_fields_of_the_table_and_says_what_the_result_says() {
    let verdict = infected(vec![
        rule("evil", Severity::High, View::Raw, 0..4, 2),
        signature("Eicar"),
    ]);
    let parser = Parser::default();
    let message = parser.parse(RECORD);
    let (result, ..) = written_for(&message, scanned(&verdict));
    let mut out = Vec::new();
    encode_as(
        ResultFormat::ConnectJson,
        &mut out,
        &context(),
        &message,
        scanned(&verdict),
        &engines(),
    );
    let row = row_of(&out);
    let columns: Vec<&str> = include_str!("../../../docs/scan_results.sql")
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    let mut named: Vec<&str> = row
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut of_the_table = columns.clone();
    named.sort_unstable();
    of_the_table.sort_unstable();
    assert_eq!(named, of_the_table);
    for name in columns {
        if name == "patterns_found" {
            let found: Value = serde_json::from_str(row[name].as_str().unwrap()).unwrap();
            assert_eq!(found, result[name]);
        } else {
            assert_eq!(row[name], result[name], "{name}");
        }
    }

    let shorter = row_of(&digest_only(&out));
    let mut expected = row;
    expected["message"] = Value::Null;
    expected["raw_message"] = Value::Null;
    expected["patterns_found"] = r#"[{"pattern":"evil","matches":2}]"#.into();
    assert_eq!(shorter, expected);
}

#[test]
fn the_detection_line_starts_as_it_always_did() {
    let verdict = infected(vec![rule("evil", Severity::High, View::Raw, 0..4, 1)]);
    let parser = Parser::default();
    let line_for = |record: &[u8]| {
        let message = parser.parse(record);
        let (_, summary, _) = written_for(&message, scanned(&verdict));
        let line = captured("info", || {
            log::threat_detected(&summary, &context(), &message.fields);
        });
        (line, summary.scan_id)
    };
    let (line, id) = line_for(RECORD);
    let start = format!(
        r#"{{"message":"Threat detected","scan_id":"{id}","threat_name":"Malicious pattern: evil","severity":"high","source_host":"gateway","topic":"syslog-raw","partition":1,"offset":4711,"engine":"rules","level":"warn","ts":""#
    );
    assert!(line.starts_with(&start), "{line}");
    let (line, _) = line_for(b"<13>Oct 20 02:44:02 test-host app: EVIL");
    assert!(line.contains(r#""source_host":"test-host""#), "{line}");
    let (line, _) = line_for(b"EVIL");
    assert!(line.contains(r#""source_host":"unknown""#), "{line}");
}

#[test]
fn no_text_of_a_record_makes_a_detection_line_long() {
    let name = "n".repeat(10_000);
    let verdict = infected(vec![rule(&name, Severity::High, View::Raw, 0..4, 1)]);
    let parser = Parser::default();
    let host = "é".repeat(1_000_000);
    for record in [
        format!(r#"{{"message":"EVIL","source_host":"{host}"}}"#),
        format!("<13>Oct 20 02:44:02 {host} app: EVIL"),
    ] {
        let message = parser.parse(record.as_bytes());
        let (_, summary, _) = written_for(&message, scanned(&verdict));
        let line = captured("info", || {
            log::threat_detected(&summary, &context(), &message.fields);
        });
        assert!(line.len() < 2048, "{} bytes", line.len());
        let value: Value = serde_json::from_str(&line).unwrap();
        for field in ["source_host", "threat_name"] {
            let text = value[field].as_str().unwrap();
            if text == "unknown" {
                continue;
            }
            let (kept, _) = text.split_once('…').expect("the cut is marked");
            assert_eq!(kept.chars().count(), log::LONGEST_RECORD_TEXT, "{field}");
        }
    }
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    let view = prop_oneof![
        Just(View::Raw),
        Just(View::Body),
        Just(View::Decoded),
        Just(View::Guarded)
    ];
    let severity = prop_oneof![
        Just(Severity::Info),
        Just(Severity::Medium),
        Just(Severity::Critical)
    ];
    let detection = (
        ".{0,20}",
        view,
        severity,
        0usize..80,
        1u32..5,
        any::<Vec<u8>>(),
        any::<bool>(),
    )
        .prop_map(
            |(name, view, severity, start, count, sample, of_clamav)| match of_clamav {
                true => Detection {
                    view,
                    severity,
                    ..signature(&name)
                },
                false => sampled(
                    &name,
                    severity,
                    view,
                    start..start + sample.len(),
                    count,
                    &sample,
                ),
            },
        );
    let cause = prop_oneof![
        Just(Incomplete::Cancelled),
        Just(Incomplete::Recursion),
        ".{0,20}".prop_map(Incomplete::OtherLimit),
        Just(Incomplete::Deadline),
        ".{0,20}".prop_map(|line| Incomplete::Malformed {
            code: None,
            log: vec![line]
        }),
        ".{0,20}".prop_map(|line| Incomplete::EngineError {
            code: Some(1),
            log: vec![line]
        }),
    ];
    let found = proptest::collection::vec(detection, 0..4);
    (found, proptest::option::of(cause)).prop_map(|(found, cause)| match cause {
        Some(cause) => Verdict::Incomplete {
            cause,
            so_far: found,
        },
        None => Detections::new(found).map_or(Verdict::Clean, Verdict::Infected),
    })
}

/// Bytes of any kind, and records of the kinds that are parsed.
fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let json = (".{0,30}", ".{0,30}", ".{0,30}").prop_map(|(message, host, pid)| {
        serde_json::json!({"message": message, "source_host": host, "pid": pid})
            .to_string()
            .into_bytes()
    });
    prop_oneof![
        any::<Vec<u8>>(),
        ".{0,60}".prop_map(String::into_bytes),
        json,
        "<[0-9]{1,3}>(1 )?[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} .{0,20}: .{0,30}"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn any_record_with_any_verdict_makes_a_valid_result(
        record in any_record(),
        verdict in any_verdict(),
        type_ignored: bool,
        key: Option<Vec<u8>>,
        timestamp_ms: Option<i64>,
        which in 0..4,
        word in ".{0,20}",
    ) {
        let parser = Parser::default();
        let message = parser.parse(&record);
        let outcome = match which {
            0 => Outcome::Skipped { reason: &word },
            1 => Outcome::Error { reason: &word },
            2 => Outcome::TooLarge,
            _ => Outcome::Scanned { verdict: &verdict, type_ignored, elapsed: Duration::MAX },
        };
        let context = ScanContext { key: key.as_deref(), timestamp_ms, ..context() };
        let mut out = b"before".to_vec();
        let summary = encode(&mut out, &context, &message, outcome, &engines());
        prop_assert!(out.starts_with(b"before{"), "it appends");
        let json = &out[b"before".len()..];
        let value = valid(json);
        prop_assert!(!json.iter().any(u8::is_ascii_control));
        prop_assert_eq!(value["status"].as_str(), Some(summary.status.as_str()));
        let complete = which == 3 && verdict == Verdict::Clean && !type_ignored;
        prop_assert_eq!(summary.status == Status::Clean, complete);
        prop_assert_eq!(summary.severity == "clean", complete);

        let mut envelope = Vec::new();
        encode_as(ResultFormat::ConnectJson, &mut envelope, &context, &message, outcome, &engines());
        prop_assert!(!envelope.iter().any(u8::is_ascii_control));
        for (name, column) in row_of(&envelope).as_object().unwrap() {
            let field = value.get(name).cloned().unwrap_or_default();
            if name == "patterns_found" {
                prop_assert_eq!(&serde_json::from_str::<Value>(column.as_str().unwrap()).unwrap(), &field);
            } else {
                prop_assert_eq!(column, &field);
            }
        }
        row_of(&digest_only(&envelope));

        let text = message.text();
        match value.get("message_base64") {
            Some(base64) => prop_assert_eq!(BASE64_STANDARD.decode(base64.as_str().unwrap()).unwrap(), text),
            None => prop_assert_eq!(value["message"].as_str().unwrap().as_bytes(), text),
        }
        let digest = valid(&digest_only(json));
        prop_assert_eq!(&digest["matches"].as_array().map(Vec::len), &value["matches"].as_array().map(Vec::len));
        prop_assert_eq!(&digest["message_sha256"], &value["message_sha256"]);
    }
}
