//! What the group does to us, and how it is answered.
//!
//! librdkafka calls [`GroupContext::rebalance`] from inside a poll. Draining there would hold the poll
//! loop up, so the event is only recorded; the loop answers it when the partitions that go are drained
//! and committed. Two rules follow. librdkafka delivers nothing at all until the answer is given, so
//! drains are short. And a consumer that is closed while an event waits for its answer hangs for
//! ever, so [`GroupContext::close`] makes the handler answer at once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::client;
use super::unreadable;
use crate::metrics::Metrics;

/// What happened to our partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// They are ours now.
    Assign,
    /// They go to another member, which waits for us to let go.
    Revoke,
    /// They may have another owner already.
    Lost,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Assign => "assign",
            Kind::Revoke => "revoke",
            Kind::Lost => "lost",
        }
    }
}

/// A rebalance that waits for its answer.
#[derive(Debug)]
pub(super) struct Event {
    pub kind: Kind,
    pub list: TopicPartitionList,
}

impl Event {
    /// The partitions concerned.
    pub(super) fn partitions(&self) -> Vec<i32> {
        self.list
            .elements()
            .iter()
            .map(|element| element.partition())
            .collect()
    }

    /// Tells librdkafka that we have made ready for it.
    pub(super) fn answer(&self, consumer: &BaseConsumer<GroupContext>) -> KafkaResult<()> {
        match (consumer.rebalance_protocol(), self.kind) {
            (RebalanceProtocol::Cooperative, Kind::Assign) => {
                consumer.incremental_assign(&self.list)
            }
            (RebalanceProtocol::Cooperative, _) => consumer.incremental_unassign(&self.list),
            (_, Kind::Assign) => consumer.assign(&self.list),
            (_, _) => consumer.unassign(),
        }
    }
}

/// Where the client is in a partition, from its statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    /// Offset after the last record that may be read; negative if unknown.
    pub end: i64,
    /// Offset of the first record that is still there; negative if unknown.
    pub start: i64,
    /// Offset of the next record that will be handed over; negative if unknown.
    pub next: i64,
}

/// Mailbox between librdkafka's callbacks, which run inside polls, and the poll loop. Both are the
/// same thread; the locks are for the type system.
pub(super) struct GroupContext {
    topic: String,
    /// Events that were served inside polls.
    served: AtomicU64,
    closing: AtomicBool,
    events: Mutex<VecDeque<Event>>,
    ends: Mutex<HashMap<i32, Ends>>,
    /// Offset of the end that a poll has just met; negative if unknown.
    end_met: AtomicI64,
    /// Offset that the last error named; negative if it named none.
    error_at: AtomicI64,
    /// Records that arrived, by the last statistics.
    received: Mutex<HashMap<i32, u64>>,
    errors: client::Errors,
    metrics: Arc<Metrics>,
}

impl GroupContext {
    pub(super) fn new(topic: &str, errors: client::Errors, metrics: Arc<Metrics>) -> GroupContext {
        GroupContext {
            topic: topic.to_owned(),
            served: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            events: Mutex::default(),
            ends: Mutex::default(),
            end_met: AtomicI64::new(-1),
            error_at: AtomicI64::new(-1),
            received: Mutex::default(),
            errors,
            metrics,
        }
    }

    /// Grows with every event that a poll serves. To its caller such a poll looks like one of an empty
    /// queue.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn serve(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn next_event(&self) -> Option<Event> {
        lock(&self.events).pop_front()
    }

    pub(super) fn ends(&self, partition: i32) -> Option<Ends> {
        lock(&self.ends).get(&partition).copied()
    }

    /// Where the partition ends whose end the last poll has met.
    pub(super) fn end_met(&self) -> Option<i64> {
        Some(self.end_met.swap(-1, Ordering::Relaxed)).filter(|end| *end >= 0)
    }

    /// The offset that the error named which a poll has just returned.
    pub(super) fn error_at(&self) -> Option<i64> {
        Some(self.error_at.swap(-1, Ordering::Relaxed)).filter(|offset| *offset >= 0)
    }

    /// From now on rebalances are answered where they happen. Answers those that wait.
    pub(super) fn close(&self, consumer: &BaseConsumer<GroupContext>) {
        self.closing.store(true, Ordering::Release);
        while let Some(event) = self.next_event() {
            report(event.answer(consumer));
        }
    }
}

/// The offset in librdkafka's words for the end of a partition. rdkafka passes on nothing else that holds it; without it, offsets behind
/// the last record are not committed.
fn offset_in(reason: &str) -> Option<i64> {
    let (_, after) = reason.split_once("end of partition at offset ")?;
    after.split([' ', ',', ')']).next()?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report(answer: KafkaResult<()>) {
    if let Err(error) = answer {
        tracing::warn!(error = %error, "a rebalance could not be answered while the consumer closes");
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.serve();
        client::log("consumer", level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.serve();
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            let end = offset_in(reason).unwrap_or(-1);
            self.end_met.store(end, Ordering::Relaxed);
            return;
        }
        let offset = unreadable::offset_in(reason).unwrap_or(-1);
        self.error_at.store(offset, Ordering::Relaxed);
        self.errors.note("consumer", &error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.serve();
        let Some(topic) = statistics.topics.get(&self.topic) else {
            return;
        };
        let mut received = lock(&self.received);
        for p in topic.partitions.values() {
            let before = received.insert(p.partition, p.rxmsgs).unwrap_or_default();
            let more = p.rxmsgs.saturating_sub(before);
            self.metrics.messages_fetched.inc_by(more);
        }
        let mut ends = lock(&self.ends);
        ends.clear();
        ends.extend(topic.partitions.values().map(|p| {
            // With the default isolation a reader stops at the last stable offset.
            (
                p.partition,
                Ends {
                    end: p.ls_offset,
                    start: p.lo_offset,
                    next: p.next_offset - p.fetchq_cnt,
                },
            )
        }));
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.serve();
        let kind = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Kind::Assign,
            _ if consumer.assignment_lost() => Kind::Lost,
            _ => Kind::Revoke,
        };
        let event = Event {
            kind,
            list: list.clone(),
        };
        if self.closing.load(Ordering::Acquire) {
            report(event.answer(consumer));
        } else {
            lock(&self.events).push_back(event);
        }
    }
}
