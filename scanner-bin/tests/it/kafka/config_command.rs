//! `scanner-bin config`: what is printed, and the exit status.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::net::TcpListener;
use std::process::{Command, Output};

use support::broker::Broker;
use support::scene::Scene;

/// Runs the binary.
fn scanner(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// The binary, without any setting of this process's own environment.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("SCANNER_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn text(output: &Output) -> (i32, String, String) {
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        utf8(&output.stdout),
        utf8(&output.stderr),
    )
}

#[test]
fn check_says_that_brokers_are_not_verified() {
    let arguments = [
        "config",
        "check",
        "--listen",
        "127.0.0.1:0",
        "--brokers",
        "127.0.0.1:1",
    ];
    let ssl = ["-X", "security.protocol=ssl"];
    for property in [
        "enable.ssl.certificate.verification=false",
        "ssl.endpoint.identification.algorithm=none",
    ] {
        let (_, out, _) = text(&scanner(
            &[&arguments[..], &ssl, &["-X", property]].concat(),
        ));
        let name = property.split('=').next().unwrap();
        let is_note = |line: &str| line.contains("not verified") && line.contains(name);
        assert!(out.lines().any(is_note), "{out}");
    }
}

#[test]
fn the_sample_is_a_configuration_with_nothing_but_defaults() {
    let (code, sample, _) = text(&scanner(&["config", "sample"]));
    assert_eq!(code, 0);
    assert_eq!(sample, include_str!("../../../../docs/scanner.toml"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scanner.toml");
    std::fs::write(&path, sample).unwrap();
    let from_sample = text(&scanner(&[
        "config",
        "show",
        "--config",
        path.to_str().unwrap(),
    ]))
    .1;
    let by_itself = text(&scanner(&["config", "show"])).1;
    let values = |page: &str| {
        let lines = page
            .lines()
            .map(|line| line.split(" # ").next().unwrap().trim_end().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(values(&from_sample), values(&by_itself));
}

#[test]
fn an_unusable_configuration_is_status_2_for_show_and_check() {
    for command in ["show", "check"] {
        let (code, out, error) = text(&scanner(&["config", command, "--threads", "0"]));
        assert_eq!(code, 2);
        assert!(
            out.is_empty() && error.contains("scan.threads (flag --threads)"),
            "{error}"
        );
    }
}

#[test]
fn check_says_ok_to_a_service_that_could_start() {
    let scene = Scene::new(Broker::shared(), "check", 3);
    let (code, out, error) = text(&scanner(&[
        "config",
        "check",
        "--brokers",
        scene.broker.bootstrap(),
        "--input-topic",
        &scene.input,
        "--output-topic",
        &scene.output,
        "--dead-letter-topic",
        &scene.dead_letters,
        "--listen",
        "127.0.0.1:0",
    ]));
    assert_eq!(code, 0, "{out}{error}");
    for wanted in [
        "ok   settings",
        "ok   database",
        "note database",
        "ok   memory",
        "ok   prefilter on",
        "ok   brokers",
        &format!("{}: 3 partitions", scene.input),
        "compression.type",
        "ok   listen",
    ] {
        assert!(out.contains(wanted), "{wanted} is missing: {out}");
    }
    assert!(!out.contains("FAIL"), "{out}");
}

#[test]
fn check_says_why_the_prefilter_is_off() {
    let (_, out, _) = text(&scanner(&[
        "config",
        "check",
        "--brokers",
        "127.0.0.1:1",
        "--prefilter",
        "off",
    ]));
    let said = "note prefilter off, so libclamav is asked about every message: the prefilter is not asked for";
    assert!(out.contains(said), "{out}");
}

/// What it may take is told beside what there is: a limit that it does not fit into is seen before the kernel sees it.
#[test]
fn check_says_when_memory_is_not_enough() {
    let mut command = command(&["config", "check", "--brokers", "127.0.0.1:1"]);
    command.env("SCANNER_KAFKA__INFLIGHT_BYTES", "65536GiB");
    let (code, out, error) = text(&command.output().unwrap());
    assert_eq!(code, 1, "{out}{error}");
    assert!(
        out.contains("FAIL memory    ")
            && out.contains("lower kafka.fetch_memory_bytes and kafka.inflight_bytes"),
        "{out}"
    );
}

#[test]
fn check_names_everything_that_is_not_as_the_service_needs_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, out, error) = text(&scanner(&[
        "config",
        "check",
        "--brokers",
        "127.0.0.1:1",
        "--database",
        "/no/such/database",
        "--listen",
        &taken.local_addr().unwrap().to_string(),
    ]));
    assert_eq!(code, 1, "{out}{error}");
    for wanted in [
        "FAIL database  /no/such/database",
        "FAIL brokers   127.0.0.1:1",
        "FAIL listen",
    ] {
        assert!(out.contains(wanted), "{wanted} is missing: {out}");
    }
    assert_eq!(out.lines().count(), 4, "one line for each: {out}");
}

#[test]
fn check_tells_a_missing_topic_from_missing_brokers() {
    let broker = Broker::shared();
    if !broker.is_real() {
        support::announce!(
            "left out: a missing topic: the embedded broker creates what it is asked for"
        );
        return;
    }
    let scene = Scene::without_topics(broker, "check-missing");
    broker.create_topic(&scene.output, 1, &[]);
    broker.create_topic(&scene.dead_letters, 1, &[]);
    let flags = [
        "config",
        "check",
        "--brokers",
        broker.bootstrap(),
        "--input-topic",
        &scene.input,
        "--output-topic",
        &scene.output,
        "--dead-letter-topic",
        &scene.dead_letters,
        "--listen",
        "127.0.0.1:0",
    ];
    let (code, out, error) = text(&scanner(&flags));
    assert_eq!(code, 1, "{out}{error}");
    assert!(out.contains("ok   brokers"), "{out}");
    assert!(
        out.contains(&format!("FAIL topic     {}: ", scene.input)),
        "{out}"
    );
    let (code, out, _) = text(&scanner(&[&flags[..], &["--create-topics"]].concat()));
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains(&format!("note topic     {}: ", scene.input)),
        "{out}"
    );
}
