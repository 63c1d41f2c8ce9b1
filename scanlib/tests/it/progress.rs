//! What a program is told while an engine is built.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;

use scanlib::{BuildStep, EngineBuilder, Library, Payload, Progress, Request};
use support::{MARKER, MARKER_NAME, hex, memory_dir};

/// Enough for libclamav to report more than once.
fn large_database() -> tempfile::TempDir {
    let dir = memory_dir();
    let mut signatures = support::signatures();
    for n in 0..20_000 {
        let text = hex(format!("never-seen-{n}").as_bytes());
        signatures.push_str(&format!("Test.Never{n}:0:*:{text}\n"));
    }
    fs::write(dir.path().join("large.ndb"), signatures).unwrap();
    dir
}

fn builder(dir: &tempfile::TempDir) -> EngineBuilder {
    let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
    builder.database(dir.path()).unwrap()
}

#[test]
fn loading_and_compiling_each_go_up_to_their_total() {
    let dir = large_database();
    let (tell, told) = mpsc::channel::<(Option<PathBuf>, u64, u64)>();
    let engine = builder(&dir)
        .progress(
            move |Progress {
                      step, done, total, ..
                  }| {
                let source = match step {
                    BuildStep::Load(path) => Some(path.to_owned()),
                    _ => None,
                };
                tell.send((source, done, total)).unwrap();
            },
        )
        .compile()
        .unwrap();
    // The closure, and with it the sender, is gone: the engine keeps nothing of it.
    let told: Vec<_> = told.iter().collect();
    let (loads, compiles): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|(path, ..)| path.is_some());
    for (name, steps) in [("load", &loads), ("compile", &compiles)] {
        assert!(steps.len() > 1, "{name}: {steps:?}");
        assert!(
            steps.is_sorted_by_key(|&(_, done, _)| done),
            "{name}: {steps:?}"
        );
        let (_, done, total) = steps.last().unwrap();
        assert_eq!(done, total, "{name}");
    }
    assert!(
        loads
            .iter()
            .all(|(path, ..)| path.as_deref() == Some(dir.path()))
    );
    let scan = engine
        .scan(Payload::Bytes(MARKER), &Request::new())
        .unwrap();
    assert_eq!(scan.names, [MARKER_NAME]);
}

#[test]
fn a_panic_in_the_callback_comes_out_of_compile_and_not_through_c() {
    let dir = large_database();
    let building = builder(&dir).progress(|_| panic!("on purpose"));
    let panic = catch_unwind(AssertUnwindSafe(|| building.compile())).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    // The library is as good as before.
    builder(&dir).compile().unwrap();
}

/// Its log is told by thread, and the callback runs on the thread that loads.
#[test]
fn a_callback_may_scan_and_the_errors_of_the_load_are_still_told() {
    let (other, _database) = support::builder();
    let other = other.compile().unwrap();
    let dir = large_database();
    let bad = dir.path().join("large.ndb");
    let text = fs::read_to_string(&bad).unwrap() + "Broken:0:*:no-hex\n";
    fs::write(&bad, text).unwrap();
    let error = builder(&dir)
        .progress(move |_| {
            let scan = other.scan(Payload::Bytes(MARKER), &Request::new()).unwrap();
            assert_eq!(scan.names, [MARKER_NAME]);
        })
        .compile()
        .unwrap_err();
    let log = error.library_log().join("\n");
    assert!(log.contains("line 20003"), "{error}");
}
