//! A record whose scan takes much longer than a member of the group may be silent: nobody is evicted, and nobody else waits.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mock.rs"]
mod mock;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use scanlib::{Detector, DetectorSlot, EngineBuilder, Library, Parser, Pool};
use scanner_bin::config::Config;
use scanner_bin::kafka::batch::Batch;
use scanner_bin::kafka::circuit::Circuit;
use scanner_bin::kafka::consumer::{Left, PollLoop, Wiring};
use scanner_bin::kafka::egress::{Command, Egress};
use scanner_bin::kafka::flow::Budget;
use scanner_bin::kafka::membership::Bell;
use scanner_bin::kafka::replay::Reading;
use scanner_bin::kafka::work::{Desk, PoolScanning, ScanBatch};
use scanner_bin::kafka::{Refused, Scanning};
use scanner_bin::ops::health::{Health, Limits, Probe};
use scanner_bin::ops::metrics::{KindLabel, Metrics};
use scanner_bin::shutdown::Shutdown;
use scanner_bin::wrong::WrongReports;

use mock::*;

/// Longer than this without a word, and the group would give the partitions to somebody else; the least that a session may have.
const MAX_SILENCE: Duration = Duration::from_secs(6);
/// How long the slow record takes: as 30 s would be, twice what a member may be silent.
const SLOW: Duration = Duration::from_secs(13);
/// The partition that has the slow record, and nothing else.
const SLOW_PARTITION: i32 = 0;

/// Workers that take [`SLOW`] for the first batch of a partition, and are as fast as ever with all others.
struct SlowScanning {
    pool: PoolScanning,
    is_through: Arc<AtomicBool>,
}

impl Scanning for SlowScanning {
    fn try_submit(&self, batch: Batch) -> Result<(), Refused> {
        if batch.lease().partition != SLOW_PARTITION {
            return self.pool.try_submit(batch);
        }
        let pool = PoolScanning {
            pool: Arc::clone(&self.pool.pool),
            desk: Arc::clone(&self.pool.desk),
        };
        let is_through = Arc::clone(&self.is_through);
        thread::spawn(move || {
            thread::sleep(SLOW);
            is_through.store(true, Ordering::Release);
            let mut batch = batch;
            while let Err(Refused(back)) = pool.try_submit(batch) {
                batch = back;
                thread::sleep(Duration::from_millis(5));
            }
        });
        Ok(())
    }
}

/// The service's threads with these workers in the middle.
struct Service {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    is_through: Arc<AtomicBool>,
    shutdown: Shutdown,
    thread: thread::JoinHandle<Left>,
    _tmp: tempfile::TempDir,
}

fn start(config: Config, cluster: &Cluster) -> Service {
    let tmp = temporary();
    let engine = EngineBuilder::new(Library::init().unwrap()).unwrap();
    let engine = engine.tmp_dir(tmp.path()).builtin_signatures().unwrap();
    let detector = Detector::builder()
        .engine(engine.compile().unwrap())
        .build()
        .unwrap();
    let health = Arc::new(Health::new(Limits {
        poll_loop: Duration::from_secs(5),
        worker: Duration::from_secs(60),
    }));
    let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
    let desk = Arc::new(Desk {
        instance: config.ops.instance.clone(),
        is_replay: false,
        cluster: cluster.bootstrap_servers(),
        topic: config.kafka.input_topic.clone(),
        parser: Parser::default(),
        max_message_bytes: config.scan.max_message_bytes,
        retries: config.scan.retries,
        emit: config.kafka.emit,
        result_key: config.kafka.result_key,
        guard: None,
        wrong: WrongReports::new(None, Arc::clone(&metrics)),
        circuit: Circuit::new(Arc::clone(&health)),
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
    });
    let (answered, answers) = bounded(2);
    let (to_egress, commands) = bounded(1024);
    let pool = Pool::<ScanBatch>::builder(DetectorSlot::new(detector))
        .start(answered)
        .unwrap();
    let is_through = Arc::new(AtomicBool::new(false));
    let bell = Arc::new(Bell::default());
    let egress = Egress::new(
        &config.kafka,
        &config.ops.instance,
        Arc::clone(&bell),
        Arc::clone(&metrics),
        Arc::clone(&health),
    )
    .unwrap();
    let (alive, lifeline) = bounded::<()>(0);
    let egress = thread::spawn(move || {
        let _alive = alive;
        egress.run(&commands, &answers).unwrap();
    });
    let shutdown = Shutdown::new();
    let wiring = Wiring {
        scanning: SlowScanning {
            pool: PoolScanning {
                pool: Arc::new(pool),
                desk,
            },
            is_through: Arc::clone(&is_through),
        },
        commands: to_egress.clone(),
        lifeline,
        budget: Arc::new(Budget::default()),
        bell,
        min_in_flight: 1_000,
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        shutdown: shutdown.clone(),
    };
    let thread = thread::spawn(move || {
        let left = PollLoop::new(&config.kafka, wiring, Reading::Group)
            .unwrap()
            .run()
            .unwrap();
        to_egress.send(Command::Stop).unwrap();
        egress.join().unwrap();
        left
    });
    Service {
        metrics,
        health,
        is_through,
        shutdown,
        thread,
        _tmp: tmp,
    }
}

impl Service {
    fn rebalances(&self) -> [u64; 3] {
        ["assign", "revoke", "lost"].map(|kind| {
            self.metrics
                .rebalances
                .get_or_create(&KindLabel { kind })
                .get()
        })
    }

    fn answered(&self) -> u64 {
        use scanner_bin::ops::metrics::ResultLabel;
        self.metrics
            .results_produced
            .get_or_create(&ResultLabel { result: "clean" })
            .get()
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
    let service = start(config, &cluster);
    wait_for("all partitions", || {
        service.metrics.assigned_partitions.get() == 3
    });
    let before = service.rebalances();

    let (mut sent, mut slowest) = (0, Duration::ZERO);
    while !service.is_through.load(Ordering::Acquire) {
        produce(&cluster, [text(1, "one"), text(2, "two")]);
        sent += 2;
        let since = Instant::now();
        while service.answered() < sent && !service.is_through.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(5));
        }
        slowest = slowest.max(since.elapsed());
        assert!(
            service.health.answer(Probe::Live).failures().is_empty(),
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
    assert_eq!(service.rebalances(), before, "no partition went away");
    let mut sources: Vec<_> = results.iter().map(Received::source).collect();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), results.len(), "answered twice");
    assert_eq!(sources[0], (SLOW_PARTITION.into(), 0));
    service.shutdown.request();
    let left = service.thread.join().unwrap();
    assert_eq!(
        left,
        Left {
            abandoned: 0,
            committed: true
        }
    );
    assert_eq!(committed(&cluster, 1), [Some(1)]);
}
