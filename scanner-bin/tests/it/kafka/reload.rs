//! Signatures that are replaced while the service runs: by files that change, by a symlink that is swapped, and on SIGHUP.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::announce;
use support::broker::Broker;
use support::client::Outgoing;
use support::process::{Scanner, signal};
use support::scene::{Answer, Scene, assert_answered_once, assert_in_order};

const PATIENCE: Duration = Duration::from_secs(90);
const PARTITIONS: i32 = 3;

/// A signature in libclamav's own format: this text, anywhere.
fn signature(name: &str, text: &str) -> String {
    let hex = hex::encode(text);
    format!("{name}:0:*:{hex}\n")
}

/// A directory with a signature for `marker-one`.
fn database() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "one.ndb",
        &signature("Reload.One", "marker-one"),
    );
    dir
}

/// As an updater does it: written beside, then renamed.
fn put(dir: &Path, name: &str, text: &str) {
    let partial = dir.join(format!("{name}.tmp"));
    fs::write(&partial, text).unwrap();
    fs::rename(partial, dir.join(name)).unwrap();
}

fn launch(scene: &Scene<'_>, database: PathBuf, interval: &str) -> Scanner {
    let launch = scene.replica("scanner-0").flag("--database", database);
    let mut scanner = launch
        .env("SCANNER_SCAN__RELOAD_INTERVAL", interval)
        .start();
    scanner.wait_until_ready(PATIENCE);
    scanner
}

fn wait_for_reloads(scanner: &Scanner, result: &str, count: f64) {
    let series = format!("scanner_engine_reloads_total{{result=\"{result}\"}}");
    support::wait_for(&format!("{count} of {series}"), PATIENCE, || {
        (scanner.scrape().get(&series) >= count).then_some(())
    });
}

/// Lines that hold both markers.
fn lines(count: usize) -> impl Iterator<Item = Outgoing> {
    (0..PARTITIONS)
        .cycle()
        .zip(0..count)
        .map(|(partition, number)| {
            let line = format!("<13>Oct 20 02:44:02 web app: marker-one marker-two {number}");
            Outgoing::of(line).partition(partition)
        })
}

fn digest(answer: &Answer) -> String {
    let engine = &answer.json["engines"]["clamav"]["db_digest"];
    engine
        .as_str()
        .unwrap_or_else(|| panic!("no digest in {:#}", answer.json))
        .to_owned()
}

/// What libclamav found in it.
fn names(answer: &Answer) -> BTreeSet<String> {
    let matches = answer.json["matches"].as_array().unwrap().iter();
    matches
        .filter(|found| found["engine"] == "clamav")
        .map(|found| found["name"].as_str().unwrap().to_owned())
        .collect()
}

fn note(scanner: &Scanner) -> String {
    let (status, body) = scanner.get("/readyz").unwrap();
    assert_eq!(status, 200, "a reload may not cost readiness: {body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let checks = answer["checks"].as_array().unwrap();
    let database = checks.iter().find(|check| check["name"] == "database");
    database.unwrap()["reason"].as_str().unwrap().to_owned()
}

/// Proves: while records flow, new signatures take the place of the old ones; each record is answered once, in order, by one
/// of the two, the old ones never after the new ones in a partition; and result and metric name the ones in use.
#[test]
fn signatures_are_swapped_under_load_and_no_record_is_lost_or_judged_by_a_mixture() {
    under_load("swap");
}

/// Proves the same where the old signatures are freed first.
#[test]
fn signatures_are_drained_under_load_and_no_record_is_lost_or_judged_by_a_mixture() {
    under_load("drain");
}

fn under_load(mode: &str) {
    let scene = Scene::new(Broker::shared(), mode, PARTITIONS);
    let database = database();
    let launch = scene
        .replica("scanner-0")
        .flag("--database", database.path())
        .flag("--state-dir", scene.tmp().join("state"))
        .env("SCANNER_SCAN__RELOAD", mode)
        .env("SCANNER_SCAN__RELOAD_INTERVAL", "200ms");
    let mut scanner = launch.start();
    scanner.wait_until_ready(PATIENCE);
    scene.produce(lines(300));
    scene.wait_until_answered(PATIENCE);
    scene.produce(lines(3000));
    put(
        database.path(),
        "one.ndb",
        &signature("Reload.Two", "marker-two"),
    );
    wait_for_reloads(&scanner, "ok", 1.0);
    scene.produce(lines(300));
    let answers = scene.wait_until_answered(PATIENCE);
    let ready = note(&scanner);
    let metrics = scanner.scrape();
    scanner.terminate();
    assert_eq!(
        scanner.wait(PATIENCE).code(),
        Some(0),
        "{}",
        scanner.output()
    );

    assert_answered_once(&answers, &scene.places());
    assert_in_order(&answers);
    let (old, new) = (digest(&answers[0]), digest(answers.last().unwrap()));
    assert_ne!(old, new, "results do not name the new signatures");
    let mut by_partition = answers.clone();
    by_partition.sort_by_key(Answer::place);
    for pair in by_partition.windows(2) {
        let same = pair[0].place().0 == pair[1].place().0;
        let back = digest(&pair[0]) == new && digest(&pair[1]) == old;
        assert!(!(same && back), "the old signatures came back");
    }
    for answer in &answers {
        let expected = if digest(answer) == old {
            "Reload.One"
        } else {
            "Reload.Two"
        };
        let found = names(answer);
        assert_eq!(found.len(), 1, "{found:?}");
        let found = found.first().unwrap();
        assert!(
            found.starts_with(expected),
            "{found} by {expected}'s signatures"
        );
    }
    assert_eq!(ready, "ok");
    let info = format!("scanner_signature_db_info{{version=\"{new}\"}}");
    assert_eq!(metrics.get(&info), 1.0);
    assert_eq!(metrics.sum("scanner_signature_db_info"), 1.0);
    assert_eq!(
        metrics.get("scanner_engine_reload_duration_seconds_count"),
        1.0
    );
    let waited = scanner
        .output()
        .contains("Records waited for the signatures");
    assert_eq!(waited, mode == "drain");
    let by_new = answers
        .iter()
        .filter(|answer| digest(answer) == new)
        .count();
    announce!(
        "reload ({mode}): {} records, {by_new} of them by the new signatures, none lost, none twice",
        answers.len()
    );
}

/// Proves: files that libclamav refuses change nothing but what is said: log, metric and `/readyz`, which stays 200; the next
/// good ones are taken.
#[test]
fn broken_signatures_leave_the_old_ones_in_use_and_are_said() {
    let scene = Scene::new(Broker::shared(), "broken", PARTITIONS);
    let database = database();
    let scanner = launch(&scene, database.path().to_owned(), "200ms");
    scene.produce(lines(30));
    scene.wait_until_answered(PATIENCE);
    put(database.path(), "two.ndb", "this is no signature\n");
    wait_for_reloads(&scanner, "failed", 1.0);
    let said = scanner.wait_for_line(PATIENCE, |line| line.contains("Signatures not reloaded"));
    assert!(
        said.contains("two.ndb") || said.contains(database.path().to_str().unwrap()),
        "{said}"
    );
    let ready = note(&scanner);
    assert!(
        ready.contains("of before") && ready.contains("in use"),
        "{ready}"
    );

    scene.produce(lines(30));
    let answers = scene.wait_until_answered(PATIENCE);
    let digests: BTreeSet<_> = answers.iter().map(digest).collect();
    assert_eq!(digests.len(), 1, "the signatures changed");
    assert_eq!(scanner.scrape().get("scanner_engine_ready"), 1.0);

    put(
        database.path(),
        "two.ndb",
        &signature("Reload.Two", "marker-two"),
    );
    wait_for_reloads(&scanner, "ok", 1.0);
    assert_eq!(note(&scanner), "ok");
    scene.produce(lines(30));
    let answers = scene.wait_until_answered(PATIENCE);
    assert_answered_once(&answers, &scene.places());
    let digests: BTreeSet<_> = answers.iter().map(digest).collect();
    assert_eq!(digests.len(), 2, "the mended ones are not in use");
}

/// Proves: without looks of its own the service loads on SIGHUP, and only then; the same signatures are not swapped.
#[test]
fn sighup_loads_at_once_and_only_sighup_does_without_an_interval() {
    let scene = Scene::new(Broker::shared(), "hangup", PARTITIONS);
    let database = database();
    let mut scanner = launch(&scene, database.path().to_owned(), "0s");
    signal(scanner.pid(), "HUP");
    wait_for_reloads(&scanner, "unchanged", 1.0);
    put(
        database.path(),
        "one.ndb",
        &signature("Reload.Two", "marker-two"),
    );
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        scanner
            .scrape()
            .get("scanner_engine_reloads_total{result=\"ok\"}"),
        0.0
    );
    signal(scanner.pid(), "HUP");
    wait_for_reloads(&scanner, "ok", 1.0);
    scanner.terminate();
    assert_eq!(
        scanner.wait(PATIENCE).code(),
        Some(0),
        "{}",
        scanner.output()
    );
}

/// Proves: a symlink that leads to another directory is a change, as Kubernetes and blue-green updates make it; and SIGHUP
/// does not end a service that has no signature files.
#[test]
fn a_swapped_symlink_is_followed_and_sighup_without_a_database_is_harmless() {
    let scene = Scene::new(Broker::shared(), "link", PARTITIONS);
    let (old, new) = (database(), tempfile::tempdir().unwrap());
    put(
        new.path(),
        "one.ndb",
        &signature("Reload.Two", "marker-two"),
    );
    let link = old.path().join("..data");
    symlink(old.path(), &link).unwrap();
    let scanner = launch(&scene, link.clone(), "200ms");
    let next = old.path().join("..next");
    symlink(new.path(), &next).unwrap();
    fs::rename(next, link).unwrap();
    wait_for_reloads(&scanner, "ok", 1.0);
    drop(scanner);

    let mut scanner = scene.ready_replica("scanner-1");
    signal(scanner.pid(), "HUP");
    scanner.wait_for_line(PATIENCE, |line| {
        line.contains("no signature database is configured, so")
    });
    assert!(scanner.try_wait().is_none(), "{}", scanner.output());
}

/// Proves: killed right after it refused signatures, a replica comes back on those of before, though the files are broken; it says so, is
/// ready, and misses no record.
#[test]
fn killed_beside_broken_signatures_it_comes_back_on_the_last_good_ones() {
    let scene = Scene::new(Broker::shared(), "last-good", PARTITIONS);
    let database = database();
    let start = || {
        let launch = scene
            .replica("scanner-0")
            .flag("--database", database.path());
        let launch = launch.flag("--state-dir", scene.tmp().join("state"));
        let mut scanner = launch.env("SCANNER_SCAN__RELOAD_INTERVAL", "200ms").start();
        scanner.wait_until_ready(PATIENCE);
        scanner
    };
    let mut scanner = start();
    scene.produce(lines(30));
    scene.wait_until_answered(PATIENCE);
    fs::write(database.path().join("one.ndb"), "this is no signature\n").unwrap();
    wait_for_reloads(&scanner, "failed", 1.0);
    scanner.kill();

    scene.produce(lines(30));
    let mut scanner = start();
    let ready = note(&scanner);
    assert!(
        ready.contains("of before") && ready.contains("one.ndb"),
        "{ready}"
    );
    let answers = scene.wait_until_answered(PATIENCE);
    let digests: BTreeSet<_> = answers.iter().map(digest).collect();
    assert_eq!(digests.len(), 1, "not the signatures of before");
    assert!(answers.iter().all(|answer| names(answer).len() == 1));
    assert_eq!(scanner.scrape().get("scanner_signature_db_up_to_date"), 0.0);
    scanner.terminate();
    assert_eq!(
        scanner.wait(PATIENCE).code(),
        Some(0),
        "{}",
        scanner.output()
    );
}
