//! Exactly-once delivery on a real Apache Kafka: readers of committed records see each record's result once, whatever ends
//! in the middle of it. The embedded broker takes transactions for ordinary writes, so none of this can be seen there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::broker::Broker;
use support::process::{Launch, Scanner, signal};
use support::scene::{
    LARGE, Scene, assert_answered_once, assert_in_order, heavy_load, load, times_answered,
};
use support::{announce, wait_for};

const PARTITIONS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(120);

/// The shared broker, if it is a real one.
fn real() -> Option<&'static Broker> {
    let broker = Broker::shared();
    if !broker.is_real() {
        announce!("left out: exactly-once delivery, which the embedded broker does not have");
        return None;
    }
    Some(broker)
}

fn exactly_once(scene: &Scene<'_>, instance: &str) -> Launch {
    scene
        .replica(instance)
        .flag("--delivery", "exactly-once")
        .env("SCANNER_KAFKA__TRANSACTION_TIMEOUT", "6s")
}

fn ready(scene: &Scene<'_>, instance: &str) -> Scanner {
    let mut scanner = exactly_once(scene, instance).start();
    scanner.wait_until_ready(Duration::from_secs(60));
    scanner
}

fn stop(mut scanner: Scanner) {
    scanner.terminate();
    let status = scanner.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", scanner.output());
}

/// What the replica says of its transactions.
fn transactions(scanner: &Scanner, outcome: &str) -> f64 {
    scanner
        .scrape()
        .get(&format!("scanner_txn_total{{outcome=\"{outcome}\"}}"))
}

/// Panic unless committed readers see each record once, in order, and the group has committed exactly that. Returns how many
/// results there are that they do not see.
fn assert_exactly_once(scene: &Scene<'_>) -> usize {
    let committed = scene.answers();
    assert_answered_once(&committed, &scene.places());
    assert_in_order(&committed);
    assert_eq!(scene.committed(), scene.broker.ends(&scene.input));
    let all = scene.answers_uncommitted();
    let seen = times_answered(&committed);
    assert!(
        times_answered(&all)
            .keys()
            .all(|place| seen.contains_key(place)),
        "results of no record"
    );
    all.len() - committed.len()
}

/// Proves: a replica that is killed in the middle of transactions leaves results that nobody sees, and its successors answer
/// those records again: committed readers see each record once, uncommitted ones see that transactions were aborted.
#[test]
fn a_killed_replica_costs_no_result_and_doubles_none() {
    let Some(broker) = real() else {
        return;
    };
    let scene = Scene::new(broker, "eos-kill", PARTITIONS);
    let mut replicas: Vec<_> = (1..=2)
        .map(|n| ready(&scene, &format!("replica-{n}")))
        .collect();
    let (mut next, mut aborted, mut kills) = (2, 0, 0);
    // A kill may hit the moment between two transactions.
    while aborted == 0 && kills < 5 {
        let all: Vec<_> = replicas.iter().collect();
        scene.wait_until_shared(&all, &[3, 3], PATIENCE);
        let mut victim = replicas.remove(0);
        let before = transactions(&victim, "committed");
        std::thread::scope(|scope| {
            let producer = scope.spawn(|| scene.produce(heavy_load(8_000, PARTITIONS)));
            wait_for("transactions of the victim", PATIENCE, || {
                (transactions(&victim, "committed") >= before + 2.0).then_some(())
            });
            std::thread::sleep(Duration::from_millis(90));
            victim.kill();
            producer.join().unwrap();
        });
        kills += 1;
        next += 1;
        replicas.push(ready(&scene, &format!("replica-{next}")));
        scene.wait_until_answered(PATIENCE);
        scene.wait_until_committed(PATIENCE);
        aborted = assert_exactly_once(&scene);
        announce!(
            "exactly once: kill {kills}: {} records, each answered once, {aborted} results in aborted transactions",
            scene.places().len()
        );
    }
    assert!(aborted > 0, "no kill hit an open transaction");
    replicas.into_iter().for_each(stop);
    assert_exactly_once(&scene);
}

/// Proves: a replica that comes back under its own name ends what its predecessor left open at once, and goes on where that had
/// committed.
#[test]
fn a_successor_with_the_same_name_does_not_wait_for_the_transaction_to_time_out() {
    let Some(broker) = real() else {
        return;
    };
    let scene = Scene::new(broker, "eos-name", 2);
    let launch = || {
        exactly_once(&scene, "scanner-0")
            .env("SCANNER_KAFKA__TRANSACTION_TIMEOUT", "10m")
            .env("SCANNER_KAFKA__TRANSACTION_INTERVAL", "2s")
            .start()
    };
    let mut first = launch();
    first.wait_until_ready(PATIENCE);
    scene.produce(load(500, 2));
    wait_for("results in an open transaction", PATIENCE, || {
        (!scene.answers_uncommitted().is_empty()).then_some(())
    });
    first.kill();
    let since = Instant::now();
    let second = launch();
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    let took = since.elapsed();
    let aborted = assert_exactly_once(&scene);
    announce!(
        "exactly once: {aborted} results of the killed one aborted; its successor was through after {took:.1?}"
    );
    assert!(took < Duration::from_secs(60), "{took:?}");
    stop(second);
}

/// Proves: a dead letter counts only together with its record's result: both are in the same transaction, and when that is
/// aborted neither is seen.
#[test]
fn a_dead_letter_counts_only_together_with_its_result() {
    let Some(broker) = real() else {
        return;
    };
    let scene = Scene::new(broker, "eos-letter", 1);
    let keep = tempfile::tempdir().unwrap();
    let base = keep.path().join("tmp");
    let launch = || {
        fs::create_dir_all(&base).unwrap();
        let mut scanner = exactly_once(&scene, "scanner-0")
            .env("SCANNER_SCAN__TMP_DIR", &base)
            // Else these records were clean by proof, or known, whatever libclamav could do.
            .env("SCANNER_SCAN__PREFILTER", "false")
            .env("SCANNER_SCAN__VERDICT_CACHE_ENTRIES", "0")
            .env("SCANNER_SCAN__CRASH_JOURNAL", "off")
            .env("SCANNER_KAFKA__TRANSACTION_INTERVAL", "3s")
            .start();
        scanner.wait_until_ready(PATIENCE);
        scanner
    };
    let mut first = launch();
    // Without its directory libclamav cannot look.
    fs::remove_dir_all(&base).unwrap();
    scene.produce(load(2, 1));
    wait_for("two dead letters in an open transaction", PATIENCE, || {
        let letters = broker.read_uncommitted(&scene.dead_letters).len();
        (letters == 2 && scene.answers_uncommitted().len() == 2).then_some(())
    });
    first.kill();
    assert_eq!(broker.read_all(&scene.dead_letters), []);
    assert_eq!(scene.answers().len(), 0);

    // This one can look at them, and then cannot look at others.
    let second = launch();
    scene.wait_until_answered(PATIENCE);
    assert!(
        scene
            .answers()
            .iter()
            .all(|answer| answer.status() == "clean")
    );
    fs::remove_dir_all(&base).unwrap();
    scene.produce(load(3, 1));
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    assert_exactly_once(&scene);
    assert_eq!(broker.read_all(&scene.dead_letters).len(), 3);
    let errors = scene
        .answers()
        .iter()
        .filter(|answer| answer.status() == "error")
        .count();
    assert_eq!(errors, 3);
    announce!(
        "exactly once: 3 dead letters count, {} do not",
        broker.read_uncommitted(&scene.dead_letters).len() - 3
    );
    assert_eq!(broker.read_uncommitted(&scene.dead_letters).len(), 5);
    stop(second);
}

/// Do `events` while records keep coming on all partitions. Returns how many came.
fn under_load(scene: &Scene<'_>, events: impl FnOnce()) -> usize {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                sent += scene.produce(load(300, PARTITIONS)).len();
                std::thread::sleep(Duration::from_millis(50));
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

/// Proves: while replicas join and leave under load each record is answered once, and what stays with a replica is not read again.
#[test]
fn rebalances_under_load_double_nothing() {
    let Some(broker) = real() else {
        return;
    };
    let scene = Scene::new(broker, "eos-churn", PARTITIONS);
    let mut replicas = vec![ready(&scene, "replica-0")];
    let share = |replicas: &[Scanner], sizes: &[usize]| {
        let all: Vec<_> = replicas.iter().collect();
        scene.wait_until_shared(&all, sizes, PATIENCE);
    };
    let sent = under_load(&scene, || {
        for (n, sizes) in [(1, &[3, 3][..]), (2, &[2, 2, 2])] {
            replicas.push(ready(&scene, &format!("replica-{n}")));
            share(&replicas, sizes);
        }
        for sizes in [&[3, 3][..], &[6]] {
            stop(replicas.remove(0));
            share(&replicas, sizes);
        }
    });
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    let aborted = assert_exactly_once(&scene);
    let last = replicas.pop().unwrap();
    announce!(
        "exactly once: 2 joined and 2 left under load: {sent} records, each answered once; the last replica committed {} \
         transactions, {aborted} results were aborted",
        transactions(&last, "committed")
    );
    stop(last);
}

/// Proves: a replica that was asleep while its partitions went to another one cannot commit what it had answered.
#[test]
fn a_replica_that_wakes_up_too_late_is_fenced_off() {
    let Some(broker) = real() else {
        return;
    };
    let scene = Scene::new(broker, "eos-zombie", PARTITIONS);
    let zombie = ready(&scene, "zombie");
    let mut other = None;
    let sent = under_load(&scene, || {
        wait_for("transactions", PATIENCE, || {
            (transactions(&zombie, "committed") >= 3.0).then_some(())
        });
        signal(zombie.pid(), "STOP");
        let successor = ready(&scene, "successor");
        scene.wait_until_shared(&[&successor], &[PARTITIONS as usize], PATIENCE);
        wait_for("transactions of the successor", PATIENCE, || {
            (transactions(&successor, "committed") >= 3.0).then_some(())
        });
        signal(zombie.pid(), "CONT");
        scene.wait_until_shared(&[&zombie, &successor], &[3, 3], PATIENCE);
        other = Some(successor);
    });
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    let aborted = assert_exactly_once(&scene);
    announce!(
        "exactly once: a replica slept past its session: {sent} records, each answered once, {aborted} results aborted"
    );
    stop(zombie);
    stop(other.unwrap());
}

/// Proves: a broker that stops answering past the transaction's time, and one that is killed, both in the middle of commits whose
/// outcome nobody knows then, cost no result and double none.
#[test]
fn a_broker_that_freezes_or_dies_in_the_middle_of_commits_costs_nothing() {
    let broker = Broker::start();
    if !broker.is_real() {
        announce!("left out: a broker that dies in commits, which the embedded one does not have");
        return;
    }
    let scene = Scene::new(&broker, "eos-broker", 2);
    let mut scanner = exactly_once(&scene, "scanner-0")
        .env("SCANNER_KAFKA__TRANSACTION_TIMEOUT", "3s")
        .env("SCANNER_KAFKA__TRANSACTION_INTERVAL", "20ms")
        .env("SCANNER_KAFKA__SESSION_TIMEOUT", "30s")
        .start();
    scanner.wait_until_ready(PATIENCE);
    for fault in ["frozen", "killed"] {
        let before = transactions(&scanner, "committed");
        scene.produce(heavy_load(6_000, 2));
        wait_for("transactions", PATIENCE, || {
            (transactions(&scanner, "committed") >= before + 3.0).then_some(())
        });
        if fault == "frozen" {
            broker.freeze();
            // Longer than a commit is tried for, and than the broker keeps a transaction.
            std::thread::sleep(Duration::from_secs(9));
            broker.thaw();
        } else {
            broker.kill();
            std::thread::sleep(Duration::from_secs(5));
            broker.start_again();
        }
        scene.wait_until_answered(PATIENCE);
        scene.wait_until_committed(PATIENCE);
        let aborted = assert_exactly_once(&scene);
        announce!(
            "exactly once: broker {fault}: {} records, each answered once, {aborted} results aborted; transactions: {} committed, \
             {} failed, {} producers replaced",
            scene.places().len(),
            transactions(&scanner, "committed"),
            transactions(&scanner, "failed"),
            transactions(&scanner, "recreated")
        );
    }
    assert!(
        transactions(&scanner, "recreated") > 0.0,
        "no outcome was unknown, so this shows nothing"
    );
    stop(scanner);
}

/// Proves: two replicas of one name, which is a mistake, put each other out of business again and again, say so, and still double
/// nothing.
#[test]
fn two_replicas_of_one_name_say_so_and_double_nothing() {
    let Some(broker) = real() else {
        return;
    };
    let scene = Scene::new(broker, "eos-twins", PARTITIONS);
    let twins = [ready(&scene, "twin"), ready(&scene, "twin")];
    under_load(&scene, || {
        wait_for("a producer that was replaced", PATIENCE, || {
            let said = |twin: &Scanner| {
                twin.output()
                    .contains("another replica has the same transactional id")
            };
            twins.iter().any(said).then_some(())
        });
        std::thread::sleep(Duration::from_secs(3));
    });
    let [mut first, second] = twins;
    first.terminate();
    // Perhaps it cannot commit the last of it for being put out of business: then the other does it.
    first.wait(PATIENCE);
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    let aborted = assert_exactly_once(&scene);
    announce!(
        "exactly once: two of one name: {} records, each answered once, {aborted} results aborted",
        scene.places().len()
    );
    stop(second);
}

/// Proves: what has no result is committed all the same, and what the broker refuses for its size is answered once, cut and marked.
#[test]
fn unwanted_and_oversized_results_pass_in_transactions() {
    let Some(broker) = real() else {
        return;
    };
    let quiet = Scene::new(broker, "eos-quiet", 1);
    let scanner = exactly_once(&quiet, "scanner-0")
        .flag("--emit", "threats")
        .start();
    quiet.produce(load(500, 1));
    quiet.wait_until_committed(PATIENCE);
    assert_eq!(quiet.answers_uncommitted().len(), 0);
    stop(scanner);

    let scene = Scene::without_topics(broker, "eos-narrow");
    broker.create_topic(&scene.input, 1, &[LARGE]);
    broker.create_topic(&scene.output, 1, &[("max.message.bytes", "20000")]);
    broker.create_topic(&scene.dead_letters, 1, &[]);
    let mut records: Vec<_> = load(100, 1).collect();
    let mut seed = 1_u32;
    // Does not compress to less than the topic takes.
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (seed >> 24) as u8 % 26
    });
    let large: Vec<u8> = noise.take(100_000).collect();
    for at in [0, 50, 51] {
        records[at].payload = Some(large.clone());
    }
    let scanner = exactly_once(&scene, "scanner-0").start();
    scene.produce(records);
    scene.wait_until_answered(PATIENCE);
    scene.wait_until_committed(PATIENCE);
    assert_exactly_once(&scene);
    let cut: Vec<_> = scene
        .answers()
        .iter()
        .filter(|answer| answer.json["truncated"] == true)
        .map(|answer| answer.place().1)
        .collect();
    assert_eq!(cut, [0, 50, 51]);
    let truncated = r#"scanner_results_truncated_total{kind="result"}"#;
    assert_eq!(scanner.scrape().get(truncated), 3.0);
    stop(scanner);
}

/// Records in each second, from a full topic, once the replica works.
fn throughput(broker: &Broker, records: usize, delivery: &str) -> f64 {
    let scene = Scene::new(broker, &format!("eos-{delivery}"), PARTITIONS);
    scene.produce(load(records, PARTITIONS));
    let scanner = scene
        .replica("scanner-0")
        .flag("--delivery", delivery)
        .env("SCANNER_KAFKA__TRANSACTION_INTERVAL", "200ms")
        .start();
    let answered = |share: f64| {
        wait_for("results", PATIENCE * 3, || {
            let done = scanner.scrape().sum("scanner_results_produced_total");
            (done >= records as f64 * share).then_some((done, Instant::now()))
        })
    };
    let (from, to) = (answered(0.1), answered(0.9));
    let metrics = scanner.scrape();
    let count = metrics.sum("scanner_txn_commit_duration_seconds_count");
    if count > 0.0 {
        announce!(
            "delivery: {count} transactions of {:.0} results, {:.1} ms to commit each",
            metrics.sum("scanner_txn_messages_sum") / count,
            1e3 * metrics.sum("scanner_txn_commit_duration_seconds_sum") / count
        );
    }
    stop(scanner);
    let answered: BTreeSet<_> = times_answered(&scene.answers()).into_keys().collect();
    assert!(answered.len() as f64 >= 0.9 * records as f64);
    (to.0 - from.0) / to.1.duration_since(from.1).as_secs_f64()
}

/// Proves: what exactly-once delivery costs with transactions of 200 ms: at most 15 % of the throughput. Asserted only by
/// `make compare-delivery`, which gives it a quiet build and more records.
#[test]
fn exactly_once_delivery_costs_little_throughput() {
    let Some(broker) = real() else {
        return;
    };
    let records = std::env::var("SCANNER_TEST_DELIVERY_RECORDS").ok();
    let is_heavy = records.is_some();
    let records = records.map_or(20_000, |records| records.parse().expect("a number"));
    let rounds = if is_heavy { 5 } else { 1 };
    let mut ratios: Vec<f64> = (0..rounds)
        .map(|_| {
            let once = throughput(broker, records, "exactly-once");
            let least = throughput(broker, records, "at-least-once");
            announce!(
                "delivery: exactly-once {once:.0} records/s, at-least-once {least:.0}, ratio {:.3}",
                once / least
            );
            once / least
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[rounds / 2];
    announce!(
        "delivery: exactly-once has {median:.3} of the throughput of at-least-once ({records} records, median of {rounds})"
    );
    if is_heavy {
        assert!(median >= 0.85, "{ratios:?}");
    }
}
