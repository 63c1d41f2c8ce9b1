//! The line that operators search for.

use scanlib::message::Fields;

use super::cut::{LONGEST_RECORD_TEXT, cut};
use super::detection_limit;
use crate::result::{ScanContext, Summary};

/// Logs a detection, unless [`DetectionLog`](super::DetectionLog) suppresses it. The line starts with
/// `{"message":"Threat detected","scan_id":…,"threat_name":…,"severity":…,"source_host":…`, in this order, and only ever grows at its
/// end.
///
/// Where the collector named no host, the host that the text names stands in, or `unknown`. Texts that a record can choose are cut.
pub fn threat_detected(summary: &Summary, context: &ScanContext<'_>, fields: &Fields<'_>) {
    let source_host = fields
        .source_host
        .as_deref()
        .or(fields.origin_host.as_deref());
    let source_host = cut(source_host.unwrap_or("unknown"), LONGEST_RECORD_TEXT);
    let threat_name = summary.threat_name.as_deref().unwrap_or_default();
    let threat_name = cut(threat_name, LONGEST_RECORD_TEXT);
    if !detection_limit::admit(&threat_name, &source_host) {
        return;
    }
    tracing::warn!(
        scan_id = %summary.scan_id,
        threat_name = &*threat_name,
        severity = summary.severity,
        source_host = &*source_host,
        topic = context.topic,
        partition = context.partition,
        offset = context.offset,
        engine = summary.engine,
        "Threat detected"
    );
}
