//! Makes the calls of transactions, each of which waits for brokers, on a thread of its own.
//!
//! One call at a time, as the client wants it. The egress thread goes on meanwhile: it takes answers from
//! the workers, delivery reports from the client, and the ends of leases from the poll thread. No call
//! waits longer than a slice; what is not done then is called again, which the client takes as going on
//! with the same call.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::errors;
use super::membership::Identity;
use super::producer::Handle;
use super::transaction::Step;

/// How long one call may wait.
const SLICE: Duration = Duration::from_secs(1);
/// The same for offsets, which the client gives up for good when their time is over.
const OFFSETS: Duration = Duration::from_secs(10);
/// And for what is committed.
const ASK: Duration = Duration::from_secs(2);
/// A call that has not come back by then never will. With 2.12.1 the one with the offsets does not if the group's coordinator leaves
/// the cluster meanwhile, whatever time it was given.
const HANGS: Duration = Duration::from_secs(20);

/// What is to be called.
pub(super) enum Call {
    Init(Handle),
    SendOffsets(Handle, Vec<(i32, i64)>, Arc<Identity>),
    Commit(Handle),
    Abort(Handle),
    /// What is committed of these partitions?
    Resolve(Vec<i32>),
}

impl Call {
    /// The step that it makes.
    pub(super) fn step(&self) -> Step {
        match self {
            Call::Init(_) => Step::Init,
            Call::SendOffsets(..) => Step::SendOffsets,
            Call::Commit(_) => Step::Commit,
            Call::Abort(_) => Step::Abort,
            Call::Resolve(_) => Step::Resolve,
        }
    }
}

/// What came of it.
pub(super) struct Done {
    pub(super) step: Step,
    pub(super) result: KafkaResult<()>,
    /// What is committed, by partition; of [`Call::Resolve`] alone.
    pub(super) committed: HashMap<i32, i64>,
}

pub(super) struct Transactor {
    calls: Sender<Call>,
    pub(super) done: Receiver<Done>,
    /// When the call under way was made.
    since: Option<Instant>,
    asking: ClientConfig,
    topic: String,
    _thread: JoinHandle<()>,
}

impl Transactor {
    /// Starts the thread. `asking` makes a consumer of the group that never joins it.
    pub(super) fn start(asking: ClientConfig, topic: String) -> io::Result<Transactor> {
        let (calls, wanted) = bounded::<Call>(1);
        let (answer, done) = bounded(1);
        let mut reader = Reader {
            config: asking.clone(),
            topic: topic.clone(),
            consumer: None,
        };
        let thread = thread::Builder::new()
            .name("transact".to_owned())
            .spawn(move || {
                for call in wanted {
                    if answer.send(reader.make(call)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Transactor {
            calls,
            done,
            since: None,
            asking,
            topic,
            _thread: thread,
        })
    }

    /// True while a call is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.since.is_some()
    }

    /// True if the call under way will not come back.
    pub(super) fn is_hung(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > HANGS)
    }

    /// Leaves the thread that hangs to itself, with the producer that it holds, and starts another. Should the call come back after all,
    /// nobody hears of it.
    pub(super) fn replace(&mut self) -> io::Result<()> {
        *self = Transactor::start(self.asking.clone(), self.topic.clone())?;
        Ok(())
    }

    /// Makes a call; only while none is under way.
    pub(super) fn call(&mut self, call: Call) {
        self.since = self.calls.try_send(call).is_ok().then(Instant::now);
    }

    /// The outcome of the call under way has been received.
    pub(super) fn rest(&mut self) {
        self.since = None;
    }
}

struct Reader {
    config: ClientConfig,
    topic: String,
    consumer: Option<BaseConsumer>,
}

impl Reader {
    fn make(&mut self, call: Call) -> Done {
        let step = call.step();
        let mut committed = HashMap::new();
        let result = match call {
            Call::Init(producer) => producer.init_transactions(SLICE),
            Call::SendOffsets(producer, offsets, group) => {
                list(&self.topic, &offsets, |offset| Offset::Offset(*offset))
                    .and_then(|list| producer.send_offsets_to_transaction(&list, &group.0, OFFSETS))
            }
            Call::Commit(producer) => producer.commit_transaction(SLICE),
            Call::Abort(producer) => producer.abort_transaction(SLICE),
            Call::Resolve(partitions) => self.committed(&partitions).map(|found| committed = found),
        };
        Done {
            step,
            result,
            committed,
        }
    }

    /// A transaction of this group that is not settled makes the broker say so instead of an offset, and
    /// the client asks again.
    fn committed(&mut self, partitions: &[i32]) -> KafkaResult<HashMap<i32, i64>> {
        if partitions.is_empty() {
            return Ok(HashMap::new());
        }
        let consumer = match &mut self.consumer {
            Some(consumer) => consumer,
            none => none.insert(self.config.create()?),
        };
        let asked: Vec<(i32, ())> = partitions.iter().map(|id| (*id, ())).collect();
        let asked = list(&self.topic, &asked, |()| Offset::Invalid)?;
        let mut found = HashMap::new();
        for element in consumer.committed_offsets(asked, ASK)?.elements() {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                found.insert(element.partition(), offset);
            }
        }
        Ok(found)
    }
}

fn list<T>(
    topic: &str,
    of: &[(i32, T)],
    offset: impl Fn(&T) -> Offset,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(of.len());
    for (partition, value) in of {
        list.add_partition_offset(topic, *partition, offset(value))?;
    }
    Ok(list)
}

/// What the table calls a step.
pub(super) fn in_table(step: Step) -> errors::Call {
    match step {
        Step::Init | Step::Recreate => errors::Call::Init,
        Step::Resolve => errors::Call::Resolve,
        Step::Begin => errors::Call::Begin,
        Step::Flush => errors::Call::Flush,
        Step::Identify | Step::SendOffsets => errors::Call::SendOffsets,
        Step::Commit => errors::Call::Commit,
        Step::Abort => errors::Call::Abort,
    }
}

/// The code of an error, for a log line.
pub(super) fn code(error: &KafkaError) -> String {
    format!("{:?}", errors::Fault::from(error).code)
}
