//! What the pool promises, with workers that do as they are told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use scanlib::rules::RuleSet;
use scanlib::{
    Detector, DetectorSlot, EngineBuilder, Generation, Library, Parser, Payload, Pool, Request,
    ScanError, Shutdown, TrySubmitError, Verdict, Work, Worker,
};

/// What a job does.
enum Deed {
    /// Waits until it is told to go on.
    Wait(Receiver<()>),
    /// Scans a message and panics inside of the scan.
    PanicInScan,
    /// Panics outside of a scan.
    Panic,
    /// Scans a message, then panics.
    ScanAndPanic,
    /// Scans a message.
    Scan(&'static str),
    /// Takes so many bytes of stack.
    Deep(usize),
    /// Scans again and again, until the pool cancels a scan.
    ScanForEver,
}

struct Job {
    number: u64,
    bytes: u64,
    deed: Deed,
}

#[derive(Debug)]
struct Answer {
    number: u64,
    generation: Option<Generation>,
    outcome: Result<usize, String>,
}

impl Work for Job {
    type Output = Answer;
    type Receipt = u64;

    fn cost_bytes(&self) -> u64 {
        self.bytes
    }

    fn receipt(&self) -> u64 {
        self.number
    }

    fn run(self, worker: &mut Worker) -> Answer {
        let generation = Some(worker.detector().generation());
        let message = |text: &'static str| Parser::default().parse(text.as_bytes());
        let outcome = match self.deed {
            Deed::Deep(bytes) => Ok(deep((&raw const message).addr(), bytes)),
            Deed::Wait(go) => go.recv().map(|()| 0).map_err(|error| error.to_string()),
            Deed::PanicInScan => worker
                .scan(|_| -> Result<usize, ScanError> { panic!("inside") })
                .map_err(|error| error.to_string()),
            Deed::Panic => panic!("outside"),
            Deed::ScanAndPanic => {
                let _report =
                    worker.scan(|scanner| scanner.scan_message(&message("x"), &Request::new()));
                panic!("afterwards")
            }
            Deed::Scan(text) => worker
                .scan(|scanner| scanner.scan_message(&message(text), &Request::new()))
                .map(|report| report.verdict.detections().len())
                .map_err(|error| error.to_string()),
            Deed::ScanForEver => loop {
                let payload = Payload::Bytes(b"nothing to see here");
                let report = worker.scan(|scanner| scanner.scan(payload, &Request::new()));
                if let Verdict::Incomplete { cause, .. } = report.unwrap().verdict {
                    break Err(cause.to_string());
                }
            },
        };
        Answer {
            number: self.number,
            generation,
            outcome,
        }
    }

    fn panicked(number: u64, message: String) -> Answer {
        Answer {
            number,
            generation: None,
            outcome: Err(message),
        }
    }
}

/// Calls itself until it has taken so many bytes of stack, counted from an address of its first caller.
#[inline(never)]
fn deep(from: usize, bytes: usize) -> usize {
    let frame = std::hint::black_box([1_u8; 4 << 10]);
    match from.abs_diff(frame.as_ptr().addr()) < bytes {
        true => deep(from, bytes) + usize::from(frame[bytes % frame.len()]),
        false => 1,
    }
}

fn detector() -> Detector {
    Detector::builder()
        .rules(RuleSet::builtin())
        .build()
        .unwrap()
}

fn pool(workers: usize, jobs: usize, bytes: u64, answers: Sender<Answer>) -> Pool<Job> {
    Pool::builder(DetectorSlot::new(detector()))
        .workers(NonZeroUsize::new(workers).unwrap())
        .queue_jobs(jobs)
        .queue_bytes(bytes)
        .start(answers)
        .unwrap()
}

fn job(number: u64, deed: Deed) -> Job {
    Job {
        number,
        bytes: 1,
        deed,
    }
}

/// A pool whose only worker is busy until `go` gets a message.
fn busy_pool(jobs: usize, bytes: u64) -> (Pool<Job>, Sender<()>, Receiver<Answer>) {
    let (answers, arriving) = unbounded();
    let pool = pool(1, jobs, bytes, answers);
    let (go, wait) = bounded(1);
    pool.submit(job(0, Deed::Wait(wait))).unwrap();
    while pool.stats().busy == 0 {
        std::thread::yield_now();
    }
    (pool, go, arriving)
}

#[test]
fn a_full_queue_gives_the_job_back_by_count_and_by_bytes() {
    let (pool, go, arriving) = busy_pool(2, u64::MAX);
    pool.try_submit(job(1, Deed::Scan("x"))).unwrap();
    pool.try_submit(job(2, Deed::Scan("x"))).unwrap();
    let Err(TrySubmitError::Full(back)) = pool.try_submit(job(3, Deed::Scan("x"))) else {
        panic!("two jobs wait, and two may");
    };
    assert_eq!(back.number, 3);
    go.send(()).unwrap();
    assert_eq!(arriving.iter().take(3).count(), 3);
    drop(pool);

    let (pool, go, _arriving) = busy_pool(100, 10);
    let sized = |number, bytes| Job {
        number,
        bytes,
        deed: Deed::Scan("x"),
    };
    pool.try_submit(sized(1, 11))
        .expect("a job larger than the budget goes in alone");
    assert!(matches!(
        pool.try_submit(sized(2, 1)),
        Err(TrySubmitError::Full(_))
    ));
    go.send(()).unwrap();
    while pool.stats().done < 2 {
        std::thread::yield_now();
    }
    assert_eq!(pool.stats().queued_bytes, 0, "the budget came back");
}

#[test]
fn submit_waits_for_room_and_ends_when_the_pool_does() {
    let (pool, go, arriving) = busy_pool(1, 1);
    pool.submit(job(1, Deed::Scan("x"))).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.submit(job(2, Deed::Scan("x"))));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished(), "there is no room");
        go.send(()).unwrap();
        waiting.join().unwrap().unwrap();
    });
    let numbers: Vec<u64> = arriving
        .iter()
        .take(3)
        .map(|answer| answer.number)
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn a_panic_costs_one_verdict_and_never_the_pool() {
    let (answers, arriving) = unbounded();
    let pool = pool(1, 10, u64::MAX, answers);
    pool.submit(job(0, Deed::PanicInScan)).unwrap();
    pool.submit(job(1, Deed::Panic)).unwrap();
    pool.submit(job(2, Deed::Scan("'; DROP TABLE users; --")))
        .unwrap();
    let answers: Vec<Answer> = arriving.iter().take(3).collect();
    assert_eq!(
        answers[0].outcome.as_ref().unwrap_err(),
        "the scan panicked: inside"
    );
    assert_eq!(answers[1].outcome.as_ref().unwrap_err(), "outside");
    assert_eq!(answers[2].outcome, Ok(1), "the same worker goes on");
    let stats = pool.shutdown(Shutdown::FinishQueued);
    assert_eq!((stats.done, stats.panics, stats.busy), (3, 2, 0));
}

#[test]
fn a_swapped_detector_is_used_from_the_next_job_on() {
    let (answers, arriving) = unbounded();
    let first = detector();
    let slot = DetectorSlot::new(first.clone());
    let pool: Pool<Job> = Pool::builder(slot.clone())
        .workers(NonZeroUsize::MIN)
        .start(answers)
        .unwrap();
    pool.submit(job(0, Deed::Scan("x"))).unwrap();
    assert_eq!(
        arriving.recv().unwrap().generation,
        Some(first.generation())
    );
    let second = detector();
    let old = slot.swap(second.clone()).unwrap();
    assert_eq!(old.generation(), first.generation());
    pool.submit(job(1, Deed::Scan("x"))).unwrap();
    assert_eq!(
        arriving.recv().unwrap().generation,
        Some(second.generation())
    );
    assert!(second.generation() > first.generation());
}

#[test]
fn shutdown_finishes_or_drops_what_waits_and_says_how_much() {
    for (mode, done, dropped) in [(Shutdown::FinishQueued, 4, 0), (Shutdown::DropQueued, 1, 3)] {
        let (pool, go, arriving) = busy_pool(10, u64::MAX);
        for number in 1..=3 {
            pool.submit(job(number, Deed::Scan("x"))).unwrap();
        }
        // The worker stays busy until the queue has been closed.
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            go.send(()).unwrap();
        });
        let stats = pool.shutdown(mode);
        release.join().unwrap();
        assert_eq!((stats.done, stats.dropped), (done, dropped), "{mode:?}");
        assert_eq!(
            arriving.try_iter().count() as u64,
            done,
            "each job is answered once"
        );
    }
}

#[test]
fn a_pool_that_nobody_listens_to_takes_no_more_jobs() {
    let (pool, go, arriving) = busy_pool(10, u64::MAX);
    drop(arriving);
    go.send(()).unwrap();
    loop {
        match pool.try_submit(job(1, Deed::Scan("x"))) {
            Err(TrySubmitError::Closed(_)) => break,
            _ => std::thread::yield_now(),
        }
    }
}

#[test]
fn a_shutdown_that_cancels_ends_scans_under_way_and_gives_back_what_waits() {
    let engine = EngineBuilder::new(Library::init().unwrap()).unwrap();
    let engine = engine.builtin_signatures().unwrap().compile().unwrap();
    let detector = Detector::builder().engine(engine).build().unwrap();
    let (answers, arriving) = unbounded();
    let pool: Pool<Job> = Pool::builder(DetectorSlot::new(detector))
        .workers(NonZeroUsize::MIN)
        .queue_jobs(10)
        .start(answers)
        .unwrap();
    pool.submit(job(0, Deed::ScanForEver)).unwrap();
    while pool.stats().busy == 0 {
        std::thread::yield_now();
    }
    for number in 1..=3 {
        pool.submit(job(number, Deed::Scan("x"))).unwrap();
    }
    let (stats, left) = pool.shutdown_returning(Shutdown::CancelRunning);
    let numbers: Vec<u64> = left.iter().map(|job| job.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let answers: Vec<Answer> = arriving.try_iter().collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(
        answers[0].outcome.as_ref().unwrap_err(),
        "the scan was cancelled"
    );
    assert_eq!((stats.done, stats.dropped, stats.queued_bytes), (1, 3, 0));
    assert_eq!(stats.incomplete, 1);
}

#[test]
fn statistics_count_every_scan_also_of_scanners_that_were_replaced() {
    let (answers, arriving) = unbounded();
    let slot = DetectorSlot::new(detector());
    let pool: Pool<Job> = Pool::builder(slot.clone())
        .workers(NonZeroUsize::MIN)
        .start(answers)
        .unwrap();
    let bad = "'; DROP TABLE users; --";
    for (number, deed) in [
        Deed::Scan("x"),
        Deed::ScanAndPanic,
        Deed::Scan(bad),
        Deed::PanicInScan,
        Deed::Scan("x"),
    ]
    .into_iter()
    .enumerate()
    {
        pool.submit(job(number as u64, deed)).unwrap();
        arriving.recv().unwrap();
        slot.swap(detector());
    }
    let stats = pool.shutdown(Shutdown::FinishQueued);
    assert_eq!((stats.done, stats.scans, stats.infected), (5, 4, 1));
    assert_eq!(stats.scanned_bytes, 3 + bad.len() as u64);
    assert_eq!((stats.engine_calls, stats.incomplete), (0, 0), "rules only");
}

#[test]
fn a_worker_without_a_job_does_not_keep_a_detector_that_was_replaced() {
    let engine = || {
        let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
        builder.builtin_signatures().unwrap().compile().unwrap()
    };
    let with = |engine| Detector::builder().engine(engine).build().unwrap();
    let old = engine();
    // An engine's own directory goes with its last user.
    let trace = old.info().tmp_dir.clone();
    let slot = DetectorSlot::new(with(old));
    let (answers, arriving) = unbounded();
    let pool: Pool<Job> = Pool::builder(slot.clone())
        .workers(NonZeroUsize::MIN)
        .start(answers)
        .unwrap();
    pool.submit(job(0, Deed::Scan("x"))).unwrap();
    arriving.recv().unwrap();
    drop(slot.swap(with(engine())));
    let deadline = Instant::now() + Duration::from_secs(30);
    while trace.exists() {
        assert!(Instant::now() < deadline, "the old engine is still in use");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_worker_has_as_much_stack_as_libclamav_is_written_for() {
    let (answers, answered) = unbounded();
    let pool = pool(1, 1, 1 << 20, answers);
    // With the 2 MiB that Rust gives a thread by default this ends the process.
    pool.submit(job(1, Deed::Deep(scanlib::SCAN_STACK_BYTES - (1 << 20))))
        .unwrap();
    let answer = answered.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(answer.outcome.unwrap() > 1);
}
