//! One, two, three replicas of a fifth of a core each on a topic that is full: how much more they do together, what a change of
//! their number costs, and what becomes of the work of one that is killed.
//!
//! `make scaling` measures it on a release build and holds it to its bounds; otherwise it goes the same way in some seconds, and
//! only what does not depend on time is held.

// A harness that cannot go on panics, and its modules are used here alone.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod cgroup;
mod chart;
mod course;
mod pure;
mod replicas;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cgroup::Controller;
use course::{SetAtTheEnd, fill, measure};
use replicas::{Measuring, even};
use report::{LEAST_SPEEDUP, LONGEST_STALL_MS, Run};
use support::broker::Broker;
use support::scene::{LARGE, Scene};
use support::tally::Tally;
use support::{announce, corpus, data, workspace};
use watch::Watch;

const PARTITIONS: i32 = 6;
const REPLICAS: usize = 3;
/// Share of a core that each replica has.
const QUOTA: f64 = 0.2;
const PATIENCE: Duration = Duration::from_secs(180);

/// How much is done.
struct Plan {
    /// It is measured and held to the bounds.
    is_long: bool,
    window: Duration,
    /// How long a number of replicas works before it is measured.
    warm_up: Duration,
    signatures: Option<PathBuf>,
    /// How many different lines the topic has, and how many lines to begin with.
    lines: usize,
    at_first: usize,
}

/// Goes all the way. `None`, which has been announced, where it cannot be done.
fn run(plan: &Plan) -> Option<Run> {
    let broker = Broker::shared();
    if !broker.is_real() {
        assert!(
            !plan.is_long,
            "scaling is measured on a real Apache Kafka only"
        );
        announce!("left out: scaling, for the embedded broker rebalances slowly");
        return None;
    }
    let controller = match Controller::find().and_then(|controller| {
        controller.sweep();
        controller.group("trial", QUOTA).map(|_trial| controller)
    }) {
        Ok(controller) => Some(controller),
        Err(reason) => {
            assert!(
                !plan.is_long,
                "scaling needs control groups, and this process may not make them (are you root?): {reason}"
            );
            announce!(
                "left out: quotas for the replicas, for control groups cannot be made: {reason}"
            );
            None
        }
    };
    let scene = Scene::without_topics(broker, "scaling");
    broker.create_topic(&scene.input, PARTITIONS, &[LARGE]);
    // The broker stamps results when it has them: that is when they are acknowledged.
    broker.create_topic(
        &scene.output,
        PARTITIONS,
        &[LARGE, ("message.timestamp.type", "LogAppendTime")],
    );
    broker.create_topic(&scene.dead_letters, 1, &[LARGE]);
    let database = scene.tmp().join("signatures");
    if let Some(signatures) = &plan.signatures {
        fs::create_dir(&database).unwrap();
        corpus::official(signatures, &database);
    }
    let lines = corpus::log_lines(plan.lines);
    fill(&scene, &lines, plan.at_first);

    let watch = Watch::new(&scene);
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch.look(&finished));
        // Also after a failed assertion, or the scope waits for ever.
        let at_the_end = SetAtTheEnd(&finished);
        let mut measuring = Measuring {
            scene: &scene,
            plan,
            database: &database,
            controller,
            replicas: Vec::new(),
            watch: &watch,
        };
        let (mut run, spans) = measure(&mut measuring, &lines);
        drop(at_the_end);
        run.samples = watcher.join().unwrap();
        let tally = Tally::of(&scene);
        spans.fill_in(&mut run, &tally, &scene);
        run.void = run.find_void();
        Some(run)
    })
}

/// Writes JSON, table and chart, these two from what the file says.
fn publish(run: &Run, out: &Path) -> Run {
    fs::create_dir_all(out).unwrap();
    let file = out.join("scaling.json");
    fs::write(&file, serde_json::to_string(run).unwrap() + "\n").unwrap();
    let run: Run = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    fs::write(out.join("scaling.md"), run.markdown()).unwrap();
    fs::write(out.join("scaling.svg"), chart::chart(&run)).unwrap();
    run
}

/// Proves: replicas share the partitions 6, 3+3, 2+2+2 as they join; the partitions of a killed one are taken over, and no
/// record is without its result. With `make scaling`: three replicas do at least 2.8 times what one does, and partitions that stay where they
/// are have results again within half a second of any other's move.
#[test]
fn replicas_share_the_work_and_three_do_almost_three_times_as_much() {
    let seconds = std::env::var("SCANNER_TEST_SCALING_SECONDS").ok();
    let is_long = seconds.is_some();
    let window = seconds.map_or(Duration::from_secs(1), |text| {
        Duration::from_secs(
            text.parse()
                .expect("SCANNER_TEST_SCALING_SECONDS is a number of seconds"),
        )
    });
    let plan = Plan {
        is_long,
        window,
        warm_up: Duration::from_secs(if is_long { 5 } else { 1 }),
        signatures: if is_long {
            data("sigs/official-main-part1.ldb.zst").map(|file| file.parent().unwrap().to_owned())
        } else {
            None
        },
        lines: if is_long { 3_000 } else { 600 },
        at_first: if is_long { 300_000 } else { 10_000 },
    };
    let Some(run) = run(&plan) else { return };
    let out = workspace().join("target/scaling");
    let run = publish(
        &run,
        &if is_long {
            out.clone()
        } else {
            out.join("short")
        },
    );

    let count = &run.count;
    assert_eq!(count.lost, 0, "records without a result");
    assert_eq!(
        count.twice_others, 0,
        "only what the killed one had not committed is answered twice"
    );
    let shared: Vec<Vec<usize>> = run
        .steps
        .iter()
        .map(|step| step.owned.iter().map(Vec::len).collect())
        .collect();
    assert_eq!(shared, [even(1), even(2), even(3)]);
    assert_eq!(run.takeover.after, even(2));
    if !is_long {
        announce!(
            "scaling, a short form: {} records, {} answered twice",
            count.records,
            count.twice_killed
        );
        return;
    }
    announce!("{}see {}", run.markdown(), out.display());
    assert!(run.void.is_empty(), "the run is void: {:?}", run.void);
    for join in &run.joins {
        assert!(
            join.stayed_ms <= LONGEST_STALL_MS,
            "partitions that stayed with their replica had no results for {} ms when replica {} joined",
            join.stayed_ms,
            join.replicas
        );
    }
    let speedup = run.speedup(&run.steps[REPLICAS - 1]);
    assert!(
        speedup >= LEAST_SPEEDUP,
        "three replicas do {speedup:.2} times what one does"
    );
}
