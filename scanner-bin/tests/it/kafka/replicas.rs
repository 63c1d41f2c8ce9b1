//! Three replicas of one group: they share the partitions, and nobody's end costs a record its answer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::announce;
use support::broker::Broker;
use support::process::Scanner;
use support::scene::{
    Scene, assert_all_answered, assert_answered_once, assert_in_order, duplicates, load,
};

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(90);
/// What every replica is started with here, and the least that the broker allows.
const SESSION: Duration = Duration::from_secs(6);

/// Three replicas that own two partitions each, and which.
fn three(scene: &Scene<'_>) -> (Vec<Scanner>, Vec<BTreeSet<i32>>) {
    let mut replicas: Vec<_> = (0..3)
        .map(|n| scene.replica(&format!("replica-{n}")).start())
        .collect();
    replicas
        .iter_mut()
        .for_each(|replica| replica.wait_until_ready(PATIENCE));
    let owned = shared(scene, &replicas, &[2, 2, 2]);
    (replicas, owned)
}

fn shared(scene: &Scene<'_>, replicas: &[Scanner], sizes: &[usize]) -> Vec<BTreeSet<i32>> {
    let replicas: Vec<_> = replicas.iter().collect();
    scene.wait_until_shared(&replicas, sizes, PATIENCE)
}

/// Do `events` while records keep coming on all partitions. Returns how many came.
fn under_load(scene: &Scene<'_>, events: impl FnOnce()) -> usize {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                sent += scene.produce(load(120, PARTITIONS)).len();
                std::thread::sleep(Duration::from_millis(100));
            }
            sent
        });
        // Also after a failed assertion, or the scope waits for ever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let at_the_end = Stop(&stop);
        events();
        drop(at_the_end);
        producer.join().unwrap()
    })
}

/// Proves: six partitions are shared 2-2-2; those of a killed replica are taken over after its session, those of a stopped one
/// at once; every record has a result.
#[test]
fn replicas_share_partitions_and_take_over_from_the_killed_and_the_stopped() {
    let scene = Scene::new(Broker::shared(), "share", PARTITIONS);
    let (mut replicas, owned) = three(&scene);
    let (mut after_kill, mut after_stop) = (Duration::ZERO, Duration::ZERO);

    let sent = under_load(&scene, || {
        let mut killed = replicas.remove(0);
        let since = Instant::now();
        killed.kill();
        shared(&scene, &replicas, &[3, 3]);
        after_kill = since.elapsed();

        let mut stopped = replicas.remove(0);
        let since = Instant::now();
        stopped.terminate();
        shared(&scene, &replicas, &[6]);
        after_stop = since.elapsed();
        assert_eq!(
            stopped.wait(PATIENCE).code(),
            Some(0),
            "{}",
            stopped.output()
        );
    });
    let answers = scene.wait_until_answered(PATIENCE);
    assert_all_answered(&answers, &scene.places());
    assert_eq!(scene.places().len(), sent);
    if scene.broker.is_real() {
        assert!(
            after_stop < SESSION / 2,
            "a replica that leaves says so: {after_stop:?}"
        );
    } else {
        announce!(
            "left out: how soon a stopped replica is followed: the embedded broker rebalances slowly"
        );
    }
    let again = duplicates(&answers);
    let of_killed = again
        .iter()
        .filter(|(partition, _)| owned[0].contains(partition))
        .count();
    assert_eq!(
        of_killed,
        again.len(),
        "only what the killed one had not committed is answered twice"
    );
    announce!(
        "replicas: shared {owned:?}; killed: taken over after {after_kill:.1?} (session {SESSION:?}); stopped: after \
         {after_stop:.1?}; {sent} records, {} answered twice",
        again.len()
    );
}

/// Replicas join and leave in order under load, each with this setting beside those of every replica here.
fn join_and_leave(name: &str, setting: Option<(&str, &str)>) {
    let scene = Scene::new(Broker::shared(), name, PARTITIONS);
    let join = |n: usize| {
        let mut replica = scene.replica(&format!("replica-{n}"));
        if let Some((name, value)) = setting {
            replica = replica.env(&format!("SCANNER_KAFKA__{name}"), value);
        }
        let mut replica = replica.start();
        replica.wait_until_ready(PATIENCE);
        replica
    };
    let mut replicas = vec![join(0)];
    let sent = under_load(&scene, || {
        for (n, sizes) in [(1, &[3, 3][..]), (2, &[2, 2, 2])] {
            replicas.push(join(n));
            shared(&scene, &replicas, sizes);
        }
        for sizes in [&[3, 3][..], &[6]] {
            let mut leaving = replicas.remove(0);
            leaving.terminate();
            assert_eq!(
                leaving.wait(PATIENCE).code(),
                Some(0),
                "{}",
                leaving.output()
            );
            shared(&scene, &replicas, sizes);
        }
    });
    scene.wait_until_answered(PATIENCE);
    let answers = scene.answers();
    assert_all_answered(&answers, &scene.places());
    if scene.broker.is_real() {
        assert_answered_once(&answers, &scene.places());
        assert_in_order(&answers);
    } else {
        announce!(
            "left out: no record answered twice: the embedded broker refuses commits while it rebalances"
        );
    }
    let instances: BTreeSet<_> = answers.iter().map(|answer| answer.instance()).collect();
    assert_eq!(instances.len(), 3);
    announce!(
        "replicas, {}: 2 joined and 2 left under load: {sent} records, {} answered twice",
        setting.map_or("cooperative-sticky", |(_, value)| value),
        duplicates(&answers).len()
    );
}

/// Proves: when replicas join and leave in order, no record is answered twice and each partition's results stay in input order.
#[test]
fn a_clean_handover_answers_nothing_twice() {
    join_and_leave("handover", None);
}

/// Proves: the same where every rebalance takes all partitions from everybody first, as the eager protocol does.
#[test]
fn a_clean_handover_with_an_eager_strategy_answers_nothing_twice() {
    join_and_leave(
        "eager",
        Some((
            "PROPERTIES__PARTITION_ASSIGNMENT_STRATEGY",
            "range,roundrobin",
        )),
    );
}

/// Proves: the same where the broker gives out the partitions (KIP-848).
#[test]
fn a_clean_handover_by_the_consumer_protocol_answers_nothing_twice() {
    if Broker::shared().is_real() {
        join_and_leave("kip848", Some(("GROUP_PROTOCOL", "consumer-anyway")));
    } else {
        announce!("left out: the consumer protocol: the embedded broker does not have it");
    }
}

/// Proves: a replica with a static id that is started again within its session has its partitions back, and the group notices
/// nothing: no rebalance, and no record is lost or answered twice.
#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let broker = Broker::shared();
    if !broker.is_real() {
        announce!("left out: static membership: the embedded broker does not have it");
        return;
    }
    let scene = Scene::new(broker, "static", PARTITIONS);
    let start = |n: usize| {
        let id = format!("static-{n}");
        scene
            .replica(&id)
            .env("SCANNER_KAFKA__PROPERTIES__GROUP_INSTANCE_ID", &id)
            .env("SCANNER_KAFKA__SESSION_TIMEOUT", "30s")
            .start()
    };
    let mut replicas = vec![start(0), start(1)];
    for replica in &mut replicas {
        replica.wait_until_ready(PATIENCE);
    }
    let owned = shared(&scene, &replicas, &[3, 3]);
    let rebalances = |replica: &Scanner| replica.scrape().sum("scanner_rebalances_total");
    let before = rebalances(&replicas[1]);
    let sent = under_load(&scene, || {
        let mut stopped = replicas.remove(0);
        stopped.terminate();
        assert_eq!(
            stopped.wait(PATIENCE).code(),
            Some(0),
            "{}",
            stopped.output()
        );
        let mut back = start(0);
        back.wait_until_ready(PATIENCE);
        replicas.insert(0, back);
        assert_eq!(shared(&scene, &replicas, &[3, 3]), owned, "the same ones");
    });
    let answers = scene.wait_until_answered(PATIENCE);
    assert_answered_once(&answers, &scene.places());
    assert_eq!(rebalances(&replicas[1]), before, "the other one went on");
    announce!("replicas: a static member came back under load: {sent} records, no rebalance");
}
