//! The scanner beside libclamav called directly, clamd and clamscan, in one run, on real log lines with ClamAV's own signatures.
//!
//! Each contender gets its turn in every round, and the middle round counts, so that a machine that slows down slows all of them down.
//! The scanner judges every line of every log, in the files' order, audits and what it has libclamav look at inside the time; for those that take a
//! millisecond or more for a line, every so-many-th line stands for all (`BENCH_STEP`, 100; `BENCH_ROUNDS`, 5). Writes a table and a chart
//! to `target/peers`.

// A bench that cannot go on panics, and nobody documents a program's parts.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod clamd;
mod table;

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use benches::{Log, databases, logs, surroundings, tmp_dir};
use clamd::Clamd;
use scanlib::prefilter::{Cause, Gate, Scratch};
use scanlib::{
    Detector, Engine, EngineBuilder, Library, Parser, Payload, Report, Request, RuleSet, ScanError,
    ViewSet,
};
use table::Row;

/// Lines that a worker takes at a time: as many as a batch of records may have.
const AT_A_TIME: usize = 256;

type Lines<'l> = &'l [&'l [u8]];

/// Runs over the lines on so many threads, each with every so-many-th; how many lines something was found in.
type Run<'r> = Box<dyn Fn(Lines<'_>) -> usize + 'r>;

struct Contender<'r> {
    name: &'static str,
    threads: usize,
    /// It takes long: it gets the sample.
    slow: bool,
    run: Run<'r>,
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn engine(dir: Option<&Path>) -> Engine {
    let library = Library::init().expect("libclamav starts");
    let builder = EngineBuilder::new(library)
        .expect("an engine")
        .tmp_dir(tmp_dir());
    let builder = match dir {
        Some(dir) => builder.database(dir).expect("a database"),
        None => builder.builtin_signatures().expect("the shipped signature"),
    };
    builder.compile().expect("an engine that compiles")
}

fn add<'r>(
    to: &mut Vec<Contender<'r>>,
    name: &'static str,
    threads: usize,
    slow: bool,
    run: Run<'r>,
) {
    to.push(Contender {
        name,
        threads,
        slow,
        run,
    });
}

/// How a scanner gets the lines.
#[derive(Clone, Copy)]
enum How {
    /// As they are, a batch at a time.
    Raw,
    RawOneByOne,
    /// Parsed, in every view.
    Messages,
    MessagesOneByOne,
}

/// Every line through a scanner of its own on each thread; they take batches in turn, as workers do.
fn scan(detector: &Detector, threads: usize, how: How, lines: Lines<'_>) -> usize {
    let batches = Mutex::new(lines.chunks(AT_A_TIME));
    let part = || {
        let (mut scanner, parser) = (detector.scanner(), Parser::default());
        let request = Request::new();
        let mut found = 0;
        let mut count = |report: Result<Report, ScanError>| {
            let report = report.expect("the scan failed");
            found += usize::from(!report.verdict.detections().is_empty());
        };
        let next = || batches.lock().expect("no worker panicked").next();
        while let Some(batch) = next() {
            let batch = black_box(batch);
            match how {
                How::Raw => scanner.scan_each(batch, &request).for_each(&mut count),
                How::RawOneByOne => batch
                    .iter()
                    .map(|line| scanner.scan(Payload::Bytes(line), &request))
                    .for_each(&mut count),
                How::Messages => {
                    let messages: Vec<_> = batch.iter().map(|line| parser.parse(line)).collect();
                    let reports = scanner.scan_messages(&messages, &request);
                    reports.for_each(&mut count);
                }
                How::MessagesOneByOne => batch
                    .iter()
                    .map(|line| scanner.scan_message(&parser.parse(line), &request))
                    .for_each(&mut count),
            }
        }
        found
    };
    if threads == 1 {
        return part();
    }
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(part)).collect();
        workers
            .into_iter()
            .map(|one| one.join().expect("a worker"))
            .sum()
    })
}

fn sessions(clamd: &Clamd, connections: usize, lines: Lines<'_>) -> usize {
    thread::scope(|scope| {
        let part = |start: usize| {
            let mut session = clamd.session();
            let mine = lines.iter().skip(start).step_by(connections);
            mine.filter(|line| session.scan(line)).count()
        };
        let workers: Vec<_> = (0..connections)
            .map(|start| scope.spawn(move || part(start)))
            .collect();
        workers
            .into_iter()
            .map(|one| one.join().expect("a connection"))
            .sum()
    })
}

/// clamscan over a file for each line; the start with its load of the signatures is inside.
fn clamscan(dir: &Path, lines: Lines<'_>) -> usize {
    let files = tempfile::tempdir_in(tmp_dir()).expect("a directory");
    for (line, number) in lines.iter().zip(0..) {
        std::fs::write(files.path().join(format!("{number:06}")), line).expect("a file");
    }
    let output = Command::new("clamscan")
        .args(["--no-summary", "--infected", "--recursive", "--database"])
        .arg(dir)
        .arg(format!("--tempdir={}", tmp_dir().display()))
        .arg(files.path())
        .output()
        .expect("clamscan runs");
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "clamscan ends with {code:?}");
    output.stdout.iter().filter(|byte| **byte == b'\n').count()
}

/// Share of each log's lines that reach libclamav, and why.
fn over_scan(engine: &Engine, logs: &[Log]) -> String {
    let mut table = String::from(
        "| log | lines | bytes a line | µs a line | MB/s | reach libclamav | why |\n|---|---:|---:|---:|---:|---:|---|\n",
    );
    let mut scratch = Scratch::default();
    for log in logs {
        let mut causes = [0; Cause::ALL.len()];
        for line in &log.lines {
            if let Gate::MustScan(cause) = engine.prefilter().check(line, &mut scratch) {
                causes[cause as usize] += 1;
            }
        }
        let start = Instant::now();
        for line in &log.lines {
            black_box(engine.prefilter().check(black_box(line), &mut scratch) == Gate::Cleared);
        }
        let seconds = start.elapsed().as_secs_f64();
        let (lines, bytes) = (
            log.lines.len(),
            log.lines.iter().map(Vec::len).sum::<usize>(),
        );
        let reach: usize = causes.iter().sum();
        let why: Vec<String> = Cause::ALL
            .iter()
            .zip(causes)
            .filter(|(_, count)| *count > 0)
            .map(|(cause, count)| format!("{count} {}", cause.as_str()))
            .collect();
        table += &format!(
            "| {} | {lines} | {} | {:.2} | {:.0} | {:.4} % | {} |\n",
            log.name,
            bytes / lines,
            seconds * 1e6 / lines as f64,
            bytes as f64 / seconds / 1e6,
            reach as f64 * 100.0 / lines as f64,
            why.join(", ")
        );
    }
    table
}

fn main() {
    // `cargo test --benches` only asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("{}", surroundings());
    let databases = databases("official-");
    let dir = databases.as_ref().map(tempfile::TempDir::path);
    let engine = engine(dir);
    let signatures = engine.info().signatures;
    assert!(engine.prefilter().off().is_none(), "the prefilter is off");
    let logs = logs();
    let ordinary = logs
        .iter()
        .filter(|log| !log.name.starts_with("windows-events"));
    let lines: Vec<&[u8]> = ordinary
        .flat_map(|log| &log.lines)
        .map(Vec::as_slice)
        .collect();
    let windows = logs
        .iter()
        .filter(|log| log.name.starts_with("windows-events"));
    let windows: Vec<&[u8]> = windows
        .flat_map(|log| &log.lines)
        .map(Vec::as_slice)
        .collect();
    let step = number("BENCH_STEP", 100);
    let sample: Vec<&[u8]> = lines.iter().copied().step_by(step).collect();
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    let conditions = format!(
        "{signatures} signatures, {} lines of {} B in the mean; slow contenders get every {step}th",
        lines.len(),
        bytes / lines.len()
    );
    println!("{conditions}");
    let over_scan = over_scan(&engine, &logs);
    println!("{over_scan}");

    let raw = Detector::builder()
        .engine(engine.clone())
        .views(ViewSet::RAW);
    let raw = raw.build().expect("a detector");
    let all = Detector::builder()
        .engine(engine.clone())
        .rules(RuleSet::builtin());
    let all = all.build().expect("a detector");
    let rules = Detector::builder().rules(RuleSet::builtin());
    let rules = rules.build().expect("a detector");
    let clamds = dir.map(|dir| [false, true].map(|cache| Clamd::start(dir, &tmp_dir(), cache, 4)));
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for threads in [1, 2] {
        let (raw, all) = (&raw, &all);
        for (name, detector, how) in [
            ("scanner, raw, no rules", raw, How::Raw),
            ("scanner, raw, no rules, one by one", raw, How::RawOneByOne),
            ("scanner, all views, rules", all, How::Messages),
            (
                "scanner, all views, rules, one by one",
                all,
                How::MessagesOneByOne,
            ),
        ] {
            add(
                &mut contenders,
                name,
                threads,
                false,
                Box::new(move |lines| scan(detector, threads, how, lines)),
            );
        }
    }
    add(
        &mut contenders,
        "scanner, rules alone",
        1,
        false,
        Box::new(|lines| scan(&rules, 1, How::Messages, lines)),
    );
    let direct = |lines: Lines<'_>, threads: usize| -> usize {
        thread::scope(|scope| {
            let engine = &engine;
            let part = move |start: usize| {
                let mine = lines.iter().skip(start).step_by(threads);
                let one = |line: &&&[u8]| {
                    let scan = engine.scan(Payload::Bytes(line), &Request::new());
                    !scan.expect("the scan failed").names.is_empty()
                };
                mine.filter(one).count()
            };
            let workers: Vec<_> = (0..threads)
                .map(|start| scope.spawn(move || part(start)))
                .collect();
            workers
                .into_iter()
                .map(|one| one.join().expect("a worker"))
                .sum()
        })
    };
    for threads in [1, 2] {
        add(
            &mut contenders,
            "libclamav, called directly",
            threads,
            true,
            Box::new(move |lines| direct(lines, threads)),
        );
    }
    if let Some([without, with]) = &clamds {
        if let Some(clamd) = without {
            for connections in [1, 2] {
                add(
                    &mut contenders,
                    "clamd, INSTREAM",
                    connections,
                    true,
                    Box::new(move |lines| sessions(clamd, connections, lines)),
                );
            }
            add(
                &mut contenders,
                "clamd, a connection a message",
                1,
                true,
                Box::new(|lines| lines.iter().filter(|line| clamd.once(line)).count()),
            );
        }
        if let Some(clamd) = with {
            // After the first round it has seen every line; the middle round is its cache's.
            add(
                &mut contenders,
                "clamd, INSTREAM, its cache warm",
                1,
                true,
                Box::new(|lines| sessions(clamd, 1, lines)),
            );
        }
        if without.is_none() {
            println!("left out: clamd (make bench installs it)");
        }
    }
    if let Some(dir) = dir {
        add(
            &mut contenders,
            "clamscan, its start included",
            1,
            true,
            Box::new(move |lines| clamscan(dir, lines)),
        );
    }

    let mut rows: Vec<Row> = contenders
        .iter()
        .map(|one| Row {
            name: one.name.to_owned(),
            threads: one.threads,
            messages: if one.slow { sample.len() } else { lines.len() },
            rounds: Vec::new(),
            found: 0,
        })
        .collect();
    for round in 0..number("BENCH_ROUNDS", 5) {
        for (one, row) in contenders.iter().zip(&mut rows) {
            let lines = if one.slow { &sample } else { &lines };
            let start = Instant::now();
            row.found = (one.run)(lines);
            row.rounds
                .push(start.elapsed().as_secs_f64() / lines.len() as f64);
        }
        eprintln!("round {}", round + 1);
    }
    let start = Instant::now();
    let found = scan(&raw, 1, How::Raw, &windows);
    let windows = (!windows.is_empty()).then(|| {
        let each = start.elapsed().as_secs_f64() * 1e6 / windows.len() as f64;
        let bytes: usize = windows.iter().map(|line| line.len()).sum();
        format!(
            "windows-events apart: {} lines of {} B, {each:.2} µs each (raw, no rules, one thread), {found} found.\n",
            windows.len(),
            bytes / windows.len()
        )
    });

    let references = ["clamd, INSTREAM", "libclamav, called directly"];
    let table = table::markdown(&rows, &references);
    println!("{table}");
    let windows = windows.unwrap_or_default();
    println!("{windows}");
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    std::fs::create_dir_all(&out).expect("a directory");
    let text = format!(
        "{}\n\n{conditions}\n\n{table}\n{windows}\n{over_scan}",
        surroundings()
    );
    std::fs::write(out.join("peers.md"), text).expect("a file");
    let chart = table::chart(
        &rows,
        "Log messages a second (each step is ten times as many)",
    );
    std::fs::write(out.join("peers.svg"), chart).expect("a file");
    println!("see {}", out.display());
}
