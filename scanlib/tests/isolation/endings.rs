//! Processes that crash, hang, or are killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use scanlib::{
    CancelToken, Detector, DetectorSlot, Engine, Incomplete, Isolation, Limits, LoadErrorKind,
    Payload, Request, eicar,
};

use crate::processes::{below, descriptors, memory as memory_of, named, runs, send, wait_until};
use crate::support::memory_dir;
use crate::{builder, engine, is_clean, is_eicar, role, scan, threads};

fn own() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn crashed_with(incomplete: Option<&Incomplete>, signal: &str) -> bool {
    matches!(incomplete, Some(Incomplete::Crashed { how }) if how.contains(signal))
}

/// Sets what it holds when it goes.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn crash(isolation: &Isolation) {
    let engine = engine(isolation, 3);
    let text = eicar::text();
    let done = AtomicBool::new(false);
    let beside = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..2 {
            let (engine, done, beside, text) = (&engine, &done, &beside, &text);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let infected = format!("SHIM sleep 20\n{number} {text}");
                    assert!(is_eicar(&scan(engine, infected.as_bytes())));
                    assert!(is_clean(&scan(engine, b"SHIM sleep 20\nnothing")));
                    beside.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Also after a failed assertion, or the scope waits for ever.
        let end = Done(&done);
        for _ in 0..10 {
            let before = beside.load(Ordering::SeqCst);
            let found = scan(&engine, b"SHIM crash");
            assert!(
                crashed_with(found.incomplete.as_ref(), "SIGSEGV"),
                "{found:?}"
            );
            assert!(found.names.is_empty() && !found.type_ignored);
            wait_until("others are scanned", || {
                beside.load(Ordering::SeqCst) > before
            });
        }
        drop(end);
    });
    let status = engine.isolation().unwrap();
    // The shared process, and the one for the object alone.
    assert_eq!(status.crashed, 20, "{status:?}");
    assert!(status.repeated >= 10, "{status:?}");
    assert_eq!((status.killed, status.is_lost), (0, false), "{status:?}");
    assert!(status.last_outage > Duration::ZERO, "{status:?}");
    assert!(status.longest_outage >= status.last_outage, "{status:?}");
}

pub(crate) fn crash_beside_others(isolation: &Isolation) {
    let engine = engine(isolation, 2);
    for number in 1..=5 {
        let object = format!("SHIM crash-beside\n{}", eicar::text());
        assert!(is_eicar(&scan(&engine, object.as_bytes())));
        let status = engine.isolation().unwrap();
        assert_eq!((status.crashed, status.repeated), (number, number));
        assert!(is_clean(&scan(&engine, b"an object after that")));
    }
}

pub(crate) fn outage(isolation: &Isolation) {
    let engine = engine(isolation, 2);
    assert!(is_clean(&scan(&engine, b"an object before")));
    let round = || {
        let mut outages: Vec<Duration> = (0..100)
            .map(|_| {
                assert!(scan(&engine, b"SHIM crash").incomplete.is_some());
                assert!(is_clean(&scan(&engine, b"an object after that")));
                engine.isolation().unwrap().last_outage
            })
            .collect();
        outages.sort_unstable();
        let (p50, p99) = (outages[49], outages[98]);
        println!("measured: outage by a crash: p50 {p50:?}, p99 {p99:?}");
        p99
    };
    // Whatever else this machine does may last for one round.
    assert!((0..3).any(|_| round() <= Duration::from_millis(250)));
}

pub(crate) fn leaks(isolation: &Isolation) {
    let engine = engine(isolation, 2);
    let template = named("scan-template")[0];
    let tmp_dir = engine.info().tmp_dir.clone();
    let crash = || scan(&engine, b"SHIM crash-beside\nwhatever");
    let state = || {
        let below = below(own());
        (
            descriptors(own()),
            descriptors(template),
            below.len(),
            below.iter().filter(|it| it.state == 'Z').count(),
            fs::read_dir(&tmp_dir).unwrap().count(),
            memory_of(template, "VmData:"),
        )
    };
    let renew = || assert!(is_clean(&scan(&engine, b"an object after that")));
    (0..20).for_each(|_| assert!(is_clean(&crash())));
    renew();
    let before = state();
    (0..1000).for_each(|_| assert!(is_clean(&crash())));
    renew();
    let after = state();
    println!(
        "measured: descriptors, template's, processes, zombies, directories, template's data: {after:?}"
    );
    let (fds, theirs, processes, zombies, dirs, data) = after;
    assert_eq!(
        (fds, theirs, processes, zombies, dirs),
        (before.0, before.1, before.2, 0, before.4)
    );
    assert!(data <= before.5 + (2 << 20), "{before:?} {after:?}");
}

pub(crate) fn hang(isolation: &Isolation) {
    let limits = Limits {
        max_scan_time: Duration::from_secs(2),
        ..Limits::default()
    };
    let builder = builder().isolation(isolation, threads(2)).limits(limits);
    let engine = builder.compile().unwrap();
    for object in [&b"SHIM hang"[..], b"SHIM spin"] {
        let started = Instant::now();
        let found = scan(&engine, object);
        assert_eq!(found.incomplete, Some(Incomplete::EngineTimeLimit));
        assert!(started.elapsed() >= Duration::from_secs(2));
        assert!(is_clean(&scan(&engine, b"an object after that")));
    }
    assert_eq!(engine.isolation().unwrap().killed, 2);

    let started = Instant::now();
    let request = Request::new().deadline(started + Duration::from_millis(300));
    let found = engine.scan(Payload::Bytes(b"SHIM hang"), &request).unwrap();
    assert_eq!(found.incomplete, Some(Incomplete::Deadline));

    let token = CancelToken::new();
    let request = Request::new().cancel(&token);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            token.cancel();
        });
        let found = engine.scan(Payload::Bytes(b"SHIM hang"), &request).unwrap();
        assert_eq!(found.incomplete, Some(Incomplete::Cancelled));
    });
    // It was cancelled before it is scanned.
    let found = engine.scan(Payload::Bytes(b"whatever"), &request).unwrap();
    assert_eq!(found.incomplete, Some(Incomplete::Cancelled));

    // Beside one that hangs others are scanned, and go on after it was killed.
    thread::scope(|scope| {
        let hanging = scope.spawn(|| scan(&engine, b"SHIM hang"));
        while !hanging.is_finished() {
            assert!(is_eicar(&scan(&engine, eicar::text().as_bytes())));
        }
        let found = hanging.join().unwrap();
        assert_eq!(found.incomplete, Some(Incomplete::EngineTimeLimit));
        assert!(is_eicar(&scan(&engine, eicar::text().as_bytes())));
    });

    // All threads hang, and a caller waits for one of them until its deadline.
    let patient = Instant::now();
    thread::scope(|scope| {
        let hanging: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| scan(&engine, b"SHIM hang")))
            .collect();
        thread::sleep(Duration::from_millis(100));
        let request = Request::new().deadline(Instant::now() + Duration::from_millis(100));
        let found = engine.scan(Payload::Bytes(b"whatever"), &request).unwrap();
        assert_eq!(found.incomplete, Some(Incomplete::Deadline));
        for hanging in hanging {
            // One is killed with the process of the other, and then scanned alone.
            let found = hanging.join().unwrap();
            assert_eq!(found.incomplete, Some(Incomplete::EngineTimeLimit));
        }
    });
    assert!(patient.elapsed() >= Duration::from_secs(2));
    assert!(!engine.isolation().unwrap().is_lost);
}

pub(crate) fn killed_at_random(isolation: &Isolation) {
    let engine = engine(isolation, 4);
    let done = AtomicBool::new(false);
    let scans = AtomicU64::new(0);
    let mut kills = 0;
    thread::scope(|scope| {
        for number in 0..6 {
            let (engine, done, scans) = (&engine, &done, &scans);
            scope.spawn(move || {
                let infected = format!("{} {}", "x".repeat(number), eicar::text());
                let sleeping = format!("SHIM sleep 5\n{infected}");
                let long = vec![b'y'; 60_000 + number];
                let html = b"<html><body><p>some text</p></body></html>";
                while !done.load(Ordering::SeqCst) {
                    let found = scan(engine, infected.as_bytes());
                    assert!(is_eicar(&found), "{found:?}");
                    let found = scan(engine, sleeping.as_bytes());
                    assert!(is_eicar(&found), "{found:?}");
                    let found = scan(engine, &long);
                    assert!(is_clean(&found), "{found:?}");
                    assert!(is_clean(&scan(engine, html)));
                    scans.fetch_add(4, Ordering::SeqCst);
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(6);
        let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
        while Instant::now() < until {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            thread::sleep(Duration::from_millis(50 + random % 200));
            let workers = named("scan-worker");
            if let Some(&pid) = workers.get(random as usize % workers.len().max(1)) {
                send(pid, Signal::KILL);
                kills += 1;
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    let status = engine.isolation().unwrap();
    println!("measured: {kills} processes killed during {scans:?} scans: {status:?}");
    assert!(
        kills >= 10 && status.repeated > 0 && status.crashed > 0,
        "{status:?}"
    );
    assert!(!status.is_lost);
}

/// Kills a process above the scanning ones while scans run; nothing hangs, and every scan says so.
fn lost_by_the_end_of(name: &str, isolation: &Isolation) {
    let engine = engine(isolation, 2);
    let victim = named(name)[0];
    thread::scope(|scope| {
        let scans: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| scan(&engine, b"SHIM sleep 500\nan object")))
            .collect();
        thread::sleep(Duration::from_millis(100));
        send(victim, Signal::KILL);
        for scan in scans {
            let found = scan.join().unwrap();
            let is_error = matches!(found.incomplete, Some(Incomplete::EngineError { .. }));
            assert!(is_error, "{found:?}");
        }
    });
    let found = scan(&engine, b"an object after that");
    assert!(
        matches!(found.incomplete, Some(Incomplete::EngineError { .. })),
        "{found:?}"
    );
    assert!(engine.isolation().unwrap().is_lost);
    wait_until("its processes end", || named("scan-worker").is_empty());
}

pub(crate) fn template_killed(isolation: &Isolation) {
    lost_by_the_end_of("scan-template", isolation);
    // Another engine does not need it.
    let other = engine(isolation, 1);
    assert!(is_eicar(&scan(&other, eicar::text().as_bytes())));
    assert!(!other.isolation().unwrap().is_lost);
}

pub(crate) fn spawner_killed(isolation: &Isolation) {
    lost_by_the_end_of("scan-spawner", isolation);
    let builder = builder().isolation(isolation, threads(1));
    let error = builder.compile().unwrap_err();
    assert!(matches!(error.kind(), LoadErrorKind::Ended(_)), "{error}");
}

pub(crate) fn template_stopped(isolation: &Isolation) {
    let engine = engine(isolation, 1);
    send(named("scan-template")[0], Signal::STOP);
    // Its scanning process is killed, and the next one cannot be forked.
    send(named("scan-worker")[0], Signal::KILL);
    let found = scan(&engine, b"an object after that");
    assert!(
        matches!(found.incomplete, Some(Incomplete::EngineError { .. })),
        "{found:?}"
    );
    assert!(engine.isolation().unwrap().is_lost);
    wait_until("it ends", || named("scan-template").is_empty());
}

pub(crate) fn crash_while_loading(isolation: &Isolation) {
    let dir = memory_dir();
    let load = |name: &str| {
        let path = dir.path().join(name);
        fs::write(&path, "Test.Needle:0:*:6e6565646c65\n").unwrap();
        let builder = builder().isolation(isolation, threads(1));
        builder.database(&path).unwrap().compile()
    };
    for _ in 0..3 {
        let error = load("shim-crash.ndb").unwrap_err();
        let LoadErrorKind::Ended(how) = error.kind() else {
            panic!("{error}")
        };
        assert!(how.contains("SIGSEGV"), "{how}");
    }
    let engine = load("good.ndb").unwrap();
    assert_eq!(scan(&engine, b"a needle").names, ["Test.Needle.UNOFFICIAL"]);
    assert_eq!(named("scan-template").len(), 1);
}

/// The processes below this one but for the spawner, and zombies.
fn others() -> usize {
    let below = below(own());
    below.iter().filter(|it| it.name != "scan-spawner").count()
}

pub(crate) fn dropped(isolation: &Isolation) {
    let base = memory_dir();
    let build = || {
        let builder = builder().isolation(isolation, threads(2));
        builder.tmp_dir(base.path()).compile().unwrap()
    };
    drop(build());
    wait_until("the first one is gone", || others() == 0);
    let before = descriptors(own());
    let spawner = named("scan-spawner")[0];
    let theirs = descriptors(spawner);
    for round in 0..50 {
        let engine = build();
        // Some with a crash before, some with a template that was killed.
        match round % 3 {
            0 => assert!(is_eicar(&scan(&engine, eicar::text().as_bytes()))),
            1 => drop(scan(&engine, b"SHIM crash")),
            _ => send(named("scan-template")[0], Signal::KILL),
        }
        drop(engine);
        wait_until("its processes end", || named("scan-template").is_empty());
    }
    wait_until("its processes end", || others() == 0);
    wait_until("its directory is removed", || {
        fs::read_dir(base.path()).unwrap().count() == 0
    });
    assert_eq!(descriptors(own()), before);
    assert_eq!(descriptors(spawner), theirs);
}

pub(crate) fn tmp_dir_replaced(isolation: &Isolation) {
    let dir = memory_dir();
    let base = dir.path().join("base");
    let build = || {
        let builder = builder().isolation(isolation, threads(1));
        builder.tmp_dir(&base).compile()
    };
    let failed = |engine: &Engine| {
        let found = scan(engine, b"SHIM sleep 1\nan object");
        let is_failed = matches!(found.incomplete, Some(Incomplete::EngineError { .. }));
        is_failed || !engine.works()
    };
    fs::create_dir(&base).unwrap();
    let engine = build().unwrap();
    assert!(engine.works());
    engine.check_tmp_dir().unwrap();

    // Its own directory: it is created again.
    fs::remove_dir_all(&engine.info().tmp_dir).unwrap();
    wait_until("it is noticed", || engine.works());
    assert!(is_eicar(&scan(&engine, eicar::text().as_bytes())));

    // The one above that: nothing works while it is missing, and nothing is lost if the same one comes back.
    let aside = dir.path().join("aside");
    fs::rename(&base, &aside).unwrap();
    assert!(failed(&engine) && engine.check_tmp_dir().is_err());
    assert!(!engine.isolation().unwrap().is_lost);
    assert!(build().is_err());
    fs::rename(&aside, &base).unwrap();
    wait_until("it is noticed", || engine.works());

    if engine.isolation().unwrap().confinement.landlock == 0 {
        println!("left out: without Landlock a process may write to any directory");
        return;
    }
    // Another one in its place, in which the processes may not write, with everything that the engine expects there.
    fs::remove_dir_all(&base).unwrap();
    fs::create_dir_all(&engine.info().tmp_dir).unwrap();
    for number in 0..engine.isolation().unwrap().started {
        fs::create_dir(engine.info().tmp_dir.join(format!("scan-{number}"))).unwrap();
    }
    wait_until("it is noticed", || {
        assert!(!engine.works(), "it does not write there");
        engine.isolation().unwrap().is_lost
    });
    let anew = build().unwrap();
    assert!(anew.works() && is_eicar(&scan(&anew, eicar::text().as_bytes())));
    anew.check_tmp_dir().unwrap();
}

pub(crate) fn drained(isolation: &Isolation) {
    let detector = || Detector::builder().engine(engine(isolation, 2)).build();
    let slot = DetectorSlot::new(detector().unwrap());
    for _ in 0..3 {
        let before = named("scan-template");
        slot.drain_with(Duration::from_secs(60), || {
            assert!(before.iter().all(|&pid| !runs(pid)), "it takes memory");
            assert!(named("scan-worker").is_empty());
            detector()
        })
        .unwrap();
        let found = scan(slot.load().engine().unwrap(), eicar::text().as_bytes());
        assert!(is_eicar(&found));
    }
}

/// Builds engines, says so, and waits to be killed.
pub(crate) fn wait(isolation: &Isolation) {
    let engines = [engine(isolation, 1), engine(isolation, 2)];
    thread::scope(|scope| {
        scope.spawn(|| scan(&engines[0], b"SHIM hang"));
        scope.spawn(|| scan(&engines[1], b"SHIM spin"));
        thread::sleep(Duration::from_millis(100));
        println!("ready");
        thread::sleep(Duration::from_secs(600));
    });
}

pub(crate) fn main_killed(_isolation: &Isolation) {
    let mut child = role("wait").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pids: Vec<i32> = below(i32::try_from(child.id()).unwrap())
        .iter()
        .map(|it| it.pid)
        .collect();
    assert_eq!(pids.len(), 5, "a spawner, two templates, two processes");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("all end", || !pids.iter().any(|&pid| runs(pid)));
}

pub(crate) fn memory(isolation: &Isolation) {
    let options = threads(1).memory_bytes(64 << 20);
    let builder = builder().isolation(isolation, options);
    let engine = builder.compile().unwrap();
    assert!(engine.isolation().unwrap().confinement.memory_limit);
    let before = memory_of(own(), "VmRSS:");
    let found = scan(&engine, b"SHIM allocate 256");
    assert!(
        crashed_with(found.incomplete.as_ref(), "SIGABRT"),
        "{found:?}"
    );
    assert!(memory_of(own(), "VmRSS:") < before + (32 << 20));
    // Half of it is within the limit.
    let found = scan(&engine, b"SHIM allocate 32");
    assert!(
        crashed_with(found.incomplete.as_ref(), "exit status 65"),
        "{found:?}"
    );
    assert!(is_clean(&scan(&engine, b"an object after that")));
    assert!(Path::new(&engine.info().tmp_dir).is_dir());
}
