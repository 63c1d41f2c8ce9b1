//! How long a session has to be: a replica that gets a tenth of a core under load stays in its group, and the partitions of one that is killed
//! have a new owner soon. `make session` runs it; it needs root, for control groups, and a real Apache Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, unreachable_pub)]
#[path = "scaling/cgroup.rs"]
mod cgroup;
mod support;

use std::time::{Duration, Instant};

use cgroup::Controller;
use scanner_bin::config::KafkaConfig;
use support::announce;
use support::broker::Broker;
use support::process::Scanner;
use support::scene::{Scene, load};
use support::wait_for;

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(180);
/// Of one core.
const SHARE: f64 = 0.1;
/// The longest time without results of a partition whose owner was killed.
const IDLE: Duration = Duration::from_secs(15);

fn rebalances(scanner: &Scanner) -> [f64; 2] {
    let scrape = scanner.scrape();
    ["revoke", "lost"]
        .map(|kind| scrape.get(&format!("scanner_rebalances_total{{kind=\"{kind}\"}}")))
}

/// Proves: with the default session a replica that is throttled to a tenth of a core, and has more to do than it can, is not taken for dead in
/// `SCANNER_TEST_SESSION_SECONDS` (180); when one is killed its partitions are answered again within 15 s.
#[test]
fn a_throttled_replica_stays_and_a_killed_one_is_replaced_within_15_s() {
    let seconds = std::env::var("SCANNER_TEST_SESSION_SECONDS").map_or(180, |s| s.parse().unwrap());
    let session = KafkaConfig::default().session_timeout;
    let controller = Controller::find().expect("control groups are needed");
    controller.sweep();
    let broker = Broker::shared();
    assert!(broker.is_real(), "a real Apache Kafka is needed");
    let scene = Scene::new(broker, "session", PARTITIONS);
    scene.produce(load(600_000, PARTITIONS));
    let start = |name: &str| {
        let replica = scene.replica(name);
        let replica = replica.env("SCANNER_KAFKA__SESSION_TIMEOUT", format!("{session:?}"));
        // Every record is work for libclamav.
        replica.env("SCANNER_SCAN__PREFILTER", "false").start()
    };
    let mut throttled = Vec::new();
    for name in ["scanner-0", "scanner-1"] {
        let mut scanner = start(name);
        scanner.wait_until_ready(PATIENCE);
        let group = controller
            .group(&format!("{}-{name}", std::process::id()), SHARE)
            .unwrap();
        group.add(scanner.pid()).unwrap();
        throttled.push((scanner, group));
    }
    let replicas = || throttled.iter().map(|(scanner, _)| scanner);
    scene.wait_until_shared(&replicas().collect::<Vec<_>>(), &[3, 3], PATIENCE);
    let before: Vec<_> = replicas().map(rebalances).collect();
    let used: Vec<_> = throttled.iter().map(|(_, group)| group.used()).collect();
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let elapsed = started.elapsed();
    let used = throttled.iter().zip(&used).map(|((_, group), before)| {
        (group.used() - *before).as_secs_f64() / elapsed.as_secs_f64() / SHARE
    });
    let used: Vec<_> = used.collect();
    let after: Vec<_> = replicas().map(rebalances).collect();
    let answered: Vec<_> = replicas()
        .map(|scanner| scanner.scrape().sum("scanner_results_produced_total"))
        .collect();
    announce!(
        "session: {session:?}; {:.0} s at {SHARE} of a core, of which {used:.2?} was used; records answered {answered:?}; revoked and lost before \
         {before:?}, after {after:?}",
        elapsed.as_secs_f64()
    );
    let lag: f64 = replicas()
        .map(|scanner| {
            scanner
                .scrape()
                .sum("scanner_consumer_lag_committed_messages")
        })
        .sum();
    assert!(lag > 0.0, "there was not enough to do");
    assert_eq!(before, after, "a replica was taken for dead");

    // One of them is killed; the other one goes on without a quota, as one with work to do would.
    let (mut killed, _group) = throttled.remove(0);
    let taken = killed.owned();
    let (other, group) = throttled.remove(0);
    std::fs::write("/sys/fs/cgroup/cpu/cgroup.procs", other.pid().to_string()).ok();
    drop(group);
    killed.kill();
    let at = Instant::now();
    let committed = scene.committed();
    wait_for("results of the killed one's partitions", PATIENCE, || {
        let now = scene.committed();
        taken.iter().all(|id| now[id] > committed[id]).then_some(())
    });
    let idle = at.elapsed();
    announce!("session: partitions {taken:?} of a killed replica were idle for {idle:.1?}");
    assert!(idle <= IDLE, "{idle:?}");
}
