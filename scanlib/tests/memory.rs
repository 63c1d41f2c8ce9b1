//! Engines come and go; memory must not only come. One test, because it watches the whole process.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use scanlib::{Engine, EngineBuilder, Library};
use support::memory_dir;

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn settles_below(bytes: u64) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while resident_bytes() >= bytes {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// How long it takes until `drop` returns.
fn time_to_drop(engine: Engine) -> Duration {
    let start = Instant::now();
    drop(engine);
    start.elapsed()
}

#[test]
fn a_dropped_engine_gives_its_memory_back_without_holding_up_its_owner() {
    let database = memory_dir();
    let mut signatures = String::new();
    for n in 0..100_000u32 {
        let hash = u128::from(n) * 0x9e37_79b9_7f4a_7c15;
        writeln!(signatures, "{hash:032x}:{}:Test.Hash-{n}", n + 1).unwrap();
    }
    fs::write(database.path().join("test.hdb"), signatures).unwrap();
    let build = || {
        let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
        builder
            .database(database.path())
            .unwrap()
            .compile()
            .unwrap()
    };

    let before = resident_bytes();
    let mut quickest = Duration::MAX;
    let mut first = None;
    for _ in 0..8 {
        let engine = build();
        let now = resident_bytes() - before;
        let first: u64 = *first.get_or_insert(now);
        assert!(
            first > 5_000_000,
            "{first} bytes are too few to see them come and go"
        );
        assert!(
            now < 2 * first,
            "{now} bytes, where the first engine took {first}"
        );
        quickest = quickest.min(time_to_drop(engine));
        assert!(
            settles_below(before + first / 2),
            "the engine's {first} bytes stay"
        );
    }
    assert!(
        quickest < Duration::from_millis(2),
        "the owner waited for {quickest:?}"
    );
}
