//! What goes over the wire, and what does not; what a mirror may get wrong.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::mirror::{Act, Mirror};
use super::{Place, Signed, done, signature, sync};

fn status(status: u16) -> Act {
    Act::Status(status, String::new())
}

/// Proves: a file that is there as the mirror has it costs one request, which brings nothing; by tag, by date, and of a mirror that knows
/// neither it is fetched, and left alone if it is the same.
#[test]
fn an_unchanged_file_is_not_downloaded() {
    for kind in ["tags and dates", "dates", "neither"] {
        let place = Place::new();
        match kind {
            "dates" => place.mirror.without_etags(),
            "neither" => place.mirror.simple(),
            _ => (),
        }
        let text = signature("My.One", "marker-one");
        place.mirror.put("one.ndb", text.clone());
        let first = place.sync(&["one.ndb"]).ends(0);
        assert_eq!(first.result("one.ndb"), "updated", "{kind}");
        assert_eq!(place.read("one.ndb"), text.as_bytes());
        let written = fs::metadata(place.path("one.ndb")).unwrap().modified();
        place.mirror.seen("one.ndb");

        let second = place.sync_with(&["one.ndb"], &["--format", "json"]).ends(0);
        let file = &second.object()["files"][0];
        assert_eq!(file["result"], "current", "{kind}");
        let seen = place.mirror.seen("one.ndb");
        assert_eq!(seen.len(), 1, "{kind}: {seen:?}");
        let (status, received) = match kind {
            "neither" => (200, text.len()),
            _ => (304, 0),
        };
        assert_eq!(seen[0].status, status, "{kind}: {seen:?}");
        assert_eq!(file["received_bytes"], received, "{kind}");
        let now = fs::metadata(place.path("one.ndb")).unwrap().modified();
        assert_eq!(now.unwrap(), written.unwrap(), "{kind}");
    }
}

/// Proves: what was learnt of the mirror counts only for the file that came of it.
#[test]
fn a_file_that_is_gone_or_was_changed_here_is_fetched_anew() {
    let place = Place::new();
    let text = signature("My.One", "marker-one");
    place.mirror.put("one.ndb", text.clone());
    place.sync(&["one.ndb"]).ends(0);
    for change in ["gone", "changed"] {
        match change {
            "gone" => fs::remove_file(place.path("one.ndb")).unwrap(),
            _ => fs::write(place.path("one.ndb"), "something else").unwrap(),
        }
        place.mirror.seen("one.ndb");
        place.sync(&["one.ndb"]).ends(0);
        assert_eq!(place.mirror.seen("one.ndb")[0].status, 200, "{change}");
        assert_eq!(place.read("one.ndb"), text.as_bytes(), "{change}");
    }
}

/// Proves: what came is kept, only the rest is asked for, and only of the same content.
#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("main.cvd", signed.long.clone());
    place
        .mirror
        .acts("main.cvd", [Act::Cut(20_000), Act::Cut(15_000)]);
    let synced = place
        .sync_with(&["main.cvd"], &["--format", "json"])
        .ends(0);
    let seen = place.mirror.seen("main.cvd");
    let ranges: Vec<_> = seen.iter().map(|seen| seen.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=20000-"), Some("bytes=35000-")]);
    assert_eq!(seen[2].status, 206);
    assert!(seen[2].header("if-range").unwrap().starts_with('"'));
    assert_eq!(place.read("main.cvd"), signed.long);
    assert_eq!(
        synced.object()["files"][0]["received_bytes"],
        signed.long.len(),
        "no byte came twice"
    );
}

/// Proves: the end of the process costs nothing that came; but another content starts anew.
#[test]
fn the_next_sync_goes_on_where_a_killed_one_was_unless_the_file_changed() {
    let Some(signed) = Signed::new() else { return };
    for is_changed in [false, true] {
        let place = Place::new();
        place.mirror.put("main.cvd", signed.long.clone());
        let stalled = Act::Stalled(30_000, Duration::from_secs(60));
        place.mirror.acts("main.cvd", [stalled]);
        kill_when_stalled(&place, 30_000);
        assert!(place.visible().is_empty());
        if is_changed {
            place.mirror.put("main.cvd", signed.new.clone());
        }
        place.mirror.seen("main.cvd");
        place.sync(&["main.cvd"]).ends(0);
        let seen = place.mirror.seen("main.cvd");
        assert_eq!(seen[0].header("range"), Some("bytes=30000-"));
        let (status, content) = match is_changed {
            true => (200, &signed.new),
            false => (206, &signed.long),
        };
        assert_eq!((seen.len(), seen[0].status), (1, status));
        assert_eq!(&place.read("main.cvd"), content);
    }
}

/// Starts a sync, waits until so much of `main.cvd` came, and kills it.
fn kill_when_stalled(place: &Place, bytes: u64) {
    let mut child = place.start(&["main.cvd"]);
    let part = place.path(".scanner-sync/incoming/main.cvd");
    crate::support::wait_for("the part", Duration::from_secs(20), || {
        (fs::metadata(&part).ok()?.len() == bytes).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Proves: pieces that make no whole are not held against the mirror.
#[test]
fn what_was_put_together_and_is_no_good_is_fetched_whole_before_it_is_refused() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("main.cvd", signed.long.clone());
    place
        .mirror
        .acts("main.cvd", [Act::Stalled(30_000, Duration::from_secs(60))]);
    kill_when_stalled(&place, 30_000);
    // As a disk may leave it when the machine ends.
    let part = place.path(".scanner-sync/incoming/main.cvd");
    let mut bytes = fs::read(&part).unwrap();
    bytes[20_000..].fill(0);
    fs::write(&part, bytes).unwrap();
    place.mirror.seen("main.cvd");
    place
        .sync(&["main.cvd"])
        .ends(0)
        .says("put together from two downloads");
    let statuses: Vec<_> = place
        .mirror
        .seen("main.cvd")
        .iter()
        .map(|seen| seen.status)
        .collect();
    assert_eq!(statuses, [206, 200]);
    assert_eq!(place.read("main.cvd"), signed.long);
}

/// Proves: a mirror that knows no ranges is asked for all of it; so is one that answers with another range.
#[test]
fn without_the_rest_that_was_asked_for_a_download_starts_anew() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.without_ranges();
    place.mirror.put("main.cvd", signed.long.clone());
    place.mirror.acts("main.cvd", [Act::Cut(20_000)]);
    place.sync(&["main.cvd"]).ends(0);
    let statuses: Vec<_> = place
        .mirror
        .seen("main.cvd")
        .iter()
        .map(|seen| seen.status)
        .collect();
    assert_eq!(statuses, [200, 200]);
    assert_eq!(place.read("main.cvd"), signed.long);

    for range in [
        "bytes 0-60448/60449",
        "bytes 20000-60448/70000",
        "bytes */60449",
        "",
    ] {
        let place = Place::new();
        place.mirror.put("main.cvd", signed.long.clone());
        place
            .mirror
            .acts("main.cvd", [Act::Cut(20_000), Act::Range(range)]);
        place
            .sync(&["main.cvd"])
            .ends(0)
            .says("its Content-Range is");
        let seen = place.mirror.seen("main.cvd");
        assert_eq!(seen.len(), 3, "{range}");
        assert_eq!(seen[2].header("range"), None, "{range}");
        assert_eq!(place.read("main.cvd"), signed.long, "{range}");
    }
}

/// Proves: without a digital signature nobody could tell whether pieces fit.
#[test]
fn what_carries_no_signature_is_never_put_together() {
    let place = Place::new();
    let text = signature("My.One", "marker-one").repeat(100);
    place.mirror.put("one.ndb", text.clone());
    place.mirror.acts("one.ndb", [Act::Cut(1000)]);
    place.sync(&["one.ndb"]).ends(0);
    let seen = place.mirror.seen("one.ndb");
    assert_eq!((seen.len(), seen[1].header("range")), (2, None));
    assert_eq!(place.read("one.ndb"), text.as_bytes());
}

/// Proves: whatever is missing of a body, the sync says so, and nothing of it is seen.
#[test]
fn a_body_that_is_not_all_there_is_an_error() {
    let act = |name: &str| match name {
        "longer" => Act::Longer(5),
        "cut" => Act::Cut(30),
        "chunks" => Act::CutChunks(30),
        _ => Act::NoLength,
    };
    let tries = ["longer", "cut", "chunks", "no length"].map(|name| {
        thread::spawn(move || {
            let place = Place::new();
            place
                .mirror
                .put("one.ndb", signature("My.One", "marker-one"));
            place.mirror.acts("one.ndb", (0..9).map(|_| act(name)));
            let synced = place.sync(&["one.ndb"]).ends(2);
            assert_eq!(synced.result("one.ndb"), "failed", "{name}");
            synced.says("tried 5 times");
            assert!(place.visible().is_empty(), "{name}");
            assert_eq!(place.mirror.seen("one.ndb").len(), 5, "{name}");
        })
    });
    tries.into_iter().for_each(|one| one.join().unwrap());

    // Chunks that are all there are as good as a length.
    let place = Place::new();
    place
        .mirror
        .put("one.ndb", signature("My.One", "marker-one"));
    place.mirror.acts("one.ndb", [Act::Chunked]);
    place.sync(&["one.ndb"]).ends(0);
}

/// Proves: a mirror that lies about the length of a container gives itself away.
#[test]
fn a_container_whose_end_is_cut_off_is_refused() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("main.cvd", signed.long.clone());
    place.mirror.acts("main.cvd", [Act::Shorter(400)]);
    place
        .sync(&["main.cvd"])
        .ends(1)
        .says("its digital signature is invalid");
    assert!(place.visible().is_empty());
}

/// Proves: a mirror that has trouble is asked again, later and later, and not before it wants to be.
#[test]
fn a_mirror_that_is_busy_is_asked_again_when_it_says() {
    let place = Place::new();
    place
        .mirror
        .put("one.ndb", signature("My.One", "marker-one"));
    place.mirror.acts("one.ndb", [status(503), status(500)]);
    let began = Instant::now();
    place
        .sync(&["one.ndb"])
        .ends(0)
        .says("the mirror answers 503; asked for again in 1.");
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert_eq!(place.mirror.seen("one.ndb").len(), 3);

    let after = |seconds| Act::Status(429, format!("Retry-After: {seconds}\r\n"));
    place.mirror.acts("one.ndb", [after(4)]);
    let began = Instant::now();
    place.sync(&["one.ndb"]).ends(0);
    assert!(began.elapsed() >= Duration::from_secs(4));

    // Longer than a run lasts: it ends, and asks for nothing else.
    place.mirror.seen("one.ndb");
    place
        .mirror
        .put("two.ndb", signature("My.Two", "marker-two"));
    place.mirror.acts("one.ndb", [after(3600)]);
    let began = Instant::now();
    let synced = place.sync(&["one.ndb", "two.ndb"]).ends(2);
    assert!(began.elapsed() < Duration::from_secs(4));
    synced
        .says("wants to be left alone for 3600 s")
        .says("two.ndb: not asked for, as of one.ndb the mirror answers 429");
    assert_eq!(place.mirror.seen("one.ndb").len(), 1);
    assert!(place.mirror.seen("two.ndb").is_empty());
    assert!(place.has("one.ndb"), "what was there stays");
}

/// Proves: who is turned away does not come back at once.
#[test]
fn a_mirror_that_does_not_admit_us_is_asked_once() {
    let place = Place::new();
    place.mirror.acts("main.cvd", [status(403)]);
    let synced = done(place.command(&[]).output().unwrap()).ends(2);
    synced.says("main.cvd: the mirror answers 403: it does not admit this machine");
    assert_eq!(place.mirror.count(), 1);
}

/// Proves: a file that is missing is told, and keeps no other from being brought.
#[test]
fn a_file_that_the_mirror_does_not_have_is_told() {
    let place = Place::new();
    place
        .mirror
        .put("two.ndb", signature("My.Two", "marker-two"));
    let synced = place.sync(&["one.ndb", "two.ndb"]).ends(2);
    assert_eq!(synced.result("two.ndb"), "updated");
    synced.says("BAD  one.ndb: the mirror does not have it (404)");
    assert_eq!(place.visible(), ["two.ndb"]);
}

#[test]
fn where_nobody_answers_it_ends_and_says_so() {
    let place = Place::new();
    // A port that was free a moment ago.
    let from = format!("http://127.0.0.1:{}/", crate::support::free_ports(1));
    let synced = done(sync(&from, &place.to(), &[]).output().unwrap()).ends(2);
    synced
        .says("asked for again in")
        .says("(tried 5 times)")
        .says("daily.cvd: not asked for");
}

/// Proves: silence ends a request, at its beginning and in its middle.
#[test]
fn a_mirror_that_stands_still_is_given_up_and_asked_again() {
    let Some(signed) = Signed::new() else { return };
    let place = Place::new();
    place.mirror.put("main.cvd", signed.long.clone());
    let long = Duration::from_secs(60);
    place
        .mirror
        .acts("main.cvd", [Act::Silent(long), Act::Stalled(30_000, long)]);
    let began = Instant::now();
    let synced = place.sync_with(&["main.cvd"], &["--patience", "1"]).ends(0);
    assert!(began.elapsed() < Duration::from_secs(30));
    synced.says("nothing came for 1 s (--patience)");
    let seen = place.mirror.seen("main.cvd");
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[2].header("range"), Some("bytes=30000-"));
}

/// Proves: no mirror can fill the disk, whether it says how much comes or not.
#[test]
fn a_file_that_is_too_large_is_not_taken() {
    let place = Place::new();
    place
        .mirror
        .put("one.ndb", signature("My.One", "marker-one").repeat(100));
    for act in [Act::Well, Act::Endless] {
        place.mirror.acts("one.ndb", [act]);
        let synced = place.sync_with(&["one.ndb"], &["--max-file-bytes", "2000"]);
        synced
            .ends(2)
            .says("it has more than 2000 bytes; --max-file-bytes allows more");
        assert_eq!(place.mirror.seen("one.ndb").len(), 1);
        assert!(place.visible().is_empty());
        let left = fs::read_dir(place.path(".scanner-sync/incoming")).unwrap();
        assert_eq!(left.count(), 0, "nothing is left lying about");
    }
}

/// Proves: a mirror may move a file about on its own ground, and sends nobody anywhere else.
#[test]
fn redirects_stay_with_the_mirror() {
    let place = Place::new();
    let other = Mirror::start();
    let text = signature("My.One", "marker-one");
    place.mirror.put("one.ndb", text.clone());
    other.put("one.ndb", text.clone());
    let to = |url: &str| Act::Status(302, format!("Location: {url}\r\n"));

    place
        .mirror
        .acts("one.ndb", [to(&format!("{}/one.ndb", other.url()))]);
    place
        .sync(&["one.ndb"])
        .ends(2)
        .says("the mirror sends us elsewhere, to http://127.0.0.1:");
    assert_eq!(other.count(), 0);
    let port = place.mirror.port();
    place.mirror.acts(
        "one.ndb",
        [to(&format!("https://127.0.0.1:{port}/clamav/one.ndb"))],
    );
    place.sync(&["one.ndb"]).ends(2);
    assert!(place.visible().is_empty());

    place.mirror.acts("one.ndb", [to("/clamav/one.ndb")]);
    place.sync(&["one.ndb"]).ends(0);
    assert_eq!(place.read("one.ndb"), text.as_bytes());
}

/// Proves: answers that fit no question are none.
#[test]
fn what_was_not_asked_for_is_not_taken() {
    for act in [Act::Range("bytes 0-9/10"), status(304)] {
        let place = Place::new();
        place
            .mirror
            .put("one.ndb", signature("My.One", "marker-one"));
        place.mirror.acts("one.ndb", [act]);
        place
            .sync(&["one.ndb"])
            .ends(0)
            .says("the mirror is at fault: ");
        assert_eq!(place.mirror.seen("one.ndb").len(), 2);
    }
}
