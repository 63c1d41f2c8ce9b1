//! A scanning process that was taken over talks to the main process.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use scanlib::{Incomplete, Isolation, Limits, Payload, Request, eicar};

use crate::processes::{descriptors as descriptors_of, memory, named, send, wait_until};
use crate::support::memory_dir;
use crate::{builder, engine, is_clean, is_eicar, scan, threads};

fn own() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

pub(crate) fn nonsense(isolation: &Isolation) {
    let engine = engine(isolation, 1);
    for object in ["SHIM garbage", "SHIM ready", "SHIM empty-packet"] {
        let found = scan(&engine, object.as_bytes());
        let crashed = matches!(found.incomplete, Some(Incomplete::Crashed { .. }));
        assert!(crashed && found.names.is_empty(), "{object}: {found:?}");
        assert!(is_eicar(&scan(&engine, eicar::text().as_bytes())));
    }
}

pub(crate) fn floods(isolation: &Isolation) {
    let limits = Limits {
        max_scan_time: Duration::from_secs(3),
        ..Limits::default()
    };
    let builder = builder().isolation(isolation, threads(1)).limits(limits);
    let engine = builder.compile().unwrap();
    assert!(is_clean(&scan(&engine, b"an object before")));
    // The highest that it was.
    let before = memory(own(), "VmHWM:");
    for object in ["SHIM flood-long", "SHIM flood-many", "SHIM flood-nothing"] {
        let started = Instant::now();
        let found = scan(&engine, object.as_bytes());
        let took = started.elapsed();
        println!("measured: {object}: {took:?}, {:?}", found.incomplete);
        let expected = matches!(
            found.incomplete,
            Some(Incomplete::Crashed { .. } | Incomplete::EngineTimeLimit)
        );
        assert!(expected, "{object}: {:?}", found.incomplete);
        assert!(is_eicar(&scan(&engine, eicar::text().as_bytes())));
    }
    // A deadline and a cancelled token are noticed, too.
    let request = Request::new().deadline(Instant::now() + Duration::from_millis(200));
    let found = engine.scan(Payload::Bytes(b"SHIM flood-nothing"), &request);
    assert_eq!(found.unwrap().incomplete, Some(Incomplete::Deadline));
    let after = memory(own(), "VmHWM:");
    println!("measured: {} MiB more", (after - before) >> 20);
    assert!(after - before < 64 << 20);
}

pub(crate) fn descriptors(isolation: &Isolation) {
    let engine = engine(isolation, 1);
    assert!(is_clean(&scan(&engine, b"an object before")));
    let before = descriptors_of(own());
    for _ in 0..5 {
        let object = format!("SHIM descriptors\n{}", eicar::text());
        assert!(is_eicar(&scan(&engine, object.as_bytes())));
    }
    assert_eq!(descriptors_of(own()), before);
}

pub(crate) fn deaf(isolation: &Isolation) {
    let limits = Limits {
        max_scan_time: Duration::from_secs(2),
        ..Limits::default()
    };
    let builder = builder().isolation(isolation, threads(1)).limits(limits);
    let engine = builder.compile().unwrap();
    // Its answers are worth nothing, but they come to an end, and so does the process.
    let object = vec![b'x'; 40_000];
    let worker = named("scan-worker");
    let first = scan(&engine, b"SHIM deaf");
    println!("measured: {first:?}");
    let mut rounds = 0;
    while named("scan-worker") == worker {
        rounds += 1;
        assert!(rounds < 200);
        let _whatever = scan(&engine, &object);
    }
    assert!(is_eicar(&scan(&engine, eicar::text().as_bytes())));
    assert!(fs::exists(&engine.info().tmp_dir).unwrap());
}

pub(crate) fn directories(isolation: &Isolation) {
    let base = memory_dir();
    let builder = || {
        let builder = builder().isolation(isolation, threads(1));
        builder.tmp_dir(base.path()).compile().unwrap()
    };
    let engine = builder();
    let found = scan(&engine, b"SHIM plant 2000");
    let planted = Incomplete::Crashed {
        how: "exit status 65".to_owned(),
    };
    assert_eq!(found.incomplete, Some(planted));
    assert!(is_clean(&scan(&engine, b"an object after that")));
    assert!(!engine.isolation().unwrap().is_lost);
    // That of the present process.
    assert_eq!(fs::read_dir(&engine.info().tmp_dir).unwrap().count(), 1);

    // Nobody is left to remove it but the main process.
    thread::scope(|scope| {
        let hanging = scope.spawn(|| scan(&engine, b"SHIM plant-and-hang 2000"));
        let is_planted = || {
            let dirs = fs::read_dir(&engine.info().tmp_dir).unwrap().flatten();
            dirs.into_iter().any(|it| it.path().join("done").exists())
        };
        wait_until("it is planted", is_planted);
        send(named("scan-template")[0], Signal::KILL);
        assert!(hanging.join().unwrap().incomplete.is_some());
    });
    drop(engine);
    wait_until("it is removed", || {
        fs::read_dir(base.path()).unwrap().count() == 0
    });
}
