//! The properties that are passed through to librdkafka: which may be, and which are secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use rdkafka::error::KafkaError;

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
            let hidden = is_secret(name, value);
            (name.as_str(), if hidden { HIDDEN } else { value.as_str() })
        })
    }

    /// The values that may not be shown. librdkafka reports the rest of a `sasl.oauthbearer.config` that it cannot parse, so the
    /// words of a value count by themselves too.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.iter()
            .filter(|(name, value)| is_secret(name, value))
            .flat_map(|(_, value)| std::iter::once(value.as_str()).chain(value.split_whitespace()))
    }

    /// Whether these switch off the verification of the brokers' certificates, which is then the only thing that `[kafka.tls]` would
    /// have kept. Where that section is in use, they cannot.
    pub fn unverified(&self) -> Option<&'static str> {
        let is = |name: &str, values: &[&str]| {
            let value = self.get(name).map(|value| value.to_ascii_lowercase());
            value.is_some_and(|value| values.contains(&value.as_str()))
        };
        if !is("security.protocol", &["ssl", "sasl_ssl"]) {
            None
        } else if is(VERIFICATION, &["false", "f", "0"]) {
            Some(
                "enable.ssl.certificate.verification is false: the service would talk to anybody who answers in a broker's place",
            )
        } else if is(IDENTIFICATION, &["none"]) {
            Some(
                "ssl.endpoint.identification.algorithm is none: any certificate of a trusted authority is taken for a broker's",
            )
        } else {
            None
        }
    }
}

/// Whether a property may hold a password, a key or a token. A name that only sounds like it is hidden too. A certificate may stand in
/// one PEM text with its key, and a URL may hold a password.
pub fn is_secret(name: &str, value: &str) -> bool {
    const PARTS: &[&str] = &[
        "password",
        "passphrase",
        "secret",
        ".pem",
        "token",
        "credential",
        "assertion",
        "ssl_key",
    ];
    /// What names a place or a public property of a secret, and not the secret.
    const PUBLIC: &[&str] = &[
        ".location",
        ".file",
        ".url",
        ".id",
        ".type",
        ".algorithm",
        ".aud",
        ".iss",
        ".sub",
        ".seconds",
        ".include",
    ];
    let name = name.trim().to_ascii_lowercase();
    let is_public = PUBLIC.iter().any(|ending| name.ends_with(ending));
    let sounds = PARTS.iter().any(|part| name.contains(part));
    let has_user = value.split_once("://").is_some_and(|(_, rest)| {
        rest.split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
    });
    name == "sasl.oauthbearer.config"
        || (sounds && !is_public)
        || has_user
        || value.contains("PRIVATE KEY-----")
}

/// What to do with a secret that stands on the command line.
pub fn instead_of_flag(name: &str) -> String {
    match setting(name) {
        Some(setting) => format!("{setting}, which names the file or the variable that holds it"),
        None => format!(
            "write it under [kafka.properties] in a configuration file that only the service can read, or set the variable {}",
            variable(name)
        ),
    }
}

/// The variable that sets a property.
fn variable(name: &str) -> String {
    let name = name.trim().replace('.', "_").to_ascii_uppercase();
    format!("SCANNER_KAFKA__PROPERTIES__{name}")
}

const VERIFICATION: &str = "enable.ssl.certificate.verification";
const IDENTIFICATION: &str = "ssl.endpoint.identification.algorithm";

/// Properties that have a setting in `[kafka.tls]` or `[kafka.sasl]`: `(property, what to do instead)`.
const SECURITY: &[(&str, &str)] = &[
    (
        "security.protocol",
        "set kafka.tls.enabled and kafka.sasl.mechanism",
    ),
    (IDENTIFICATION, "set kafka.tls.verify_hostname"),
    (
        VERIFICATION,
        "leave it out: with kafka.tls.enabled a broker's certificate is always verified; set kafka.tls.ca_file for an authority of \
         your own",
    ),
    ("ssl.ca.location", "set kafka.tls.ca_file"),
    ("ssl.ca.pem", "set kafka.tls.ca_file"),
    ("ssl.certificate.location", "set kafka.tls.certificate_file"),
    ("ssl.certificate.pem", "set kafka.tls.certificate_file"),
    ("ssl.key.location", "set kafka.tls.key_file"),
    ("ssl.key.pem", "set kafka.tls.key_file"),
    (
        "ssl.keystore.location",
        "set kafka.tls.certificate_file and kafka.tls.key_file",
    ),
    (
        "ssl.keystore.password",
        "set kafka.tls.key_password_file or kafka.tls.key_password_variable",
    ),
    (
        "ssl.key.password",
        "set kafka.tls.key_password_file or kafka.tls.key_password_variable",
    ),
    ("sasl.mechanism", "set kafka.sasl.mechanism"),
    ("sasl.mechanisms", "set kafka.sasl.mechanism"),
    ("sasl.username", "set kafka.sasl.username"),
    (
        "sasl.password",
        "set kafka.sasl.password_file or kafka.sasl.password_variable",
    ),
];

fn setting(name: &str) -> Option<&'static str> {
    let name = canonical(name.trim());
    let found = SECURITY
        .iter()
        .find(|(property, _)| property.eq_ignore_ascii_case(name));
    found.map(|(_, setting)| *setting)
}

/// What to do about a property of encryption or authentication where `[kafka.tls]` or `[kafka.sasl]` is in use: these decide alone.
/// `None` for other properties.
pub fn security(name: &str) -> Option<&'static str> {
    let canonical = canonical(name);
    let is_ours = ["ssl.", "ssl_", "sasl.", "https."]
        .iter()
        .any(|start| canonical.starts_with(start))
        || [".ssl.", ".sasl."]
            .iter()
            .any(|part| canonical.contains(part));
    setting(name).or(is_ours.then_some("leave it out, or leave those sections out"))
}

/// librdkafka takes a property of the topic with `topic.` in front too.
fn canonical(name: &str) -> &str {
    name.strip_prefix("topic.").unwrap_or(name)
}

/// Why librdkafka does not take a property; `None` if it does. A value that may be a secret is not repeated.
pub fn refused(name: &str, value: &str) -> Option<String> {
    let mut alone = rdkafka::ClientConfig::new();
    alone.set(name, value);
    match alone.create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, why, ..)) if is_secret(name, value) => {
            Some(why.replace(value, HIDDEN))
        }
        Err(KafkaError::ClientConfig(_, why, ..)) => Some(why),
        Err(error) => Some(error.to_string()),
    }
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
    (
        "ssl.engine.location",
        "leave it out: no foreign code is loaded into the scanner",
    ),
    ("allow.auto.create.topics", "set kafka.create_topics"),
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
pub fn protected(property: &str) -> Option<&'static str> {
    let property = canonical(property);
    if property.ends_with("_cb") {
        return Some("leave it out: callbacks belong to the client library");
    }
    PROTECTED
        .iter()
        .find(|(name, _)| *name == property)
        .map(|(_, remedy)| *remedy)
}
