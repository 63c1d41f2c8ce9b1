//! What waits and what was answered, looked at every second; and when what happened.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::report::{Event, Sample};
use crate::support::announce;
use crate::support::scene::Scene;

/// Looks at the topics of a scene.
pub struct Watch<'s> {
    scene: &'s Scene<'s>,
    started: Instant,
    samples: Mutex<Vec<Sample>>,
    events: Mutex<Vec<Event>>,
}

impl<'s> Watch<'s> {
    pub fn new(scene: &'s Scene<'s>) -> Self {
        Self {
            scene,
            started: Instant::now(),
            samples: Mutex::default(),
            events: Mutex::default(),
        }
    }

    pub fn second(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Something happened.
    pub fn event(&self, what: &str) {
        let second = self.second();
        announce!("k8s-demo: {second:.0} s: {what}");
        let what = what.to_owned();
        self.events.lock().unwrap().push(Event { second, what });
    }

    /// As it is now. What is committed is asked first, so that never less than nothing waits.
    pub fn look(&self) -> Sample {
        let committed: i64 = self.scene.committed().values().sum();
        let second = self.second();
        let sum = |topic| self.scene.broker.ends(topic).values().sum::<i64>();
        Sample {
            second,
            lag: sum(&self.scene.input) - committed,
            results: sum(&self.scene.output),
        }
    }

    /// Looks once every second until it is finished.
    pub fn keep_looking(&self, finished: &AtomicBool) {
        while !finished.load(Ordering::Relaxed) {
            let sample = self.look();
            self.samples.lock().unwrap().push(sample);
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// The fewest records that waited since then.
    pub fn least_lag(&self, since: f64) -> i64 {
        let samples = self.samples.lock().unwrap();
        let of_then = samples.iter().filter(|sample| sample.second >= since);
        of_then.map(|sample| sample.lag).min().unwrap_or_default()
    }

    pub fn into_parts(self) -> (Vec<Sample>, Vec<Event>) {
        (
            self.samples.into_inner().unwrap(),
            self.events.into_inner().unwrap(),
        )
    }
}
