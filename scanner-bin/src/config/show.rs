//! The effective configuration as a file that could have been given, with where each value came from.

use std::fmt::Write as _;
use std::path::Path;

use scan_pipeline::config::{
    KafkaConfig, SaslConfig, SaslMechanism, Secret, SecretSource, TlsConfig,
};
use serde_json::Value;

use super::checked::{Config, OpsConfig, ScanConfig};
use super::raw::{Raw, RawFields, RawKafka, RawOps, RawSasl, RawScan, RawTls};
use super::sources::Origins;
use super::units::{Bytes, Paths, Ports, Span, Views, Words};

/// Origins are written from this column on, where there is room.
const COLUMN: usize = 44;

/// The configuration as TOML. Behind each value stands where it was set; secrets are hidden.
pub fn show(config: &Config, origins: &Origins) -> String {
    let mut page = String::from("# The configuration in effect, and where each value was set.\n");
    // Plain data, which always serialises.
    let tree = serde_json::to_value(Raw::from(config)).unwrap_or_default();
    section(&mut page, "", &tree, origins);
    page
}

/// The settings of a section, then the sections in it.
fn section(page: &mut String, path: &str, node: &Value, origins: &Origins) {
    let Some(members) = node.as_object() else {
        return;
    };
    if !path.is_empty() {
        line(page, format_args!("\n[{path}]"));
    }
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    let (sections, settings): (Vec<_>, Vec<_>) =
        members.iter().partition(|(_, value)| value.is_object());
    for (name, value) in settings {
        if value.is_null() {
            line(page, format_args!("# {name} is not set"));
            continue;
        }
        let is_bare = |c: char| c.is_ascii_lowercase() || c == '_';
        let key = match !name.is_empty() && name.chars().all(is_bare) {
            true => name.clone(),
            false => toml(&Value::from(name.as_str())),
        };
        let setting = format!("{key} = {}", toml(value));
        let origin = origins.get(&below(name)).map_or("default", String::as_str);
        // A path among the origins may hold anything; a comment ends with its line.
        let origin = origin.replace(char::is_control, "?");
        line(page, format_args!("{setting:COLUMN$} # {origin}"));
    }
    for (name, value) in sections {
        section(page, &below(name), value, origins);
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _infallible = writeln!(page, "{text}");
}

/// A string, number, boolean or list of them as TOML writes it, which is as JSON does but for one
/// character.
fn toml(value: &Value) -> String {
    value.to_string().replace('\u{7f}', "\\u007f")
}

impl From<&Config> for Raw {
    fn from(config: &Config) -> Raw {
        Raw {
            kafka: RawKafka::from(&config.kafka),
            scan: RawScan::from(&config.scan),
            ops: RawOps::from(&config.ops),
        }
    }
}

impl From<&KafkaConfig> for RawKafka {
    fn from(kafka: &KafkaConfig) -> RawKafka {
        let shown = kafka.properties.shown();
        RawKafka {
            brokers: Some(kafka.brokers.clone()),
            broker_ports: Some(Ports(kafka.broker_ports.clone())),
            group: Some(kafka.group.clone()),
            input_topic: Some(kafka.input_topic.clone()),
            output_topic: Some(kafka.output_topic.clone()),
            dead_letter_topic: Some(kafka.dead_letter_topic.clone()),
            dead_letters_per_minute: Some(kafka.dead_letter_limits.per_minute),
            dead_letter_percent: Some(kafka.dead_letter_limits.percent),
            create_topics: Some(kafka.create_topics),
            emit: Some(kafka.emit),
            result_key: Some(kafka.result_key),
            result_format: Some(kafka.result_format),
            delivery: Some(kafka.delivery),
            group_protocol: Some(kafka.group_protocol),
            transactional_id_prefix: kafka.transactional_id_prefix.clone(),
            transaction_interval: Some(Span(kafka.transaction_interval)),
            transaction_timeout: Some(Span(kafka.transaction_timeout)),
            drain_timeout: Some(Span(kafka.drain_timeout)),
            revoke_timeout: Some(Span(kafka.revoke_timeout)),
            session_timeout: Some(Span(kafka.session_timeout)),
            max_poll_interval: Some(Span(kafka.max_poll_interval)),
            commit_interval: Some(Span(kafka.commit_interval)),
            fetch_memory_bytes: Some(Bytes(kafka.fetch_memory_bytes)),
            max_partitions: Some(kafka.max_partitions),
            inflight_messages_per_partition: Some(kafka.inflight_messages_per_partition),
            inflight_bytes: Some(Bytes(kafka.inflight_bytes)),
            unreadable_batch: Some(kafka.unreadable_batch),
            linger: Some(Span(kafka.linger)),
            compression: Some(kafka.compression),
            tls: raw_tls(kafka.tls.as_ref()),
            sasl: raw_sasl(kafka.sasl.as_ref()),
            properties: Some(
                shown
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            ),
        }
    }
}

fn raw_tls(tls: Option<&TlsConfig>) -> RawTls {
    let Some(tls) = tls else {
        // The properties may decide otherwise: nothing is said of what these do not decide.
        return RawTls {
            enabled: Some(false),
            ..RawTls::default()
        };
    };
    let client = tls.client.as_ref();
    let (key_password_file, key_password_variable) =
        source(client.and_then(|client| client.key_password.as_ref()));
    RawTls {
        enabled: Some(true),
        ca_file: tls.ca_file.as_deref().map(text),
        certificate_file: client.map(|client| text(&client.certificate_file)),
        key_file: client.map(|client| text(&client.key_file)),
        key_password_file,
        key_password_variable,
        verify_hostname: Some(tls.verify_hostname),
    }
}

fn raw_sasl(sasl: Option<&SaslConfig>) -> RawSasl {
    let (password_file, password_variable) = source(sasl.map(|sasl| &sasl.password));
    RawSasl {
        mechanism: Some(sasl.map_or(SaslMechanism::None, |sasl| sasl.mechanism)),
        username: sasl.map(|sasl| sasl.username.clone()),
        password_file,
        password_variable,
    }
}

/// Where a secret comes from: the file or the variable.
fn source(secret: Option<&Secret>) -> (Option<String>, Option<String>) {
    match secret.map(Secret::source) {
        Some(SecretSource::File(path)) => (Some(text(path)), None),
        Some(SecretSource::Variable(name)) => (None, Some(name.clone())),
        None => (None, None),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl From<&ScanConfig> for RawScan {
    fn from(scan: &ScanConfig) -> RawScan {
        let fields = &scan.fields;
        RawScan {
            database: Some(Paths(scan.database.clone())),
            threads: Some(scan.threads.get()),
            max_message_bytes: Some(Bytes(scan.max_message_bytes)),
            max_scan_bytes: Some(Bytes(scan.limits.max_scan_bytes)),
            max_file_bytes: Some(Bytes(scan.limits.max_file_bytes)),
            max_scan_time: Some(Span(scan.limits.max_scan_time)),
            max_record_time: Some(Span(scan.max_record_time)),
            decode_depth: Some(scan.decode_limits.depth),
            max_decoded_payloads: Some(scan.decode_limits.payloads),
            verdict_cache_entries: Some(scan.verdict_cache_entries),
            views: Some(Views(scan.views)),
            rules: Some(scan.rules),
            tmp_dir: scan.tmp_dir.as_deref().map(text),
            crash_journal: Some(scan.crash_journal.as_deref().map_or("off".to_owned(), text)),
            crash_limit: Some(scan.crash_limit),
            retries: Some(scan.retries),
            bytecode_unsigned: Some(scan.bytecode_unsigned),
            reload_interval: Some(Span(scan.reload_interval)),
            profile: Some(scan.profile),
            leave_out: Some(Words(scan.leave_out.clone())),
            prefilter: Some(scan.prefilter),
            audit_one_in: Some(scan.audit_one_in),
            text_model: scan.text_model.as_deref().map(text),
            wrong_dir: scan.wrong_dir.as_deref().map(text),
            state_dir: scan.state_dir.as_deref().map(text),
            reload: Some(scan.reload),
            isolation: Some(scan.isolation),
            isolation_memory_bytes: Some(Bytes(scan.isolation_memory_bytes)),
            fields: RawFields {
                message: Some(fields.message.clone()),
                source_ip: Some(fields.source_ip.clone()),
                source_host: Some(fields.source_host.clone()),
                source_port: Some(fields.source_port.clone()),
                facility: Some(fields.facility.clone()),
                priority: Some(fields.priority.clone()),
                level: Some(fields.level.clone()),
                program: Some(fields.program.clone()),
                pid: Some(fields.pid.clone()),
                timestamp: Some(fields.timestamp.clone()),
            },
        }
    }
}

impl From<&OpsConfig> for RawOps {
    fn from(ops: &OpsConfig) -> RawOps {
        RawOps {
            listen: Some(ops.listen.to_string()),
            instance: Some(ops.instance.clone()),
            log: Some(ops.log.clone()),
            log_detections_per_second: Some(ops.log_detections_per_second),
        }
    }
}
