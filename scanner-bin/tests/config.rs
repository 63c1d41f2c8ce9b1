//! The configuration: every layer, their order, and what is said when something is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use scanner_bin::config::{
    self, ClientCertificate, Config, ConfigError, Environment, RunFlags, SaslConfig, Secret,
    SecretSource, TlsConfig,
};

/// A command line that holds nothing but the flags of `run`.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    flags: RunFlags,
}

#[derive(Default)]
struct Given {
    file: Option<String>,
    environment: Environment,
    flags: Vec<String>,
}

impl Given {
    fn file(mut self, text: &str) -> Given {
        self.file = Some(text.to_owned());
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Given {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flags(mut self, flags: &[&str]) -> Given {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self
    }

    fn load(self) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(self.flags);
        if let Some(text) = self.file {
            let path = directory.path().join("scanner.toml");
            std::fs::write(&path, text).unwrap();
            arguments.extend(["--config".to_owned(), path.to_str().unwrap().to_owned()]);
        }
        let flags = CommandLine::try_parse_from(arguments).unwrap().flags;
        config::load(&flags, &self.environment)
    }

    fn error(self) -> String {
        self.load()
            .expect_err("this configuration must be refused")
            .to_string()
    }
}

fn given() -> Given {
    Given::default()
}

/// A setting: its path and how to read it from a configuration.
struct Setting {
    path: &'static str,
    /// Name of its flag; empty for none.
    short: &'static str,
    /// Three values, as text: for the file, the environment and the flag.
    values: [&'static str; 3],
    read: fn(&Config) -> String,
}

/// Every setting but `kafka.properties`, which has a test of its own.
const SETTINGS: &[Setting] = &[
    Setting {
        path: "kafka.brokers",
        short: "brokers",
        values: ["a:1", "b:2", "c:3,d:4"],
        read: |c| c.kafka.brokers.clone(),
    },
    Setting {
        path: "kafka.broker_ports",
        short: "",
        values: ["9093", "9093,19092", ""],
        read: |c| {
            let ports = c.kafka.broker_ports.iter().map(u16::to_string);
            ports.collect::<Vec<_>>().join(",")
        },
    },
    Setting {
        path: "kafka.group",
        short: "group",
        values: ["one", "two", "three"],
        read: |c| c.kafka.group.clone(),
    },
    Setting {
        path: "kafka.input_topic",
        short: "input-topic",
        values: ["one", "two", "three"],
        read: |c| c.kafka.input_topic.clone(),
    },
    Setting {
        path: "kafka.output_topic",
        short: "output-topic",
        values: ["one", "two", "three"],
        read: |c| c.kafka.output_topic.clone(),
    },
    Setting {
        path: "kafka.dead_letter_topic",
        short: "dead-letter-topic",
        values: ["one", "two", "three"],
        read: |c| c.kafka.dead_letter_topic.clone(),
    },
    Setting {
        path: "kafka.dead_letters_per_minute",
        short: "",
        values: ["1", "0", ""],
        read: |c| c.kafka.dead_letter_limits.per_minute.to_string(),
    },
    Setting {
        path: "kafka.dead_letter_percent",
        short: "",
        values: ["1", "0", ""],
        read: |c| c.kafka.dead_letter_limits.percent.to_string(),
    },
    Setting {
        path: "kafka.emit",
        short: "emit",
        values: ["all", "threats", "all"],
        read: |c| c.kafka.emit.to_string(),
    },
    Setting {
        path: "kafka.result_key",
        short: "result-key",
        values: ["input", "scan_id", "input"],
        read: |c| c.kafka.result_key.to_string(),
    },
    Setting {
        path: "kafka.result_format",
        short: "result-format",
        values: ["json", "connect-json", "json"],
        read: |c| c.kafka.result_format.to_string(),
    },
    Setting {
        path: "kafka.delivery",
        short: "delivery",
        values: ["exactly-once", "at-least-once", "exactly-once"],
        read: |c| c.kafka.delivery.to_string(),
    },
    Setting {
        path: "kafka.group_protocol",
        short: "",
        values: ["consumer-anyway", "classic", ""],
        read: |c| c.kafka.group_protocol.to_string(),
    },
    Setting {
        path: "scan.database",
        short: "database",
        values: ["/db/one", "/db/two", "/db/three"],
        read: |c| {
            let paths: Vec<_> = c
                .scan
                .database
                .iter()
                .map(|p| p.to_str().unwrap())
                .collect();
            paths.join(":")
        },
    },
    Setting {
        path: "scan.threads",
        short: "threads",
        values: ["3", "5", "7"],
        read: |c| c.scan.threads.to_string(),
    },
    Setting {
        path: "scan.views",
        short: "views",
        values: ["raw,body", "raw,decoded", "raw"],
        read: |c| c.scan.views.to_string(),
    },
    Setting {
        path: "scan.rules",
        short: "rules",
        values: ["off", "on", "off"],
        read: |c| {
            if c.scan.rules {
                "on".to_owned()
            } else {
                "off".to_owned()
            }
        },
    },
    Setting {
        path: "scan.profile",
        short: "profile",
        values: ["log-only", "full", "log-only"],
        read: |c| c.scan.profile.as_str().to_owned(),
    },
    Setting {
        path: "scan.leave_out",
        short: "leave-out",
        values: ["Win.One-1", "Rule_Two,YARA.Two", "Three.UNOFFICIAL"],
        read: |c| c.scan.leave_out.join(","),
    },
    Setting {
        path: "scan.prefilter",
        short: "prefilter",
        values: ["off", "on", "off"],
        read: |c| {
            if c.scan.prefilter {
                "on".to_owned()
            } else {
                "off".to_owned()
            }
        },
    },
    Setting {
        path: "ops.listen",
        short: "listen",
        values: ["127.0.0.1:1", "[::1]:2", "0.0.0.0:0"],
        read: |c| c.ops.listen.to_string(),
    },
    Setting {
        path: "ops.instance",
        short: "instance",
        values: ["one", "two", "three"],
        read: |c| c.ops.instance.clone(),
    },
    Setting {
        path: "ops.log",
        short: "log",
        values: ["warn", "debug,hyper=off", "trace"],
        read: |c| c.ops.log.clone(),
    },
    Setting {
        path: "ops.log_detections_per_second",
        short: "",
        values: ["1", "0", ""],
        read: |c| c.ops.log_detections_per_second.to_string(),
    },
    Setting {
        path: "kafka.create_topics",
        short: "create-topics",
        values: ["true", "false", "true"],
        read: |c| c.kafka.create_topics.to_string(),
    },
    Setting {
        path: "kafka.drain_timeout",
        short: "",
        values: ["20s", "7s", ""],
        read: |c| seconds(c.kafka.drain_timeout),
    },
    Setting {
        path: "kafka.revoke_timeout",
        short: "",
        values: ["2s", "3s", ""],
        read: |c| seconds(c.kafka.revoke_timeout),
    },
    Setting {
        path: "kafka.session_timeout",
        short: "",
        values: ["40s", "50s", ""],
        read: |c| seconds(c.kafka.session_timeout),
    },
    Setting {
        path: "kafka.unreadable_batch",
        short: "",
        values: ["wait", "skip", ""],
        read: |c| c.kafka.unreadable_batch.to_string(),
    },
    Setting {
        path: "kafka.max_poll_interval",
        short: "",
        values: ["100s", "200s", ""],
        read: |c| seconds(c.kafka.max_poll_interval),
    },
    Setting {
        path: "kafka.commit_interval",
        short: "",
        values: ["2s", "3s", ""],
        read: |c| seconds(c.kafka.commit_interval),
    },
    Setting {
        path: "kafka.transactional_id_prefix",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.kafka.transactional_id_prefix.clone().unwrap_or_default(),
    },
    Setting {
        path: "kafka.transaction_interval",
        short: "",
        values: ["1s", "2s", ""],
        read: |c| seconds(c.kafka.transaction_interval),
    },
    Setting {
        path: "kafka.transaction_timeout",
        short: "",
        values: ["20s", "30s", ""],
        read: |c| seconds(c.kafka.transaction_timeout),
    },
    Setting {
        path: "kafka.linger",
        short: "",
        values: ["1s", "2s", ""],
        read: |c| seconds(c.kafka.linger),
    },
    Setting {
        path: "kafka.fetch_memory_bytes",
        short: "",
        values: ["536870912", "1073741824", ""],
        read: |c| c.kafka.fetch_memory_bytes.to_string(),
    },
    Setting {
        path: "kafka.max_partitions",
        short: "",
        values: ["32", "16", ""],
        read: |c| c.kafka.max_partitions.to_string(),
    },
    Setting {
        path: "kafka.inflight_messages_per_partition",
        short: "",
        values: ["32", "16", ""],
        read: |c| c.kafka.inflight_messages_per_partition.to_string(),
    },
    Setting {
        path: "kafka.inflight_bytes",
        short: "",
        values: ["33554432", "16777216", ""],
        read: |c| c.kafka.inflight_bytes.to_string(),
    },
    Setting {
        path: "kafka.compression",
        short: "",
        values: ["zstd", "none", ""],
        read: |c| c.kafka.compression.to_string(),
    },
    Setting {
        path: "scan.max_message_bytes",
        short: "",
        values: ["2048", "1024", ""],
        read: |c| c.scan.max_message_bytes.to_string(),
    },
    Setting {
        path: "scan.max_scan_bytes",
        short: "",
        values: ["67108864", "33554433", ""],
        read: |c| c.scan.limits.max_scan_bytes.to_string(),
    },
    Setting {
        path: "scan.max_file_bytes",
        short: "",
        values: ["8388608", "4194304", ""],
        read: |c| c.scan.limits.max_file_bytes.to_string(),
    },
    Setting {
        path: "scan.max_scan_time",
        short: "",
        values: ["1s", "3s", ""],
        read: |c| seconds(c.scan.limits.max_scan_time),
    },
    Setting {
        path: "scan.max_record_time",
        short: "",
        values: ["10s", "20s", ""],
        read: |c| seconds(c.scan.max_record_time),
    },
    Setting {
        path: "scan.decode_depth",
        short: "",
        values: ["1", "2", ""],
        read: |c| c.scan.decode_limits.depth.to_string(),
    },
    Setting {
        path: "scan.max_decoded_payloads",
        short: "",
        values: ["4", "16", ""],
        read: |c| c.scan.decode_limits.payloads.to_string(),
    },
    Setting {
        path: "scan.verdict_cache_entries",
        short: "",
        values: ["0", "100", ""],
        read: |c| c.scan.verdict_cache_entries.to_string(),
    },
    Setting {
        path: "scan.tmp_dir",
        short: "",
        values: ["/one", "/two", ""],
        read: |c| {
            let dir = c.scan.tmp_dir.as_ref();
            dir.map_or_else(String::new, |dir| dir.to_str().unwrap().to_owned())
        },
    },
    Setting {
        path: "scan.crash_journal",
        short: "",
        values: ["/one", "off", ""],
        read: |c| {
            let dir = c.scan.crash_journal.as_ref();
            dir.map_or_else(|| "off".to_owned(), |dir| dir.to_str().unwrap().to_owned())
        },
    },
    Setting {
        path: "scan.crash_limit",
        short: "",
        values: ["1", "3", ""],
        read: |c| c.scan.crash_limit.to_string(),
    },
    Setting {
        path: "scan.retries",
        short: "",
        values: ["1", "2", ""],
        read: |c| c.scan.retries.to_string(),
    },
    Setting {
        path: "scan.bytecode_unsigned",
        short: "",
        values: ["true", "false", ""],
        read: |c| c.scan.bytecode_unsigned.to_string(),
    },
    Setting {
        path: "scan.reload_interval",
        short: "",
        values: ["1s", "0s", ""],
        read: |c| seconds(c.scan.reload_interval),
    },
    Setting {
        path: "scan.audit_one_in",
        short: "",
        values: ["1", "0", ""],
        read: |c| c.scan.audit_one_in.to_string(),
    },
    Setting {
        path: "scan.text_model",
        short: "",
        values: ["/one", "/two", ""],
        read: |c| path(c.scan.text_model.as_deref()),
    },
    Setting {
        path: "scan.wrong_dir",
        short: "",
        values: ["/one", "/two", ""],
        read: |c| path(c.scan.wrong_dir.as_deref()),
    },
    Setting {
        path: "scan.state_dir",
        short: "state-dir",
        values: ["/one", "/two", "/three"],
        read: |c| path(c.scan.state_dir.as_deref()),
    },
    Setting {
        path: "scan.reload",
        short: "",
        values: ["swap", "auto", ""],
        read: |c| c.scan.reload.as_str().to_owned(),
    },
    Setting {
        path: "scan.isolation",
        short: "isolation",
        values: ["process", "none", "process"],
        read: |c| c.scan.isolation.as_str().to_owned(),
    },
    Setting {
        path: "scan.isolation_memory_bytes",
        short: "",
        values: ["128MiB", "256MiB", ""],
        read: |c| format!("{}MiB", c.scan.isolation_memory_bytes >> 20),
    },
    Setting {
        path: "scan.fields.message",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.message.clone(),
    },
    Setting {
        path: "scan.fields.source_ip",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.source_ip.clone(),
    },
    Setting {
        path: "scan.fields.source_host",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.source_host.clone(),
    },
    Setting {
        path: "scan.fields.source_port",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.source_port.clone(),
    },
    Setting {
        path: "scan.fields.facility",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.facility.clone(),
    },
    Setting {
        path: "scan.fields.priority",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.priority.clone(),
    },
    Setting {
        path: "scan.fields.level",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.level.clone(),
    },
    Setting {
        path: "scan.fields.program",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.program.clone(),
    },
    Setting {
        path: "scan.fields.pid",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.pid.clone(),
    },
    Setting {
        path: "scan.fields.timestamp",
        short: "",
        values: ["one", "two", ""],
        read: |c| c.scan.fields.timestamp.clone(),
    },
    Setting {
        path: "kafka.tls.enabled",
        short: "",
        values: ["true", "false", ""],
        read: |c| c.kafka.tls.is_some().to_string(),
    },
    Setting {
        path: "kafka.tls.ca_file",
        short: "",
        values: ["/dev/null", "/etc/passwd", ""],
        read: |c| tls(c, |tls| path(tls.ca_file.as_deref())),
    },
    Setting {
        path: "kafka.tls.certificate_file",
        short: "",
        values: ["/dev/null", "/etc/passwd", ""],
        read: |c| own(c, |own| path(Some(&own.certificate_file))),
    },
    Setting {
        path: "kafka.tls.key_file",
        short: "",
        values: ["/dev/null", "/etc/passwd", ""],
        read: |c| own(c, |own| path(Some(&own.key_file))),
    },
    Setting {
        path: "kafka.tls.key_password_file",
        short: "",
        values: ["/etc/passwd", "/proc/version", ""],
        read: |c| own(c, |own| place(own.key_password.as_ref())),
    },
    Setting {
        path: "kafka.tls.key_password_variable",
        short: "",
        values: ["ONE", "TWO", ""],
        read: |c| own(c, |own| place(own.key_password.as_ref())),
    },
    Setting {
        path: "kafka.tls.verify_hostname",
        short: "",
        values: ["false", "true", ""],
        read: |c| tls(c, |tls| tls.verify_hostname.to_string()),
    },
    Setting {
        path: "kafka.sasl.mechanism",
        short: "",
        values: ["plain", "scram-sha-256", ""],
        read: |c| sasl(c, |sasl| sasl.mechanism.to_string()),
    },
    Setting {
        path: "kafka.sasl.username",
        short: "",
        values: ["one", "two", ""],
        read: |c| sasl(c, |sasl| sasl.username.clone()),
    },
    Setting {
        path: "kafka.sasl.password_file",
        short: "",
        values: ["/etc/passwd", "/proc/version", ""],
        read: |c| sasl(c, |sasl| place(Some(&sasl.password))),
    },
    Setting {
        path: "kafka.sasl.password_variable",
        short: "",
        values: ["ONE", "TWO", ""],
        read: |c| sasl(c, |sasl| place(Some(&sasl.password))),
    },
];

fn tls(config: &Config, read: impl Fn(&TlsConfig) -> String) -> String {
    config.kafka.tls.as_ref().map_or_else(String::new, read)
}

fn own(config: &Config, read: impl Fn(&ClientCertificate) -> String) -> String {
    tls(config, |tls| {
        tls.client.as_ref().map_or_else(String::new, &read)
    })
}

fn sasl(config: &Config, read: impl Fn(&SaslConfig) -> String) -> String {
    config.kafka.sasl.as_ref().map_or_else(String::new, read)
}

fn path(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| path.to_str().unwrap().to_owned())
}

/// Where a secret was read, after a look at whether it was.
fn place(secret: Option<&Secret>) -> String {
    let Some(secret) = secret else {
        return String::new();
    };
    match secret.source() {
        SecretSource::File(file) => {
            let content = std::fs::read_to_string(file).unwrap();
            assert_eq!(secret.expose(), content.strip_suffix('\n').unwrap());
            path(Some(file))
        }
        SecretSource::Variable(name) => {
            assert_eq!(secret.expose(), format!("secret {name}"));
            name.clone()
        }
    }
}

/// What other settings a setting needs to be of use: variables of the environment.
fn context(path: &str) -> Vec<(&'static str, &'static str)> {
    const SECRETS: [(&str, &str); 2] = [("ONE", "secret ONE"), ("TWO", "secret TWO")];
    const TLS: (&str, &str) = ("SCANNER_KAFKA__TLS__ENABLED", "true");
    const CERTIFICATE: (&str, &str) = ("SCANNER_KAFKA__TLS__CERTIFICATE_FILE", "/dev/null");
    const KEY: (&str, &str) = ("SCANNER_KAFKA__TLS__KEY_FILE", "/dev/null");
    const MECHANISM: (&str, &str) = ("SCANNER_KAFKA__SASL__MECHANISM", "scram-sha-512");
    const USER: (&str, &str) = ("SCANNER_KAFKA__SASL__USERNAME", "somebody");
    const PASSWORD: (&str, &str) = ("SCANNER_KAFKA__SASL__PASSWORD_VARIABLE", "ONE");
    let needed: &[(&str, &str)] = match path {
        "kafka.tls.ca_file" | "kafka.tls.verify_hostname" => &[TLS],
        "kafka.tls.certificate_file" => &[TLS, KEY],
        "kafka.tls.key_file" => &[TLS, CERTIFICATE],
        "kafka.tls.key_password_file" | "kafka.tls.key_password_variable" => {
            &[TLS, CERTIFICATE, KEY]
        }
        "kafka.sasl.mechanism" => &[USER, PASSWORD],
        "kafka.sasl.username" => &[MECHANISM, PASSWORD],
        "kafka.sasl.password_file" | "kafka.sasl.password_variable" => &[MECHANISM, USER],
        _ => return Vec::new(),
    };
    needed.iter().chain(&SECRETS).copied().collect()
}

impl Setting {
    fn long_variable(&self) -> String {
        format!("SCANNER_{}", self.path.replace('.', "__").to_uppercase())
    }

    fn short_variable(&self) -> String {
        format!("SCANNER_{}", self.short.replace('-', "_").to_uppercase())
    }

    fn file(&self, value: &str) -> String {
        let (section, key) = self.path.rsplit_once('.').unwrap();
        let is_bare = value.parse::<u64>().is_ok() || value.parse::<bool>().is_ok();
        let value = if is_bare {
            value.to_owned()
        } else {
            format!("{value:?}")
        };
        format!("[{section}]\n{key} = {value}\n")
    }

    fn variables(&self) -> Vec<String> {
        let short = (!self.short.is_empty()).then(|| self.short_variable());
        [self.long_variable()].into_iter().chain(short).collect()
    }

    /// The flag with its value; a switch has none. `None` if the setting has no flag.
    fn flag(&self, value: &str) -> Option<Vec<String>> {
        let flag = format!("--{}", self.short);
        match self.short {
            "" => None,
            "create-topics" => Some(vec![flag]),
            _ => Some(vec![flag, value.to_owned()]),
        }
    }

    /// The value for a layer, or another one if that is the default: nobody would see it arrive.
    fn telling(&self, layer: usize) -> &'static str {
        let default = (self.read)(&Config::default());
        let others = self.values.iter().cycle().skip(layer).copied();
        others
            .filter(|value| !value.is_empty())
            .find(|value| *value != default)
            .unwrap()
    }

    fn assert(&self, mut given: Given, expected: &str, what: &str) {
        for (name, value) in context(self.path) {
            given = given.variable(name, value);
        }
        let config = given
            .load()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((self.read)(&config), expected, "{} by {what}", self.path);
    }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

fn words(flag: &[String]) -> Vec<&str> {
    flag.iter().map(String::as_str).collect()
}

/// A record that is to be scanned always fits, also behind a line feed, whatever its limit.
#[test]
fn limits_that_are_not_set_grow_with_the_longest_record() {
    for (max_message, max_file, max_scan) in [
        ("1MiB", 16 << 20, 32 << 20),
        ("64MiB", (64 << 20) + 1, (128 << 20) + 2),
        (
            "2147483647",
            scanlib::Limits::MAX_FILE_BYTES,
            2 * scanlib::Limits::MAX_FILE_BYTES,
        ),
    ] {
        let text = format!(
            "[kafka]\ninflight_bytes = \"4GiB\"\n[scan]\nmax_message_bytes = \"{max_message}\""
        );
        let config = given().file(&text).load().unwrap();
        let limits = config.scan.limits;
        assert_eq!(
            (limits.max_file_bytes, limits.max_scan_bytes),
            (max_file, max_scan),
            "{max_message}"
        );
    }
}

/// A new setting without a case here fails.
#[test]
fn every_setting_is_in_the_table_of_this_test() {
    let mut cases: Vec<_> = SETTINGS.iter().map(|setting| setting.path).collect();
    cases.push("kafka.properties");
    cases.sort_unstable();
    let mut known = config::settings();
    known.sort_unstable();
    assert_eq!(cases, known);

    // And every flag of a setting.
    let command = CommandLine::command();
    let mut flags: Vec<_> = command
        .get_arguments()
        .filter_map(|flag| flag.get_long())
        .filter(|flag| !["config", "property"].contains(flag))
        .collect();
    let mut shorts: Vec<_> = SETTINGS
        .iter()
        .map(|setting| setting.short)
        .filter(|short| !short.is_empty())
        .collect();
    flags.sort_unstable();
    shorts.sort_unstable();
    assert_eq!(shorts, flags);
}

#[test]
fn every_setting_can_be_set_in_the_file_in_the_environment_and_by_its_flag() {
    for setting in SETTINGS {
        let value = setting.telling(0);
        setting.assert(given().file(&setting.file(value)), value, "the file");
        let value = setting.telling(1);
        for name in setting.variables() {
            setting.assert(given().variable(&name, value), value, &name);
        }
        let value = setting.telling(2);
        if let Some(flag) = setting.flag(value) {
            setting.assert(given().flags(&words(&flag)), value, &flag[0]);
        }
    }
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_beats_the_file() {
    for setting in SETTINGS {
        let [in_file, in_environment, on_line] = setting.values;
        let file = || given().file(&setting.file(in_file));
        for name in setting.variables() {
            let both = file().variable(&name, in_environment);
            setting.assert(both, in_environment, &format!("{name} over the file"));
            if let Some(flag) = setting.flag(on_line) {
                let all = file().variable(&name, in_environment).flags(&words(&flag));
                setting.assert(all, on_line, &format!("{flag:?} over {name}"));
            }
        }
    }
}

#[test]
fn create_topics_is_a_switch_on_the_line_and_a_boolean_elsewhere() {
    let creates = |given: Given| given.load().unwrap().kafka.create_topics;
    assert!(!creates(given()));
    assert!(creates(given().flags(&["--create-topics"])));
    assert!(creates(given().file("[kafka]\ncreate_topics = true")));
    assert!(creates(given().variable("SCANNER_CREATE_TOPICS", "true")));
    assert!(creates(
        given().variable("SCANNER_KAFKA__CREATE_TOPICS", "1")
    ));
    let off = given()
        .file("[kafka]\ncreate_topics = true")
        .variable("SCANNER_CREATE_TOPICS", "false");
    assert!(!creates(off));
    let on = given()
        .variable("SCANNER_CREATE_TOPICS", "false")
        .flags(&["--create-topics"]);
    assert!(creates(on));
}

#[test]
fn nothing_given_is_a_complete_configuration_with_the_documented_names() {
    let config = given().load().unwrap();
    assert_eq!(config, Config::default());
    let kafka = &config.kafka;
    let names = [
        &kafka.group,
        &kafka.input_topic,
        &kafka.output_topic,
        &kafka.dead_letter_topic,
    ];
    assert_eq!(
        names,
        [
            "syslog-scanner-group",
            "syslog-raw",
            "scan-results",
            "scan-results-dlq"
        ]
    );
    assert_eq!(kafka.drain_timeout, Duration::from_secs(25));
    assert_eq!(config.scan.max_message_bytes, 1_048_576);
    assert!(!config.ops.instance.is_empty());
}

#[test]
fn several_databases_come_as_a_list_as_repeated_flags_or_divided_as_a_path() {
    let two = [PathBuf::from("/a"), PathBuf::from("/b c")];
    let databases = |given: Given| given.load().unwrap().scan.database;
    assert_eq!(
        databases(given().file("[scan]\ndatabase = [\"/a\", \"/b c\"]")),
        two
    );
    assert_eq!(
        databases(given().variable("SCANNER_DATABASE", "/a:/b c")),
        two
    );
    assert_eq!(
        databases(given().flags(&["--database", "/a", "--database", "/b c"])),
        two
    );
    assert_eq!(
        databases(given().variable("SCANNER_DATABASE", "")),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn sizes_and_times_carry_units() {
    let config = given()
        .file("[kafka]\nlinger = \"5ms\"\nmax_poll_interval = \"10m\"\ninflight_bytes = 2097152\n[scan]\nmax_message_bytes = \"512KiB\"")
        .variable("SCANNER_KAFKA__FETCH_MEMORY_BYTES", "1GiB")
        .load()
        .unwrap();
    assert_eq!(config.kafka.linger, Duration::from_millis(5));
    assert_eq!(config.kafka.max_poll_interval, Duration::from_secs(600));
    assert_eq!(config.kafka.inflight_bytes, 2 << 20);
    assert_eq!(config.kafka.fetch_memory_bytes, 1 << 30);
    assert_eq!(config.scan.max_message_bytes, 512 << 10);

    let error = given().variable("SCANNER_KAFKA__LINGER", "5").error();
    assert!(
        error.contains("kafka.linger (variable SCANNER_KAFKA__LINGER): \"5\" is not a duration"),
        "{error}"
    );
}

#[test]
fn the_file_may_be_named_by_a_variable_and_a_flag_names_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("by-variable.toml");
    std::fs::write(&path, "[kafka]\ngroup = \"from the variable's file\"").unwrap();
    let by_variable = || given().variable("SCANNER_CONFIG", path.to_str().unwrap());
    assert_eq!(
        by_variable().load().unwrap().kafka.group,
        "from the variable's file"
    );
    assert_eq!(
        by_variable()
            .file("[kafka]\ngroup = \"other\"")
            .load()
            .unwrap()
            .kafka
            .group,
        "other"
    );

    let error = given()
        .variable("SCANNER_CONFIG", "/no/such/file.toml")
        .error();
    assert!(
        error.contains("/no/such/file.toml (variable SCANNER_CONFIG)"),
        "{error}"
    );
    assert!(error.contains("cannot be read"), "{error}");
    let error = given().variable("SCANNER_CONFIG", "/dev/zero").error();
    assert!(error.contains("longer than 1048576 bytes"), "{error}");
    // Where it is cut a letter is cut in two; that is not what is wrong with it.
    let error = given().file(&format!("##{}", "é".repeat(1 << 19))).error();
    assert!(error.contains("longer than 1048576 bytes"), "{error}");
    let error = given().file("[kafka\n").error();
    assert!(
        error.contains("scanner.toml (flag --config): not TOML"),
        "{error}"
    );
}

#[test]
fn an_unknown_key_is_an_error_that_names_it_its_file_and_the_nearest_known_key() {
    for (text, unknown, nearest) in [
        (
            "[kafka]\nbrokerz = \"a:1\"",
            "kafka.brokerz",
            "kafka.brokers",
        ),
        ("brokers = \"a:1\"", "brokers", "kafka.brokers"),
        (
            "[scan]\nlisten = \"0.0.0.0:1\"",
            "scan.listen",
            "ops.listen",
        ),
        (
            "[kafka]\ninput-topic = \"x\"",
            "kafka.input-topic",
            "kafka.input_topic",
        ),
        (
            "[kafka.group]\nid = \"x\"\n[sacn]\nthreads = 1",
            "sacn",
            "scan",
        ),
    ] {
        let error = given().file(text).error();
        assert!(error.contains(&format!("{unknown} (file ")), "{error}");
        assert!(error.contains("scanner.toml): unknown key"), "{error}");
        assert!(error.contains(nearest), "{error}");
    }
    let error = given().file("kafka = 5").error();
    assert!(
        error.contains("kafka (file") && error.contains("write [kafka]"),
        "{error}"
    );
}

#[test]
fn an_unknown_variable_is_an_error_that_names_the_nearest_known_one() {
    for (name, nearest) in [
        ("SCANNER_BROKRES", "SCANNER_BROKERS"),
        ("SCANNER_KAFKA__GROUP_ID", "SCANNER_KAFKA__GROUP"),
        ("SCANNER_KAFKA_BROKERS", "SCANNER_KAFKA__BROKERS"),
    ] {
        let error = given().variable(name, "x").error();
        assert!(
            error.contains(&format!("{name} (environment): unknown variable")),
            "{error}"
        );
        assert!(error.contains(nearest), "{error}");
    }
    let error = given().variable("SCANNER_SERVICE_HOST", "10.0.0.1").error();
    assert!(error.contains("enableServiceLinks"), "{error}");

    let others = given()
        .variable("SCANNER_TEST_DATA", "/data")
        .variable("PATH", "/bin")
        .variable("scanner_brokers", "not ours");
    assert_eq!(others.load().unwrap(), Config::default());
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let error = given()
        .file("[kafka]\nmax_partitions = 0\nsession_timeout = \"0s\"")
        .variable("SCANNER_THREADS", "0")
        .flags(&["--listen", "localhost"])
        .load()
        .unwrap_err();
    let subjects: Vec<_> = error
        .problems()
        .iter()
        .map(|p| p.subject.as_str())
        .collect();
    for subject in [
        "kafka.max_partitions",
        "kafka.session_timeout",
        "scan.threads",
        "ops.listen",
    ] {
        assert!(subjects.contains(&subject), "{subject} is missing: {error}");
    }
    let text = error.to_string();
    assert!(
        text.contains("scan.threads (variable SCANNER_THREADS): not between 1 and "),
        "{text}"
    );
    assert!(
        text.contains("ops.listen (flag --listen): \"localhost\" is not an address"),
        "{text}"
    );
}

#[test]
fn values_that_cannot_work_together_are_refused() {
    for (text, subject) in [
        (
            "[kafka]\nrevoke_timeout = \"5001ms\"",
            "kafka.revoke_timeout",
        ),
        ("[kafka]\ndrain_timeout = \"300s\"", "kafka.drain_timeout"),
        (
            "[kafka]\ntransactional_id_prefix = \"\"",
            "kafka.transactional_id_prefix",
        ),
        (
            "[kafka]\ntransaction_interval = \"6s\"",
            "kafka.transaction_interval",
        ),
        (
            "[kafka]\ntransaction_interval = \"2s\"\ntransaction_timeout = \"3s\"",
            "kafka.transaction_interval",
        ),
        (
            "[kafka]\ntransaction_timeout = \"16m\"",
            "kafka.transaction_timeout",
        ),
        (
            "[kafka]\ndelivery = \"exactly-once\"\nlinger = \"15s\"",
            "kafka.linger",
        ),
        (
            "[kafka]\ndelivery = \"exactly-once\"\n[kafka.properties]\n\"socket.timeout.ms\" = \"15101\"",
            "kafka.properties.socket.timeout.ms",
        ),
        (
            "[kafka]\nsession_timeout = \"301s\"",
            "kafka.session_timeout",
        ),
        (
            "[kafka]\noutput_topic = \"syslog-raw\"",
            "kafka.output_topic",
        ),
        (
            "[kafka]\ndead_letter_topic = \"syslog-raw\"",
            "kafka.dead_letter_topic",
        ),
        (
            "[kafka]\ndead_letter_topic = \"scan-results\"",
            "kafka.dead_letter_topic",
        ),
        (
            "[kafka]\ndead_letter_percent = 101",
            "kafka.dead_letter_percent",
        ),
        ("[kafka]\ninput_topic = \"a b\"", "kafka.input_topic"),
        ("[kafka]\ngroup = \"\"", "kafka.group"),
        ("[scan]\nreload = \"drain\"", "scan.reload"),
        ("[scan]\nstate_dir = \"\"", "scan.state_dir"),
        ("[scan]\nisolation = \"thread\"", "scan.isolation"),
        (
            "[scan]\nisolation_memory_bytes = \"63MiB\"",
            "scan.isolation_memory_bytes",
        ),
        ("[kafka]\nbrokers = \"a:1,,b:1\"", "kafka.brokers"),
        (
            "[kafka]\nfetch_memory_bytes = \"1MiB\"",
            "kafka.fetch_memory_bytes",
        ),
        ("[kafka]\ninflight_bytes = \"1KiB\"", "kafka.inflight_bytes"),
        (
            "[kafka]\ninflight_messages_per_partition = 0",
            "kafka.inflight_messages_per_partition",
        ),
        ("[kafka]\nlinger = \"61s\"", "kafka.linger"),
        ("[scan]\nmax_message_bytes = 0", "scan.max_message_bytes"),
        ("[scan]\nthreads = 1025", "scan.threads"),
        (
            "[scan]\nmax_message_bytes = \"4MiB\"\nmax_file_bytes = \"4MiB\"",
            "scan.max_file_bytes",
        ),
        ("[scan]\nmax_file_bytes = \"2GiB\"", "scan.max_file_bytes"),
        ("[scan]\nmax_scan_bytes = \"15MiB\"", "scan.max_scan_bytes"),
        ("[scan]\nmax_scan_time = \"0s\"", "scan.max_scan_time"),
        ("[scan]\nmax_scan_time = \"6s\"", "scan.max_record_time"),
        ("[scan]\nmax_record_time = \"2h\"", "scan.max_record_time"),
        ("[scan]\ndecode_depth = 0", "scan.decode_depth"),
        ("[scan]\ndecode_depth = 17", "scan.decode_depth"),
        (
            "[scan]\nmax_decoded_payloads = 65",
            "scan.max_decoded_payloads",
        ),
        (
            "[scan]\nverdict_cache_entries = 1048577",
            "scan.verdict_cache_entries",
        ),
        ("[kafka]\nbroker_ports = [0]", "kafka.broker_ports"),
        ("[kafka]\nbroker_ports = [65536]", "kafka.broker_ports"),
        ("[kafka]\nbroker_ports = \"kafka\"", "kafka.broker_ports"),
        ("[ops]\ninstance = \"\"", "ops.instance"),
        ("[ops]\nlog = \"loud\"", "ops.log"),
    ] {
        let error = given().file(text).load().expect_err(text);
        assert!(
            error.problems().iter().any(|p| p.subject == subject),
            "{text}: {error}"
        );
        let all_explained = error
            .problems()
            .iter()
            .all(|p| !p.origin.is_empty() && !p.remedy.is_empty());
        assert!(all_explained, "{error}");
    }
    // The limits themselves are fine.
    let edge = "[kafka]\nrevoke_timeout = \"5s\"\ndrain_timeout = \"299s\"\ndelivery = \"exactly-once\"\ntransaction_interval = \"5s\"\n\
                transaction_timeout = \"10s\"\nlinger = \"9s\"\n[kafka.properties]\n\"socket.timeout.ms\" = \"10100\"";
    given().file(edge).load().unwrap();
}

#[test]
fn a_wrong_type_is_an_error_that_names_the_key_and_where_it_was_set() {
    let error = given().variable("SCANNER_THREADS", "many").error();
    assert!(
        error.contains("scan.threads (variable SCANNER_THREADS)"),
        "{error}"
    );
    let error = given().file("[kafka]\nemit = \"some\"").error();
    assert!(
        error.contains("kafka.emit (file ") && error.contains("threats"),
        "{error}"
    );
    let error = given().file("[kafka]\nmax_partitions = -1").error();
    assert!(error.contains("kafka.max_partitions (file "), "{error}");
    let error = given().file("[scan]\ndatabase = 5").error();
    assert!(error.contains("scan.database (file "), "{error}");
    let error = given().file("[kafka.brokers]\nx = \"y\"").error();
    assert!(error.contains("kafka.brokers (file "), "{error}");
}

#[test]
fn one_setting_under_two_names_must_have_one_value() {
    let twice = |value: &str| {
        given()
            .variable("SCANNER_GROUP", "one")
            .variable("SCANNER_KAFKA__GROUP", value)
    };
    assert_eq!(twice("one").load().unwrap().kafka.group, "one");
    let error = twice("two").error();
    assert!(
        error.contains("SCANNER_GROUP") && error.contains("SCANNER_KAFKA__GROUP"),
        "{error}"
    );
}

#[test]
fn properties_of_librdkafka_are_passed_through_from_every_layer() {
    let config = given()
        .file("[kafka.properties]\n\"security.protocol\" = \"ssl\"\n\"client.id\" = \"file\"")
        .variable("SCANNER_KAFKA__PROPERTIES__SSL_CA_LOCATION", "/ca.pem")
        .variable("SCANNER_KAFKA__PROPERTIES__CLIENT_ID", "environment")
        .flags(&[
            "-X",
            "client.id=flag=1",
            "--property",
            "socket.keepalive.enable=true",
        ])
        .load()
        .unwrap();
    let properties: Vec<_> = config
        .kafka
        .properties
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let expected = [
        ("client.id", "flag=1"),
        ("security.protocol", "ssl"),
        ("socket.keepalive.enable", "true"),
        ("ssl.ca.location", "/ca.pem"),
    ];
    assert_eq!(properties, expected);
    let error = given().flags(&["-X", "novalue"]).error();
    assert!(error.contains("write NAME=VALUE"), "{error}");
    for nameless in [
        given().variable("SCANNER_KAFKA__PROPERTIES__", "x"),
        given().file("[kafka.properties]\n\"\" = \"x\""),
    ] {
        let error = nameless.error();
        assert!(
            error.contains("kafka.properties") && error.contains("has no name"),
            "{error}"
        );
    }
}

#[test]
fn properties_that_carry_a_promise_are_refused() {
    for name in [
        "bootstrap.servers",
        "group.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "isolation.level",
        "enable.idempotence",
        "acks",
        "transactional.id",
        "transaction.timeout.ms",
        "delivery.report.only.error",
        "statistics.interval.ms",
        "plugin.library.paths",
        "rebalance_cb",
        "dr_msg_cb",
        "session.timeout.ms",
        "linger.ms",
        "group.protocol",
    ] {
        let error = given().flags(&["-X", &format!("{name}=1")]).error();
        assert!(
            error.contains(&format!("kafka.properties.{name} (flag --property)")),
            "{error}"
        );
    }
}

#[test]
fn views_and_the_members_of_json_records_can_be_named() {
    let config = given()
        .file("[scan]\nviews = [\"raw\", \"body\"]\n[scan.fields]\nmessage = \"msg\"")
        .variable("SCANNER_SCAN__FIELDS__SOURCE_IP", "peer")
        .load()
        .unwrap();
    assert_eq!(config.scan.views.to_string(), "raw,body");
    assert_eq!(
        (
            config.scan.fields.message.as_str(),
            config.scan.fields.source_ip.as_str()
        ),
        ("msg", "peer")
    );
    assert_eq!(config.scan.fields.program, "program");
    let error = given().flags(&["--views", "raw,bodies"]).error();
    assert!(
        error.contains("scan.views (flag --views)") && error.contains("decoded"),
        "{error}"
    );
    let error = given().file("[scan.fields]\nmessage = \"\"").error();
    assert!(error.contains("scan.fields.message (file "), "{error}");
    let error = given().file("[scan.fields]\nmesage = \"x\"").error();
    assert!(error.contains("scan.fields.message"), "{error}");
}

#[test]
fn the_example_file_shows_every_setting_with_its_default() {
    let example = include_str!("../../docs/scanner.toml");
    assert_eq!(given().file(example).load().unwrap(), Config::default());

    // A setting whose default depends on the host stands there as a comment.
    let mut section = String::new();
    let mut shown = Vec::new();
    for line in example.lines() {
        let setting = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name.to_owned();
        } else if section == "kafka.properties" {
            shown.push(section.clone());
        } else if let Some((key, _)) = setting.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            shown.push(format!("{section}.{key}"));
        }
    }
    shown.sort();
    shown.dedup();
    let mut known = config::settings();
    known.sort();
    assert_eq!(shown, known);
}

/// The page of `config show` for what was given.
fn shown(given: &Given, flags: &[&str]) -> String {
    let arguments = ["run"].iter().chain(flags);
    let flags = CommandLine::try_parse_from(arguments).unwrap().flags;
    let (config, origins) = config::load_with_origins(&flags, &given.environment).unwrap();
    config::show(&config, &origins)
}

#[test]
fn what_show_prints_is_the_same_configuration_again_with_the_origin_of_each_value() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    std::fs::write(
        &path,
        "[kafka]\ngroup = \"odd \\\"name\\\" \\u007f\"\nlinger = \"1500ms\"\n[kafka.properties]\n\"client.id\" = \"x\"\n",
    )
    .unwrap();
    let flags = [
        "--config",
        path.to_str().unwrap(),
        "--threads",
        "3",
        "-X",
        "client.rack=r1",
    ];
    let environment = given()
        .variable("SCANNER_DATABASE", "/db/one:/db/two")
        .variable("SCANNER_SCAN__TMP_DIR", "/dev/shm");
    let page = shown(&environment, &flags);

    let all = CommandLine::try_parse_from(["run"].iter().chain(&flags)).unwrap();
    let effective = config::load(&all.flags, &environment.environment).unwrap();
    assert_eq!(given().file(&page).load().unwrap(), effective, "{page}");

    let origin = |start: &str| {
        let line = page.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("{start} is missing:\n{page}"));
        line.rsplit_once(" # ").unwrap().1.to_owned()
    };
    assert_eq!(origin("group = "), format!("file {}", path.display()));
    assert_eq!(
        origin("linger = \"1500ms\""),
        format!("file {}", path.display())
    );
    assert_eq!(
        origin("\"client.id\" = "),
        format!("file {}", path.display())
    );
    assert_eq!(origin("\"client.rack\" = "), "flag --property");
    assert_eq!(origin("threads = 3"), "flag --threads");
    assert_eq!(
        origin("database = [\"/db/one\",\"/db/two\"]"),
        "variable SCANNER_DATABASE"
    );
    assert_eq!(origin("brokers = "), "default");
    // A setting that is nowhere set and has no default is named all the same.
    let shown = shown(&given(), &[]);
    assert!(shown.contains("# tmp_dir is not set"), "{shown}");
    for path in config::settings() {
        let key = path.rsplit('.').next().unwrap();
        assert!(page.contains(key), "{path} is not shown");
    }
}

/// Properties that hold a secret, and whose name can be written as a variable.
const SECRETS: &[&str] = &[
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "ssl.certificate.pem",
    "ssl.ca.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.config",
];

fn property_variable(name: &str) -> String {
    let name = name.replace('.', "_").to_ascii_uppercase();
    format!("SCANNER_KAFKA__PROPERTIES__{name}")
}

#[test]
fn secrets_among_the_properties_are_shown_nowhere() {
    let secret = "correct horse battery staple";
    for name in SECRETS {
        let flags = ["-X", "ssl.key.location=/run/key"];
        let given = given().variable(&property_variable(name), secret);
        let arguments = CommandLine::try_parse_from(["run"].iter().chain(&flags)).unwrap();
        if let Err(error) = config::load(&arguments.flags, &given.environment) {
            // Not every build of librdkafka knows OAuth.
            let error = error.to_string();
            assert!(error.contains("not supported in this build"), "{error}");
            assert!(!error.contains(secret), "{error}");
            continue;
        }
        let page = shown(&given, &flags);
        assert!(page.contains(name) && !page.contains(secret), "{page}");
        assert!(page.contains("/run/key"), "a path is no secret: {page}");
        let config = given.flags(&flags).load().unwrap();
        assert_eq!(config.kafka.properties[*name], secret);
        let debug = format!("{config:?}");
        assert!(debug.contains(name) && !debug.contains(secret), "{debug}");
        // What librdkafka says of it, whole or in part.
        let said = config.kafka.secrets();
        let said = said.hide("Unrecognized value beginning at: battery staple");
        assert!(!said.contains("staple"), "{said}");
        assert!(!format!("{:?}", config.kafka.secrets()).contains("staple"));
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_with_the_way_to_give_it_and_is_not_repeated() {
    let secret = "correct-horse";
    for name in SECRETS
        .iter()
        .copied()
        .chain(["SASL.PASSWORD", " sasl.password"])
    {
        for flag in ["-X", "--property"] {
            let error = given().flags(&[flag, &format!("{name}={secret}")]).error();
            let subject = format!("kafka.properties.{name} (flag --property)");
            assert!(error.contains(&subject), "{error}");
            assert!(!error.contains(secret), "{error}");
            let way = match &*name.trim().to_ascii_lowercase() {
                "sasl.password" => "kafka.sasl.password_file or kafka.sasl.password_variable",
                "ssl.key.password" => "kafka.tls.key_password_file",
                "ssl.key.pem" => "kafka.tls.key_file",
                "ssl.ca.pem" => "kafka.tls.ca_file",
                "ssl.certificate.pem" => "kafka.tls.certificate_file",
                "ssl.keystore.password" => "kafka.tls.key_password_file",
                name => &property_variable(name),
            };
            assert!(error.contains(way), "{way} is missing: {error}");
        }
    }
    // A key is one whatever holds it, and so is a password in a URL. What was no property is not repeated either.
    for property in [
        "ssl.certificate.location=-----BEGIN PRIVATE KEY-----correct-horse",
        "sasl.oauthbearer.token.endpoint.url=https://me:correct-horse@issuer.example/token",
        "sasl.password:correct-horse",
        "sasl.passwordcorrect-horse",
        "client.id correct-horse",
    ] {
        let error = given().flags(&["-X", property]).error();
        assert!(!error.contains("horse"), "{error}");
    }
    // What only sounds like a secret is passed through.
    let flags = [
        "-X",
        "ssl.key.location=/run/key",
        "-X",
        "ssl.keystore.location=/run/store",
    ];
    let page = shown(&given(), &flags);
    for value in ["/run/key", "/run/store"] {
        assert!(page.contains(value), "{value} is not shown: {page}");
    }
}

#[test]
fn a_file_that_cannot_be_read_as_a_configuration_is_not_repeated() {
    for (text, place) in [
        (
            "[kafka.properties]\n\"sasl.password\" = swordfish",
            "line 2, column 19",
        ),
        (
            "[kafka.properties]\n\"ssl.key.pem\" = \"\"\"key\nswordfish\"\"\"x",
            "line 3",
        ),
        (
            "[kafka]\nproperties = \"sasl.password=swordfish\"",
            "kafka.properties",
        ),
        (
            "[kafka.properties]\n\"sasl.password\" = [\"swordfish\"]",
            "kafka.properties.sasl.password",
        ),
        (
            "[kafka.sasl]\npassword = \"swordfish\"",
            "kafka.sasl.password",
        ),
        (
            "[kafka.tls]\nenabled = \"maybe\"\n[kafka.sasl]\npassword_file = 'a",
            "line 4",
        ),
    ] {
        let error = given().file(text).error();
        assert!(error.contains(place), "{error}");
        assert!(!error.contains("swordfish"), "{error}");
    }
}

#[test]
fn a_property_that_librdkafka_refuses_is_named_without_its_secret() {
    let error = given().flags(&["-X", "no.such.property=1"]).error();
    assert!(
        error.contains("kafka.properties.no.such.property (flag --property)"),
        "{error}"
    );
    let secret = "correct horse";
    let variable = property_variable("no.such.password");
    let error = given().variable(&variable, secret).error();
    assert!(
        error.contains("kafka.properties.no.such.password") && !error.contains(secret),
        "{error}"
    );
    let error = given()
        .flags(&["-X", "security.protocol=carrier-pigeon"])
        .error();
    assert!(error.contains("carrier-pigeon"), "{error}");
}

/// Properties of librdkafka that concern encryption or authentication.
const SECURITY_PROPERTIES: &[&str] = &[
    "enable.ssl.certificate.verification",
    "ssl.endpoint.identification.algorithm",
    "security.protocol",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.providers",
    "ssl.sigalgs.list",
    "https.ca.location",
    "https.ca.pem",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.method",
    "enable.sasl.oauthbearer.unsecure.jwt",
];

#[test]
fn no_property_contradicts_the_sections_for_encryption_and_authentication() {
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "correct horse").unwrap();
    let password = format!("{SASL_ON}password_file = {password:?}");
    let ways = [
        ("enable.ssl.certificate.verification", "kafka.tls.ca_file"),
        (
            "ssl.endpoint.identification.algorithm",
            "kafka.tls.verify_hostname",
        ),
        ("security.protocol", "kafka.tls.enabled"),
        ("ssl.ca.location", "kafka.tls.ca_file"),
        ("ssl.certificate.location", "kafka.tls.certificate_file"),
        ("ssl.key.location", "kafka.tls.key_file"),
        ("sasl.mechanism", "kafka.sasl.mechanism"),
        ("sasl.username", "kafka.sasl.username"),
        ("sasl.password", "kafka.sasl.password_file"),
    ];
    for section in [TLS_ON, &password] {
        for name in SECURITY_PROPERTIES.iter().copied() {
            let by_file = given().file(&format!("{section}\n[kafka.properties]\n{name:?} = \"x\""));
            let by_variable = given()
                .file(section)
                .variable(&property_variable(name), "x");
            for given in [by_file, by_variable] {
                let error = given.error();
                let line = error.lines().find(|line| {
                    line.contains(&format!("kafka.properties.{name} "))
                        && line.contains("are in use")
                });
                let line = line.unwrap_or_else(|| panic!("{name} beside {section}: {error}"));
                if let Some((_, way)) = ways.iter().find(|(property, _)| *property == name) {
                    assert!(line.contains(way), "{line}");
                }
            }
        }
    }
    let error = given()
        .file(TLS_ON)
        .flags(&["-X", "enable.ssl.certificate.verification=false"])
        .error();
    assert!(
        error.contains("kafka.properties.enable.ssl.certificate.verification (flag --property)"),
        "{error}"
    );
    // With `topic.` in front librdkafka takes properties of topics too.
    let error = given().flags(&["-X", "topic.acks=0"]).error();
    assert!(error.contains("kafka.properties.topic.acks"), "{error}");
}

#[test]
fn show_says_that_host_names_are_verified_only_where_the_section_decides_it() {
    let verified = "verify_hostname = true";
    assert!(
        shown(
            &given().variable("SCANNER_KAFKA__TLS__ENABLED", "true"),
            &[]
        )
        .contains(verified)
    );
    for property in [
        "ssl.endpoint.identification.algorithm=none",
        "enable.ssl.certificate.verification=false",
    ] {
        let page = shown(&given(), &["-X", "security.protocol=ssl", "-X", property]);
        assert!(!page.contains(verified), "{page}");
        let given = given().flags(&["-X", "security.protocol=ssl", "-X", property]);
        assert!(
            given
                .load()
                .unwrap()
                .kafka
                .properties
                .unverified()
                .is_some()
        );
    }
    let given = given().flags(&["-X", "security.protocol=ssl"]);
    assert_eq!(given.load().unwrap().kafka.properties.unverified(), None);
}

const TLS_ON: &str = "[kafka.tls]\nenabled = true\n";
const SASL_ON: &str = "[kafka.sasl]\nmechanism = \"plain\"\nusername = \"u\"\n";

#[test]
fn a_secret_is_named_by_its_place_and_shown_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let secret = "correct horse battery staple";
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{secret}\r\n")).unwrap();
    let by_file = given()
        .file(SASL_ON)
        .variable("SCANNER_KAFKA__SASL__PASSWORD_FILE", file.to_str().unwrap());
    let by_variable = given()
        .file(SASL_ON)
        .variable("SCANNER_KAFKA__SASL__PASSWORD_VARIABLE", "PASSWORD")
        .variable("PASSWORD", secret);
    for (given, place) in [(by_file, file.to_str().unwrap()), (by_variable, "PASSWORD")] {
        let config = given.load().unwrap();
        assert_eq!(
            config.kafka.sasl.as_ref().unwrap().password.expose(),
            secret
        );
        let page = config::show(&config, &config::Origins::new());
        for text in [format!("{config:?}"), format!("{config:#?}"), page] {
            assert!(text.contains(place), "the place is not named: {text}");
            assert!(!text.contains("horse"), "the secret is shown: {text}");
        }
    }
}

#[test]
fn security_settings_that_do_not_fit_together_are_refused() {
    for (text, subject, what) in [
        (
            "[kafka.tls]\nca_file = \"/dev/null\"".to_owned(),
            "kafka.tls.ca_file",
            "not enabled",
        ),
        (
            "[kafka.tls]\nverify_hostname = false".to_owned(),
            "kafka.tls.verify_hostname",
            "not enabled",
        ),
        (
            format!("{TLS_ON}ca_file = \"/no/such/ca\""),
            "kafka.tls.ca_file",
            "/no/such/ca cannot be read",
        ),
        (
            format!("{TLS_ON}key_file = \"/dev/null\""),
            "kafka.tls.certificate_file",
            "go together",
        ),
        (
            format!("{TLS_ON}certificate_file = \"/dev/null\""),
            "kafka.tls.key_file",
            "go together",
        ),
        (
            format!("{TLS_ON}key_password_file = \"/etc/passwd\""),
            "kafka.tls.key_file",
            "password for it",
        ),
        (
            "[kafka.sasl]\nusername = \"u\"".to_owned(),
            "kafka.sasl.username",
            "no SASL mechanism",
        ),
        (
            SASL_ON.to_owned(),
            "kafka.sasl.password_file",
            "neither this nor",
        ),
        (
            format!("{SASL_ON}password_file = \"/no/such/file\""),
            "kafka.sasl.password_file",
            "/no/such/file cannot be read",
        ),
        (
            format!("{SASL_ON}password_file = \"/dev/zero\""),
            "kafka.sasl.password_file",
            "longer than 65536 bytes",
        ),
        (
            format!("{SASL_ON}password_file = \"/dev/null\""),
            "kafka.sasl.password_file",
            "empty",
        ),
        (
            format!("{SASL_ON}password_variable = \"NOBODY_SET_THIS\""),
            "kafka.sasl.password_variable",
            "NOBODY_SET_THIS is not set",
        ),
        (
            format!("{SASL_ON}password_file = \"/etc/passwd\"\npassword_variable = \"X\""),
            "kafka.sasl.password_file",
            "is set too",
        ),
        (
            format!("{TLS_ON}[kafka.properties]\n\"security.protocol\" = \"plaintext\""),
            "kafka.properties.security.protocol",
            "are in use",
        ),
        (
            format!("{TLS_ON}[kafka.properties]\n\"sasl.username\" = \"u\""),
            "kafka.properties.sasl.username",
            "are in use",
        ),
        (
            "[kafka.sasl]\nmechanism = \"md5\"".to_owned(),
            "kafka.sasl.mechanism",
            "scram-sha-512",
        ),
        (
            "[kafka.sasl]\npassword = \"x\"".to_owned(),
            "kafka.sasl.password",
            "unknown key",
        ),
    ] {
        let error = given().file(&text).load().expect_err(&text);
        let problem = error
            .problems()
            .iter()
            .find(|problem| problem.subject == subject);
        let problem = problem.unwrap_or_else(|| panic!("{text}: {error}"));
        assert!(problem.what.contains(what), "{text}: {error}");
    }
}

#[test]
fn the_consumer_protocol_is_refused_where_librdkafka_is_not_reliable_with_it() {
    let loaded = given()
        .file("[kafka]\ngroup_protocol = \"consumer\"")
        .load();
    let (number, version) = rdkafka::util::get_rdkafka_version();
    if number >= 0x020f_00ff {
        assert!(loaded.is_ok(), "librdkafka {version}");
        return;
    }
    let error = loaded.unwrap_err().to_string();
    for part in [
        "kafka.group_protocol (file ",
        &version,
        "2.15.0",
        "\"consumer-anyway\"",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
