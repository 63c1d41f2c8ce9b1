//! The service's threads in this process, with other workers in the middle than those of the service.

// Each test program compiles this module by itself and uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use scan_pipeline::Scanning;
use scan_pipeline::answers::Answers;
use scan_pipeline::consumer::{CrashNotes, Left, PollLoop, Wiring};
use scan_pipeline::egress::{Command, Egress};
use scan_pipeline::flow::Budget;
use scan_pipeline::membership::Bell;
use scan_pipeline::replay::Reading;
use scanner_bin::config::Config;
use scanner_bin::ops::health::{Health, Limits};
use scanner_bin::ops::metrics::{KindLabel, Metrics, ResultLabel};
use scanner_bin::shutdown::Shutdown;

/// What others see of the service.
#[derive(Clone)]
pub struct Seen {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
}

impl Seen {
    pub fn new() -> Self {
        let health = Arc::new(Health::new(Limits {
            poll_loop: Duration::from_secs(5),
            worker: Duration::from_secs(60),
        }));
        let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
        Self { health, metrics }
    }

    /// Clean results that the broker has acknowledged.
    pub fn answered(&self) -> u64 {
        let clean = ResultLabel { result: "clean" };
        self.metrics.results_produced.get_or_create(&clean).get()
    }

    /// How often partitions came, went, and were lost.
    pub fn rebalances(&self) -> [u64; 3] {
        let count = |kind| {
            self.metrics
                .rebalances
                .get_or_create(&KindLabel { kind })
                .get()
        };
        ["assign", "revoke", "lost"].map(count)
    }
}

/// The poll thread and the egress thread.
pub struct Threads {
    shutdown: Shutdown,
    poll: JoinHandle<Left>,
}

impl Threads {
    /// `scanning` takes batches; what it makes of them comes by `answers`, up to so many records at a time.
    pub fn start<S: Scanning + Send + 'static>(
        config: &Config,
        seen: &Seen,
        scanning: S,
        answers: Receiver<Answers>,
        in_flight: u64,
    ) -> Self {
        let (health, metrics) = (&seen.health, &seen.metrics);
        let (to_egress, commands) = bounded(1024);
        let (alive, lifeline) = bounded::<()>(0);
        let bell = Arc::new(Bell::default());
        let egress = Egress::new(
            &config.kafka,
            &config.ops.instance,
            Arc::clone(&bell),
            Arc::clone(metrics),
            Arc::clone(health),
        );
        let egress = egress.unwrap();
        let egress = std::thread::spawn(move || {
            let _alive = alive;
            egress.run(&commands, &answers).unwrap();
        });
        let shutdown = Shutdown::new();
        let wiring = Wiring {
            scanning,
            commands: to_egress.clone(),
            lifeline,
            budget: Arc::new(Budget::default()),
            bell,
            min_in_flight: in_flight,
            left: CrashNotes::default(),
            metrics: Arc::clone(metrics),
            health: Arc::clone(health),
            shutdown: shutdown.clone(),
        };
        let kafka = config.kafka.clone();
        let poll = std::thread::spawn(move || {
            let poll = PollLoop::new(&kafka, wiring, Reading::Group).unwrap();
            let left = poll.run().unwrap();
            to_egress.send(Command::Stop).unwrap();
            egress.join().unwrap();
            left
        });
        Self { shutdown, poll }
    }

    /// Stop in order.
    pub fn stop(self) -> Left {
        self.shutdown.request();
        self.poll.join().unwrap()
    }
}
