//! A long run at full rate: nothing grows, and every record is counted.
//!
//! `make soak` runs it for five minutes on a release build and holds it to its bounds; otherwise it runs for some seconds, and
//! only the count of records is held.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use support::broker::Broker;
use support::client::Outgoing;
use support::process::Scanner;
use support::scene::{Scene, line, planted};
use support::{announce, corpus, data, svg, wait_for, workspace};

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(120);
/// Records of one round of the load, and how many may be on their way.
const ROUND: usize = 5_000;
const ON_THE_WAY: f64 = 20_000.0;
/// Time between two looks at the process.
const SAMPLING: Duration = Duration::from_millis(250);
/// Time between two reloads.
const RELOAD: Duration = Duration::from_secs(20);
/// What minute five may have of what minute one had.
const GROWTH: f64 = 1.02;

/// What the process holds at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    second: f64,
    resident_kib: f64,
    tmpfs_kib: f64,
    files: f64,
    threads: f64,
    records: f64,
    reloads: f64,
}

impl Sample {
    fn of(scanner: &Scanner, tmp: &Path, started: Instant) -> Sample {
        let status = fs::read_to_string(format!("/proc/{}/status", scanner.pid())).unwrap();
        let field = |name: &str| -> f64 {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let scrape = scanner.scrape();
        Sample {
            second: started.elapsed().as_secs_f64(),
            resident_kib: field("VmRSS:"),
            tmpfs_kib: kib(tmp),
            files: fs::read_dir(format!("/proc/{}/fd", scanner.pid()))
                .unwrap()
                .count() as f64,
            threads: field("Threads:"),
            records: scrape.sum("scanner_results_produced_total"),
            reloads: scrape.sum("scanner_engine_reloads_total"),
        }
    }
}

/// Size of a directory's files; what vanishes meanwhile counts nothing.
fn kib(dir: &Path) -> f64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0.0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => kib(&entry.path()),
            Ok(metadata) => metadata.len() as f64 / 1024.0,
            Err(_) => 0.0,
        })
        .sum()
}

/// A round of the load: ordinary lines, and one bad record in a hundred.
fn round(number: usize) -> impl Iterator<Item = Outgoing> {
    let planted = planted();
    (0..ROUND).map(move |n| match n % 500 {
        100 => Outgoing::tombstone(),
        200 => Outgoing::of(Vec::new()),
        300 => Outgoing::of([&line(n), b"\xff\xfe\x00 not UTF-8".as_slice()].concat()),
        400 => Outgoing::of(br#"{"message": "broken"#.to_vec()),
        499 => Outgoing::of(planted[number % planted.len()].0.clone()),
        // Larger than a record may be: once in a round.
        1 if n == 1 => Outgoing::of(line(n).repeat(10_000)),
        _ => Outgoing::of(line(number * ROUND + n)),
    })
}

/// The middle value of a field over a minute: of three reloads, each of which holds two engines for a moment, none decides, nor
/// does how many megabytes librdkafka has fetched just then.
fn around(samples: &[Sample], end: f64, field: impl Fn(&Sample) -> f64) -> f64 {
    let window = samples
        .iter()
        .filter(|s| s.second > end - 60.0 && s.second <= end);
    let mut values: Vec<f64> = window.map(field).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A measure and its name.
type Field = (&'static str, fn(&Sample) -> f64);

/// A line for each measure, over time, each in a band of its own.
fn plot(samples: &[Sample], fields: &[Field]) -> String {
    const WIDTH: f64 = 900.0;
    const BAND: f64 = 110.0;
    let end = samples.last().unwrap().second;
    let height = BAND * fields.len() as f64;
    let mut svg = svg::page(WIDTH, height);
    for (place, (name, field)) in fields.iter().enumerate() {
        let top = samples.iter().map(field).fold(1.0, f64::max);
        let base = BAND * (place as f64 + 1.0) - 12.0;
        let points = samples.iter().map(|s| {
            let y = base - field(s) / top * (BAND - 40.0);
            (s.second / end * WIDTH, y)
        });
        writeln!(
            svg,
            "<text x='4' y='{:.0}'>{name}, up to {top:.0}</text>",
            base - BAND + 30.0
        )
        .unwrap();
        writeln!(svg, "<path d='M0,{base:.0}H{WIDTH}' stroke='#ccc'/>").unwrap();
        svg::line(&mut svg, points, 1.0);
    }
    svg + "</svg>\n"
}

/// Proves: at full rate, with reloads and bad records mixed in, every record gets its result, and (in the long form) memory,
/// temporary files, descriptors and threads are at the end what they were after a minute.
#[test]
fn a_long_run_loses_nothing_and_nothing_grows() {
    let seconds: u64 =
        std::env::var("SCANNER_TEST_SOAK_SECONDS").map_or(15, |text| text.parse().unwrap());
    let is_long = seconds >= 240;
    let scene = Scene::new(Broker::shared(), "soak", PARTITIONS);
    let databases = tempfile::tempdir().unwrap();
    // Enough signatures for a reload to weigh something, and few that slow a scan down.
    if let Some(hashes) = data("sigs/official-main-part1.hdb.zst") {
        fs::write(databases.path().join("main.hdb"), corpus::unpack(&hashes)).unwrap();
    }
    let change = |version: usize| {
        let partial = databases.path().join("soak.ndb.tmp");
        fs::write(
            &partial,
            format!("Soak.V{version}:0:*:{}\n", "6b".repeat(20)),
        )
        .unwrap();
        fs::rename(partial, databases.path().join("soak.ndb")).unwrap();
    };
    change(0);
    let mut scanner = scene
        .replica("scanner-0")
        .flag("--database", databases.path())
        .env("SCANNER_SCAN__RELOAD_INTERVAL", "1s")
        .start();
    scanner.wait_until_ready(PATIENCE);

    let started = Instant::now();
    let (mut samples, mut sent, mut reloads) = (Vec::new(), 0, 0);
    let mut next_sample = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(seconds) {
        if started.elapsed() >= next_sample {
            samples.push(Sample::of(&scanner, scene.tmp(), started));
            next_sample += SAMPLING;
        }
        if started.elapsed() >= RELOAD * (reloads + 1) {
            reloads += 1;
            change(reloads as usize);
        }
        if (sent as f64) - samples.last().unwrap().records < ON_THE_WAY {
            scene.produce(round(sent / ROUND));
            sent += ROUND;
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let places = scene.places();
    assert_eq!(places.len(), sent, "every record is on the topic");
    wait_for("a result for every record", PATIENCE, || {
        (scanner.scrape().sum("scanner_results_produced_total") >= sent as f64).then_some(())
    });
    scene.wait_until_committed(PATIENCE);
    let results: i64 = scene.broker.ends(&scene.output).values().sum();
    assert_eq!(results, sent as i64, "one result for each record");
    assert_eq!(
        scene.broker.ends(&scene.dead_letters).values().sum::<i64>(),
        0
    );
    scanner.terminate();
    assert_eq!(
        scanner.wait(PATIENCE).code(),
        Some(0),
        "{}",
        scanner.output()
    );

    let fields: [Field; 6] = [
        ("resident memory, KiB", |s| s.resident_kib),
        ("temporary files, KiB", |s| s.tmpfs_kib),
        ("file descriptors", |s| s.files),
        ("threads", |s| s.threads),
        ("records answered", |s| s.records),
        ("reloads", |s| s.reloads),
    ];
    let (first, last) = (60.0, seconds as f64);
    announce!("{sent} records in {seconds} s, {reloads} changes of the signatures");
    if !is_long {
        return;
    }
    let mut table = String::from("| | minute 1 | last minute | ratio |\n|---|---:|---:|---:|\n");
    for (name, field) in fields {
        let (early, late) = (
            around(&samples, first, field),
            around(&samples, last, field),
        );
        let ratio = if early == 0.0 { 1.0 } else { late / early };
        writeln!(table, "| {name} | {early:.0} | {late:.0} | {ratio:.3} |").unwrap();
    }
    let out = workspace().join("target/soak");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("soak.md"), &table).unwrap();
    fs::write(out.join("soak.svg"), plot(&samples, &fields)).unwrap();
    announce!("{table}see {}", out.display());
    for (name, field) in &fields[..4] {
        let (early, late) = (
            around(&samples, first, field),
            around(&samples, last, field),
        );
        // Nothing at all, as temporary files between two scans, has no ratio.
        assert!(
            late <= early * GROWTH || late < 1.0,
            "{name} grew from {early} to {late}"
        );
    }
    assert!(
        samples.last().unwrap().reloads >= f64::from(reloads - 1),
        "reloads happened"
    );
}
