//! Commits of watermarks: never two at once, so that an older one cannot land after a newer one.
//!
//! Every commit is sent without waiting; who needs to know the outcome keeps polling until it is
//! there. That way a broker that does not answer delays nothing but the commit itself.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::rebalance::{Committed, GroupContext};
use crate::ops::metrics::{CommitLabels, Metrics};

/// A commit whose outcome is not reported after this long counts as failed. The offsets are committed
/// again with the next one.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Why a commit is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its time has come.
    Async,
    /// Somebody waits for it.
    Sync,
}

pub(super) struct Committer {
    topic: String,
    in_flight: Option<(Mode, Instant)>,
}

impl Committer {
    pub(super) fn new(topic: &str) -> Committer {
        Committer {
            topic: topic.to_owned(),
            in_flight: None,
        }
    }

    /// True if no commit is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }

    /// Sends a commit. Only when idle, and only with offsets of leases that have not ended.
    pub(super) fn start(
        &mut self,
        consumer: &BaseConsumer<GroupContext>,
        offsets: &[(i32, i64)],
        mode: Mode,
        metrics: &Metrics,
    ) {
        if offsets.is_empty() || !self.is_idle() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            if let Err(error) =
                list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))
            {
                tracing::error!(error = %error, partition, offset, "an offset cannot be committed");
            }
        }
        match consumer.commit(&list, CommitMode::Async) {
            Ok(()) => self.in_flight = Some((mode, Instant::now())),
            Err(error) => {
                count(metrics, "error", mode);
                tracing::warn!(error = %error, "a commit was not taken by the Kafka client; the offsets are committed again later");
            }
        }
    }

    /// An outcome has arrived. Returns the offsets that are committed now.
    pub(super) fn finish(&mut self, outcome: Committed, metrics: &Metrics) -> Vec<(i32, i64)> {
        let mode = match self.in_flight.take() {
            Some((mode, since)) => {
                metrics
                    .commit_duration
                    .observe(since.elapsed().as_secs_f64());
                mode
            }
            None => Mode::Async,
        };
        let mut done = Vec::with_capacity(outcome.partitions.len());
        let mut failed = None;
        for (partition, result) in outcome.partitions {
            match result {
                Ok(offset) => done.push((partition, offset)),
                // During a rebalance the group refuses commits: the next one repeats it, or the next
                // owner reads these records again.
                Err(error) => failed = Some((partition, error)),
            }
        }
        match failed {
            None => count(metrics, "ok", mode),
            Some((partition, error)) => {
                count(metrics, "error", mode);
                tracing::warn!(error = %error, partition, "a commit was refused; nothing is lost, records may be answered twice");
            }
        }
        done
    }

    /// Gives a commit up that never came back.
    pub(super) fn check(&mut self, metrics: &Metrics) {
        if let Some((mode, since)) = self.in_flight
            && since.elapsed() > GIVE_UP
        {
            count(metrics, "error", mode);
            tracing::warn!(
                "the outcome of a commit is unknown after {} s; the offsets are committed again",
                GIVE_UP.as_secs()
            );
            self.in_flight = None;
        }
    }
}

fn count(metrics: &Metrics, result: &'static str, mode: Mode) {
    let mode = match mode {
        Mode::Async => "async",
        Mode::Sync => "sync",
    };
    metrics
        .commits
        .get_or_create(&CommitLabels { result, mode })
        .inc();
}
