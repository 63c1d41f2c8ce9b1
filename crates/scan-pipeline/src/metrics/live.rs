//! Gauges whose value is worked out when they are scraped.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use scanlib::prefilter::Prefilter;

use crate::heartbeat::Heartbeat;

/// Time since a heartbeat.
#[derive(Clone, Debug)]
pub struct Age(Arc<Heartbeat>);

impl Age {
    /// The age of this heartbeat.
    pub fn of(heartbeat: Arc<Heartbeat>) -> Age {
        Age(heartbeat)
    }
}

impl TypedMetric for Age {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Age {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&self.0.age().unwrap_or_default().as_secs_f64())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// 1 while the prefilter in use clears messages. It may end by itself at any time.
#[derive(Clone, Debug, Default)]
pub struct Enabled(Arc<Mutex<Option<Prefilter>>>);

impl Enabled {
    /// From now on it is about this one.
    pub fn watch(&self, prefilter: &Prefilter) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(prefilter.clone());
    }

    fn is_on(&self) -> bool {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.as_ref().is_some_and(|one| one.off().is_none())
    }
}

impl TypedMetric for Enabled {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Enabled {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&i64::from(self.is_on()))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Whole seconds over which a rate is taken.
const WINDOW_SECONDS: usize = 10;

/// Events in each second, mean of the last whole 10 s.
#[derive(Clone, Debug)]
pub struct Rate(Arc<Mutex<Window>>);

#[derive(Debug)]
struct Window {
    start: Instant,
    /// `(second since start, events in it)`, at the place of the second modulo the length: the whole
    /// seconds of the window and the current one.
    seconds: [(u64, u64); WINDOW_SECONDS + 1],
}

impl Default for Rate {
    fn default() -> Rate {
        Rate(Arc::new(Mutex::new(Window {
            start: Instant::now(),
            seconds: [(0, 0); WINDOW_SECONDS + 1],
        })))
    }
}

impl Rate {
    /// Counts events that happened now; best called once for a batch.
    pub fn add(&self, events: u64) {
        self.with(|window| window.add(events, window.start.elapsed()));
    }

    /// Events in each second.
    pub fn per_second(&self) -> f64 {
        self.with(|window| window.per_second(window.start.elapsed()))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Window) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Window {
    fn add(&mut self, events: u64, at: Duration) {
        let second = at.as_secs();
        let slot = &mut self.seconds[(second % (WINDOW_SECONDS as u64 + 1)) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 = slot.1.saturating_add(events);
    }

    fn per_second(&self, at: Duration) -> f64 {
        let now = at.as_secs();
        let oldest = now.saturating_sub(WINDOW_SECONDS as u64);
        let events: u64 = self
            .seconds
            .iter()
            .filter(|(s, _)| (oldest..now).contains(s))
            .map(|(_, n)| n)
            .sum();
        // A process younger than the window is measured over its own age.
        match now - oldest {
            0 => 0.0,
            seconds => events as f64 / seconds as f64,
        }
    }
}

impl TypedMetric for Rate {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Rate {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&self.per_second())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a twin that keeps every event.
        #[test]
        fn the_rate_is_the_mean_of_the_last_ten_whole_seconds(
            mut events in proptest::collection::vec((0u64..40_000, 1u64..100), 0..60),
            after in 0u64..30_000,
        ) {
            events.sort_unstable();
            let rate = Rate::default();
            rate.with(|window| {
                for (at, n) in &events {
                    window.add(*n, Duration::from_millis(*at));
                }
                let now = events.last().map_or(0, |(at, _)| *at) + after;
                let end = now / 1000;
                let start = end.saturating_sub(10);
                let counted: u64 =
                    events.iter().filter(|(at, _)| (start..end).contains(&(at / 1000))).map(|(_, n)| n).sum();
                let expected = if end == start { 0.0 } else { counted as f64 / (end - start) as f64 };
                prop_assert_eq!(window.per_second(Duration::from_millis(now)), expected);
                Ok(())
            })?;
        }
    }
}
