//! Generations of signatures: what may take over, what is kept, and what a replica comes back on.
//!
//! The service's own loader and reload thread, without Kafka; the commands as processes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scanlib::{Detector, DetectorSlot, Payload, Request};
use scanner_bin::cli::run;
use scanner_bin::config::{Config, Profile, ReloadMode, ScanConfig};
use scanner_bin::generation::snapshot::Snapshot;
use scanner_bin::generation::state::State;
use scanner_bin::ops::health::Probe;
use scanner_bin::reload::{self, Loader, Reloading};
use scanner_bin::service::Watch;
use scanner_bin::shutdown::Shutdown;
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);
const LOOKS: Duration = Duration::from_millis(100);

/// A signature in libclamav's own format: this text, anywhere.
fn signature(name: &str, text: &str) -> String {
    let hex = hex::encode(text);
    format!("{name}:0:*:{hex}\n")
}

/// Many of them.
fn signatures(count: usize) -> String {
    (0..count)
        .map(|n| {
            signature(
                &format!("My.Number{n}"),
                &format!("marker number {n} of many"),
            )
        })
        .collect()
}

/// A place for signatures and one for what is kept.
struct Place {
    dir: TempDir,
    /// Whether anything is kept.
    keeps: bool,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("db")).unwrap();
        let place = Place { dir, keeps: true };
        place.put("one.ndb", signature("My.One", "marker-one"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As an updater does it: written beside, then renamed.
    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let partial = self.path("partial");
        fs::write(&partial, text).unwrap();
        fs::rename(partial, self.path("db").join(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path("db").join(name)).unwrap();
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.scan.database = vec![self.path("db")];
        config.scan.state_dir = self.keeps.then(|| self.path("state"));
        config.scan.reload_interval = LOOKS;
        config
    }

    fn scan(&self) -> ScanConfig {
        self.config().scan
    }

    fn start(&self) -> Service {
        Service::start(&self.config())
    }

    /// Whether it does start, and with what.
    fn try_start(&self) -> Result<Detector, String> {
        let config = self.config();
        let watch = run::watch(&config);
        let loader = Loader::keeping(&config.scan, &watch).map_err(|error| error.to_string())?;
        loader.first().map_err(|error| error.to_string())
    }

    /// Names of the generations that are kept.
    fn kept(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path("state/generations")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn command(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
        command.arg("db").args(words);
        command.arg("--database").arg(self.path("db"));
        if self.keeps {
            command.arg("--state-dir").arg(self.path("state"));
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn object(&self, words: &[&str]) -> (i32, Value) {
        let (code, out, error) = self.command(&[words, &["--format", "json"]].concat());
        (
            code,
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}")),
        )
    }

    /// Event and reason of each line of the history.
    fn history(&self) -> Vec<(String, String)> {
        let (code, page) = self.object(&["history"]);
        assert_eq!(code, 0);
        let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let events = page["history"].as_array().unwrap().iter();
        events
            .map(|event| (text(event, "event"), text(event, "reason")))
            .collect()
    }
}

/// The loader of a service, at work.
struct Service {
    watch: Watch,
    slot: DetectorSlot,
    hangup: Arc<AtomicBool>,
    shutdown: Shutdown,
    reloading: Option<Reloading>,
}

impl Service {
    fn start(config: &Config) -> Service {
        let watch = run::watch(config);
        let loader = Loader::keeping(&config.scan, &watch).unwrap();
        let loaded = reload::watched(&config.scan);
        let slot = DetectorSlot::new(loader.first().unwrap());
        let (hangup, shutdown) = (Arc::new(AtomicBool::new(false)), Shutdown::default());
        let reloading = Reloading::start(
            loader,
            slot.clone(),
            loaded,
            Arc::clone(&hangup),
            shutdown.clone(),
        );
        Service {
            watch,
            slot,
            hangup,
            shutdown,
            reloading: Some(reloading.unwrap()),
        }
    }

    fn metric(&self, name: &str) -> u64 {
        let series = format!("scanner_{name} ");
        let page = self.watch.metrics.encode();
        let line = page.lines().find_map(|line| line.strip_prefix(&*series));
        line.unwrap_or_else(|| panic!("{name} is missing"))
            .parse()
            .unwrap()
    }

    fn reloads(&self, result: &str) -> u64 {
        self.metric(&format!("engine_reloads_total{{result=\"{result}\"}}"))
    }

    fn wait_for(&self, result: &str, count: u64) {
        support::wait_for(
            &format!(
                "{count} reloads that end {result}; it says: {}",
                self.note()
            ),
            PATIENCE,
            || (self.reloads(result) >= count).then_some(()),
        );
    }

    fn sighup(&self) {
        self.hangup.store(true, Ordering::Release);
    }

    /// What `/readyz` says of the database, which never costs readiness.
    fn note(&self) -> String {
        let answer = self.watch.health.answer(Probe::Ready);
        let database = answer
            .checks
            .iter()
            .find(|check| check.name == "database")
            .unwrap();
        assert!(database.ok, "{database:?}");
        database.reason.clone()
    }

    fn finds(&self, text: &str) -> bool {
        finds(&self.slot.load(), text)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.request();
        if let Some(reloading) = self.reloading.take() {
            reloading.wait();
        }
    }
}

fn finds(detector: &Detector, text: &str) -> bool {
    let engine = detector.engine().unwrap();
    let scan = engine
        .scan(Payload::Bytes(text.as_bytes()), &Request::new())
        .unwrap();
    assert_eq!(scan.incomplete, None);
    !scan.names.is_empty()
}

/// Proves: what was in use is kept, and a replica that starts beside broken files, or without any, is back on it, says so, and does
/// not try the broken ones again.
#[test]
fn last_known_good_survives_a_restart_beside_broken_and_missing_files() {
    let place = Place::new();
    let service = place.start();
    place.put("two.ndb", signature("My.Two", "marker-two"));
    service.wait_for("ok", 1);
    place.put("three.ndb", "this is no signature\n");
    service.wait_for("failed", 1);
    let note = service.note();
    assert!(note.contains("not tried again until they change"), "{note}");
    // The files are named, not a copy that is gone.
    let named = place.path("db/three.ndb");
    assert!(
        note.contains(named.to_str().unwrap()) && !note.contains("staging-"),
        "{note}"
    );
    assert_eq!(service.metric("signature_db_up_to_date"), 0);
    assert_eq!(service.metric("signature_generations_kept"), 2);
    drop(service);

    for files in ["broken", "empty", "gone"] {
        match files {
            "empty" => fs::read_dir(place.path("db"))
                .unwrap()
                .for_each(|file| fs::remove_file(file.unwrap().path()).unwrap()),
            "gone" => fs::remove_dir(place.path("db")).unwrap(),
            _ => (),
        }
        let service = place.start();
        assert!(
            service.finds("marker-one") && service.finds("marker-two"),
            "{files}"
        );
        assert!(
            service.note().contains("are in use"),
            "{files}: {}",
            service.note()
        );
        assert_eq!(service.metric("signature_db_up_to_date"), 0, "{files}");
        std::thread::sleep(LOOKS * 5);
        assert!(service.finds("marker-two"), "{files}");
    }
    let refused = place
        .history()
        .into_iter()
        .filter(|(event, _)| event == "refused");
    assert_eq!(refused.count(), 1, "{:?}", place.history());
}

/// Proves: the same bytes are not tried twice, whatever their names' times; SIGHUP does, and so do other bytes.
#[test]
fn refused_files_are_tried_again_only_when_they_change_or_on_sighup() {
    for keeps in [true, false] {
        let place = Place {
            keeps,
            ..Place::new()
        };
        let service = place.start();
        place.put("two.ndb", "this is no signature\n");
        service.wait_for("failed", 1);
        // The same again, as a new file.
        place.put("two.ndb", "this is no signature\n");
        std::thread::sleep(LOOKS * 10);
        assert_eq!(service.reloads("failed"), 1, "keeps: {keeps}");
        service.sighup();
        service.wait_for("failed", 2);
        place.put("two.ndb", "nor is this\n");
        service.wait_for("failed", 3);
        place.put("two.ndb", signature("My.Two", "marker-two"));
        service.wait_for("ok", 1);
        assert_eq!(service.note(), "ok");
        assert!(service.finds("marker-two"));
        assert_eq!(service.metric("signature_db_up_to_date"), 1);
    }
}

/// Proves: without a directory to keep anything in, everything else is as it is with one.
#[test]
fn without_a_state_directory_nothing_is_kept_and_the_rest_works() {
    let place = Place {
        keeps: false,
        ..Place::new()
    };
    let service = place.start();
    place.put("two.ndb", signature("My.Two", "marker-two"));
    service.wait_for("ok", 1);
    assert!(service.finds("marker-two"));
    assert_eq!(service.metric("signature_generations_kept"), 0);
    drop(service);
    assert!(!place.path("state").exists());
    place.put("two.ndb", "this is no signature\n");
    let error = place.try_start().unwrap_err();
    assert!(error.contains("two.ndb"), "{error}");
    let (code, _, error) = place.command(&["history"]);
    assert_eq!(code, 2);
    assert!(error.contains("scan.state_dir is not set"), "{error}");
    let (code, status, _) = place.command(&["status"]);
    assert_eq!(code, 0);
    assert!(
        status.contains("two.ndb") && status.contains("no scan.state_dir"),
        "{status}"
    );
}

/// Proves: each way in which signatures can be bad though they load keeps those of before, and says which.
#[test]
fn signatures_that_load_and_are_no_good_are_refused() {
    let slow: String = (0..20)
        .map(|n| {
            format!(
                "My.Slow{n};Engine:81-255,Target:0;0&1;3230;0/([a-zA-Z0-9 :.-]+)+[#]{{3}}Z{n}/\n"
            )
        })
        .collect();
    let bad: [(&str, &str, &str); 4] = [
        // An exception for the test string itself.
        (
            "bad.fp",
            "44d88612fea8a8f36de82e1278abb02f:68:Excepted\n",
            "EICAR test string, which the signatures before find, is not found",
        ),
        (
            "bad.ndb",
            &signature("My.Session", "Started Session"),
            "My.Session.UNOFFICIAL is found in a harmless line",
        ),
        ("bad.ldb", &slow, "a harmless line takes libclamav"),
        // In place of all the others.
        ("many.ndb", &signatures(9), "signatures are left of"),
    ];
    let place = Place::new();
    place.put(
        "eicar.ndb",
        signature("My.Eicar", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE"),
    );
    place.put("many.ndb", signatures(50));
    let service = place.start();
    for (number, (name, text, why)) in bad.iter().enumerate() {
        place.put(name, text);
        service.wait_for("failed", number as u64 + 1);
        assert!(service.note().contains(why), "{name}: {}", service.note());
        assert!(
            service.finds("marker-one") && service.finds("marker number 49 of many"),
            "{name}"
        );
        let (event, reason) = place.history().pop().unwrap();
        assert!(
            event == "refused" && reason.contains(why),
            "{event} {reason}"
        );
        match *name {
            "many.ndb" => place.put(name, signatures(50)),
            name => place.remove(name),
        }
        // The files are as they were.
        service.wait_for("unchanged", number as u64 + 1);
        assert_eq!(service.note(), "ok");
    }
    assert_eq!(service.reloads("ok"), 0);
    drop(service);

    // At a start there is what was in use last to compare with.
    place.put("many.ndb", signatures(9));
    let service = place.start();
    assert!(
        service.finds("marker number 49 of many"),
        "{}",
        service.note()
    );
    assert!(
        service.note().contains("signatures are left of"),
        "{}",
        service.note()
    );
    // An operator who means it.
    let (code, out, error) = place.command(&["activate", "source"]);
    assert_eq!((code, out.as_str()), (0, "source: activated\n"), "{error}");
    assert!(!service.finds("marker number 49 of many") && service.finds("marker number 8 of many"));
    assert_eq!(service.note(), "ok");
}

/// Proves: what a user's own signatures found all along is no reason to refuse others.
#[test]
fn what_was_found_in_harmless_lines_before_may_be_found_again() {
    let place = Place::new();
    place.put("wide.ndb", signature("My.Session", "Started Session"));
    let service = place.start();
    place.put("two.ndb", signature("My.Two", "marker-two"));
    service.wait_for("ok", 1);
    assert_eq!(service.reloads("failed"), 0);
}

/// Proves: files that are being written when the service starts are waited for, and files that are written slowly are loaded when they
/// are complete.
#[test]
fn half_written_files_never_load() {
    let place = Place::new();
    let write_in_parts = |name: &str| {
        let path = place.path("db").join(name);
        let text = signatures(40);
        std::thread::spawn(move || {
            let mut file = fs::File::create(path).unwrap();
            for part in text.as_bytes().chunks(text.len() / 8 + 1) {
                file.write_all(part).unwrap();
                std::thread::sleep(Duration::from_millis(60));
            }
        })
    };
    let writer = write_in_parts("many.ndb");
    std::thread::sleep(Duration::from_millis(100));
    let mut config = place.config();
    config.scan.reload_interval = Duration::from_millis(300);
    let service = Service::start(&config);
    writer.join().unwrap();
    assert!(
        service.finds("marker number 39 of many"),
        "started with a part"
    );
    place.remove("many.ndb");
    service.sighup();
    support::wait_for("the file is gone, which is refused", PATIENCE, || {
        (service.reloads("failed") == 1).then_some(())
    });

    place.remove("one.ndb");
    write_in_parts("more.ndb").join().unwrap();
    service.wait_for("ok", 1);
    assert!(service.finds("marker number 39 of many"));
    assert_eq!(service.reloads("ok"), 1, "a part was loaded first");
}

/// Proves: the copy is what is loaded and kept: nothing of what happens to the files afterwards reaches it, and nothing is ever written
/// beside them.
#[test]
fn nothing_is_written_where_signatures_come_from() {
    let place = Place::new();
    let service = place.start();
    place.put("two.ndb", signature("My.Two", "marker-two"));
    service.wait_for("ok", 1);
    place.put("three.ndb", "this is no signature\n");
    service.wait_for("failed", 1);
    let names = fs::read_dir(place.path("db")).unwrap();
    let names: BTreeSet<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names,
        ["one.ndb", "three.ndb", "two.ndb"]
            .map(str::to_owned)
            .into()
    );
    let left = fs::read_dir(place.path("state")).unwrap();
    let left: Vec<_> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("staging-"))
        .collect();
    assert_eq!(left, [""; 0], "a copy that is no generation stays");
    drop(service);

    let state = |dir: &str| {
        let mut scan = place.scan();
        scan.state_dir = Some(place.path(dir));
        Loader::keeping(&scan, &run::watch(&place.config()))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    symlink(place.path("db"), place.path("link")).unwrap();
    for among in ["db", "db/state", "link", "link/deep/state", "."] {
        let error = state(among).unwrap_err();
        assert!(
            error.contains("lie in one another") && error.contains("of this replica's own"),
            "{among}: {error}"
        );
    }
    assert!(!place.path("db/state").exists() && !place.path("db/deep").exists());
    fs::write(place.path("file"), "").unwrap();
    let error = state("file").unwrap_err();
    assert!(
        error.contains("scan.state_dir") && error.contains("one for each replica"),
        "{error}"
    );
}

/// Proves: two replicas with one directory are one too many, and that is said at once.
#[test]
fn a_state_directory_belongs_to_one_replica() {
    let place = Place::new();
    let service = place.start();
    let error = place.try_start().unwrap_err();
    let owner = format!("in use by process {}", std::process::id());
    assert!(error.contains(&owner), "{error}");
    drop(service);
    place.try_start().unwrap();
}

/// Proves: of many generations the last two are left, the older one is whole, and one that was damaged is not used.
#[test]
fn the_last_two_generations_are_kept_and_a_damaged_one_is_not_used() {
    let place = Place::new();
    let service = place.start();
    let mut seen = place.kept();
    for number in 1..5 {
        place.put("one.ndb", signature("My.One", &format!("marker-{number}")));
        service.wait_for("ok", number);
        let kept = place.kept();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert_eq!(kept.difference(&seen).count(), 1, "the new one");
        seen.extend(kept);
    }
    drop(service);
    let current = fs::read_link(place.path("state/current")).unwrap();
    let copy = place.path("state").join(current).join("0/one.ndb");
    assert_eq!(
        fs::read_to_string(&copy).unwrap(),
        signature("My.One", "marker-4")
    );
    fs::write(&copy, signature("My.One", "marker-x")).unwrap();
    place.put("one.ndb", "this is no signature\n");
    let service = place.start();
    assert!(service.finds("marker-3"), "not the one before");
    assert!(!service.finds("marker-x"), "what was damaged is in use");
}

/// Proves: files that end the process while they load do so as often as a record may, and no more.
#[test]
fn files_that_end_the_process_again_and_again_are_not_loaded_any_more() {
    let place = Place::new();
    drop(place.start());
    place.put("two.ndb", signature("My.Two", "marker-two"));
    let id = Snapshot::read(&place.scan().database).unwrap().id;
    let end_while_loading = |id, ends| {
        let state = State::own(&place.path("state"), &[]).unwrap();
        state.attempt(id, ends).unwrap();
    };
    // Once may be anything.
    end_while_loading(&id, 0);
    let service = place.start();
    assert!(service.finds("marker-two"), "{}", service.note());
    drop(service);
    // What went well since is not counted.
    end_while_loading(&id, 0);
    drop(place.start());
    place.put("one.ndb", signature("My.One", "marker-1"));
    let id = Snapshot::read(&place.scan().database).unwrap().id;
    end_while_loading(&id, 1);
    let service = place.start();
    assert!(service.finds("marker-one") && !service.finds("marker-1"));
    assert!(
        service
            .note()
            .contains("the process ended while it was loaded, 2 times in a row"),
        "{}",
        service.note()
    );
}

/// Proves: the commands tell what is, go back and forth while a service runs, and what was left behind is not loaded again by itself.
#[test]
fn an_operator_sees_and_chooses_what_is_in_use() {
    let place = Place::new();
    let service = place.start();
    let (code, _, error) = place.command(&["rollback"]);
    assert_eq!(code, 2);
    assert!(error.contains("there is nothing to go back to"), "{error}");
    place.put("one.ndb", signature("My.One", "marker-two"));
    service.wait_for("ok", 1);

    let (code, status) = place.object(&["status"]);
    assert_eq!(
        (code, &status["up_to_date"]),
        (0, &Value::Bool(true)),
        "{status}"
    );
    assert_eq!(status["used_by"], std::process::id().to_string());
    let new = status["in_use"].as_str().unwrap().to_owned();
    let kept = status["kept"].as_array().unwrap();
    assert_eq!(kept[0]["snapshot"]["id"], *new);
    let digest = service
        .slot
        .load()
        .engine()
        .unwrap()
        .info()
        .digest
        .to_string();
    assert_eq!(kept[0]["db_digest"], *digest);
    let old = kept[1]["snapshot"]["id"].as_str().unwrap().to_owned();

    let (code, out, _) = place.command(&["rollback"]);
    assert_eq!((code, out), (0, format!("{}: activated\n", &old[..12])));
    assert!(service.finds("marker-one") && !service.finds("marker-two"));
    let (code, out, _) = place.command(&["status"]);
    assert_eq!(code, 1);
    let wanted = format!(
        "which is   not tried again\n           an operator chose {}\n",
        &old[..12]
    );
    assert!(
        out.contains(&wanted) && out.contains(&format!("*  {}", &old[..12])),
        "{out}"
    );
    // Nothing comes back by itself: not at the next look, and not at the next start.
    std::thread::sleep(LOOKS * 5);
    assert!(service.finds("marker-one"));
    drop(service);
    let service = place.start();
    assert!(service.finds("marker-one") && !service.finds("marker-two"));

    let (code, out, _) = place.command(&["activate", &new[..8]]);
    assert_eq!((code, out), (0, format!("{}: activated\n", &new[..12])));
    assert!(service.finds("marker-two"));
    let (code, _, error) = place.command(&["activate", "abcdef0123"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("names none of the generations that are kept") && error.contains(&new[..12]),
        "{error}"
    );
    drop(service);

    // Without a service it is for the next one.
    let (code, out, _) = place.command(&["rollback"]);
    assert_eq!(code, 0);
    assert!(out.contains("the next one starts with it"), "{out}");
    let service = place.start();
    assert!(service.finds("marker-one"));
    // New signatures take over whatever was chosen.
    place.put("one.ndb", signature("My.One", "marker-three"));
    service.wait_for("ok", 1);
    assert!(service.finds("marker-three"));

    let (code, out, _) = place.command(&["history", "-n", "3"]);
    assert_eq!(code, 0);
    let events: Vec<_> = out
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(
        events,
        ["EVENT", "requested", "activated", "activated"],
        "{out}"
    );
}

/// Proves: a container whose digital signature is not good is refused as such, and `db verify` says which file it is.
#[test]
fn a_container_with_a_bad_digital_signature_is_refused() {
    let Some(cvd) = support::data("sigs-formats/ut-freshclam-test-3.cvd") else {
        return;
    };
    let good = fs::read(cvd).unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 100;
    bad[last] ^= 1;

    let place = Place::new();
    place.put("test.cvd", &good);
    let service = place.start();
    assert!(service.metric("signature_db_build_timestamp_seconds") > 1_000_000_000);
    let (code, out, error) = place.command(&["verify"]);
    assert_eq!(code, 0, "{out}{error}");
    let words = |out: &str, name: &str| {
        let line = out
            .lines()
            .find(|line| line.contains(name))
            .unwrap()
            .to_owned();
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(
        (words(&out, "test.cvd "), words(&out, "one.ndb ")),
        ("good".to_owned(), "none".to_owned())
    );
    assert!(
        out.contains("EICAR is found; harmless lines stay clean"),
        "{out}"
    );

    place.put("test.cvd", &bad);
    service.wait_for("failed", 1);
    assert!(
        service.note().contains("its digital signature is invalid"),
        "{}",
        service.note()
    );
    let (code, out, _) = place.command(&["verify"]);
    assert_eq!(code, 1);
    assert_eq!(words(&out, "test.cvd "), "BAD");
    assert!(
        out.contains("not loaded: a digital signature is not good"),
        "{out}"
    );
    let (code, object) = place.object(&["verify"]);
    assert_eq!((code, &object["good"]), (1, &Value::Bool(false)));
    assert_eq!(object["files"][1]["signature"], "bad");
    drop(service);
    assert!(place.start().note().contains("digital signature"));
}

/// Proves: `db verify` compares with what is in use, and tells what cannot be read from what is bad.
#[test]
fn verify_tells_what_a_service_would_do() {
    let place = Place::new();
    place.put("many.ndb", signatures(50));
    drop(place.start());
    assert_eq!(place.command(&["verify"]).0, 0);
    place.remove("many.ndb");
    let (code, out, _) = place.command(&["verify"]);
    assert_eq!(code, 1);
    assert!(out.contains("signatures are left of"), "{out}");
    place.put("one.ndb", "# nothing but a comment\n");
    let (code, out, _) = place.command(&["verify"]);
    assert_eq!(code, 1, "{out}");
    fs::remove_dir_all(place.path("db")).unwrap();
    let (code, out, error) = place.command(&["verify"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(error.contains("No such file"), "{error}");
    let missing = Path::new("/no/such/state");
    let output = Command::new(env!("CARGO_BIN_EXE_scanner-bin"))
        .args(["db", "status", "--database", "/nothing", "--state-dir"])
        .arg(missing)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// Proves: with room for one engine the new signatures take over all the same, and those of before come back if the new ones are no good.
#[test]
fn a_drain_takes_new_signatures_and_comes_back_from_bad_ones() {
    let place = Place::new();
    let mut config = place.config();
    config.scan.reload = ReloadMode::Drain;
    let service = Service::start(&config);
    assert!(service.metric("engine_memory_bytes") > 0);
    let trace = || service.slot.load().engine().unwrap().info().tmp_dir.clone();
    let (first, generation) = (trace(), service.slot.load().generation());
    place.put("two.ndb", signature("My.Two", "marker-two"));
    service.wait_for("ok", 1);
    assert!(service.finds("marker-two"));
    assert!(!first.exists());
    let generation = {
        let now = service.slot.load().generation();
        assert!(now > generation);
        now
    };

    place.put("three.ndb", "this is no signature\n");
    service.wait_for("failed", 1);
    assert!(service.finds("marker-one") && service.finds("marker-two"));
    assert!(
        service.slot.load().generation() > generation,
        "the old engine was there all along"
    );
    assert!(service.note().contains("three.ndb"), "{}", service.note());
    assert_eq!(place.history().pop().unwrap().0, "refused");
    // The copy of what is in use is gone: it is not freed for what may be no good.
    place.remove("three.ndb");
    service.wait_for("unchanged", 1);
    fs::remove_dir_all(place.path("state/generations")).unwrap();
    fs::create_dir(place.path("state/generations")).unwrap();
    let generation = service.slot.load().generation();
    place.put("three.ndb", "nor is this\n");
    service.wait_for("failed", 2);
    assert_eq!(service.slot.load().generation(), generation);
}

/// Proves: where the kernel tells of changes they are loaded at once, also through symlinks that are switched again and again.
#[test]
fn a_change_that_the_kernel_tells_of_does_not_wait_for_the_next_look() {
    let place = Place::new();
    let mut config = place.config();
    config.scan.reload_interval = Duration::from_secs(3600);
    {
        let service = Service::start(&config);
        place.put("one.ndb", signature("My.One", "marker-two"));
        service.wait_for("ok", 1);
        // Written in place, as cp does.
        fs::write(
            place.path("db/one.ndb"),
            signature("My.One", "marker-three"),
        )
        .unwrap();
        service.wait_for("ok", 2);
        assert!(service.finds("marker-three"));
    }
    // As Kubernetes mounts a ConfigMap.
    for version in ["v1", "v2", "v3"] {
        fs::create_dir_all(place.path("map").join(version)).unwrap();
        fs::write(
            place.path("map").join(version).join("a.ndb"),
            signature("My.Map", &format!("marker-{version}")),
        )
        .unwrap();
    }
    symlink("v1", place.path("map/..data")).unwrap();
    symlink("..data/a.ndb", place.path("map/a.ndb")).unwrap();
    symlink("map/v1", place.path("current")).unwrap();
    for (watched, link, to) in [
        ("map", "map/..data", ""),
        ("map/a.ndb", "map/..data", ""),
        ("current", "current", "map/"),
    ] {
        let switch = |version: &str| {
            symlink(format!("{to}{version}"), place.path("next")).unwrap();
            fs::rename(place.path("next"), place.path(link)).unwrap();
        };
        switch("v1");
        config.scan.database = vec![place.path(watched)];
        let service = Service::start(&config);
        for (number, version) in ["v2", "v3"].into_iter().enumerate() {
            switch(version);
            service.wait_for("ok", number as u64 + 1);
            assert!(
                service.finds(&format!("marker-{version}")),
                "{watched} {version}"
            );
        }
    }
}

/// Proves: what the kernel does not tell of, as on a network file system, is seen by looking. Here a file changes under a name that it has
/// in another directory.
#[test]
fn a_change_that_the_kernel_does_not_tell_of_is_seen_by_looking() {
    let place = Place::new();
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::hard_link(place.path("db/one.ndb"), place.path("elsewhere/one.ndb")).unwrap();
    let write =
        |text: &str| fs::write(place.path("elsewhere/one.ndb"), signature("My.One", text)).unwrap();
    let mut config = place.config();
    config.scan.reload_interval = Duration::from_secs(3600);
    {
        let service = Service::start(&config);
        // After the looks at the start.
        std::thread::sleep(Duration::from_secs(4));
        write("marker-two");
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(
            service.reloads("ok"),
            0,
            "the kernel tells of it, so this shows nothing"
        );
    }
    config.scan.reload_interval = LOOKS;
    let service = Service::start(&config);
    // After the looks at the start, here too.
    std::thread::sleep(LOOKS * 10);
    write("marker-three");
    service.wait_for("ok", 1);
    assert!(service.finds("marker-three"));
}

/// Signatures for executables: text in a log is none of theirs.
fn programs(count: usize) -> String {
    signatures(count).replace(":0:*:", ":1:*:")
}

/// Proves: what the profile leaves out is said in metrics and in `db status`, of the files and of what is kept; a reload uses it as the start
/// does, and a set that shrinks is refused by what stays of it.
#[test]
fn what_the_profile_leaves_out_is_said_and_reloads_keep_to_it() {
    let place = Place::new();
    place.put("many.ndb", signatures(30));
    place.put("programs.ndb", programs(1000));
    let mut config = place.config();
    config.scan.profile = Profile::LogOnly;
    let service = Service::start(&config);
    let left_out =
        |reason: &str| service.metric(&format!("signatures_left_out{{reason=\"{reason}\"}}"));
    assert_eq!(
        (
            left_out("file_type"),
            left_out("executable"),
            left_out("named")
        ),
        (1000, 0, 0)
    );
    assert_eq!(
        service.metric("signature_profile_info{profile=\"log-only\"}"),
        1
    );
    assert_eq!(service.metric("signatures_loaded"), 31);

    let (code, out, error) = place.command(&["status", "--profile", "log-only"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(
        out.contains("log-only, which leaves out 1000 signatures:"),
        "{out}"
    );
    assert!(
        out.contains("1000  body     for a type of file that is no text"),
        "{out}"
    );
    let (_, object) = place.object(&["status", "--profile", "log-only"]);
    let source = &object["source"];
    assert_eq!(source["profile"], "log-only");
    assert_eq!(source["outside_profile"]["total"], 1000);
    let count = serde_json::json!({"kind": "body", "reason": "file_type", "signatures": 1000});
    assert_eq!(
        source["outside_profile"]["counts"],
        serde_json::json!([count])
    );
    let measure = &object["kept"][0]["measure"];
    assert_eq!(
        (&measure["profile"], &measure["left_out"]),
        (&"log-only".into(), &1000.into())
    );

    let (_, out, _) = place.command(&["verify", "--profile", "log-only"]);
    assert!(
        out.contains("31 signatures (log-only leaves out 1000)"),
        "{out}"
    );

    place.put("two.ndb", signature("My.Two", "marker-two"));
    service.wait_for("ok", 1);
    assert!(service.finds("marker-two"));
    assert_eq!(service.metric("signatures_loaded"), 32);
    assert_eq!(left_out("file_type"), 1000);
    // Most of the lines are still there, but not of those that are loaded.
    place.put("many.ndb", "# nothing\n");
    service.wait_for("failed", 1);
    assert!(
        service.note().contains("2 signatures are left of 32"),
        "{}",
        service.note()
    );
}

/// Proves: who changes the profile is not held to the number of signatures of the other one, one way or the other, and the files need not
/// change for it.
#[test]
fn another_profile_is_not_compared_with_the_one_before() {
    let place = Place::new();
    place.put("programs.ndb", programs(1000));
    let config = |profile| {
        let mut config = place.config();
        config.scan.profile = profile;
        config
    };
    let mut digests = BTreeSet::new();
    for (profile, signatures, left_out) in [
        (Profile::Full, 1001, 0),
        (Profile::LogOnly, 1, 1000),
        (Profile::Full, 1001, 0),
    ] {
        let service = Service::start(&config(profile));
        assert_eq!(service.metric("signatures_loaded"), signatures);
        assert_eq!(
            service.metric("signatures_left_out{reason=\"file_type\"}"),
            left_out
        );
        assert_eq!(service.metric("signature_db_up_to_date"), 1);
        assert!(service.finds("marker-one"));
        let (code, object) = place.object(&["status", "--profile", profile.as_str()]);
        assert_eq!(
            (code, object["kept"].as_array().unwrap().len()),
            (0, 1),
            "{object:#}"
        );
        digests.insert(object["kept"][0]["db_digest"].as_str().unwrap().to_owned());
    }
    assert_eq!(digests.len(), 2, "results of the two are told apart");
    let refused: Vec<_> = place
        .history()
        .into_iter()
        .filter(|(event, _)| event != "activated")
        .collect();
    assert_eq!(refused, []);
    // A set of nothing else is refused with a word on the profile, and its files are not tried again.
    place.remove("one.ndb");
    let (code, out, _) = place.command(&["verify", "--profile", "log-only"]);
    assert_eq!(code, 1);
    assert!(out.contains("excludes all of its 1000 signatures"), "{out}");
}
