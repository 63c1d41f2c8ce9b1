//! Hostile records among ordinary ones: each costs its own verdict and nothing else.
//!
//! Each file of `tests/hostile` in the workspace is a kind of record, with what may come of it. `make hostile` mixes them into traffic at
//! full rate on a release build and holds the throughput to its bounds; otherwise some thousand records go the same way, and what does
//! not depend on time is held: each record is answered once with a verdict that is allowed, the probes answer 200 throughout, and the
//! replica keeps its partitions and its process.

// A harness that cannot go on panics, and its modules are used here alone.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod kinds;
mod probes;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use std::sync::Mutex;
use std::time::Duration;

use kinds::{Kind, Weight};
use support::announce;
use traffic::{HEAVY_PARTITION, Isolation, Mix, PARTITIONS, Run};

/// Hostile records among a hundred.
const PERCENT: usize = 3;
/// Records of the short form.
const SHORT: usize = 3_000;
const SHORT_PATIENCE: Duration = Duration::from_secs(90);
/// What light records may take: of the throughput without them this much is left.
const LEAST_BESIDE_LIGHT: f64 = 0.9;
/// The same for heavy ones, on the partitions that have none.
const LEAST_BESIDE_HEAVY: f64 = 0.5;
/// Pairs of runs, with light records and without, of which the middle one counts.
const PAIRS: usize = 3;
/// Heavy records of each kind, and bombs, in the long form.
const HEAVY_EACH: usize = 5;
const BOMBS: usize = 15;
const LONG_PATIENCE: Duration = Duration::from_secs(600);

/// One run at a time: a bound on throughput means nothing beside another.
static ALONE: Mutex<()> = Mutex::new(());

/// The number of ordinary records of a long run, if that is asked for.
fn long() -> Option<usize> {
    let records = std::env::var("SCANNER_TEST_HOSTILE_RECORDS").ok()?;
    Some(
        records
            .parse()
            .expect("SCANNER_TEST_HOSTILE_RECORDS is no number"),
    )
}

fn of(kinds: &[Kind], isolation: Isolation, weight: Weight) -> impl Iterator<Item = &Kind> + Clone {
    kinds
        .iter()
        .filter(move |kind| kind.weight == weight && kind.is_for(isolation.as_str()))
}

/// So many light records that they are [`PERCENT`] of all.
fn light(kinds: &[Kind], isolation: Isolation, ordinary: usize) -> Vec<&Kind> {
    let count = ordinary * PERCENT / (100 - PERCENT);
    of(kinds, isolation, Weight::Light)
        .cycle()
        .take(count)
        .collect()
}

/// Light records everywhere, and each heavy one and each bomb once.
fn short(kinds: &[Kind], isolation: Isolation) {
    let heavy = of(kinds, isolation, Weight::Heavy).chain(of(kinds, isolation, Weight::Bomb));
    let mut hostile = light(kinds, isolation, SHORT);
    // Spread among them, so that something lies behind each.
    for (number, kind) in heavy.enumerate() {
        hostile.insert((number * 7) % (hostile.len() + 1), kind);
    }
    let mix = Mix {
        ordinary: SHORT,
        hostile,
        hostile_partition: None,
        with_signatures: false,
        patience: SHORT_PATIENCE,
    };
    let run = mix.run("hostile", isolation);
    hold(
        &run,
        &format!("all kinds, isolation {}", isolation.as_str()),
    );
}

fn table(run: &Run, what: &str) {
    announce!(
        "\n{what}: {:.0} ordinary records/s, {:.0} on partitions without heavy ones; {} rounds of probes, {} answers but 200",
        run.per_second,
        run.per_second_beside,
        run.probes.rounds,
        run.probes.failures.len()
    );
    announce!(
        "{:<22} {:>8} {:>12}  results",
        "kind",
        "records",
        "last after"
    );
    for (name, row) in &run.rows {
        let outcomes: Vec<String> = row
            .outcomes
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        announce!(
            "{name:<22} {:>8} {:>9} ms  {}",
            row.records,
            row.last_ms,
            outcomes.join(", ")
        );
    }
}

/// Panics with everything that is not as it should be.
#[track_caller]
fn hold(run: &Run, what: &str) {
    table(run, what);
    let count = run.objections.len();
    let first: Vec<_> = run.objections.iter().take(40).cloned().collect();
    assert!(
        count == 0,
        "{what}: {count} objections:\n{}",
        first.join("\n")
    );
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn long_form(kinds: &[Kind], isolation: Isolation, ordinary: usize) {
    let mix = |hostile, hostile_partition| Mix {
        ordinary,
        hostile,
        hostile_partition,
        with_signatures: true,
        patience: LONG_PATIENCE,
    };
    let mode = isolation.as_str();
    let (mut shares, mut beside) = (Vec::new(), Vec::new());
    for pair in 1..=PAIRS {
        let without = mix(Vec::new(), None).run("hostile-none", isolation);
        hold(
            &without,
            &format!("isolation {mode}, pair {pair}, nothing hostile"),
        );
        let with = mix(light(kinds, isolation, ordinary), None).run("hostile-light", isolation);
        hold(
            &with,
            &format!("isolation {mode}, pair {pair}, {PERCENT} % light"),
        );
        shares.push(with.per_second / without.per_second);
        beside.push(without.per_second_beside);
    }
    let bombs = of(kinds, isolation, Weight::Bomb).cycle().take(BOMBS);
    let heavy = of(kinds, isolation, Weight::Heavy);
    let heavy = heavy.flat_map(|kind| std::iter::repeat_n(kind, HEAVY_EACH));
    let heavy = mix(bombs.chain(heavy).collect(), Some(HEAVY_PARTITION));
    let heavy = heavy.run("hostile-heavy", isolation);
    hold(
        &heavy,
        &format!("isolation {mode}, heavy ones on partition {HEAVY_PARTITION} of {PARTITIONS}"),
    );
    let light_share = median(shares);
    let heavy_share = heavy.per_second_beside / median(beside);
    announce!(
        "\nisolation {mode}: {light_share:.3} of the throughput beside light records (at least {LEAST_BESIDE_LIGHT}), {heavy_share:.3} beside heavy ones (at least {LEAST_BESIDE_HEAVY})"
    );
    assert!(
        light_share >= LEAST_BESIDE_LIGHT,
        "{light_share:.3} beside light records"
    );
    assert!(
        heavy_share >= LEAST_BESIDE_HEAVY,
        "{heavy_share:.3} beside heavy records"
    );
}

fn run(isolation: Isolation) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let wanted = std::env::var("SCANNER_TEST_HOSTILE_ISOLATION").unwrap_or_default();
    if !wanted.is_empty() && wanted != isolation.as_str() {
        announce!(
            "left out: isolation {}, as SCANNER_TEST_HOSTILE_ISOLATION says",
            isolation.as_str()
        );
        return;
    }
    let mut kinds = Kind::all();
    let only = std::env::var("SCANNER_TEST_HOSTILE_KINDS").unwrap_or_default();
    let only: Vec<&str> = only.split_whitespace().collect();
    kinds.retain(|kind| only.is_empty() || only.contains(&kind.name.as_str()));
    assert!(
        !kinds.is_empty(),
        "SCANNER_TEST_HOSTILE_KINDS names no kind"
    );
    match long() {
        None => short(&kinds, isolation),
        Some(ordinary) => long_form(&kinds, isolation, ordinary),
    }
}

/// Proves: records that attack the scanner cost their own verdict, with libclamav in the service's process.
#[test]
fn a_hostile_record_costs_its_own_verdict_and_nothing_else() {
    run(Isolation::None);
}

/// Proves: the same with libclamav in a process of its own, and for records that crash it too.
#[test]
fn a_hostile_record_costs_its_own_verdict_where_libclamav_has_its_own_process() {
    run(Isolation::Process);
}
