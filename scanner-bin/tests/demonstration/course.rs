//! The course of the demonstration.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::Pod;
use crate::quota::Quota;
use crate::report::{Conditions, Count, Eviction, Fault, Rate, Run, Verdict};
use crate::stage::{PARTITIONS, PATIENCE, Stage};
use crate::support::client::Outgoing;
use crate::support::machine::{Machine, is_niced};
use crate::support::process::signal;
use crate::support::scene::{Scene, line, planted};
use crate::support::tally::{Millis, Tally};
use crate::support::{corpus, load, now_ms, wait_for};
use crate::watch::Watch;

/// Each number of pods is measured for so long.
const WINDOW: Duration = Duration::from_secs(20);
/// How long pods work before they are measured, and after something has happened to one.
const WARM_UP: Duration = Duration::from_secs(5);
/// Fewer records than this do not wait while a full topic is worked off.
const FULL: i64 = 100_000;

/// Sets a flag when it is dropped: also after a failed assertion, or a scope waits for its threads for ever.
struct SetAtTheEnd<'f>(&'f AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A pod that went, and what is to be looked up in the results.
struct Gone {
    partitions: BTreeSet<i32>,
    span: std::ops::RangeInclusive<Millis>,
}

pub fn demonstrate(stage: &Stage) -> Run {
    let scene = &stage.scene();
    let watch = Watch::new(scene);
    let mut run = Run::default();
    let finished = AtomicBool::new(false);
    let (deleted, killed) = std::thread::scope(|scope| {
        scope.spawn(|| watch.keep_looking(&finished));
        let _at_the_end = SetAtTheEnd(&finished);
        let lines = corpus::log_lines(3_000);
        one_pod(stage, &watch, &mut run);
        find_the_planted(stage, scene, &mut run);
        measure_rates(stage, scene, &watch, &lines, &mut run);
        run.conditions = conditions(stage, &lines);
        let gone = lose_pods(stage, scene, &watch, &lines, &mut run);
        back_to_one(stage, scene, &watch, &mut run);
        gone
    });
    (run.samples, run.events) = watch.into_parts();
    count(scene, &mut run, &deleted, &killed);
    run.void = run.find_void();
    run
}

fn conditions(stage: &Stage, lines: &[Vec<u8>]) -> Conditions {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let pods = stage.cluster.pods();
    let version = stage.cluster.kubectl(&["version"]);
    let server = version
        .lines()
        .find_map(|line| line.strip_prefix("Server Version: v"));
    Conditions {
        cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        kubernetes: server
            .expect("kubectl tells no server's version")
            .to_owned(),
        broker: stage.broker.version(),
        partitions: PARTITIONS,
        limit: quota(stage, &pods[0])
            .share()
            .expect("the pod has no limit"),
        signatures: pods[0].scrape().unwrap().get("scanner_signatures_loaded") as u64,
        lines: lines.len(),
        bytes_per_line: lines.iter().map(Vec::len).sum::<usize>() / lines.len(),
    }
}

fn quota(stage: &Stage, pod: &Pod) -> Quota {
    Quota::of(
        stage
            .cluster
            .process(pod)
            .expect("a ready pod without a process"),
    )
}

fn one_pod(stage: &Stage, watch: &Watch<'_>, run: &mut Run) {
    watch.event("kubectl apply");
    let asked = Instant::now();
    stage.apply();
    let settled = stage.settled(1);
    run.first_ms = asked.elapsed().as_millis();
    run.first = stage.state(&settled);
    assert_eq!(settled[0].0.restarts, 0, "the pod was started again");
    watch.event("one pod is ready");
}

/// Each of the planted messages, and a clean one.
fn find_the_planted(stage: &Stage, scene: &Scene<'_>, run: &mut Run) {
    let clean = line(1);
    let messages: Vec<_> = planted()
        .into_iter()
        .map(|(text, _)| text)
        .chain([clean])
        .collect();
    let places = scene.produce(messages.iter().cloned().map(Outgoing::of));
    let answers = scene.wait_until_answered(PATIENCE);
    for (message, place) in messages.iter().zip(places) {
        let answer = answers
            .iter()
            .find(|answer| answer.place() == place)
            .unwrap();
        answer.assert_valid();
        let text = |name: &str| answer.json[name].as_str().unwrap_or_default().to_owned();
        let finished = answer.json["engines"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, engine)| engine["state"] == "ok")
            .map(|(name, _)| name.as_str());
        run.verdicts.push(Verdict {
            text: String::from_utf8_lossy(message).into_owned(),
            status: text("status"),
            name: text("threat_name"),
            severity: text("severity"),
            engines: finished.collect::<Vec<_>>().join(", "),
        });
    }
    let pods = stage.cluster.pods();
    let log = wait_for("the threats in the pod's log", PATIENCE, || {
        let log = stage.cluster.log(&pods[0]);
        (log.matches("Threat detected").count() >= 4).then_some(log)
    });
    let threats = log.lines().filter(|line| line.contains("Threat detected"));
    run.log_lines = threats.map(str::to_owned).collect();
}

/// With more on the topic than they can do: one pod, then three, then until nothing waits.
fn measure_rates(
    stage: &Stage,
    scene: &Scene<'_>,
    watch: &Watch<'_>,
    lines: &[Vec<u8>],
    run: &mut Run,
) {
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| keep_full(scene, lines, watch, stop));
        let _at_the_end = SetAtTheEnd(stop);
        wait_for("a full topic", PATIENCE, || {
            (watch.look().lag >= FULL).then_some(())
        });
        watch.event("load: more than can be done");
        std::thread::sleep(WARM_UP);
        run.one = rate(stage, watch);

        watch.event("kubectl scale --replicas=3");
        let asked = Instant::now();
        scale(stage, 3);
        let settled = stage.settled(3);
        run.scaled_ms = asked.elapsed().as_millis();
        run.three = stage.state(&settled);
        watch.event("three pods, a partition each");
        assert!(
            stage.restarts().values().all(|restarts| *restarts == 0),
            "a pod was started again: {:?}",
            stage.restarts()
        );
        std::thread::sleep(WARM_UP);
        run.three_rate = rate(stage, watch);
    });
    watch.event("no more load");
    let asked = Instant::now();
    run.waited = watch.look().lag;
    scene.wait_until_committed(PATIENCE);
    run.drained_ms = asked.elapsed().as_millis();
    watch.event("nothing waits");
}

fn scale(stage: &Stage, replicas: usize) {
    let count = format!("--replicas={replicas}");
    stage
        .cluster
        .kubectl(&["scale", &count, "deployment/scanner"]);
}

/// More records as soon as fewer than enough wait.
fn keep_full(scene: &Scene<'_>, lines: &[Vec<u8>], watch: &Watch<'_>, stop: &AtomicBool) {
    let mut records = lines.iter().cycle().zip((0..PARTITIONS).cycle());
    while !stop.load(Ordering::Relaxed) {
        if watch.look().lag < FULL * 3 / 2 {
            let round = records.by_ref().take(50_000);
            scene.produce(
                round.map(|(line, partition)| Outgoing::of(line.clone()).partition(partition)),
            );
        } else {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// What all pods do in a window of time, and how much of their limits they use for it.
fn rate(stage: &Stage, watch: &Watch<'_>) -> Rate {
    let pods = stage.cluster.pods();
    let quotas: Vec<_> = pods.iter().map(|pod| quota(stage, pod)).collect();
    let used = || quotas.iter().map(Quota::used).collect::<Vec<_>>();
    let (machine, used_before, before) = (Machine::now(), used(), watch.look());
    std::thread::sleep(WINDOW);
    let (used_after, after) = (used(), watch.look());
    let seconds = after.second - before.second;
    let (idle, niced) = Machine::now().shares_since(&machine);
    // Where the pods give way themselves, niced processes do not give way to them.
    let left = if is_niced() { idle } else { idle + niced };
    let shares = quotas.iter().zip(used_before.iter().zip(&used_after));
    Rate {
        records: after.results - before.results,
        seconds,
        used: shares
            .map(|(quota, (before, after))| {
                let share = (*after - *before).as_secs_f64() / seconds;
                share / quota.share().expect("the pod has no limit")
            })
            .collect(),
        left,
        least_lag: watch.least_lag(before.second),
    }
}

/// With half of what three pods can do: one is deleted, one is killed, and two are asked to go at once.
fn lose_pods(
    stage: &Stage,
    scene: &Scene<'_>,
    watch: &Watch<'_>,
    lines: &[Vec<u8>],
    run: &mut Run,
) -> (Gone, Gone) {
    let per_second = run.three_rate.per_second() / 2.0;
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || load::paced(scene, lines, per_second, PARTITIONS, stop));
        let _at_the_end = SetAtTheEnd(stop);
        watch.event("load: half of what can be done");
        std::thread::sleep(WARM_UP);

        let before = stage.settled(3);
        let (pod, partitions) = before[0].clone();
        watch.event("kubectl delete pod");
        let (deleted, fault) = lose(stage, &pod, partitions, || {
            stage
                .cluster
                .kubectl(&["delete", "pod", &pod.name, "--wait=false"]);
        });
        run.deleted = fault;
        watch.event("three pods again");

        let before = stage.settled(3);
        let (pod, partitions) = before[1].clone();
        let pid = stage.cluster.process(&pod).unwrap();
        watch.event("kill -KILL");
        let (killed, fault) = lose(stage, &pod, partitions, || signal(pid, "KILL"));
        run.killed = fault;
        watch.event("a partition each again");

        run.eviction = evict_two(stage, watch);
        stage.settled(3);
        watch.event("three pods again");
        std::thread::sleep(WARM_UP);
        (deleted, killed)
    })
}

/// Something that ends a pod or its process, and the time until everything is as before.
fn lose(stage: &Stage, pod: &Pod, partitions: BTreeSet<i32>, end: impl FnOnce()) -> (Gone, Fault) {
    let (since, asked) = (now_ms(), Instant::now());
    end();
    // The pod is gone, or its container has been started again.
    wait_for("the end of the pod", PATIENCE, || {
        let pods = stage.cluster.pods();
        let it = pods.iter().find(|other| other.name == pod.name);
        it.is_none_or(|it| it.is_leaving || it.restarts > pod.restarts)
            .then_some(())
    });
    let settled = stage.settled(3);
    let healed_ms = asked.elapsed().as_millis();
    let state = stage.state(&settled);
    let restarts = stage.restarts().values().sum();
    std::thread::sleep(WARM_UP);
    let fault = Fault {
        pod: pod.name.clone(),
        healed_ms,
        restarts,
        state,
        ..Fault::default()
    };
    let span = since..=now_ms();
    (Gone { partitions, span }, fault)
}

/// The budget lets one go at a time: the second is refused until the first one's place is filled.
fn evict_two(stage: &Stage, watch: &Watch<'_>) -> Eviction {
    let pods = stage.cluster.pods();
    watch.event("two evictions at once");
    stage
        .cluster
        .evict(&pods[0])
        .expect("a pod must be allowed to go while all are ready");
    let reason = stage
        .cluster
        .evict(&pods[1])
        .expect_err("two pods at once may not go");
    let asked = Instant::now();
    wait_for("the second eviction", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(200));
        stage.cluster.evict(&pods[1]).ok()
    });
    watch.event("the second eviction is granted");
    Eviction {
        granted: pods[0].name.clone(),
        refused: pods[1].name.clone(),
        reason,
        granted_after_ms: asked.elapsed().as_millis(),
    }
}

fn back_to_one(stage: &Stage, scene: &Scene<'_>, watch: &Watch<'_>, run: &mut Run) {
    watch.event("kubectl scale --replicas=1");
    let asked = Instant::now();
    scale(stage, 1);
    let settled = stage.settled(1);
    run.back_ms = asked.elapsed().as_millis();
    run.last = stage.state(&settled);
    watch.event("one pod has all");
    scene.wait_until_committed(PATIENCE);
}

/// What the results say about all records, and about the time in which pods went.
fn count(scene: &Scene<'_>, run: &mut Run, deleted: &Gone, killed: &Gone) {
    let tally = Tally::of(scene);
    let ends = scene.broker.ends(&scene.input);
    let (lost, twice_killed, twice_others) = tally.count_apart(&ends, &killed.partitions);
    run.count = Count {
        records: ends.values().sum(),
        lost,
        twice_killed,
        twice_others,
        dead_letters: scene.broker.ends(&scene.dead_letters).values().sum(),
    };
    for (fault, gone) in [(&mut run.deleted, deleted), (&mut run.killed, killed)] {
        let gap = |own: bool| {
            let partitions = (0..PARTITIONS).filter(|id| gone.partitions.contains(id) == own);
            let gaps = partitions.map(|id| tally.longest_gap(id, &gone.span));
            gaps.max().unwrap_or_default()
        };
        fault.its_gap_ms = gap(true);
        fault.others_gap_ms = gap(false);
    }
}
