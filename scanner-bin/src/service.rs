//! The service: topics, threads, and the order in which they start and stop.
//!
//! ```text
//! poll thread ──batches──▶ screening ──answers──────────────▶ egress thread
//!      │                       └──records──▶ engine ──answers──▶│
//!      └───────────────commands─────────────────────────────────▲
//! ```
//!
//! Stopping goes along the arrows: the poll thread takes nothing more, waits for what it took,
//! commits and leaves the group; then the workers stop; then the egress thread. A thread that ends
//! before its time ends the service: what was not acknowledged is not committed, and a new process
//! reads it again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use rdkafka::error::KafkaError;
use scanlib::error::panic_message;
use scanlib::{DetectorSlot, Parser};
use thiserror::Error;

use crate::config::Config;
use crate::ops::health::{Check, Health};
use crate::ops::metrics::{Metrics, StageLabel};
use crate::shutdown::Shutdown;
use crate::wrong::WrongReports;
use scan_pipeline::batch::MAX_RECORDS;
use scan_pipeline::circuit::Circuit;
use scan_pipeline::consumer::{CrashNotes, Left, PollError, PollLoop, Wiring};
use scan_pipeline::crash_guard::CrashGuard;
use scan_pipeline::egress::{Command, Egress, EgressError};
use scan_pipeline::fetch_notes::FetchNotes;
use scan_pipeline::flow::Budget;
use scan_pipeline::membership::Bell;
use scan_pipeline::memory::Memory;
use scan_pipeline::quota::Quota;
use scan_pipeline::replay::{Reading, Span};
use scan_pipeline::topics;
use scan_pipeline::work::{RecordProcessor, Stages};

/// How long each of the other threads may take to end once the poll thread has.
const JOIN: Duration = Duration::from_secs(5);
/// Commands that may wait for the egress thread; it empties them several times a second at least.
const COMMANDS: usize = 1024;

/// Full batches for each worker that may be in flight at the least: one being scanned, one waiting, the
/// others on their way in and out.
const BATCHES_PER_WORKER: usize = 4;

/// What others see of the service.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Probes.
    pub health: Arc<Health>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// How an orderly stop went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitReport {
    /// Records that were read and not answered in time; the next owner reads them again.
    pub abandoned: u64,
    /// Whether everything answered is committed. If not, it is answered again.
    pub committed: bool,
}

impl ExitReport {
    /// 0 if everything that was read is answered and committed, else 3.
    pub fn exit_code(&self) -> u8 {
        if self.abandoned == 0 && self.committed {
            0
        } else {
            3
        }
    }
}

/// Why the service ended by itself. Nothing that was not acknowledged was committed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The configuration does not make a Kafka client.
    #[error("no Kafka client can be made from the configuration: {0}")]
    Client(#[source] KafkaError),
    /// The operating system refused a thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
    /// Reading cannot go on.
    #[error(transparent)]
    Poll(PollError),
    /// Writing results cannot go on.
    #[error(transparent)]
    Egress(EgressError),
    /// A thread panicked.
    #[error("the {thread} thread panicked: {message}")]
    Panicked {
        /// Its name.
        thread: &'static str,
        /// The panic's message.
        message: String,
    },
}

/// Runs until a stop is requested or the service cannot go on. The detector may be swapped meanwhile.
///
/// # Errors
/// See [`ServiceError`]. A broker or a topic that is not there is no error: it is waited for.
pub fn run(
    config: &Config,
    slot: &DetectorSlot,
    watch: &Watch,
    shutdown: &Shutdown,
) -> Result<ExitReport, ServiceError> {
    read(config, slot, watch, shutdown, Reading::Group)
}

/// Reads parts of the topic once more, and ends with them or when a stop is requested. The spans tell how far it came.
///
/// # Errors
/// As for [`run`].
pub fn replay(
    config: &Config,
    slot: &DetectorSlot,
    watch: &Watch,
    shutdown: &Shutdown,
    spans: Vec<Span>,
) -> Result<ExitReport, ServiceError> {
    read(config, slot, watch, shutdown, Reading::Spans(spans))
}

fn read(
    config: &Config,
    slot: &DetectorSlot,
    watch: &Watch,
    shutdown: &Shutdown,
    reading: Reading,
) -> Result<ExitReport, ServiceError> {
    let is_replay = matches!(reading, Reading::Spans(_));
    let kafka = &config.kafka;
    let found = topics::wait(kafka, &watch.health, &watch.metrics, shutdown)
        .map_err(ServiceError::Client)?;
    let Some(cluster) = found else {
        return Ok(ExitReport {
            abandoned: 0,
            committed: true,
        });
    };

    announce(&Memory::of(kafka), watch);
    let threads = config.scan.threads;
    let guard = guard(config, &cluster.id, is_replay);
    let left = crash_notes(guard.as_ref(), config.scan.crash_limit);
    let processor = Arc::new(RecordProcessor {
        instance: config.ops.instance.clone(),
        is_replay,
        cluster: cluster.id,
        topic: kafka.input_topic.clone(),
        parser: Parser::new(config.scan.fields.clone()),
        max_message_bytes: config.scan.max_message_bytes,
        max_record_time: config.scan.max_record_time,
        retries: config.scan.retries,
        emit: kafka.emit,
        result_key: kafka.result_key,
        result_format: kafka.result_format,
        guard,
        wrong: WrongReports::new(config.scan.wrong_dir.clone(), Arc::clone(&watch.metrics)),
        circuit: Circuit::new(Arc::clone(&watch.health)),
        quota: Quota::new(
            kafka.dead_letter_limits,
            Arc::clone(&watch.health),
            Arc::clone(&watch.metrics),
        ),
        health: Arc::clone(&watch.health),
        metrics: Arc::clone(&watch.metrics),
    });
    let (to_egress, commands) = bounded(COMMANDS);
    let (answered, answers) = bounded(threads.get() * 2);
    let stages = Stages::start(slot, processor, threads, kafka.inflight_bytes, answered)
        .map_err(ServiceError::Thread)?;

    let bell = Arc::new(Bell::default());
    let egress = Egress::new(
        kafka,
        &config.ops.instance,
        Arc::clone(&bell),
        Arc::clone(&watch.metrics),
        Arc::clone(&watch.health),
    )
    .map_err(ServiceError::Egress)?;
    let (alive, lifeline) = bounded::<()>(0);
    let egress = Running::start("egress", move || {
        let _alive = alive;
        egress.run(&commands, &answers)
    })?;

    let wiring = Wiring {
        scanning: stages.clone(),
        commands: to_egress.clone(),
        lifeline,
        budget: Arc::new(Budget::default()),
        bell,
        min_in_flight: (BATCHES_PER_WORKER * threads.get() * MAX_RECORDS) as u64,
        left,
        metrics: Arc::clone(&watch.metrics),
        health: Arc::clone(&watch.health),
        shutdown: shutdown.clone(),
    };
    let poll_config = kafka.clone();
    let poll = Running::start("poll", move || {
        PollLoop::new(&poll_config, wiring, reading)?.run()
    })?;

    let left = poll.wait(None);
    watch.health.fail(Check::Running, "the service is stopping");
    // Workers are through with what is wanted, or it is not wanted any more.
    let stopping = Running::start("stop", move || {
        drop(stages);
        Ok::<(), EgressError>(())
    })?;
    let stopped = stopping.wait(Some(JOIN));
    // An egress thread that is gone already does not take it.
    let _gone = to_egress.send(Command::Stop);
    let sent = egress.wait(Some(JOIN));
    if stopped.is_none() || sent.is_none() {
        tracing::warn!(
            "threads are still busy after {} s; the process ends without them",
            JOIN.as_secs()
        );
    }

    match (left, sent) {
        // What the egress thread says is the cause; the poll thread only saw that it was gone.
        (_, Some(Ended::Error(error))) => Err(ServiceError::Egress(error)),
        (_, Some(Ended::Panic(message))) => Err(ServiceError::Panicked {
            thread: "egress",
            message,
        }),
        (Some(Ended::Error(error)), _) => Err(ServiceError::Poll(error)),
        (Some(Ended::Panic(message)), _) => Err(ServiceError::Panicked {
            thread: "poll",
            message,
        }),
        (
            Some(Ended::Ok(Left {
                abandoned,
                committed,
            })),
            _,
        ) => Ok(ExitReport {
            abandoned,
            committed,
        }),
        (None, _) => Ok(ExitReport::default()),
    }
}

/// Says what may be held at most, for whoever sets the limit of the process.
fn announce(memory: &Memory, watch: &Watch) {
    let stages = [
        ("fetched", memory.fetched),
        ("in_flight", memory.in_flight),
        ("results", memory.results),
    ];
    for (stage, bytes) in stages {
        let gauge = watch
            .metrics
            .memory_budget
            .get_or_create(&StageLabel { stage });
        gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    tracing::info!(
        fetched = memory.fetched,
        in_flight = memory.in_flight,
        results = memory.results,
        total = memory.total(),
        "Memory for records and results in bytes; a compressed batch may take more than is planned for what is fetched, unless the topic has \
         compression.type=uncompressed"
    );
}

/// The notes of what is being scanned; without them the service is only less careful.
fn guard(config: &Config, cluster: &str, is_replay: bool) -> Option<CrashGuard> {
    let dir = config.scan.crash_journal.as_deref()?;
    let kind = if is_replay { "-replay" } else { "" };
    let stream = format!("{cluster}-{}{kind}", config.kafka.input_topic);
    match CrashGuard::open(
        dir,
        &stream,
        config.scan.threads.get(),
        config.scan.crash_limit,
    ) {
        Ok(guard) => Some(guard),
        Err(error) => {
            tracing::warn!(
                dir = %dir.display(),
                %error,
                "No journal of what is being scanned: a record that crashes the process would do so \
                 again; set scan.crash_journal to a directory that outlives it"
            );
            None
        }
    }
}

/// What the last processes noted before they ended.
fn crash_notes(guard: Option<&CrashGuard>, limit: u32) -> CrashNotes {
    let Some(guard) = guard else {
        return CrashNotes::default();
    };
    let careful = guard.careful();
    for (partition, range) in &careful {
        tracing::warn!(
            partition,
            first = range.start(),
            last = range.end(),
            "The last process ended while it scanned; these records are scanned one at a time, each committed before the next"
        );
    }
    let path = guard.path().with_extension("fetch");
    let fetches = FetchNotes::open(&path, limit)
        .inspect_err(|error| {
            tracing::warn!(
                path = %path.display(),
                %error,
                "No notes of what is being fetched: a batch that takes more memory than there is would end each process without a sign"
            );
        })
        .ok();
    CrashNotes { careful, fetches }
}

enum Ended<T, E> {
    Ok(T),
    Error(E),
    Panic(String),
}

/// A thread whose end can be waited for with a deadline.
struct Running<T, E> {
    ended: Receiver<Ended<T, E>>,
}

impl<T: Send + 'static, E: Send + 'static> Running<T, E> {
    fn start(
        name: &str,
        run: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Self, ServiceError> {
        let (done, ended) = bounded(1);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Unwind safe: whatever the closure owns is dropped with it.
                let outcome = match catch_unwind(AssertUnwindSafe(run)) {
                    Ok(Ok(value)) => Ended::Ok(value),
                    Ok(Err(error)) => Ended::Error(error),
                    Err(panic) => Ended::Panic(panic_message(&*panic)),
                };
                // Whoever waited may have given up.
                let _gone = done.send(outcome);
            })
            .map_err(ServiceError::Thread)?;
        Ok(Running { ended })
    }

    /// `None` if it is still running when its time is over.
    fn wait(&self, limit: Option<Duration>) -> Option<Ended<T, E>> {
        let outcome = match limit {
            None => self
                .ended
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(limit) => self.ended.recv_deadline(Instant::now() + limit),
        };
        outcome.ok()
    }
}
