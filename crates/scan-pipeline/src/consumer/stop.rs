//! The orderly stop: drain, commit, leave.

use std::thread;
use std::time::{Duration, Instant};

use super::{LAST_COMMIT, Left, PollError, PollLoop, SHORT_PARK, command};
use crate::Scanning;
use crate::commit::Mode;
use crate::egress::Command;
use crate::health::Check;

/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);
/// Time between two tries of the last commit.
const TRY_AGAIN: Duration = Duration::from_millis(250);

impl<S: Scanning> PollLoop<S> {
    /// The orderly stop: everything taken is answered, or given up when its time is over.
    pub(super) fn drain(&mut self) -> Result<Left, PollError> {
        self.wiring
            .health
            .fail(Check::Running, "the service is stopping");
        let owned: Vec<i32> = self.partitions.keys().copied().collect();
        tracing::info!(
            partitions = owned.len(),
            in_flight = self.wiring.budget.messages(),
            "Stopping: draining what was read"
        );
        let until = Instant::now() + self.config.drain_timeout;
        for partition in self.partitions.values_mut() {
            let through_seq = partition.stop();
            let lease = partition.flow.lease();
            command(&self.wiring.commands, Command::Drain { lease, through_seq })?;
        }
        // A partition that arrives now is not read: its queue is never polled.
        let is_drained = |this: &Self| {
            this.handover.is_none()
                && this.arrival.is_none()
                && owned
                    .iter()
                    .filter_map(|id| this.partitions.get(id))
                    .all(|p| p.flow.is_drained())
        };
        while !is_drained(self) && Instant::now() < until {
            self.round()?;
            thread::park_timeout(SHORT_PARK);
        }
        let abandoned = self.wiring.budget.messages();
        for partition in self.partitions.values() {
            partition.flow.kill();
        }
        let committed = self.last_commit()?;
        Ok(Left {
            abandoned,
            committed,
        })
    }

    /// Commits what is answered. True if nothing is left to commit.
    fn last_commit(&mut self) -> Result<bool, PollError> {
        let until = Instant::now() + LAST_COMMIT;
        let mut next_try = Instant::now();
        let owned: Vec<i32> = self.partitions.keys().copied().collect();
        while Instant::now() < until {
            if self.committer.is_idle() && self.handover.is_none() && self.arrival.is_none() {
                let offsets = self.to_commit(&owned);
                if offsets.is_empty() {
                    return Ok(true);
                }
                if next_try <= Instant::now() {
                    self.committer.commit(offsets, Mode::Sync);
                    next_try = Instant::now() + TRY_AGAIN;
                }
            }
            // A group that rebalances refuses commits until it has our answer.
            self.round()?;
            thread::park_timeout(SHORT_PARK);
        }
        Ok(false)
    }

    /// Leaves the group, so that the others need not wait for the session to expire. The client may
    /// hang on that: it has a deadline of its own.
    pub(super) fn leave(self) {
        let PollLoop {
            inline,
            consumer,
            committer,
            nudger,
            positions,
            partitions,
            ..
        } = self;
        // These hold the consumer, as the two helper threads do.
        drop(inline);
        drop(partitions);
        let (done, closed) = crossbeam_channel::bounded::<()>(0);
        let closing = thread::Builder::new()
            .name("leave".to_owned())
            .spawn(move || {
                committer.stop();
                nudger.stop();
                positions.stop();
                drop(consumer);
                drop(done);
            });
        let is_closed = closing.is_ok()
            && closed
                .recv_timeout(LEAVE)
                .is_err_and(|e| e.is_disconnected());
        if !is_closed {
            tracing::warn!(
                "the consumer group could not be left within {} s; the others wait for the session to expire",
                LEAVE.as_secs()
            );
        }
    }
}
