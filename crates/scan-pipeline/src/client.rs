//! What consumer and producer have in common: settings, and librdkafka's log and errors.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::memory;
use crate::config::KafkaConfig;
use crate::metrics::{CodeLabel, Metrics};

/// The same error is logged again only after this long.
const REPEAT: Duration = Duration::from_secs(10);

/// Which client a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Consumer,
    Producer,
    /// Metadata and topic creation.
    Admin,
}

/// Defaults that may be overridden, then the properties that override them. The caller adds what must
/// not be.
pub(super) fn config(config: &KafkaConfig, role: Role) -> ClientConfig {
    let mut client = ClientConfig::new();
    // By default rdkafka asks another logging framework, which we do not use, and keeps silent.
    client.set_log_level(if tracing::enabled!(tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Info
    });
    client
        .set("client.id", "scanner-bin")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "2000");
    match role {
        Role::Consumer => {
            client
                .set("auto.offset.reset", "earliest")
                .set("partition.assignment.strategy", "cooperative-sticky")
                // Members hear of a rebalance with their next heartbeat, and all wait for the last one.
                .set(
                    "heartbeat.interval.ms",
                    (config.session_timeout.as_millis() / 15)
                        .clamp(100, 1000)
                        .to_string(),
                )
                .set("fetch.wait.max.ms", "100")
                .set("fetch.min.bytes", "1")
                // With small queues the default of a second would leave them empty most of the time.
                .set("fetch.queue.backoff.ms", "10")
                .set("check.crcs", "true");
        }
        Role::Producer => {
            client
                // As Java clients place keys, so that topics keyed alike stay partitioned alike.
                .set("partitioner", "murmur2_random")
                // The topic's own limit decides, not the client's.
                .set("message.max.bytes", (64 << 20).to_string())
                .set(
                    "queue.buffering.max.kbytes",
                    (memory::RESULT_BYTES >> 10).to_string(),
                )
                .set("queue.buffering.max.messages", "100000");
        }
        Role::Admin => {}
    }
    for (name, value) in config.properties.iter() {
        if applies(name, role) {
            client.set(name, value);
        }
    }
    client.set("bootstrap.servers", &config.brokers);
    secure(&mut client, config);
    client
}

/// Encryption and authentication. Without either, the properties decide.
fn secure(client: &mut ClientConfig, config: &KafkaConfig) {
    let protocol = match (&config.tls, &config.sasl) {
        (None, None) => return,
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if let Some(tls) = &config.tls {
        let mut file = |name: &str, path: &Path| {
            client.set(name, path.to_string_lossy());
        };
        if let Some(path) = &tls.ca_file {
            file("ssl.ca.location", path);
        }
        if let Some(own) = &tls.client {
            file("ssl.certificate.location", &own.certificate_file);
            file("ssl.key.location", &own.key_file);
        }
        let own = tls.client.as_ref();
        if let Some(password) = own.and_then(|own| own.key_password.as_ref()) {
            client.set("ssl.key.password", password.expose());
        }
        let names = if tls.verify_hostname { "https" } else { "none" };
        client.set("ssl.endpoint.identification.algorithm", names);
    }
    if let Some(sasl) = &config.sasl {
        let mechanism = sasl.mechanism.as_str().to_ascii_uppercase();
        client
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", &sasl.username)
            .set("sasl.password", sasl.password.expose());
    }
}

/// Whether librdkafka would take a property for this kind of client; for the other kind it only
/// grumbles, in a log line for every start.
fn applies(name: &str, role: Role) -> bool {
    const CONSUMER: &[&str] = &[
        "auto.offset.reset",
        "check.crcs",
        "client.rack",
        "group.instance.id",
        "heartbeat.interval.ms",
        "partition.assignment.strategy",
        "coordinator.query.interval.ms",
        "group.protocol.type",
        "group.remote.assignor",
    ];
    const PRODUCER: &[&str] = &[
        "batch.num.messages",
        "batch.size",
        "compression.level",
        "delivery.timeout.ms",
        "max.in.flight.requests.per.connection",
        "message.timeout.ms",
        "partitioner",
        "request.timeout.ms",
        "retries",
        "retry.backoff.max.ms",
        "sticky.partitioning.linger.ms",
        "transaction.timeout.ms",
    ];
    let consumer =
        CONSUMER.contains(&name) || name.starts_with("fetch.") || name.starts_with("queued.");
    let producer = PRODUCER.contains(&name) || name.starts_with("queue.buffering.");
    match role {
        Role::Consumer => !producer,
        Role::Producer => !consumer,
        Role::Admin => !producer && !consumer,
    }
}

/// Passes librdkafka's own log lines on.
pub(super) fn log(client: &'static str, level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => {
            tracing::error!(client, facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(client, facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(client, facility, "librdkafka: {message}")
        }
        RDKafkaLogLevel::Debug => tracing::debug!(client, facility, "librdkafka: {message}"),
    }
}

/// Errors that a client reports besides those of single calls: counted by code, logged without
/// flooding.
#[derive(Clone, Debug)]
pub(super) struct Errors {
    metrics: Arc<Metrics>,
    last: Arc<Mutex<Vec<(RDKafkaErrorCode, Instant)>>>,
}

impl Errors {
    pub(super) fn new(metrics: Arc<Metrics>) -> Errors {
        Errors {
            metrics,
            last: Arc::default(),
        }
    }

    pub(super) fn note(&self, client: &'static str, error: &KafkaError, reason: &str) {
        let code = error
            .rdkafka_error_code()
            .unwrap_or(RDKafkaErrorCode::Unknown);
        self.metrics
            .client_errors
            .get_or_create(&CodeLabel {
                code: format!("{code:?}"),
            })
            .inc();
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
