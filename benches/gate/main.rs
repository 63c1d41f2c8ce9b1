//! The prefilter's gate alone, in bytes a second: by kind of message and by signatures.
//!
//! ClamAV's own signatures hold a few hashes for files of any size, for which each message's digest is taken, and many for one size; the gate is measured
//! with them and without, by the time that it was on a CPU. Without the test data lines are made here, and the signatures are the built-in one, which is said.

// A bench that cannot go on panics, and criterion's macro makes an item that nobody can document.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod cpu_time;

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;

use benches::{Log, databases, engine, logs, payloads, surroundings, syslog_line};
use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scanlib::prefilter::{Gate, Prefilter, Scratch};

/// Lines of each kind.
const LINES: usize = 200;

/// Messages of one kind.
struct Kind {
    name: &'static str,
    lines: Vec<Vec<u8>>,
}

fn kinds() -> Vec<Kind> {
    let (logs, attacks): (Vec<Log>, Vec<Log>) = (logs(), payloads().into_iter().collect());
    // Some that are in the test data's files, or else made of a line.
    let of = |name: &'static str,
              logs: &[Log],
              file: &str,
              is: &dyn Fn(&[u8]) -> bool,
              made: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let log = logs.iter().filter(|log: &&Log| log.name.starts_with(file));
        let all: Vec<&Vec<u8>> = log
            .flat_map(|log| &log.lines)
            .filter(|line| is(line))
            .collect();
        let step = (all.len() / LINES).max(1);
        let mut lines: Vec<Vec<u8>> = all.into_iter().step_by(step).take(LINES).cloned().collect();
        if lines.is_empty() {
            println!("{name}: made up");
            lines = (0..LINES)
                .map(|number| made(syslog_line(100 + number)))
                .collect();
        }
        Kind { name, lines }
    };
    let any = |_: &[u8]| true;
    let has =
        |text: &'static [u8]| move |line: &[u8]| line.windows(text.len()).any(|part| part == text);
    let plain =
        |line: &[u8]| line.iter().all(|byte| (b' '..=b'~').contains(byte)) && !has(b"  ")(line);
    let behind = |text: &'static str| move |line: Vec<u8>| [&line, text.as_bytes()].concat();
    let spread = |line: Vec<u8>| {
        line.iter()
            .flat_map(|&byte| {
                if byte == b' ' {
                    vec![b' ', b' ']
                } else {
                    vec![byte]
                }
            })
            .collect()
    };
    vec![
        of("short syslog", &logs, "auth-elastic", &plain, &|line| line),
        of("access log", &logs, "web-apache", &plain, &|line| line),
        of(
            "JSON",
            &logs,
            "zeek-json",
            &plain,
            &behind("{\"a\":[1,2,\"b\"]}"),
        ),
        of(
            "long Windows event",
            &logs,
            "windows-events",
            &any,
            &|line| line.repeat(15),
        ),
        of(
            "double spaces",
            &logs,
            "loghub-",
            &|line| has(b"  ")(line) && !has(b"\t")(line),
            &spread,
        ),
        of("tabs", &logs, "", &has(b"\t"), &behind("\ta\tb\tc")),
        of(
            "not ASCII",
            &logs,
            "",
            &|line| !line.is_ascii(),
            &behind(" grüße, привет"),
        ),
        of(
            "HTML tag",
            &attacks,
            "",
            &has(b"<script"),
            &behind(" q=<script>alert(1)</script>"),
        ),
        // No log of the test data has such.
        of(
            "binary bytes",
            &logs,
            "no such log",
            &any,
            &behind("\u{1}\u{2}\0"),
        ),
    ]
}

/// Takes hashes out of the files of a directory, those for files of any size or all; returns how many there were.
fn remove_hashes(dir: &Path, all: bool) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|ending| ending == "hdb" || ending == "hsb")
        {
            let text = fs::read_to_string(&path)?;
            let (out, kept): (Vec<&str>, Vec<&str>) = text
                .lines()
                .partition(|line| all || line.split(':').nth(1) == Some("*"));
            removed += out.len();
            // libclamav refuses a file with nothing in it.
            match kept.is_empty() {
                true => fs::remove_file(&path)?,
                false => fs::write(&path, kept.join("\n") + "\n")?,
            }
        }
    }
    Ok(removed)
}

fn measure(c: &mut Criterion<CpuTime>, name: &str, prefilter: &Prefilter, kinds: &[Kind]) {
    assert!(prefilter.off().is_none(), "{name}: {:?}", prefilter.off());
    let mut group = c.benchmark_group(format!("gate, {name}"));
    let mut scratch = Scratch::default();
    for Kind { name, lines } in kinds {
        let bytes: usize = lines.iter().map(Vec::len).sum();
        let check = |scratch: &mut Scratch| -> usize {
            let cleared =
                |line: &&Vec<u8>| prefilter.check(black_box(line), scratch) == Gate::Cleared;
            lines.iter().filter(cleared).count()
        };
        println!(
            "{name}: {} lines, mean {} B, {} cleared",
            lines.len(),
            bytes / lines.len(),
            check(&mut scratch)
        );
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| check(&mut scratch))
        });
    }
    group.finish();
}

fn gate(c: &mut Criterion<CpuTime>) {
    println!("{}", surroundings());
    let kinds = kinds();
    measure(c, "built-in", engine(None, true).prefilter(), &kinds);
    let Some(official) = databases("official-") else {
        return;
    };
    measure(
        c,
        "official",
        engine(Some(official.path()), true).prefilter(),
        &kinds,
    );
    // Nearly every length has some hash, so that a digest is taken of most messages all the same.
    for (name, all) in [
        ("official, no unsized hashes", false),
        ("official, no hashes", true),
    ] {
        let removed = remove_hashes(official.path(), all).expect("the signatures are ours");
        println!("{removed} hashes are taken out");
        let engine = engine(Some(official.path()), true);
        measure(c, name, engine.prefilter(), &kinds);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = gate
}
criterion_main!(benches);
