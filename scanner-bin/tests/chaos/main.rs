//! Replicas that are killed, stopped and put to sleep at random, and a broker that freezes and goes, on a real Apache Kafka: at
//! least once loses nothing, exactly once doubles nothing either.
//!
//! A seed says what happens ([`schedule`]); the [`oracle`] says what may be found afterwards. `make chaos` runs many seeds of 45 s,
//! `make chaos-mutants` builds faults into the scanner and sees that the same schedule finds each. Here two short seeds run.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cast;
mod ledger;
mod load;
#[path = "../support/oracle.rs"]
mod oracle;
mod run;
mod schedule;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cast::Setup;
use oracle::Delivery;
use run::Outcome;
use schedule::{Step, Who};
use support::announce;
use support::broker::Broker;

/// How long the churn of a seed lasts: of `make chaos`, and otherwise.
const LONG: Duration = Duration::from_secs(45);
const SHORT: Duration = Duration::from_secs(13);

/// One test at a time: they stop and kill the broker that they share.
static ALONE: Mutex<()> = Mutex::new(());

/// The broker, if it is a real one, for one test at a time.
fn real() -> Option<(&'static Broker, MutexGuard<'static, ()>)> {
    // One that failed is no reason for the next to fail.
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let broker = Broker::shared();
    if broker.is_real() {
        return Some((broker, alone));
    }
    announce!("left out: chaos, which the embedded broker is not made for");
    None
}

/// How many seeds `make chaos` wants.
fn wanted() -> Option<u64> {
    let seeds = std::env::var("SCANNER_TEST_CHAOS_SEEDS").ok()?;
    Some(seeds.parse().expect("a number of seeds"))
}

/// Lets it happen, and says what came of it.
fn run(broker: &Broker, setup: &Setup, steps: &[(Duration, Step)], length: Duration) -> Outcome {
    let (name, delivery) = (&setup.name, setup.delivery.as_str());
    announce!("{name}, {delivery}, {length:?}");
    let outcome = run::run(broker, &run::keep_program(), setup, steps, length);
    let judgement = &outcome.judgement;
    announce!(
        "{name}, {delivery}: {}; {} records, {} lost, {} repeated, {} in aborted transactions, {} dead letters, {:?}, {:.0} s",
        outcome.charge().unwrap_or_else(|| "held".to_owned()),
        judgement.records,
        judgement.lost,
        judgement.repeated,
        judgement.aborted,
        judgement.letters,
        outcome.faults,
        outcome.seconds
    );
    outcome
}

/// Runs a seed of the general schedule.
fn seed(broker: &Broker, seed: u64, length: Duration, fault: Option<&str>) -> Outcome {
    let setup = Setup {
        name: format!("seed {seed}"),
        seed,
        delivery: run::delivery(seed),
        fault: fault.map(str::to_owned),
        is_probed: false,
    };
    run(broker, &setup, &schedule::plan(seed, length), length)
}

/// Proves: whatever happens to replicas and broker, at-least-once delivery loses no record and answers again only what a fault left
/// uncommitted; with exactly-once delivery readers of committed records see each record once, although transactions are aborted.
#[test]
fn churn_loses_nothing_and_doubles_nothing() {
    let long = wanted();
    let mut seeds = vec![1, 2];
    if let Some(wanted) = long {
        let held = ledger::held();
        let has_held = |seed: &u64| {
            let delivery = run::delivery(*seed).as_str().to_owned();
            held.contains(&(seed.to_string(), delivery))
        };
        seeds = (1..=wanted).filter(|seed| !has_held(seed)).collect();
        let before = wanted as usize - seeds.len();
        announce!("chaos: {before} of {wanted} seeds have held before");
        if seeds.is_empty() {
            return;
        }
    }
    let Some((broker, _alone)) = real() else {
        return;
    };
    let (mut failed, mut aborted, mut repeated, mut records) = (Vec::new(), 0, 0, 0);
    for number in &seeds {
        let length = if long.is_some() { LONG } else { SHORT };
        let outcome = seed(broker, *number, length, None);
        let delivery = run::delivery(*number);
        if long.is_some() {
            ledger::add(&number.to_string(), delivery, &outcome);
        }
        match delivery {
            Delivery::ExactlyOnce => aborted += outcome.judgement.aborted,
            Delivery::AtLeastOnce => repeated += outcome.judgement.repeated,
        }
        records += outcome.judgement.records;
        failed.extend(
            outcome
                .charge()
                .map(|charge| format!("seed {number}: {charge}")),
        );
    }
    announce!(
        "chaos: {} of {} seeds held: {records} records; at least once: {repeated} repeated; exactly once: {aborted} results in aborted \
         transactions, which nobody sees",
        seeds.len() - failed.len(),
        seeds.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Otherwise nothing was put to the test. A short seed may be too short for it.
    let in_transactions = seeds
        .iter()
        .filter(|seed| run::delivery(**seed) == Delivery::ExactlyOnce);
    assert!(
        long.is_none() || in_transactions.count() < 3 || aborted > 0,
        "no transaction was aborted"
    );
}

/// Something that happens once, under load.
struct Scenario {
    name: &'static str,
    steps: Vec<(Duration, Step)>,
    length: Duration,
    /// The check by which `/readyz` must tell of it.
    tells: Option<&'static str>,
}

fn scenarios() -> Vec<Scenario> {
    let seconds = Duration::from_secs;
    let one = |name, step, length, tells| Scenario {
        name,
        steps: vec![(seconds(4), step)],
        length: seconds(length),
        tells,
    };
    let sleep = Step::Stop {
        who: Who::Busiest,
        asleep: seconds(14),
    };
    vec![
        one(
            "broker silent for 20 s",
            Step::FreezeInDebt(seconds(20)),
            27,
            Some("producer"),
        ),
        one("broker killed", Step::Crash, 20, None),
        one("broker restarted", Step::Bounce, 20, None),
        one("zombie", sleep, 22, None),
    ]
}

/// Proves: a broker that says nothing for 20 s, one that is killed or restarted, and a replica that wakes up after its session is over, cost no
/// record and no wrong commit, in both kinds of delivery; `/livez` says 200 all the time, and `/readyz` tells of a broker that is
/// silent and is 200 again in the end. Outside of `make chaos` only the first, with at-least-once delivery.
#[test]
fn an_outage_costs_nothing_and_is_told() {
    let is_long = wanted().is_some();
    let held = if is_long {
        ledger::held()
    } else {
        Default::default()
    };
    let Some((broker, _alone)) = real() else {
        return;
    };
    let mut failed = Vec::new();
    for scenario in scenarios() {
        for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
            let key = (scenario.name.to_owned(), delivery.as_str().to_owned());
            let is_first = scenario.tells.is_some() && delivery == Delivery::AtLeastOnce;
            if held.contains(&key) || (!is_long && !is_first) {
                continue;
            }
            let setup = Setup {
                name: scenario.name.to_owned(),
                seed: 1,
                delivery,
                fault: None,
                is_probed: true,
            };
            let mut outcome = run(broker, &setup, &scenario.steps, scenario.length);
            let probes = &outcome.probes;
            announce!(
                "{}, {}: /livez said 200 all {} times; /readyz told of {:?}",
                scenario.name,
                delivery.as_str(),
                probes.alive,
                probes.unready
            );
            if let Some(check) = scenario.tells
                && !probes.unready.contains_key(check)
            {
                outcome
                    .misdeeds
                    .push(format!("/readyz did not tell of {check}"));
            }
            if is_long {
                ledger::add(scenario.name, delivery, &outcome);
            }
            failed.extend(
                outcome
                    .charge()
                    .map(|charge| format!("{}: {charge}", scenario.name)),
            );
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Proves: a build for use has no deliberate fault in it, and no way to ask for one.
#[cfg(not(feature = "chaos-faults"))]
#[test]
fn a_build_without_the_feature_knows_no_deliberate_fault() {
    let program = std::fs::read(run::keep_program()).unwrap();
    // In two pieces, or else this program would hold it too; that does not matter, but it would mislead.
    let name = ["CHAOS", "FAULT"].join("_");
    assert!(
        !program
            .windows(name.len())
            .any(|bytes| bytes == name.as_bytes())
    );
}

/// Proves: the schedule and the oracle are good for something. The scanner is built with a fault, and some seed of the general schedule
/// finds it, with what the oracle always asks.
#[cfg(feature = "chaos-faults")]
#[test]
fn each_deliberate_fault_is_caught_by_the_general_schedule() {
    // With the delivery whose code has it: seeds of the other one would run for nothing.
    const FAULTS: [(&str, Delivery); 7] = [
        ("commit-before-ack", Delivery::AtLeastOnce),
        ("highest-seen", Delivery::AtLeastOnce),
        ("no-rewind", Delivery::ExactlyOnce),
        ("offsets-outside", Delivery::ExactlyOnce),
        ("commit-on-lost", Delivery::ExactlyOnce),
        ("no-generation-check", Delivery::ExactlyOnce),
        (SCANNING, Delivery::AtLeastOnce),
    ];
    /// Only where libclamav has processes of its own, and these are killed.
    const SCANNING: &str = "lost-scan-is-clean";
    const SEEDS: u64 = 20;
    let only = std::env::var("SCANNER_TEST_CHAOS_FAULT").ok();
    let Some((broker, _alone)) = real() else {
        return;
    };
    let mut missed = Vec::new();
    let is_wanted = |fault: &str| only.as_deref().is_none_or(|only| only == fault);
    for (fault, delivery) in FAULTS.into_iter().filter(|(fault, _)| is_wanted(fault)) {
        announce!("deliberate fault: {fault}");
        let needs_processes = fault == SCANNING;
        let mut seeds = (1..)
            .filter(|seed| run::delivery(*seed) == delivery)
            .filter(|seed| !needs_processes || schedule::is_isolated(*seed))
            .take(SEEDS as usize / 2);
        let caught = seeds
            .find_map(|number| Some((number, seed(broker, number, LONG, Some(fault)).charge()?)));
        match caught {
            Some((number, charge)) => announce!("{fault}: caught by seed {number}: {charge}"),
            None => {
                announce!("{fault}: NOT caught in {SEEDS} seeds");
                missed.push(fault);
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
