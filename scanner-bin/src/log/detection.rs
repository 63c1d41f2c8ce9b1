//! The line that operators search for.

use scanlib::message::Fields;

use crate::result::{ScanContext, Summary};

/// Logs a detection. The line starts with `{"message":"Threat detected","scan_id":…,"threat_name":…,
/// "severity":…,"source_host":…`, in this order, and only ever grows at its end.
///
/// Where the collector named no host, the host that the text names stands in, or `unknown`.
pub fn threat_detected(summary: &Summary, context: &ScanContext<'_>, fields: &Fields<'_>) {
    let source_host = fields
        .source_host
        .as_deref()
        .or(fields.origin_host.as_deref());
    tracing::warn!(
        scan_id = %summary.scan_id,
        threat_name = summary.threat_name.as_deref().unwrap_or_default(),
        severity = summary.severity,
        source_host = source_host.unwrap_or("unknown"),
        topic = context.topic,
        partition = context.partition,
        offset = context.offset,
        engine = summary.engine,
        "Threat detected"
    );
}
