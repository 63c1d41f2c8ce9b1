//! The properties that are passed through to librdkafka: which may be, and which are secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::secret::HIDDEN;

/// Properties by name. What may hold a secret is not shown when they are printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(pub BTreeMap<String, String>);

impl Deref for Properties {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Properties {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Properties {
    /// Names and values as they may be shown.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| {
            let hidden = is_secret(name);
            (name.as_str(), if hidden { HIDDEN } else { value.as_str() })
        })
    }
}

/// Whether a property may hold a password, a key or a token. A name that only sounds like it is hidden
/// too.
fn is_secret(name: &str) -> bool {
    const PARTS: &[&str] = &[
        "password",
        "secret",
        ".pem",
        "token",
        "credential",
        "assertion",
    ];
    let is_location = name.ends_with(".location") || name.ends_with(".file");
    let sounds = PARTS.iter().any(|part| name.contains(part));
    name == "sasl.oauthbearer.config" || (sounds && !is_location)
}

/// Properties that would break a promise of the service, or that have a setting of their own:
/// `(property, what to do instead)`.
const PROTECTED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set kafka.group"),
    ("session.timeout.ms", "set kafka.session_timeout"),
    ("max.poll.interval.ms", "set kafka.max_poll_interval"),
    ("linger.ms", "set kafka.linger"),
    ("queue.buffering.max.ms", "set kafka.linger"),
    ("compression.codec", "set kafka.compression"),
    ("compression.type", "set kafka.compression"),
    (
        "queued.max.messages.kbytes",
        "set kafka.fetch_memory_bytes and kafka.max_partitions",
    ),
    (
        "queued.min.messages",
        "set kafka.fetch_memory_bytes and kafka.max_partitions",
    ),
    (
        "fetch.message.max.bytes",
        "set kafka.fetch_memory_bytes and kafka.max_partitions",
    ),
    (
        "max.partition.fetch.bytes",
        "set kafka.fetch_memory_bytes and kafka.max_partitions",
    ),
    (
        "enable.auto.commit",
        "leave it out: an offset is committed only after its result is acknowledged",
    ),
    ("auto.commit.interval.ms", "set kafka.commit_interval"),
    (
        "auto.commit.enable",
        "leave it out: an offset is committed only after its result is acknowledged",
    ),
    (
        "enable.auto.offset.store",
        "leave it out: an offset is committed only after its result is acknowledged",
    ),
    (
        "offset.store.method",
        "leave it out: offsets are stored in Kafka",
    ),
    (
        "isolation.level",
        "leave it out: records of aborted transactions must not be scanned as real",
    ),
    (
        "enable.idempotence",
        "leave it out: without it results could be reordered or doubled by a retry",
    ),
    (
        "acks",
        "leave it out: a result counts only when all in-sync replicas have it",
    ),
    (
        "request.required.acks",
        "leave it out: a result counts only when all in-sync replicas have it",
    ),
    (
        "transactional.id",
        "set kafka.delivery and kafka.transactional_id_prefix",
    ),
    ("transaction.timeout.ms", "set kafka.transaction_timeout"),
    ("group.protocol", "set kafka.group_protocol"),
    (
        "enable.partition.eof",
        "leave it out: the end of a partition is not an event of this service",
    ),
    (
        "delivery.report.only.error",
        "leave it out: commits wait for every delivery report",
    ),
    (
        "statistics.interval.ms",
        "leave it out: the lag metrics are fed from the statistics",
    ),
    (
        "plugin.library.paths",
        "leave it out: no foreign code is loaded into the scanner",
    ),
    ("opaque", "leave it out: it belongs to the client library"),
    (
        "default_topic_conf",
        "leave it out and name the properties themselves",
    ),
    (
        "enabled_events",
        "leave it out: it belongs to the client library",
    ),
];

/// Why a property may not be passed through, as the remedy to print; `None` if it may.
pub(super) fn protected(property: &str) -> Option<&'static str> {
    if property.ends_with("_cb") {
        return Some("leave it out: callbacks belong to the client library");
    }
    PROTECTED
        .iter()
        .find(|(name, _)| *name == property)
        .map(|(_, remedy)| *remedy)
}
