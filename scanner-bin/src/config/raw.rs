//! The configuration as it is written: every key, nothing required, nothing checked but its type.
//!
//! These structs are the list of known keys; [`known_paths`] reads it off them.

use std::collections::BTreeMap;

use scan_pipeline::config::{
    Compression, Delivery, Emit, GroupProtocol, ResultFormat, ResultKey, SaslMechanism,
    UnreadableBatch,
};
use serde::{Deserialize, Serialize};

use super::checked::{IsolationMode, Profile, ReloadMode};
use super::units::{Bytes, Paths, Ports, Span, Views, Words};

/// The whole file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) kafka: RawKafka,
    pub(super) scan: RawScan,
    pub(super) ops: RawOps,
}

/// `[kafka]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawKafka {
    pub(super) brokers: Option<String>,
    pub(super) broker_ports: Option<Ports>,
    pub(super) group: Option<String>,
    pub(super) input_topic: Option<String>,
    pub(super) output_topic: Option<String>,
    pub(super) dead_letter_topic: Option<String>,
    pub(super) dead_letters_per_minute: Option<u32>,
    pub(super) dead_letter_percent: Option<u32>,
    pub(super) create_topics: Option<bool>,
    pub(super) emit: Option<Emit>,
    pub(super) result_key: Option<ResultKey>,
    pub(super) result_format: Option<ResultFormat>,
    pub(super) delivery: Option<Delivery>,
    pub(super) group_protocol: Option<GroupProtocol>,
    pub(super) transactional_id_prefix: Option<String>,
    pub(super) transaction_interval: Option<Span>,
    pub(super) transaction_timeout: Option<Span>,
    pub(super) drain_timeout: Option<Span>,
    pub(super) revoke_timeout: Option<Span>,
    pub(super) session_timeout: Option<Span>,
    pub(super) max_poll_interval: Option<Span>,
    pub(super) commit_interval: Option<Span>,
    pub(super) fetch_memory_bytes: Option<Bytes>,
    pub(super) max_partitions: Option<u32>,
    pub(super) inflight_messages_per_partition: Option<usize>,
    pub(super) inflight_bytes: Option<Bytes>,
    pub(super) unreadable_batch: Option<UnreadableBatch>,
    pub(super) linger: Option<Span>,
    pub(super) compression: Option<Compression>,
    pub(super) properties: Option<BTreeMap<String, String>>,
    pub(super) tls: RawTls,
    pub(super) sasl: RawSasl,
}

/// `[kafka.tls]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) enabled: Option<bool>,
    pub(super) ca_file: Option<String>,
    pub(super) certificate_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) key_password_file: Option<String>,
    pub(super) key_password_variable: Option<String>,
    pub(super) verify_hostname: Option<bool>,
}

/// `[kafka.sasl]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSasl {
    pub(super) mechanism: Option<SaslMechanism>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) password_variable: Option<String>,
}

/// `[scan]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawScan {
    pub(super) database: Option<Paths>,
    pub(super) threads: Option<usize>,
    pub(super) max_message_bytes: Option<Bytes>,
    pub(super) max_scan_bytes: Option<Bytes>,
    pub(super) max_file_bytes: Option<Bytes>,
    pub(super) max_scan_time: Option<Span>,
    pub(super) max_record_time: Option<Span>,
    pub(super) decode_depth: Option<u32>,
    pub(super) max_decoded_payloads: Option<u32>,
    pub(super) verdict_cache_entries: Option<usize>,
    pub(super) views: Option<Views>,
    pub(super) rules: Option<bool>,
    pub(super) tmp_dir: Option<String>,
    pub(super) crash_journal: Option<String>,
    pub(super) crash_limit: Option<u32>,
    pub(super) retries: Option<u32>,
    pub(super) bytecode_unsigned: Option<bool>,
    pub(super) reload_interval: Option<Span>,
    pub(super) profile: Option<Profile>,
    pub(super) leave_out: Option<Words>,
    pub(super) prefilter: Option<bool>,
    pub(super) audit_one_in: Option<u32>,
    pub(super) text_model: Option<String>,
    pub(super) wrong_dir: Option<String>,
    pub(super) state_dir: Option<String>,
    pub(super) reload: Option<ReloadMode>,
    pub(super) isolation: Option<IsolationMode>,
    pub(super) isolation_memory_bytes: Option<Bytes>,
    pub(super) fields: RawFields,
}

/// `[scan.fields]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFields {
    pub(super) message: Option<String>,
    pub(super) source_ip: Option<String>,
    pub(super) source_host: Option<String>,
    pub(super) source_port: Option<String>,
    pub(super) facility: Option<String>,
    pub(super) priority: Option<String>,
    pub(super) level: Option<String>,
    pub(super) program: Option<String>,
    pub(super) pid: Option<String>,
    pub(super) timestamp: Option<String>,
}

/// `[ops]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOps {
    pub(super) listen: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) log: Option<String>,
    pub(super) log_detections_per_second: Option<u32>,
}

/// The dotted path of every key, for example `kafka.brokers`.
pub(super) fn known_paths() -> Vec<String> {
    let mut paths = Vec::new();
    // Every field is present when serialised, a missing one as null.
    if let Ok(tree) = serde_json::to_value(Raw::default()) {
        walk(&tree, "", &mut paths);
    }
    paths
}

fn walk(node: &serde_json::Value, path: &str, paths: &mut Vec<String>) {
    match node.as_object() {
        Some(fields) => {
            for (name, child) in fields {
                let child_path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                walk(child, &child_path, paths);
            }
        }
        None => paths.push(path.to_owned()),
    }
}
