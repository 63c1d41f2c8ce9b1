//! Commits of watermarks: never two at once, so that an older one cannot land after a newer one.
//!
//! Only a commit that is waited for reports its outcome (rdkafka's callback for the other kind is
//! never called), and the wait has no deadline. So a thread of its own waits, and the poll loop looks
//! in. A broker that does not answer delays nothing but the commit itself.
//!
//! Before a commit the thread asks whether the one before is still there. A group forgets what it committed of a topic that is deleted, and a
//! topic made anew under the name would have its first records passed over: librdkafka goes on where it was (2.12.1 says so in a note to itself).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::errors::{Call, Fault, Remedy, remedy};
use super::rebalance::GroupContext;
use crate::metrics::{CommitLabels, Metrics};

/// How long the group may take to say what is committed; without an answer the commit is made all the same.
const ASK: Duration = Duration::from_secs(5);

/// Why a commit is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its time has come.
    Async,
    /// A lease ends and waits for it.
    Sync,
}

/// `(partition, offset)`, each once.
type Offsets = Vec<(i32, i64)>;

pub(super) struct Committer {
    requests: Sender<(Mode, Offsets)>,
    outcomes: Receiver<(Offsets, KafkaResult<()>)>,
    in_flight: Option<(Mode, Instant)>,
    forgotten: Arc<OnceLock<(i32, i64)>>,
    thread: JoinHandle<()>,
    metrics: Arc<Metrics>,
}

impl Committer {
    /// Starts the thread. It wakes the calling thread when an outcome is there.
    pub(super) fn start(
        consumer: Arc<BaseConsumer<GroupContext>>,
        topic: String,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Committer> {
        let (requests, wanted) = bounded::<(Mode, Offsets)>(1);
        let (done, outcomes) = bounded(1);
        let poll_thread = thread::current();
        let forgotten = Arc::new(OnceLock::new());
        let tell = Arc::clone(&forgotten);
        let thread = thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                let mut known = BTreeMap::new();
                for (mode, mut offsets) in wanted {
                    // Whoever waits for the end of a lease is not kept waiting.
                    if mode == Mode::Async
                        && let Some(gone) = find_forgotten(&consumer, &topic, &mut known)
                    {
                        let _known_already = tell.set(gone);
                        offsets.clear();
                    }
                    let result = commit(&consumer, &topic, &offsets);
                    if result.is_ok() {
                        known.extend(offsets.iter().copied());
                    }
                    if done.send((offsets, result)).is_err() {
                        return;
                    }
                    poll_thread.unpark();
                }
            })?;
        Ok(Committer {
            requests,
            outcomes,
            in_flight: None,
            forgotten,
            thread,
            metrics,
        })
    }

    /// True if no commit is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }

    /// Sends a commit of offsets of leases that have not ended. Does nothing unless idle.
    pub(super) fn commit(&mut self, offsets: Offsets, mode: Mode) {
        if !offsets.is_empty() && self.is_idle() && self.requests.try_send((mode, offsets)).is_ok()
        {
            self.in_flight = Some((mode, Instant::now()));
        }
    }

    /// The offsets that are committed since the last look.
    ///
    /// # Errors
    /// This member will never commit again.
    pub(super) fn committed(&mut self) -> KafkaResult<Offsets> {
        let Ok((offsets, result)) = self.outcomes.try_recv() else {
            return Ok(Vec::new());
        };
        let Some((mode, since)) = self.in_flight.take() else {
            return Ok(Vec::new());
        };
        if let Err(error) = &result
            && remedy(Call::CommitOffsets, &Fault::from(error)) == Remedy::Exit
        {
            return Err(error.clone());
        }
        self.metrics
            .commit_duration
            .observe(since.elapsed().as_secs_f64());
        let (word, offsets) = match (result, mode) {
            (Ok(()), _) => ("ok", offsets),
            // A group that rebalances refuses commits, see the table of errors; the next one repeats it, ours
            // or the next owner's.
            (Err(error), Mode::Async) => {
                tracing::info!(error = %error, "a commit was refused and will be repeated");
                ("retry", Vec::new())
            }
            (Err(error), Mode::Sync) => {
                tracing::warn!(error = %error, "the last commit of partitions was refused; nothing is lost, their next owner answers records again");
                ("error", Vec::new())
            }
        };
        let mode = match mode {
            Mode::Async => "async",
            Mode::Sync => "sync",
        };
        self.metrics
            .commits
            .get_or_create(&CommitLabels { result: word, mode })
            .inc();
        Ok(offsets)
    }

    /// A partition of which the group has forgotten what was committed, and what that was.
    pub(super) fn forgotten(&self) -> Option<(i32, i64)> {
        self.forgotten.get().copied()
    }

    /// Ends the thread, and waits for a commit that is on its way.
    pub(super) fn stop(self) {
        drop(self.requests);
        drop(self.outcomes);
        // It does not panic; if it did, the hook has said so.
        let _panic = self.thread.join();
    }
}

fn commit(
    consumer: &BaseConsumer<GroupContext>,
    topic: &str,
    offsets: &[(i32, i64)],
) -> KafkaResult<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}

/// A partition that is still ours, has a commit of ours, and has none by the group's account. A question that gets no answer says nothing.
fn find_forgotten(
    consumer: &BaseConsumer<GroupContext>,
    topic: &str,
    known: &mut BTreeMap<i32, i64>,
) -> Option<(i32, i64)> {
    let owned = consumer.assignment().ok()?;
    known.retain(|partition, _| owned.find_partition(topic, *partition).is_some());
    if known.is_empty() {
        return None;
    }
    let mut list = TopicPartitionList::with_capacity(known.len());
    for partition in known.keys() {
        list.add_partition(topic, *partition);
    }
    let answer = consumer.committed_offsets(list, ASK).ok()?;
    let elements = answer.elements();
    let mut gone = elements
        .iter()
        .filter(|element| element.error().is_ok() && element.offset() == Offset::Invalid);
    let partition = gone.next()?.partition();
    Some((partition, *known.get(&partition)?))
}
