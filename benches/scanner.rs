//! What a whole scanner costs for each message: views, rules and libclamav together, on real log lines.
//!
//! Without the test data it runs on lines that it makes itself, with the built-in signature, and says so.

// A bench that cannot go on panics, and criterion's macro makes an item that nobody can document.
#![allow(clippy::expect_used, missing_docs)]

use std::hint::black_box;

use benches::{database, log_lines, tmp_dir};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scanlib::{
    Detector, Engine, EngineBuilder, Library, Parser, Request, RuleSet, Verdict, ViewSet,
};

/// All of ClamAV's own signatures in the test data.
const OFFICIAL: [&str; 5] = [
    "official-daily-2024-12.ndb",
    "official-daily-2024-12.hdb",
    "official-daily-2024-12-part1.hsb.zst",
    "official-main-part1.hdb.zst",
    "official-main-part1.ldb.zst",
];

/// Lines for each round; libclamav takes milliseconds for one.
const LINES: usize = 200;

fn builder() -> EngineBuilder {
    let library = Library::init().expect("libclamav starts");
    EngineBuilder::new(library)
        .expect("an engine")
        .tmp_dir(tmp_dir())
}

fn official() -> Option<Engine> {
    let found: Vec<_> = OFFICIAL
        .iter()
        .map(|name| database(name))
        .collect::<Option<_>>()?;
    let mut builder = builder();
    for database in &found {
        builder = builder.database(&database.path).expect("a database");
    }
    Some(builder.compile().expect("an engine that compiles"))
}

fn builtin() -> Engine {
    let builder = builder()
        .builtin_signatures()
        .expect("the shipped signature");
    builder.compile().expect("an engine that compiles")
}

/// How many messages does one thread judge, with what?
fn messages(c: &mut Criterion) {
    let lines = log_lines(LINES);
    let bytes: usize = lines.iter().map(Vec::len).sum();
    println!("{} lines, mean {} B", lines.len(), bytes / lines.len());
    let mut group = c.benchmark_group("scanner");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(lines.len() as u64));

    let rules = || Detector::builder().rules(RuleSet::builtin());
    let mut cases = vec![("rules alone, all views".to_owned(), rules())];
    for (name, engine) in [("built-in", Some(builtin())), ("official", official())] {
        let Some(engine) = engine else { continue };
        println!("{name}: {} signatures", engine.info().signatures);
        let raw = Detector::builder()
            .engine(engine.clone())
            .views(ViewSet::RAW);
        cases.push((format!("{name}, raw, rules off"), raw));
        cases.push((
            format!("{name}, all views, rules on"),
            rules().engine(engine),
        ));
    }
    for (name, detector) in cases {
        let mut scanner = detector.build().expect("something to scan with").scanner();
        let parser = Parser::default();
        group.bench_function(&name, |b| {
            b.iter(|| {
                for line in &lines {
                    let message = parser.parse(black_box(line));
                    let report = scanner.scan_message(&message, &Request::new());
                    let verdict = report.expect("the scan failed").verdict;
                    // What was skipped is not worth measuring.
                    assert!(
                        !matches!(verdict, Verdict::Incomplete { .. }),
                        "{verdict:?}"
                    );
                }
            });
        });
    }
}

fn surroundings(_: &mut Criterion) {
    println!("{}", benches::surroundings());
}

criterion_group!(all, surroundings, messages);
criterion_main!(all);
