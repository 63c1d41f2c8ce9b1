//! What libclamav alone costs: the engine on bytes, before any rule, view or prefilter.
//!
//! libclamav's clean cache is off throughout. A bench scans the same bytes again and again, and with the cache on it would
//! measure one hash and one lookup, which no stream of new messages ever sees.

// A bench that cannot go on panics, and criterion's macro makes an item that nobody can document.
#![allow(clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use benches::{Database, database, syslog_line, tmp_dir};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scanlib::{Engine, EngineBuilder, Library, Payload, Request};

/// An engine with the shipped signature, and with `databases` if there are any.
fn engine(databases: &[Database]) -> Engine {
    let library = Library::init().expect("libclamav starts");
    let builder = EngineBuilder::new(library).expect("an engine");
    let mut builder = builder.tmp_dir(tmp_dir()).clean_cache(None);
    builder = builder.builtin_signatures().expect("the shipped signature");
    for database in databases {
        builder = builder.database(&database.path).expect("a database");
    }
    builder.compile().expect("an engine that compiles")
}

/// A scan that must have looked: what was skipped is not worth measuring.
fn scan(engine: &Engine, data: &[u8]) -> usize {
    let found = engine.scan(Payload::Bytes(black_box(data)), &Request::new());
    let found = found.expect("the scan failed");
    assert!(
        found.incomplete.is_none() && !found.type_ignored,
        "{found:?}"
    );
    found.names.len()
}

/// How does the cost grow with the size of a message?
fn size(c: &mut Criterion) {
    let engine = engine(&[]);
    let mut group = c.benchmark_group("size");
    for bytes in [64, 170, 1024, 16 * 1024, 256 * 1024] {
        let message = syslog_line(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(bytes),
            &message,
            |b, message| {
                b.iter(|| scan(&engine, message));
            },
        );
    }
}

/// Does a finding cost more than none?
fn finding(c: &mut Criterion) {
    let engine = engine(&[]);
    let clean = syslog_line(170);
    // In pieces, so that this file is not itself a finding.
    let eicar = [
        "X5O!P%@AP[4\\PZX54(P^)7CC)7}$",
        "EICAR-STANDARD-ANTIVIRUS",
        "-TEST-FILE!$H+H*",
    ]
    .concat();
    let mut infected = clean.clone();
    infected.splice(clean.len() - eicar.len().., eicar.bytes());
    assert_eq!(infected.len(), clean.len());

    let mut group = c.benchmark_group("finding");
    for (name, message, names) in [("clean", &clean, 0), ("eicar", &infected, 1)] {
        assert_eq!(scan(&engine, message), names, "{name}");
        group.bench_function(name, |b| b.iter(|| scan(&engine, message)));
    }
}

/// What does a real database cost for each message?
fn databases(c: &mut Criterion) {
    let message = syslog_line(170);
    let mut group = c.benchmark_group("database");
    group.sample_size(20).throughput(Throughput::Elements(1));
    for (name, files) in [
        ("built-in", &[][..]),
        (
            "official-daily",
            &["official-daily-2024-12.ndb", "official-daily-2024-12.hdb"],
        ),
        (
            "official-main",
            &["official-main-part1.ldb.zst", "official-main-part1.hdb.zst"],
        ),
    ] {
        let found: Option<Vec<_>> = files.iter().map(|file| database(file)).collect();
        let Some(found) = found else { continue };
        let engine = engine(&found);
        println!("database/{name}: {} signatures", engine.info().signatures);
        group.bench_function(name, |b| b.iter(|| scan(&engine, &message)));
    }
}

/// How many messages a second do several threads scan over one shared engine?
fn threads(c: &mut Criterion) {
    let engine = engine(&[]);
    let message = syslog_line(170);
    let most = thread::available_parallelism().map_or(1, usize::from);
    let mut group = c.benchmark_group("threads");
    for count in (0..)
        .map(|power| 1 << power)
        .take_while(|count| *count <= most)
    {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|scans| {
                together(count, || {
                    for _ in 0..scans {
                        scan(&engine, &message);
                    }
                })
            });
        });
    }
}

/// From the moment when all threads are ready until the last one is done.
fn together(count: usize, work: impl Fn() + Sync) -> Duration {
    let ready = Barrier::new(count + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    ready.wait();
                    work();
                })
            })
            .collect();
        ready.wait();
        let started = Instant::now();
        for worker in workers {
            worker.join().expect("a worker panicked");
        }
        started.elapsed()
    })
}

fn surroundings(_: &mut Criterion) {
    println!("{}", benches::surroundings());
}

criterion_group!(all, surroundings, size, finding, databases, threads);
criterion_main!(all);
