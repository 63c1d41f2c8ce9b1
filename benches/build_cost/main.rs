//! What the prefilter adds to a load of a full-size set of signatures: time and memory, beside libclamav's own.
//!
//! Each load is a process of its own, in turn with the prefilter and without it (`BENCH_ROUNDS`, 3 of each; the middle one counts).
//! `BENCH_HASHES` (8,700,000) and `BENCH_TIMES` (5: every other signature so many times) set the size. Fails if the prefilter takes
//! longer than libclamav, or more than a tenth of its memory.

// A bench that cannot go on panics, and nobody documents a program's parts.
#![allow(
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]

mod set;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use benches::child::{self, Numbers, tell};
use benches::memory::{forget_peak, peak_bytes, resident_bytes};
use benches::{is_only_tested, number, surroundings, tmp_dir};
use scanlib::{BuildStep, EngineBuilder, Library, Progress};

/// Of libclamav's memory, at the peak.
const MOST_MEMORY: f64 = 0.10;

/// What happens between two calls that tell how far libclamav has come.
#[derive(Default)]
struct Phases {
    load: Option<(Instant, Instant)>,
    compile: Option<(Instant, Instant)>,
}

impl Phases {
    fn hear(&mut self, at: Progress<'_>) {
        let now = Instant::now();
        let (span, is_compile) = match at.step {
            BuildStep::Load(_) => (&mut self.load, false),
            _ => (&mut self.compile, true),
        };
        let is_first = span.is_none();
        span.get_or_insert((now, now)).1 = now;
        // The prefilter reads while libclamav loads, or a little longer, and is built when libclamav has compiled.
        if is_first && is_compile {
            tell("peak_read", peak_bytes() as f64);
            forget_peak();
        } else if at.done == at.total {
            let name = if is_compile { "compile" } else { "load" };
            tell(&format!("peak_{name}"), peak_bytes() as f64);
            tell(name, resident_bytes() as f64);
            forget_peak();
        }
    }
}

/// One load.
fn child(prefilter: bool) {
    let dir = std::env::var("BENCH_SET").expect("the signatures");
    let phases = Arc::new(Mutex::new(Phases::default()));
    let ours = Arc::clone(&phases);
    let builder =
        EngineBuilder::new(Library::init().expect("libclamav starts")).expect("an engine");
    let builder = builder
        .tmp_dir(tmp_dir())
        .prefilter(prefilter)
        .database(Path::new(&dir))
        .expect("signatures");
    let builder = builder.progress(move |at| ours.lock().expect("nobody panics").hear(at));
    tell("start", resident_bytes() as f64);
    let started = Instant::now();
    let engine = builder.compile().expect("an engine that compiles");
    tell("seconds_all", started.elapsed().as_secs_f64());
    tell("peak_build", peak_bytes() as f64);
    tell("build", resident_bytes() as f64);
    let phases = phases.lock().expect("nobody panics");
    let seconds =
        |span: Option<(Instant, Instant)>| span.map_or(0.0, |(from, to)| (to - from).as_secs_f64());
    tell("seconds_load", seconds(phases.load));
    tell("seconds_compile", seconds(phases.compile));
    tell("signatures", engine.info().signatures as f64);
    let summary = engine.prefilter().summary();
    tell("seconds_prefilter", summary.build_time.as_secs_f64());
    tell("tables", summary.memory_bytes as f64);
    tell("texts", (summary.texts + summary.raw_texts) as f64);
    assert!(
        engine.prefilter().off().is_none() == prefilter,
        "{:?}",
        engine.prefilter().off()
    );
}

fn main() {
    match child::role().as_deref() {
        Some(role) => child(role == "on"),
        None if is_only_tested() => {}
        None => parent(),
    }
}

fn parent() {
    println!("{}", surroundings());
    let set = set::make(number("BENCH_HASHES", 8_700_000), number("BENCH_TIMES", 5))
        .expect("room for the signatures");
    println!(
        "{} hashes, {} other signatures, {} MB in {}",
        set.hashes,
        set.texts,
        set.bytes / 1_000_000,
        tmp_dir().display()
    );
    let dir = set.dir.path().to_string_lossy();
    let variables = [("BENCH_SET", &*dir)];
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for round in 1..=number("BENCH_ROUNDS", 3) {
        off.push(child::measure("off", &variables));
        on.push(child::measure("on", &variables));
        eprintln!("round {round}");
    }
    report(&on, &off, set.is_real);
}

fn report(on: &[Numbers], off: &[Numbers], is_real: bool) {
    let with = |name: &str| Numbers::middle(on, name);
    let without = |name: &str| Numbers::middle(off, name);
    let libclamav = without("seconds_load") + without("seconds_compile");
    let prefilter = with("seconds_prefilter");
    // What the process has more than it would have, at the worst moment of each phase. While libclamav loads it grows, so that
    // this moment is at the end.
    let held = without("build") - without("start");
    let more = |phase: &str| with(phase) - without(phase);
    let load = with("peak_load").max(with("peak_read")) - without("load");
    let build = with("peak_build") - without("compile");
    let peak = [load, more("peak_compile"), build]
        .into_iter()
        .fold(0.0, f64::max);
    let mb = |bytes: f64| bytes / 1e6;
    println!(
        "\n{} signatures; {} texts are looked for, the tables take {:.0} MB\n",
        with("signatures"),
        with("texts"),
        mb(with("tables"))
    );
    println!("| | libclamav alone | the prefilter adds | of libclamav's |\n|---|---:|---:|---:|");
    println!(
        "| seconds, the two beside each other (libclamav: load {:.1}, compile {:.1}) | {libclamav:.1} | {prefilter:.1} | {:.0} % |",
        without("seconds_load"),
        without("seconds_compile"),
        100.0 * prefilter / libclamav
    );
    let row = |name: &str, bytes: f64| {
        println!(
            "| {name} | {:.0} | {:.0} | {:.1} % |",
            mb(held),
            mb(bytes),
            100.0 * bytes / held
        )
    };
    row("MB, peak while libclamav loads and files are read", load);
    row("MB, peak while libclamav compiles", more("peak_compile"));
    row("MB, peak while tables are built", build);
    row("MB, afterwards", more("build"));
    let (all, without) = (with("seconds_all"), without("seconds_all"));
    println!(
        "\nuntil the engine is there, files' digests included: {without:.1} s without, {all:.1} s with the prefilter (× {:.2})",
        all / without
    );
    // The bounds are for the real mix.
    assert!(
        !is_real || prefilter < libclamav,
        "the prefilter takes longer than libclamav"
    );
    // Some tables are as large for few signatures as for many, so that a small set says nothing about memory.
    assert!(
        !is_real || peak < MOST_MEMORY * held,
        "the prefilter takes more than a tenth of libclamav's memory"
    );
}
