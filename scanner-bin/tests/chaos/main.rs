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

use std::time::Duration;

use cast::Setup;
use oracle::Delivery;
use run::Outcome;
use support::announce;
use support::broker::Broker;

/// How long the churn of a seed lasts: of `make chaos`, and otherwise.
const LONG: Duration = Duration::from_secs(45);
const SHORT: Duration = Duration::from_secs(13);

/// The broker, if it is a real one.
fn real() -> Option<Broker> {
    let broker = Broker::start();
    if broker.is_real() {
        return Some(broker);
    }
    announce!("left out: chaos, which the embedded broker is not made for");
    None
}

/// Runs a seed, and says what came of it.
fn seed(broker: &Broker, seed: u64, length: Duration, fault: Option<&str>) -> (Delivery, Outcome) {
    let delivery = run::delivery(seed);
    let setup = Setup {
        seed,
        delivery,
        fault: fault.map(str::to_owned),
    };
    announce!("seed {seed}, {}, {length:?} of churn", delivery.as_str());
    let outcome = run::run(broker, &run::keep_program(), &setup, length);
    let judgement = &outcome.judgement;
    announce!(
        "seed {seed}, {}: {}; {} records, {} lost, {} repeated, {} in aborted transactions, {} dead letters, {:?}, {:.0} s",
        delivery.as_str(),
        outcome.charge().unwrap_or_else(|| "held".to_owned()),
        judgement.records,
        judgement.lost,
        judgement.repeated,
        judgement.aborted,
        judgement.letters,
        outcome.faults,
        outcome.seconds
    );
    (delivery, outcome)
}

/// Proves: whatever happens to replicas and broker, at-least-once delivery loses no record and answers again only what a fault left
/// uncommitted; with exactly-once delivery readers of committed records see each record once, although transactions are aborted.
#[test]
fn churn_loses_nothing_and_doubles_nothing() {
    let long = std::env::var("SCANNER_TEST_CHAOS_SEEDS").ok();
    let long: Option<u64> = long.map(|seeds| seeds.parse().expect("a number of seeds"));
    let seeds: Vec<u64> = match long {
        Some(seeds) => {
            let held = ledger::held();
            let wanted = (1..=seeds).filter(|seed| !held.contains(seed)).collect();
            announce!("chaos: {} of {seeds} seeds have held before", held.range(..=seeds).count());
            wanted
        }
        None => vec![1, 2],
    };
    if seeds.is_empty() {
        return;
    }
    let Some(broker) = real() else { return };
    let (mut failed, mut aborted, mut repeated, mut records) = (Vec::new(), 0, 0, 0);
    for number in &seeds {
        let length = if long.is_some() { LONG } else { SHORT };
        let (delivery, outcome) = seed(&broker, *number, length, None);
        if long.is_some() {
            ledger::add(*number, delivery, &outcome);
        }
        match delivery {
            Delivery::ExactlyOnce => aborted += outcome.judgement.aborted,
            Delivery::AtLeastOnce => repeated += outcome.judgement.repeated,
        }
        records += outcome.judgement.records;
        failed.extend(outcome.charge().map(|charge| format!("seed {number}: {charge}")));
    }
    announce!(
        "chaos: {} of {} seeds held: {records} records; at least once: {repeated} repeated; exactly once: {aborted} results in aborted \
         transactions, which nobody sees",
        seeds.len() - failed.len(),
        seeds.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Otherwise nothing was put to the test.
    let has_both = seeds.iter().any(|seed| run::delivery(*seed) == Delivery::ExactlyOnce);
    assert!(!has_both || aborted > 0, "no transaction was aborted");
}

/// Proves: a build for use has no deliberate fault in it, and no way to ask for one.
#[cfg(not(feature = "chaos-faults"))]
#[test]
fn a_build_without_the_feature_knows_no_deliberate_fault() {
    let program = std::fs::read(run::keep_program()).unwrap();
    // In two pieces, or else this program would hold it too; that does not matter, but it would mislead.
    let name = ["CHAOS", "FAULT"].join("_");
    assert!(!program.windows(name.len()).any(|bytes| bytes == name.as_bytes()));
}
