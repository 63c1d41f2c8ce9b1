//! The flags of `run`, the last and strongest layer.

use std::path::PathBuf;

use config::{Value, ValueKind};

/// Settings given on the command line. Each is text here, so that a flag, a variable and a line of
/// the file go through the same parser and get the same message.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunFlags {
    /// Configuration file (TOML) [env: SCANNER_CONFIG]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Kafka brokers, HOST:PORT separated by commas [default: localhost:9092]
    #[arg(long, value_name = "LIST")]
    pub brokers: Option<String>,
    /// Consumer group; replicas of one group share the partitions [default: syslog-scanner-group]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Topic to read [default: syslog-raw]
    #[arg(long, value_name = "TOPIC")]
    pub input_topic: Option<String>,
    /// Topic for the results [default: scan-results]
    #[arg(long, value_name = "TOPIC")]
    pub output_topic: Option<String>,
    /// Topic for records that could not be judged [default: scan-results-dlq]
    #[arg(long, value_name = "TOPIC")]
    pub dead_letter_topic: Option<String>,
    /// Create topics that are missing
    #[arg(long)]
    pub create_topics: bool,
    /// Which results to write: all, or threats (with everything that is not clean) [default: all]
    #[arg(long, value_name = "all|threats")]
    pub emit: Option<String>,
    /// Key of a result: input (the record's own) or scan_id [default: input]
    #[arg(long, value_name = "input|scan_id")]
    pub result_key: Option<String>,
    /// Form of a result: json, or connect-json (a row of a table, for Kafka Connect) [default: json]
    #[arg(long, value_name = "json|connect-json", hide_short_help = true)]
    pub result_format: Option<String>,
    /// After a crash: a second result (at-least-once), or not (exactly-once) [default: at-least-once]
    #[arg(long, value_name = "at-least-once|exactly-once")]
    pub delivery: Option<String>,
    /// Property for librdkafka, for example security.protocol=ssl; repeatable
    #[arg(long = "property", short = 'X', value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    /// Signature file or directory of libclamav; repeatable [default: the built-in signature]
    #[arg(long, value_name = "PATH")]
    pub database: Vec<PathBuf>,
    /// Directory of this replica's own in which signatures that were in use are kept [default: none are]
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    pub state_dir: Option<PathBuf>,
    /// Scanning threads [default: one per CPU]
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// Views of a record to scan, from raw, body, decoded and guarded [default: all]
    #[arg(long, value_name = "LIST")]
    pub views: Option<String>,
    /// Severity rules [default: on]
    #[arg(long, value_name = "on|off")]
    pub rules: Option<String>,
    /// Which signatures of the files are loaded: all, or those that can match a log message [default: full]
    #[arg(long, value_name = "full|log-only", hide_short_help = true)]
    pub profile: Option<String>,
    /// Keep the signature of this name out of the engine: what only it finds is not found; repeatable
    #[arg(long, value_name = "NAME")]
    pub leave_out: Vec<String>,
    /// Skip libclamav where it is proven that it would find nothing [default: on]
    #[arg(long, value_name = "on|off")]
    pub prefilter: Option<String>,
    /// Where libclamav runs: in this process (none), or confined in its own (process) [default: none]
    #[arg(long, value_name = "none|process", hide_short_help = true)]
    pub isolation: Option<String>,
    /// Address for probes and metrics; port 0 takes a free one [default: 0.0.0.0:9090]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Name of this replica in results [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Log level: error, warn, info, debug, trace, or one per target [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
}

/// Every setting that has a flag: its path and its short name, which makes both `--short-name` and
/// `SCANNER_SHORT_NAME`.
pub(super) const SHORT_NAMES: &[(&str, &str)] = &[
    ("kafka.brokers", "brokers"),
    ("kafka.group", "group"),
    ("kafka.input_topic", "input-topic"),
    ("kafka.output_topic", "output-topic"),
    ("kafka.dead_letter_topic", "dead-letter-topic"),
    ("kafka.create_topics", "create-topics"),
    ("kafka.emit", "emit"),
    ("kafka.result_key", "result-key"),
    ("kafka.result_format", "result-format"),
    ("kafka.delivery", "delivery"),
    ("scan.database", "database"),
    ("scan.state_dir", "state-dir"),
    ("scan.threads", "threads"),
    ("scan.views", "views"),
    ("scan.rules", "rules"),
    ("scan.profile", "profile"),
    ("scan.leave_out", "leave-out"),
    ("scan.prefilter", "prefilter"),
    ("scan.isolation", "isolation"),
    ("ops.listen", "listen"),
    ("ops.instance", "instance"),
    ("ops.log", "log"),
];

impl RunFlags {
    /// The settings given: short name and value. `--property` is not among them.
    pub(super) fn given(&self) -> Vec<(&'static str, ValueKind)> {
        let text = |value: &Option<String>| value.clone().map(ValueKind::String);
        let database = self
            .database
            .iter()
            .map(|path| Value::from(path.to_string_lossy().into_owned()))
            .collect();
        let leave_out = self.leave_out.iter().cloned().map(Value::from).collect();
        [
            ("brokers", text(&self.brokers)),
            ("group", text(&self.group)),
            ("input-topic", text(&self.input_topic)),
            ("output-topic", text(&self.output_topic)),
            ("dead-letter-topic", text(&self.dead_letter_topic)),
            (
                "create-topics",
                self.create_topics.then_some(ValueKind::Boolean(true)),
            ),
            ("emit", text(&self.emit)),
            ("result-key", text(&self.result_key)),
            ("result-format", text(&self.result_format)),
            ("delivery", text(&self.delivery)),
            (
                "database",
                (!self.database.is_empty()).then_some(ValueKind::Array(database)),
            ),
            (
                "state-dir",
                self.state_dir
                    .as_ref()
                    .map(|dir| ValueKind::String(dir.to_string_lossy().into_owned())),
            ),
            ("threads", text(&self.threads)),
            ("views", text(&self.views)),
            ("rules", text(&self.rules)),
            ("profile", text(&self.profile)),
            (
                "leave-out",
                (!self.leave_out.is_empty()).then_some(ValueKind::Array(leave_out)),
            ),
            ("prefilter", text(&self.prefilter)),
            ("isolation", text(&self.isolation)),
            ("listen", text(&self.listen)),
            ("instance", text(&self.instance)),
            ("log", text(&self.log)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}
