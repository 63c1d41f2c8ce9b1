//! Rebalances, answered from the poll loop: partitions come, go, or were lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{LAST_COMMIT, PollError, PollLoop, command};
use crate::Scanning;
use crate::commit::Mode;
use crate::egress::Command;
#[cfg(feature = "chaos-faults")]
use crate::faults::{self, Fault};
use crate::fetch_notes::{self, NOTHING};
use crate::flow::Flow;
use crate::health::Check;
use crate::metrics::KindLabel;
use crate::partition::{Partition, Stuck};
use crate::rebalance::{Event, Kind};
use crate::replay::Span;
use crate::sequencer::Lease;

/// A revocation under way.
pub(super) struct Handover {
    event: Event,
    set: Vec<i32>,
    since: Instant,
    step: Step,
}

/// An assignment that waits for what is committed of its partitions.
pub(super) struct Arrival {
    event: Event,
    since: Instant,
}

/// How long that may take; then the partitions are fetched without a note.
const ARRIVE: Duration = fetch_notes::ASK.saturating_add(Duration::from_millis(200));

enum Step {
    Drain { until: Instant },
    Commit { until: Instant },
}
impl<S: Scanning> PollLoop<S> {
    /// Moves on with what the group wants, one event after the other.
    pub(super) fn rebalance(&mut self) -> Result<(), PollError> {
        if self.handover.is_none()
            && self.arrival.is_none()
            && let Some(event) = self.consumer.context().next_event()
        {
            self.wiring
                .metrics
                .rebalances
                .get_or_create(&KindLabel {
                    kind: event.kind.as_str(),
                })
                .inc();
            self.wiring.health.pass(Check::Group);
            self.begin(event)?;
        }
        self.arrive()?;
        self.hand_over()
    }

    fn begin(&mut self, event: Event) -> Result<(), PollError> {
        let since = Instant::now();
        match event.kind {
            Kind::Assign => {
                let ids = event.partitions();
                let is_noted = self.wiring.left.fetches.is_some() && !ids.is_empty();
                if is_noted && self.positions.ask(ids) {
                    self.arrival = Some(Arrival { event, since });
                    return Ok(());
                }
                self.take_over(event, since, &BTreeMap::new())
            }
            Kind::Lost => {
                let set = event.partitions();
                tracing::warn!(partitions = ?set, "partitions were lost to the group; what is in flight is dropped and read again by the next owner");
                self.stop(&set);
                #[cfg(feature = "chaos-faults")]
                if faults::is(Fault::CommitOnLost) {
                    let offsets = self.to_commit(&set);
                    self.committer.commit(offsets, Mode::Sync);
                }
                self.remove(&set)?;
                self.answer(&event, since)
            }
            Kind::Revoke => {
                let set: Vec<i32> = event
                    .partitions()
                    .into_iter()
                    .filter(|id| self.partitions.contains_key(id))
                    .collect();
                for id in &set {
                    if let Some(partition) = self.partitions.get_mut(id) {
                        // Batches that no worker has started are the next owner's: it stalls us less.
                        let through_seq = partition.flow.kill();
                        partition.stop();
                        let lease = partition.flow.lease();
                        command(&self.wiring.commands, Command::Drain { lease, through_seq })?;
                    }
                }
                let step = Step::Drain {
                    until: since + self.config.revoke_timeout,
                };
                self.handover = Some(Handover {
                    event,
                    set,
                    since,
                    step,
                });
                Ok(())
            }
        }
    }

    /// Moves an assignment on: note what is going to be fetched, then let it be fetched.
    fn arrive(&mut self) -> Result<(), PollError> {
        let Some(arrival) = self.arrival.take() else {
            return Ok(());
        };
        let committed = match self.positions.answer() {
            Some(committed) => committed,
            None if arrival.since.elapsed() >= ARRIVE || self.consumer.assignment_lost() => {
                BTreeMap::new()
            }
            None => {
                self.arrival = Some(arrival);
                return Ok(());
            }
        };
        self.take_over(arrival.event, arrival.since, &committed)
    }

    /// Begins the leases of partitions that were assigned; `committed` has what is known of them.
    fn take_over(
        &mut self,
        mut event: Event,
        since: Instant,
        committed: &BTreeMap<i32, i64>,
    ) -> Result<(), PollError> {
        for id in event.partitions() {
            self.add(id, None)?;
            if let Some(offset) = committed.get(&id) {
                self.note_fetch(&mut event, id, *offset)?;
            }
        }
        // Assignments without partitions follow every cooperative round; they are answered, too.
        self.answer(&event, since)
    }

    /// Notes the first fetch of a partition. One that ended the last processes is held back: it begins at the partition's end, paused.
    fn note_fetch(&mut self, event: &mut Event, id: i32, offset: i64) -> Result<(), PollError> {
        let Some(fetches) = &mut self.wiring.left.fetches else {
            return Ok(());
        };
        let Some(ends) = fetches.begin(id, offset) else {
            return Ok(());
        };
        event
            .list
            .set_partition_offset(&self.config.input_topic, id, Offset::End)
            .map_err(|error| PollError::Rebalance {
                kind: event.kind.as_str(),
                error,
            })?;
        let offset = Some(offset).filter(|offset| *offset != NOTHING);
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.stuck = Some(Stuck::suspected(offset, ends));
        }
        tracing::warn!(
            partition = id,
            offset,
            ends,
            "The last processes ended while they fetched from this offset: a batch there may decompress to more than memory allows. It is looked at \
             in a process with limited memory before it is fetched again"
        );
        Ok(())
    }

    /// Moves a revocation on: drain, commit, let go.
    fn hand_over(&mut self) -> Result<(), PollError> {
        let Some(mut handover) = self.handover.take() else {
            return Ok(());
        };
        // While we drained, the group may have given up on us: then a commit would be refused.
        let is_lost = self.consumer.assignment_lost();
        let now = Instant::now();
        if let Step::Drain { until } = handover.step {
            let flows = handover
                .set
                .iter()
                .filter_map(|id| self.partitions.get(id))
                .map(|p| &p.flow);
            let is_drained = flows.clone().all(|flow| flow.is_drained());
            if !is_drained && now < until && !is_lost {
                self.wiring.scanning.release_ended();
                self.handover = Some(handover);
                return Ok(());
            }
            if !is_drained {
                self.wiring.metrics.drain_timeouts.inc();
                let records: u64 = flows.map(|flow| flow.messages()).sum();
                tracing::warn!(records, partitions = ?handover.set, "revoked partitions could not be drained in time; the next owner reads the rest again");
            }
            handover.step = Step::Commit {
                until: now + LAST_COMMIT,
            };
        }
        if let Step::Commit { until } = handover.step
            && !is_lost
            && now < until
        {
            let offsets = self.to_commit(&handover.set);
            if !self.committer.is_idle() || self.last_try(offsets) {
                self.handover = Some(handover);
                return Ok(());
            }
        }
        self.remove(&handover.set)?;
        self.answer(&handover.event, handover.since)
    }

    /// Commits at the end of leases. What was refused once is not asked for again: false if there is
    /// nothing new.
    pub(super) fn last_try(&mut self, offsets: Vec<(i32, i64)>) -> bool {
        let is_new = |(id, offset): &(i32, i64)| {
            self.partitions
                .get(id)
                .is_some_and(|p| p.tried != Some(*offset))
        };
        let offsets: Vec<(i32, i64)> = offsets.into_iter().filter(is_new).collect();
        for (id, offset) in &offsets {
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.tried = Some(*offset);
            }
        }
        self.committer.commit(offsets, Mode::Sync);
        !self.committer.is_idle()
    }

    /// Assigns what is to be read of each partition, without a group.
    pub(super) fn assign(&mut self, spans: &[Span]) -> Result<(), PollError> {
        let failed = |error| PollError::Rebalance {
            kind: "assign",
            error,
        };
        let mut list = TopicPartitionList::with_capacity(spans.len());
        for span in spans.iter().filter(|span| !span.is_through()) {
            self.add(span.partition, Some(span.clone()))?;
            let from = Offset::Offset(span.from);
            list.add_partition_offset(&self.config.input_topic, span.partition, from)
                .map_err(failed)?;
        }
        self.consumer.assign(&list).map_err(failed)?;
        self.wiring.health.pass(Check::Group);
        self.wiring
            .metrics
            .assigned_partitions
            .set(self.partitions.len() as i64);
        Ok(())
    }

    fn add(&mut self, id: i32, span: Option<Span>) -> Result<(), PollError> {
        if let Some(old) = self.partitions.remove(&id) {
            tracing::warn!(
                partition = id,
                "a partition was assigned that is owned already"
            );
            old.flow.kill();
            command(&self.wiring.commands, Command::Close(old.flow.lease()))?;
        }
        self.generation += 1;
        let lease = Lease {
            partition: id,
            generation: self.generation,
        };
        let Some(mut queue) = self
            .consumer
            .split_partition_queue(&self.config.input_topic, id)
        else {
            return Err(PollError::Rebalance {
                kind: "assign",
                error: KafkaError::Subscription(format!("partition {id} has no queue")),
            });
        };
        let thread = self.thread.clone();
        queue.set_nonempty_callback(move || thread.unpark());
        let flow = Flow::new(lease, Arc::clone(&self.wiring.budget));
        command(&self.wiring.commands, Command::Assign(Arc::clone(&flow)))?;
        let metrics = self.wiring.metrics.partition(id);
        let careful = self.wiring.left.careful.get(&id).cloned();
        self.partitions
            .insert(id, Partition::new(flow, queue, metrics, span, careful));
        self.restart_watch();
        Ok(())
    }

    /// Nothing more is handed over of these, and what waits is abandoned.
    fn stop(&mut self, set: &[i32]) {
        for id in set {
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.flow.kill();
                partition.stop();
            }
        }
    }

    fn remove(&mut self, set: &[i32]) -> Result<(), PollError> {
        for id in set {
            self.resume_before_removal(*id);
            if let Some(fetches) = &mut self.wiring.left.fetches {
                fetches.clear(*id);
            }
            if let Some(partition) = self.partitions.remove(id) {
                command(
                    &self.wiring.commands,
                    Command::Close(partition.flow.lease()),
                )?;
                self.wiring.metrics.remove_partition(*id);
                self.restart_watch();
            }
        }
        Ok(())
    }

    /// What was seen with other partitions says nothing about these.
    fn restart_watch(&mut self) {
        self.watch.restart(Instant::now());
        self.wiring.metrics.busiest_key_share.set(0.0);
        self.wiring.metrics.busiest_partition_share.set(0.0);
    }

    fn answer(&mut self, event: &Event, since: Instant) -> Result<(), PollError> {
        event
            .answer(&self.consumer)
            .map_err(|error| PollError::Rebalance {
                kind: event.kind.as_str(),
                error,
            })?;
        self.nudger.nudge(self.partitions.keys().copied().collect());
        self.wiring
            .metrics
            .rebalance_duration
            .observe(since.elapsed().as_secs_f64());
        self.wiring
            .metrics
            .assigned_partitions
            .set(self.partitions.len() as i64);
        let changed = event.partitions();
        if !changed.is_empty() {
            let owned: Vec<i32> = self.partitions.keys().copied().collect();
            tracing::info!(
                kind = event.kind.as_str(),
                partitions = ?changed,
                ?owned,
                took_ms = since.elapsed().as_millis() as u64,
                "Partitions changed"
            );
        }
        Ok(())
    }
}
