//! Which part of a topic is read again: from where to where in each partition.
//!
//! The ends are fixed before the first record is read, so a replay of a topic that is being written to
//! comes to an end.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::{self, Role};
use crate::config::KafkaConfig;

/// How long one question to the brokers may take.
const ASK: Duration = Duration::from_secs(10);

/// A place in every partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The first record that is still there.
    Beginning,
    /// Behind the last record that is there when the replay begins.
    End,
    /// This offset.
    Offset(i64),
    /// The first record with this timestamp, in milliseconds since 1970, or a later one.
    Time(i64),
    /// Where the last replay of the group had come to; the beginning where there was none.
    Committed,
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Point, String> {
        match text {
            "beginning" => return Ok(Point::Beginning),
            "end" => return Ok(Point::End),
            "committed" => return Ok(Point::Committed),
            _ => {}
        }
        if let Ok(offset) = text.parse::<i64>() {
            return match offset >= 0 {
                true => Ok(Point::Offset(offset)),
                false => Err("an offset is not negative".to_owned()),
            };
        }
        match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(time) => i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000))
                .map(Point::Time)
                .map_err(|_| "no such time".to_owned()),
            Err(_) => Err(
                "write beginning, end, committed, an offset, or a time such as 2026-03-01T00:00:00Z"
                    .to_owned(),
            ),
        }
    }
}

/// A part of one partition, and how far it has been read.
#[derive(Clone, Debug)]
pub struct Span {
    /// Of the input topic.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset behind the last.
    pub to: i64,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    records: AtomicU64,
    is_through: AtomicBool,
}

impl Span {
    /// Nothing of it has been read.
    pub fn new(partition: i32, from: i64, to: i64) -> Span {
        Span {
            partition,
            from,
            to,
            progress: Arc::default(),
        }
    }

    /// Records that were read.
    pub fn records(&self) -> u64 {
        self.progress.records.load(Ordering::Relaxed)
    }

    /// Whether everything in it was read.
    pub fn is_through(&self) -> bool {
        self.progress.is_through.load(Ordering::Relaxed)
    }

    pub(super) fn took_one(&self) {
        self.progress.records.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.progress.is_through.store(true, Ordering::Relaxed);
    }
}

/// Why no plan could be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The brokers could not be asked.
    #[error("the brokers {brokers} cannot be asked about topic {topic}: {error}")]
    Ask {
        /// Whom.
        brokers: String,
        /// About what.
        topic: String,
        /// What the client said.
        #[source]
        error: Box<KafkaError>,
    },
    /// The topic has no partitions.
    #[error("topic {0} does not exist")]
    NoTopic(String),
}

/// Looks up where the points lie. Partitions without a record between them are in the plan, and through.
///
/// # Errors
/// The brokers do not answer, or there is no such topic.
pub fn plan(config: &KafkaConfig, from: Point, to: Point) -> Result<Vec<Span>, PlanError> {
    let failed = |error| PlanError::Ask {
        brokers: config.brokers.clone(),
        topic: config.input_topic.clone(),
        error: Box::new(error),
    };
    let mut settings = client::config(config, Role::Consumer);
    settings
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = settings.create().map_err(failed)?;
    let topic = config.input_topic.as_str();
    let metadata = consumer.fetch_metadata(Some(topic), ASK).map_err(failed)?;
    let found = metadata.topics().first().map(|topic| topic.partitions());
    let ids: Vec<i32> = found.into_iter().flatten().map(|p| p.id()).collect();
    if ids.is_empty() {
        return Err(PlanError::NoTopic(topic.to_owned()));
    }
    let asking = Asking {
        consumer: &consumer,
        topic,
        ids: &ids,
    };
    let (from, to) = (
        asking.offsets(from).map_err(failed)?,
        asking.offsets(to).map_err(failed)?,
    );
    let mut spans = Vec::with_capacity(ids.len());
    for (at, id) in ids.iter().enumerate() {
        let (low, high) = consumer.fetch_watermarks(topic, *id, ASK).map_err(failed)?;
        let place = |place: Option<&Place>| match place {
            Some(Place::At(offset)) => (*offset).clamp(low, high),
            Some(Place::Low) => low,
            Some(Place::High) | None => high,
        };
        let (from, to) = (place(from.get(at)), place(to.get(at)));
        let span = Span::new(*id, from, to.max(from));
        if from >= to {
            span.end();
        }
        spans.push(span);
    }
    Ok(spans)
}

/// Where a point lies in one partition.
#[derive(Clone, Copy, Debug)]
enum Place {
    Low,
    High,
    At(i64),
}

struct Asking<'a> {
    consumer: &'a BaseConsumer,
    topic: &'a str,
    ids: &'a [i32],
}

impl Asking<'_> {
    fn offsets(&self, point: Point) -> Result<Vec<Place>, KafkaError> {
        let all = |place| vec![place; self.ids.len()];
        let mut list = TopicPartitionList::with_capacity(self.ids.len());
        for id in self.ids {
            let offset = match point {
                Point::Time(ms) => Offset::Offset(ms),
                _ => Offset::Invalid,
            };
            list.add_partition_offset(self.topic, *id, offset)?;
        }
        let (found, otherwise) = match point {
            Point::Beginning => return Ok(all(Place::Low)),
            Point::End => return Ok(all(Place::High)),
            Point::Offset(offset) => return Ok(all(Place::At(offset))),
            Point::Time(_) => (self.consumer.offsets_for_times(list, ASK)?, Place::High),
            Point::Committed => (self.consumer.committed_offsets(list, ASK)?, Place::Low),
        };
        let mut places = Vec::with_capacity(self.ids.len());
        for id in self.ids {
            let element = found.find_partition(self.topic, *id);
            places.push(match element {
                Some(element) => {
                    element.error()?;
                    match element.offset() {
                        Offset::Offset(offset) => Place::At(offset),
                        _ => otherwise,
                    }
                }
                None => otherwise,
            });
        }
        Ok(places)
    }
}

/// What the poll thread reads.
#[derive(Clone, Debug)]
pub enum Reading {
    /// What the group gives it, until a stop is requested.
    Group,
    /// These parts, and then it stops.
    Spans(Vec<Span>),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Beginning => f.write_str("beginning"),
            Point::End => f.write_str("end"),
            Point::Committed => f.write_str("committed"),
            Point::Offset(offset) => write!(f, "{offset}"),
            Point::Time(ms) => match crate::times::rfc3339_from_millis(*ms) {
                Some(time) => f.write_str(&time),
                None => write!(f, "{ms} ms"),
            },
        }
    }
}
