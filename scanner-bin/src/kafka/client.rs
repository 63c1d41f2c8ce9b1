//! What consumer and producer have in common: settings, and librdkafka's log and errors.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The same error is logged again only after this long.
const REPEAT: Duration = Duration::from_secs(10);

/// Passes librdkafka's own log lines on.
pub(super) fn log(client: &'static str, level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(client, facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(client, facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(client, facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(client, facility, "librdkafka: {message}"),
    }
}

/// Errors that a client reports besides those of single calls: counted by code, logged without
/// flooding.
#[derive(Clone, Default)]
pub(super) struct Errors {
    last: Arc<Mutex<Vec<(RDKafkaErrorCode, Instant)>>>,
}

impl Errors {
    pub(super) fn note(&self, client: &'static str, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.iter_mut().find(|(c, _)| *c == code) {
            Some((_, at)) if now.duration_since(*at) < REPEAT => return,
            Some((_, at)) => *at = now,
            None => last.push((code, now)),
        }
        tracing::warn!(client, code = ?code, "Kafka client: {reason}");
    }
}
