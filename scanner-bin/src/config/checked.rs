//! The configuration that the service works with: complete, and consistent.
//!
//! The `Default` of each section is the only place where defaults are written down.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use scan_pipeline::config::properties::{protected, refused};
use scan_pipeline::config::{
    GroupProtocol, KafkaConfig, MIN_FETCH_BYTES_PER_PARTITION, Properties,
};
use scan_pipeline::quota;
use scanlib::message::{DecodeLimits, FieldNames, ViewSet};
use scanlib::prefilter::AuditOptions;
use scanlib::{IsolationOptions, Limits};

use super::Environment;
use super::error::{ConfigError, Problem};
use super::raw::{Raw, RawFields, RawKafka, RawOps, RawScan};
use super::sources::Origins;

/// The least memory for a scanning process, in bytes: several threads unpack at a time.
const MIN_ISOLATION_MEMORY_BYTES: u64 = 64 << 20;
/// Each entry may take a kilobyte.
const MAX_VERDICT_CACHE_ENTRIES: usize = 1 << 20;
/// The longest record that Kafka can carry, in bytes.
const MAX_RECORD_BYTES: u64 = i32::MAX as u64;

/// The longest time that one record may take.
const MAX_RECORD_TIME: Duration = Duration::from_secs(3600);

/// A complete, checked configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where records come from and results go to.
    pub kafka: KafkaConfig,
    /// How records are scanned.
    pub scan: ScanConfig,
    /// How the service is watched.
    pub ops: OpsConfig,
}

scan_pipeline::words! {
    /// Which of the signatures in the files are loaded.
    Profile {
        /// All.
        Full = "full",
        /// Those that can match a record that is scanned.
        LogOnly = "log-only",
    }
    /// How new signatures take the place of those in use.
    ReloadMode {
        /// As memory allows.
        Auto = "auto",
        /// They are loaded beside them.
        Swap = "swap",
        /// Those in use are freed first, and records wait.
        Drain = "drain",
    }
    /// Where libclamav runs.
    IsolationMode {
        /// In this process.
        None = "none",
        /// In confined processes of its own, which may crash.
        Process = "process",
    }
}

/// `[scan]`: how records are scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanConfig {
    /// Signature files and directories; none means the built-in signature alone.
    pub database: Vec<PathBuf>,
    /// Scanning threads.
    pub threads: NonZeroUsize,
    /// A longer record is answered as `partial`, in bytes.
    pub max_message_bytes: u64,
    /// How much libclamav examines of one view of a record.
    pub limits: Limits,
    /// Time for all views of one record. What is left then is not scanned, and the record is `partial`.
    pub max_record_time: Duration,
    /// How far payloads of a record are decoded.
    pub decode_limits: DecodeLimits,
    /// Maximum number of verdicts of libclamav that are remembered; 0 for none.
    pub verdict_cache_entries: usize,
    /// Which views of a record are scanned.
    pub views: ViewSet,
    /// Match the severity rules.
    pub rules: bool,
    /// Where libclamav puts temporary files; `None` for the system's place.
    pub tmp_dir: Option<PathBuf>,
    /// Where the service notes what it is scanning, so that a record that crashes it does so twice at
    /// most; must outlive the process. `None` for no notes.
    pub crash_journal: Option<PathBuf>,
    /// How often in a row the process may end while a record is being scanned before that record is not scanned any more.
    pub crash_limit: u32,
    /// How often a scan that failed is tried again before the record is given up.
    pub retries: u32,
    /// Run bytecode signatures that nobody signed.
    pub bytecode_unsigned: bool,
    /// How often signature files are looked at, to load them anew when they changed; zero for never.
    pub reload_interval: Duration,
    /// Which of the signatures in the files are loaded.
    pub profile: Profile,
    /// Names of signatures that are kept out of the engine.
    pub leave_out: Vec<String>,
    /// Spare libclamav what it would certainly call clean.
    pub prefilter: bool,
    /// One in so many buffers that the prefilter cleared is scanned all the same, for a hundredth of the time at most; 0 for none.
    pub audit_one_in: u32,
    /// Counts of the user's own messages, as `db tune` writes them; `None` for the built-in ones.
    pub text_model: Option<PathBuf>,
    /// Where a message that was wrongly cleared is kept for a report; `None` for nowhere.
    pub wrong_dir: Option<PathBuf>,
    /// Where this replica keeps the signatures that were in use, to come back on them; `None` to keep none.
    pub state_dir: Option<PathBuf>,
    /// Whether two engines may be in memory while signatures are loaded anew.
    pub reload: ReloadMode,
    /// Where libclamav runs.
    pub isolation: IsolationMode,
    /// Memory that a scanning process may take beyond the signatures, in bytes.
    pub isolation_memory_bytes: u64,
    /// Names of the members of a JSON record.
    pub fields: FieldNames,
}

impl ScanConfig {
    /// The profile as the library has it: log-only is for records that are short enough to be scanned.
    pub fn signatures(&self) -> scanlib::Profile {
        self.profile.of(self.max_message_bytes)
    }
}

impl Profile {
    /// For messages of at most so many bytes.
    pub fn of(self, max_message_bytes: u64) -> scanlib::Profile {
        match self {
            Profile::Full => scanlib::Profile::Full,
            Profile::LogOnly => scanlib::Profile::LogOnly { max_message_bytes },
        }
    }
}

/// Most scanning threads: 64, or 4 for each processor if that is more. A scan keeps a processor busy, so more only take memory.
pub(crate) fn max_threads() -> NonZeroUsize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(4 * processors).map_or(NonZeroUsize::MIN, |most| most.max(LEAST_MAX_THREADS))
}

const LEAST_MAX_THREADS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

impl Default for ScanConfig {
    fn default() -> ScanConfig {
        ScanConfig {
            database: Vec::new(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_message_bytes: 1 << 20,
            limits: record_limits(),
            max_record_time: Duration::from_secs(5),
            decode_limits: DecodeLimits::default(),
            verdict_cache_entries: 4096,
            views: ViewSet::ALL,
            rules: true,
            tmp_dir: None,
            crash_journal: Some(default_journal()),
            crash_limit: 2,
            retries: 3,
            bytecode_unsigned: false,
            reload_interval: Duration::from_secs(10),
            profile: Profile::Full,
            leave_out: Vec::new(),
            prefilter: true,
            audit_one_in: AuditOptions::default().one_in,
            text_model: None,
            wrong_dir: None,
            state_dir: None,
            reload: ReloadMode::Auto,
            isolation: IsolationMode::None,
            isolation_memory_bytes: IsolationOptions::default().memory_bytes,
            fields: FieldNames::default(),
        }
    }
}

/// Limits of libclamav for records: a record is a line of text, and what it carries is rarely more than a few kilobytes. Files
/// have libclamav's own.
fn record_limits() -> Limits {
    Limits {
        max_scan_bytes: 32 << 20,
        max_file_bytes: 16 << 20,
        max_scan_time: Duration::from_secs(2),
        ..Limits::default()
    }
}

/// `[ops]`: how the service is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsConfig {
    /// Address of the probes and metrics. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Name of this replica in results.
    pub instance: String,
    /// Log level, or one for each target, as `tracing` filters are written.
    pub log: String,
    /// Log lines about detections of one name from one source in a second; 0 for no limit.
    pub log_detections_per_second: u32,
}

impl Default for OpsConfig {
    fn default() -> OpsConfig {
        OpsConfig {
            // All addresses: probes of a container come from outside of it.
            listen: SocketAddr::from(([0, 0, 0, 0], 9090)),
            instance: host_name(),
            log: "info".to_owned(),
            log_detections_per_second: 10,
        }
    }
}

/// On memory that outlives the process, and in a pod its container; of this user alone.
fn default_journal() -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let user = std::fs::metadata("/proc/self").map_or(0, |process| process.uid());
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    base.join(format!("scanner-bin-{user}"))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "scanner".to_owned(),
        name => name.to_owned(),
    }
}

/// `LEVEL` or `TARGET=LEVEL`. The filter itself would take any word for a target.
fn is_log_directive(directive: &str) -> bool {
    let level = directive
        .split_once('=')
        .map_or(directive, |(_, level)| level);
    level
        .trim()
        .parse::<tracing_subscriber::filter::LevelFilter>()
        .is_ok()
}

impl Config {
    /// Fills in the defaults and checks everything.
    pub(super) fn check(
        raw: Raw,
        origins: &Origins,
        environment: &Environment,
    ) -> Result<Config, ConfigError> {
        let mut check = Check {
            origins,
            problems: Vec::new(),
        };
        let kafka = check.kafka(raw.kafka, environment);
        let scan = check.scan(raw.scan);
        let ops = check.ops(raw.ops);
        check.require(
            scan.max_message_bytes <= kafka.inflight_bytes,
            "kafka.inflight_bytes",
            || {
                format!(
                    "{} bytes do not hold one record of scan.max_message_bytes ({})",
                    kafka.inflight_bytes, scan.max_message_bytes
                )
            },
            "raise it or lower scan.max_message_bytes",
        );
        ConfigError::from_problems(check.problems)?;
        Ok(Config { kafka, scan, ops })
    }
}

/// Collects what is wrong.
pub(super) struct Check<'a> {
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl Check<'_> {
    pub(super) fn require(
        &mut self,
        holds: bool,
        path: &str,
        what: impl FnOnce() -> String,
        remedy: &str,
    ) {
        if !holds {
            self.problems.push(Problem {
                subject: path.to_owned(),
                origin: self
                    .origins
                    .get(path)
                    .cloned()
                    .unwrap_or_else(|| "default".to_owned()),
                what: what(),
                remedy: remedy.to_owned(),
            });
        }
    }

    fn kafka(&mut self, raw: RawKafka, environment: &Environment) -> KafkaConfig {
        let default = KafkaConfig::default();
        let kafka = KafkaConfig {
            brokers: raw.brokers.unwrap_or(default.brokers),
            broker_ports: raw
                .broker_ports
                .map_or(default.broker_ports, |ports| ports.0),
            group: raw.group.unwrap_or(default.group),
            input_topic: raw.input_topic.unwrap_or(default.input_topic),
            output_topic: raw.output_topic.unwrap_or(default.output_topic),
            dead_letter_topic: raw.dead_letter_topic.unwrap_or(default.dead_letter_topic),
            dead_letter_limits: quota::Limits {
                per_minute: raw
                    .dead_letters_per_minute
                    .unwrap_or(default.dead_letter_limits.per_minute),
                percent: raw
                    .dead_letter_percent
                    .unwrap_or(default.dead_letter_limits.percent),
            },
            create_topics: raw.create_topics.unwrap_or(default.create_topics),
            emit: raw.emit.unwrap_or(default.emit),
            result_key: raw.result_key.unwrap_or(default.result_key),
            result_format: raw.result_format.unwrap_or(default.result_format),
            delivery: raw.delivery.unwrap_or(default.delivery),
            group_protocol: raw.group_protocol.unwrap_or(default.group_protocol),
            transactional_id_prefix: raw
                .transactional_id_prefix
                .or(default.transactional_id_prefix),
            transaction_interval: raw
                .transaction_interval
                .map_or(default.transaction_interval, |span| span.0),
            transaction_timeout: raw
                .transaction_timeout
                .map_or(default.transaction_timeout, |span| span.0),
            drain_timeout: raw
                .drain_timeout
                .map_or(default.drain_timeout, |span| span.0),
            revoke_timeout: raw
                .revoke_timeout
                .map_or(default.revoke_timeout, |span| span.0),
            session_timeout: raw
                .session_timeout
                .map_or(default.session_timeout, |span| span.0),
            max_poll_interval: raw
                .max_poll_interval
                .map_or(default.max_poll_interval, |span| span.0),
            commit_interval: raw
                .commit_interval
                .map_or(default.commit_interval, |span| span.0),
            fetch_memory_bytes: raw
                .fetch_memory_bytes
                .map_or(default.fetch_memory_bytes, |bytes| bytes.0),
            max_partitions: raw.max_partitions.unwrap_or(default.max_partitions),
            inflight_messages_per_partition: raw
                .inflight_messages_per_partition
                .unwrap_or(default.inflight_messages_per_partition),
            inflight_bytes: raw
                .inflight_bytes
                .map_or(default.inflight_bytes, |bytes| bytes.0),
            unreadable_batch: raw.unreadable_batch.unwrap_or(default.unreadable_batch),
            linger: raw.linger.map_or(default.linger, |span| span.0),
            compression: raw.compression.unwrap_or(default.compression),
            properties: raw.properties.map_or(default.properties, Properties),
            tls: self.tls(raw.tls, environment),
            sasl: self.sasl(raw.sasl, environment),
        };

        self.require(
            !kafka.brokers.is_empty()
                && kafka
                    .brokers
                    .split(',')
                    .all(|broker| !broker.trim().is_empty()),
            "kafka.brokers",
            || format!("{:?} holds an empty broker", kafka.brokers),
            "write HOST:PORT, several separated by commas",
        );
        self.require(
            !kafka.group.is_empty(),
            "kafka.group",
            || "empty".to_owned(),
            "name the consumer group",
        );
        self.topics(&kafka);
        self.protocol(&kafka);
        self.times(&kafka);
        self.transactions(&kafka);
        self.undecided(
            kafka.tls.is_some() || kafka.sasl.is_some(),
            &kafka.properties,
        );
        self.require(
            kafka.max_partitions > 0,
            "kafka.max_partitions",
            || "0".to_owned(),
            "set 1 or more",
        );
        let least = u64::from(kafka.max_partitions) * MIN_FETCH_BYTES_PER_PARTITION;
        self.require(
            kafka.fetch_memory_bytes >= least,
            "kafka.fetch_memory_bytes",
            || {
                let KafkaConfig { fetch_memory_bytes, max_partitions, .. } = &kafka;
                format!("{fetch_memory_bytes} bytes are less than 4 MiB for each of {max_partitions} partitions")
            },
            &format!("set {least} or more, or lower kafka.max_partitions"),
        );
        self.require(
            kafka.inflight_messages_per_partition > 0,
            "kafka.inflight_messages_per_partition",
            || "0".to_owned(),
            "set 1 or more",
        );
        self.require(
            kafka.dead_letter_limits.percent <= 100,
            "kafka.dead_letter_percent",
            || format!("{} is more than all", kafka.dead_letter_limits.percent),
            "set 0 (no limit) to 100",
        );
        for (name, value) in kafka.properties.iter() {
            self.require(
                !name.is_empty(),
                "kafka.properties",
                || "a property has no name".to_owned(),
                "name it as librdkafka does, for example socket.keepalive.enable",
            );
            let remedy = protected(name);
            if let (None, false, Some(why)) = (remedy, name.is_empty(), refused(name, value)) {
                self.require(
                    false,
                    &format!("kafka.properties.{name}"),
                    || format!("librdkafka does not take it: {why}"),
                    "correct it, or leave it out",
                );
            }
            if let Some(remedy) = remedy {
                let origin = self
                    .origins
                    .get(&format!("kafka.properties.{name}"))
                    .cloned()
                    .unwrap_or_default();
                self.problems.push(Problem {
                    subject: format!("kafka.properties.{name}"),
                    origin,
                    what: "the service depends on this property".to_owned(),
                    remedy: remedy.to_owned(),
                });
            }
        }
        kafka
    }

    fn topics(&mut self, kafka: &KafkaConfig) {
        let topics = [
            ("kafka.input_topic", &kafka.input_topic),
            ("kafka.output_topic", &kafka.output_topic),
            ("kafka.dead_letter_topic", &kafka.dead_letter_topic),
        ];
        for (at, (path, topic)) in topics.iter().enumerate() {
            let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            self.require(
                (1..=249).contains(&topic.len())
                    && topic.chars().all(legal)
                    && !matches!(topic.as_str(), "." | ".."),
                path,
                || format!("{topic:?} is not a topic's name"),
                "use 1 to 249 letters, digits, dots, underscores and hyphens",
            );
            for (other, other_topic) in &topics[..at] {
                self.require(
                    topic != other_topic,
                    path,
                    || {
                        format!(
                            "{topic:?} is {other} too: the service would read or mix what it writes"
                        )
                    },
                    "name another topic",
                );
            }
        }
    }

    /// librdkafka has the consumer protocol since 2.12, and a fault in it until 2.15: a member that polls too late cannot join again.
    fn protocol(&mut self, kafka: &KafkaConfig) {
        const RELIABLE: i32 = 0x020f_00ff;
        let (number, version) = rdkafka::util::get_rdkafka_version();
        self.require(
            kafka.group_protocol != GroupProtocol::Consumer || number >= RELIABLE,
            "kafka.group_protocol",
            || format!("librdkafka {version} is built in, and the consumer protocol is reliable from 2.15.0 on"),
            "set \"classic\", or \"consumer-anyway\" to use it all the same",
        );
    }

    fn times(&mut self, kafka: &KafkaConfig) {
        let KafkaConfig {
            drain_timeout,
            revoke_timeout,
            session_timeout,
            max_poll_interval,
            ..
        } = kafka;
        for (path, value) in [
            ("kafka.drain_timeout", drain_timeout),
            ("kafka.revoke_timeout", revoke_timeout),
            ("kafka.session_timeout", session_timeout),
            ("kafka.commit_interval", &kafka.commit_interval),
        ] {
            self.require(
                !value.is_zero(),
                path,
                || "zero".to_owned(),
                "set a time such as 1s",
            );
        }
        let largest = Duration::from_secs(24 * 3600);
        self.require(
            *max_poll_interval <= largest,
            "kafka.max_poll_interval",
            || format!("{max_poll_interval:?} is longer than Kafka allows"),
            "set 24h or less",
        );
        self.require(
            session_timeout <= max_poll_interval,
            "kafka.session_timeout",
            || format!("{session_timeout:?} is longer than kafka.max_poll_interval ({max_poll_interval:?})"),
            "lower it or raise kafka.max_poll_interval",
        );
        let revoke_limit = *session_timeout.min(max_poll_interval) / 2;
        self.require(
            *revoke_timeout <= revoke_limit,
            "kafka.revoke_timeout",
            || {
                format!(
                    "{revoke_timeout:?} is more than half of kafka.session_timeout ({session_timeout:?}) or \
                     kafka.max_poll_interval ({max_poll_interval:?}): the group would take the partition before it is committed"
                )
            },
            &format!("set {revoke_limit:?} or less"),
        );
        self.require(
            drain_timeout < max_poll_interval,
            "kafka.drain_timeout",
            || format!("{drain_timeout:?} is not less than kafka.max_poll_interval ({max_poll_interval:?})"),
            "lower it, and keep it below the time that the supervisor waits before it kills",
        );
        self.require(
            kafka.linger <= Duration::from_secs(60),
            "kafka.linger",
            || format!("{:?} would hold results back", kafka.linger),
            "set 60s or less",
        );
    }

    fn transactions(&mut self, kafka: &KafkaConfig) {
        let KafkaConfig {
            transaction_interval: interval,
            transaction_timeout: timeout,
            linger,
            ..
        } = kafka;
        self.require(
            kafka.transactional_id_prefix.as_deref() != Some(""),
            "kafka.transactional_id_prefix",
            || "empty".to_owned(),
            "name it, or leave it out for the group's name",
        );
        self.require(
            (Duration::from_millis(10)..=Duration::from_secs(5)).contains(interval),
            "kafka.transaction_interval",
            || format!("{interval:?} is not between 10ms and 5s"),
            "set a time such as 200ms: results are seen, and partitions handed over, when it is over",
        );
        self.require(
            (Duration::from_secs(1)..=Duration::from_secs(900)).contains(timeout),
            "kafka.transaction_timeout",
            || format!("{timeout:?} is not between 1s and 15m"),
            "set a time such as 15s: so long may a replica that died hold up readers of committed results",
        );
        self.require(
            *interval * 2 <= *timeout,
            "kafka.transaction_interval",
            || format!("{interval:?} is more than half of kafka.transaction_timeout ({timeout:?})"),
            "lower it, or raise kafka.transaction_timeout",
        );
        if !kafka.is_exactly_once() {
            return;
        }
        self.require(
            linger < timeout,
            "kafka.linger",
            || format!("{linger:?} is not less than kafka.transaction_timeout ({timeout:?})"),
            "lower it: a result must be sent before its transaction times out",
        );
        let socket = kafka.properties.get("socket.timeout.ms");
        let limit = timeout.as_millis() + 100;
        self.require(
            socket.is_none_or(|ms| ms.parse().is_ok_and(|ms: u128| ms <= limit)),
            "kafka.properties.socket.timeout.ms",
            || format!("more than kafka.transaction_timeout ({timeout:?}) allows"),
            &format!("set {limit} or less, or leave it out"),
        );
    }

    fn scan(&mut self, raw: RawScan) -> ScanConfig {
        let default = ScanConfig::default();
        let threads = raw
            .threads
            .map_or(Some(default.threads), NonZeroUsize::new)
            .filter(|n| *n <= max_threads());
        self.require(
            threads.is_some(),
            "scan.threads",
            || {
                let most = max_threads();
                format!("not between 1 and {most} (64, or 4 for each CPU if that is more)")
            },
            "set a number of threads, or leave it out for one per CPU",
        );
        let max_message_bytes = raw
            .max_message_bytes
            .map_or(default.max_message_bytes, |bytes| bytes.0);
        self.require(
            (1..=MAX_RECORD_BYTES).contains(&max_message_bytes),
            "scan.max_message_bytes",
            || format!("{max_message_bytes} is not a length that a record can have"),
            "set 1 to 2147483647",
        );
        let limits = self.limits(&raw, default.limits, max_message_bytes);
        let max_record_time = raw
            .max_record_time
            .map_or(default.max_record_time, |span| span.0);
        self.require(
            (limits.max_scan_time..=MAX_RECORD_TIME).contains(&max_record_time),
            "scan.max_record_time",
            || {
                format!(
                    "{max_record_time:?} is not between scan.max_scan_time ({:?}) and {MAX_RECORD_TIME:?}",
                    limits.max_scan_time
                )
            },
            "set a time such as 5s, in which several views can be scanned",
        );
        let decode_limits = self.decode_limits(&raw, default.decode_limits);
        let verdict_cache_entries = raw
            .verdict_cache_entries
            .unwrap_or(default.verdict_cache_entries);
        self.require(
            verdict_cache_entries <= MAX_VERDICT_CACHE_ENTRIES,
            "scan.verdict_cache_entries",
            || format!("{verdict_cache_entries} is more than {MAX_VERDICT_CACHE_ENTRIES}"),
            "set fewer: each may take a kilobyte",
        );
        let leave_out = raw.leave_out.map_or(default.leave_out, |names| names.0);
        self.require(
            leave_out.iter().all(|name| !name.trim().is_empty()),
            "scan.leave_out",
            || "an empty name".to_owned(),
            "write the names of signatures, or leave it out",
        );
        let state_dir = raw.state_dir.map(PathBuf::from);
        self.require(
            state_dir
                .as_ref()
                .is_none_or(|dir| !dir.as_os_str().is_empty()),
            "scan.state_dir",
            || "empty".to_owned(),
            "name a directory of this replica's own, or leave it out",
        );
        let reload = raw.reload.unwrap_or(default.reload);
        self.require(
            reload != ReloadMode::Drain || state_dir.is_some(),
            "scan.reload",
            || "\"drain\" frees the signatures in use before it knows whether the new ones are any good, and nothing is kept to come back on".to_owned(),
            "set scan.state_dir, or \"swap\"",
        );
        let isolation_memory_bytes = raw
            .isolation_memory_bytes
            .map_or(default.isolation_memory_bytes, |bytes| bytes.0);
        self.require(
            isolation_memory_bytes >= MIN_ISOLATION_MEMORY_BYTES,
            "scan.isolation_memory_bytes",
            || format!("{isolation_memory_bytes} bytes are not enough to unpack anything"),
            "set 64MiB or more, or leave it out",
        );
        let crash_limit = raw.crash_limit.unwrap_or(default.crash_limit);
        self.require(
            crash_limit > 0,
            "scan.crash_limit",
            || "0 would give up every record".to_owned(),
            "set 1 or more, or scan.crash_journal to \"off\" for no limit",
        );
        ScanConfig {
            database: raw.database.map_or(default.database, |paths| paths.0),
            threads: threads.unwrap_or(NonZeroUsize::MIN),
            max_message_bytes,
            limits,
            max_record_time,
            decode_limits,
            verdict_cache_entries,
            views: raw.views.map_or(default.views, |views| views.0),
            rules: raw.rules.unwrap_or(default.rules),
            tmp_dir: raw.tmp_dir.map(PathBuf::from),
            crash_journal: match raw.crash_journal.as_deref() {
                None => default.crash_journal,
                Some("off") => None,
                Some(dir) => Some(PathBuf::from(dir)),
            },
            crash_limit,
            retries: raw.retries.unwrap_or(default.retries),
            bytecode_unsigned: raw.bytecode_unsigned.unwrap_or(default.bytecode_unsigned),
            reload_interval: raw
                .reload_interval
                .map_or(default.reload_interval, |span| span.0),
            profile: raw.profile.unwrap_or(default.profile),
            leave_out,
            prefilter: raw.prefilter.unwrap_or(default.prefilter),
            audit_one_in: raw.audit_one_in.unwrap_or(default.audit_one_in),
            text_model: raw.text_model.map(PathBuf::from),
            wrong_dir: raw.wrong_dir.map(PathBuf::from),
            state_dir,
            reload,
            isolation: raw.isolation.unwrap_or(default.isolation),
            isolation_memory_bytes,
            fields: self.fields(raw.fields, default.fields),
        }
    }

    /// How much libclamav examines. Defaults grow with the records that are to be scanned.
    fn limits(&mut self, raw: &RawScan, default: Limits, max_message_bytes: u64) -> Limits {
        // A view may have one line feed more than the record.
        let least = max_message_bytes
            .saturating_add(1)
            .min(Limits::MAX_FILE_BYTES);
        let max_file_bytes = raw
            .max_file_bytes
            .map_or(default.max_file_bytes.max(least), |bytes| bytes.0);
        self.require(
            (least..=Limits::MAX_FILE_BYTES).contains(&max_file_bytes),
            "scan.max_file_bytes",
            || {
                format!(
                    "{max_file_bytes} bytes are not between {least} and {}: a record of scan.max_message_bytes \
                     ({max_message_bytes}) is one byte longer behind a line feed",
                    Limits::MAX_FILE_BYTES
                )
            },
            &format!("set {least} or more, or lower scan.max_message_bytes"),
        );
        let max_scan_bytes = raw.max_scan_bytes.map_or(
            default.max_scan_bytes.max(max_file_bytes.saturating_mul(2)),
            |bytes| bytes.0,
        );
        self.require(
            (max_file_bytes..=i64::MAX as u64).contains(&max_scan_bytes),
            "scan.max_scan_bytes",
            || {
                format!(
                    "{max_scan_bytes} bytes are less than scan.max_file_bytes ({max_file_bytes})"
                )
            },
            "set as much, or twice as much for what is unpacked",
        );
        let max_scan_time = raw
            .max_scan_time
            .map_or(default.max_scan_time, |span| span.0);
        self.require(
            (Duration::from_millis(1)..=MAX_RECORD_TIME).contains(&max_scan_time),
            "scan.max_scan_time",
            || format!("{max_scan_time:?} is not between 1ms and {MAX_RECORD_TIME:?}"),
            "set a time such as 2s",
        );
        Limits {
            max_file_bytes,
            max_scan_bytes,
            max_scan_time,
            ..default
        }
    }

    fn decode_limits(&mut self, raw: &RawScan, default: DecodeLimits) -> DecodeLimits {
        let mut within = |path: &str, given: Option<u32>, default: u32, most: u32| {
            let value = given.unwrap_or(default);
            self.require(
                (1..=most).contains(&value),
                path,
                || format!("{value} is not between 1 and {most}"),
                "set a number in between, or leave \"decoded\" out of scan.views",
            );
            value
        };
        DecodeLimits {
            depth: within(
                "scan.decode_depth",
                raw.decode_depth,
                default.depth,
                DecodeLimits::MAX_DEPTH,
            ),
            payloads: within(
                "scan.max_decoded_payloads",
                raw.max_decoded_payloads,
                default.payloads,
                DecodeLimits::MAX_PAYLOADS,
            ),
        }
    }

    fn fields(&mut self, raw: RawFields, default: FieldNames) -> FieldNames {
        let mut name = |path: &str, given: Option<String>, default: String| {
            let name = given.unwrap_or(default);
            self.require(
                !name.is_empty(),
                path,
                || "empty".to_owned(),
                "name a member of the JSON record, or leave it out",
            );
            name
        };
        FieldNames {
            message: name("scan.fields.message", raw.message, default.message),
            source_ip: name("scan.fields.source_ip", raw.source_ip, default.source_ip),
            source_host: name(
                "scan.fields.source_host",
                raw.source_host,
                default.source_host,
            ),
            source_port: name(
                "scan.fields.source_port",
                raw.source_port,
                default.source_port,
            ),
            facility: name("scan.fields.facility", raw.facility, default.facility),
            priority: name("scan.fields.priority", raw.priority, default.priority),
            level: name("scan.fields.level", raw.level, default.level),
            program: name("scan.fields.program", raw.program, default.program),
            pid: name("scan.fields.pid", raw.pid, default.pid),
            timestamp: name("scan.fields.timestamp", raw.timestamp, default.timestamp),
        }
    }

    fn ops(&mut self, raw: RawOps) -> OpsConfig {
        let default = OpsConfig::default();
        let listen = raw.listen.as_deref().map_or(Ok(default.listen), str::parse);
        self.require(
            listen.is_ok(),
            "ops.listen",
            || {
                format!(
                    "{:?} is not an address and a port",
                    raw.listen.as_deref().unwrap_or_default()
                )
            },
            "write for example 0.0.0.0:9090 or [::1]:9090",
        );
        let instance = raw.instance.unwrap_or(default.instance);
        self.require(
            !instance.is_empty(),
            "ops.instance",
            || "empty".to_owned(),
            "name this replica, or leave it out for the host's name",
        );
        let log = raw.log.unwrap_or(default.log);
        self.require(
            log.split(',').all(is_log_directive),
            "ops.log",
            || format!("{log:?} is not a log level"),
            "write error, warn, info, debug, trace or off, or TARGET=LEVEL, separated by commas",
        );
        OpsConfig {
            listen: listen.unwrap_or(default.listen),
            instance,
            log,
            log_detections_per_second: raw
                .log_detections_per_second
                .unwrap_or(default.log_detections_per_second),
        }
    }
}
