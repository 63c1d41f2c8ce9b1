//! Any bytes are a message, and none of its bytes is lost.

use std::borrow::Cow;

use scanlib::message::{Fields, Format, Message, Parser};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// 2026-01-01 in UTC: the end of a year, where a missing one is easiest to get wrong.
const RECEIVED_MS: i64 = 1_767_225_600_000;

/// Panics unless the record is parsed as promised.
pub fn check(record: &[u8]) {
    let parser = Parser::default();
    let message = parser.parse(record);
    nothing_is_lost(record, &message);
    metadata_is_consistent(&message);
    the_time_of_receipt_changes_nothing_but_times(&parser, record, &message);
    the_same_inside_json_reads_the_same(&parser, record, &message);
}

fn nothing_is_lost(record: &[u8], message: &Message<'_>) {
    assert_eq!(message.raw, record);
    assert!(message.text().ends_with(message.body()));
    match (json_message(record), message.format) {
        (Some(text), format) => {
            assert_eq!(format, Format::Json);
            assert_eq!(message.text(), text.as_bytes());
        }
        // JSON with bytes that are no UTF-8, or nested deeper than others read, is JSON to us only.
        (None, Format::Json) => assert!(record.contains(&b'{')),
        (None, _) => assert_eq!(message.text(), record),
    }
}

/// The member `message` of a JSON object, if it is a string, as another parser reads it.
fn json_message(record: &[u8]) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(record).ok()?;
    Some(object.get("message")?.as_str()?.to_owned())
}

fn metadata_is_consistent(message: &Message<'_>) {
    assert_ne!(message.text_format, Format::Json);
    if let Some(pri) = message.pri {
        assert!(pri.number() < 192);
        assert!(message.fields.facility.is_some() && message.fields.level.is_some());
    }
    if let Some(time) = &message.fields.event_time {
        let parsed = OffsetDateTime::parse(time, &Rfc3339);
        assert!(
            parsed.is_ok_and(|parsed| parsed.offset().is_utc()) && time.len() == 24,
            "{time}"
        );
    }
}

fn the_time_of_receipt_changes_nothing_but_times(
    parser: &Parser,
    record: &[u8],
    message: &Message<'_>,
) {
    let received = parser.parse_received(record, Some(RECEIVED_MS));
    assert_eq!(
        (received.format, received.text_format, received.pri),
        (message.format, message.text_format, message.pri)
    );
    assert_eq!(
        (received.text(), received.body()),
        (message.text(), message.body())
    );
    assert_eq!(
        timeless(received.fields.clone()),
        timeless(message.fields.clone())
    );
    // What is known without the time of receipt does not depend on it, except a year.
    if message.fields.event_time.is_some() {
        assert!(received.fields.event_time.is_some());
    }
}

fn timeless(fields: Fields<'_>) -> Fields<'_> {
    let mut fields = fields;
    fields.event_time = None;
    fields
}

fn the_same_inside_json_reads_the_same(parser: &Parser, record: &[u8], bare: &Message<'_>) {
    let Ok(text) = std::str::from_utf8(record) else {
        return;
    };
    if bare.format == Format::Json {
        return;
    }
    let wrapped = serde_json::json!({ "message": text, "source_host": "gateway" }).to_string();
    let wrapped = parser.parse(wrapped.as_bytes());
    assert_eq!(wrapped.format, Format::Json);
    assert_eq!(
        (wrapped.text_format, wrapped.pri),
        (bare.text_format, bare.pri)
    );
    assert_eq!((wrapped.text(), wrapped.body()), (bare.text(), bare.body()));
    let mut expected = bare.fields.clone();
    expected.source_host = Some(Cow::Borrowed("gateway"));
    assert_eq!(wrapped.fields, expected);
}
