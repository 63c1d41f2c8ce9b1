//! A result as a row with its schema, which Kafka Connect's `JsonConverter` reads with `schemas.enable=true`: for sinks that fill a table.
//!
//! A row is flat, so it has fewer fields than a result. `patterns_found` is the JSON of the result's own list. What is not known is null.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::record::{Pattern, ScanResult};
use crate::json;

type Text<'a> = Cow<'a, str>;

/// Declares a row and its columns together, so that neither has one that the other lacks.
macro_rules! row {
    ($( $name:ident: $kind:literal, $is_optional:literal, $type:ty; )+) => {
        /// Name, type as Connect calls it, and whether it may be null.
        const COLUMNS: &[(&str, &str, bool)] = &[$( (stringify!($name), $kind, $is_optional), )+];

        #[derive(Debug, Serialize, Deserialize)]
        struct Row<'a> { $( $name: $type, )+ }
    };
}

row! {
    scan_id: "string", false, Text<'a>;
    status: "string", false, Text<'a>;
    threat_detected: "boolean", false, bool;
    threat_name: "string", true, Option<Text<'a>>;
    threat_type: "string", true, Option<Text<'a>>;
    severity: "string", false, Text<'a>;
    patterns_found: "string", false, Text<'a>;
    clamav_result: "string", true, Option<Text<'a>>;
    timestamp: "string", false, Text<'a>;
    processed_at: "string", false, Text<'a>;
    source_ip: "string", true, Option<Text<'a>>;
    source_host: "string", true, Option<Text<'a>>;
    source_port: "string", true, Option<Text<'a>>;
    facility: "string", true, Option<Text<'a>>;
    priority: "string", true, Option<Text<'a>>;
    level: "string", true, Option<Text<'a>>;
    program: "string", true, Option<Text<'a>>;
    pid: "string", true, Option<Text<'a>>;
    message: "string", true, Option<Text<'a>>;
    raw_message: "string", true, Option<Text<'a>>;
}

/// What stands before each row: the schema, which is the same for all of them.
static BEFORE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let fields: Vec<_> = COLUMNS
        .iter()
        .map(|(name, kind, is_optional)| {
            serde_json::json!({"field": name, "type": kind, "optional": is_optional})
        })
        .collect();
    let schema = serde_json::json!({
        "type": "struct", "name": "scan_result", "optional": false, "fields": fields
    });
    format!("{{\"schema\":{schema},\"payload\":").into_bytes()
});

fn append(out: &mut Vec<u8>, row: &Row<'_>) {
    out.extend_from_slice(&BEFORE);
    // Strings and booleans, written to memory: nothing fails.
    let _infallible = json::append(out, row);
    out.push(b'}');
}

fn patterns(found: &[Pattern<'_>]) -> String {
    let mut text = Vec::new();
    let _infallible = json::append(&mut text, &found);
    String::from_utf8_lossy(&text).into_owned()
}

/// Appends the result as a row with its schema.
pub(super) fn encode(out: &mut Vec<u8>, result: ScanResult<'_>) {
    let row = Row {
        patterns_found: patterns(&result.patterns_found).into(),
        scan_id: result.scan_id,
        status: result.status,
        threat_detected: result.threat_detected,
        threat_name: result.threat_name,
        threat_type: result.threat_type,
        severity: result.severity,
        clamav_result: result.clamav_result,
        timestamp: result.timestamp,
        processed_at: result.processed_at,
        source_ip: result.source_ip,
        source_host: result.source_host,
        source_port: result.source_port,
        facility: result.facility,
        priority: result.priority,
        level: result.level,
        program: result.program,
        pid: result.pid,
        message: result.message,
        raw_message: result.raw_message,
    };
    append(out, &row);
}

/// The same row without the message's text and samples. `None`: it is none of [`encode`].
pub(super) fn digest_only(result: &[u8]) -> Option<Vec<u8>> {
    let row = result.strip_prefix(BEFORE.as_slice())?.strip_suffix(b"}")?;
    let mut row: Row<'_> = serde_json::from_slice(row).ok()?;
    row.message = None;
    row.raw_message = None;
    let mut found: Vec<Pattern<'_>> = serde_json::from_str(&row.patterns_found).ok()?;
    for pattern in &mut found {
        pattern.sample = None;
    }
    let shorter = patterns(&found);
    row.patterns_found = shorter.into();
    let mut out = Vec::with_capacity(BEFORE.len() + 1024);
    append(&mut out, &row);
    Some(out)
}
