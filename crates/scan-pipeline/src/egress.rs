//! The egress thread: the only one that touches the producer.
//!
//! It takes what the workers made, lets the sequencer put it into input order, sends it, and turns
//! delivery reports into watermarks. A send that fails is repeated, never skipped; while the client's
//! queue is full nothing more is taken from the workers, which holds back the whole chain up to the
//! poll thread.
//!
//! With exactly-once delivery all of this happens in transactions: see `exactly_once`.

mod exactly_once;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, never};
use exactly_once::ExactlyOnce;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::answers::{Answers, Outgoing, Part};
use super::client;
use super::dead_letter::Source;
use super::errors::{self, Call, Fault, Remedy};
#[cfg(feature = "chaos-faults")]
use super::faults;
use super::flow::Flow;
use super::membership::{Bell, Identity};
use super::producer::{Producer, Refusal, Report, Send, Ticket};
use super::sequencer::{Action, Lease, Sequencer, Slot, Stale};
use crate::config::KafkaConfig;
use crate::health::{Check, Health};
use crate::log::Throttle;
use crate::metrics::{
    CodeLabel, KindLabel, Metrics, ProduceErrorLabels, ReasonLabel, ResultLabel, StageLabel,
};
use crate::result;

/// How long the thread sleeps while it waits for delivery reports…
const BUSY_WAIT: Duration = Duration::from_millis(2);
/// …and while there is nothing to wait for but the next batch.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Batches taken between two looks at the producer.
const TAKE: usize = 16;
/// First and longest pause after a failed send.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Readiness fails when results wait and the broker confirms none for this long.
const SILENCE: Duration = Duration::from_secs(10);

/// What the poll thread tells the egress thread.
#[derive(Debug)]
pub enum Command {
    /// A lease begins.
    Assign(Arc<Flow>),
    /// Say when the batches before `through_seq` are answered, in the lease's [`Flow`].
    Drain {
        /// Whose.
        lease: Lease,
        /// Number of batches that were handed to the workers.
        through_seq: u64,
    },
    /// A lease has ended.
    Close(Lease),
    /// Who this replica is in its group, now that every lease which had ended was closed; `None` while that
    /// is not certain.
    Identity(Option<Identity>),
    /// Nothing more is wanted.
    Stop,
}

/// The egress thread cannot go on. Nothing that was not acknowledged has passed a watermark.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EgressError {
    /// No producer could be made.
    #[error("the Kafka producer could not be created: {0}")]
    Producer(#[from] KafkaError),
    /// The operating system refused a thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The broker does not allow what exactly-once delivery needs.
    #[error(
        "exactly-once delivery as {id:?} is not possible ({call:?}): {error}; check what the user is allowed, the broker's \
         transaction.max.timeout.ms and version, or set kafka.delivery to at-least-once"
    )]
    Transaction {
        /// What was tried.
        call: Call,
        /// The transactional id.
        id: String,
        /// What the client said.
        #[source]
        error: Box<KafkaError>,
    },
    /// The broker does not take results from this user, now or later.
    #[error("results cannot be written: {0:?}; check what the user is allowed")]
    Refused(RDKafkaErrorCode),
    /// A worker panicked outside of a scan.
    #[error("a worker panicked on batch {seq} of partition {partition}: {message}")]
    Crashed {
        /// Partition of the batch.
        partition: i32,
        /// Number of the batch in its lease.
        seq: u64,
        /// The panic's message.
        message: String,
    },
}

static FAILED: Throttle = Throttle::new(Duration::from_secs(10));

/// A smaller record, in bytes, is taken to be the victim of others in its batch, this many times.
const SMALL: usize = 16 << 10;
const AGAIN: u8 = 3;

/// How a send that the broker found too large is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// As before, for the n-th time: a small record was in a batch with a large one.
    Again(u8),
    /// With nothing else in flight: perhaps only the batch it travelled in was too large.
    Alone,
    /// As headers and digest, alone as well.
    Digest,
}

/// State of the thread.
pub struct Egress {
    topics: Topics,
    producer_config: ClientConfig,
    producer: Producer,
    errors: client::Errors,
    sequencer: Sequencer<Outgoing>,
    flows: HashMap<i32, Arc<Flow>>,
    attempts: HashMap<(Lease, Slot), Attempt>,
    /// The send that has the line for itself.
    alone: Option<(Lease, Slot)>,
    /// The client's queue was full at the last send.
    is_full: bool,
    backoff: Duration,
    hold_until: Option<Instant>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// When the broker last confirmed something, or nothing was waiting for it.
    heard: Instant,
    /// It has not for too long, and readiness says so.
    is_deaf: bool,
    stale: Stale,
    stopping: bool,
    /// `None` for at-least-once delivery.
    exactly_once: Option<ExactlyOnce>,
    /// See [`SILENCE`].
    silence: Duration,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("held", &self.sequencer.held())
            .finish_non_exhaustive()
    }
}

struct Topics {
    input: String,
    group: String,
    output: String,
    dead_letter: String,
}

impl Egress {
    /// A producer and no leases. Exactly-once delivery needs the name of this replica, and the bell that asks
    /// the poll thread.
    ///
    /// # Errors
    /// The configuration does not make a producer, or the operating system refused a thread.
    pub fn new(
        config: &KafkaConfig,
        instance: &str,
        bell: Arc<Bell>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Result<Egress, EgressError> {
        let mut producer_config = producer_config(config);
        let mut exactly_once = None;
        if config.is_exactly_once() {
            let id = config.transactional_id(instance);
            exactly_once::transactional(&mut producer_config, config, &id);
            exactly_once = Some(ExactlyOnce::new(config, id, bell)?);
        }
        let sequencer = match exactly_once {
            Some(_) => Sequencer::for_transactions(),
            None => Sequencer::new(),
        };
        let errors = client::Errors::new(Arc::clone(&metrics));
        Ok(Egress {
            topics: Topics {
                input: config.input_topic.clone(),
                group: config.group.clone(),
                output: config.output_topic.clone(),
                dead_letter: config.dead_letter_topic.clone(),
            },
            producer: Producer::new(&producer_config, errors.clone())?,
            producer_config,
            errors,
            sequencer,
            flows: HashMap::new(),
            attempts: HashMap::new(),
            alone: None,
            is_full: false,
            backoff: BACKOFF.0,
            hold_until: None,
            metrics,
            health,
            heard: Instant::now(),
            is_deaf: false,
            stale: Stale::default(),
            stopping: false,
            silence: match exactly_once {
                Some(_) => SILENCE + config.transaction_interval,
                None => SILENCE,
            },
            exactly_once,
        })
    }

    /// Works until [`Command::Stop`], or until the poll thread is gone.
    ///
    /// # Errors
    /// A worker crashed, or a producer that failed for good could not be replaced.
    pub fn run(
        mut self,
        commands: &Receiver<Command>,
        answers: &Receiver<Answers>,
    ) -> Result<(), EgressError> {
        let nothing = never();
        while !self.stopping {
            // Another one, when the thread that makes calls was replaced.
            let calls = match &self.exactly_once {
                Some(eos) => eos.transactor.done.clone(),
                None => never(),
            };
            let wait = if self.producer.in_flight() > 0 || self.sequencer.held() > 0 {
                BUSY_WAIT
            } else {
                IDLE_WAIT
            };
            let source = if self.is_full { &nothing } else { answers };
            crossbeam_channel::select! {
                recv(commands) -> command => self.command(command.unwrap_or(Command::Stop))?,
                recv(calls) -> done => if let Ok(done) = done {
                    self.called(done)?;
                },
                recv(source) -> batch => match batch {
                    Ok(batch) => self.take(batch)?,
                    // The workers are gone; what they made is still to be acknowledged.
                    Err(_) => match commands.recv_timeout(wait) {
                        Ok(command) => self.command(command)?,
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => self.stopping = true,
                    },
                },
                default(wait) => {}
            }
            // An assignment is always known before the first batch of its lease: the poll thread sends
            // it first, and commands are emptied before batches.
            for command in commands.try_iter() {
                self.command(command)?;
            }
            if !self.is_full {
                for batch in answers.try_iter().take(TAKE) {
                    self.take(batch)?;
                }
            }
            self.collect()?;
            self.transact()?;
            self.send();
            self.publish();
            self.listen();
        }
        self.wind_up()
    }

    /// A broker that is away fails no send, so silence is what tells.
    fn listen(&mut self) {
        if self.producer.in_flight() == 0 && self.sequencer.held() == 0 {
            self.heard = Instant::now();
        }
        let silent = self.heard.elapsed();
        if silent < self.silence {
            if std::mem::take(&mut self.is_deaf) {
                self.health.pass(Check::Producer);
                tracing::info!("the broker confirms results again");
            }
            return;
        }
        let reason = format!(
            "the broker has confirmed no result for {} s; nothing is lost, reading waits",
            silent.as_secs()
        );
        if !std::mem::replace(&mut self.is_deaf, true) {
            tracing::warn!("Not ready: {reason}");
        }
        self.health.fail(Check::Producer, reason);
    }

    fn command(&mut self, command: Command) -> Result<(), EgressError> {
        match command {
            Command::Assign(flow) => {
                self.sequencer.assign(flow.lease());
                self.flows.insert(flow.lease().partition, flow);
            }
            Command::Drain { lease, through_seq } => self.sequencer.drain(lease, through_seq),
            Command::Close(lease) => {
                self.sequencer.close(lease);
                self.flows.retain(|_, flow| flow.lease() != lease);
                self.attempts.retain(|(of, _), _| *of != lease);
                self.alone = self.alone.filter(|(of, _)| *of != lease);
                #[cfg(feature = "chaos-faults")]
                if faults::is(faults::Fault::NoGenerationCheck)
                    || faults::is(faults::Fault::CommitOnLost)
                {
                    return Ok(());
                }
                if let Some(eos) = &mut self.exactly_once {
                    eos.txn.closed(lease);
                }
            }
            Command::Identity(group) => self.identified(group)?,
            Command::Stop => self.stopping = true,
        }
        Ok(())
    }

    fn take(&mut self, batch: Answers) -> Result<(), EgressError> {
        let (lease, seq) = (batch.lease(), batch.seq());
        if let Some(message) = batch.crash() {
            return Err(EgressError::Crashed {
                partition: lease.partition,
                seq,
                message: message.to_owned(),
            });
        }
        let complete = batch.is_complete();
        let entries = Arc::new(batch).entries();
        #[cfg(feature = "chaos-faults")]
        if faults::is(faults::Fault::HighestSeen)
            && let Some(flow) = self.flows.get(&lease.partition)
            && let Some(offset) = entries.iter().filter_map(|entry| entry.next_offset).max()
        {
            flow.set_watermark(offset);
        }
        self.sequencer.scanned(lease, seq, entries, complete);
        Ok(())
    }

    /// Takes the delivery reports in, and replaces a producer that failed for good.
    fn collect(&mut self) -> Result<(), EgressError> {
        for report in self.producer.poll() {
            self.report(&report)?;
        }
        self.metrics
            .producer_queue_messages
            .set(self.producer.in_flight() as i64);
        if let Some(eos) = &mut self.exactly_once {
            // A call under way says it itself.
            if !eos.transactor.is_busy() && self.producer.fatal().is_some() {
                eos.txn.broken();
            }
            return Ok(());
        }
        // A new one that fails at once is not replaced at once.
        if !self.is_holding()
            && let Some(reason) = self.producer.fatal()
        {
            let fatal = CodeLabel {
                code: "Fatal".to_owned(),
            };
            self.metrics.client_errors.get_or_create(&fatal).inc();
            tracing::error!(
                reason,
                "the Kafka producer failed for good; a new one sends again what was not acknowledged"
            );
            self.producer = Producer::new(&self.producer_config, self.errors.clone())?;
            self.sequencer.failed_all();
            self.alone = None;
            self.back_off();
        }
        Ok(())
    }

    fn report(&mut self, report: &Report) -> Result<(), EgressError> {
        let Ticket { lease, slot, sent } = *report.ticket;
        if self.alone == Some((lease, slot)) {
            self.alone = None;
        }
        let Some(code) = report.error else {
            self.metrics
                .produce_latency
                .observe(sent.elapsed().as_secs_f64());
            // In a transaction nothing is answered before the commit.
            if self.exactly_once.is_none() {
                if let Some(item) = self.sequencer.item(lease, slot) {
                    count(&self.metrics, item);
                    if !self.attempts.is_empty()
                        && self.attempts.remove(&(lease, slot)) == Some(Attempt::Digest)
                    {
                        count_truncated(&self.metrics, item.part());
                    }
                }
                self.heard = Instant::now();
                self.backoff = BACKOFF.0;
            }
            self.sequencer.acked(lease, slot);
            return Ok(());
        };
        self.sequencer.failed(lease, slot);
        if let Some(eos) = &mut self.exactly_once {
            eos.txn.failed();
            // Of an aborted transaction this is what becomes of every send.
            if matches!(
                code,
                RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight
            ) {
                return Ok(());
            }
        }
        self.count_error(code);
        match errors::remedy(Call::Produce, &Fault::of(code)) {
            Remedy::Exit => return Err(EgressError::Refused(code)),
            Remedy::Shorten => self.too_large(lease, slot),
            // If the producer is broken it says so itself, see `collect`.
            _ => {
                if let Some(suppressed) = FAILED.pass() {
                    tracing::warn!(code = ?code, partition = lease.partition, suppressed, "a result was not delivered; it is sent again");
                }
                self.back_off();
            }
        }
        Ok(())
    }

    fn count_error(&self, code: RDKafkaErrorCode) {
        let retriable = errors::remedy(Call::Produce, &Fault::of(code)) == Remedy::Retry;
        self.metrics
            .produce_errors
            .get_or_create(&ProduceErrorLabels {
                code: format!("{code:?}"),
                retriable,
            })
            .inc();
    }

    fn too_large(&mut self, lease: Lease, slot: Slot) {
        let size = self
            .sequencer
            .item(lease, slot)
            .and_then(Outgoing::payload)
            .map_or(0, <[u8]>::len);
        let next = match self.attempts.get(&(lease, slot)) {
            None if size < SMALL => Attempt::Again(1),
            Some(Attempt::Again(n)) if *n < AGAIN => Attempt::Again(n + 1),
            None | Some(Attempt::Again(_)) => Attempt::Alone,
            Some(Attempt::Alone) => Attempt::Digest,
            Some(Attempt::Digest) => {
                tracing::error!(
                    partition = lease.partition,
                    "the broker refuses even the shortest form of a result as too large: raise max.message.bytes of the topic; \
                     nothing is skipped meanwhile"
                );
                self.back_off();
                Attempt::Digest
            }
        };
        self.attempts.insert((lease, slot), next);
    }

    fn back_off(&mut self) {
        // Several reports of one failure are one failure.
        if !self.is_holding() {
            self.hold_until = Some(Instant::now() + self.backoff);
            self.backoff = (self.backoff * 2).min(BACKOFF.1);
        }
    }

    fn is_holding(&self) -> bool {
        self.hold_until.is_some_and(|until| Instant::now() < until)
    }

    fn send(&mut self) {
        if self.is_holding() || self.alone.is_some() {
            return;
        }
        if let Some(eos) = &self.exactly_once
            && !eos.txn.is_open()
        {
            self.is_full = false;
            return;
        }
        self.hold_until = None;
        self.is_full = false;
        while let Some((lease, slot, item)) = self.sequencer.next_send() {
            let attempt = if self.attempts.is_empty() {
                None
            } else {
                self.attempts.get(&(lease, slot)).copied()
            };
            let is_alone = matches!(attempt, Some(Attempt::Alone | Attempt::Digest));
            if is_alone && self.producer.in_flight() > 0 {
                // It waits, and everything with it, until the line is clear.
                self.sequencer.failed(lease, slot);
                return;
            }
            let ticket = Ticket {
                lease,
                slot,
                sent: Instant::now(),
            };
            let result = match attempt {
                Some(Attempt::Digest) => {
                    let digest = match item.part() {
                        Part::Result => result::digest_only(item.payload().unwrap_or_default()),
                        Part::DeadLetter => Vec::new(),
                    };
                    self.producer
                        .send(shortest(&self.topics, item, &digest), ticket)
                }
                _ => self.producer.send(whole(&self.topics, item), ticket),
            };
            if let (Ok(()), Some(eos)) = (&result, &mut self.exactly_once) {
                eos.txn.sent(lease);
            }
            #[cfg(feature = "chaos-faults")]
            if result.is_ok() && faults::is(faults::Fault::CommitBeforeAck) {
                self.sequencer.acked(lease, slot);
            }
            match result {
                Ok(()) if is_alone => {
                    self.alone = Some((lease, slot));
                    return;
                }
                Ok(()) => {}
                Err(Refusal::Full) => {
                    self.sequencer.failed(lease, slot);
                    self.metrics.producer_queue_full.inc();
                    self.is_full = true;
                    return;
                }
                Err(Refusal::TooLarge) => {
                    self.count_error(RDKafkaErrorCode::MessageSizeTooLarge);
                    // The client's own limit is about the record, not about a batch of records.
                    if attempt != Some(Attempt::Digest) {
                        self.attempts.insert((lease, slot), Attempt::Alone);
                    }
                    self.too_large(lease, slot);
                    self.sequencer.failed(lease, slot);
                }
                Err(Refusal::Other(code)) => {
                    if let Some(suppressed) = FAILED.pass() {
                        tracing::warn!(code = ?code, suppressed, "a result was not taken by the Kafka client; it is sent again");
                    }
                    self.count_error(code);
                    self.sequencer.failed(lease, slot);
                    self.back_off();
                    return;
                }
            }
        }
    }

    /// Lets the poll thread see what the reports have come to.
    fn publish(&mut self) {
        while let Some(action) = self.sequencer.next_action() {
            match action {
                Action::Watermark { lease, offset } => {
                    if let Some(flow) = self.flows.get(&lease.partition) {
                        flow.set_watermark(offset);
                    }
                }
                Action::Drained { lease } => {
                    if let Some(flow) = self.flows.get(&lease.partition) {
                        flow.set_drained();
                    }
                }
            }
        }
        let stale = self.sequencer.stale();
        let count = |stage, new: u64, old: u64| {
            if new > old {
                self.metrics
                    .stale_results_dropped
                    .get_or_create(&StageLabel { stage })
                    .inc_by(new - old);
            }
        };
        count("scanned", stale.scanned, self.stale.scanned);
        count("delivered", stale.delivered, self.stale.delivered);
        self.stale = stale;
    }
}

/// Counts an answer that is certain now.
fn count(metrics: &Metrics, item: &Outgoing) {
    if let Some(letter) = item.dead_letter() {
        metrics
            .dlq_produced
            .get_or_create(&ReasonLabel {
                reason: letter.reason.as_str(),
            })
            .inc();
        return;
    }
    metrics
        .results_produced
        .get_or_create(&ResultLabel {
            result: item.status(),
        })
        .inc();
    metrics.processing_rate.add(1);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if let Some(then) = item
        .source_timestamp_ms()
        .and_then(|ms| u64::try_from(ms).ok())
    {
        let age = now.saturating_sub(Duration::from_millis(then));
        metrics.end_to_end_latency.observe(age.as_secs_f64());
    }
}

fn count_truncated(metrics: &Metrics, part: Part) {
    let kind = match part {
        Part::Result => "result",
        Part::DeadLetter => "dead_letter",
    };
    metrics
        .results_truncated
        .get_or_create(&KindLabel { kind })
        .inc();
}

fn whole<'a>(topics: &'a Topics, item: &'a Outgoing) -> Send<'a> {
    Send {
        topic: topics.of(item),
        key: item.key(),
        payload: item.payload(),
        headers: item.headers(topics.source()),
        timestamp_ms: item.dead_letter().and_then(|letter| letter.timestamp_ms()),
    }
}

fn shortest<'a>(topics: &'a Topics, item: &'a Outgoing, digest: &'a [u8]) -> Send<'a> {
    match item.dead_letter() {
        Some(letter) => Send {
            payload: None,
            headers: letter.digest_headers(topics.source()),
            ..whole(topics, item)
        },
        None => Send {
            payload: Some(digest),
            ..whole(topics, item)
        },
    }
}

impl Topics {
    fn source(&self) -> Source<'_> {
        Source {
            topic: &self.input,
            group: &self.group,
        }
    }

    fn of(&self, item: &Outgoing) -> &str {
        match item.part() {
            Part::Result => &self.output,
            Part::DeadLetter => &self.dead_letter,
        }
    }
}

/// Settings of the producer. Those that a promise rests on come last and cannot be overridden.
fn producer_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = client::config(config, client::Role::Producer);
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // A broker that is away holds results back; it does not fail them.
        .set("message.timeout.ms", "0")
        .set("linger.ms", config.linger.as_millis().to_string())
        .set("compression.codec", config.compression.as_str());
    client
}
