//! A scenario's own topics and group on a broker, and what the service has answered there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jsonschema::Validator;
use serde_json::Value;
use tempfile::TempDir;
use time::format_description::well_known::Rfc3339;

use super::broker::Broker;
use super::client::{Outgoing, Record};
use super::process::{Launch, Scanner};
use super::{unique, wait_for};

/// A partition of the input topic and an offset.
pub type Place = (i32, i64);

/// What the broker of the scene must allow for records of 6 MB.
pub const LARGE: (&str, &str) = ("max.message.bytes", "6000000");

/// Three topics, a group and a directory for temporary files.
pub struct Scene<'b> {
    pub broker: &'b Broker,
    pub input: String,
    pub output: String,
    pub dead_letters: String,
    pub group: String,
    /// What replicas run.
    pub program: PathBuf,
    tmp: TempDir,
}

/// One result, read back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub record: Record,
    pub json: Value,
}

impl Answer {
    /// What stands in a record of the output topic.
    pub fn of(record: Record) -> Self {
        let json = record.json();
        Self { record, json }
    }

    /// The record that it answers.
    pub fn place(&self) -> Place {
        let at = |name: &str| {
            self.json["kafka"][name]
                .as_i64()
                .expect("a result without its origin")
        };
        (i32::try_from(at("partition")).unwrap(), at("offset"))
    }

    /// The replica that wrote it.
    pub fn instance(&self) -> &str {
        self.json["scanner"]["instance"].as_str().unwrap()
    }

    pub fn status(&self) -> &str {
        self.json["status"].as_str().unwrap()
    }

    /// Milliseconds from the record's own time until it was scanned.
    pub fn waited_ms(&self) -> i64 {
        let scanned = self.json["timestamp"].as_str().unwrap();
        let scanned = time::OffsetDateTime::parse(scanned, &Rfc3339).unwrap();
        let scanned = i64::try_from(scanned.unix_timestamp_nanos() / 1_000_000).unwrap();
        scanned - self.recorded_ms()
    }

    /// The record's own time.
    pub fn recorded_ms(&self) -> i64 {
        self.json["kafka"]["timestamp"].as_i64().unwrap()
    }

    /// Panic unless the published schema allows it.
    pub fn assert_valid(&self) {
        static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
            let schema =
                serde_json::from_str(include_str!("../../scan-result.schema.json")).unwrap();
            jsonschema::validator_for(&schema).unwrap()
        });
        let errors: Vec<_> = SCHEMA
            .iter_errors(&self.json)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:#?} in {:#}", self.json);
    }
}

impl<'b> Scene<'b> {
    /// Topics that allow records of 6 MB; results go to one partition, so that their order can be seen.
    pub fn new(broker: &'b Broker, name: &str, partitions: i32) -> Self {
        let scene = Self::without_topics(broker, name);
        broker.create_topic(&scene.input, partitions, &[LARGE]);
        broker.create_topic(&scene.output, 1, &[LARGE]);
        broker.create_topic(&scene.dead_letters, 1, &[LARGE]);
        scene
    }

    /// Names only.
    pub fn without_topics(broker: &'b Broker, name: &str) -> Self {
        let tmp = tempfile::Builder::new()
            .prefix("scanner-scene-")
            .tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir());
        Self {
            broker,
            input: unique(&format!("{name}-in")),
            output: unique(&format!("{name}-out")),
            dead_letters: unique(&format!("{name}-dlq")),
            group: unique(&format!("{name}-group")),
            program: PathBuf::from(env!("CARGO_BIN_EXE_scanner-bin")),
            tmp: tmp.unwrap(),
        }
    }

    /// A replica named `instance`: one thread, and everything that it leaves behind when it is killed goes with the scene.
    pub fn replica(&self, instance: &str) -> Launch {
        self.replica_at(self.broker.bootstrap(), instance)
    }

    /// The same, which connects to another listener of the broker.
    pub fn replica_at(&self, bootstrap: &str, instance: &str) -> Launch {
        Scanner::launch_program(&self.program, bootstrap)
            .flag("--group", &self.group)
            .flag("--input-topic", &self.input)
            .flag("--output-topic", &self.output)
            .flag("--dead-letter-topic", &self.dead_letters)
            .flag("--instance", instance)
            .env("SCANNER_SCAN__THREADS", "1")
            .env("SCANNER_SCAN__TMP_DIR", self.tmp.path())
            .env("SCANNER_SCAN__CRASH_JOURNAL", self.journal())
            .env("SCANNER_KAFKA__SESSION_TIMEOUT", "6s")
    }

    /// Where libclamav's temporary files and the notes of replicas are.
    pub fn tmp(&self) -> &Path {
        self.tmp.path()
    }

    /// Where replicas note what they are scanning.
    pub fn journal(&self) -> PathBuf {
        self.tmp.path().join("journal")
    }

    /// Start a replica and wait until it is ready.
    pub fn ready_replica(&self, instance: &str) -> Scanner {
        let mut scanner = self.replica(instance).start();
        scanner.wait_until_ready(Duration::from_secs(60));
        scanner
    }

    pub fn produce(&self, records: impl IntoIterator<Item = Outgoing>) -> Vec<Place> {
        self.broker.produce(&self.input, records)
    }

    /// Every record that is on the input topic now.
    pub fn places(&self) -> BTreeSet<Place> {
        let ends = self.broker.ends(&self.input);
        ends.into_iter()
            .flat_map(|(partition, end)| (0..end).map(move |offset| (partition, offset)))
            .collect()
    }

    /// Every result that is on the output topic now, in the order of its partitions.
    pub fn answers(&self) -> Vec<Answer> {
        self.broker
            .read_all(&self.output)
            .into_iter()
            .map(Answer::of)
            .collect()
    }

    /// The same with the results of open and aborted transactions.
    pub fn answers_uncommitted(&self) -> Vec<Answer> {
        let records = self.broker.read_uncommitted(&self.output);
        records.into_iter().map(Answer::of).collect()
    }

    /// Wait until each record that is on the input topic now has a result. Returns all results.
    pub fn wait_until_answered(&self, timeout: Duration) -> Vec<Answer> {
        let mut missing = self.places();
        let mut answers = Vec::new();
        let deadline = Instant::now() + timeout;
        self.broker
            .read_until(&self.output, timeout * 2, |records| {
                for record in &records[answers.len()..] {
                    let answer = Answer::of(record.clone());
                    missing.remove(&answer.place());
                    answers.push(answer);
                }
                let first: Vec<_> = missing.iter().take(10).collect();
                assert!(
                    Instant::now() < deadline,
                    "{} records without a result after {timeout:?}: {first:?}…",
                    missing.len()
                );
                missing.is_empty()
            });
        answers
    }

    /// Wait until the group has committed everything that is on the input topic now.
    pub fn wait_until_committed(&self, timeout: Duration) {
        let ends = self.broker.ends(&self.input);
        wait_for("a commit of everything", timeout, || {
            (self.committed() == ends).then_some(())
        });
    }

    /// What the group has committed, 0 where it has not.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        let mut committed: BTreeMap<_, _> = self
            .broker
            .ends(&self.input)
            .into_keys()
            .map(|id| (id, 0))
            .collect();
        committed.extend(self.broker.committed(&self.group, &self.input));
        committed
    }

    /// Wait until the replicas own all partitions between them, `sizes` each in any order. Returns who owns what.
    pub fn wait_until_shared(
        &self,
        replicas: &[&Scanner],
        sizes: &[usize],
        timeout: Duration,
    ) -> Vec<BTreeSet<i32>> {
        let all: BTreeSet<i32> = self.broker.ends(&self.input).into_keys().collect();
        let deadline = Instant::now() + timeout;
        loop {
            let owned: Vec<_> = replicas.iter().map(|replica| replica.owned()).collect();
            let mut found: Vec<_> = owned.iter().map(BTreeSet::len).collect();
            found.sort_unstable();
            let mut wanted = sizes.to_vec();
            wanted.sort_unstable();
            if found == wanted && owned.iter().flatten().copied().collect::<BTreeSet<_>>() == all {
                return owned;
            }
            assert!(
                Instant::now() < deadline,
                "not shared {sizes:?} within {timeout:?}: {owned:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// How often each record was answered.
pub fn times_answered(answers: &[Answer]) -> BTreeMap<Place, usize> {
    let mut times = BTreeMap::new();
    for answer in answers {
        *times.entry(answer.place()).or_default() += 1;
    }
    times
}

/// Records that were answered more than once.
pub fn duplicates(answers: &[Answer]) -> BTreeSet<Place> {
    times_answered(answers)
        .into_iter()
        .filter(|(_, times)| *times > 1)
        .map(|(place, _)| place)
        .collect()
}

/// Panic unless exactly these records are answered, each at least once.
pub fn assert_all_answered(answers: &[Answer], sent: &BTreeSet<Place>) {
    let answered: BTreeSet<Place> = times_answered(answers).into_keys().collect();
    let lost: Vec<_> = sent.difference(&answered).collect();
    let invented: Vec<_> = answered.difference(sent).collect();
    assert!(
        lost.is_empty() && invented.is_empty(),
        "without a result: {lost:?}; results of no record: {invented:?}"
    );
}

/// Panic unless exactly these records are answered, each once.
pub fn assert_answered_once(answers: &[Answer], sent: &BTreeSet<Place>) {
    assert_all_answered(answers, sent);
    assert_eq!(
        duplicates(answers),
        BTreeSet::new(),
        "answered more than once"
    );
}

/// Panic unless the results of each input partition stand in input order in each partition of the output topic.
pub fn assert_in_order(answers: &[Answer]) {
    let mut last = BTreeMap::new();
    for answer in answers {
        let (partition, offset) = answer.place();
        let before = last.insert((answer.record.partition, partition), offset);
        assert!(
            before < Some(offset),
            "partition {partition}: the result of {offset} stands behind that of {before:?}"
        );
    }
}

/// A log line of about 150 bytes, different for each number.
pub fn line(number: usize) -> Vec<u8> {
    format!(
        "<38>Oct 20 02:44:{:02} web-{} sshd[{}]: Accepted publickey for deploy from 192.0.2.{} port {} ssh2: message {number}",
        number % 60,
        number % 7,
        300 + number,
        number % 254,
        1024 + number % 60_000
    )
    .into_bytes()
}

/// `count` log lines, spread evenly over `partitions`.
pub fn load(count: usize, partitions: i32) -> impl Iterator<Item = Outgoing> {
    let lines = (0..partitions).cycle().take(count).zip(0..);
    lines.map(|(partition, number)| Outgoing::of(line(number)).partition(partition))
}

/// The same with lines of 1 kB, so that full batches are as much work as they can be, and a replica is busy long enough to be interrupted.
pub fn heavy_load(count: usize, partitions: i32) -> impl Iterator<Item = Outgoing> {
    load(count, partitions).map(|mut record| {
        let line = record.payload.take().unwrap();
        record.payload = Some(line.iter().copied().cycle().take(1000).collect());
        record
    })
}

/// The planted messages, each with the name under which it must be found.
pub fn planted() -> Vec<(Vec<u8>, &'static str)> {
    let behind = |text: &str| format!("Oct 20 02:44:02 test-host test-app: {text}").into_bytes();
    vec![
        (
            behind(&scanlib::eicar::text()),
            "Malicious pattern: eicar_test",
        ),
        (
            behind(
                "powershell.exe -nop -w hidden -enc VwByAGkAdABlAC0ASABvAHMAdAAgAGgAZQBsAGwAbwA=",
            ),
            "Malicious pattern: powershell_encoded",
        ),
        (
            behind("GET http://malicious-site.example/payload.exe"),
            "Suspicious content: suspicious_url",
        ),
        (
            behind("login failed: user='admin'; DROP TABLE users; --'"),
            "Injection attempt: sql_injection",
        ),
    ]
}
