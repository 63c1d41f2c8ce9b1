//! A flood of detections: results and metrics have all of them, the log a few and how many more there were.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::time::Duration;

use serde_json::Value;
use support::broker::Broker;
use support::client::Outgoing;
use support::scene::{Scene, assert_answered_once, planted};
use support::wait_for;

const PATIENCE: Duration = Duration::from_secs(60);
const RECORDS: usize = 3000;

/// Proves: of thousands of detections from one source a few a second are logged, each suppressed one is counted in the log and in the
/// metrics, also when nothing is detected any more, and none is missing among the results. A host name of a megabyte is cut.
#[test]
fn a_flood_of_detections_is_answered_in_full_and_logged_in_part() {
    let scene = Scene::new(Broker::shared(), "flood", 1);
    let (threat, name) = planted().swap_remove(0);
    let host = "h".repeat(1_000_000);
    let text = String::from_utf8(threat.clone()).unwrap();
    let long = serde_json::json!({"message": text, "source_host": host}).to_string();
    let scanner = scene.ready_replica("scanner-0");
    let flood = (0..RECORDS).map(|_| Outgoing::of(threat.clone()));
    scene.produce([Outgoing::of(long)].into_iter().chain(flood));
    let answers = scene.wait_until_answered(PATIENCE);
    assert_answered_once(&answers, &scene.places());
    assert!(answers.iter().all(|answer| answer.status() == "threat"));

    let lines = || -> Vec<Value> {
        let lines = scanner.stdout().into_iter();
        lines
            .filter_map(|line| serde_json::from_str(&line).ok())
            .collect()
    };
    let logged = |lines: &[Value]| {
        let is_detection = |line: &&Value| line["message"] == "Threat detected";
        lines.iter().filter(is_detection).count()
    };
    let suppressed = |lines: &[Value]| -> u64 {
        lines
            .iter()
            .filter_map(|line| line["suppressed"].as_u64())
            .sum()
    };
    let all = RECORDS as u64 + 1;
    let lines = wait_for("a count of what was not logged", PATIENCE, || {
        let lines = lines();
        (logged(&lines) as u64 + suppressed(&lines) == all).then_some(lines)
    });
    let counted = scanner.scrape();
    assert_eq!(
        counted.get("scanner_scan_total{verdict=\"threat\"}"),
        all as f64
    );
    assert_eq!(
        counted.sum("scanner_detection_log_lines_suppressed_total"),
        suppressed(&lines) as f64
    );
    assert!(suppressed(&lines) > 0, "nothing was suppressed");
    let of_the_flood = lines
        .iter()
        .filter(|line| line["suppressed"].is_u64())
        .all(|line| line["threat_name"] == name);
    assert!(of_the_flood, "the line names the threat");
    let longest = scanner.stdout().iter().map(String::len).max().unwrap();
    assert!(longest < 5000, "a log line of {longest} bytes");
}
