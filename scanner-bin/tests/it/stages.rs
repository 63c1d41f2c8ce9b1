//! The two stages by themselves, with the real libclamav and without Kafka: what waits for libclamav, and what does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crossbeam_channel::{Receiver, bounded};
use rdkafka::Timestamp;
use rdkafka::message::OwnedMessage;
use scan_pipeline::Scanning;
use scan_pipeline::answers::Answers;
use scan_pipeline::batch::{Batch, BatchBuilder};
use scan_pipeline::circuit::Circuit;
use scan_pipeline::flow::{Budget, Flow};
use scan_pipeline::quota::Quota;
use scan_pipeline::sequencer::Lease;
use scan_pipeline::work::{RecordProcessor, Stages};
use scanlib::{Detector, DetectorSlot, EngineBuilder, Library, Parser, eicar};
use scanner_bin::config::Config;
use scanner_bin::ops::health::{Health, Limits};
use scanner_bin::ops::metrics::{KindLabel, Metrics, QueueLabel};
use scanner_bin::wrong::WrongReports;
use serde_json::Value;

/// Longer than a bomb takes.
const MAX_RECORD_TIME: Duration = Duration::from_secs(60);
/// Much longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(120);
/// A bzip2 file of 99 MiB of zeros.
const BZIP2: &str = "QlpoOTFBWSZTWQ4J4t8BX45AAMAAAAggADCATUZCoCWpCoCXMUFZJlNZDgni3wFfjkAAwAAACCAAMIBNRkKgJakKgJcxQVkmU1kOZW/2AFv+SADAABAAAAggADDMCappqAEW1IAReLuSKcKEgVKJCaA=";
const LINE: &str = "<38>Oct 11 22:14:15 web su[7]: hello";
const HTML: &str = "<13>Oct 20 02:44:02 web app: <html><script>x()</script></html>";

/// A log line with as many different bzip2 files in base64: each keeps libclamav busy for about a second.
fn bomb(files: u8) -> String {
    let file = BASE64_STANDARD.decode(BZIP2).unwrap();
    let files = (0..files).map(|number| BASE64_STANDARD.encode([&file[..], &[number; 3]].concat()));
    let files: Vec<String> = files.collect();
    format!("<13>Oct 20 02:44:02 web app: {}", files.join(" "))
}

fn detector() -> Detector {
    let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
    let engine = builder.tmp_dir("/dev/shm").builtin_signatures().unwrap();
    let detector = Detector::builder().engine(engine.compile().unwrap());
    detector.build().unwrap()
}

struct Scene {
    stages: Stages,
    slot: DetectorSlot,
    answers: Receiver<Answers>,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
}

impl Scene {
    /// One thread for each stage.
    fn new(max_record_time: Duration) -> Scene {
        let limits = Limits {
            poll_loop: PATIENCE,
            worker: PATIENCE,
        };
        let health = Arc::new(Health::new(limits));
        let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
        let config = Config::default();
        let letters = config.kafka.dead_letter_limits;
        let processor = Arc::new(RecordProcessor {
            instance: "scanner-0".to_owned(),
            is_replay: false,
            cluster: "cluster".to_owned(),
            topic: "in".to_owned(),
            parser: Parser::default(),
            max_message_bytes: config.scan.max_message_bytes,
            retries: config.scan.retries,
            max_record_time,
            emit: config.kafka.emit,
            result_key: config.kafka.result_key,
            result_format: config.kafka.result_format,
            guard: None,
            wrong: WrongReports::new(None, Arc::clone(&metrics)),
            circuit: Circuit::new(Arc::clone(&health)),
            quota: Quota::new(letters, Arc::clone(&health), Arc::clone(&metrics)),
            health,
            metrics: Arc::clone(&metrics),
        });
        let slot = DetectorSlot::new(detector());
        let (answered, answers) = bounded(2);
        let stages = Stages::start(&slot, processor, NonZeroUsize::MIN, 64 << 20, answered);
        Scene {
            stages: stages.unwrap(),
            slot,
            answers,
            metrics,
            budget: Arc::default(),
        }
    }

    fn flow(&self, partition: i32) -> Arc<Flow> {
        let generation = 1;
        let lease = Lease {
            partition,
            generation,
        };
        Flow::new(lease, Arc::clone(&self.budget))
    }

    /// Submits the only batch of a new lease.
    fn submit(&self, partition: i32, records: &[&str]) -> Arc<Flow> {
        let flow = self.flow(partition);
        self.submit_to(&flow, 0, records);
        flow
    }

    fn submit_to(&self, flow: &Arc<Flow>, seq: u64, records: &[&str]) {
        let mut batch = batch(flow, seq, records);
        while let Err(refused) = self.stages.try_submit(batch) {
            batch = refused.0;
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next batch that is answered.
    fn answered(&self) -> Answered {
        Answered::of(self.answers.recv_timeout(PATIENCE).expect("an answer"))
    }

    fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Scene) -> bool) {
        for _ in 0..PATIENCE.as_millis() {
            if is_so(self) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("not within {PATIENCE:?}: {what}");
    }

    /// Waits until the engine stage has taken a record and so many wait behind it.
    fn wait_until_busy(&self, waiting: i64) {
        self.wait_until("the engine is busy", |scene| {
            scene.stages.measure(&scene.metrics);
            let queue = QueueLabel { queue: "engine" };
            let queue = scene.metrics.queue_depth.get_or_create(&queue);
            scene.metrics.workers_busy.get() > 0 && queue.get() == waiting
        });
    }
}

fn batch(flow: &Arc<Flow>, seq: u64, records: &[&str]) -> Batch {
    let mut builder = BatchBuilder::default();
    for (offset, text) in (0..).zip(records) {
        let payload = Some(text.as_bytes().to_vec());
        let partition = flow.lease().partition;
        let time = Timestamp::NotAvailable;
        let message = OwnedMessage::new(payload, None, "in".into(), time, partition, offset, None);
        builder.push(&message);
    }
    builder.build(flow, seq)
}

/// The answers to a batch, read.
struct Answered {
    partition: i32,
    seq: u64,
    is_complete: bool,
    results: Vec<Value>,
}

impl Answered {
    fn of(answers: Answers) -> Answered {
        assert_eq!(answers.crash(), None);
        let (partition, seq) = (answers.lease().partition, answers.seq());
        let is_complete = answers.is_complete();
        let entries = Arc::new(answers).entries();
        // The other ones are dead letters.
        let results = entries.iter().filter(|entry| entry.next_offset.is_some());
        let items = results.filter_map(|entry| entry.item.as_ref());
        let read = |json: Option<&[u8]>| serde_json::from_slice(json.unwrap()).unwrap();
        Answered {
            partition,
            seq,
            is_complete,
            results: items.map(|item| read(item.payload())).collect(),
        }
    }

    fn statuses(&self) -> Vec<&str> {
        let results = self.results.iter();
        results
            .map(|result| result["status"].as_str().unwrap())
            .collect()
    }

    /// Offsets in the order of the answers.
    fn offsets(&self) -> Vec<i64> {
        let results = self.results.iter();
        results
            .map(|result| result["kafka"]["offset"].as_i64().unwrap())
            .collect()
    }
}

/// Panics where a line is logged about a record of one of these partitions: a fault of the service's own code, outside of any scan.
struct FaultyLog;

/// The fault is in the line about a threat.
const FAULTY: i64 = 1_000;
/// The fault is in every line.
const BROKEN: i64 = 1_001;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for FaultyLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        #[derive(Default)]
        struct Line {
            partition: i64,
            message: String,
        }
        impl tracing::field::Visit for Line {
            fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
                if field.name() == "partition" {
                    self.partition = value;
                }
            }
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.message = format!("{value:?}");
                }
            }
        }
        let mut line = Line::default();
        event.record(&mut line);
        let is_faulty = match line.partition {
            FAULTY => line.message == "Threat detected",
            partition => partition == BROKEN,
        };
        assert!(!is_faulty, "on purpose");
    }
}

fn log_with_faults() {
    use tracing_subscriber::layer::SubscriberExt as _;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(FaultyLog);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// Proves: a panic outside of a scan costs the record that it is about its verdict, and no other.
#[test]
fn a_panic_over_a_record_costs_that_record_its_verdict_and_no_other() {
    log_with_faults();
    let scene = Scene::new(MAX_RECORD_TIME);
    let infected = format!("<13>Oct 20 02:44:02 web app: {}", eicar::text());
    let faulty = i32::try_from(FAULTY).unwrap();
    scene.submit(faulty, &[LINE, HTML, &infected, HTML, LINE]);
    let answered = scene.answered();
    assert!(answered.is_complete);
    assert_eq!(
        answered.statuses(),
        ["clean", "clean", "error", "clean", "clean"]
    );
    let reason = answered.results[2]["reason"].as_str().unwrap();
    assert!(reason.contains("panicked: on purpose"), "{reason}");
    assert_eq!(scene.metrics.worker_panics.get(), 1);
    // The threads go on, with the same record in another partition.
    scene.submit(1, &[&infected]);
    assert_eq!(scene.answered().statuses(), ["threat"]);
}

/// Proves: if not even an error result can be recorded for a record, its batch does not stay open; the egress thread ends the service.
#[test]
fn a_panic_that_leaves_a_record_without_an_answer_ends_the_service() {
    log_with_faults();
    let scene = Scene::new(MAX_RECORD_TIME);
    let infected = format!("<13>Oct 20 02:44:02 web app: {}", eicar::text());
    scene.submit(i32::try_from(BROKEN).unwrap(), &[HTML, &infected, HTML]);
    let answers = scene.answers.recv_timeout(PATIENCE).expect("an answer");
    let crash = answers.crash().expect("a crash");
    assert!(
        crash.contains("engine stage panicked") && crash.contains("on purpose"),
        "{crash}"
    );
    assert!(!answers.is_complete());
    assert_eq!(i64::from(answers.lease().partition), BROKEN);
}

#[test]
fn what_needs_no_libclamav_does_not_wait_for_it() {
    let scene = Scene::new(MAX_RECORD_TIME);
    let bomb = bomb(2);
    let _bombs = scene.submit(0, &[LINE, &bomb, LINE, &bomb, LINE]);
    scene.wait_until_busy(1);
    // All of these are answered before the bombs are, although the bombs came first.
    for partition in 1..20 {
        scene.submit(partition, &[LINE, "", LINE]);
        let answered = scene.answered();
        assert_eq!(
            (answered.partition, answered.is_complete),
            (partition, true)
        );
        assert_eq!(answered.statuses(), ["clean", "skipped", "clean"]);
    }
    let answered = scene.answered();
    assert_eq!((answered.partition, answered.is_complete), (0, true));
    assert_eq!(answered.offsets(), [0, 1, 2, 3, 4], "in input order");
}

#[test]
fn a_record_of_a_light_partition_waits_for_the_one_under_way_and_no_other() {
    let scene = Scene::new(MAX_RECORD_TIME);
    let bomb = bomb(4);
    let flow = scene.flow(0);
    for seq in 0..2 {
        scene.submit_to(&flow, seq, &[&bomb]);
    }
    scene.wait_until_busy(1);
    scene.submit(1, &[HTML]);
    let order: Vec<_> = (0..3).map(|_| scene.answered()).collect();
    let order: Vec<_> = order
        .iter()
        .map(|batch| (batch.partition, batch.seq))
        .collect();
    let place = order.iter().position(|(partition, _)| *partition == 1);
    assert!(place <= Some(1), "{order:?}");
}

#[test]
fn a_record_that_takes_too_long_is_partial() {
    let scene = Scene::new(Duration::from_millis(1));
    scene.submit(0, &[&bomb(3), LINE]);
    let answered = scene.answered();
    assert_eq!(answered.statuses(), ["partial", "clean"]);
    let limits = &answered.results[0]["limits"];
    assert_eq!(
        limits,
        &serde_json::json!(["max_record_time"]),
        "{:#}",
        answered.results[0]
    );
}

#[test]
fn records_of_a_lease_that_ended_are_given_up_while_libclamav_is_busy() {
    let scene = Scene::new(MAX_RECORD_TIME);
    let bomb = bomb(4);
    let _busy = scene.submit(0, &[&bomb]);
    scene.wait_until_busy(0);
    let ended = scene.submit(1, &[LINE, LINE, HTML, LINE]);
    scene.wait_until_busy(1);
    assert_eq!(
        ended.kill(),
        1,
        "the batch was started, so its drain waits for it"
    );
    scene.stages.release_ended();
    let answered = scene.answered();
    assert_eq!((answered.partition, answered.is_complete), (1, false));
    assert_eq!(
        answered.offsets(),
        [0, 1],
        "those before the one that is given up"
    );
    assert_eq!(ended.messages(), 0);
    let answered = scene.answered();
    assert_eq!((answered.partition, answered.is_complete), (0, true));
}

#[test]
fn signatures_are_replaced_while_records_wait_and_the_new_ones_judge_them() {
    let scene = Scene::new(MAX_RECORD_TIME);
    let bomb = bomb(1);
    let _flow = scene.submit(0, &[&bomb, HTML, HTML, HTML]);
    scene.wait_until_busy(3);
    let before = scene.slot.load().generation();
    let build = || Ok::<_, scanlib::LoadError>(detector());
    // The old detector has to be freed before the new one is built, while records wait that were screened by it.
    let after = scene.slot.drain_with(PATIENCE, build).unwrap();
    assert!(after > before);
    let answered = scene.answered();
    assert_eq!(answered.offsets(), [0, 1, 2, 3]);
    assert_eq!(answered.statuses()[1..], ["clean"; 3]);
    let errors = KindLabel { kind: "panic" };
    assert_eq!(scene.metrics.scan_errors.get_or_create(&errors).get(), 0);
}

#[test]
fn a_stop_leaves_what_waits_and_does_not_hang() {
    let scene = Scene::new(MAX_RECORD_TIME);
    let bomb = bomb(1);
    scene.submit(0, &[&bomb, &bomb, &bomb, &bomb, &bomb, &bomb, &bomb, &bomb]);
    scene.wait_until_busy(7);
    let Scene {
        stages,
        answers,
        budget,
        ..
    } = scene;
    assert_eq!(budget.messages(), 8);
    drop(answers);
    drop(stages);
    assert_eq!(budget.messages(), 0, "nothing is in flight any more");
}
