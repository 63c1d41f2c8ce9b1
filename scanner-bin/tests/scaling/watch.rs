//! How much waits on the topic, looked at every second.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::report::Sample;
use crate::support::scene::Scene;

const EVERY: Duration = Duration::from_secs(1);

/// Looks at a scene.
pub struct Watch<'s> {
    scene: &'s Scene<'s>,
    replicas: AtomicUsize,
    started: Instant,
}

impl<'s> Watch<'s> {
    pub fn new(scene: &'s Scene<'s>) -> Self {
        Self {
            scene,
            replicas: AtomicUsize::new(0),
            started: Instant::now(),
        }
    }

    /// So many there are from now on.
    pub fn set_replicas(&self, replicas: usize) {
        self.replicas.store(replicas, Ordering::Relaxed);
    }

    /// Once every second until it is finished.
    pub fn look(&self, finished: &AtomicBool) -> Vec<Sample> {
        let mut samples = Vec::new();
        while !finished.load(Ordering::Relaxed) {
            let second = self.started.elapsed().as_secs_f64();
            let replicas = self.replicas.load(Ordering::Relaxed);
            let sum = |topic| self.scene.broker.ends(topic).values().sum::<i64>();
            // In this order, so that what is committed meanwhile does not make less than nothing wait.
            let committed: i64 = self.scene.committed().values().sum();
            let results = sum(&self.scene.output);
            samples.push(Sample {
                second,
                replicas,
                lag: sum(&self.scene.input) - committed,
                results,
            });
            std::thread::sleep(EVERY);
        }
        samples
    }
}
