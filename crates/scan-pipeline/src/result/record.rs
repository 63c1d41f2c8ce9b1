//! The JSON object, field by field in its order.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Text that was borrowed where it could be.
type Text<'a> = Cow<'a, str>;

fn is_false(value: &bool) -> bool {
    !*value
}

/// A struct whose `Option`s are left out when they are `None`.
macro_rules! objects {
    ($( $(#[$meta:meta])* $vis:vis $name:ident<$life:lifetime> { $( $(#[$field_meta:meta])* $field:ident: $type:ty, )+ } )+) => {$(
        $(#[$meta])*
        #[derive(Debug, Serialize, Deserialize)]
        $vis struct $name<$life> { $( $(#[$field_meta])* pub(super) $field: $type, )+ }
    )+};
}

objects! {
    pub(super) ScanResult<'a> {
        schema_version: Text<'a>,
        scan_id: Text<'a>,
        status: Text<'a>,
        threat_detected: bool,
        // These three are null, not absent, when there is no threat.
        threat_name: Option<Text<'a>>,
        threat_type: Option<Text<'a>>,
        severity: Text<'a>,
        patterns_found: Vec<Pattern<'a>>,
        matches: Vec<Match<'a>>,
        clamav_result: Option<Text<'a>>,
        engines: EnginesPart<'a>,
        limits: Vec<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Text<'a>>,
        timestamp: Text<'a>,
        processed_at: Text<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_time: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ingest_time: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_ip: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_host: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_port: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        origin_host: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        origin_app: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        origin_pid: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        facility: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        priority: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        level: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        program: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        raw_message: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_base64: Option<Text<'a>>,
        #[serde(default, skip_serializing_if = "is_false")]
        message_truncated: bool,
        message_sha256: Text<'a>,
        message_bytes: u64,
        kafka: KafkaPart<'a>,
        scanner: ScannerPart<'a>,
        #[serde(default, skip_serializing_if = "is_false")]
        replay: bool,
        #[serde(default, skip_serializing_if = "is_false")]
        truncated: bool,
    }

    pub(super) Pattern<'a> {
        pattern: Text<'a>,
        matches: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        sample: Option<Text<'a>>,
    }

    /// One detection of a result, or of a line of `scan --format jsonl`.
    pub Match<'a> {
        engine: Text<'a>,
        rule_id: Text<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        rule_version: Option<u32>,
        name: Text<'a>,
        severity: Text<'a>,
        threat_type: Text<'a>,
        view: Text<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        start: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        end: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        matches: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sample: Option<Text<'a>>,
    }

    #[derive(Default)]
    pub(super) EnginesPart<'a> {
        clamav: ClamavPart<'a>,
        rules: RulesPart<'a>,
    }

    #[derive(Default)]
    pub(super) ClamavPart<'a> {
        state: Text<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        db_mode: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        db_profile: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        db_signatures: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        db_left_out: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        db_digest: Option<Text<'a>>,
    }

    #[derive(Default)]
    pub(super) RulesPart<'a> {
        state: Text<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        rules: Option<u64>,
    }

    #[derive(Default)]
    pub(super) KafkaPart<'a> {
        topic: Text<'a>,
        partition: i32,
        offset: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        key_base64: Option<Text<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<i64>,
    }

    #[derive(Default)]
    pub(super) ScannerPart<'a> {
        instance: Text<'a>,
        version: Text<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_us: Option<u64>,
    }
}
