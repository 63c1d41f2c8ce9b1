//! kill -9 of a replica under load: nothing is lost, and only what it had not committed is answered twice.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::broker::Broker;
use support::metrics::Scrape;
use support::process::Scanner;
use support::scene::{Answer, Place, Scene, assert_all_answered, duplicates, heavy_load};
use support::{announce, wait_for};

const PARTITIONS: i32 = 6;
/// Records of each round.
const LOAD: usize = 12_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// What one kill may cost: the records behind the committed offsets of the killed replica's partitions that it had answered.
struct Kill {
    instance: String,
    /// In flight by its own account, just before: read and not answered.
    in_flight: u64,
    owned: BTreeSet<i32>,
    /// From where its successors go on.
    committed: Vec<Place>,
}

impl Kill {
    /// Records that it had answered and not committed.
    fn uncommitted(&self, answers: &[Answer]) -> BTreeSet<Place> {
        let its_own = answers
            .iter()
            .filter(|answer| answer.instance() == self.instance)
            .map(Answer::place);
        let behind = |(partition, offset): &Place| {
            self.committed
                .iter()
                .any(|(of, committed)| of == partition && offset >= committed)
        };
        its_own.filter(behind).collect()
    }
}

/// What a replica has read and not answered, from counters that are true at every moment; its gauge is up to a second old. Holds
/// for differences while it keeps its partitions.
fn unanswered(metrics: &Scrape) -> f64 {
    metrics.sum("scanner_messages_consumed_total") - metrics.sum("scanner_results_produced_total")
}

/// Kill one of the replicas in the middle of its work, which begins after `idle` was scraped.
fn kill_one(
    scene: &Scene<'_>,
    victim: &mut Scanner,
    instance: String,
    idle: &Scrape,
    delay: Duration,
) -> Kill {
    let in_flight = |metrics: &Scrape| unanswered(metrics) - unanswered(idle);
    let working = || {
        let metrics = victim.scrape();
        (in_flight(&metrics) >= 100.0).then_some(metrics)
    };
    wait_for("records in flight", PATIENCE, working);
    // Commits have a beat; another moment in each round finds more or less uncommitted.
    std::thread::sleep(delay);
    let metrics = wait_for("records in flight", PATIENCE, working);
    victim.kill();
    let in_flight = in_flight(&metrics) as u64;
    let owned: BTreeSet<i32> = metrics
        .by_partition("scanner_partition_owned")
        .into_keys()
        .collect();
    assert_eq!(
        owned,
        idle.by_partition("scanner_partition_owned")
            .into_keys()
            .collect()
    );
    // Its session has seconds to go: nobody has taken its partitions yet, and what it had committed stands still.
    std::thread::sleep(Duration::from_millis(500));
    let committed = scene
        .committed()
        .into_iter()
        .filter(|(partition, _)| owned.contains(partition))
        .collect();
    Kill {
        instance,
        in_flight,
        owned,
        committed,
    }
}

/// Proves: after each SIGKILL every record has a result; a record is answered twice only if the killed replica had answered it
/// and not committed it.
#[test]
fn a_killed_replica_loses_no_record_and_repeats_only_what_it_had_not_committed() {
    let rounds: usize = std::env::var("SCANNER_TEST_KILL_ROUNDS")
        .map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
    let broker = Broker::shared();
    let scene = Scene::new(broker, "kill", PARTITIONS);
    let mut next = 0;
    let mut start = || {
        next += 1;
        let instance = format!("replica-{next}");
        (scene.ready_replica(&instance), instance)
    };
    let mut replicas: Vec<_> = (0..3).map(|_| start()).collect();
    let mut kills: Vec<Kill> = Vec::new();

    for round in 1..=rounds {
        let all: Vec<_> = replicas.iter().map(|(replica, _)| replica).collect();
        scene.wait_until_shared(&all, &[2, 2, 2], PATIENCE);
        let (mut victim, instance) = replicas.remove(0);
        let idle = victim.scrape();
        let delay = Duration::from_millis(150 + 170 * (round as u64 % 5));
        let kill = std::thread::scope(|scope| {
            let producer = scope.spawn(|| scene.produce(heavy_load(LOAD, PARTITIONS)));
            let kill = kill_one(&scene, &mut victim, instance, &idle, delay);
            producer.join().unwrap();
            kill
        });
        replicas.push(start());
        let answers = scene.wait_until_answered(PATIENCE);

        assert!(
            kill.in_flight > 0 && kill.owned.len() == 2,
            "not killed in the middle of its work"
        );
        let may_repeat = kill.uncommitted(&answers);
        let known: BTreeSet<_> = kills
            .iter()
            .flat_map(|kill| kill.uncommitted(&answers))
            .collect();
        let repeated = duplicates(&answers).difference(&known).count();
        announce!(
            "kill {round} of {rounds}: {} with partitions {:?} and {} records in flight; {} answered and not committed, {repeated} \
             answered twice",
            kill.instance,
            kill.owned,
            kill.in_flight,
            may_repeat.len(),
        );
        assert_all_answered(&answers, &scene.places());
        kills.push(kill);
        let allowed: BTreeSet<_> = known.union(&may_repeat).copied().collect();
        let unexplained: Vec<_> = duplicates(&answers).difference(&allowed).copied().collect();
        assert!(
            unexplained.is_empty(),
            "answered twice without need: {unexplained:?}"
        );
    }

    for (replica, _) in &mut replicas {
        replica.terminate();
    }
    for (replica, instance) in &mut replicas {
        assert_eq!(
            replica.wait(PATIENCE).code(),
            Some(0),
            "{instance}: {}",
            replica.output()
        );
    }
    assert_eq!(scene.committed(), broker.ends(&scene.input));
    let answers = scene.answers();
    assert_all_answered(&answers, &scene.places());
    let repeats = answers.len() - scene.places().len();
    let bound: usize = kills
        .iter()
        .map(|kill| kill.uncommitted(&answers).len())
        .sum();
    announce!(
        "kill: {rounds} kills, {} records, none lost, {repeats} repeated, {bound} allowed",
        scene.places().len()
    );
    assert!(repeats <= bound);
}
