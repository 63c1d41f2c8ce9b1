//! The result of a record: one flat JSON object, described by `scan-result.schema.json`; or a row of a table, see `connect`.
//!
//! Fields keep their names, types and order; new ones are added, none is renamed. What is not known
//! is left out. A result says `clean` — as status or as severity — only if every enabled engine
//! examined everything.

mod connect;
mod id;
mod record;
mod text;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use scanlib::message::Message;
use scanlib::report::{Detection, DetectionSource, Incomplete, Report, Verdict, headline};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

pub use crate::config::ResultFormat;
pub use crate::status::Status;
use crate::{json, times};
pub use id::scan_id;
pub use record::Match;
use record::{ClamavPart, EnginesPart, KafkaPart, Pattern, RulesPart, ScanResult, ScannerPart};

/// Version of the result's form, in every result.
pub const SCHEMA_VERSION: &str = "1.1";
/// A record that is too large to be scanned is quoted up to this many bytes.
pub const QUOTED_BYTES: usize = 16 << 10;
/// A result lists no more matches than this.
pub const MAX_MATCHES: usize = 100;
/// A longer key, in bytes, is left out of a result; the result's own Kafka key is not touched by this.
pub const MAX_KEY_BYTES: usize = 1024;

/// Where a record came from and who answers it.
#[derive(Clone, Copy, Debug)]
pub struct ScanContext<'a> {
    /// Name of this replica.
    pub instance: &'a str,
    /// Whether the record was read once more.
    pub is_replay: bool,
    /// Identity of the Kafka cluster, part of the `scan_id`.
    pub cluster: &'a str,
    /// Topic of the record.
    pub topic: &'a str,
    /// Partition of the record.
    pub partition: i32,
    /// Offset of the record.
    pub offset: i64,
    /// Key of the record.
    pub key: Option<&'a [u8]>,
    /// The record's timestamp in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// When the scan began.
    pub scanned_at: SystemTime,
    /// When the result is built.
    pub processed_at: SystemTime,
}

/// What is to be said of a record.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It was scanned.
    Scanned {
        /// What was found.
        verdict: &'a Verdict,
        /// libclamav gives its type no examination; see [`Report::type_ignored`].
        type_ignored: bool,
        /// Wall time of the scan.
        elapsed: Duration,
    },
    /// There was nothing to scan, for example `empty` or `tombstone`.
    Skipped {
        /// Why, in a word.
        reason: &'a str,
    },
    /// It could not be judged.
    Error {
        /// Why, in a sentence.
        reason: &'a str,
    },
    /// It is longer than `max_message_bytes` and was not scanned.
    TooLarge,
}

impl<'a> From<&'a Report> for Outcome<'a> {
    fn from(report: &'a Report) -> Outcome<'a> {
        Outcome::Scanned {
            verdict: &report.verdict,
            type_ignored: report.type_ignored,
            elapsed: report.elapsed,
        }
    }
}

/// Which signatures libclamav has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DbMode {
    /// The built-in signature alone.
    Builtin,
    /// Databases that the operator named.
    Custom,
}

/// libclamav, as results name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClamavState {
    /// Version of libclamav.
    pub version: String,
    /// Which signatures are loaded.
    pub db_mode: DbMode,
    /// How many.
    pub signatures: u64,
    /// Which of the files' signatures these are: `full` or `log-only`.
    pub profile: &'static str,
    /// How many the profile leaves out; `None` where it leaves out none by intent.
    pub left_out: Option<u64>,
    /// Identity of the files they came from.
    pub digest: String,
}

/// The rules, as results name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RulesState {
    /// How many are loaded.
    pub rules: u64,
}

/// The engines that scan; `None` for one that is switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineState {
    /// libclamav.
    pub clamav: Option<ClamavState>,
    /// The severity rules.
    pub rules: Option<RulesState>,
}

/// What others need to know of a result without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Identity of the result; the same for the same record, however often it is scanned.
    pub scan_id: Uuid,
    /// The verdict.
    pub status: Status,
    /// The severity, `clean` only for a clean record.
    pub severity: &'static str,
    /// The headline, if something was found.
    pub threat_name: Option<String>,
    /// Who found it: `clamav` or `rules`.
    pub engine: Option<&'static str>,
}

/// Appends the result to `out`.
pub fn encode(
    out: &mut Vec<u8>,
    context: &ScanContext<'_>,
    message: &Message<'_>,
    outcome: Outcome<'_>,
    engines: &EngineState,
) -> Summary {
    encode_as(ResultFormat::Json, out, context, message, outcome, engines)
}

/// Appends the result to `out` in one of its forms.
pub fn encode_as(
    format: ResultFormat,
    out: &mut Vec<u8>,
    context: &ScanContext<'_>,
    message: &Message<'_>,
    outcome: Outcome<'_>,
    engines: &EngineState,
) -> Summary {
    let judged = Judged::of(outcome);
    let headline = headline(judged.detections);
    let severity = match (headline, judged.status) {
        (Some(detection), _) => detection.severity.as_str(),
        (None, Status::Clean) => "clean",
        // Nothing is known of it, and that is worth a look.
        (None, _) => "info",
    };
    let scan_id = scan_id(
        context.cluster,
        context.topic,
        context.partition,
        context.offset,
    );
    let id_text = scan_id.hyphenated().to_string();
    let quote = Quote::of(message, matches!(outcome, Outcome::TooLarge));
    let fields = &message.fields;
    let meta = |field: &'_ Option<Cow<'_, str>>| {
        field
            .as_deref()
            .map(|t| Cow::Owned(text::cut_field(t).to_owned()))
    };

    let result = ScanResult {
        schema_version: SCHEMA_VERSION.into(),
        scan_id: id_text.into(),
        status: judged.status.as_str().into(),
        threat_detected: judged.status == Status::Threat,
        threat_name: headline.map(threat_name),
        threat_type: headline.map(|detection| detection.threat_type.as_str().into()),
        severity: severity.into(),
        patterns_found: patterns(judged.detections),
        matches: judged
            .detections
            .iter()
            .take(MAX_MATCHES)
            .map(Match::of)
            .collect(),
        clamav_result: judged
            .detections
            .iter()
            .find(|d| d.is_clamav())
            .map(|d| d.name.as_str().into()),
        engines: engines_part(engines, judged.clamav_failed),
        limits: judged.limits.into_iter().map(Cow::from).collect(),
        reason: judged.reason.map(Cow::from),
        timestamp: time_of(context.scanned_at),
        processed_at: time_of(context.processed_at),
        event_time: fields.event_time.as_deref().map(Cow::from),
        ingest_time: context
            .timestamp_ms
            .and_then(times::rfc3339_from_millis)
            .map(Cow::from),
        source_ip: meta(&fields.source_ip),
        source_host: meta(&fields.source_host),
        source_port: meta(&fields.source_port),
        origin_host: meta(&fields.origin_host),
        origin_app: meta(&fields.origin_app),
        origin_pid: meta(&fields.origin_pid),
        facility: meta(&fields.facility),
        priority: meta(&fields.priority),
        level: meta(&fields.level),
        program: meta(&fields.program),
        pid: meta(&fields.pid),
        message: Some(quote.message),
        raw_message: quote.raw_message,
        message_base64: quote.base64.map(Cow::from),
        message_truncated: quote.truncated,
        message_sha256: hex::encode(Sha256::digest(message.raw)).into(),
        message_bytes: message.raw.len() as u64,
        kafka: kafka_part(context),
        scanner: ScannerPart {
            instance: context.instance.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            duration_us: judged
                .elapsed
                .map(|t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX)),
        },
        replay: context.is_replay,
        truncated: false,
    };
    match format {
        ResultFormat::Json => {
            // Strings, numbers and booleans, written to memory: nothing fails.
            let _infallible = json::append(out, &result);
        }
        ResultFormat::ConnectJson => connect::encode(out, result),
    }

    Summary {
        scan_id,
        status: judged.status,
        severity,
        threat_name: headline.map(|detection| threat_name(detection).into_owned()),
        engine: headline.map(engine_of),
    }
}

/// The same result for a broker that refuses its size: without the message's text and samples, marked
/// `"truncated": true` where there is such a field. What is not a result of [`encode_as`] comes back as it is.
pub fn digest_only(result: &[u8]) -> Vec<u8> {
    if let Some(shorter) = connect::digest_only(result) {
        return shorter;
    }
    let Ok(mut result_read) = serde_json::from_slice::<ScanResult<'_>>(result) else {
        return result.to_vec();
    };
    result_read.message = None;
    result_read.raw_message = None;
    result_read.message_base64 = None;
    result_read.message_truncated = false;
    for pattern in &mut result_read.patterns_found {
        pattern.sample = None;
    }
    for found in &mut result_read.matches {
        found.sample = None;
    }
    result_read.truncated = true;
    let mut out = Vec::with_capacity(1024);
    let _infallible = json::append(&mut out, &result_read);
    out
}

/// An outcome, in the terms of a result.
struct Judged<'a> {
    status: Status,
    detections: &'a [Detection],
    limits: Vec<&'static str>,
    reason: Option<String>,
    clamav_failed: bool,
    elapsed: Option<Duration>,
}

impl<'a> Judged<'a> {
    fn of(outcome: Outcome<'a>) -> Judged<'a> {
        let mut judged = Judged {
            status: Status::Partial,
            detections: &[],
            limits: Vec::new(),
            reason: None,
            clamav_failed: false,
            elapsed: None,
        };
        match outcome {
            Outcome::Skipped { reason } => {
                judged.status = Status::Skipped;
                judged.reason = Some(reason.to_owned());
            }
            Outcome::Error { reason } => {
                judged.status = Status::Error;
                judged.reason = Some(text::cut_field(reason).to_owned());
            }
            Outcome::TooLarge => judged.limits.push("max_message_bytes"),
            Outcome::Scanned {
                verdict,
                type_ignored,
                elapsed,
            } => {
                judged.detections = verdict.detections();
                judged.elapsed = Some(elapsed);
                judged.scanned(verdict, type_ignored);
            }
        }
        judged
    }

    fn scanned(&mut self, verdict: &Verdict, type_ignored: bool) {
        self.status = Status::of(verdict);
        if type_ignored {
            self.limits.push("type_ignored");
            if self.status == Status::Clean {
                self.status = Status::Partial;
            }
        }
        match verdict {
            Verdict::Incomplete {
                cause: cause @ (Incomplete::EngineError { .. } | Incomplete::Crashed { .. }),
                ..
            } => {
                self.clamav_failed = true;
                self.reason = Some(text::cut_field(&cause.to_string()).to_owned());
            }
            Verdict::Incomplete { cause, .. } => {
                self.limits.push(match cause {
                    // The only deadline that the service gives a scan.
                    Incomplete::Deadline => "max_record_time",
                    cause => cause.reason(),
                });
                if matches!(cause, Incomplete::Malformed { .. }) {
                    self.reason = Some(text::cut_field(&cause.to_string()).to_owned());
                }
            }
            _ => {}
        }
    }
}

fn engine_of(detection: &Detection) -> &'static str {
    if detection.is_clamav() {
        "clamav"
    } else {
        "rules"
    }
}

/// One entry for each rule, in the order of their first match. The same text is seen in several
/// views: the view with the most matches counts, not their sum.
fn patterns(detections: &[Detection]) -> Vec<Pattern<'_>> {
    let mut patterns: Vec<Pattern<'_>> = Vec::new();
    for detection in detections.iter().take(MAX_MATCHES) {
        let DetectionSource::Rule { id, count, .. } = &detection.source else {
            continue;
        };
        let sample = sample_of(detection);
        match patterns
            .iter_mut()
            .find(|pattern| pattern.pattern == id.as_str())
        {
            Some(known) => {
                known.matches = known.matches.max(*count);
                known.sample = known.sample.take().or(sample);
            }
            None => patterns.push(Pattern {
                pattern: id.as_str().into(),
                matches: *count,
                sample,
            }),
        }
    }
    patterns
}

impl<'a> Match<'a> {
    /// A detection, as results and the command line list it.
    pub fn of(detection: &'a Detection) -> Match<'a> {
        let (rule_id, rule) = match &detection.source {
            DetectionSource::Rule {
                id,
                version,
                span,
                count,
                ..
            } => (id, Some((version, span, count))),
            _ => (&detection.name, None),
        };
        Match {
            engine: engine_of(detection).into(),
            rule_id: rule_id.as_str().into(),
            rule_version: rule.map(|(version, ..)| *version),
            name: detection.name.as_str().into(),
            severity: detection.severity.as_str().into(),
            threat_type: detection.threat_type.as_str().into(),
            view: detection.view.as_str().into(),
            start: rule.map(|(_, span, _)| span.start as u64),
            end: rule.map(|(_, span, _)| span.end as u64),
            matches: rule.map(|(.., count)| *count),
            sample: sample_of(detection),
        }
    }
}

/// The text that a rule matched.
fn sample_of(detection: &Detection) -> Option<Cow<'static, str>> {
    match &detection.source {
        DetectionSource::Rule { sample, .. } => Some(text::sample(sample).into()),
        _ => None,
    }
}

/// What a result is called after a detection: the rule's label and identifier, or `ClamAV:` and the
/// signature.
pub fn threat_name(detection: &Detection) -> Cow<'_, str> {
    if detection.is_clamav() {
        format!("ClamAV: {}", detection.name).into()
    } else {
        detection.name.as_str().into()
    }
}

fn engines_part(engines: &EngineState, clamav_failed: bool) -> EnginesPart<'_> {
    let clamav = match &engines.clamav {
        None => ClamavPart {
            state: "off".into(),
            ..ClamavPart::default()
        },
        Some(clamav) => ClamavPart {
            state: if clamav_failed { "error" } else { "ok" }.into(),
            version: Some(clamav.version.as_str().into()),
            db_mode: Some(match clamav.db_mode {
                DbMode::Builtin => "builtin".into(),
                DbMode::Custom => "custom".into(),
            }),
            db_profile: Some(clamav.profile.into()),
            db_signatures: Some(clamav.signatures),
            db_left_out: clamav.left_out,
            db_digest: Some(clamav.digest.as_str().into()),
        },
    };
    let rules = match engines.rules {
        None => RulesPart {
            state: "off".into(),
            rules: None,
        },
        Some(RulesState { rules }) => RulesPart {
            state: "ok".into(),
            rules: Some(rules),
        },
    };
    EnginesPart { clamav, rules }
}

fn kafka_part<'a>(context: &ScanContext<'a>) -> KafkaPart<'a> {
    let key = context.key.filter(|key| key.len() <= MAX_KEY_BYTES);
    let text = key.and_then(|key| std::str::from_utf8(key).ok());
    KafkaPart {
        topic: context.topic.into(),
        partition: context.partition,
        offset: context.offset,
        key: text.map(Cow::from),
        key_base64: if text.is_none() {
            key.map(|key| BASE64_STANDARD.encode(key).into())
        } else {
            None
        },
        timestamp: context.timestamp_ms,
    }
}

/// What a result quotes of a record.
struct Quote<'a> {
    message: Cow<'a, str>,
    raw_message: Option<Cow<'a, str>>,
    base64: Option<String>,
    truncated: bool,
}

impl<'a> Quote<'a> {
    fn of(message: &'a Message<'_>, too_large: bool) -> Quote<'a> {
        let limit = if too_large { QUOTED_BYTES } else { usize::MAX };
        let quoted = text::cut(message.text(), limit);
        let raw = text::cut(message.raw, limit);
        let lossy = String::from_utf8_lossy(quoted);
        Quote {
            base64: matches!(lossy, Cow::Owned(_)).then(|| BASE64_STANDARD.encode(quoted)),
            message: lossy,
            raw_message: (message.text() != message.raw).then(|| String::from_utf8_lossy(raw)),
            truncated: quoted.len() < message.text().len() || raw.len() < message.raw.len(),
        }
    }
}

fn time_of(at: SystemTime) -> Cow<'static, str> {
    times::rfc3339_millis(OffsetDateTime::from(at)).into()
}
