//! The options of the pipeline. Parsing files, variables and flags, and checking them, is up to the caller.
//!
//! The `Default` of [`KafkaConfig`] is the only place where its defaults are written down.

pub mod properties;
mod secret;
pub mod text;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use properties::Properties;
pub use secret::{HIDDEN, Secret, SecretSource, Secrets};

use crate::quota;

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// The smallest share of fetch memory in which a partition can be held to it, in bytes: producers send a megabyte in a batch, which
/// cannot be fetched in parts.
pub const MIN_FETCH_BYTES_PER_PARTITION: u64 = 4 << 20;

crate::words! {
    /// How the password is proven to the brokers.
    SaslMechanism {
        /// Not at all: there is no SASL.
        None = "none",
        /// It is sent as it is, so only TLS keeps it secret.
        Plain = "plain",
        /// SCRAM with SHA-256: it is not sent.
        ScramSha256 = "scram-sha-256",
        /// SCRAM with SHA-512: it is not sent.
        ScramSha512 = "scram-sha-512",
    }
    /// Which results are written.
    Emit {
        /// One for every record.
        All = "all",
        /// All but the clean ones.
        Threats = "threats",
    }
    /// How often a record may be answered when a replica ends badly.
    Delivery {
        /// Once or more: what was answered and not committed is answered again.
        AtLeastOnce = "at-least-once",
        /// Once, as readers of committed records see it: results and offsets are in the same transaction.
        ExactlyOnce = "exactly-once",
    }
    /// How the group gives out partitions.
    GroupProtocol {
        /// The members agree among themselves, led by one of them.
        Classic = "classic",
        /// The broker decides (KIP-848), if the librdkafka built in is known to be reliable with it.
        Consumer = "consumer",
        /// The same whatever the librdkafka.
        ConsumerAnyway = "consumer-anyway",
    }
    /// What becomes the key of a result.
    ResultKey {
        /// The key of the record it answers, byte for byte.
        Input = "input",
        /// The result's `scan_id`.
        ScanId = "scan_id",
    }
    /// The form of results.
    ResultFormat {
        /// A flat JSON object.
        Json = "json",
        /// A row of a table with its schema, for Kafka Connect's `JsonConverter`.
        ConnectJson = "connect-json",
    }
    /// How results are compressed on their way to the broker, as librdkafka names it.
    Compression {
        /// Not at all.
        None = "none",
        /// The slowest to write.
        Gzip = "gzip",
        /// Snappy, as older consumers know it.
        Snappy = "snappy",
        /// The cheapest to write.
        Lz4 = "lz4",
        /// The smallest.
        Zstd = "zstd",
    }
    /// What becomes of a batch that cannot be read.
    UnreadableBatch {
        /// Its partition waits, and readiness fails.
        Wait = "wait",
        /// It is passed over, and a dead letter says which offsets were.
        Skip = "skip",
    }
}

/// `[kafka]`: where records come from and results go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Brokers to start from, `HOST:PORT` separated by commas.
    pub brokers: String,
    /// TCP ports of brokers besides those in `brokers`. If there are any, the confined main process connects to no others.
    pub broker_ports: Vec<u16>,
    /// Consumer group.
    pub group: String,
    /// Topic to read.
    pub input_topic: String,
    /// Topic for results.
    pub output_topic: String,
    /// Topic for records that could not be judged.
    pub dead_letter_topic: String,
    /// How many records of a minute may become dead letters.
    pub dead_letter_limits: quota::Limits,
    /// Create topics that are missing at start.
    pub create_topics: bool,
    /// Which results are written.
    pub emit: Emit,
    /// What becomes the key of a result.
    pub result_key: ResultKey,
    /// The form of results.
    pub result_format: ResultFormat,
    /// How often a record may be answered when a replica ends badly.
    pub delivery: Delivery,
    /// How the group gives out partitions.
    pub group_protocol: GroupProtocol,
    /// What the transactional id begins with; the name of the replica follows. `None` for the group's name.
    pub transactional_id_prefix: Option<String>,
    /// How long a transaction is open.
    pub transaction_interval: Duration,
    /// After how long the broker aborts a transaction whose writer is gone.
    pub transaction_timeout: Duration,
    /// How long a stopping service may take to answer what it has read.
    pub drain_timeout: Duration,
    /// How long a partition that goes to another replica may take to be answered.
    pub revoke_timeout: Duration,
    /// After how long without a heartbeat the group gives a replica's partitions away.
    pub session_timeout: Duration,
    /// After how long without a poll the client leaves the group.
    pub max_poll_interval: Duration,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// The most memory for records fetched ahead, in bytes, all partitions together.
    pub fetch_memory_bytes: u64,
    /// How many partitions one replica may own; the fetch memory is divided by it.
    pub max_partitions: u32,
    /// Records of one partition that may be read and not yet answered.
    pub inflight_messages_per_partition: usize,
    /// Bytes of records that may be read and not yet answered, all partitions together.
    pub inflight_bytes: u64,
    /// What becomes of a batch that cannot be read.
    pub unreadable_batch: UnreadableBatch,
    /// How long a result may wait for others to be sent with it.
    pub linger: Duration,
    /// How results are compressed.
    pub compression: Compression,
    /// Properties passed to librdkafka as they are, for consumer and producer.
    pub properties: Properties,
    /// Encryption; `None` for plain text.
    pub tls: Option<TlsConfig>,
    /// Authentication by password; `None` for none.
    pub sasl: Option<SaslConfig>,
}

impl Default for KafkaConfig {
    fn default() -> KafkaConfig {
        KafkaConfig {
            brokers: "localhost:9092".to_owned(),
            broker_ports: Vec::new(),
            group: "syslog-scanner-group".to_owned(),
            input_topic: "syslog-raw".to_owned(),
            output_topic: "scan-results".to_owned(),
            dead_letter_topic: "scan-results-dlq".to_owned(),
            dead_letter_limits: quota::Limits {
                per_minute: 1_000,
                percent: 10,
            },
            create_topics: false,
            emit: Emit::All,
            result_key: ResultKey::Input,
            result_format: ResultFormat::Json,
            delivery: Delivery::AtLeastOnce,
            group_protocol: GroupProtocol::Classic,
            transactional_id_prefix: None,
            transaction_interval: Duration::from_millis(200),
            transaction_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(25),
            revoke_timeout: Duration::from_secs(1),
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
            commit_interval: Duration::from_secs(1),
            fetch_memory_bytes: 256 << 20,
            max_partitions: 64,
            inflight_messages_per_partition: 2048,
            inflight_bytes: 64 << 20,
            unreadable_batch: UnreadableBatch::Wait,
            linger: Duration::from_millis(20),
            compression: Compression::Lz4,
            properties: Properties::default(),
            tls: None,
            sasl: None,
        }
    }
}

impl KafkaConfig {
    /// True if results are written in transactions.
    pub fn is_exactly_once(&self) -> bool {
        self.delivery == Delivery::ExactlyOnce
    }

    /// What must not be shown of this.
    pub fn secrets(&self) -> Secrets {
        let key = self.tls.as_ref().and_then(|tls| tls.client.as_ref());
        let key = key.and_then(|client| client.key_password.as_ref());
        let password = self.sasl.as_ref().map(|sasl| &sasl.password);
        let own = key.into_iter().chain(password).map(Secret::expose);
        Secrets::new(own.chain(self.properties.secrets()))
    }

    /// The name under which the broker knows this replica as a writer, and its predecessor.
    pub fn transactional_id(&self, instance: &str) -> String {
        let prefix = self.transactional_id_prefix.as_ref();
        format!("{}-{instance}", prefix.unwrap_or(&self.group))
    }
}

/// `[kafka.tls]`, if it is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates that brokers' certificates must lead to (PEM); `None` for the system's.
    pub ca_file: Option<PathBuf>,
    /// This client's own certificate.
    pub client: Option<ClientCertificate>,
    /// Whether a broker's certificate must name the host that was connected to.
    pub verify_hostname: bool,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its authority (PEM).
    pub certificate_file: PathBuf,
    /// Its key (PEM).
    pub key_file: PathBuf,
    /// What the key is encrypted with.
    pub key_password: Option<Secret>,
}

/// `[kafka.sasl]`, if a mechanism is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslConfig {
    /// How the password is proven.
    pub mechanism: SaslMechanism,
    /// Who the service is.
    pub username: String,
    /// Its password.
    pub password: Secret,
}
