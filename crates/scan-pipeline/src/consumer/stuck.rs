//! Partitions whose next batch cannot be read: they wait, readiness tells of them, or the batch is skipped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{PollError, PollLoop};
use crate::Scanning;
use crate::config::UnreadableBatch;
use crate::dead_letter::DeadLetter;
use crate::health::Check;
use crate::metrics::PartitionLabel;
use crate::partition::{Partition, Stuck};
use crate::sequencer::Lease;
use crate::unreadable::{Found, Question};

/// A batch is reported, and may be skipped, after so many looks at it beside the error: one may be the network's.
const LOOKS: u32 = 2;
/// Time between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Readiness tells of other errors of a partition when there have been so many, for so long.
const FAILURES: (u32, Duration) = (3, Duration::from_secs(10));
/// Readiness names so many partitions.
const NAMED: usize = 8;

impl<S: Scanning> PollLoop<S> {
    /// Looks after partitions that cannot be read. Waits for nothing.
    pub(super) fn unstick(&mut self) -> Result<(), PollError> {
        while let Some((lease, found)) = self.prober.answer() {
            self.found(lease, found);
        }
        self.ask();
        self.tell();
        Ok(())
    }

    /// Pauses what is newly stuck, and has the prober look at what is due.
    fn ask(&mut self) {
        let to_skip = self.config.unreadable_batch == UnreadableBatch::Skip;
        let memory = self.config.fetch_memory_bytes;
        let ids: Vec<i32> = self.partitions.keys().copied().collect();
        for id in ids {
            let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.flow.is_live()) else {
                continue;
            };
            let lease = partition.flow.lease();
            let Some(stuck) = &mut partition.stuck else {
                continue;
            };
            if !stuck.is_paused {
                stuck.is_paused = true;
                if stuck.ends == 0 {
                    tracing::warn!(
                        partition = id,
                        offset = stuck.offset,
                        reason = stuck.why,
                        "A batch could not be read; its partition waits while it is looked at again"
                    );
                }
                // Whatever is fetched behind the batch must wait for it.
                let list = self.one(id);
                if let Err(error) = self.consumer.pause(&list) {
                    tracing::warn!(partition = id, %error, "the partition could not be paused");
                }
            }
            let Some(stuck) = self.partitions.get_mut(&id).and_then(|p| p.stuck.as_mut()) else {
                continue;
            };
            if !stuck.is_asked && stuck.next_look <= Instant::now() {
                stuck.is_asked = self.prober.ask(Question {
                    lease,
                    from: stuck.offset,
                    base: stuck.base,
                    to_skip: to_skip && stuck.times + 1 >= LOOKS,
                    memory: (stuck.ends > 0).then_some(memory),
                });
            }
        }
    }

    fn found(&mut self, lease: Lease, found: Result<Found, String>) {
        let id = lease.partition;
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        if partition.flow.lease() != lease || !partition.flow.is_live() {
            return;
        }
        let Some(stuck) = &mut partition.stuck else {
            return;
        };
        stuck.is_asked = false;
        let pause = PAUSES.0 * 2_u32.saturating_pow(stuck.times.min(8));
        stuck.next_look = Instant::now() + pause.min(PAUSES.1);
        match found {
            Err(reason) => {
                tracing::warn!(
                    partition = id,
                    reason,
                    "A batch that could not be read could not be looked at; it is tried again"
                );
            }
            Ok(Found::Readable { from }) => {
                tracing::info!(partition = id, offset = from, "The batch can be read");
                self.go_on(id, from);
            }
            Ok(Found::Unreadable { from, next, why }) => {
                stuck.offset = Some(from);
                stuck.times = stuck.times.saturating_add(1);
                stuck.why = match stuck.ends {
                    0 => why,
                    ends => format!(
                        "{why}; the last {ends} processes ended while they fetched from this offset: a batch there may decompress to more than \
                         memory allows"
                    ),
                };
                let is_new = !stuck.is_reported && (stuck.times >= LOOKS || stuck.ends > 0);
                stuck.is_reported |= is_new;
                let why = stuck.why.clone();
                if is_new {
                    self.report_stuck(id, Some(from));
                    if next.is_none() {
                        tracing::error!(
                            partition = id,
                            offset = from,
                            reason = why,
                            "A batch cannot be read and its partition waits; let the batch expire, set kafka.unreadable_batch to \"skip\", or allow more memory"
                        );
                    }
                }
                if let Some(next) = next {
                    self.skip(id, from, next, &why);
                }
            }
        }
    }

    /// Counts a batch that cannot be read.
    pub(super) fn report_stuck(&self, id: i32, offset: Option<i64>) {
        let metrics = &self.wiring.metrics;
        metrics.unreadable_batches.inc();
        let label = PartitionLabel { partition: id };
        let gauge = metrics.unreadable_batch_offset.get_or_create(&label);
        gauge.set(offset.unwrap_or_default());
    }

    /// Passes over a batch. What tells of it is the dead letter; without its acknowledgement no offset passes.
    fn skip(&mut self, id: i32, from: i64, next: i64, why: &str) {
        let letter = DeadLetter::unreadable(id, from, next - 1, why);
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.skip(next, letter);
            // Should fetching not go on at once, what comes next is looked at.
            partition.stuck = Some(Stuck {
                is_paused: true,
                ..Stuck::new(Some(next), why.to_owned())
            });
        }
        self.wiring.metrics.skipped_batches.inc();
        tracing::error!(
            partition = id,
            offset = from,
            last_offset = next - 1,
            reason = why,
            "A batch that cannot be read was skipped; a dead letter holds its offsets"
        );
        self.go_on(id, next);
    }

    /// Fetches from an offset again.
    fn go_on(&mut self, id: i32, from: i64) {
        let list = self.one(id);
        let topic = self.config.input_topic.clone();
        let seek = Offset::Offset(from);
        // Without waiting: what was fetched before the call is not delivered any more.
        let sought = self
            .consumer
            .resume(&list)
            .and_then(|()| self.consumer.seek(&topic, id, seek, Duration::ZERO));
        if let Err(error) = sought {
            // It stays as it is, and is looked at again.
            tracing::warn!(partition = id, %error, "the partition could not be resumed");
            return;
        }
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.stuck = None;
        }
        if let Some(fetches) = &mut self.wiring.left.fetches {
            fetches.fetch(id);
        }
        let label = PartitionLabel { partition: id };
        self.wiring.metrics.unreadable_batch_offset.remove(&label);
    }

    /// Whoever gets the partition next does not get it paused.
    pub(super) fn resume_before_removal(&mut self, id: i32) {
        let is_paused = |p: &Partition| p.stuck.as_ref().is_some_and(|s| s.is_paused);
        if self.partitions.get(&id).is_some_and(is_paused) {
            let list = self.one(id);
            // One that is not assigned any more is not paused either.
            let _gone = self.consumer.resume(&list);
        }
    }

    fn one(&self, id: i32) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.config.input_topic, id);
        list
    }

    /// Readiness fails while a partition of ours cannot be read.
    fn tell(&mut self) {
        let mut reasons = Vec::new();
        for (id, partition) in &self.partitions {
            let at = |offset: Option<i64>| {
                offset.map_or_else(String::new, |offset| format!(" at offset {offset}"))
            };
            if let Some(stuck) = partition
                .stuck
                .as_ref()
                .filter(|stuck| stuck.is_reported || stuck.ends > 0)
            {
                let at = at(stuck.offset);
                reasons.push(format!("partition {id} waits{at}: {}", stuck.why));
            } else if let Some(failing) = &partition.failing
                && failing.times >= FAILURES.0
                && failing.since.elapsed() >= FAILURES.1
            {
                let at = at(partition.position());
                reasons.push(format!(
                    "partition {id} cannot be fetched{at}: {}",
                    failing.error
                ));
            }
        }
        let health = Arc::clone(&self.wiring.health);
        if reasons.is_empty() {
            if std::mem::take(&mut self.tells_of_stuck) {
                health.pass(Check::Batches);
            }
            return;
        }
        let more = reasons.len().saturating_sub(NAMED);
        reasons.truncate(NAMED);
        let mut reason = reasons.join("; ");
        if more > 0 {
            reason.push_str(&format!("; and {more} more partitions"));
        }
        self.tells_of_stuck = true;
        health.fail(Check::Batches, reason);
    }
}
