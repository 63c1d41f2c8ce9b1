//! `deploy/pod.yaml` under a real kubelet and under podman, beside a real Apache Kafka: `make pod-test`.
//!
//! The pod is what an operator gets: the image, the file, its limits. It reaches this machine's end of a bridge and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod confinement;
mod runtime;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use confinement::{Confinement, peak_memory, processor_time, resident};
use runtime::{Runtime, Seen, get};
use support::broker::Broker;
use support::client::Outgoing;
use support::process::signal;
use support::scene::{Answer, LARGE, Place, Scene, assert_all_answered, duplicates, line, planted};
use support::{announce, wait_for};

const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(120);
/// What the signature finds that the test lays in the pod's database.
const MARK: &str = "a text that only the signature of this test knows";
const MARK_NAME: &str = "ClamAV: Pod.Test.UNOFFICIAL";

/// The whole life of a pod, in the order in which it meets it.
#[test]
fn the_pod_judges_restarts_drains_and_loses_nothing() {
    let (runtime, address) = Runtime::of_environment();
    let stage = Stage::set(runtime, address);

    stage.runtime.apply(&stage.manifest);
    let first = stage.runtime.wait_until_ready(Some(0));
    announce!("{}: the pod is ready", stage.runtime.name());
    held_as_the_file_says(&stage, &first);
    its_probes_answer(&stage, &first);
    a_record_goes_in_and_a_verdict_comes_out(&stage);
    what_a_message_unpacks_to_fits_into_tmp(&stage);
    let generation = new_signatures_are_swapped_in_under_load(&stage, &first);
    broken_signatures_are_refused(&stage, &first);

    let load = Load::begin(&stage, 40);
    let (used, answered) = (processor_time(first.pid), count(&stage));
    std::thread::sleep(Duration::from_secs(10));
    announce!(
        "{}: under load: {} records a second, {} millicores, {} MiB resident; at most {} MiB with /tmp so far, of {} MiB",
        stage.runtime.name(),
        (count(&stage) - answered) / 10,
        (processor_time(first.pid) - used) / 10_000,
        resident(first.pid) >> 20,
        peak_memory(first.pid) >> 20,
        Confinement::of(first.pid).memory_limit >> 20
    );
    signal(first.pid, "KILL");
    let second = stage.runtime.wait_until_ready(Some(1));
    announce!(
        "{}: killed under load, it came back by itself",
        stage.runtime.name()
    );
    assert_ne!(first.pid, second.pid);
    let doubled_by_the_kill = load.end_and_wait(&stage);
    it_is_back_on_the_last_good_signatures(&stage, &second, &generation);

    it_drains_when_it_is_asked_to_stop(&stage, &second, &doubled_by_the_kill);
}

/// A broker, topics, signatures, and the pod's file filled in.
struct Stage {
    runtime: Runtime,
    broker: Broker,
    manifest: PathBuf,
    database: PathBuf,
}

impl Stage {
    fn set(runtime: Runtime, address: IpAddr) -> Self {
        let broker = Broker::start_on(address);
        announce!(
            "broker: Apache Kafka {} on {}",
            broker.version(),
            broker.bootstrap()
        );
        broker.create_topic("syslog-raw", PARTITIONS, &[LARGE]);
        broker.create_topic("scan-results", 1, &[LARGE]);
        broker.create_topic("scan-results-dlq", 1, &[LARGE]);

        let dir = support::process::directory().join("pod");
        let database = dir.join("database");
        fs::create_dir_all(&database).unwrap();
        if let Some(given) = std::env::var_os("SCANNER_TEST_POD_DATABASE") {
            for file in fs::read_dir(given).unwrap() {
                let path = file.unwrap().path();
                fs::copy(&path, database.join(path.file_name().unwrap())).unwrap();
            }
        } else if let Some(official) = support::data("sigs/official-main-part1.ldb.zst") {
            // So many that loading them takes a while.
            support::corpus::official(official.parent().unwrap(), &database);
        }
        fs::write(database.join("test.ndb"), signature("Pod.Test", MARK)).unwrap();
        // Read by a user who is nobody here.
        fs::set_permissions(&database, PermissionsExt::from_mode(0o755)).unwrap();
        for file in fs::read_dir(&database).unwrap() {
            fs::set_permissions(file.unwrap().path(), PermissionsExt::from_mode(0o644)).unwrap();
        }

        // What EDIT marks, and where libclamav runs; nothing else.
        let isolation = std::env::var("TEST_ISOLATION").unwrap_or_else(|_| "process".to_owned());
        announce!("{}: isolation {isolation}", runtime.name());
        let mut text = fs::read_to_string(support::workspace().join("deploy/pod.yaml")).unwrap();
        for (ours, theirs) in [
            (
                "value: kafka:9092 # EDIT",
                format!("value: {}", broker.bootstrap()),
            ),
            (
                "path: /var/lib/clamav # EDIT",
                format!("path: {} #", database.display()),
            ),
            ("value: process\n", format!("value: {isolation}\n")),
        ] {
            assert_eq!(text.matches(ours).count(), 1, "{ours}");
            text = text.replace(ours, &theirs);
        }
        let manifest = dir.join("pod.yaml");
        fs::write(&manifest, text).unwrap();
        Self {
            runtime,
            broker,
            manifest,
            database,
        }
    }

    fn scene(&self) -> Scene<'_> {
        let mut scene = Scene::without_topics(&self.broker, "pod");
        scene.input = "syslog-raw".into();
        scene.output = "scan-results".into();
        scene.dead_letters = "scan-results-dlq".into();
        scene.group = "syslog-scanner-group".into();
        scene
    }

    /// Produces the records and returns what each was answered, in their order.
    fn judged(&self, payloads: Vec<Vec<u8>>) -> Vec<Answer> {
        let scene = self.scene();
        let places = scene.produce(payloads.into_iter().map(Outgoing::of));
        let answers = scene.wait_until_answered(PATIENCE);
        let of = |place: &Place| answers.iter().find(|answer| answer.place() == *place);
        places
            .iter()
            .map(|place| of(place).unwrap().clone())
            .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.runtime.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            announce!(
                "the pod: {:?}; it wrote:\n{}",
                self.runtime.look(),
                last.join("\n")
            );
        }
    }
}

fn held_as_the_file_says(stage: &Stage, seen: &Seen) {
    let held = Confinement::of(seen.pid);
    assert_eq!(held.user, 65532);
    assert_eq!(held.capabilities, 0, "{held:?}");
    assert!(held.no_new_privileges && held.seccomp == 2, "{held:?}");
    assert!(held.root_is_read_only, "{held:?}");
    let read_only = |options: &String| options.split(',').any(|option| option == "ro");
    assert!(held.database.as_ref().is_some_and(read_only), "{held:?}");
    assert!(!held.has_default_route, "{held:?}");
    assert!(held.memory_limit <= 640 << 20, "{held:?}");
    let (kind, options) = held.tmp.as_ref().expect("nothing is mounted on /tmp");
    match stage.runtime {
        Runtime::Kubelet { .. } => {
            assert_eq!(kind, "tmpfs");
            assert!(options.contains("size=131072k"), "{options}");
        }
        // podman 4 takes every emptyDir for a volume on its disk.
        Runtime::Podman { .. } => announce!("podman: /tmp is of kind {kind}"),
    }
}

fn its_probes_answer(stage: &Stage, seen: &Seen) {
    assert!(stage.runtime.is_live());
    for path in ["/startupz", "/livez", "/readyz"] {
        let (status, body) = get(seen, path).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body.contains(r#""ok":true"#), "{path}: {body}");
    }
}

fn a_record_goes_in_and_a_verdict_comes_out(stage: &Stage) {
    let (mut payloads, mut names): (Vec<_>, Vec<_>) = planted()
        .into_iter()
        .map(|(payload, name)| (payload, Some(name)))
        .unzip();
    payloads.push(format!("<38>Oct 20 02:44:02 host app: {MARK}").into_bytes());
    names.push(Some(MARK_NAME));
    payloads.push(line(1));
    names.push(None);

    for (answer, name) in stage.judged(payloads).iter().zip(names) {
        answer.assert_valid();
        let status = if name.is_some() { "threat" } else { "clean" };
        assert_eq!(answer.status(), status, "{:#}", answer.json);
        assert_eq!(
            answer.json["threat_name"].as_str(),
            name,
            "{:#}",
            answer.json
        );
    }
    announce!(
        "{}: threats are found by their names, and a clean record is clean",
        stage.runtime.name()
    );
}

/// Small as a message, as large as libclamav looks at when it is unpacked: found at its very end.
fn what_a_message_unpacks_to_fits_into_tmp(stage: &Stage) {
    let script = format!("{{ head -c 99M /dev/zero; printf '%s' '{MARK}'; }} | gzip -9");
    let packed = Command::new("sh")
        .args(["-c", &script])
        .stderr(Stdio::inherit())
        .output()
        .unwrap()
        .stdout;
    assert!(packed.len() < 1 << 20, "{} bytes", packed.len());
    let answers = stage.judged(vec![packed]);
    assert_eq!(answers[0].status(), "threat", "{:#}", answers[0].json);
    assert_eq!(answers[0].json["threat_name"], MARK_NAME);
    announce!(
        "{}: a message that unpacks to 99 MiB is examined to its end",
        stage.runtime.name()
    );
}

/// What the signature finds that comes later.
const LATER: &str = "a text that is in a signature which comes later";
const LATER_NAME: &str = "ClamAV: Pod.Later.UNOFFICIAL";

/// Puts a file of signatures where the pod looks for them, whole from the first moment on.
fn bring(stage: &Stage, name: &str, text: &str) {
    let new = stage.database.join(format!("{name}.new"));
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, PermissionsExt::from_mode(0o644)).unwrap();
    fs::rename(&new, stage.database.join(name)).unwrap();
}

/// The one answer to a message that only the later signature finds.
fn judged_later(stage: &Stage) -> Answer {
    let text = format!("<38>Oct 20 02:44:02 host app: {LATER}");
    stage.judged(vec![text.into_bytes()]).remove(0)
}

fn reloads(seen: &Seen, result: &str) -> f64 {
    let (_, page) = get(seen, "/metrics").expect("no metrics");
    let series = format!("scanner_engine_reloads_total{{result=\"{result}\"}}");
    support::metrics::Scrape::of(&page).get(&series)
}

/// Whoever brings signatures writes to the directory on the node; the pod only reads, loads them beside those in use, and swaps. No
/// record is lost or answered twice, and none waits for it longer than 50 ms. Returns the digest of the new signatures.
fn new_signatures_are_swapped_in_under_load(stage: &Stage, seen: &Seen) -> String {
    const PER_SECOND: f64 = 1_000.0;
    const LONGEST_WAIT_MS: i64 = 50;
    const BEFORE: Duration = Duration::from_secs(5);
    assert_eq!(judged_later(stage).status(), "clean");
    let scene = stage.scene();
    let lines: Vec<_> = (0..1000).map(line).collect();
    let stop = &AtomicBool::new(false);
    let brought = std::thread::scope(|scope| {
        scope.spawn(|| support::load::paced(&scene, &lines, PER_SECOND, PARTITIONS, stop));
        // Twice: clients connect and find their pace first.
        std::thread::sleep(BEFORE * 2);
        let swapped = reloads(seen, "ok");
        let brought = support::now_ms();
        bring(stage, "later.ndb", &signature("Pod.Later", LATER));
        wait_for("new signatures in use", PATIENCE, || {
            (reloads(seen, "ok") > swapped).then_some(())
        });
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        brought
    });
    let answers = scene.wait_until_answered(PATIENCE);
    assert_all_answered(&answers, &scene.places());
    assert_eq!(duplicates(&answers), BTreeSet::new());
    let digest = |answer: &Answer| answer.json["engines"]["clamav"]["db_digest"].clone();
    let since = |moment: i64| {
        let of_then = move |answer: &&Answer| answer.recorded_ms() >= moment;
        answers.iter().filter(of_then).collect::<Vec<_>>()
    };
    let meanwhile = since(brought);
    let generations: BTreeSet<_> = meanwhile
        .iter()
        .map(|one| digest(one).to_string())
        .collect();
    assert_eq!(
        generations.len(),
        2,
        "not by the old ones and by the new ones"
    );
    let told = |answers: &[&Answer]| {
        let mut waits: Vec<_> = answers.iter().map(|answer| answer.waited_ms()).collect();
        waits.sort_unstable();
        let of = |share| support::tally::quantile(&waits, share);
        (waits.len(), of(0.5), of(0.99), of(1.0))
    };
    let before = i64::try_from(BEFORE.as_millis()).unwrap();
    let earlier: Vec<_> = since(brought - before)
        .into_iter()
        .filter(|answer| answer.recorded_ms() < brought)
        .collect();
    announce!(
        "{}: new signatures are swapped in under load, no record is lost, none answered twice; records, and ms from a record's time to its \
         scan (p50, p99, most): {:?} before, {:?} meanwhile",
        stage.runtime.name(),
        told(&earlier),
        told(&meanwhile)
    );
    let (.., most) = told(&meanwhile);
    assert!(most <= LONGEST_WAIT_MS, "a record waited {most} ms");
    let found = judged_later(stage);
    assert_eq!(found.json["threat_name"], LATER_NAME);
    digest(&found).as_str().unwrap().to_owned()
}

/// What libclamav cannot load is refused and said; what is in use stays.
fn broken_signatures_are_refused(stage: &Stage, seen: &Seen) {
    let refused = reloads(seen, "failed");
    bring(stage, "later.ndb", "Pod.Later:0:*:this is no signature\n");
    wait_for("a refusal", PATIENCE, || {
        (reloads(seen, "failed") > refused).then_some(())
    });
    assert_eq!(judged_later(stage).json["threat_name"], LATER_NAME);
    let (status, ready) = get(seen, "/readyz").unwrap();
    assert_eq!(status, 200, "{ready}");
    assert!(ready.contains("later.ndb"), "{ready}");
    announce!("{}: broken signatures are refused", stage.runtime.name());
}

/// Killed beside broken files it starts with what it has kept; when they are whole again it goes on with them.
fn it_is_back_on_the_last_good_signatures(stage: &Stage, seen: &Seen, generation: &str) {
    let answer = judged_later(stage);
    assert_eq!(answer.json["threat_name"], LATER_NAME);
    assert_eq!(answer.json["engines"]["clamav"]["db_digest"], generation);
    announce!(
        "{}: killed beside them, it is back on the last good ones",
        stage.runtime.name()
    );
    let before = reloads(seen, "ok");
    let more = signature("Pod.More", "a text that comes last");
    bring(stage, "later.ndb", &(signature("Pod.Later", LATER) + &more));
    wait_for("new signatures in use", PATIENCE, || {
        (reloads(seen, "ok") > before).then_some(())
    });
    assert_eq!(judged_later(stage).json["threat_name"], LATER_NAME);
}

/// A line of an .ndb file that finds `text` anywhere.
fn signature(name: &str, text: &str) -> String {
    let bytes = hex::encode(text);
    format!("{name}:0:*:{bytes}\n")
}

/// Results on the topic so far.
fn count(stage: &Stage) -> i64 {
    stage.broker.ends("scan-results").values().sum()
}

/// Records at a steady rate, from a thread, until it is ended.
struct Load {
    stop: Arc<AtomicBool>,
    sender: std::thread::JoinHandle<Vec<Place>>,
}

impl Load {
    /// So many at a time, fifty times a second at most.
    fn begin(stage: &Stage, batch: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let writer = stage.broker.writer("syslog-raw");
        let sender = std::thread::spawn(move || {
            let mut number = 0;
            while !asked.load(Ordering::Relaxed) {
                writer.send((number..number + batch).map(|number| {
                    let partition = i32::try_from(number).unwrap() % PARTITIONS;
                    Outgoing::of(line(number)).partition(partition)
                }));
                number += batch;
                std::thread::sleep(Duration::from_millis(20));
            }
            writer.places()
        });
        Self { stop, sender }
    }

    /// No more of it. Returns what was sent.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap().len()
    }

    /// No more of it; everything on the topic must get an answer. Returns the records that have two.
    fn end_and_wait(self, stage: &Stage) -> BTreeSet<Place> {
        std::thread::sleep(Duration::from_secs(2));
        let sent = self.end();
        let scene = stage.scene();
        let answers = scene.wait_until_answered(PATIENCE);
        assert_all_answered(&answers, &scene.places());
        scene.wait_until_committed(PATIENCE);
        let doubled = duplicates(&answers);
        announce!(
            "{}: {sent} records under load, none lost, {} answered twice after the kill",
            stage.runtime.name(),
            doubled.len()
        );
        doubled
    }
}

/// In the middle of its work: what it has read is answered and committed when it ends, and the next one goes on exactly there.
fn it_drains_when_it_is_asked_to_stop(stage: &Stage, seen: &Seen, doubled: &BTreeSet<Place>) {
    let scene = stage.scene();
    let before: i64 = scene.committed().values().sum();
    // More than it can have answered at any moment.
    let load = Load::begin(stage, 100);
    std::thread::sleep(Duration::from_secs(1));
    // A kubelet keeps the exit status of a container that it restarts, and forgets that of a pod that it removes. So the first is seen
    // here.
    if let Runtime::Kubelet { .. } = stage.runtime {
        signal(seen.pid, "TERM");
        let next = stage.runtime.wait_until_ready(Some(2));
        assert_eq!(next.last_exit, Some(0), "{next:?}");
    }
    let asked = Instant::now();
    let status = stage.runtime.remove();
    let took = asked.elapsed();
    let sent = load.end();
    assert!(matches!(status, Some(0) | None), "exit status {status:?}");

    let committed = scene.committed();
    let answers = scene.answers();
    let beyond: Vec<_> = answers
        .iter()
        .map(Answer::place)
        .filter(|(partition, offset)| *offset >= committed[partition])
        .collect();
    assert_eq!(
        beyond,
        [],
        "answered and not committed: the next one would answer these again"
    );
    assert_eq!(duplicates(&answers), *doubled, "a drain doubles nothing");
    let done = usize::try_from(committed.values().sum::<i64>() - before).unwrap();
    assert!(
        0 < done && done < sent,
        "it was not stopped in the middle of its work: {done} of {sent}"
    );
    announce!(
        "{}: asked to stop it ended in {:.1} s, {} of {sent} records answered and committed",
        stage.runtime.name(),
        took.as_secs_f64(),
        done
    );

    stage.runtime.apply(&stage.manifest);
    stage.runtime.wait_until_ready(None);
    let answers = scene.wait_until_answered(PATIENCE);
    assert_all_answered(&answers, &scene.places());
    assert_eq!(
        duplicates(&answers),
        *doubled,
        "answered again after a drain"
    );
    let dead = stage.broker.read_all("scan-results-dlq");
    assert_eq!(dead, [], "dead letters");
    assert!(matches!(stage.runtime.remove(), Some(0) | None));
}
