//! Writes the answer to a record: its result, its key, and a dead letter if it could not be judged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use scanlib::Message;

use super::RecordProcessor;
use super::judge::{Failure, Judged};
use crate::answers::AnswersBuilder;
use crate::batch::Record;
use crate::config::{Emit, ResultKey};
use crate::dead_letter::{DeadLetter, Reason};
use crate::log;
use crate::result::{self, EngineState, ScanContext, Status};

/// Where a record comes from, and when it was scanned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) scanned_at: SystemTime,
}

impl RecordProcessor {
    /// Answers a record as it was judged, and accounts for it.
    pub(super) fn answer(
        &self,
        place: Place,
        record: &Record<'_>,
        message: &Message<'_>,
        mut judged: Judged,
        engines: &EngineState,
        answers: &mut AnswersBuilder,
    ) {
        let context = ScanContext {
            instance: &self.instance,
            is_replay: self.is_replay,
            cluster: &self.cluster,
            topic: &self.topic,
            partition: place.partition,
            offset: record.offset,
            key: record.key,
            timestamp_ms: record.timestamp_ms,
            scanned_at: place.scanned_at,
            processed_at: SystemTime::now(),
        };
        let nothing = self.parser.parse(b"");
        let mut message = message;
        let summary = answers.result(record.offset, record.timestamp_ms, |out| {
            let start = out.len();
            let encode = |out: &mut Vec<u8>, message: &Message<'_>, judged: &Judged| {
                result::encode_as(
                    self.result_format,
                    out,
                    &context,
                    message,
                    judged.outcome(record.payload),
                    engines,
                )
            };
            let attempt = catch_unwind(AssertUnwindSafe(|| encode(out, message, &judged)));
            let summary = attempt.unwrap_or_else(|_| {
                // One record's odd content is no reason to stop: say less, and keep the original.
                out.truncate(start);
                message = &nothing;
                judged = Judged::failed(Reason::Panic, "the result could not be written");
                encode(out, message, &judged)
            });
            let headers = (summary.status.as_str(), summary.severity);
            (summary, headers)
        });
        match self.result_key {
            ResultKey::Input => answers.key(record.key),
            ResultKey::ScanId => {
                answers.key(Some(summary.scan_id.hyphenated().to_string().as_bytes()))
            }
        }
        if summary.status == Status::Threat {
            log::threat_detected(&summary, &context, &message.fields);
        }
        self.account(
            judged.outcome(record.payload),
            judged.report(),
            summary.status,
        );
        if let Judged::Failed(failure) = &judged {
            let Failure { reason, error, .. } = &**failure;
            self.account_failure(*reason);
            answers.dead_letter(DeadLetter::new(record, context.partition, *reason, error));
        }
        if self.emit == Emit::Threats && summary.status == Status::Clean {
            answers.drop_result();
        }
    }
}
