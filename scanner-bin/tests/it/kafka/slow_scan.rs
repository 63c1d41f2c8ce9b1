//! A record whose scan takes much longer than a member of the group may be silent: nobody is evicted, and nobody else waits.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::mock;
use crate::threads;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use scan_pipeline::batch::Batch;
use scan_pipeline::circuit::Circuit;
use scan_pipeline::consumer::Left;
use scan_pipeline::quota::Quota;
use scan_pipeline::work::{RecordProcessor, Stages};
use scan_pipeline::{Refused, Scanning};
use scanlib::{Detector, DetectorSlot, EngineBuilder, Library, Parser};
use scanner_bin::config::Config;
use scanner_bin::ops::health::Probe;
use scanner_bin::wrong::WrongReports;

use mock::*;
use threads::{Seen, Threads};

/// Longer than this without a word, and the group would give the partitions to somebody else; the least that a session may have.
const MAX_SILENCE: Duration = Duration::from_secs(6);
/// How long the slow record takes: as 30 s would be, twice what a member may be silent.
const SLOW: Duration = Duration::from_secs(13);
/// The partition that has the slow record, and nothing else.
const SLOW_PARTITION: i32 = 0;

/// Workers that take [`SLOW`] for the first batch of a partition, and are as fast as ever with all others.
struct SlowScanning {
    stages: Stages,
    is_through: Arc<AtomicBool>,
}

impl Scanning for SlowScanning {
    fn try_submit(&self, batch: Batch) -> Result<(), Refused> {
        if batch.lease().partition != SLOW_PARTITION {
            return self.stages.try_submit(batch);
        }
        let stages = self.stages.clone();
        let is_through = Arc::clone(&self.is_through);
        thread::spawn(move || {
            thread::sleep(SLOW);
            is_through.store(true, Ordering::Release);
            let mut batch = batch;
            while let Err(Refused(back)) = stages.try_submit(batch) {
                batch = back;
                thread::sleep(Duration::from_millis(5));
            }
        });
        Ok(())
    }
}

/// The service with these workers.
struct Slow {
    seen: Seen,
    is_through: Arc<AtomicBool>,
    threads: Threads,
    _tmp: tempfile::TempDir,
}

fn start(config: &Config, cluster: &Cluster) -> Slow {
    let tmp = temporary();
    let engine = EngineBuilder::new(Library::init().unwrap()).unwrap();
    let engine = engine.tmp_dir(tmp.path()).builtin_signatures().unwrap();
    let detector = Detector::builder().engine(engine.compile().unwrap());
    let slot = DetectorSlot::new(detector.build().unwrap());
    let seen = Seen::new();
    let processor = Arc::new(RecordProcessor {
        instance: config.ops.instance.clone(),
        is_replay: false,
        cluster: cluster.bootstrap_servers(),
        topic: config.kafka.input_topic.clone(),
        parser: Parser::default(),
        max_message_bytes: config.scan.max_message_bytes,
        max_record_time: config.scan.max_record_time,
        retries: config.scan.retries,
        emit: config.kafka.emit,
        result_key: config.kafka.result_key,
        result_format: config.kafka.result_format,
        guard: None,
        wrong: WrongReports::new(None, Arc::clone(&seen.metrics)),
        circuit: Circuit::new(Arc::clone(&seen.health)),
        quota: Quota::new(
            config.kafka.dead_letter_limits,
            Arc::clone(&seen.health),
            Arc::clone(&seen.metrics),
        ),
        health: Arc::clone(&seen.health),
        metrics: Arc::clone(&seen.metrics),
    });
    let (answered, answers) = bounded(2);
    let stages = Stages::start(&slot, processor, NonZeroUsize::MIN, 64 << 20, answered).unwrap();
    let is_through = Arc::new(AtomicBool::new(false));
    let scanning = SlowScanning {
        stages,
        is_through: Arc::clone(&is_through),
    };
    let threads = Threads::start(config, &seen, scanning, answers, 1_000);
    Slow {
        seen,
        is_through,
        threads,
        _tmp: tmp,
    }
}

/// Proves: while one record is scanned for longer than the group puts up with silence, the member keeps its partitions, the
/// others' records are answered as they come, and the process is alive; then the slow record is answered, once.
#[test]
fn a_slow_record_costs_neither_membership_nor_the_other_partitions_their_answers() {
    let cluster = cluster(3);
    let mut config = config(&cluster);
    config.kafka.max_poll_interval = MAX_SILENCE;
    produce(&cluster, [text(SLOW_PARTITION, "the slow one")]);
    let service = start(&config, &cluster);
    wait_for("all partitions", || {
        service.seen.metrics.assigned_partitions.get() == 3
    });
    let before = service.seen.rebalances();

    let (mut sent, mut slowest) = (0, Duration::ZERO);
    while !service.is_through.load(Ordering::Acquire) {
        produce(&cluster, [text(1, "one"), text(2, "two")]);
        sent += 2;
        let since = Instant::now();
        while service.seen.answered() < sent && !service.is_through.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(5));
        }
        slowest = slowest.max(since.elapsed());
        assert!(
            service
                .seen
                .health
                .answer(Probe::Live)
                .failures()
                .is_empty(),
            "the process is alive"
        );
        let committed = committed(&cluster, 1);
        if !service.is_through.load(Ordering::Acquire) {
            assert_eq!(committed, [None], "the slow record has no answer yet");
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(sent > 20, "{sent} records in {SLOW:?}");
    assert!(
        slowest < MAX_SILENCE / 2,
        "a record of another partition waited {slowest:?}"
    );
    let results = results(&cluster, usize::try_from(sent).unwrap() + 1);
    assert_eq!(service.seen.rebalances(), before, "no partition went away");
    let mut sources: Vec<_> = results.iter().map(Received::source).collect();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), results.len(), "answered twice");
    assert_eq!(sources[0], (SLOW_PARTITION.into(), 0));
    let left = service.threads.stop();
    assert_eq!(
        left,
        Left {
            abandoned: 0,
            committed: true
        }
    );
    assert_eq!(committed(&cluster, 1), [Some(1)]);
}
