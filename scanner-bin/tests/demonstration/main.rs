//! One pod becomes three, and everything that is said of it is measured: `make k8s-demo`.
//!
//! `tests/k8s-demo` has started a Kubernetes; the image is in it. The broker and the load are processes of this machine.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod chart;
mod cluster;
mod course;
mod quota;
mod report;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod watch;

use std::fs;

use course::demonstrate;
use report::{LEAST_SPEEDUP, Run};
use stage::Stage;
use support::{announce, workspace};

/// Writes the page and its chart, and everything as JSON.
fn publish(run: &Run) {
    let docs = workspace().join("docs");
    fs::write(docs.join("scaling-demonstration.md"), run.markdown()).unwrap();
    fs::write(docs.join("scaling-demonstration.svg"), chart::chart(run)).unwrap();
    let out = workspace().join("target/demonstration");
    fs::write(
        out.join("run.json"),
        serde_json::to_string_pretty(run).unwrap() + "\n",
    )
    .unwrap();
    announce!("k8s-demo: docs/scaling-demonstration.md, docs/scaling-demonstration.svg");
}

/// Proves: a pod that the manifests describe is ready without a restart and finds the planted threats by their names; scaled to three, each
/// has one partition, and together they do at least 2.8 times as much; what waits is worked off; a deleted pod and a killed one lose
/// nothing; the budget lets one pod go at a time; scaled back, one has all partitions.
#[test]
fn one_pod_becomes_three_and_every_record_is_answered() {
    let stage = Stage::set();
    let run = demonstrate(&stage);
    // The page is about what the manifests have.
    if stage::isolation() == "process" {
        publish(&run);
    }

    let names: Vec<_> = run
        .verdicts
        .iter()
        .map(|verdict| verdict.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Malicious pattern: eicar_test",
            "Malicious pattern: powershell_encoded",
            "Suspicious content: suspicious_url",
            "Injection attempt: sql_injection",
            "",
        ]
    );
    let statuses: Vec<_> = run
        .verdicts
        .iter()
        .map(|verdict| verdict.status.as_str())
        .collect();
    assert_eq!(statuses, ["threat", "threat", "threat", "threat", "clean"]);
    assert_eq!(run.log_lines.len(), 4, "{:?}", run.log_lines);

    assert!(run.void.is_empty(), "the rates are void: {:?}", run.void);
    assert!(
        run.speedup() >= LEAST_SPEEDUP,
        "three pods do {:.2} times what one does",
        run.speedup()
    );
    assert_eq!(run.deleted.restarts, 0, "a pod restarted by itself");
    assert_eq!(
        run.killed.restarts, 1,
        "the killed process was started again once"
    );
    assert!(
        run.eviction.reason.contains("disruption budget"),
        "{:?}",
        run.eviction
    );
    let count = &run.count;
    assert_eq!(count.lost, 0, "records without a result");
    assert_eq!(
        count.twice_others, 0,
        "answered twice, and not by the killed one's successor"
    );
    assert_eq!(count.dead_letters, 0);
}
