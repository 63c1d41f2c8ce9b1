//! The service with `scan.isolation = "process"`: the same results, and processes that are killed cost no record.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use scanlib::eicar;
use support::broker::Broker;
use support::client::Outgoing;
use support::load::paced;
use support::metrics::Scrape;
use support::process::{Launch, Scanner, below};
use support::scene::{Answer, Scene, assert_answered_once, line};
use support::{announce, wait_for};

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 4;
/// How long processes are killed, and the pause between two rounds.
const KILLING: Duration = Duration::from_secs(10);
const BETWEEN_KILLS: Duration = Duration::from_millis(200);

/// A record that libclamav has to see.
fn html(number: usize) -> Vec<u8> {
    format!("<13>Oct 20 02:44:02 web app: comment {number}: <html><script>x()</script></html>")
        .into_bytes()
}

fn infected() -> Vec<u8> {
    format!("<13>Oct 20 02:44:02 web app: {}", eicar::text()).into_bytes()
}

fn isolated(scene: &Scene<'_>, instance: &str) -> Launch {
    scene
        .replica(instance)
        .flag("--isolation", "process")
        // No broker has it: the main process connects to those that it was given, and to no other port.
        .env("SCANNER_KAFKA__BROKER_PORTS", "1")
}

/// Kills every process of this name below the replicas. Returns how many.
fn kill(replicas: &[&Scanner], name: &str) -> usize {
    let found = replicas.iter().flat_map(|it| below(it.pid(), name));
    // One that has ended meanwhile is gone all the same.
    found
        .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
        .count()
}

/// What is the same whoever scans it.
fn verdicts(answers: &[Answer]) -> BTreeMap<(i32, i64), Vec<String>> {
    let of = |answer: &Answer| {
        let fields = [
            "status",
            "threat_found",
            "threat_name",
            "severity",
            "limits",
        ];
        fields
            .map(|name| format!("{name}: {}", answer.json[name]))
            .to_vec()
    };
    let verdicts = answers.iter().map(|answer| (answer.place(), of(answer)));
    verdicts.collect()
}

/// Proves: with isolation the results are those without it; `config check`, the metrics and the processes show that it is in use.
#[test]
fn isolation_changes_no_verdict_and_shows_what_confines_it() {
    let broker = Broker::shared();
    let scenes = ["isolation-process", "isolation-none"].map(|name| Scene::new(broker, name, 1));
    let mut launches = [
        isolated(&scenes[0], "scanner-0"),
        scenes[1].replica("scanner-0").flag("--isolation", "none"),
    ]
    .into_iter();
    let results: Vec<_> = scenes
        .iter()
        .map(|scene| {
            let mut scanner = launches.next().unwrap().start();
            scanner.wait_until_ready(PATIENCE);
            scene.produce([infected(), html(1), line(1)].map(Outgoing::of));
            let answers = scene.wait_until_answered(PATIENCE);
            assert_answered_once(&answers, &scene.places());
            (verdicts(&answers), scanner)
        })
        .collect();
    let [(isolated, scanner), (plain, other)] = &results[..] else {
        unreachable!()
    };
    assert_eq!(isolated, plain);
    let statuses: Vec<_> = isolated.values().map(|fields| &fields[0][..]).collect();
    let (threat, clean) = ("status: \"threat\"", "status: \"clean\"");
    assert_eq!(statuses, [threat, clean, clean]);
    for name in ["scan-spawner", "scan-template", "scan-worker"] {
        assert_eq!(below(scanner.pid(), name).len(), 1, "{name}");
        assert_eq!(below(other.pid(), name).len(), 0, "{name}");
    }

    // Whoever is short of memory ends a process that scans, whatever user this is.
    for pid in below(scanner.pid(), "scan-worker") {
        let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
        let score: i32 = fs::read_to_string(path).unwrap().trim().parse().unwrap();
        assert!(score >= 800, "{score}");
    }

    // What `config check` prints is what the metrics have.
    let output = Command::new(env!("CARGO_BIN_EXE_scanner-bin"))
        .args(["config", "check", "--isolation", "process"])
        .args(["--brokers", broker.bootstrap(), "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let confinement = printed.lines().find(|line| line.contains(" isolation "));
    let confinement = confinement.unwrap_or_else(|| panic!("{printed}"));
    announce!("{confinement}");
    let metrics = scanner.scrape();
    let of = |name: &str| metrics.get(&format!("scanner_confinement{{mechanism=\"{name}\"}}"));
    for name in ["seccomp", "no_new_privs", "not_dumpable", "memory_limit"] {
        let is_missing = confinement.contains(&format!("no {name}"));
        assert_eq!(of(name) == 0.0, is_missing, "{name}: {confinement}");
    }
    let landlock = format!("Landlock {}", of("landlock"));
    let expected = match of("landlock") > 0.0 {
        true => &landlock[..],
        false => "no Landlock",
    };
    assert!(confinement.contains(expected), "{expected}: {confinement}");
    // A kernel that filters system calls has this line.
    let kernel = fs::read_to_string("/proc/self/status").unwrap();
    if kernel.contains("Seccomp_filters:") {
        assert_eq!(of("seccomp"), 1.0);
    }
    assert_eq!(of("no_new_privs"), 1.0);
    assert_eq!(metrics.sum("scanner_scanning_process_crashes_total"), 0.0);
    // Without isolation nothing claims that something is confined.
    assert_eq!(other.scrape().sum("scanner_confinement"), 0.0);
}

/// Proves: scanning processes that are killed several times a second under load change no result, and cost no rebalance and no
/// readiness. When the process that holds the signatures is killed, they are loaded again by themselves, and every record
/// is answered.
#[test]
fn killed_processes_cost_no_record_and_no_rebalance() {
    let scene = Scene::new(Broker::shared(), "isolation-kill", PARTITIONS);
    let mut replicas = ["scanner-0", "scanner-1"].map(|name| isolated(&scene, name).start());
    for replica in &mut replicas {
        replica.wait_until_ready(PATIENCE);
    }
    let replicas = [&replicas[0], &replicas[1]];
    scene.wait_until_shared(&replicas, &[2, 2], PATIENCE);
    let rebalances = || -> Vec<f64> {
        let sum = |metrics: Scrape| metrics.sum("scanner_rebalances_total");
        replicas.iter().map(|it| sum(it.scrape())).collect()
    };
    let before = rebalances();
    // Half of it is for libclamav.
    let lines: Vec<_> = (0..100)
        .map(|number| match number % 10 {
            0 => infected(),
            odd if odd % 2 == 1 => html(number),
            _ => line(number),
        })
        .collect();
    let (stop, mut killed, mut unready) = (AtomicBool::new(false), 0, Vec::new());
    thread::scope(|scope| {
        let load = scope.spawn(|| paced(&scene, &lines, 500.0, PARTITIONS, &stop));
        let until = Instant::now() + KILLING;
        while Instant::now() < until {
            thread::sleep(BETWEEN_KILLS);
            killed += kill(&replicas, "scan-worker");
            let probes = replicas.iter().filter_map(|it| it.get("/readyz"));
            unready.extend(probes.filter(|(status, _)| *status != 200));
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });
    let answers = scene.wait_until_answered(PATIENCE);
    let sent = scene.places();
    let crashes: f64 = replicas
        .iter()
        .map(|it| it.scrape().sum("scanner_scanning_process_crashes_total"))
        .sum();
    announce!(
        "isolation: {} records, {killed} scanning processes killed, {crashes} of them seen as crashes",
        sent.len()
    );
    assert!(killed >= 10 && crashes >= 1.0, "{killed}, {crashes}");
    assert_answered_once(&answers, &sent);
    assert!(unready.is_empty(), "{unready:?}");
    assert_eq!(rebalances(), before, "partitions moved");
    // Whoever kills three processes in a row that each scan the same record alone gets what a crashing record gets.
    let failed = |answers: &[Answer]| answers.iter().filter(|it| it.status() == "error").count();
    let unlucky = failed(&answers);
    assert!(unlucky * 100 <= answers.len(), "{unlucky} errors");
    for answer in answers.iter().filter(|it| it.status() != "error") {
        let is_infected = answer.record.text().contains("eicar_test");
        let expected = if is_infected { "threat" } else { "clean" };
        assert_eq!(answer.status(), expected, "{:#}", answer.json);
    }

    // The process that holds the signatures.
    let [first, _] = replicas;
    let template = below(first.pid(), "scan-template");
    let answered: BTreeSet<_> = sent;
    assert_eq!(kill(&[first], "scan-template"), 1);
    scene.produce((0..200).map(|number| {
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        Outgoing::of(html(number)).partition(partition)
    }));
    wait_for(
        "another process that holds the signatures",
        PATIENCE,
        || {
            let now = below(first.pid(), "scan-template");
            (now.len() == 1 && now != template).then_some(())
        },
    );
    let answers = scene.wait_until_answered(PATIENCE);
    assert_answered_once(&answers, &scene.places());
    // Records wait until there is an engine again.
    let errors = failed(&answers);
    assert_eq!(errors, unlucky, "errors of the first part only");
    let letters = scene.broker.read_all(&scene.dead_letters).len();
    assert_eq!(letters, errors, "dead letters and errors");
    let new = answers.iter().filter(|it| !answered.contains(&it.place()));
    for answer in new.filter(|it| it.status() != "error") {
        assert_eq!(answer.status(), "clean", "{:#}", answer.json);
    }
    let ready = || first.get("/readyz").filter(|(status, _)| *status == 200);
    wait_for("readiness", PATIENCE, ready);
    scene.wait_until_committed(PATIENCE);
    assert_eq!(rebalances(), before, "partitions moved");
}
