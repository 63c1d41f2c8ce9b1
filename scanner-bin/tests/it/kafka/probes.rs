//! `/startupz`, `/livez` and `/readyz` of a service to which something happens. What each check is made of is in `ops.rs`; what happens
//! with brokers, topics and passwords in `lifecycle.rs`, `topics.rs` and `security.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::broker::Broker;
use support::client::Outgoing;
use support::process::Scanner;
use support::scene::{Scene, assert_all_answered, line, load, planted};
use support::{announce, corpus, data, wait_for};

const PATIENCE: Duration = Duration::from_secs(90);

/// What the three say: their status, in the order startup, live, ready.
fn statuses(scanner: &Scanner) -> Option<[u16; 3]> {
    let ask = |path| scanner.get(path).map(|(status, _)| status);
    Some([ask("/startupz")?, ask("/livez")?, ask("/readyz")?])
}

/// Proves: with signatures that cannot be loaded the service ends with a sentence that names the file, and never says that it has
/// started; started again when they are whole, it is ready.
#[test]
fn an_engine_that_cannot_load_never_starts_and_says_which_file_it_is() {
    let scene = Scene::new(Broker::shared(), "no-engine", 1);
    let database = tempfile::tempdir().unwrap();
    let file = database.path().join("ours.ndb");
    fs::write(&file, "Ours:0:*:this is no signature\n").unwrap();
    let launch = || {
        scene
            .replica("scanner-0")
            .flag("--database", database.path())
    };
    let mut scanner = launch().start();
    let status = wait_for("the end of the service", PATIENCE, || {
        if let Some((status, _)) = scanner.get("/startupz") {
            assert_eq!(status, 503);
        }
        scanner.try_wait()
    });
    assert_eq!(status.code(), Some(2), "{}", scanner.output());
    let said = scanner.stderr().join("\n");
    assert!(said.contains(file.to_str().unwrap()), "{said}");

    fs::write(&file, "Ours:0:*:6f7572207369676e6174757265\n").unwrap();
    let mut scanner = launch().start();
    scanner.wait_until_ready(PATIENCE);
    assert_eq!(statuses(&scanner), Some([200, 200, 200]));
}

/// A file system of its own, gone when dropped.
struct Small(PathBuf);

impl Small {
    /// In memory, with so many KiB. `None`, which has been announced, for who may not mount.
    fn mount(at: &Path, kib: u64) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let size = format!("size={kib}k");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "scanner-test"])
            .arg(at);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            reason => {
                announce!(
                    "left out: a temporary directory that is full, for this process may not mount one: {reason:?}"
                );
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .output()
            .ok();
    }
}

/// Proves: with no room for libclamav's temporary files the service is not ready, and live, for a restart would not mend it; with room
/// again it is ready, and every record has its verdict.
#[test]
fn a_full_temporary_directory_costs_readiness_and_no_record() {
    let scene = Scene::new(Broker::shared(), "full", 2);
    let at = scene.tmp().join("small");
    let Some(small) = Small::mount(&at, 4096) else {
        return;
    };
    let mut scanner = scene
        .replica("scanner-0")
        .env("SCANNER_SCAN__TMP_DIR", &small.0)
        // Else most records were clean by proof, whatever libclamav could do.
        .env("SCANNER_SCAN__PREFILTER", "false")
        .start();
    scanner.wait_until_ready(PATIENCE);
    let filler = small.0.join("filler");
    // Until there is no room: the last write fails.
    let _full = fs::write(&filler, vec![0; 8 << 20]);
    let records = || {
        let payloads = (0..100).map(|number| match number % 10 {
            9 => planted()[0].0.clone(),
            _ => line(number),
        });
        payloads.enumerate().map(|(number, payload)| {
            Outgoing::of(payload).partition(i32::try_from(number % 2).unwrap())
        })
    };
    scene.produce(records());
    wait_for("readiness to fail", PATIENCE, || {
        (statuses(&scanner)? == [200, 200, 503]).then_some(())
    });
    let (_, reason) = scanner.get("/readyz").unwrap();
    assert!(reason.contains("could not be scanned"), "{reason}");
    // It stays so, and live.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(statuses(&scanner), Some([200, 200, 503]));

    fs::remove_file(&filler).unwrap();
    wait_for("readiness to come back", PATIENCE, || {
        (statuses(&scanner)? == [200, 200, 200]).then_some(())
    });
    let answers = scene.wait_until_answered(PATIENCE);
    assert_all_answered(&answers, &scene.places());
    let not_judged = answers
        .iter()
        .filter(|answer| !["clean", "threat"].contains(&answer.status()))
        .count();
    let letters: i64 = scene.broker.ends(&scene.dead_letters).values().sum();
    assert_eq!(not_judged, usize::try_from(letters).unwrap());
    scanner.terminate();
    assert_eq!(scanner.wait(PATIENCE).code(), Some(0));
}

/// Proves: while new signatures are loaded and swapped in, none of the three changes.
#[test]
fn a_reload_changes_no_probe() {
    let scene = Scene::new(Broker::shared(), "reload-probes", 1);
    let database = tempfile::tempdir().unwrap();
    // The more there are, the longer it takes.
    if let Some(ours) = data("sigs/official-main-part1.ldb.zst") {
        corpus::official(ours.parent().unwrap(), database.path());
    }
    fs::write(database.path().join("ours.ndb"), "Ours:0:*:6f757273\n").unwrap();
    let mut scanner = scene
        .replica("scanner-0")
        .flag("--database", database.path())
        .start();
    scanner.wait_until_ready(PATIENCE);
    let reloads = || {
        scanner
            .scrape()
            .get("scanner_engine_reloads_total{result=\"ok\"}")
    };
    let before = reloads();
    fs::write(
        database.path().join("new"),
        "Ours:0:*:6f757273\nMore:0:*:6d6f7265\n",
    )
    .unwrap();
    fs::rename(
        database.path().join("new"),
        database.path().join("ours.ndb"),
    )
    .unwrap();
    support::process::signal(scanner.pid(), "HUP");
    let mut asked = 0;
    wait_for("the reload", PATIENCE, || {
        assert_eq!(statuses(&scanner), Some([200, 200, 200]));
        asked += 1;
        (reloads() > before).then_some(())
    });
    assert_eq!(statuses(&scanner), Some([200, 200, 200]));
    announce!("probes: asked {asked} times while new signatures were loaded, and 200 each time");
}

/// Proves: brokers that are not there cost readiness until they were there once, for nothing was joined; and never liveness, for a
/// restart would not mend it. A replica that has joined stays ready while nothing that it has to deliver fails.
#[test]
fn brokers_that_are_not_there_cost_readiness_until_they_come_and_never_liveness() {
    let broker = Broker::start();
    if !broker.is_real() {
        announce!("left out: brokers that come later, for the embedded one is always there");
        return;
    }
    let scene = Scene::new(&broker, "gone", 2);
    broker.kill();
    let mut scanner = scene.replica("scanner-0").start();
    wait_for("readiness to name the brokers", PATIENCE, || {
        let (_, reason) = scanner.get("/readyz")?;
        reason.contains(broker.bootstrap()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(statuses(&scanner), Some([200, 200, 503]));

    broker.start_again();
    scanner.wait_until_ready(PATIENCE);
    scene.produce(load(200, 2));
    let answers = scene.wait_until_answered(PATIENCE);
    assert_all_answered(&answers, &scene.places());

    broker.kill();
    for _ in 0..30 {
        assert_eq!(statuses(&scanner), Some([200, 200, 200]));
        std::thread::sleep(Duration::from_millis(100));
    }
    broker.start_again();
    scene.produce(load(200, 2));
    let answers = scene.wait_until_answered(PATIENCE);
    assert_all_answered(&answers, &scene.places());
}
