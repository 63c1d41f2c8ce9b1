//! What a replica takes of memory with a set of signatures of the official size: with all of it, with the part for log messages, with none;
//! and clamd with a Python consumer in front, all measured the same way.
//!
//! Scanners are measured without isolation and with it, which may cost a tenth more.
//!
//! `make memory` measures it on a release build with a set of the full size and holds the log-only profile to its bound; otherwise it goes
//! the same way with few signatures, and only what does not depend on their number is held.

// A harness that cannot go on panics, and its modules are used here alone.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod clamd;
mod set;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use support::broker::Broker;
use support::client::Outgoing;
use support::process::Scanner;
use support::scene::{Scene, line};
use support::{announce, data, wait_for, workspace};
use table::{Row, Table, grouped};
use tempfile::TempDir;
use watch::Watch;

/// Loading the full set takes minutes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// The most that the log-only profile may hold at work, with a set of the official size.
const LOG_ONLY_BYTES: u64 = 250 << 20;

/// The most that a replica with isolation may hold, as a part of what one without holds in the same run.
const ISOLATED: f64 = 1.1;

/// How much is done.
#[derive(Clone, Copy)]
struct Plan {
    /// The set's size as a part of the official one's.
    scale: f64,
    /// So many lines are scanned before it is measured,
    lines: usize,
    /// and so long nothing comes.
    quiet: Duration,
    /// How much more than [`ISOLATED`] is accepted, in bytes.
    tolerance: u64,
}

impl Plan {
    /// As `make memory` has it, or a short way.
    fn chosen() -> Plan {
        let scale = std::env::var("SCANNER_TEST_MEMORY_SCALE").ok();
        match scale.map(|scale| {
            scale
                .parse()
                .expect("SCANNER_TEST_MEMORY_SCALE is a number")
        }) {
            Some(scale) => Plan {
                scale,
                lines: 5000,
                quiet: Duration::from_secs(5),
                tolerance: 0,
            },
            None => Plan {
                scale: 0.002,
                lines: 200,
                quiet: Duration::from_millis(300),
                // Pools of the allocator differ by so much from run to run.
                tolerance: 1 << 20,
            },
        }
    }

    /// A smaller set says nothing about the bound.
    fn is_whole(self) -> bool {
        self.scale >= 0.99
    }
}

/// A signature for the lines of this test.
fn signature(name: &str, text: &str) -> String {
    let hex = hex::encode(text);
    format!("{name}:0:*:{hex}\n")
}

/// The signatures, and a place in memory.
struct Place {
    database: TempDir,
    memory: TempDir,
}

impl Place {
    /// A directory of signatures that starts as `set` is, without copying it.
    fn new(set: Option<&Path>) -> Place {
        let beside = workspace().join("target");
        let database = tempfile::Builder::new()
            .prefix("footprint-")
            .tempdir_in(beside)
            .unwrap();
        for file in set.into_iter().flat_map(|set| fs::read_dir(set).unwrap()) {
            let file = file.unwrap();
            fs::hard_link(file.path(), database.path().join(file.file_name())).unwrap();
        }
        let place = Place {
            database,
            memory: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
        };
        place.put("first", "marker-first");
        place
    }

    fn put(&self, name: &str, text: &str) {
        let partial = self.database.path().join("partial");
        fs::write(&partial, signature(&format!("Footprint.{name}"), text)).unwrap();
        fs::rename(partial, self.database.path().join(format!("{name}.ndb"))).unwrap();
    }
}

/// Sends lines, one of which is bad, and waits until all have a result. Says which result that one has.
fn work(plan: Plan, scene: &Scene<'_>, bad: &str) -> String {
    let lines = (0..plan.lines).map(|n| Outgoing::of(line(n)));
    let before = total(scene);
    scene.produce(lines.chain([Outgoing::of(format!("a line with {bad}"))]));
    wait_for("results", PATIENCE, || {
        (total(scene) > before + plan.lines as i64).then_some(())
    });
    let results = scene.broker.read_all(&scene.output);
    let result = results.iter().find(|result| result.text().contains(bad));
    result.expect("the bad line has a result").text().to_owned()
}

fn total(scene: &Scene<'_>) -> i64 {
    scene.broker.ends(&scene.output).values().sum()
}

/// What is held once nothing is to be done.
fn at_rest(plan: Plan, pids: &[u32], memory: &Path) -> (u64, u64) {
    thread::sleep(plan.quiet);
    (watch::held(pids, memory), watch::resident(pids))
}

/// One replica of the scanner: it starts, works, gets new signatures, and works again.
fn scanner(
    plan: Plan,
    name: &str,
    isolation: &'static str,
    broker: &Broker,
    set: Option<&Path>,
    settings: &[(&str, &str)],
) -> Row {
    let scene = Scene::new(broker, "footprint", 1);
    let place = Place::new(set);
    let has_files = set.is_some();
    let state = tempfile::tempdir_in(workspace().join("target")).unwrap();
    let mut launch = scene
        .replica("scanner-0")
        .flag("--isolation", isolation)
        .env("SCANNER_SCAN__TMP_DIR", place.memory.path())
        .env("SCANNER_SCAN__RELOAD_INTERVAL", "1s")
        .env("SCANNER_SCAN__STATE_DIR", state.path());
    if has_files {
        launch = launch.flag("--database", place.database.path());
    }
    for (setting, value) in settings {
        launch = launch.env(setting, value);
    }
    let began = Instant::now();
    let mut scanner: Scanner = launch.start();
    let pids = vec![scanner.pid()];
    let watch = Watch::start(pids.clone(), place.memory.path().to_owned());
    scanner.wait_until_ready(PATIENCE);
    let ready_after = began.elapsed().as_secs_f64();
    let result = work(
        plan,
        &scene,
        if has_files { "marker-first" } else { "nothing" },
    );
    assert_eq!(result.contains("Footprint.first"), has_files, "{result}");
    let (steady, resident) = at_rest(plan, &pids, place.memory.path());
    // Spawner, template and scanning process: all are counted.
    let expected = if isolation == "process" { 4 } else { 1 };
    assert_eq!(watch::count(&pids), expected, "{}", scanner.output());
    let most_before = watch.most();
    let signatures = scanner.scrape().get("scanner_signatures_loaded") as u64;
    if has_files {
        place.put("second", "marker-second");
        wait_for("a reload", PATIENCE, || {
            let reloads = scanner
                .scrape()
                .get("scanner_engine_reloads_total{result=\"ok\"}");
            (reloads >= 1.0).then_some(())
        });
        let result = work(plan, &scene, "marker-second");
        assert!(result.contains("Footprint.second"), "{result}");
    }
    let (after, _) = at_rest(plan, &pids, place.memory.path());
    Row {
        replica: name.to_owned(),
        isolation,
        signatures,
        ready_after,
        steady,
        resident,
        most_before,
        most: watch.most(),
        after,
    }
}

/// The same of clamd and a Python consumer.
fn clamd_and_python(
    plan: Plan,
    python: &Path,
    broker: &Broker,
    set: &Path,
    signatures: u64,
) -> Row {
    let scene = Scene::new(broker, "footprint-clamd", 1);
    let place = Place::new(Some(set));
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let began = Instant::now();
    let mut replica = clamd::Replica::start(place.database.path(), dir.path());
    replica.consume(python, &scene);
    let pids = replica.pids();
    let tmp = dir.path().join("tmp");
    let watch = Watch::start(pids.clone(), tmp.clone());
    replica.wait_until_ready(PATIENCE);
    let ready_after = began.elapsed().as_secs_f64();
    let result = work(plan, &scene, "marker-first");
    assert!(result.contains("Footprint.first"), "{result}");
    let (steady, resident) = at_rest(plan, &pids, &tmp);
    let most_before = watch.most();
    place.put("second", "marker-second");
    assert_eq!(replica.ask("RELOAD").as_deref(), Some("RELOADING"));
    wait_for("a reload of clamd", PATIENCE, || {
        replica
            .log()
            .contains("Database correctly reloaded")
            .then_some(())
    });
    let result = work(plan, &scene, "marker-second");
    assert!(result.contains("Footprint.second"), "{result}");
    let (after, _) = at_rest(plan, &pids, &tmp);
    Row {
        replica: "clamd and a Python consumer".to_owned(),
        isolation: "",
        signatures,
        ready_after,
        steady,
        resident,
        most_before,
        most: watch.most(),
        after,
    }
}

#[test]
fn a_replica_with_the_log_only_profile_takes_a_fraction_of_one_with_all_signatures() {
    let Some(samples) = data("sigs") else { return };
    let broker = Broker::shared();
    let plan = Plan::chosen();
    let set = tempfile::Builder::new()
        .prefix("footprint-set-")
        .tempdir_in(workspace().join("target"))
        .unwrap();
    let written = set::write(&samples, set.path(), plan.scale);
    announce!(
        "{} signatures: {} hashes of files, {} of sections, {} body and {} logical signatures",
        grouped(written.total()),
        grouped(written.whole_files),
        grouped(written.sections),
        grouped(written.body),
        grouped(written.logical)
    );
    let set = Some(set.path());
    let log_only = ("SCANNER_SCAN__PROFILE", "log-only");
    let drain = ("SCANNER_SCAN__RELOAD", "drain");
    let swap = ("SCANNER_SCAN__RELOAD", "swap");
    let kinds = [
        ("no signatures but the built-in one", None, &[][..]),
        ("`log-only`, reload by `swap`", set, &[log_only, swap][..]),
        ("`log-only`, reload by `drain`", set, &[log_only, drain][..]),
        ("`full`, reload by `swap`", set, &[swap][..]),
        ("`full`, reload by `drain`", set, &[drain][..]),
    ];
    let measure = |isolation| {
        kinds.map(|(name, set, settings)| scanner(plan, name, isolation, broker, set, settings))
    };
    let mut rows = Vec::from(measure("none"));
    // Only root can read the memory of processes that are confined.
    let isolated = rustix::process::geteuid().is_root();
    if isolated {
        rows.extend(measure("process"));
    } else {
        announce!("left out: the memory of a replica with isolation, which only root can read");
        assert!(!plan.is_whole(), "the whole comparison needs root");
    }
    let python: Option<PathBuf> = match broker.is_real() {
        true => clamd::python(),
        false => None,
    };
    match (&python, set) {
        (Some(python), Some(set)) => {
            rows.push(clamd_and_python(
                plan,
                python,
                broker,
                set,
                rows[3].signatures,
            ));
        }
        _ => assert!(
            !plan.is_whole(),
            "the whole comparison needs clamd and Python"
        ),
    }
    announce!("{}", Table(&rows));
    let (plain, others) = rows.split_at(kinds.len());
    let (log_only, full) = (&plain[1], &plain[3]);
    assert!(log_only.signatures < full.signatures / 5, "{rows:#?}");
    assert!(log_only.steady < full.steady, "{rows:#?}");
    if plan.is_whole() {
        assert!(log_only.resident < LOG_ONLY_BYTES, "{rows:#?}");
    }
    for (plain, isolated) in plain.iter().zip(others.iter().filter(|_| isolated)) {
        hold(plan, plain, isolated);
    }
}

/// A replica with isolation may hold little more than one without.
fn hold(plan: Plan, plain: &Row, isolated: &Row) {
    let figures = [
        ("at work", plain.steady, isolated.steady),
        (
            "at most, with the start",
            plain.most_before,
            isolated.most_before,
        ),
        ("at most, with a reload", plain.most, isolated.most),
        ("after it", plain.after, isolated.after),
    ];
    let name = &plain.replica;
    for (when, plain, isolated) in figures {
        let ratio = isolated as f64 / plain as f64;
        announce!("{name}, {when}: {ratio:.3} with isolation");
    }
    // A maximum that is short is not seen in every run.
    let held = figures
        .into_iter()
        .filter(|(when, ..)| plan.is_whole() || !when.starts_with("at most"));
    for (when, plain, isolated) in held {
        let bound = plain as f64 * ISOLATED + plan.tolerance as f64;
        assert!(
            isolated as f64 <= bound,
            "{name}, {when}: {isolated} bytes, and without isolation {plain}"
        );
    }
}
