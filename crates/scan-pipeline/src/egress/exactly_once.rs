//! Exactly-once delivery: the egress thread's hands around the state machine of [`transaction`].
//!
//! [`transaction`]: crate::transaction

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};

use super::{Egress, EgressError};
use crate::client;
use crate::config::KafkaConfig;
use crate::errors::{self, Fault, Remedy};
#[cfg(feature = "chaos-faults")]
use crate::faults;
use crate::log::Throttle;
use crate::membership::{Bell, Identity};
use crate::metrics::{OutcomeLabel, RemedyLabels};
use crate::producer::Producer;
use crate::sequencer::Lease;
use crate::transaction::{Step, Transactions, Turn};
use crate::transactor::{self, Call, Done, Transactor};

/// How long a stop waits for the end of what is open. Should it not suffice, the broker ends it.
const WIND_UP: Duration = Duration::from_secs(3);

static FAILED: Throttle = Throttle::new(Duration::from_secs(10));

/// What exactly-once delivery needs besides the producer.
pub(super) struct ExactlyOnce {
    pub(super) txn: Transactions,
    pub(super) transactor: Transactor,
    id: String,
    bell: Arc<Bell>,
    /// Who we are in the group, for the transaction that ends.
    group: Option<Arc<Identity>>,
    /// That transaction waits for acknowledgements.
    is_flushing: bool,
    /// What that transaction commits.
    offsets: Vec<(Lease, i64)>,
    /// Whose committed offsets are asked for.
    asked: Vec<Lease>,
    ending: Instant,
    limits: Limits,
    #[cfg(feature = "chaos-faults")]
    nobody: ClientConfig,
}

/// A transaction ends early rather than fill what may be in flight.
struct Limits {
    messages_per_partition: usize,
    bytes: u64,
}

impl ExactlyOnce {
    pub(super) fn new(
        config: &KafkaConfig,
        id: String,
        bell: Arc<Bell>,
    ) -> Result<ExactlyOnce, EgressError> {
        let transactor = Transactor::start(asking_config(config), config.input_topic.clone())
            .map_err(EgressError::Thread)?;
        Ok(ExactlyOnce {
            txn: Transactions::new(config.transaction_interval, config.transaction_timeout),
            transactor,
            id,
            bell,
            group: None,
            is_flushing: false,
            offsets: Vec::new(),
            asked: Vec::new(),
            ending: Instant::now(),
            limits: Limits {
                messages_per_partition: config.inflight_messages_per_partition,
                bytes: config.inflight_bytes,
            },
            #[cfg(feature = "chaos-faults")]
            nobody: asking_config(config),
        })
    }
}

impl Egress {
    /// Begins and ends transactions when it is time, and makes the calls that are due.
    pub(super) fn transact(&mut self) -> Result<(), EgressError> {
        self.give_up_what_hangs()?;
        self.flushed()?;
        self.steer();
        self.steps()
    }

    /// What came of a call that does not come back is not known: that is what a new producer is for.
    fn give_up_what_hangs(&mut self) -> Result<(), EgressError> {
        let Some(eos) = &mut self.exactly_once else {
            return Ok(());
        };
        if eos.transactor.is_hung() {
            tracing::error!(
                "the Kafka client does not come back from a call for a transaction; it is left to itself, and nothing is lost"
            );
            eos.transactor.replace().map_err(EgressError::Thread)?;
            eos.is_flushing = false;
            eos.txn.broken();
        }
        Ok(())
    }

    /// Ends the wait for acknowledgements, when all are in or nobody wants them any more. The client's own way of waiting takes
    /// a tenth of a second at least.
    fn flushed(&mut self) -> Result<(), EgressError> {
        let Some(eos) = self.exactly_once.as_mut().filter(|eos| eos.is_flushing) else {
            return Ok(());
        };
        let outcome = match (eos.txn.spoiled(), self.producer.in_flight()) {
            (Some(_), _) => Err(Remedy::Abort),
            (None, 0) => Ok(()),
            (None, _) => return Ok(()),
        };
        eos.is_flushing = false;
        self.outcome(Step::Flush, outcome)
    }

    fn steer(&mut self) {
        let is_holding = self.is_holding();
        let must_hurry = self.must_hurry();
        let Some(eos) = &mut self.exactly_once else {
            return;
        };
        if eos.txn.is_ready()
            && !is_holding
            && (self.sequencer.has_unsettled() || self.sequencer.has_unsent())
        {
            eos.txn.begin();
        }
        if eos.txn.is_open()
            && (must_hurry || eos.txn.is_due(Instant::now()))
            && !self.sequencer.is_split()
        {
            eos.txn.end();
            eos.ending = Instant::now();
        }
    }

    /// Somebody waits for the end of the transaction.
    fn must_hurry(&self) -> bool {
        let Some(eos) = self.exactly_once.as_ref().filter(|eos| eos.txn.is_open()) else {
            return false;
        };
        if self.sequencer.awaits_settling() {
            return true;
        }
        let (kept, most) = self.sequencer.kept();
        let Some(budget) = self.flows.values().next().map(|flow| flow.budget()) else {
            return false;
        };
        let is_most_of = |part: usize, whole: u64| part > 0 && part as u64 * 2 >= whole;
        is_most_of(most, eos.limits.messages_per_partition as u64)
            || is_most_of(kept, budget.limit())
            || (budget.bytes() >= eos.limits.bytes / 4 * 3 && is_most_of(kept, budget.messages()))
    }

    fn steps(&mut self) -> Result<(), EgressError> {
        loop {
            let Some(eos) = &mut self.exactly_once else {
                return Ok(());
            };
            // One call at a time; asking the poll thread is not a call of the client.
            let Some(step) = eos.txn.next(Instant::now()) else {
                return Ok(());
            };
            self.step(step)?;
        }
    }

    fn step(&mut self, step: Step) -> Result<(), EgressError> {
        let Some(eos) = &mut self.exactly_once else {
            return Ok(());
        };
        let call = match step {
            Step::Begin => {
                let begun = self.producer.begin();
                return self.finish(step, &begun);
            }
            #[cfg(feature = "chaos-faults")]
            Step::Identify if faults::is(faults::Fault::NoGenerationCheck) => {
                use rdkafka::consumer::{BaseConsumer, Consumer as _};
                // Never joins, so it has no generation.
                let nobody: BaseConsumer = eos.nobody.create()?;
                return self.identified(nobody.group_metadata().map(Identity));
            }
            Step::Identify => {
                eos.bell.ring();
                return Ok(());
            }
            Step::Flush => {
                eos.is_flushing = true;
                return self.flushed();
            }
            Step::Recreate => return self.recreate(),
            Step::Resolve => {
                eos.asked = self.sequencer.leases();
                Call::Resolve(eos.asked.iter().map(|lease| lease.partition).collect())
            }
            Step::SendOffsets => {
                if eos.offsets.is_empty() {
                    eos.offsets = self.sequencer.unsettled();
                }
                #[cfg(feature = "chaos-faults")]
                if faults::is(faults::Fault::OffsetsOutside) {
                    return self.outcome(step, Ok(()));
                }
                let offsets = eos.offsets.iter().map(|(l, offset)| (l.partition, *offset));
                match &eos.group {
                    Some(group) => Call::SendOffsets(
                        self.producer.handle(),
                        offsets.collect(),
                        Arc::clone(group),
                    ),
                    None => return self.outcome(step, Err(Remedy::Abort)),
                }
            }
            Step::Init => Call::Init(self.producer.handle()),
            Step::Commit => Call::Commit(self.producer.handle()),
            Step::Abort => Call::Abort(self.producer.handle()),
        };
        eos.transactor.call(call);
        Ok(())
    }

    /// A call has come back. Every delivery report that it led to is taken in first.
    pub(super) fn called(&mut self, done: Done) -> Result<(), EgressError> {
        if let Some(eos) = &mut self.exactly_once {
            eos.transactor.rest();
        }
        self.collect()?;
        let Done {
            step,
            result,
            committed,
        } = done;
        if result.is_ok() {
            match step {
                Step::Resolve => self.resolved(&committed),
                // The client says that nothing is on its way any more; a report that is missing would be
                // taken for one of the next transaction.
                Step::Abort if self.producer.in_flight() > 0 => {
                    tracing::error!(
                        missing = self.producer.in_flight(),
                        "delivery reports are missing; the Kafka producer is replaced"
                    );
                    return self.outcome(step, Err(Remedy::Recreate));
                }
                _ => {}
            }
        }
        self.finish(step, &result)
    }

    /// The poll thread says who we are; `None` while that is not certain.
    pub(super) fn identified(&mut self, group: Option<Identity>) -> Result<(), EgressError> {
        let Some(eos) = &mut self.exactly_once else {
            return Ok(());
        };
        eos.group = group.map(Arc::new);
        let outcome = match &eos.group {
            Some(_) => Ok(()),
            None => Err(Remedy::Abort),
        };
        self.outcome(Step::Identify, outcome)
    }

    /// Looks an error up, and says it.
    fn finish(&mut self, step: Step, result: &KafkaResult<()>) -> Result<(), EgressError> {
        let Err(error) = result else {
            return self.outcome(step, Ok(()));
        };
        let call = transactor::in_table(step);
        let remedy = errors::remedy(call, &Fault::from(error));
        let code = transactor::code(error);
        self.metrics
            .transaction_errors
            .get_or_create(&RemedyLabels {
                code: code.clone(),
                remedy: remedy.as_str(),
            })
            .inc();
        if remedy == Remedy::Exit {
            let id = self.exactly_once.as_ref().map(|eos| eos.id.clone());
            return Err(EgressError::Transaction {
                call,
                id: id.unwrap_or_default(),
                error: Box::new(error.clone()),
            });
        }
        if let Some(suppressed) = FAILED.pass() {
            tracing::warn!(
                ?call, code, remedy = remedy.as_str(), %error, suppressed,
                "a transaction met an error; nothing is lost"
            );
        }
        self.outcome(step, Err(remedy))
    }

    fn outcome(&mut self, step: Step, outcome: Result<(), Remedy>) -> Result<(), EgressError> {
        let Some(eos) = &mut self.exactly_once else {
            return Ok(());
        };
        let (sends, spoiled) = (eos.txn.sends(), eos.txn.spoiled());
        match eos.txn.done(step, outcome, Instant::now()) {
            Turn::None => {}
            Turn::Committed => {
                let took = eos.ending.elapsed();
                self.metrics.txn_commit_duration.observe(took.as_secs_f64());
                self.metrics.txn_messages.observe(sends as f64);
                self.count_transaction("committed");
                self.settle_all();
                self.heard = Instant::now();
                self.backoff = super::BACKOFF.0;
            }
            Turn::Undone => {
                if step == Step::Abort {
                    self.count_transaction(spoiled.map_or("failed", |why| why.as_str()));
                }
                self.undo();
            }
            Turn::Exit => {
                return Err(EgressError::Transaction {
                    call: transactor::in_table(step),
                    id: eos.id.clone(),
                    error: Box::new(KafkaError::Canceled),
                });
            }
        }
        Ok(())
    }

    fn count_transaction(&self, outcome: &'static str) {
        self.metrics
            .txn
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    fn settle_all(&mut self) {
        let Some(eos) = &mut self.exactly_once else {
            return;
        };
        for (lease, offset) in std::mem::take(&mut eos.offsets) {
            self.settle(lease, offset);
        }
    }

    /// What was sent since the begin does not count: it is sent again.
    fn undo(&mut self) {
        if let Some(eos) = &mut self.exactly_once {
            eos.offsets.clear();
        }
        self.alone = None;
        #[cfg(feature = "chaos-faults")]
        if faults::is(faults::Fault::NoRewind) {
            return;
        }
        self.sequencer.failed_all();
    }

    /// What turns out to be committed has been answered; the rest is sent again.
    fn resolved(&mut self, committed: &HashMap<i32, i64>) {
        let Some(eos) = &mut self.exactly_once else {
            return;
        };
        for lease in std::mem::take(&mut eos.asked) {
            if let Some(offset) = committed.get(&lease.partition) {
                self.settle(lease, *offset);
            }
        }
    }

    fn settle(&mut self, lease: Lease, offset: i64) {
        let mut left = Vec::new();
        self.sequencer.settle(lease, offset, |slot, item| {
            let is_short = !self.attempts.is_empty()
                && self.attempts.remove(&(lease, slot)) == Some(super::Attempt::Digest);
            super::count(&self.metrics, item);
            if is_short {
                left.push(item.part());
            }
        });
        for part in left {
            super::count_truncated(&self.metrics, part);
        }
    }

    fn recreate(&mut self) -> Result<(), EgressError> {
        tracing::warn!(
            "the Kafka producer is replaced; the new one settles what the old one left open. If this repeats, another replica \
             has the same transactional id: give each its own ops.instance"
        );
        self.metrics.producer_recreated.inc();
        self.count_transaction("recreated");
        self.producer = Producer::new(&self.producer_config, self.errors.clone())?;
        self.outcome(Step::Recreate, Ok(()))
    }

    /// Before the thread ends: what is open is aborted, so that readers of committed results need not wait
    /// until the broker does it.
    pub(super) fn wind_up(&mut self) -> Result<(), EgressError> {
        let until = Instant::now() + WIND_UP;
        loop {
            let Some(eos) = &mut self.exactly_once else {
                return Ok(());
            };
            eos.txn.stop();
            if (eos.txn.is_idle() && !eos.transactor.is_busy()) || Instant::now() >= until {
                return Ok(());
            }
            // The poll thread, which would tell, has ended.
            self.outcome(Step::Identify, Err(Remedy::Abort))?;
            self.collect()?;
            self.flushed()?;
            let Some(eos) = &mut self.exactly_once else {
                return Ok(());
            };
            if let Ok(done) = eos.transactor.done.recv_timeout(super::BUSY_WAIT) {
                self.called(done)?;
            }
            self.steps()?;
        }
    }
}

/// Settings of a producer that writes in transactions.
pub(super) fn transactional(client: &mut ClientConfig, config: &KafkaConfig, id: &str) {
    let timeout = config.transaction_timeout.as_millis().to_string();
    // A transaction that ends waits for what lingers.
    let linger = config.linger.min(config.transaction_interval / 40);
    client
        .set("linger.ms", linger.as_millis().to_string())
        .set("transactional.id", id)
        .set("transaction.timeout.ms", &timeout)
        // What is not delivered by then will not be, because the broker has aborted the transaction.
        .set("message.timeout.ms", &timeout);
}

/// Settings of the consumer that asks what is committed. It never joins the group.
fn asking_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = client::config(config, client::Role::Consumer);
    client
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed");
    client.remove("group.instance.id");
    client
}
