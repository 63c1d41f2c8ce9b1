//! The metrics, all in one catalogue: name, type, labels and meaning stand together below, and the
//! struct [`Metrics`], its registration and the page `docs/metrics.md` are made from them.
//!
//! No label has unbounded values: text labels are words of this program (`&'static str`) or error
//! names of the client library, and `partition` exists only while the partition is owned. Series of
//! a fixed set of words exist from the start with 0, so that a rate over them is never missing.

mod labels;
mod live;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use scanlib::database::ExcludedReason;
use scanlib::{Confinement, EngineInfo, FileFamily, Incomplete, PoolStats, Report, Verdict};

pub use labels::{
    BuildLabels, CodeLabel, CommitLabels, DecisionLabel, DetectionLabels, EngineLabel,
    FailureLabels, KindLabel, MechanismLabel, OutcomeLabel, PartitionLabel, ProduceErrorLabels,
    ProfileLabel, QueueLabel, ReasonLabel, ReloadLabel, RemedyLabels, ResultLabel, StageLabel,
    VerdictLabel, VersionLabel,
};
pub use live::{Age, Enabled, Rate};

use crate::heartbeat::Heartbeat;

/// A gauge of seconds, or of another number that is not whole.
pub type Seconds = Gauge<f64, AtomicU64>;
/// Histograms by label; each is made with the buckets of its metric.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// One line of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Full name, prefix and `_total` included.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels, separated by commas; empty for none.
    pub labels: &'static str,
    /// What it counts.
    pub help: &'static str,
}

const PREFIX: &str = "scanner_";

/// The classes of `scanner_engine_failures_total`.
const FAILURE_CONTENT: &str = "content";
const FAILURE_ENVIRONMENT: &str = "environment";

macro_rules! catalogue {
    ($(
        $(#[doc = $help:literal])+
        $field:ident: $type:ty = $new:expr, $name:literal, [$labels:literal];
    )+) => {
        /// Every metric of the service. Threads share it behind an `Arc`; recording takes no lock but
        /// the one of a label lookup, which [`PartitionMetrics`] and the methods here save.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $( $(#[doc = $help])+ pub $field: $type, )+
        }

        /// Every metric, in the order of the page.
        pub const CATALOGUE: &[Entry] = &[$(
            Entry {
                name: concat!("scanner_", $name),
                kind: kind_name::<$type>(),
                labels: $labels,
                help: concat!($($help),+),
            },
        )+];

        impl Metrics {
            fn register(poll_loop: Arc<Heartbeat>) -> Metrics {
                let given = Given { poll_loop };
                let mut registry = Registry::with_prefix(PREFIX.trim_end_matches('_'));
                $(
                    let $field: $type = ($new)(&given);
                    let help = concat!($($help),+).trim().trim_end_matches('.');
                    // The encoder appends `_total` to a counter by itself.
                    registry.register($name.trim_end_matches("_total"), help, $field.clone());
                )+
                Metrics { registry, $($field),+ }
            }
        }
    };
}

/// What metrics are made from that read their value when they are scraped.
struct Given {
    poll_loop: Arc<Heartbeat>,
}

fn plain<T: Default>(_: &Given) -> T {
    T::default()
}

fn family<L: Clone + std::hash::Hash + Eq>(
    new: fn() -> Histogram,
) -> impl Fn(&Given) -> Histograms<L> {
    move |_| Family::new_with_constructor(new)
}

fn one(new: fn() -> Histogram) -> impl Fn(&Given) -> Histogram {
    move |_| new()
}

/// From 1 µs, what a clean record costs, to 10 s.
fn scan_buckets() -> Histogram {
    Histogram::new([
        1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01,
        0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

/// From 1 ms to 30 s: a round trip to a broker, or a rebalance.
fn broker_buckets() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

/// From none to 100,000.
fn count_buckets() -> Histogram {
    Histogram::new([
        0.0, 10.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 1e5,
    ])
}

/// From 10 ms, a few signatures, to 5 minutes: all of them on a slow machine.
fn load_buckets() -> Histogram {
    Histogram::new([
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    ])
}

/// From 5 ms to an hour: a record may have waited in its topic.
fn end_to_end_buckets() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
        3600.0,
    ])
}

const fn kind_name<M: TypedMetric>() -> &'static str {
    use prometheus_client::metrics::MetricType;
    match M::TYPE {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Info => "info",
        MetricType::Unknown => "unknown",
    }
}

catalogue! {
    /// Records handed over by Kafka.
    messages_consumed: Family<PartitionLabel, Counter> = plain, "messages_consumed_total", ["partition"];
    /// Records that arrived from the brokers, every 5 s. What is thrown away and fetched again counts twice: over some minutes that is what this
    /// grows by beyond `messages_consumed_total`.
    messages_fetched: Counter = plain, "messages_fetched_total", [""];
    /// Bytes that records and results may take, by where they are: fetched, in_flight or results. A compressed batch may take more than is planned
    /// for what is fetched, unless the input topic has `compression.type=uncompressed`.
    memory_budget: Family<StageLabel, Gauge> = plain, "memory_budget_bytes", ["stage"];
    /// Bytes of their values.
    bytes_consumed: Family<PartitionLabel, Counter> = plain, "bytes_consumed_total", ["partition"];
    /// Records without a value.
    tombstones: Counter = plain, "tombstones_total", [""];
    /// Records answered as skipped, by reason.
    records_skipped: Family<ReasonLabel, Counter> = plain, "records_skipped_total", ["reason"];
    /// Records answered in each second, mean of the last 10 s.
    processing_rate: Rate = plain, "processing_rate_messages_per_second", [""];

    /// Partitions that this replica owns.
    assigned_partitions: Gauge = plain, "assigned_partitions", [""];
    /// 1 for each partition that this replica owns.
    partition_owned: Family<PartitionLabel, Gauge> = plain, "partition_owned", ["partition"];
    /// Rebalances by kind: assign, revoke or lost.
    rebalances: Family<KindLabel, Counter> = plain, "rebalances_total", ["kind"];
    /// Time from a rebalance event to its answer, in seconds.
    rebalance_duration: Histogram = one(broker_buckets), "rebalance_duration_seconds", [""];
    /// Drains that did not end in their time; what they left is read again by the next owner.
    drain_timeouts: Counter = plain, "drain_timeouts_total", [""];
    /// Results dropped because their partition had gone meanwhile, by the stage that noticed.
    stale_results_dropped: Family<StageLabel, Counter> = plain, "stale_results_dropped_total", ["stage"];

    /// Share of the busiest key among the records that had a key, in the last 5 s or more with 1,000 such records or more. At most
    /// 1/65 less than it is. From 0.5 on more replicas cannot help, and the log says so.
    busiest_key_share: Seconds = plain, "busiest_key_share", [""];
    /// Share of the busiest partition among the records of all that this replica owns, in the same time; 0 while it owns one only.
    busiest_partition_share: Seconds = plain, "busiest_partition_share", [""];

    /// Records of the partition that were not handed over yet.
    consumer_lag: Family<PartitionLabel, Gauge> = plain, "consumer_lag_messages", ["partition"];
    /// Records of the partition that were not committed yet.
    consumer_lag_committed: Family<PartitionLabel, Gauge> = plain, "consumer_lag_committed_messages", ["partition"];
    /// Offset committed last.
    committed_offset: Family<PartitionLabel, Gauge> = plain, "committed_offset", ["partition"];
    /// Offset below which every record is answered and acknowledged.
    watermark_offset: Family<PartitionLabel, Gauge> = plain, "watermark_offset", ["partition"];
    /// Records read and not yet acknowledged.
    incomplete_messages: Family<PartitionLabel, Gauge> = plain, "incomplete_messages", ["partition"];
    /// Age of the oldest record that holds the watermark back, in seconds, or for how long the partition cannot be read.
    watermark_blocked: Family<PartitionLabel, Seconds> = plain, "watermark_blocked_seconds", ["partition"];
    /// Batches that could not be read, however often they were tried: what they decompress to is too large, or they are damaged.
    unreadable_batches: Counter = plain, "unreadable_batches_total", [""];
    /// First offset of the batch that cannot be read and that the partition waits for; only while it waits.
    unreadable_batch_offset: Family<PartitionLabel, Gauge> = plain, "unreadable_batch_offset", ["partition"];
    /// Batches that could not be read and were passed over (`kafka.unreadable_batch = "skip"`), each with a dead letter.
    skipped_batches: Counter = plain, "skipped_batches_total", [""];
    /// Commits by result (ok, retry or error) and mode (async or sync).
    commits: Family<CommitLabels, Counter> = plain, "commits_total", ["result,mode"];
    /// Time from a commit to its answer, in seconds.
    commit_duration: Histogram = one(broker_buckets), "commit_duration_seconds", [""];

    /// Time for one record, in seconds, by the engine that settled it: limits, rules, prefilter or clamav.
    scan_duration: Histograms<EngineLabel> = family(scan_buckets), "scan_duration_seconds", ["engine"];
    /// Records by verdict: clean, threat, partial, skipped or error.
    scans: Family<VerdictLabel, Counter> = plain, "scan_total", ["verdict"];
    /// Detections by engine (clamav or rules) and severity.
    detections: Family<DetectionLabels, Counter> = plain, "detections_total", ["engine,severity"];
    /// Detections that were not logged because there were more than `ops.log_detections_per_second` of one name and source in a second.
    detection_lines_suppressed: Counter = plain, "detection_log_lines_suppressed_total", [""];
    /// 1 while the prefilter is on; 0 means that libclamav is asked about every view of every record, and the log says why.
    prefilter_enabled: Enabled = plain, "prefilter_enabled", [""];
    /// Views of records by what the prefilter decided: cleared, or why libclamav had to look.
    prefilter_decisions: Family<DecisionLabel, Counter> = plain, "prefilter_decisions_total", ["decision"];
    /// Cleared views that libclamav was asked about all the same, as a check.
    prefilter_audits: Counter = plain, "prefilter_audits_total", [""];
    /// Times that libclamav found something in a cleared view, once for each load; the prefilter is off from then on.
    prefilter_wrong: Counter = plain, "prefilter_wrong_total", [""];
    /// Views whose verdict was remembered, so that libclamav did not scan them again; see `scan.verdict_cache_entries`.
    verdict_cache_hits: Counter = plain, "verdict_cache_hits_total", [""];
    /// Scans that failed, by kind.
    scan_errors: Family<KindLabel, Counter> = plain, "scan_errors_total", ["kind"];
    /// Records about which libclamav reported an error, by class (content: the record is partial with malformed; environment: it could
    /// not be scanned) and by the family of the file in which the error occurred: archive, disk, document, executable, html, media,
    /// mail, text or other.
    engine_failures: Family<FailureLabels, Counter> = plain, "engine_failures_total", ["class,file_type"];
    /// Panics that cost one record its verdict.
    worker_panics: Counter = plain, "worker_panics_total", [""];
    /// Workers that scan at this moment.
    workers_busy: Gauge = plain, "workers_busy", [""];
    /// Records read and not yet acknowledged, all partitions.
    inflight_messages: Gauge = plain, "inflight_messages", [""];
    /// Bytes of those records.
    inflight_bytes: Gauge = plain, "inflight_bytes", [""];
    /// Entries waiting in a queue of this process.
    queue_depth: Family<QueueLabel, Gauge> = plain, "queue_depth", ["queue"];
    /// Time in which a stage took nothing because the next was full, in seconds.
    backpressure: Family<StageLabel, Counter<f64, AtomicU64>> = plain, "backpressure_seconds_total", ["stage"];

    /// Results that the broker acknowledged, with exactly-once delivery: whose transaction is committed, by result: clean, threat,
    /// partial, skipped or error.
    results_produced: Family<ResultLabel, Counter> = plain, "results_produced_total", ["result"];
    /// Time from handing a result to the client to the broker's acknowledgement, in seconds.
    produce_latency: Histogram = one(broker_buckets), "produce_latency_seconds", [""];
    /// Results in the client's queue.
    producer_queue_messages: Gauge = plain, "producer_queue_messages", [""];
    /// Times that the client's queue was full; nothing is lost, reading waits.
    producer_queue_full: Counter = plain, "producer_queue_full_total", [""];
    /// Results that the broker did not take, by error and whether trying again may help.
    produce_errors: Family<ProduceErrorLabels, Counter> = plain, "produce_errors_total", ["code,retriable"];
    /// Transactions by outcome: committed, revoked (a partition went away with results in it), failed, or recreated (the
    /// producer was replaced; what is committed was looked up).
    txn: Family<OutcomeLabel, Counter> = plain, "txn_total", ["outcome"];
    /// Time from the last result of a transaction to its commit, in seconds.
    txn_commit_duration: Histogram = one(broker_buckets), "txn_commit_duration_seconds", [""];
    /// Results and dead letters in a transaction.
    txn_messages: Histogram = one(count_buckets), "txn_messages", [""];
    /// Errors that transactions met, by error and what was done: retry, abort, recreate, rejoin or exit.
    transaction_errors: Family<RemedyLabels, Counter> = plain, "txn_errors_total", ["code,remedy"];
    /// Times that the Kafka producer was replaced by a new one.
    producer_recreated: Counter = plain, "producer_recreated_total", [""];
    /// What the broker refused as too large and took without its text, by kind: result or dead_letter.
    results_truncated: Family<KindLabel, Counter> = plain, "results_truncated_total", ["kind"];
    /// Records written to the dead-letter topic, by reason.
    dlq_produced: Family<ReasonLabel, Counter> = plain, "dlq_produced_total", ["reason"];
    /// Times that too much became a dead letter, and reading waited.
    dlq_limit_tripped: Counter = plain, "dlq_limit_tripped_total", [""];

    /// 1; the label tells which signatures are loaded.
    signature_db_info: Family<VersionLabel, Gauge> = plain, "signature_db_info", ["version"];
    /// Reloads of the signatures by result: ok, unchanged, or failed, in which case those of before stay.
    reloads: Family<ReloadLabel, Counter> = plain, "engine_reloads_total", ["result"];
    /// Time to load, compile and try out signatures anew, in seconds.
    reload_duration: Histogram = one(load_buckets), "engine_reload_duration_seconds", [""];
    /// 1 while signatures are being loaded in place of those in use.
    reload_in_progress: Gauge = plain, "engine_reload_in_progress", [""];
    /// 1 while the signatures in use are what the files hold; 0 if the files cannot be read or were refused, and the log says why.
    signature_db_up_to_date: Gauge = plain, "signature_db_up_to_date", [""];
    /// When the newest container (.cvd, .cld) in use was built, in seconds since 1970; 0 if there is none.
    signature_db_built: Gauge = plain, "signature_db_build_timestamp_seconds", [""];
    /// The most memory that loading an engine took, in bytes: what two at once need more than one.
    engine_memory: Gauge = plain, "engine_memory_bytes", [""];
    /// Scanning processes that were started; with `scan.isolation = "process"`.
    scanning_processes: Counter = plain, "scanning_processes_started_total", [""];
    /// Scanning processes that crashed. Each cost the records it scanned a second scan.
    scanning_process_crashes: Counter = plain, "scanning_process_crashes_total", [""];
    /// Scanning processes that were killed because a scan took longer than it may.
    scanning_process_kills: Counter = plain, "scanning_process_kills_total", [""];
    /// The longest time for which no scanning process was ready after one had ended, in seconds.
    scanning_process_outage: Seconds = plain, "scanning_process_longest_outage_seconds", [""];
    /// 1 if this confines scanning processes; for `landlock` the version.
    confinement: Family<MechanismLabel, Gauge> = plain, "confinement", ["mechanism"];
    /// Generations of signatures that are kept in `scan.state_dir`.
    generations_kept: Gauge = plain, "signature_generations_kept", [""];
    /// 1 while libclamav is loaded and has passed its self-scan.
    engine_ready: Gauge = plain, "engine_ready", [""];
    /// Signatures that are loaded.
    signatures_loaded: Gauge = plain, "signatures_loaded", [""];
    /// 1; the label tells which of the files' signatures are loaded: full or log-only.
    signature_profile_info: Family<ProfileLabel, Gauge> = plain, "signature_profile_info", ["profile"];
    /// Signatures of the files that are not loaded, by reason: named (`scan.leave_out`), or for the profile log-only file_type, executable, long_file or long_text.
    signatures_left_out: Family<ReasonLabel, Gauge> = plain, "signatures_left_out", ["reason"];
    /// 1; the labels tell the versions of this program and of its libraries.
    build_info: Family<BuildLabels, Gauge> = plain, "build_info", ["version,librdkafka,libclamav"];

    /// Errors that the Kafka client reported, by error.
    client_errors: Family<CodeLabel, Counter> = plain, "client_errors_total", ["code"];
    /// Time since the poll loop last came round, in seconds; 0 before it starts.
    poll_loop_age: Age = |given: &Given| Age::of(Arc::clone(&given.poll_loop)), "poll_loop_age_seconds", [""];
    /// Time from a record's own timestamp to the acknowledgement of its result, in seconds.
    end_to_end_latency: Histogram = one(end_to_end_buckets), "end_to_end_latency_seconds", [""];
}

impl Metrics {
    /// A fresh catalogue. The age of the poll loop is read from its heartbeat, see
    /// [`Health::poll_loop`](super::health::Health::poll_loop).
    pub fn new(poll_loop: Arc<Heartbeat>) -> Metrics {
        let metrics = Metrics::register(poll_loop);
        for kind in ["assign", "revoke", "lost"] {
            let _zero = metrics.rebalances.get_or_create(&KindLabel { kind });
        }
        for result in ["ok", "unchanged", "failed"] {
            let _zero = metrics.reloads.get_or_create(&ReloadLabel { result });
        }
        for word in ["clean", "threat", "partial", "skipped", "error"] {
            let _zero = metrics.scans.get_or_create(&VerdictLabel { verdict: word });
            let _zero = metrics
                .results_produced
                .get_or_create(&ResultLabel { result: word });
        }
        for class in [FAILURE_CONTENT, FAILURE_ENVIRONMENT] {
            for &family in FileFamily::ALL {
                let file_type = family.as_str();
                let labels = FailureLabels { class, file_type };
                let _zero = metrics.engine_failures.get_or_create(&labels);
            }
        }
        metrics.pool(&PoolStats::default());
        metrics.engine_queue(0);
        metrics
    }

    /// Says which versions run, once.
    pub fn set_build(&self, librdkafka: &str, libclamav: &str) {
        self.build_info
            .get_or_create(&BuildLabels {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                librdkafka: librdkafka.to_owned(),
                libclamav: libclamav.to_owned(),
            })
            .set(1);
    }

    /// Says which signatures are loaded, in place of those before.
    pub fn set_signatures(&self, version: &str, count: u64) {
        self.signature_db_info.clear();
        self.signature_db_info
            .get_or_create(&VersionLabel {
                version: version.to_owned(),
            })
            .set(1);
        self.signatures_loaded
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Says which signatures of the files are not loaded.
    pub fn set_left_out(&self, info: &EngineInfo) {
        self.signature_profile_info.clear();
        let profile = info.profile.name();
        self.signature_profile_info
            .get_or_create(&ProfileLabel { profile })
            .set(1);
        let count = |reason: &'static str, count: u64| {
            self.signatures_left_out
                .get_or_create(&ReasonLabel { reason })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        count("named", info.excluded.len() as u64);
        for &reason in ExcludedReason::ALL {
            count(reason.as_str(), info.excluded_by_profile.because(reason));
        }
    }

    /// Says what confines scanning processes.
    pub fn set_confinement(&self, confinement: &Confinement) {
        for (mechanism, value) in confinement.mechanisms() {
            self.confinement
                .get_or_create(&MechanismLabel { mechanism })
                .set(value.into());
        }
    }

    /// Says when the signatures in use were built.
    pub fn set_built(&self, seconds: Option<u64>) {
        let seconds = seconds.map(i64::try_from);
        self.signature_db_built
            .set(seconds.and_then(Result::ok).unwrap_or_default());
    }

    /// Dead letters that were written, whatever the reason.
    pub fn dead_letters(&self) -> u64 {
        use crate::dead_letter::Reason;
        let count = |reason: Reason| {
            let reason = reason.as_str();
            self.dlq_produced
                .get_or_create(&ReasonLabel { reason })
                .get()
        };
        Reason::ALL.into_iter().map(count).sum()
    }

    /// Counts one settled record: its verdict, and how long which engine took.
    pub fn scanned(&self, verdict: &'static str, engine: &'static str, elapsed: Duration) {
        self.scans.get_or_create(&VerdictLabel { verdict }).inc();
        self.scan_duration
            .get_or_create(&EngineLabel { engine })
            .observe(elapsed.as_secs_f64());
    }

    /// Counts a record that libclamav reported an error about; nothing if it did not.
    pub fn engine_failure(&self, report: &Report) {
        let class = match &report.verdict {
            Verdict::Incomplete {
                cause: Incomplete::Malformed { .. },
                ..
            } => FAILURE_CONTENT,
            Verdict::Incomplete {
                cause: Incomplete::EngineError { .. },
                ..
            } => FAILURE_ENVIRONMENT,
            _ => return,
        };
        let file_type = report.failed_in.unwrap_or(FileFamily::Other).as_str();
        self.engine_failures
            .get_or_create(&FailureLabels { class, file_type })
            .inc();
    }

    /// Takes over what the workers' pool has counted since it started.
    pub fn pool(&self, stats: &PoolStats) {
        self.workers_busy.set(stats.busy as i64);
        self.queue_depth
            .get_or_create(&QueueLabel { queue: "scan" })
            .set(stats.queued_jobs as i64);
        // The pool's numbers only grow, as a counter's must.
        let set = |counter: &Counter, to: u64| counter.inner().store(to, Ordering::Relaxed);
        set(&self.prefilter_audits, stats.audits);
        set(&self.verdict_cache_hits, stats.cached);
        for (decision, count) in decisions(stats) {
            let label = DecisionLabel { decision };
            set(&self.prefilter_decisions.get_or_create(&label), count);
        }
    }

    /// Records that wait for libclamav.
    pub fn engine_queue(&self, records: usize) {
        self.queue_depth
            .get_or_create(&QueueLabel { queue: "engine" })
            .set(records as i64);
    }

    /// The series of a partition that was assigned, with their labels looked up once. They exist
    /// until [`Metrics::remove_partition`].
    pub fn partition(&self, partition: i32) -> PartitionMetrics {
        let label = PartitionLabel { partition };
        let metrics = PartitionMetrics {
            messages_consumed: self.messages_consumed.get_or_create_owned(&label),
            bytes_consumed: self.bytes_consumed.get_or_create_owned(&label),
            consumer_lag: self.consumer_lag.get_or_create_owned(&label),
            consumer_lag_committed: self.consumer_lag_committed.get_or_create_owned(&label),
            committed_offset: self.committed_offset.get_or_create_owned(&label),
            watermark_offset: self.watermark_offset.get_or_create_owned(&label),
            incomplete_messages: self.incomplete_messages.get_or_create_owned(&label),
            watermark_blocked: self.watermark_blocked.get_or_create_owned(&label),
        };
        self.partition_owned.get_or_create(&label).set(1);
        metrics
    }

    /// Removes every series of a partition that went to another replica, so that none goes stale.
    pub fn remove_partition(&self, partition: i32) {
        let label = PartitionLabel { partition };
        self.messages_consumed.remove(&label);
        self.bytes_consumed.remove(&label);
        self.partition_owned.remove(&label);
        self.consumer_lag.remove(&label);
        self.consumer_lag_committed.remove(&label);
        self.committed_offset.remove(&label);
        self.watermark_offset.remove(&label);
        self.incomplete_messages.remove(&label);
        self.watermark_blocked.remove(&label);
        self.unreadable_batch_offset.remove(&label);
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _infallible = text::encode(&mut page, &self.registry);
        page
    }
}

/// What the prefilter may decide, in the words of `scanner_prefilter_decisions_total`, and how often it did.
fn decisions(stats: &PoolStats) -> impl Iterator<Item = (&'static str, u64)> {
    let causes = stats.causes.iter();
    let causes = causes.map(|(cause, count)| (cause.as_str(), count));
    std::iter::once(("cleared", stats.cleared)).chain(causes)
}

/// The series of one owned partition. Recording into one that was removed is harmless: nobody sees it.
#[derive(Clone, Debug)]
pub struct PartitionMetrics {
    /// See [`Metrics::messages_consumed`].
    pub messages_consumed: Counter,
    /// See [`Metrics::bytes_consumed`].
    pub bytes_consumed: Counter,
    /// See [`Metrics::consumer_lag`].
    pub consumer_lag: Gauge,
    /// See [`Metrics::consumer_lag_committed`].
    pub consumer_lag_committed: Gauge,
    /// See [`Metrics::committed_offset`].
    pub committed_offset: Gauge,
    /// See [`Metrics::watermark_offset`].
    pub watermark_offset: Gauge,
    /// See [`Metrics::incomplete_messages`].
    pub incomplete_messages: Gauge,
    /// See [`Metrics::watermark_blocked`].
    pub watermark_blocked: Seconds,
}

/// The catalogue as the page `docs/metrics.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\nServed by `scanner-bin run` under `/metrics`. Series with the label `partition` exist only while \
         the\nreplica owns the partition. This page is made from the catalogue in the code, and a test keeps it \
         so.\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for Entry {
        name,
        kind,
        labels,
        help,
    } in CATALOGUE
    {
        let labels = labels
            .split(',')
            .filter(|label| !label.is_empty())
            .map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        // Writing to a string does not fail.
        let _infallible = writeln!(page, "| `{name}` | {kind} | {labels} | {} |", help.trim());
    }
    page
}
