//! Which buffers of a message are scanned.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod corpus;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use scanlib::View;
use scanlib::message::{MAX_DECODED_BYTES, MAX_DECODED_PAYLOADS, Parser, ViewBuffers, ViewSet};

/// The views of a record as view and bytes.
fn views(record: &[u8], set: ViewSet) -> Vec<(View, Vec<u8>)> {
    let message = Parser::default().parse(record);
    let mut buffers = ViewBuffers::default();
    buffers
        .views(&message, set)
        .map(|view| (view.view, view.data.to_vec()))
        .collect()
}

fn decoded(record: &[u8]) -> Vec<String> {
    let all = views(record, ViewSet::ALL).into_iter();
    let decoded = all.filter(|(view, _)| *view == View::Decoded);
    decoded
        .map(|(_, data)| String::from_utf8_lossy(&data).into_owned())
        .collect()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_plain_text_is_scanned_once() {
    assert_eq!(
        views(b"hello", ViewSet::ALL),
        [(View::Raw, b"hello".to_vec())]
    );
    assert_eq!(views(b"", ViewSet::ALL), [(View::Raw, Vec::new())]);
}

#[test]
fn a_syslog_line_is_scanned_with_and_without_its_header() {
    let record = b"<38>Oct 11 22:14:15 web su[7]: hello";
    let expected = [
        (View::Raw, record.to_vec()),
        (View::Body, b"hello".to_vec()),
    ];
    assert_eq!(views(record, ViewSet::ALL), expected);
    assert_eq!(views(record, ViewSet::RAW), expected[..1]);
}

#[test]
fn a_syslog_line_in_json_is_scanned_in_three_forms() {
    let record = br#"{"message":"<38>Oct 11 22:14:15 web su[7]: a\\b"}"#;
    let text = br"<38>Oct 11 22:14:15 web su[7]: a\b";
    let expected = [
        (View::Raw, &record[..]),
        (View::Body, text),
        (View::Body, br"a\b"),
    ];
    assert_eq!(
        views(record, ViewSet::ALL),
        expected.map(|(view, data)| (view, data.to_vec()))
    );
}

#[test]
fn base64_is_found_in_either_alphabet_padded_or_not_and_behind_other_text() {
    let text = "<?php eval(1)?>~~~???>>> \u{e9}";
    for encoded in [
        STANDARD.encode(text),
        STANDARD_NO_PAD.encode(text),
        URL_SAFE.encode(text),
        URL_SAFE_NO_PAD.encode(text),
    ] {
        for record in [
            encoded.clone(),
            format!("data={encoded}&x=1"),
            format!("GET /a/b-c_d/{encoded} HTTP/1.1"),
            format!("<38>Oct 11 22:14:15 web su[7]: token {encoded}"),
            serde_json::json!({ "message": format!("x=\"{encoded}\"") }).to_string(),
        ] {
            assert_eq!(decoded(record.as_bytes()), [text], "{record}");
        }
    }
}

#[test]
fn sixteen_letters_of_base64_are_enough_padding_included() {
    for payload in ["rm -rf /home", "rm -rf /hom", "rm -rf /ho"] {
        let encoded = STANDARD.encode(payload);
        assert_eq!(encoded.len(), 16);
        assert_eq!(decoded(encoded.as_bytes()), [payload]);
    }
    assert_eq!(
        decoded(STANDARD_NO_PAD.encode("rm -rf /hom").as_bytes()),
        [""; 0]
    );
    assert_eq!(decoded(STANDARD.encode("rm -rf /h").as_bytes()), [""; 0]);
}

#[test]
fn utf16_becomes_utf8() {
    let encoded = STANDARD.encode(utf16("Write-Host 'é €'"));
    assert_eq!(
        decoded(format!("powershell -enc {encoded}").as_bytes()),
        ["Write-Host 'é €'"]
    );
}

#[test]
fn a_payload_in_a_payload_is_decoded_and_nothing_deeper() {
    let one = "the innermost text";
    let two = format!("eval {}", STANDARD.encode(one));
    let three = format!("eval {}", STANDARD.encode(&two));
    let four = format!("eval {}", STANDARD.encode(&three));
    assert_eq!(decoded(three.as_bytes()), [two.as_str(), one]);
    assert_eq!(decoded(four.as_bytes()), [three, two]);
}

#[test]
fn a_result_is_kept_only_if_it_is_text_or_starts_like_a_file() {
    let keeps = |data: &[u8]| decoded(STANDARD.encode(data).as_bytes()).len() == 1;
    assert!(keeps(b"tabs\tand\r\nline ends"));
    assert!(!keeps(b"a control byte \x01 in it"));
    assert!(!keeps(b"a zero byte \0 in it"));
    assert!(keeps(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"));
    assert!(keeps(b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0"));
    assert!(keeps(b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0"));
    assert!(keeps(b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x02\x03"));
    assert!(!keeps(b"\x1f\x8b\x07\0\0\0\0\0\0\x03\x01\x02\x03"));
    // An older character set: a few bytes of a longer text are not UTF-8.
    assert!(keeps(
        b"caf\xe9 and a text long enough to be no coincidence"
    ));
    assert!(!keeps(
        b"caf\xe9 and \xe9\xe8\xe9\xe8\xe9\xe8\xe9\xe8 a text of such bytes"
    ));
}

#[test]
fn more_payloads_than_allowed_are_left_out_and_it_is_said() {
    let record: String = (0..=MAX_DECODED_PAYLOADS)
        .map(|n| STANDARD.encode(format!("payload {n:05}")) + " ")
        .collect();
    let message = Parser::default().parse(record.as_bytes());
    let mut buffers = ViewBuffers::default();
    let views = buffers.views(&message, ViewSet::ALL);
    assert!(views.payloads_left_out());
    assert_eq!(views.len(), 1 + MAX_DECODED_PAYLOADS);

    // A full list and one of it once more: nothing is missing.
    let (distinct, _) = record.trim_end().rsplit_once(' ').unwrap();
    let record = format!("{distinct} {distinct}");
    let message = Parser::default().parse(record.as_bytes());
    let views = buffers.views(&message, ViewSet::ALL);
    assert!(!views.payloads_left_out());
    assert_eq!(views.len(), 1 + MAX_DECODED_PAYLOADS);

    // The same again and again is one payload.
    let record = (STANDARD.encode("payload 00000") + " ").repeat(50);
    let message = Parser::default().parse(record.as_bytes());
    let views = buffers.views(&message, ViewSet::ALL);
    assert!(!views.payloads_left_out());
    assert_eq!(views.len(), 2);
}

#[test]
fn a_payload_larger_than_allowed_is_cut_and_it_is_said() {
    let text = "0123456789 ".repeat(MAX_DECODED_BYTES / 10);
    let record = STANDARD.encode(&text);
    let message = Parser::default().parse(record.as_bytes());
    let mut buffers = ViewBuffers::default();
    let mut views = buffers.views(&message, ViewSet::ALL);
    assert!(views.payloads_left_out());
    let cut = views.nth(1).expect("a payload").data;
    assert!(cut.len() <= MAX_DECODED_BYTES && cut.len() > MAX_DECODED_BYTES - 3);
    assert!(text.as_bytes().starts_with(cut));
}

#[test]
fn view_sets_are_read_as_they_are_written() {
    let set: ViewSet = "raw, body,decoded".parse().expect("valid");
    assert_eq!(set.to_string(), "raw,body,decoded");
    assert!(!set.contains(View::Guarded));
    assert_eq!(
        "body".parse::<ViewSet>().map(|set| set.to_string()),
        Ok("raw,body".into())
    );
    assert_eq!(
        serde_json::from_str::<ViewSet>(r#"["raw","guarded"]"#)
            .expect("valid")
            .to_string(),
        "raw,guarded"
    );
    assert_eq!(ViewSet::ALL.to_string().parse(), Ok(ViewSet::ALL));
    let error = "raw,bodi"
        .parse::<ViewSet>()
        .expect_err("no such view")
        .to_string();
    assert!(
        error.contains("`bodi`") && error.contains("decoded"),
        "{error}"
    );
    assert!("".parse::<ViewSet>().is_err());
    assert!(serde_json::from_str::<ViewSet>(r#"["bodi"]"#).is_err());
}

/// Each decoded view costs a scan, so ordinary logs must hardly have any.
#[test]
fn ordinary_logs_have_hardly_any_decoded_view() {
    for name in [
        "auth-elastic.log.zst",
        "loghub-OpenStack.log.zst",
        "web-nasa-access.log.zst",
        "app-kafka-broker.log.zst",
    ] {
        let Some(messages) = corpus::messages(name) else {
            continue;
        };
        let with_payload = messages
            .iter()
            .filter(|message| !decoded(message).is_empty())
            .count();
        assert!(
            with_payload * 1000 <= messages.len(),
            "{name}: {with_payload} of {}",
            messages.len()
        );
    }
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[ -~]{8,40}".prop_map(|text| STANDARD.encode(text).into_bytes()),
        "[ -~]{8,40}".prop_map(|text| URL_SAFE_NO_PAD.encode(utf16(&text)).into_bytes()),
        "[ -~]{12,40}".prop_map(|text| STANDARD.encode(STANDARD.encode(text)).into_bytes()),
        "[A-Za-z0-9+/_=-]{0,60}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..20),
        Just(b"{\"message\":\"".to_vec()),
        Just(b"\"}".to_vec()),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_buffer_differs_and_all_bounds_hold(record in pieces()) {
        let all = views(&record, ViewSet::ALL);
        prop_assert_eq!((all[0].0, &all[0].1), (View::Raw, &record));
        for (place, (view, data)) in all.iter().enumerate() {
            prop_assert!(place == 0 || !data.is_empty());
            prop_assert!(all[..place].iter().all(|(_, other)| other != data), "{view} {data:?}");
        }
        let decoded = all.iter().filter(|(view, _)| *view == View::Decoded);
        prop_assert!(decoded.clone().count() <= MAX_DECODED_PAYLOADS);
        prop_assert!(decoded.map(|(_, data)| data.len()).sum::<usize>() <= MAX_DECODED_BYTES);
    }

    /// The buffers of one message leave nothing for the next.
    #[test]
    fn reused_buffers_give_what_new_ones_give(records in prop::collection::vec(pieces(), 1..5)) {
        let mut buffers = ViewBuffers::default();
        for record in &records {
            let message = Parser::default().parse(record);
            let reused: Vec<_> =
                buffers.views(&message, ViewSet::ALL).map(|view| (view.view, view.data.to_vec())).collect();
            prop_assert_eq!(reused, views(record, ViewSet::ALL));
        }
    }

    #[test]
    fn a_payload_between_other_words_is_always_found(
        text in "[ -~]{12,80}", before in "[ -*,:-@\\[-^`{-~]{0,20}", wide: bool,
    ) {
        let encoded = STANDARD.encode(if wide { utf16(&text) } else { text.clone().into_bytes() });
        let found = decoded(format!("{before} {encoded} end").as_bytes());
        prop_assert!(found.contains(&text), "{:?}", found);
    }
}
