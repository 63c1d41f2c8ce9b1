//! The tests' own broker keeps what it promises: it is a real one, it keeps its data, and it leaves nothing behind.

// A harness that cannot go on has nothing better to do than to panic.
#![allow(clippy::unwrap_used)]

use crate::support;

use std::process::{Command, Stdio};
use std::time::Duration;

use support::broker::Broker;
use support::client::Outgoing;
use support::process::{Scanner, is_alive, start_guard};
use support::{unique, wait_for};

#[test]
fn a_broker_survives_a_crash_with_its_records_and_leaves_nothing_when_dropped() {
    let broker = Broker::start();
    let topic = unique("round");
    broker.create_topic(&topic, 3, &[("max.message.bytes", "6000000")]);

    let sent = [
        Outgoing::of("first")
            .key("k")
            .partition(1)
            .header("h", "v")
            .timestamp_ms(1_700_000_000_000),
        Outgoing::of(vec![b'x'; 100_000]).partition(1),
        Outgoing::tombstone().key("k").partition(2),
    ];
    let placed = broker.produce(&topic, sent.clone());
    assert_eq!(placed, [(1, 0), (1, 1), (2, 0)]);

    let before = broker.read_all(&topic);
    assert_eq!(before.len(), sent.len());
    for (record, sent) in before.iter().zip(&sent) {
        assert_eq!(record.payload, sent.payload);
        assert_eq!(record.key, sent.key);
        assert_eq!(record.headers, sent.headers);
    }
    assert_eq!(before[0].timestamp_ms, Some(1_700_000_000_000));
    assert_eq!(broker.ends(&topic), [(0, 0), (1, 2), (2, 1)].into());
    assert!(broker.committed("nobody", &topic).is_empty());

    let first_process = broker.pid();
    broker.restart();
    assert_eq!(
        broker.read_all(&topic),
        before,
        "a restart lost or changed records"
    );
    let again = broker.read_until(&topic, Duration::from_secs(20), |records| {
        records.len() == 3
    });
    assert_eq!(again.len(), 3);

    the_binary_starts_answers_and_leaves(&broker);

    let second_process = broker.pid();
    if broker.is_real() {
        assert!(
            broker.version().starts_with("4."),
            "not an Apache Kafka 4: {}",
            broker.version()
        );
        assert_ne!(first_process, second_process);
        assert!(is_alive(second_process.unwrap()));
    }
    drop(broker);
    for process in [first_process, second_process].into_iter().flatten() {
        assert!(!is_alive(process), "process {process} outlived its broker");
    }
}

/// The wrapper around the binary: it knows when the service is ready, sees what it prints and how it ends.
fn the_binary_starts_answers_and_leaves(broker: &Broker) {
    let [input, output, dead] = ["in", "out", "dead"].map(unique);
    for topic in [&input, &output, &dead] {
        broker.create_topic(topic, 1, &[]);
    }
    let mut scanner = Scanner::launch(broker.bootstrap())
        .flag("--group", unique("group"))
        .flag("--input-topic", &input)
        .flag("--output-topic", &output)
        .flag("--dead-letter-topic", &dead)
        .start();
    scanner.wait_until_ready(Duration::from_secs(60));
    let (status, metrics) = scanner.get("/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE scanner_"), "{metrics}");

    broker.produce(
        &input,
        [Outgoing::of("Oct 11 22:14:15 host app: hello").key("k")],
    );
    let results = broker.read_until(&output, Duration::from_secs(30), |records| {
        records.len() == 1
    });
    assert_eq!(results[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(results[0].json()["status"], "clean");

    scanner.terminate();
    let status = scanner.wait(Duration::from_secs(40));
    assert!(
        status.success(),
        "SIGTERM ended it with {status}:\n{}",
        scanner.output()
    );
    assert!(
        scanner.get("/livez").is_none(),
        "somebody else listens there"
    );
}

/// What the guard does when a test program is killed and nothing is dropped.
#[test]
fn the_guard_ends_what_a_dead_test_program_left_running() {
    let dir = tempfile::tempdir().unwrap().keep();
    std::fs::write(dir.join("file"), "left behind").unwrap();
    let (mut guard, pipe) = start_guard(&dir);
    let mut left = Command::new("sleep")
        .arg("600")
        .env("TEST_PROGRAM", &dir)
        .spawn()
        .unwrap();
    let mut other = Command::new("sleep")
        .arg("600")
        .env("TEST_PROGRAM", dir.join("other"))
        .spawn()
        .unwrap();

    std::thread::sleep(Duration::from_millis(300));
    assert!(
        left.try_wait().unwrap().is_none(),
        "the guard acts before the program ends"
    );

    drop(pipe); // the kernel does this for a program that dies
    wait_for("the guard's work", Duration::from_secs(10), || {
        guard.try_wait().unwrap()
    });
    wait_for("the end of the process", Duration::from_secs(5), || {
        left.try_wait().unwrap()
    });
    assert!(!dir.exists());
    assert!(
        other.try_wait().unwrap().is_none(),
        "the guard ended somebody else's process"
    );
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Without Java there is no real broker, and the script says what is missing.
#[test]
fn a_missing_java_is_named_in_one_sentence() {
    let bare = tempfile::tempdir().unwrap();
    let tools = ["bash", "dirname", "env", "sed", "sha256sum", "cut"];
    for tool in tools {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .unwrap();
        let path = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(path.trim(), bare.path().join(tool)).unwrap();
    }
    let fetch = Command::new(support::workspace().join("tests/kafka/fetch"))
        .env("PATH", bare.path())
        .env("HOME", bare.path())
        .env_remove("XDG_CACHE_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&fetch.stderr).into_owned();
    assert!(!fetch.status.success());
    assert_eq!(
        said.trim(),
        "kafka: a broker needs Java 17 (apt-get install openjdk-17-jre-headless)."
    );
}
