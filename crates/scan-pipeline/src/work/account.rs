//! Metrics of the records that were answered.

use std::time::Duration;

use scanlib::{Report, Stage};

use super::RecordProcessor;
use crate::dead_letter::Reason;
use crate::metrics::{DetectionLabels, KindLabel, ReasonLabel};
use crate::result::{Outcome, Status};

impl RecordProcessor {
    /// Counts a record with its outcome.
    pub(super) fn account(&self, outcome: Outcome<'_>, report: Option<&Report>, status: Status) {
        let metrics = &self.metrics;
        if let Outcome::Skipped { reason } = outcome {
            let reason = if reason == "tombstone" {
                "tombstone"
            } else {
                "empty"
            };
            metrics
                .records_skipped
                .get_or_create(&ReasonLabel { reason })
                .inc();
            if reason == "tombstone" {
                metrics.tombstones.inc();
            }
        }
        let (engine, elapsed) = report.map_or(("limits", Duration::ZERO), |r| {
            (engine_word(r.decided_by), r.elapsed)
        });
        metrics.scanned(status.as_str(), engine, elapsed);
        if let Some(report) = report {
            metrics.engine_failure(report);
        }
        for detection in report.map_or(&[][..], |r| r.verdict.detections()) {
            let engine = if detection.is_clamav() {
                "clamav"
            } else {
                "rules"
            };
            let severity = detection.severity.as_str();
            metrics
                .detections
                .get_or_create(&DetectionLabels { engine, severity })
                .inc();
        }
    }

    /// Counts a record that could not be judged.
    pub(super) fn account_failure(&self, reason: Reason) {
        let kind = reason.as_str();
        self.metrics
            .scan_errors
            .get_or_create(&KindLabel { kind })
            .inc();
    }
}

fn engine_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Limits => "limits",
        Stage::Rules => "rules",
        Stage::Prefilter => "prefilter",
        _ => "clamav",
    }
}
