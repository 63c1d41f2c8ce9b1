//! What becomes of a record's bytes: the promises of the parser.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use crate::corpus;

use proptest::prelude::*;
use scanlib::message::{FieldNames, Format, Message, Parser};

fn parse(record: &[u8]) -> Message<'_> {
    Parser::default().parse(record)
}

/// Host, program, process id, time and body.
fn origin<'m>(message: &'m Message<'_>) -> [&'m str; 5] {
    let f = &message.fields;
    [
        f.origin_host.as_deref().unwrap_or("?"),
        f.origin_app.as_deref().unwrap_or("?"),
        f.origin_pid.as_deref().unwrap_or("?"),
        f.event_time.as_deref().unwrap_or("?"),
        std::str::from_utf8(message.body()).expect("text"),
    ]
}

#[test]
fn bsd_syslog_gives_its_header_and_its_body() {
    let message = parse(b"<38>Oct 11 22:14:15 web01 sshd(pam_unix)[4242]: session opened");
    assert_eq!(message.format, Format::Rfc3164);
    assert_eq!(message.pri.map(|pri| pri.number()), Some(38));
    assert_eq!(message.fields.facility.as_deref(), Some("auth"));
    assert_eq!(message.fields.level.as_deref(), Some("info"));
    // Without a year and without anything to tell it from, the time is not invented.
    assert_eq!(
        origin(&message),
        ["web01", "sshd(pam_unix)", "4242", "?", "session opened"]
    );
}

#[test]
fn versioned_syslog_gives_its_header_and_its_body() {
    let record = b"<165>1 2003-10-11T22:14:15.003+02:00 host.example.com app 17 ID47 [a@1 k=\"x \\\"] y\"][b@2] \xef\xbb\xbfthe text";
    let message = parse(record);
    assert_eq!(message.format, Format::Rfc5424);
    let expected = [
        "host.example.com",
        "app",
        "17",
        "2003-10-11T20:14:15.003Z",
        "the text",
    ];
    assert_eq!(origin(&message), expected);
    assert_eq!(message.fields.facility.as_deref(), Some("local4"));

    let message = parse(b"<165>1 - - - - - - hello");
    assert_eq!(origin(&message), ["?", "?", "?", "?", "hello"]);
    let message = parse(b"<165>1 - h a p m [broken k=\"v\" hello");
    assert_eq!(
        origin(&message),
        ["h", "a", "p", "?", "[broken k=\"v\" hello"]
    );
}

/// A collector that does not parse takes `<30>Sun` for the program and leaves the rest as text.
#[test]
fn a_header_that_the_collector_did_not_parse_is_recovered() {
    let record = br#"{"message":"Oct 19 21:44:02 CDT 2025 test-host test-app: a message","source_ip":"10.42.2.1",
        "source_host":"10.42.2.1","source_port":32596,"facility":"user","priority":"notice","level":"notice",
        "program":"<30>Sun","pid":"","timestamp":"2025-10-20T02:44:02+00:00"}"#;
    let message = parse(record);
    assert_eq!(
        (message.format, message.text_format),
        (Format::Json, Format::Rfc3164)
    );
    let expected = [
        "test-host",
        "test-app",
        "?",
        "2025-10-20T02:44:02.000Z",
        "a message",
    ];
    assert_eq!(origin(&message), expected);
    assert_eq!(
        message.pri.map(|pri| (pri.facility(), pri.level())),
        Some(("daemon", "info"))
    );
    let f = &message.fields;
    assert_eq!(f.source_port.as_deref(), Some("32596"));
    assert_eq!(f.program.as_deref(), Some("<30>Sun"));
    assert_eq!(f.pid.as_deref(), Some(""));
    // What the collector says is passed on, also where the priority says something else.
    assert_eq!(
        (f.facility.as_deref(), f.level.as_deref()),
        (Some("user"), Some("notice"))
    );

    let message = parse(b"<30>Sun Oct 19 21:44:02 CDT 2025 test-host test-app: a message");
    assert_eq!(origin(&message), expected);
}

#[test]
fn times_are_read_in_every_form_that_devices_write() {
    for (text, time) in [
        (
            "<13>May 21 2017 00:00:01: %ASA-6-1: x",
            "2017-05-21T00:00:01.000Z",
        ),
        (
            "<13>AUG 10 22:18:24 2009  host tag: x",
            "2009-08-10T22:18:24.000Z",
        ),
        (
            "<13>Aug  1 22:18:24.1239 2009 UTC host tag: x",
            "2009-08-01T22:18:24.123Z",
        ),
        (
            "<13>2011-03-01T11:22:12Z host tag: x",
            "2011-03-01T11:22:12.000Z",
        ),
        (
            "<13>2011-03-01 11:22:12,5 host tag: x",
            "2011-03-01T11:22:12.500Z",
        ),
        (
            "2011-03-01T11:22:60-0130 host tag: x",
            "2011-03-01T12:52:59.000Z",
        ),
        // No such day, no such zone, before the first year: unknown, and not the end of the header.
        ("<13>0000-01-01T00:00:00+00:10 host tag: x", "?"),
        ("<13>Feb 30 2011 11:22:12 host tag: x", "?"),
        ("<13>Feb 20 11:22:12 XYZT 2011 host tag: x", "?"),
    ] {
        let message = parse(text.as_bytes());
        assert_eq!(
            message.fields.event_time.as_deref().unwrap_or("?"),
            time,
            "{text}"
        );
        assert_eq!(message.body(), b"x", "{text}");
    }
}

#[test]
fn a_missing_year_comes_from_the_time_of_receipt() {
    let new_year = 1_767_225_600_000; // 2026-01-01T00:00:00Z
    let time = |text: &'static str| {
        Parser::default()
            .parse_received(text.as_bytes(), Some(new_year))
            .fields
            .event_time
    };
    assert_eq!(
        time("<1>Dec 31 23:59:59 h a: x").as_deref(),
        Some("2025-12-31T23:59:59.000Z")
    );
    // A clock may be ahead, but not by more than a day.
    assert_eq!(
        time("<1>Jan  1 20:00:00 h a: x").as_deref(),
        Some("2026-01-01T20:00:00.000Z")
    );
    assert_eq!(
        time("<1>Jan  3 20:00:00 h a: x").as_deref(),
        Some("2025-01-03T20:00:00.000Z")
    );
    assert_eq!(
        time("<1>Feb 29 20:00:00 h a: x").as_deref(),
        Some("2024-02-29T20:00:00.000Z")
    );
    let far = Parser::default().parse_received(b"<1>Feb 29 20:00:00 h a: x", Some(i64::MAX));
    assert_eq!(far.fields.event_time, None);
}

#[test]
fn the_member_names_of_a_json_record_are_configurable() {
    let names: FieldNames =
        serde_json::from_str(r#"{"message":"msg","source_ip":"peer"}"#).expect("names");
    let message = Parser::new(names)
        .parse(br#"{"msg":"a\tb\u00e9","peer":"::1","level":null,"pid":7,"x":{"msg":"no"}}"#);
    assert_eq!(message.text(), "a\tbé".as_bytes());
    assert_eq!(message.fields.source_ip.as_deref(), Some("::1"));
    assert_eq!(
        (message.fields.level, message.fields.pid.as_deref()),
        (None, Some("7"))
    );
    assert!(serde_json::from_str::<FieldNames>(r#"{"mesage":"msg"}"#).is_err());
}

#[test]
fn broken_json_and_json_without_a_message_are_plain_text() {
    for record in [
        &b"{\"message\":\"cut"[..],
        br#"{"msg":"x"}"#,
        br#"{"message":{"a":1}}"#,
        b"[1]",
        b"{}",
        b"",
    ] {
        let message = parse(record);
        assert_eq!(message.format, Format::Plain);
        assert_eq!((message.text(), message.body()), (record, record));
    }
}

#[test]
fn bytes_that_are_no_utf8_reach_the_text_unchanged() {
    let message =
        parse(b"{\"message\":\"<13>Oct 11 22:14:15 h\xff a: \xfe\\\\\",\"source_host\":\"\xff\"}");
    assert_eq!(message.text(), b"<13>Oct 11 22:14:15 h\xff a: \xfe\\");
    assert_eq!(message.fields.source_host.as_deref(), Some("\u{fffd}"));
    let message = parse(b"<13>Oct 11 22:14:15 h a: \xfe");
    assert_eq!(message.body(), b"\xfe");
}

#[test]
fn what_only_looks_like_a_header_stays_in_the_body() {
    for (text, body) in [
        ("just text: no header", "just text: no header"),
        (
            "2015-03-29T12:00:00Z INFO org.example: started",
            "2015-03-29T12:00:00Z INFO org.example: started",
        ),
        ("<192>Oct 11 22:14:15 h a: x", "<192>Oct 11 22:14:15 h a: x"),
        (
            "<13>Oct 11 22:14:15 host http://example.com/ x",
            "http://example.com/ x",
        ),
        ("<13>Oct 11 22:14:15 host 10:30 is late", "10:30 is late"),
        (
            "<13>last message repeated 5 times",
            "last message repeated 5 times",
        ),
        ("16 <1>1 - - - - - - x", "x"),
    ] {
        assert_eq!(parse(text.as_bytes()).body(), body.as_bytes(), "{text}");
    }
}

fn assert_nothing_is_lost(record: &[u8]) {
    let message = parse(record);
    assert_eq!(message.raw, record);
    assert!(message.text().ends_with(message.body()));
    if message.format == Format::Json {
        let record: serde_json::Value = serde_json::from_slice(record).expect("valid");
        let text = &record["message"];
        let text = text
            .as_str()
            .map_or_else(|| text.to_string(), str::to_owned);
        assert_eq!(message.text(), text.as_bytes());
    } else {
        assert_eq!(message.text(), record);
    }
}

#[test]
fn no_byte_of_a_published_message_is_lost() {
    for name in [
        "syslog-edge.jsonl.zst",
        "product-logs.jsonl.zst",
        "vendor-messages.jsonl.zst",
        "cloud-events.jsonl.zst",
        "loghub-Linux.log.zst",
    ] {
        let Some(messages) = corpus::messages(name) else {
            continue;
        };
        for message in &messages {
            assert_nothing_is_lost(message);
            // The same inside a JSON record reads the same.
            let Ok(text) = std::str::from_utf8(message) else {
                continue;
            };
            let record = serde_json::json!({ "message": text }).to_string();
            assert_nothing_is_lost(record.as_bytes());
            let (bare, wrapped) = (parse(message), parse(record.as_bytes()));
            if bare.format != Format::Json {
                assert_eq!(bare.fields, wrapped.fields);
                assert_eq!(bare.body(), wrapped.body());
            }
        }
    }
}

/// A second opinion from a parser that others wrote.
#[test]
fn published_versioned_syslog_reads_as_another_parser_reads_it() {
    let Some(messages) = corpus::messages("syslog-edge.jsonl.zst") else {
        return;
    };
    let mut compared = 0;
    for record in &messages {
        let Ok(text) = std::str::from_utf8(record) else {
            continue;
        };
        let ours = parse(record);
        let theirs = syslog_loose::parse_message(text, syslog_loose::Variant::RFC5424);
        if ours.format != Format::Rfc5424
            || !matches!(theirs.protocol, syslog_loose::Protocol::RFC5424(_))
        {
            continue;
        }
        compared += 1;
        let pid = theirs.procid.map(|id| id.to_string());
        let time = theirs
            .timestamp
            .map(|t| t.to_utc().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
        let expected = (theirs.hostname, theirs.appname, pid.as_deref(), time);
        let f = &ours.fields;
        let found = (
            f.origin_host.as_deref(),
            f.origin_app.as_deref(),
            f.origin_pid.as_deref(),
            f.event_time.clone(),
        );
        assert_eq!(found, expected, "{text:?}");
        // White space at the ends is a matter of taste: we keep what follows the text.
        let body = std::str::from_utf8(ours.body()).map(str::trim);
        assert_eq!(body, Ok(theirs.msg.trim()), "{text:?}");
    }
    assert!(compared > 100, "only {compared} compared");
}

/// Pieces of headers in any order, with anything in between.
fn nearly_syslog() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"<13>".to_vec()),
        Just(b"<30>Sun ".to_vec()),
        Just(b"1 ".to_vec()),
        Just(b"Oct 11 22:14:15 ".to_vec()),
        Just(b"2003-10-11T22:14:15.003Z ".to_vec()),
        Just(b"9999-12-31T23:59:59-23:59 ".to_vec()),
        Just(b"CDT 2025 ".to_vec()),
        Just(b"- - - - ".to_vec()),
        Just(b"[a b=\"".to_vec()),
        Just(b"\\\"]".to_vec()),
        Just(b"host app[7]: ".to_vec()),
        Just(b"{\"message\":\"".to_vec()),
        Just(b"\"}".to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_a_message(record: Vec<u8>, received: Option<i64>) {
        let message = Parser::default().parse_received(&record, received);
        prop_assert!(message.text().ends_with(message.body()));
    }

    #[test]
    fn nearly_syslog_loses_no_byte(record in nearly_syslog(), received: Option<i64>) {
        let message = Parser::default().parse_received(&record, received);
        prop_assert!(message.text().ends_with(message.body()));
        if message.format != Format::Json {
            prop_assert_eq!(message.text(), &record[..]);
        }
    }

    #[test]
    fn a_well_formed_header_is_always_found(
        pri in 0_u8..192, host in "[a-z][a-z0-9.-]{0,20}", app in "[a-z][a-z0-9_/-]{0,20}", pid in 0_u32..99999,
        body in "[!-~][ -~]{0,40}",
    ) {
        let bsd = format!("<{pri}>Oct  1 22:14:15 {host} {app}[{pid}]: {body}");
        let versioned = format!("<{pri}>1 2003-10-11T22:14:15.003Z {host} {app} {pid} - - {body}");
        for record in [bsd, versioned] {
            let message = parse(record.as_bytes());
            prop_assert_eq!(message.pri.map(|pri| pri.number()), Some(pri));
            let [found_host, found_app, found_pid, _, found_body] = origin(&message);
            prop_assert_eq!([found_host, found_app, found_body], [&host, &app, &body]);
            prop_assert_eq!(found_pid, pid.to_string());
        }
    }
}
