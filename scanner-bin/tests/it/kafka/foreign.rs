//! A client that has nothing to do with this program writes records and reads results.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::broker::Broker;
use support::scene::{Scene, planted};
use support::{announce, in_ci};

const PATIENCE: Duration = Duration::from_secs(60);

/// Run kcat with this standard input; its standard output.
fn kcat(broker: &Broker, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("kcat");
    command
        .args(["-q", "-b", broker.bootstrap()])
        .args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "kcat {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn has_kcat() -> bool {
    match Command::new("kcat").arg("-V").output() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound && !in_ci() => {
            announce!(
                "left out: a foreign client: kcat is not installed (tests/setup test installs it)"
            );
            false
        }
        Err(error) => panic!("kcat does not start: {error}"),
    }
}

/// Proves: what kcat writes is scanned, and kcat reads the results with the keys, headers and values that it should.
#[test]
fn kcat_writes_records_and_reads_their_results() {
    if !has_kcat() {
        return;
    }
    let scene = Scene::new(Broker::shared(), "kcat", 3);
    let _scanner = scene.ready_replica("scanner-0");
    let mut expected = BTreeMap::from([("host-clean", None)]);
    let mut input = b"host-clean|<13>Oct 20 02:44:02 web app: all is well\n".to_vec();
    for ((payload, name), key) in planted()
        .into_iter()
        .zip(["host-1", "host-2", "host-3", "host-4"])
    {
        expected.insert(key, Some(name));
        input.extend_from_slice(&[key.as_bytes(), b"|", &payload, b"\n"].concat());
    }
    kcat(scene.broker, &["-P", "-t", &scene.input, "-K", "|"], &input);

    let wanted = expected.len().to_string();
    let format = "%k\t%h\t%s\n";
    let arguments = [
        "-C",
        "-t",
        &scene.output,
        "-o",
        "beginning",
        "-c",
        &wanted,
        "-f",
        format,
    ];
    scene.wait_until_answered(PATIENCE);
    let output = String::from_utf8(kcat(scene.broker, &arguments, b"")).unwrap();
    let mut seen = BTreeMap::new();
    for line in output.lines() {
        let columns: Vec<_> = line.splitn(3, '\t').collect();
        let [key, headers, value] = columns[..] else {
            panic!("not three columns: {line}")
        };
        let value: Value = serde_json::from_str(value).unwrap();
        let text = |name: &str| value[name].as_str().unwrap();
        assert_eq!(
            headers,
            format!("status={},severity={}", text("status"), text("severity"))
        );
        assert_eq!(value["kafka"]["key"], key);
        seen.insert(
            key.to_owned(),
            value["threat_name"].as_str().map(str::to_owned),
        );
    }
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|(key, name)| (key.to_owned(), name.map(str::to_owned)))
        .collect();
    assert_eq!(seen, expected);
    announce!(
        "foreign client: kcat wrote {} records and read their results",
        seen.len()
    );
}
