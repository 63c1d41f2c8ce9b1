//! `scanner-bin probe`, as a supervisor runs it: the exit status is the answer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use scanner_bin::ops::health::{Check, Health, Limits};
use scanner_bin::ops::metrics::Metrics;
use scanner_bin::ops::server::Server;

/// The endpoints of a service, without the service.
fn endpoints(address: [u8; 4]) -> (Arc<Health>, Server) {
    let patience = Duration::from_secs(60);
    let health = Arc::new(Health::new(Limits {
        poll_loop: patience,
        worker: patience,
    }));
    let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
    let server = Server::start((address, 0).into(), Arc::clone(&health), metrics).unwrap();
    (health, server)
}

fn probe(question: &str, listen: SocketAddr) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.args(["probe", question, "--listen", &listen.to_string()]);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_probe_says_by_its_status_what_its_endpoint_says() {
    let (health, server) = endpoints([127, 0, 0, 1]);
    let status = |question| probe(question, server.address()).status.code().unwrap();

    assert_eq!(
        ["startup", "live", "ready"].map(status),
        [1, 0, 1],
        "before anything is loaded"
    );
    health.pass(Check::Engine);
    health.pass(Check::Rules);
    assert_eq!(["startup", "live", "ready"].map(status), [0, 0, 1]);
    for check in [Check::SelfScan, Check::Group, Check::InputTopic] {
        health.pass(check);
    }
    assert_eq!(["startup", "live", "ready"].map(status), [0, 0, 0]);
}

#[test]
fn a_no_names_each_check_that_failed_and_why() {
    let (health, server) = endpoints([127, 0, 0, 1]);
    health.pass(Check::SelfScan);
    health.pass(Check::Group);
    health.fail(Check::InputTopic, "the topic \u{1b}[31mx is missing");
    let output = probe("ready", server.address());
    assert_eq!(
        said(&output),
        "input_topic: the topic \\u{1b}[31mx is missing\n"
    );
}

#[test]
fn a_service_that_listens_everywhere_is_asked_here() {
    let (_health, server) = endpoints([0, 0, 0, 0]);
    assert!(server.address().ip().is_unspecified());
    assert_eq!(probe("live", server.address()).status.code(), Some(0));
}

#[test]
fn where_nobody_or_a_stranger_answers_the_status_is_2_and_the_address_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let nobody = probe("live", address);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(said(&nobody).contains(&address.to_string()), "{nobody:?}");

    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = stranger.accept().unwrap();
        // All of it: who closes with something unread resets the connection.
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
    });
    let wrong = probe("live", address);
    answering.join().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said(&wrong).contains("no scanner"), "{wrong:?}");
}

#[test]
fn it_asks_where_the_configuration_says_that_the_service_listens() {
    let (_health, server) = endpoints([127, 0, 0, 1]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.args(["probe", "live"]);
    command.env("SCANNER_OPS__LISTEN", server.address().to_string());
    assert_eq!(command.output().unwrap().status.code(), Some(0));
}
