//! What the demo promises: it proves its claims, and it fails when one of them does not hold.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> (i32, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_scanner-bin"))
        .args(["demo", "--records", "600"])
        .args(arguments)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code().expect("ended by a signal"), said)
}

/// The claims that were proven, and those that were not.
fn claims(said: &str) -> (Vec<&str>, Vec<&str>) {
    let after = |mark| {
        let claim = move |line| str::strip_prefix(str::trim_start(line), mark);
        said.lines()
            .filter_map(claim)
            .map(str::trim_start)
            .collect()
    };
    (after("proven "), after("MISSING"))
}

#[test]
fn the_demo_names_the_four_detections_and_proves_every_claim() {
    let (code, said) = demo(&[]);
    let (proven, missing) = claims(&said);
    assert_eq!(code, 0, "{said}");
    assert_eq!(missing, [""; 0]);
    for name in [
        "found: Malicious pattern: eicar_test (high)",
        "found: Malicious pattern: powershell_encoded (high)",
        "found: Suspicious content: suspicious_url (medium)",
        "found: Injection attempt: sql_injection (high)",
        "clean: every harmless record",
        "libclamav itself found EICAR",
        "answered: every record at least once: 605 of 605",
        "shared: 3 replicas with as many partitions each: 1-1-1",
    ] {
        assert!(
            proven.iter().any(|claim| claim.starts_with(name)),
            "{name} in {said}"
        );
    }
}

/// Each of these parts is what lets libclamav itself find EICAR inside a JSON record.
fn fails_for_want_of(part: &str) {
    let (code, said) = demo(&["--without", part]);
    let (proven, missing) = claims(&said);
    assert_eq!(code, 1, "{said}");
    assert_eq!(missing.len(), 1, "{said}");
    assert!(
        missing[0].starts_with("libclamav itself found EICAR"),
        "{said}"
    );
    assert_eq!(proven.len(), 7, "the rest works without it: {said}");
}

#[test]
fn without_the_engine_the_demo_fails_and_names_the_missing_proof() {
    fails_for_want_of("engine");
}

#[test]
fn without_the_eicar_signature_the_demo_fails_and_names_the_missing_proof() {
    fails_for_want_of("eicar-signature");
}

#[test]
fn without_the_body_view_the_demo_fails_and_names_the_missing_proof() {
    fails_for_want_of("body-view");
}

#[test]
fn brokers_that_are_not_there_are_an_error_and_no_failed_proof() {
    let (code, said) = demo(&["--brokers", "127.0.0.1:1"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
