//! One owned partition as the poll thread sees it: its queue, the batch being filled, its offsets.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;

use super::batch::{Batch, BatchBuilder};
use super::dead_letter::DeadLetter;
use super::flow::Flow;
use super::rebalance::{Ends, GroupContext};
use super::replay::Span;
use super::skew;
use super::unreadable;
use super::{Refused, Scanning};
use crate::metrics::PartitionMetrics;

/// Records taken from one partition before the next one's turn.
const TURN: usize = 64;

pub(super) struct Partition {
    pub flow: Arc<Flow>,
    queue: PartitionQueue<GroupContext>,
    building: BatchBuilder,
    /// Closed batches that no worker took yet. They have their numbers.
    ready: VecDeque<Batch>,
    next_seq: u64,
    /// Offset after the last record that was taken.
    position: Option<i64>,
    pub committed: Option<i64>,
    /// Offset of the last commit that was asked for at the end of the lease.
    pub tried: Option<i64>,
    last_watermark: Option<i64>,
    watermark_moved: Instant,
    metrics: PartitionMetrics,
    /// What is to be read of it; `None` for all that comes.
    span: Option<Span>,
    /// Records that are scanned one at a time, each committed before the next.
    careful: Option<RangeInclusive<i64>>,
    /// The offset that is committed once everything that was handed over is.
    handed_over: Option<i64>,
    /// The end was met: there is nothing to fetch at the offset from which it began.
    pub met_end: bool,
    /// Set while a batch cannot be read: nothing is taken.
    pub stuck: Option<Stuck>,
    /// Set while fetching fails otherwise.
    pub failing: Option<Failing>,
}

/// A batch that cannot be read.
#[derive(Debug)]
pub(super) struct Stuck {
    /// The first offset that is wanted, if it is known.
    pub offset: Option<i64>,
    /// The offset of the batch, if the error names it.
    pub base: Option<i64>,
    pub why: String,
    pub since: Instant,
    /// How often it was looked at, and could not be read.
    pub times: u32,
    pub next_look: Instant,
    pub is_asked: bool,
    /// The partition was paused.
    pub is_paused: bool,
    /// Readiness, log and metrics tell of it.
    pub is_reported: bool,
    /// Ends of the process in a row that are laid to it; 0 if an error is.
    pub ends: u32,
}

impl Stuck {
    pub(super) fn new(offset: Option<i64>, why: String) -> Stuck {
        let now = Instant::now();
        Stuck {
            offset,
            base: None,
            why,
            since: now,
            times: 0,
            next_look: now,
            is_asked: false,
            is_paused: false,
            is_reported: false,
            ends: 0,
        }
    }

    /// Of an offset at which the last processes ended; it is not fetched.
    pub(super) fn suspected(offset: Option<i64>, ends: u32) -> Stuck {
        let why = format!(
            "the last {ends} processes ended while they fetched from this offset: a batch there may decompress to more than memory allows"
        );
        Stuck {
            ends,
            ..Stuck::new(offset, why)
        }
    }
}

/// Errors of a partition that are not about what it holds.
#[derive(Debug)]
pub(super) struct Failing {
    pub error: KafkaError,
    pub since: Instant,
    pub times: u32,
}

/// What a turn came to.
pub(super) struct Turn {
    pub records: u64,
    /// A batch waits because the workers have enough to do.
    pub is_full: bool,
    /// Nothing was taken because enough is in flight.
    pub is_throttled: bool,
    pub error: Option<KafkaError>,
}

impl Partition {
    pub(super) fn new(
        flow: Arc<Flow>,
        queue: PartitionQueue<GroupContext>,
        metrics: PartitionMetrics,
        span: Option<Span>,
        careful: Option<RangeInclusive<i64>>,
    ) -> Partition {
        Partition {
            flow,
            queue,
            building: BatchBuilder::default(),
            ready: VecDeque::new(),
            next_seq: 0,
            position: None,
            committed: None,
            tried: None,
            last_watermark: None,
            watermark_moved: Instant::now(),
            metrics,
            span,
            careful,
            handed_over: None,
            met_end: false,
            stuck: None,
            failing: None,
        }
    }

    /// Offset after the last record that was taken; before the first one the committed offset, if it is known.
    pub(super) fn position(&self) -> Option<i64> {
        self.position.or(self.committed)
    }

    /// True if everything that is to be read of it has been handed over.
    pub(super) fn is_through(&self) -> bool {
        self.has_ended() && self.ready.is_empty() && self.building.is_empty()
    }

    fn has_ended(&self) -> bool {
        self.span.as_ref().is_some_and(Span::is_through)
    }

    /// Hands closed batches over, then takes a few records if `may_take` still allows it. `end_met` knows where the end is that a poll
    /// has just met, `error_at` the same of an error; `watch` gets to see the keys.
    pub(super) fn turn(
        &mut self,
        scanning: &impl Scanning,
        may_take: impl FnOnce(&Flow) -> bool,
        end_met: impl Fn() -> Option<i64>,
        error_at: impl Fn() -> Option<i64>,
        watch: &mut skew::Watch,
    ) -> Turn {
        let mut turn = Turn {
            records: 0,
            is_full: false,
            is_throttled: false,
            error: None,
        };
        if !self.submit(scanning) {
            turn.is_full = !self.must_wait();
            turn.is_throttled = !turn.is_full;
            return turn;
        }
        if self.has_ended() || self.stuck.is_some() {
            return turn;
        }
        if !may_take(&self.flow) {
            turn.is_throttled = true;
            return turn;
        }
        let mut is_dry = false;
        for _ in 0..TURN {
            match self.queue.poll(Duration::ZERO) {
                Some(Ok(message))
                    if self.span.as_ref().is_some_and(|s| message.offset() >= s.to) =>
                {
                    self.span.iter().for_each(Span::end);
                    is_dry = true;
                    break;
                }
                Some(Ok(message)) => {
                    self.failing = None;
                    let alone = is_alone(self.careful.as_ref(), &message);
                    add(
                        &mut self.building,
                        &mut self.ready,
                        &mut self.next_seq,
                        &self.flow,
                        &message,
                        alone,
                    );
                    let (partition, offset) = (message.partition(), message.offset());
                    watch.record(message.key(), skew::Place { partition, offset });
                    self.position = Some(offset + 1);
                    self.metrics.messages_consumed.inc();
                    self.metrics
                        .bytes_consumed
                        .inc_by(message.payload_len() as u64);
                    turn.records += 1;
                    if let Some(span) = &self.span {
                        span.took_one();
                        if message.offset() + 1 >= span.to {
                            span.end();
                            is_dry = true;
                            break;
                        }
                    }
                }
                // What is missing before the end of a span is no record.
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.failing = None;
                    self.met_end = true;
                    self.span.iter().for_each(Span::end);
                    // Everything before it has been taken: the queue is in order.
                    if let Some(end) = end_met() {
                        self.pass_gap(end);
                    }
                    is_dry = true;
                    break;
                }
                Some(Err(error)) => {
                    is_dry = self.failed(&error, error_at());
                    turn.error = Some(error);
                    break;
                }
                None => {
                    is_dry = true;
                    break;
                }
            }
            if !self.ready.is_empty() {
                break;
            }
        }
        // Under load a batch fills over several turns; when nothing more waits it goes as it is.
        if is_dry {
            self.close_batch();
        }
        turn.is_full = !self.submit(scanning) && !self.must_wait();
        turn
    }

    /// Notes an error of this partition. True if nothing more is taken: what follows a batch that cannot be read must not pass it.
    fn failed(&mut self, error: &KafkaError, base: Option<i64>) -> bool {
        if error
            .rdkafka_error_code()
            .is_some_and(unreadable::is_unreadable)
        {
            let start = self.span.as_ref().map(|span| span.from);
            self.stuck = Some(Stuck {
                base,
                ..Stuck::new(self.position.or(start), error.to_string())
            });
            return true;
        }
        let failing = self.failing.get_or_insert_with(|| Failing {
            error: error.clone(),
            since: Instant::now(),
            times: 0,
        });
        failing.error = error.clone();
        failing.times = failing.times.saturating_add(1);
        false
    }

    /// Passes over records that cannot be read, up to `next`; the dead letter tells of them.
    pub(super) fn skip(&mut self, next: i64, letter: DeadLetter) {
        self.close_batch();
        self.position = Some(next);
        self.ready
            .push_back(Batch::skipped(&self.flow, self.next_seq, next, letter));
        self.next_seq += 1;
        if let Some(span) = self.span.as_ref().filter(|span| next >= span.to) {
            span.end();
        }
    }

    /// Takes a record that came by the main queue.
    pub(super) fn take(&mut self, message: &BorrowedMessage<'_>) {
        add(
            &mut self.building,
            &mut self.ready,
            &mut self.next_seq,
            &self.flow,
            message,
            is_alone(self.careful.as_ref(), message),
        );
        self.position = Some(message.offset() + 1);
        self.metrics.messages_consumed.inc();
        self.metrics
            .bytes_consumed
            .inc_by(message.payload_len() as u64);
        self.close_batch();
    }

    fn close_batch(&mut self) {
        close(
            &mut self.building,
            &mut self.ready,
            &mut self.next_seq,
            &self.flow,
        );
    }

    /// False if the workers have no room, or something has to be committed first.
    fn submit(&mut self, scanning: &impl Scanning) -> bool {
        let is_past = |careful: &RangeInclusive<i64>| self.committed > Some(*careful.end());
        if self.careful.as_ref().is_some_and(is_past) {
            self.careful = None;
        }
        while !self.must_wait()
            && let Some(batch) = self.ready.pop_front()
        {
            let end = batch.end();
            if let Err(Refused(batch)) = scanning.try_submit(batch) {
                self.ready.push_front(batch);
                return false;
            }
            self.handed_over = end.or(self.handed_over);
        }
        self.ready.is_empty()
    }

    /// Whether a record that is to be scanned alone, or one behind it, waits for the commit of those before.
    fn must_wait(&self) -> bool {
        let Some(careful) = &self.careful else {
            return false;
        };
        let Some(end) = self.ready.front().and_then(Batch::end) else {
            return false;
        };
        end > *careful.start() && self.committed < self.handed_over
    }

    /// Whether a commit is waited for.
    pub(super) fn wants_commit(&self) -> bool {
        self.must_wait() && self.to_commit().is_some()
    }

    /// Nothing more is handed over. Returns how many batches were.
    pub(super) fn stop(&mut self) -> u64 {
        self.building.clear();
        self.next_seq -= self.ready.len() as u64;
        self.ready.clear();
        self.next_seq
    }

    /// Compaction and transactions leave offsets without a record. At the end of a partition no record follows that would take the
    /// watermark past them, so the end itself does.
    fn pass_gap(&mut self, end: i64) {
        if self.span.is_none() && end > self.position.or(self.committed).unwrap_or_default() {
            self.close_batch();
            self.position = Some(end);
            self.ready
                .push_back(Batch::gap(&self.flow, self.next_seq, end));
            self.next_seq += 1;
        }
    }

    /// The offset to commit, if there is a new one.
    pub(super) fn to_commit(&self) -> Option<(i32, i64)> {
        let watermark = self.flow.watermark()?;
        (self.committed != Some(watermark)).then_some((self.flow.lease().partition, watermark))
    }

    /// Writes the gauges; returns the lag behind the end of the partition, if it is known.
    pub(super) fn measure(&mut self, ends: Option<Ends>) -> Option<i64> {
        let watermark = self.flow.watermark();
        let incomplete = self.flow.messages();
        if watermark != self.last_watermark || incomplete == 0 {
            self.last_watermark = watermark;
            self.watermark_moved = Instant::now();
        }
        let unread = self.stuck.as_ref().map(|stuck| stuck.since);
        let unread = unread.or(self.failing.as_ref().map(|failing| failing.since));
        let unread = unread.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let blocked = if incomplete == 0 {
            0.0
        } else {
            self.watermark_moved.elapsed().as_secs_f64()
        };
        self.metrics.watermark_blocked.set(blocked.max(unread));
        self.metrics.incomplete_messages.set(incomplete as i64);
        if let Some(offset) = watermark {
            self.metrics.watermark_offset.set(offset);
        }
        if let Some(offset) = self.committed {
            self.metrics.committed_offset.set(offset);
        }
        let ends = ends.filter(|ends| ends.end >= 0)?;
        // Retention may have removed what was not read yet.
        let lag = |offset: i64| (ends.end - offset.max(ends.start)).max(0);
        if let Some(offset) = self.committed {
            self.metrics.consumer_lag_committed.set(lag(offset));
        }
        let position = self
            .position
            .or(self.committed)
            .or((ends.next >= 0).then_some(ends.next));
        let lag = position.map(lag)?;
        self.metrics.consumer_lag.set(lag);
        Some(lag)
    }
}

/// Whether a record is one of those that are scanned one at a time.
fn is_alone(careful: Option<&RangeInclusive<i64>>, message: &BorrowedMessage<'_>) -> bool {
    careful.is_some_and(|careful| careful.contains(&message.offset()))
}

// Free functions, because a message borrows the queue beside the fields that it goes to.

fn add(
    building: &mut BatchBuilder,
    ready: &mut VecDeque<Batch>,
    next_seq: &mut u64,
    flow: &Arc<Flow>,
    message: &BorrowedMessage<'_>,
    alone: bool,
) {
    if alone || building.must_close_before(message) {
        close(building, ready, next_seq, flow);
    }
    building.push(message);
    if alone || building.is_full() {
        close(building, ready, next_seq, flow);
    }
}

fn close(
    building: &mut BatchBuilder,
    ready: &mut VecDeque<Batch>,
    next_seq: &mut u64,
    flow: &Arc<Flow>,
) {
    if !building.is_empty() {
        ready.push_back(building.build(flow, *next_seq));
        *next_seq += 1;
    }
}
