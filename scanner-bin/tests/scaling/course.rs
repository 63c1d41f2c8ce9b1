//! The course of a run, and what its results are asked afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::replicas::{Measuring, even};
use crate::report::{Conditions, Count, Join, Run, Takeover};
use crate::support::client::Outgoing;
use crate::support::scene::Scene;
use crate::support::tally::{Millis, Tally, quantile};
use crate::support::{announce, load, machine, now_ms};
use crate::{PARTITIONS, PATIENCE, QUOTA, REPLICAS};

/// Around a join, that pauses are looked for in.
const AROUND: Millis = 3_000;
/// About as long as a replica loads its signatures, joins, and is waited for.
const COMING: Duration = Duration::from_secs(30);

/// Sets a flag when it is dropped.
pub struct SetAtTheEnd<'f>(pub &'f AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Puts so many lines on the topic, evenly.
pub fn fill(scene: &Scene<'_>, lines: &[Vec<u8>], count: usize) {
    const ROUND: usize = 100_000;
    let mut records = lines
        .iter()
        .cycle()
        .zip((0..PARTITIONS).cycle())
        .take(count);
    loop {
        let round = records.by_ref().take(ROUND);
        let sent = scene.produce(
            round.map(|(line, partition)| Outgoing::of(line.clone()).partition(partition)),
        );
        if sent.is_empty() {
            return;
        }
    }
}

/// What the run is made under.
fn conditions(m: &Measuring<'_>, lines: &[Vec<u8>]) -> Conditions {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let signatures = m.replicas[0]
        .scanner
        .scrape()
        .get("scanner_signatures_loaded");
    Conditions {
        cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        broker: m.scene.broker.version(),
        partitions: PARTITIONS,
        quota: m.controller.is_some().then_some(QUOTA),
        signatures: signatures as u64,
        lines: lines.len(),
        bytes_per_line: lines.iter().map(Vec::len).sum::<usize>() / lines.len(),
        window: m.plan.window.as_secs_f64(),
        niced_counts: !machine::is_niced(),
    }
}

/// The longest time without a result of any of these partitions.
fn pause<'p>(
    tally: &Tally,
    partitions: impl IntoIterator<Item = &'p i32>,
    span: &RangeInclusive<Millis>,
) -> Millis {
    let gaps = partitions
        .into_iter()
        .map(|partition| tally.longest_gap(*partition, span));
    gaps.max().unwrap_or_default()
}

/// What is looked up in the results afterwards, and when it was.
#[derive(Debug)]
pub struct Spans {
    steps: Vec<RangeInclusive<Millis>>,
    /// With the partitions that stayed.
    joins: Vec<(RangeInclusive<Millis>, BTreeSet<i32>)>,
    half_load: RangeInclusive<Millis>,
    takeover: RangeInclusive<Millis>,
}

impl Default for Spans {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            joins: Vec::new(),
            half_load: 0..=0,
            takeover: 0..=0,
        }
    }
}

impl Spans {
    pub fn fill_in(&self, run: &mut Run, tally: &Tally, scene: &Scene<'_>) {
        let all: BTreeSet<i32> = (0..PARTITIONS).collect();
        for (step, span) in run.steps.iter_mut().zip(&self.steps) {
            step.longest_gap_ms = pause(tally, &all, span);
        }
        for (join, (span, stayed)) in run.joins.iter_mut().zip(&self.joins) {
            join.stayed_ms = pause(tally, stayed, span);
            join.moved_ms = pause(tally, all.difference(stayed), span);
        }
        let killed: BTreeSet<i32> = run.takeover.partitions.iter().copied().collect();
        run.takeover.taken_over_ms = pause(tally, &killed, &self.takeover);
        run.takeover.others_ms = pause(tally, all.difference(&killed), &self.takeover);
        let latencies = tally.latencies(&self.half_load);
        run.half_load.records = latencies.len();
        run.half_load.p50_ms = quantile(&latencies, 0.5);
        run.half_load.p99_ms = quantile(&latencies, 0.99);
        run.half_load.most_ms = quantile(&latencies, 1.0);
        let ends = scene.broker.ends(&scene.input);
        let (lost, twice_killed, twice_others) = tally.count_apart(&ends, &killed);
        run.count = Count {
            records: ends.values().sum(),
            lost,
            twice_killed,
            twice_others,
        };
    }
}

/// The part in which time matters. What the results tell is left empty.
pub fn measure(m: &mut Measuring<'_>, lines: &[Vec<u8>]) -> (Run, Spans) {
    m.add();
    let alone = m.shared(&even(1));
    fill(m.scene, lines, needed(m));
    let mut run = Run {
        conditions: conditions(m, lines),
        ..Run::default()
    };
    let mut spans = Spans::default();
    let owned = work_off(m, alone, &mut run, &mut spans);
    m.scene.wait_until_committed(PATIENCE * 3);
    half_load(m, lines, &owned, &mut run, &mut spans);
    m.scene.wait_until_committed(PATIENCE);
    for replica in &m.replicas {
        replica.scanner.terminate();
    }
    for replica in &mut m.replicas {
        let status = replica.scanner.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", replica.scanner.output());
    }
    (run, spans)
}

/// How much the topic needs so that it does not run dry: seen from what one replica does with what is there.
fn needed(m: &Measuring<'_>) -> usize {
    if !m.plan.is_long {
        return 5_000;
    }
    let before = m.results();
    std::thread::sleep(m.plan.warm_up);
    let per_second = (m.results() - before) as f64 / m.plan.warm_up.as_secs_f64();
    let time = (m.plan.window + m.plan.warm_up + COMING).as_secs_f64();
    // 1 + 2 + 3 replicas, and some more, for this was a glance.
    let needed = per_second * time * 6.0 * 1.2;
    announce!(
        "scaling: one replica does about {per_second:.0} records/s; {needed:.0} records are put on the topic"
    );
    needed as usize
}

/// Each number of replicas, measured, and the next one joining. Returns who owns what in the end.
fn work_off(
    m: &mut Measuring<'_>,
    alone: Vec<BTreeSet<i32>>,
    run: &mut Run,
    spans: &mut Spans,
) -> Vec<BTreeSet<i32>> {
    let sizes = |owned: &[BTreeSet<i32>]| owned.iter().map(BTreeSet::len).collect();
    let mut owned = alone;
    loop {
        let (step, span) = m.step(&owned);
        run.steps.push(step);
        spans.steps.push(span);
        if m.replicas.len() == REPLICAS {
            return owned;
        }
        let joined = m.add();
        let replicas = m.replicas.len();
        let after = m.shared(&even(replicas));
        run.joins.push(Join {
            replicas,
            before: sizes(&owned),
            after: sizes(&after),
            settled_ms: now_ms() - joined,
            ..Join::default()
        });
        let pairs = owned.iter().zip(&after);
        let stayed = pairs.flat_map(|(before, after)| before & after).collect();
        spans.joins.push((joined..=now_ms() + AROUND, stayed));
        owned = after;
    }
}

/// All replicas with half of what they can do, and then one of them is killed.
fn half_load(
    m: &mut Measuring<'_>,
    lines: &[Vec<u8>],
    owned: &[BTreeSet<i32>],
    run: &mut Run,
    spans: &mut Spans,
) {
    let per_second = if m.plan.is_long {
        run.steps[REPLICAS - 1].per_second() / 2.0
    } else {
        500.0
    };
    run.half_load.per_second = per_second;
    let (scene, stop) = (m.scene, &AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(move || load::paced(scene, lines, per_second, PARTITIONS, stop));
        let _at_the_end = SetAtTheEnd(stop);
        std::thread::sleep(m.plan.warm_up);
        let from = now_ms();
        std::thread::sleep(m.plan.window);
        spans.half_load = from..=now_ms();
        // What was sent in that time is answered before the kill.
        std::thread::sleep(m.plan.warm_up);

        let mut killed = m.replicas.remove(0);
        let since = now_ms();
        killed.scanner.kill();
        m.watch.set_replicas(REPLICAS - 1);
        let after = m.shared(&even(REPLICAS - 1));
        run.takeover = Takeover {
            partitions: owned[0].iter().copied().collect(),
            after: after.iter().map(BTreeSet::len).collect(),
            after_ms: now_ms() - since,
            ..Takeover::default()
        };
        std::thread::sleep(m.plan.warm_up);
        spans.takeover = since..=now_ms();
    });
}
