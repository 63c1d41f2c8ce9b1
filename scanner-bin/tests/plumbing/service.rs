//! The service's threads around a worker that finds nothing because it does not look.

use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use scan_pipeline::answers::{Answers, AnswersBuilder};
use scan_pipeline::batch::Batch;
use scan_pipeline::{Refused, Scanning};
use scanlib::Parser;
use scanner_bin::config::Config;
use scanner_bin::result::ScanContext;

use crate::support::scene::Scene;
use crate::threads::{Seen, Threads};
use crate::{INSTANCE, Round, encode, measured};

/// Full batches that may be in flight, as for one worker of the service.
const IN_FLIGHT: u64 = 4 * 256;

struct ToWorker(Sender<Batch>);

impl Scanning for ToWorker {
    fn try_submit(&self, batch: Batch) -> Result<(), Refused> {
        self.0.try_send(batch).map_err(|back| match back {
            TrySendError::Full(batch) | TrySendError::Disconnected(batch) => Refused(batch),
        })
    }
}

/// Reads each record and writes its full result.
fn work(batches: &Receiver<Batch>, answered: &Sender<Answers>, topic: &str) {
    let parser = Parser::default();
    for batch in batches {
        let mut answers = AnswersBuilder::with_capacity(batch.len());
        batch.flow().start();
        for record in batch.records() {
            let scanned_at = SystemTime::now();
            let payload = record.payload.unwrap_or_default();
            let message = parser.parse_received(payload, record.timestamp_ms);
            let context = ScanContext {
                instance: INSTANCE,
                is_replay: false,
                cluster: "plumbing",
                topic,
                partition: batch.lease().partition,
                offset: record.offset,
                key: record.key,
                timestamp_ms: record.timestamp_ms,
                scanned_at,
                processed_at: SystemTime::now(),
            };
            answers.result(record.offset, record.timestamp_ms, |out| {
                let summary = encode(out, &context, &message);
                ((), (summary.status.as_str(), summary.severity))
            });
            answers.key(record.key);
        }
        let seq = batch.seq();
        if answered
            .send(answers.build(seq, true, batch.into_in_flight()))
            .is_err()
        {
            return;
        }
    }
}

/// Answers everything once, in a group of its own.
pub fn run(scene: &Scene<'_>, records: u64) -> Round {
    let mut config = Config::default();
    config.kafka.brokers = scene.broker.bootstrap().to_owned();
    config.kafka.group.clone_from(&scene.group);
    config.kafka.input_topic.clone_from(&scene.input);
    config.kafka.output_topic.clone_from(&scene.output);
    config
        .kafka
        .dead_letter_topic
        .clone_from(&scene.dead_letters);
    config.ops.instance = INSTANCE.to_owned();
    let (to_worker, batches) = bounded(2);
    let (answered, answers) = bounded(2);
    let topic = scene.input.clone();
    let worker = std::thread::spawn(move || work(&batches, &answered, &topic));
    let seen = Seen::new();
    let threads = Threads::start(&config, &seen, ToWorker(to_worker), answers, IN_FLIGHT);
    let round = measured(records, || seen.answered());
    let left = threads.stop();
    assert!(left.committed && left.abandoned == 0, "{left:?}");
    worker.join().unwrap();
    round
}
