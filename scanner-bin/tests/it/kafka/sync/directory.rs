//! What becomes of the directory: what appears there, when, and what does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::mirror::Act;
use super::{Place, Signed, done, signature, sync};
use crate::support::broker::Broker;
use crate::support::client::Outgoing;
use crate::support::scene::Scene;
use crate::support::wait_for;

/// Proves: the three that everybody wants come without being named, with what goes with them, readable by everybody.
#[test]
fn without_names_the_usual_files_come() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("main.cvd", signed.old.clone());
    place.mirror.put("daily.cvd", signed.new.clone());
    place.mirror.put("bytecode.cvd", signed.long.clone());
    let synced = done(place.command(&[]).output().unwrap()).ends(0);
    synced.says("ok   3 files as the mirror has them, 3 of them new");
    assert_eq!(place.visible(), ["bytecode.cvd", "daily.cvd", "main.cvd"]);
    for name in place.visible() {
        let mode = fs::metadata(place.path(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o444, 0o444, "services are other users: {mode:o}");
    }
    let again = done(place.command(&["--format", "json"]).output().unwrap()).ends(0);
    let object = again.object();
    assert_eq!(object["from"], format!("{}/", place.mirror.url()));
    let file = &object["files"][2];
    assert_eq!(
        (&file["name"], &file["version"]),
        (&"bytecode.cvd".into(), &19.into())
    );
    assert_eq!(
        (&file["result"], &file["received_bytes"]),
        (&"current".into(), &0.into())
    );
    assert_eq!(file["built"], 1_273_845_430);
}

/// Proves: as long as a file is on its way the old one is there, or none; also if the sync is killed.
#[test]
fn half_a_file_is_never_visible_to_a_reader() {
    for is_there in [false, true] {
        let place = Place::new();
        let (old, new) = (
            signature("My.One", "old"),
            signature("My.One", "new").repeat(100),
        );
        if is_there {
            fs::write(place.path("one.ndb"), &old).unwrap();
        }
        place.mirror.put("one.ndb", new);
        place
            .mirror
            .acts("one.ndb", [Act::Stalled(500, Duration::from_secs(60))]);
        let mut child = place.start(&["one.ndb"]);
        // Wherever it is.
        wait_for("500 bytes", Duration::from_secs(20), || {
            let mut files = walkdir::WalkDir::new(place.to()).into_iter().flatten();
            let is_it = |file: &walkdir::DirEntry| {
                let found = file.metadata().ok();
                found.is_some_and(|found| found.is_file() && found.len() == 500)
            };
            files.any(|file| is_it(&file)).then_some(())
        });
        let assert_old = || {
            let found = scanlib::database::signature_files(place.to());
            match is_there {
                false => assert!(found.is_err(), "{found:?}"),
                true => {
                    assert_eq!(found.unwrap(), [place.path("one.ndb")]);
                    assert_eq!(place.read("one.ndb"), old.as_bytes());
                }
            }
        };
        assert_old();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_old();
    }
}

/// Proves: a container that ClamAV did not sign does not get its name, is not fetched again, and the next good one is taken.
#[test]
fn a_bad_digital_signature_is_refused_once_and_the_old_file_stays() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("main.cvd", signed.old.clone());
    place.sync(&["main.cvd"]).ends(0);
    let mut bad = signed.new.clone();
    let last = bad.len() - 100;
    bad[last] ^= 1;
    place.mirror.put("main.cvd", bad);
    let refused = place.sync(&["main.cvd"]).ends(1);
    assert_eq!(refused.result("main.cvd"), "refused");
    refused.says("BAD  main.cvd: its digital signature is invalid");
    assert_eq!(place.read("main.cvd"), signed.old);

    place.mirror.seen("main.cvd");
    place
        .sync(&["main.cvd"])
        .ends(1)
        .says("it was refused before, and --force looks again");
    let seen = place.mirror.seen("main.cvd");
    assert_eq!((seen.len(), seen[0].status), (1, 304));
    place.sync_with(&["main.cvd"], &["--force"]).ends(1);
    assert_eq!(place.mirror.seen("main.cvd")[0].status, 200);

    place.mirror.put("main.cvd", signed.new.clone());
    let synced = place.sync(&["main.cvd"]).ends(0);
    assert!(synced.out.contains("2 -> 3"), "{}", synced.out);
    assert_eq!(place.read("main.cvd"), signed.new);
}

/// Proves: an error page, or half of nothing, is no signature file, whatever its name is.
#[test]
fn what_is_no_signature_file_is_refused() {
    let page = "<html><body>Please sign in</body></html>\n";
    for name in ["main.cvd", "daily.cld", "one.ndb", "one.yar"] {
        let place = Place::new();
        place.mirror.put(name, page);
        let refused = place.sync(&[name]).ends(1);
        assert_eq!(refused.result(name), "refused", "{name}");
        assert!(place.visible().is_empty(), "{name}");
    }
    // Lists that hold no signature of their own are taken.
    let place = Place::new();
    place.mirror.put("own.ign2", "Some.Name\n");
    place.sync(&["own.ign2"]).ends(0);
    place.mirror.put(
        "own.yar",
        "rule mine { strings: $a = \"needle\" condition: $a }\n",
    );
    place.sync(&["own.yar"]).ends(0);
}

/// Proves: a mirror that fell behind, or was set back, does not take a fleet with it.
#[test]
fn an_older_container_is_taken_only_if_somebody_says_so() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("main.cvd", signed.new.clone());
    place.sync(&["main.cvd"]).ends(0);
    place.mirror.put("main.cvd", signed.old.clone());
    place
        .sync(&["main.cvd"])
        .ends(1)
        .says("version 2 is older than version 3, which is here");
    assert_eq!(place.read("main.cvd"), signed.new);
    place
        .sync_with(&["main.cvd"], &["--allow-downgrade"])
        .ends(0);
    assert_eq!(place.read("main.cvd"), signed.old);
    // Without anything to be older than it is the newest.
    place.mirror.put("daily.cvd", signed.old.clone());
    place.sync(&["daily.cvd"]).ends(0);
}

/// Proves: what was refused beside one file is looked at again beside another.
#[test]
fn a_refusal_holds_for_the_file_that_was_there() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("main.cvd", signed.new.clone());
    place.sync(&["main.cvd"]).ends(0);
    place.mirror.put("main.cvd", signed.old.clone());
    place.sync(&["main.cvd"]).ends(1);
    fs::remove_file(place.path("main.cvd")).unwrap();
    place.sync(&["main.cvd"]).ends(0);
    assert_eq!(place.read("main.cvd"), signed.old);
}

/// Proves: the detached signatures of libclamav 1.5 come along where a mirror has them, and go with their container.
#[test]
fn detached_signatures_come_and_go_with_their_container() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    let sign = "#clamsign-1.0\nabc\n";
    place.mirror.put("main.cvd", signed.old.clone());
    place.mirror.put("main-2.cvd.sign", sign);
    let synced = place.sync(&["main.cvd"]).ends(0);
    assert_eq!(synced.result("main-2.cvd.sign"), "updated");
    assert_eq!(place.visible(), ["main-2.cvd.sign", "main.cvd"]);
    place.mirror.seen("main-2.cvd.sign");
    let synced = place.sync(&["main.cvd"]).ends(0);
    assert_eq!(synced.result("main-2.cvd.sign"), "current");
    assert_eq!(place.mirror.seen("main-2.cvd.sign")[0].status, 304);

    // One of another's stays.
    fs::write(place.path("main-1.cvd.sign"), sign).unwrap();
    place.mirror.put("main.cvd", signed.new.clone());
    place.sync(&["main.cvd"]).ends(0);
    assert_eq!(place.visible(), ["main-1.cvd.sign", "main.cvd"]);
    // The mirror has it later.
    place.mirror.put("main-3.cvd.sign", sign);
    place.sync(&["main.cvd"]).ends(0);
    assert!(place.has("main-3.cvd.sign"));

    place.mirror.put("daily.cvd", signed.new.clone());
    place.mirror.put("daily-3.cvd.sign", "<html>");
    let refused = place.sync(&["daily.cvd"]).ends(1);
    assert_eq!(refused.result("daily.cvd"), "updated");
    refused.says("BAD  daily-3.cvd.sign: it does not begin as a detached signature does");
    assert!(!place.has("daily-3.cvd.sign"));
}

/// Proves: what a sync needs for itself is neither loaded nor counted by a service.
#[test]
fn the_directory_of_a_sync_is_nothing_to_a_service() {
    let place = Place::new();
    place
        .mirror
        .put("one.ndb", signature("My.One", "marker-one"));
    place.sync(&["one.ndb"]).ends(0);
    let incoming = place.path(".scanner-sync/incoming/two.ndb");
    fs::write(incoming, "this is no signature").unwrap();
    let found = scanlib::database::signature_files(place.to()).unwrap();
    assert_eq!(found, [place.path("one.ndb")]);
}

/// Proves: two at once do not spoil each other's work.
#[test]
fn of_two_syncs_at_once_the_second_does_nothing_and_says_so() {
    let place = Place::new();
    place
        .mirror
        .put("one.ndb", signature("My.One", "marker-one"));
    place
        .mirror
        .acts("one.ndb", [Act::Silent(Duration::from_secs(60))]);
    let mut first = place.start(&["one.ndb"]);
    wait_for("a request", Duration::from_secs(20), || {
        (place.mirror.count() == 1).then_some(())
    });
    let second = place.sync(&["one.ndb"]).ends(2);
    second.says(&format!(
        "another sync is at work there (process {} on ",
        first.id()
    ));
    assert_eq!(place.mirror.count(), 1);
    first.kill().unwrap();
    first.wait().unwrap();
    place.sync(&["one.ndb"]).ends(0);
}

/// Proves: a volume that is not mounted is not filled in its place, and what cannot be written is told.
#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let place = Place::new();
    let nowhere = place.dir.path().join("nowhere");
    let synced = done(sync(&place.mirror.url(), &nowhere, &[]).output().unwrap()).ends(2);
    synced.says("nowhere: No such file or directory");
    assert!(!nowhere.exists());
    assert_eq!(place.mirror.count(), 0);
}

#[test]
fn names_that_lead_elsewhere_are_not_asked_for() {
    let place = Place::new();
    for name in [
        "../one.ndb",
        "/etc/one.ndb",
        ".one.ndb",
        "one",
        "one.txt",
        "one.sign",
    ] {
        place.sync(&[name]).ends(2).says("--file");
    }
    assert_eq!(place.mirror.count(), 0);
}

/// Proves: what a sync brings a running service takes, without being told.
#[test]
fn a_running_service_takes_what_a_sync_brought() {
    let broker = Broker::shared();
    let place = Place::new();
    place
        .mirror
        .put("one.ndb", signature("My.One", "marker-one"));
    place.sync(&["one.ndb"]).ends(0);
    let scene = Scene::new(broker, "synced", 1);
    let launch = scene.replica("scanner-0").flag("--database", place.to());
    let launch = launch.env("SCANNER_SCAN__RELOAD_INTERVAL", "1s");
    let mut scanner = launch.start();
    scanner.wait_until_ready(Duration::from_secs(90));

    place
        .mirror
        .put("two.ndb", signature("My.Two", "marker-two"));
    place.sync(&["one.ndb", "two.ndb"]).ends(0);
    let series = "scanner_engine_reloads_total{result=\"ok\"}";
    wait_for("a reload", Duration::from_secs(60), || {
        (scanner.scrape().get(series) >= 1.0).then_some(())
    });
    scene.produce([Outgoing::of("<13>Oct 20 02:44:02 web app: marker-two").partition(0)]);
    let answers = scene.wait_until_answered(Duration::from_secs(60));
    assert_eq!(answers[0].status(), "threat", "{:#}", answers[0].json);
}
