//! One run: ordinary and hostile records on one topic, one replica with one scanning thread, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use serde::Deserialize;

use crate::kinds::Kind;
use crate::probes::{self, Answers};
use crate::support::broker::Broker;
use crate::support::client::Outgoing;
use crate::support::process::Scanner;
use crate::support::scene::{LARGE, Place, Scene, line};
use crate::support::{corpus, data};

pub const PARTITIONS: i32 = 6;
/// The partition that heavy records lie on, as those of one source do.
pub const HEAVY_PARTITION: i32 = 0;
const READY: Duration = Duration::from_secs(120);

/// How libclamav is run.
#[derive(Clone, Copy, Debug)]
pub enum Isolation {
    /// In the process of the service.
    None,
    /// In a process of its own.
    Process,
}

impl Isolation {
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::None => "none",
            Isolation::Process => "process",
        }
    }
}

/// What is sent.
pub struct Mix<'k> {
    pub ordinary: usize,
    /// Hostile records, spread evenly among the ordinary ones.
    pub hostile: Vec<&'k Kind>,
    /// Where they lie; everywhere if not said.
    pub hostile_partition: Option<i32>,
    /// Whether ClamAV's own signatures are loaded, where the test data has them: with more to look for, bombs cost more.
    pub with_signatures: bool,
    /// How long all of it may take.
    pub patience: Duration,
}

/// What became of the records of a kind.
#[derive(Debug, Default)]
pub struct Row {
    pub records: usize,
    /// How many results had which status and limits.
    pub outcomes: BTreeMap<String, usize>,
    /// The longest time from the first result of the run to one of these, in milliseconds.
    pub last_ms: i64,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Run {
    /// By kind; of ordinary records under `ordinary`.
    pub rows: BTreeMap<String, Row>,
    pub probes: Answers,
    /// Ordinary records in a second, as their results came: on all partitions, and on those without heavy records.
    pub per_second: f64,
    pub per_second_beside: f64,
    /// Everything that is not as it should be.
    pub objections: Vec<String>,
}

/// What is needed of a result.
#[derive(Deserialize)]
struct Result {
    status: String,
    limits: Vec<String>,
    kafka: Origin,
}

#[derive(Deserialize)]
struct Origin {
    partition: i32,
    offset: i64,
}

/// Where a record lies, and of what kind it is; `None` for an ordinary one.
type Sent<'k> = BTreeMap<Place, Option<&'k Kind>>;

impl Mix<'_> {
    fn records(&self) -> Vec<(Option<&Kind>, Outgoing)> {
        let gap = self.ordinary / (self.hostile.len() + 1);
        let mut hostile = self.hostile.iter().copied().enumerate();
        let mut records = Vec::with_capacity(self.ordinary + self.hostile.len());
        for number in 0..self.ordinary {
            let partition = i32::try_from(number).unwrap() % PARTITIONS;
            records.push((None, Outgoing::of(line(number)).partition(partition)));
            if (number + 1).is_multiple_of(gap.max(1))
                && let Some((place, kind)) = hostile.next()
            {
                let everywhere = i32::try_from(place).unwrap() % PARTITIONS;
                let partition = self.hostile_partition.unwrap_or(everywhere);
                records.push((Some(kind), kind.record(place).partition(partition)));
            }
        }
        let rest = hostile.map(|(place, kind)| {
            let partition = self.hostile_partition.unwrap_or_default();
            (Some(kind), kind.record(place).partition(partition))
        });
        records.extend(rest);
        records
    }

    /// Sends everything, starts a replica, and looks until all is answered or patience is over.
    pub fn run(&self, name: &str, isolation: Isolation) -> Run {
        let scene = scene(name);
        let (kinds, records): (Vec<_>, Vec<_>) = self.records().into_iter().unzip();
        let places = scene.produce(records);
        let sent: Sent<'_> = places.into_iter().zip(kinds).collect();
        let mut scanner = launch(&scene, isolation, self.with_signatures);
        scanner.wait_until_ready(READY);
        let pid = scanner.pid();
        let stop = AtomicBool::new(false);
        let (is_through, probes) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| probes::watch(&scanner, &stop));
            let is_through = wait(&scene, self.patience);
            stop.store(true, Ordering::Relaxed);
            (is_through, watching.join().unwrap())
        });
        let mut run = Run {
            probes,
            ..Run::default()
        };
        if !is_through {
            run.objections
                .push(format!("not all committed within {:?}", self.patience));
        }
        run.results(&scene, &sent);
        run.dead_letters(&scene, &sent);
        run.replica(&mut scanner, pid);
        run
    }
}

/// Topics of this run. The broker stamps results when it has them.
fn scene(name: &str) -> Scene<'static> {
    let scene = Scene::without_topics(Broker::shared(), name);
    let broker = scene.broker;
    broker.create_topic(&scene.input, PARTITIONS, &[LARGE]);
    let stamped = ("message.timestamp.type", "LogAppendTime");
    broker.create_topic(&scene.output, 1, &[LARGE, stamped]);
    broker.create_topic(&scene.dead_letters, 1, &[LARGE]);
    scene
}

fn launch(scene: &Scene<'_>, isolation: Isolation, with_signatures: bool) -> Scanner {
    let database = scene.tmp().join("signatures");
    fs::create_dir(&database).unwrap();
    if with_signatures && let Some(ours) = data("sigs/official-daily-2024-12.ndb") {
        corpus::official(ours.parent().unwrap(), &database);
    }
    // What is to crash libclamav must be shown to it.
    let hex = hex::encode("HOSTILE-CRASH-HERE");
    fs::write(
        database.join("hostile.ndb"),
        format!("Hostile.Crash:0:*:{hex}\n"),
    )
    .unwrap();
    let launch = scene
        .replica("scanner-0")
        .flag("--database", &database)
        // What is held is that a record costs nobody the membership, not how soon a loss would be noticed.
        .env("SCANNER_KAFKA__SESSION_TIMEOUT", "30s");
    match isolation {
        Isolation::None => launch.start(),
        Isolation::Process => launch
            .env("SCANNER_SCAN__ISOLATION", isolation.as_str())
            .env("LD_PRELOAD", crasher(scene.tmp()))
            .start(),
    }
}

/// Builds what ends a process that has libclamav look at the wrong text.
fn crasher(dir: &Path) -> PathBuf {
    let library = dir.join("crash.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/crash.c");
    let mut command = Command::new("cc");
    command
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library);
    let status = command.arg(source).arg("-ldl").status();
    assert!(status.expect("cc does not start").success());
    library
}

/// Whether everything is answered and committed in time.
fn wait(scene: &Scene<'_>, patience: Duration) -> bool {
    let ends = scene.broker.ends(&scene.input);
    let deadline = Instant::now() + patience;
    while scene.committed() != ends {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    true
}

impl Run {
    fn object(&mut self, objection: String) {
        self.objections.push(objection);
    }

    fn results(&mut self, scene: &Scene<'_>, sent: &Sent<'_>) {
        let mut missing: BTreeSet<Place> = sent.keys().copied().collect();
        let mut first = None;
        let mut arrived: BTreeMap<i32, (usize, i64)> = BTreeMap::new();
        let mut objections = Vec::new();
        for kind in sent.values() {
            self.row(*kind).records += 1;
        }
        scene.broker.read_each(&scene.output, |message| {
            let payload = message.payload().expect("a result without a value");
            let result: Result = serde_json::from_slice(payload).expect("the value is no result");
            let time = message
                .timestamp()
                .to_millis()
                .expect("a result without a time");
            let since = time - *first.get_or_insert(time);
            let place = (result.kafka.partition, result.kafka.offset);
            let Some(kind) = sent.get(&place) else {
                return objections.push(format!("a result of {place:?}, which was not sent"));
            };
            let name = name(*kind);
            if !missing.remove(&place) {
                objections.push(format!("{name} {place:?}: answered more than once"));
            }
            let objection = match kind {
                Some(kind) => kind.objection(&result.status, &result.limits),
                None if result.status == "clean" => None,
                None => Some(format!(
                    "{} {:?} instead of clean",
                    result.status, result.limits
                )),
            };
            objections.extend(objection.map(|what| format!("{name} {place:?}: {what}")));
            let row = self.row(*kind);
            let outcome = [result.status, result.limits.join(" ")].join(" ");
            *row.outcomes
                .entry(outcome.trim_end().to_owned())
                .or_default() += 1;
            row.last_ms = row.last_ms.max(since);
            if kind.is_none() {
                let (count, last) = arrived.entry(place.0).or_default();
                *count += 1;
                *last = since.max(*last);
            }
        });
        let mut unanswered: BTreeMap<&str, usize> = BTreeMap::new();
        for place in &missing {
            *unanswered.entry(name(sent[place])).or_default() += 1;
        }
        let unanswered = unanswered
            .into_iter()
            .map(|(name, count)| format!("{name}: {count} without a result"));
        objections.extend(unanswered);
        self.objections.extend(objections);
        self.per_second = rate(arrived.values());
        arrived.remove(&HEAVY_PARTITION);
        self.per_second_beside = rate(arrived.values());
    }

    fn row(&mut self, kind: Option<&Kind>) -> &mut Row {
        self.rows.entry(name(kind).to_owned()).or_default()
    }

    fn dead_letters(&mut self, scene: &Scene<'_>, sent: &Sent<'_>) {
        let mut expected: BTreeMap<Place, &str> = BTreeMap::new();
        for (place, kind) in sent {
            if let Some(reason) = kind.and_then(|kind| kind.dead_letter.as_deref()) {
                expected.insert(*place, reason);
            }
        }
        for letter in scene.broker.read_all(&scene.dead_letters) {
            let header = |name: &str| {
                let found = letter.headers.iter().rfind(|(key, _)| key == name);
                let value = found
                    .and_then(|(_, value)| value.clone())
                    .unwrap_or_default();
                String::from_utf8(value).unwrap()
            };
            let place = (
                header("source-partition").parse().unwrap(),
                header("source-offset").parse().unwrap(),
            );
            let reason = header("reason");
            let wanted = expected.remove(&place);
            if wanted != Some(reason.as_str()) {
                let name = sent.get(&place).map_or("unknown", |kind| name(*kind));
                self.object(format!(
                    "{name} {place:?}: a dead letter, {reason}, where {wanted:?} was expected"
                ));
            }
        }
        for (place, reason) in expected {
            self.object(format!(
                "{} {place:?}: no dead letter, {reason}",
                name(sent[&place])
            ));
        }
    }

    fn replica(&mut self, scanner: &mut Scanner, pid: u32) {
        for failure in self.probes.failures.clone() {
            self.object(failure);
        }
        if let Some(exit) = scanner.try_wait() {
            return self.object(format!("process {pid} ended: {exit}\n{}", scanner.output()));
        }
        let scrape = scanner.scrape();
        let expected = [
            ("scanner_rebalances_total{kind=\"revoke\"}", 0.0),
            ("scanner_rebalances_total{kind=\"lost\"}", 0.0),
            ("scanner_dlq_limit_tripped_total", 0.0),
            ("scanner_assigned_partitions", f64::from(PARTITIONS)),
        ];
        for (series, wanted) in expected {
            let found = scrape.get(series);
            if found != wanted {
                self.object(format!("{series} is {found}, not {wanted}"));
            }
        }
    }
}

fn name(kind: Option<&Kind>) -> &str {
    kind.map_or("ordinary", |kind| &kind.name)
}

/// Records in a second, from the first result of the run to the last of these partitions.
fn rate<'r>(arrived: impl Iterator<Item = &'r (usize, i64)>) -> f64 {
    let (count, last) = arrived.fold((0, 0), |(count, last), (more, time)| {
        (count + more, last.max(*time))
    });
    count as f64 / (last.max(1) as f64 / 1000.0)
}
