//! A detector is replaced while it is used.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::convert::Infallible;
use std::fs;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::unbounded;
use scanlib::{
    Detector, DetectorSlot, DrainError, EngineBuilder, Generation, Library, LoadError,
    NothingEnabled, Payload, Pool, Request, Shutdown, Work, Worker,
};
use support::{MARKER, MARKER_NAME, hex, memory_dir};

const PATIENCE: Duration = Duration::from_secs(30);

/// An engine that finds the marker under a name of this number.
fn numbered(number: u64) -> Detector {
    let dir = memory_dir();
    let text = format!("Test.Number{number}:0:*:{}\n", hex(MARKER));
    fs::write(dir.path().join("test.ndb"), text).unwrap();
    load(dir.path()).unwrap()
}

fn load(path: &std::path::Path) -> Result<Detector, LoadError> {
    let engine = EngineBuilder::new(Library::init()?)?
        .database(path)?
        .compile()?;
    Ok(Detector::builder().engine(engine).build().unwrap())
}

struct Marked;

impl Work for Marked {
    /// The name that was found, and the detector that should know it.
    type Output = (String, Generation);
    type Receipt = ();

    fn cost_bytes(&self) -> u64 {
        MARKER.len() as u64
    }

    fn receipt(&self) {}

    fn run(self, worker: &mut Worker) -> Self::Output {
        let request = Request::new();
        let report = worker
            .scan(|scanner| scanner.scan(Payload::Bytes(MARKER), &request))
            .unwrap();
        let [found] = report.verdict.detections() else {
            panic!("{report:?}")
        };
        (found.name.clone(), report.generation)
    }

    fn panicked((): (), message: String) -> Self::Output {
        panic!("{message}")
    }
}

#[test]
fn under_load_every_answer_is_of_one_generation_and_none_is_lost() {
    const ROUNDS: u64 = 20;
    let slot = DetectorSlot::new(numbered(0));
    let (answers, arriving) = unbounded();
    let pool: Pool<Marked> = Pool::builder(slot.clone())
        .workers(NonZeroUsize::new(4).unwrap())
        .start(answers)
        .unwrap();
    let mut names = vec![(
        slot.load().generation(),
        "Test.Number0.UNOFFICIAL".to_owned(),
    )];
    let submitted = std::thread::scope(|scope| {
        let reloads = scope.spawn(|| {
            for number in 1..=ROUNDS {
                let next = slot.reload_with(|_| Ok::<_, Infallible>(numbered(number)));
                names.push((next.unwrap(), format!("Test.Number{number}.UNOFFICIAL")));
            }
        });
        let mut submitted = 0;
        while !reloads.is_finished() {
            pool.submit(Marked).unwrap();
            submitted += 1;
        }
        submitted
    });
    let stats = pool.shutdown(Shutdown::FinishQueued);
    assert_eq!((stats.done, stats.panics), (submitted, 0));
    let answers: Vec<_> = arriving.try_iter().collect();
    assert_eq!(answers.len() as u64, submitted);
    for (name, generation) in &answers {
        assert!(
            names.contains(&(*generation, name.clone())),
            "{generation} said {name}"
        );
    }
    let mut seen: Vec<Generation> = answers
        .into_iter()
        .map(|(_, generation)| generation)
        .collect();
    seen.sort();
    seen.dedup();
    assert!(
        seen.len() > 2,
        "there was work during the reloads: {seen:?}"
    );
}

#[test]
fn a_failed_or_panicking_build_keeps_the_old_detector() {
    let (engine, _database) = support::builder();
    let engine = engine.compile().unwrap();
    let slot = DetectorSlot::new(Detector::builder().engine(engine).build().unwrap());
    let before = slot.load().generation();

    let broken = memory_dir();
    fs::write(broken.path().join("broken.ndb"), "Broken:0:*:no-hex\n").unwrap();
    let error = slot.reload_with(|_| load(broken.path())).unwrap_err();
    assert!(error.to_string().contains("broken.ndb"), "{error}");

    let panicking =
        || slot.reload_with(|_| -> Result<Detector, Infallible> { panic!("on purpose") });
    catch_unwind(AssertUnwindSafe(panicking)).unwrap_err();

    assert_eq!(slot.load().generation(), before);
    let report = slot
        .load()
        .scanner()
        .scan(Payload::Bytes(MARKER), &Request::new());
    assert_eq!(report.unwrap().verdict.detections()[0].name, MARKER_NAME);
    let next = slot
        .reload_with(|_| Ok::<_, Infallible>(numbered(1)))
        .unwrap();
    assert!(next > before, "the slot is as good as before");
}

#[test]
fn a_reload_that_began_later_wins() {
    let slot = DetectorSlot::new(numbered(0));
    let (started, waiting) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            slot.reload_with(|_| {
                started.send(()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(100));
                Ok::<_, Infallible>(numbered(1))
            })
        });
        waiting.recv().unwrap();
        let late = slot
            .reload_with(|_| Ok::<_, Infallible>(numbered(2)))
            .unwrap();
        assert!(late > slow.join().unwrap().unwrap());
        assert_eq!(slot.load().generation(), late);
    });
}

/// Proves: where two engines have no room the old one is gone before the next is built, jobs wait for that one and are judged by it, and
/// none is lost.
#[test]
fn a_drain_frees_the_old_engine_first_and_jobs_wait_for_the_next() {
    let slot = DetectorSlot::new(numbered(1));
    let trace = slot.load().engine().unwrap().info().tmp_dir.clone();
    let (send, answers) = unbounded();
    let pool = Pool::<Marked>::builder(slot.clone());
    let pool = pool
        .workers(NonZeroUsize::new(3).unwrap())
        .start(send)
        .unwrap();
    let pool = Arc::new(pool);
    let submitter = {
        let pool = Arc::clone(&pool);
        // The queue is bounded: it waits while the workers do.
        std::thread::spawn(move || (0..2000).for_each(|_| pool.submit(Marked).unwrap()))
    };
    while answers.is_empty() {
        std::thread::yield_now();
    }
    let mut is_there = false;
    let drained = slot.drain_with(PATIENCE, || {
        // A panic here would leave the workers waiting.
        is_there = trace.exists() || slot.load_now().is_some();
        std::thread::sleep(Duration::from_millis(100));
        Ok::<_, Infallible>(numbered(2))
    });
    drained.unwrap();
    assert!(!is_there, "the old engine is still there");
    submitter.join().unwrap();
    let stats = Arc::into_inner(pool)
        .unwrap()
        .shutdown(Shutdown::FinishQueued);
    assert_eq!(stats.done, 2000);
    let names: Vec<_> = answers.into_iter().map(|(name, _)| name).collect();
    let old = names
        .iter()
        .filter(|name| name.starts_with("Test.Number1"))
        .count();
    let new = names
        .iter()
        .filter(|name| name.starts_with("Test.Number2"))
        .count();
    assert!(old > 0 && new > 0 && old + new == 2000, "{old} {new}");
}

/// Proves: a detector that somebody does not let go of is put back, and everything goes on with it.
#[test]
fn a_drain_that_would_take_too_long_puts_the_old_one_back() {
    let slot = DetectorSlot::new(numbered(1));
    let held = slot.load();
    let refused = slot.drain_with(
        Duration::from_millis(50),
        || -> Result<Detector, Infallible> { panic!("built beside the old one") },
    );
    assert!(matches!(refused, Err(DrainError::InUse)), "{refused:?}");
    assert_eq!(slot.load().generation(), held.generation());
    drop(held);
    slot.drain_with(PATIENCE, || Ok::<_, Infallible>(numbered(2)))
        .unwrap();

    // One that fails leaves it empty; the next fills it, and who waits is woken.
    let failed = slot.drain_with(PATIENCE, || Err::<Detector, _>(NothingEnabled));
    assert!(matches!(failed, Err(DrainError::Build(_))), "{failed:?}");
    assert!(slot.load_now().is_none());
    let waiting = {
        let slot = slot.clone();
        std::thread::spawn(move || slot.load().generation())
    };
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiting.is_finished());
    let next = slot
        .drain_with(PATIENCE, || Ok::<_, Infallible>(numbered(3)))
        .unwrap();
    assert_eq!(waiting.join().unwrap(), next);
}
