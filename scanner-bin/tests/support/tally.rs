//! One pass over all results: which records they answer, when the broker had them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use rdkafka::Message;
use serde::Deserialize;

use super::scene::Scene;

/// Milliseconds since 1970.
pub type Millis = i64;

/// What is needed of a result.
#[derive(Deserialize)]
struct Result {
    kafka: Origin,
}

/// Which record a result is of, and the record's time.
#[derive(Deserialize)]
pub struct Origin {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<Millis>,
}

/// What the results say.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often each record was answered, by partition and offset.
    times: BTreeMap<i32, Vec<u8>>,
    /// When results of each partition came, in order, each moment once.
    arrivals: BTreeMap<i32, Vec<Millis>>,
    /// Record time, and time until the broker had the result.
    latencies: Vec<(Millis, Millis)>,
}

impl Tally {
    /// Of everything on the output topic, whose times are the broker's.
    pub fn of(scene: &Scene<'_>) -> Self {
        let mut tally = Self::default();
        scene.broker.read_each(&scene.output, |message| {
            let payload = message.payload().expect("a result without a value");
            let result: Result = serde_json::from_slice(payload).expect("the value is no result");
            let arrived = message
                .timestamp()
                .to_millis()
                .expect("a result without a time");
            tally.add(&result.kafka, arrived);
        });
        // Results of a partition stand in several partitions of the topic, where nobody gave them a key.
        for moments in tally.arrivals.values_mut() {
            moments.sort_unstable();
            moments.dedup();
        }
        tally
    }

    /// A result, which the broker has had since then.
    pub fn add(&mut self, origin: &Origin, arrived: Millis) {
        let times = self.times.entry(origin.partition).or_default();
        let offset = usize::try_from(origin.offset).unwrap();
        if times.len() <= offset {
            times.resize(offset + 1, 0);
        }
        times[offset] = times[offset].saturating_add(1);
        if let Some(recorded) = origin.timestamp {
            self.latencies.push((recorded, arrived - recorded));
        }
        let moments = self.arrivals.entry(origin.partition).or_default();
        if moments.last() != Some(&arrived) {
            moments.push(arrived);
        }
    }

    /// Of the records up to these ends: how many have no result, and how many have more than one, by partition.
    pub fn count(&self, ends: &BTreeMap<i32, i64>) -> (u64, BTreeMap<i32, u64>) {
        let (mut lost, mut twice) = (0, BTreeMap::new());
        for (partition, end) in ends {
            let times = self.times.get(partition).map_or(&[][..], Vec::as_slice);
            let end = usize::try_from(*end).unwrap();
            assert!(
                times.len() <= end,
                "partition {partition}: results of no record"
            );
            let answered = times.iter().filter(|times| **times > 0).count();
            lost += (end - answered) as u64;
            twice.insert(
                *partition,
                times.iter().filter(|times| **times > 1).count() as u64,
            );
        }
        (lost, twice)
    }

    /// The same, with the answered more than once told apart: of these partitions, and of others.
    pub fn count_apart(&self, ends: &BTreeMap<i32, i64>, these: &BTreeSet<i32>) -> (u64, u64, u64) {
        let (lost, twice) = self.count(ends);
        let of = |wanted: bool| {
            let those = twice.iter().filter(|(id, _)| these.contains(id) == wanted);
            those.map(|(_, times)| times).sum()
        };
        (lost, of(true), of(false))
    }

    /// The longest time without a result of a partition; what was under way at the beginning counts from there on.
    pub fn longest_gap(&self, partition: i32, span: &RangeInclusive<Millis>) -> Millis {
        let moments = self.arrivals.get(&partition).map_or(&[][..], Vec::as_slice);
        let within = moments
            .iter()
            .copied()
            .filter(|moment| span.contains(moment));
        let all: Vec<_> = std::iter::once(*span.start())
            .chain(within)
            .chain([*span.end()])
            .collect();
        all.windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default()
    }

    /// Times from record to acknowledgement of the records of this time, sorted.
    pub fn latencies(&self, recorded: &RangeInclusive<Millis>) -> Vec<Millis> {
        let mut found: Vec<_> = self
            .latencies
            .iter()
            .filter(|(time, _)| recorded.contains(time))
            .map(|(_, latency)| *latency)
            .collect();
        found.sort_unstable();
        found
    }
}

/// The value that this share of a sorted list does not exceed.
pub fn quantile(sorted: &[Millis], share: f64) -> Millis {
    assert!(!sorted.is_empty(), "no records of that time");
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
