//! The poll thread: the only one that touches the consumer, but for the thread that waits for commits.
//!
//! One round of its loop serves the group's events, moves a rebalance on, gives each owned partition
//! a short turn, and commits when it is time. No step waits for anything: not for the workers (a full
//! pool means that partitions are not polled), not for the egress thread (drains are looked at again
//! in the next round), not for the broker (commits are waited for elsewhere). Partitions are never
//! paused, because that throws away what was fetched for them.

mod handover;
mod stop;
mod stuck;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::Scanning;
use super::batch::MAX_RECORDS;
use super::client;
use super::commit::{Committer, Mode};
use super::egress::Command;
#[cfg(feature = "chaos-faults")]
use super::faults::{self, Fault};
use super::fetch_notes::{FetchNotes, Positions};
use super::flow::{Budget, Flow, FlowLimits};
use super::membership::{Bell, Identity};
use super::memory::Share;
use super::nudge::Nudger;
use super::partition::Partition;
use super::rebalance::GroupContext;
use super::replay::Reading;
use super::skew::{self, Skew};
use super::unreadable::Prober;
use crate::config::{GroupProtocol, KafkaConfig};
use crate::health::{Check, Health};
use crate::log::Throttle;
use crate::metrics::{Metrics, StageLabel};
use crate::shutdown::Shutdown;

/// How long a round without work sleeps. Partition queues wake the thread earlier.
const PARK: Duration = Duration::from_millis(10);
/// The same while a drain or a commit is waited for.
const SHORT_PARK: Duration = Duration::from_millis(1);
/// Records after which a commit is due before its time.
const COMMIT_EVERY: u64 = 10_000;
/// How long the commit at the end of a lease may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// Work that is taken ahead.
const AHEAD: Duration = Duration::from_millis(500);
/// How often gauges are written, and how often the log says how it goes.
const MEASURE: Duration = Duration::from_secs(1);
const REPORT: Duration = Duration::from_secs(30);
/// How often the log says that the load is uneven.
const WARN_OF_SKEW: Duration = Duration::from_secs(600);

/// The poll thread cannot go on. Nothing that was not acknowledged was committed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PollError {
    /// No consumer could be made.
    #[error("the Kafka consumer could not be created: {0}")]
    Create(#[source] KafkaError),
    /// The operating system refused a thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The group refused this member for good, for example because another one has its static id.
    #[error("the consumer group refused this member for good: {0}")]
    Fatal(#[source] KafkaError),
    /// The group has forgotten what it had committed, as it does when a topic is deleted. librdkafka would go on in the middle of another one
    /// of the same name.
    #[error(
        "topic {topic} was deleted: group {group} had committed offset {offset} of its partition {partition}, and has no offset now; nothing is \
         read any more. Start the service again: it reads the topic that has the name now from the start"
    )]
    Forgotten {
        /// The input topic.
        topic: String,
        /// The consumer group.
        group: String,
        /// A partition.
        partition: i32,
        /// What was committed of it.
        offset: i64,
    },
    /// librdkafka did not accept the answer to a rebalance.
    #[error("a rebalance could not be answered ({kind}): {error}")]
    Rebalance {
        /// assign, revoke or lost.
        kind: &'static str,
        /// What librdkafka said.
        #[source]
        error: KafkaError,
    },
    /// Another thread of the service ended; it says why itself.
    #[error("a thread of the service has ended")]
    Deserted,
}

/// What an orderly stop came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Records that were read and could not be answered in time. They are read again by the next
    /// owner.
    pub abandoned: u64,
    /// Whether the last commit was confirmed.
    pub committed: bool,
}

/// What is known of how the last processes ended.
#[derive(Debug, Default)]
pub struct CrashNotes {
    /// Records of each partition that are scanned one at a time, see [`CrashGuard::careful`](super::crash_guard::CrashGuard::careful).
    pub careful: BTreeMap<i32, RangeInclusive<i64>>,
    /// What is being fetched, if it is to be noted.
    pub fetches: Option<FetchNotes>,
}

/// Parts that the poll thread works with.
#[derive(Debug)]
pub struct Wiring<S> {
    /// Where batches are scanned.
    pub scanning: S,
    /// To the egress thread.
    pub commands: Sender<Command>,
    /// Nothing is ever sent: it is disconnected when another thread of the service has ended.
    pub lifeline: Receiver<()>,
    /// What is in flight.
    pub budget: Arc<Budget>,
    /// By which the egress thread asks who we are in the group.
    pub bell: Arc<Bell>,
    /// Records that may be in flight however slow the workers are.
    pub min_in_flight: u64,
    /// What the ends of the last processes left.
    pub left: CrashNotes,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Probes.
    pub health: Arc<Health>,
    /// The request to stop.
    pub shutdown: Shutdown,
}

/// State of the poll thread.
pub struct PollLoop<S> {
    // First, because fields are dropped in this order.
    inline: AnswerInline,
    config: KafkaConfig,
    wiring: Wiring<S>,
    consumer: Arc<BaseConsumer<GroupContext>>,
    partitions: BTreeMap<i32, Partition>,
    /// The partition whose turn comes first in the next round.
    first: i32,
    generation: u64,
    handover: Option<handover::Handover>,
    arrival: Option<handover::Arrival>,
    positions: Positions,
    committer: Committer,
    nudger: Nudger,
    last_commit: Instant,
    /// Records taken since the last commit.
    since_commit: u64,
    last_measure: Instant,
    /// Records taken since the last measurement, and in flight then.
    since_measure: u64,
    in_flight_before: u64,
    /// Records that may be in flight, all partitions together.
    max_in_flight: u64,
    last_report: Instant,
    /// Records taken since the last report.
    since_report: u64,
    held_back: Option<(&'static str, Instant)>,
    thread: Thread,
    reading: Reading,
    watch: skew::Watch,
    skew_warning: Throttle,
    prober: Prober,
    /// Readiness tells of partitions that cannot be read.
    tells_of_stuck: bool,
}

/// Makes sure that a consumer is never dropped while a rebalance waits for its answer, a panic of the
/// loop included: it would hang for ever.
struct AnswerInline(Arc<BaseConsumer<GroupContext>>);

impl Drop for AnswerInline {
    fn drop(&mut self) {
        self.0.context().close(&self.0);
    }
}

/// What a round of turns came to.
#[derive(Default)]
struct Turns {
    /// Records.
    taken: u64,
    /// The stage that had no room, if one had none.
    held_back: Option<&'static str>,
}

impl<S> fmt::Debug for PollLoop<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollLoop")
            .field("partitions", &self.partitions.keys())
            .finish_non_exhaustive()
    }
}

impl<S: Scanning> PollLoop<S> {
    /// Connects, and joins the group if it reads what a group gives it. Call it on the thread that will [`run`](Self::run).
    ///
    /// # Errors
    /// The configuration does not make a consumer.
    pub fn new(
        config: &KafkaConfig,
        wiring: Wiring<S>,
        reading: Reading,
    ) -> Result<Self, PollError> {
        let errors = client::Errors::new(Arc::clone(&wiring.metrics));
        let context = GroupContext::new(&config.input_topic, errors, Arc::clone(&wiring.metrics));
        let settings = consumer_config(config);
        let consumer: BaseConsumer<GroupContext> = settings
            .create_with_context(context)
            .map_err(PollError::Create)?;
        if let Reading::Group = reading {
            consumer
                .subscribe(&[&config.input_topic])
                .map_err(PollError::Create)?;
        }
        let consumer = Arc::new(consumer);
        let committer = Committer::start(
            Arc::clone(&consumer),
            config.input_topic.clone(),
            Arc::clone(&wiring.metrics),
        )
        .map_err(PollError::Thread)?;
        let nudger = Nudger::start(Arc::clone(&consumer), config.input_topic.clone())
            .map_err(PollError::Thread)?;
        let positions = Positions::start(Arc::clone(&consumer), config.input_topic.clone())
            .map_err(PollError::Thread)?;
        let prober =
            Prober::start(settings, config.input_topic.clone()).map_err(PollError::Thread)?;
        wiring.bell.listen();
        wiring.budget.set_limit(wiring.min_in_flight);
        let now = Instant::now();
        Ok(PollLoop {
            inline: AnswerInline(Arc::clone(&consumer)),
            committer,
            nudger,
            config: config.clone(),
            consumer,
            partitions: BTreeMap::new(),
            first: 0,
            generation: 0,
            handover: None,
            arrival: None,
            positions,
            last_commit: now,
            since_commit: 0,
            last_measure: now,
            since_measure: 0,
            in_flight_before: 0,
            max_in_flight: wiring.min_in_flight,
            last_report: now,
            since_report: 0,
            held_back: None,
            thread: thread::current(),
            wiring,
            reading,
            watch: skew::Watch::new(now),
            skew_warning: Throttle::new(WARN_OF_SKEW),
            prober,
            tells_of_stuck: false,
        })
    }

    /// Works until a stop is requested, then stops in order: nothing more is taken, what was taken is
    /// answered within the drain timeout, the watermarks are committed, the group is left.
    ///
    /// # Errors
    /// Something ended that the service cannot be without. The group is left then, too.
    pub fn run(mut self) -> Result<Left, PollError> {
        let result = self.work();
        let left = result.map(|()| self.drain());
        self.wiring.health.poll_loop().rest();
        let metrics = Arc::clone(&self.wiring.metrics);
        let owned: Vec<i32> = self.partitions.keys().copied().collect();
        self.leave();
        for partition in owned {
            metrics.remove_partition(partition);
        }
        metrics.assigned_partitions.set(0);
        left?
    }

    fn work(&mut self) -> Result<(), PollError> {
        if let Reading::Spans(spans) = self.reading.clone() {
            self.assign(&spans)?;
        }
        while !self.wiring.shutdown.is_requested() && !self.is_through() {
            let served = self.round()?;
            let Turns { taken, held_back } = self.turns()?;
            if served + taken == 0 {
                let soon = self.handover.is_some() || self.arrival.is_some() || held_back.is_some();
                thread::park_timeout(if soon { SHORT_PARK } else { PARK });
            }
        }
        Ok(())
    }

    /// True if there are ends, and they are reached.
    fn is_through(&self) -> bool {
        matches!(self.reading, Reading::Spans(_))
            && self.partitions.values().all(Partition::is_through)
    }

    /// Everything but taking records from the partitions.
    fn round(&mut self) -> Result<u64, PollError> {
        self.wiring.health.poll_loop().beat();
        if self
            .wiring
            .lifeline
            .try_recv()
            .is_err_and(|e| e.is_disconnected())
        {
            return Err(PollError::Deserted);
        }
        let taken = self.serve()?;
        self.rebalance()?;
        self.identify()?;
        self.unstick()?;
        self.commit();
        self.measure();
        Ok(taken)
    }

    /// Serves the main queue: rebalances, errors, statistics, outcomes of commits.
    fn serve(&mut self) -> Result<u64, PollError> {
        let consumer = Arc::clone(&self.consumer);
        let mut taken = 0;
        loop {
            let served = consumer.context().served();
            match consumer.poll(Duration::ZERO) {
                None if consumer.context().served() == served => break,
                None => {}
                Some(Err(error)) => self.client_error(error)?,
                Some(Ok(message)) => {
                    // Queues are split off before a partition is assigned, so this is not expected. A
                    // record is a record: it is taken as any other, or left to the next owner.
                    if let Some(partition) = self.partitions.get_mut(&message.partition())
                        && partition.flow.is_live()
                    {
                        partition.take(&message);
                        taken += 1;
                    }
                }
            }
        }
        for (partition, offset) in self.committer.committed().map_err(PollError::Fatal)? {
            if let Some(partition) = self.partitions.get_mut(&partition) {
                partition.committed = Some(offset);
            }
        }
        if let Some((partition, offset)) = self.committer.forgotten() {
            let (topic, group) = (&self.config.input_topic, &self.config.group);
            return Err(PollError::Forgotten {
                topic: topic.clone(),
                group: group.clone(),
                partition,
                offset,
            });
        }
        Ok(taken)
    }

    fn client_error(&mut self, error: KafkaError) -> Result<(), PollError> {
        match error {
            KafkaError::MessageConsumptionFatal(_) => Err(PollError::Fatal(error)),
            _ => {
                // Counted and logged by the context; some of them say something about readiness.
                let topic = &self.config.input_topic;
                match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownTopic
                        | RDKafkaErrorCode::UnknownPartition,
                    ) => {
                        let reason = format!(
                            "topic {topic} does not exist any more: create it, records are read as soon as it is there"
                        );
                        self.wiring.health.fail(Check::InputTopic, reason);
                    }
                    Some(
                        RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::GroupAuthorizationFailed,
                    ) => {
                        let reason = format!(
                            "reading topic {topic} as group {} is not allowed: {error}",
                            self.config.group
                        );
                        self.wiring.health.fail(Check::InputTopic, reason);
                    }
                    _ => {}
                }
                Ok(())
            }
        }
    }

    /// Gives each partition a turn.
    fn turns(&mut self) -> Result<Turns, PollError> {
        let may_take = self.wiring.scanning.is_ready();
        let limits = FlowLimits {
            messages_per_partition: self.config.inflight_messages_per_partition as u64,
            max_messages: self.max_in_flight,
            max_bytes: self.config.inflight_bytes,
            min_share: MAX_RECORDS as u64,
            partitions: self.partitions.len() as u64,
        };
        let may_take = |flow: &Flow| may_take && limits.allow(flow);
        let mut turns = Turns::default();
        let mut errors = Vec::new();
        let order: Vec<i32> = {
            let after = self.partitions.range(self.first..);
            let before = self.partitions.range(..self.first);
            after.chain(before).map(|(id, _)| *id).collect()
        };
        self.first = order.get(1).or(order.first()).copied().unwrap_or_default();
        for id in order {
            let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.flow.is_live()) else {
                continue;
            };
            let end_met = || self.consumer.context().end_met();
            let error_at = || self.consumer.context().error_at();
            let scanning = &self.wiring.scanning;
            let turn = partition.turn(scanning, may_take, end_met, error_at, &mut self.watch);
            self.watch.partition(id, turn.records);
            turns.taken += turn.records;
            errors.extend(turn.error);
            if turn.is_full {
                // Whoever the workers had no room for comes first in the next round.
                self.first = id;
                turns.held_back = Some("scan");
                break;
            }
            if turn.is_throttled {
                turns.held_back = Some("in_flight");
            }
        }
        self.since_commit += turns.taken;
        self.since_measure += turns.taken;
        self.since_report += turns.taken;
        self.held_back(turns.held_back);
        if turns.taken > 0 {
            self.wiring.health.pass(Check::InputTopic);
        }
        for error in errors {
            self.client_error(error)?;
        }
        Ok(turns)
    }

    /// Counts the time from one round that was held back to the next one.
    fn held_back(&mut self, stage: Option<&'static str>) {
        let now = Instant::now();
        if let Some((stage, since)) =
            std::mem::replace(&mut self.held_back, stage.map(|stage| (stage, now)))
        {
            let seconds = now.duration_since(since).as_secs_f64();
            self.wiring
                .metrics
                .backpressure
                .get_or_create(&StageLabel { stage })
                .inc_by(seconds);
        }
    }

    /// Says who we are in the group, if the egress thread asks: for the offsets of a transaction. It is
    /// told on the same way that leases end, so whoever reads it knows which had ended.
    fn identify(&mut self) -> Result<(), PollError> {
        if !self.wiring.bell.take() {
            return Ok(());
        }
        let group = self.consumer.group_metadata();
        // Looked at afterwards: the client says in one step that we are nobody, and that all is lost. What
        // it then calls us would pass for a writer that needs no group.
        #[cfg(not(feature = "chaos-faults"))]
        let group = group.filter(|_| !self.consumer.assignment_lost());
        #[cfg(feature = "chaos-faults")]
        let group =
            group.filter(|_| faults::is(Fault::CommitOnLost) || !self.consumer.assignment_lost());
        command(
            &self.wiring.commands,
            Command::Identity(group.map(Identity)),
        )
    }

    /// Offsets that the consumer has to commit. In transactions that is the producer's work.
    fn to_commit(&self, set: &[i32]) -> Vec<(i32, i64)> {
        if self.offsets_in_transactions() {
            return Vec::new();
        }
        set.iter()
            .filter_map(|id| self.partitions.get(id)?.to_commit())
            .collect()
    }

    fn offsets_in_transactions(&self) -> bool {
        #[cfg(feature = "chaos-faults")]
        if faults::is(Fault::OffsetsOutside) {
            return false;
        }
        self.config.is_exactly_once()
    }

    fn commit(&mut self) {
        let is_due = self.since_commit >= COMMIT_EVERY
            || self.last_commit.elapsed() >= self.config.commit_interval
            || self.partitions.values().any(Partition::wants_commit);
        if !is_due || !self.committer.is_idle() || self.handover.is_some() {
            return;
        }
        self.last_commit = Instant::now();
        self.since_commit = 0;
        if self.offsets_in_transactions() {
            for partition in self.partitions.values_mut() {
                partition.committed = partition.flow.watermark();
            }
            return;
        }
        let owned: Vec<i32> = self.partitions.keys().copied().collect();
        let offsets = self.to_commit(&owned);
        self.committer.commit(offsets, Mode::Async);
    }

    fn measure(&mut self) {
        if self.last_measure.elapsed() < MEASURE {
            return;
        }
        self.adapt(self.last_measure.elapsed());
        self.last_measure = Instant::now();
        let metrics = Arc::clone(&self.wiring.metrics);
        metrics
            .inflight_messages
            .set(self.wiring.budget.messages() as i64);
        metrics
            .inflight_bytes
            .set(self.wiring.budget.bytes() as i64);
        self.wiring.scanning.measure(&metrics);
        let mut lag = Some(0);
        for (id, partition) in &mut self.partitions {
            let one = partition.measure(self.consumer.context().ends(*id));
            lag = lag.zip(one).map(|(sum, one)| sum + one);
            if let Some(fetches) = &mut self.wiring.left.fetches {
                if partition.met_end {
                    fetches.clear(*id);
                } else if let Some(committed) = partition.committed {
                    fetches.passed(*id, committed);
                }
            }
        }
        self.look_for_skew();
        let elapsed = self.last_report.elapsed();
        if elapsed >= REPORT {
            tracing::info!(
                partitions = self.partitions.len(),
                records_per_second = (self.since_report as f64 / elapsed.as_secs_f64()).round(),
                lag = lag.unwrap_or(-1),
                in_flight = self.wiring.budget.messages(),
                "Progress"
            );
            self.last_report = Instant::now();
            self.since_report = 0;
        }
    }

    /// Says so when one key or one partition carries most records.
    fn look_for_skew(&mut self) {
        let Some(seen) = self.watch.look(Instant::now()) else {
            return;
        };
        let metrics = &self.wiring.metrics;
        metrics.busiest_key_share.set(seen.key_share);
        metrics.busiest_partition_share.set(seen.partition_share);
        let Some(skew) = seen.skew else { return };
        if self.skew_warning.pass().is_none() {
            return;
        }
        match skew {
            Skew::Key(key) => tracing::warn!(
                share = hundredths(key.share),
                partition = key.place.partition,
                offset = key.place.offset,
                "One key carries most records, and more replicas cannot help: all of its records are in this partition. Let \
                 senders use a key that differs more, or none; the record at this offset has the key"
            ),
            Skew::Partition { partition, share } => tracing::warn!(
                share = hundredths(share),
                partition,
                "One partition carries most records, and more replicas cannot help: a partition has one owner. Let senders spread \
                 their records over all partitions"
            ),
        }
    }

    /// Lets as much be in flight as is answered in [`AHEAD`]: enough to keep everybody busy, and little
    /// enough to be drained soon, however slow the signatures are.
    fn adapt(&mut self, elapsed: Duration) {
        let in_flight = self.wiring.budget.messages();
        let answered = (self.in_flight_before + self.since_measure).saturating_sub(in_flight);
        let per_second = answered as f64 / elapsed.as_secs_f64();
        self.max_in_flight =
            ((per_second * AHEAD.as_secs_f64()) as u64).max(self.wiring.min_in_flight);
        self.wiring.budget.set_limit(self.max_in_flight);
        self.in_flight_before = in_flight;
        self.since_measure = 0;
    }
}

/// For the log.
fn hundredths(share: f64) -> f64 {
    (share * 100.0).round() / 100.0
}

fn command(commands: &Sender<Command>, command: Command) -> Result<(), PollError> {
    commands.send(command).map_err(|_| PollError::Deserted)
}

/// What one answer of a broker may bring, compressed. librdkafka decompresses all of it before the next.
fn response_bytes(config: &KafkaConfig, share: Share) -> u64 {
    let property = |name| config.properties.get(name)?.parse::<u64>().ok();
    // librdkafka refuses less than the largest message, which means something else to producers.
    let least = property("message.max.bytes").unwrap_or_default();
    property("fetch.max.bytes").unwrap_or_else(|| share.response_bytes.max(least))
}

/// Settings of the consumer. Those that a promise rests on come last and cannot be overridden.
fn consumer_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = client::config(config, client::Role::Consumer);
    // With split queues these limits are for each partition.
    let share = Share::of(config);
    client
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set(
            "session.timeout.ms",
            config.session_timeout.as_millis().to_string(),
        )
        .set(
            "max.poll.interval.ms",
            config
                .max_poll_interval
                .max(config.session_timeout)
                .as_millis()
                .to_string(),
        )
        .set(
            "queued.max.messages.kbytes",
            (share.queued_bytes >> 10).to_string(),
        )
        .set("queued.min.messages", share.queued_records.to_string())
        .set("fetch.message.max.bytes", share.fetch_bytes.to_string())
        .set("fetch.max.bytes", response_bytes(config, share).to_string())
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "5000");
    if config.group_protocol != GroupProtocol::Classic {
        // What the members agreed on is the broker's business then, and librdkafka refuses to be told.
        for name in [
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "partition.assignment.strategy",
        ] {
            client.remove(name);
        }
        client.set("group.protocol", "consumer");
    }
    client
}
