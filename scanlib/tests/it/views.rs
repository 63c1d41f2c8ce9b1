//! Which buffers of a message are scanned.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use crate::corpus;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use scanlib::message::{DecodeLimits, MAX_DECODED_BYTES, Parser, ViewBuffers, ViewSet};
use scanlib::{Incomplete, View};

/// As many as are decoded unless more are asked for.
const MAX_DECODED_PAYLOADS: usize = 8;

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

/// A text in base64 so often, with a word in front each time.
fn nested(text: &str, depth: usize) -> String {
    (0..depth).fold(text.to_owned(), |inner, _| {
        format!("eval {}", STANDARD.encode(inner))
    })
}

/// What is decoded of a record, and the limit that was met.
fn decoded_within(record: &[u8], limits: DecodeLimits) -> (Vec<Vec<u8>>, Option<Incomplete>) {
    let message = Parser::default().parse(record);
    let mut buffers = ViewBuffers::new(limits);
    let views = buffers.views(&message, ViewSet::ALL);
    let (limit, len) = (views.limit(), views.len());
    let all: Vec<_> = views.map(|view| (view.view, view.data.to_vec())).collect();
    assert_eq!(all.len(), len, "the iterator knows its length");
    let decoded = all.into_iter().filter(|(view, _)| *view == View::Decoded);
    (decoded.map(|(_, data)| data).collect(), limit)
}

#[test]
fn a_payload_is_decoded_to_the_depth_that_is_set_and_what_lies_deeper_is_said() {
    let text = "the innermost text";
    for depth in 1..=5 {
        for inner in 0..=6 {
            let limits = DecodeLimits {
                depth,
                ..DecodeLimits::default()
            };
            let record = nested(text, inner);
            let (found, limit) = decoded_within(record.as_bytes(), limits);
            assert_eq!(found.len(), inner.min(depth as usize));
            let is_found = found.last().is_some_and(|last| last == text.as_bytes());
            assert_eq!(is_found, inner > 0 && inner <= depth as usize);
            let expected = (inner > depth as usize).then_some(Incomplete::DecodeDepth);
            assert_eq!(limit, expected, "{inner} deep, limit {depth}");
        }
    }
    assert_eq!(DecodeLimits::default().depth, 3);
}

/// What a payload too deep is the same as is decoded, so nothing is missing.
#[test]
fn a_payload_that_is_known_from_elsewhere_does_not_lie_too_deep() {
    let limits = DecodeLimits {
        depth: 1,
        ..DecodeLimits::default()
    };
    let record = format!(
        "{} {}",
        nested("the same text", 2),
        nested("the same text", 1)
    );
    let (found, limit) = decoded_within(record.as_bytes(), limits);
    assert_eq!((found.len(), limit), (2, None));
}

#[test]
fn limits_of_decoding_have_a_lowest_and_a_highest_value() {
    let with = |depth, payloads| DecodeLimits { depth, payloads };
    let record = nested("the innermost text", 2);
    let (found, limit) = decoded_within(record.as_bytes(), with(0, 0));
    assert_eq!((found.len(), limit), (1, Some(Incomplete::DecodeDepth)));
    let many: String = (0..200)
        .map(|n| STANDARD.encode(format!("payload {n:05}")) + " ")
        .collect();
    let (found, limit) = decoded_within(many.as_bytes(), with(u32::MAX, u32::MAX));
    assert_eq!(found.len(), DecodeLimits::MAX_PAYLOADS as usize);
    assert_eq!(limit, Some(Incomplete::DecodedPayloads));
}

/// Only so many places of a run are tried in full. Those in front of this payload begin like text, and are none.
#[test]
fn a_payload_behind_more_beginnings_than_are_tried_is_said() {
    let decoy = STANDARD.encode("abcdefghijklmnopqr") + "AAAA/";
    let payload = "?>?>?>the payload";
    for decoys in 0..10 {
        let run = decoy.repeat(decoys) + &STANDARD.encode(payload);
        let (found, limit) = decoded_within(run.as_bytes(), DecodeLimits::default());
        if decoys < 5 {
            assert_eq!((found, limit), (vec![payload.as_bytes().to_vec()], None));
        } else {
            assert_eq!(limit, Some(Incomplete::DecodedPayloads), "{decoys}");
        }
    }
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

    /// The twin has the widest limits: whatever it decodes is decoded, or a limit is said.
    #[test]
    fn without_a_limit_nothing_is_missing(
        pieces in prop::collection::vec((0_usize..6, "[ -~]{12,30}", "[ ,;/+_-]{1,2}"), 0..8),
        noise in pieces(),
        depth in 1_u32..5,
        payloads in 1_u32..10,
    ) {
        let pieces = pieces.iter().map(|(depth, text, end)| nested(text, *depth) + end);
        let record = [pieces.collect::<String>().into_bytes(), noise].concat();
        let widest = DecodeLimits {
            depth: DecodeLimits::MAX_DEPTH,
            payloads: DecodeLimits::MAX_PAYLOADS,
        };
        let (mut all, widest_limit) = decoded_within(&record, widest);
        let (mut found, limit) = decoded_within(&record, DecodeLimits { depth, payloads });
        prop_assert!(found.len() <= payloads as usize);
        prop_assert!(found.iter().all(|data| all.contains(data)));
        all.sort();
        found.sort();
        prop_assert!(limit.is_some() || widest_limit.is_some() || found == all, "{:?} of {:?}", found, all);
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
