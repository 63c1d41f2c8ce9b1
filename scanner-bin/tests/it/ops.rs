//! Probes and metrics, asked over HTTP as a kubelet and a Prometheus ask them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scanlib::PoolStats;
use scanlib::prefilter::Cause;
use scanner_bin::ops::health::{Check, Health, Limits};
use scanner_bin::ops::metrics::{self, CommitLabels, Metrics, ReasonLabel};
use scanner_bin::ops::server::Server;
use serde_json::Value;

struct Service {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    server: Server,
}

fn service(limits: Limits) -> Service {
    let health = Arc::new(Health::new(limits));
    let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::start(address, Arc::clone(&health), Arc::clone(&metrics)).unwrap();
    Service {
        health,
        metrics,
        server,
    }
}

fn patient() -> Service {
    service(Limits {
        poll_loop: Duration::from_secs(60),
        worker: Duration::from_secs(60),
    })
}

impl Service {
    fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.server.address());
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut response = agent.get(&url).call().unwrap();
        (
            response.status().as_u16(),
            response.body_mut().read_to_string().unwrap(),
        )
    }

    fn probe(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get(path);
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Sends these bytes and reads until the server closes.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn check<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let checks = answer["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("{name} is missing in {answer}"))
}

#[test]
fn startup_waits_for_signatures_and_rules_and_not_for_kafka() {
    let service = patient();
    let (status, answer) = service.probe("/startupz");
    assert_eq!(status, 503);
    assert_eq!(
        check(&answer, "engine")["reason"],
        "the signatures are being loaded"
    );
    service.health.pass(Check::Engine);
    assert_eq!(service.probe("/startupz").0, 503);
    service.health.pass(Check::Rules);
    let (status, answer) = service.probe("/startupz");
    assert_eq!((status, &answer["ok"]), (200, &Value::Bool(true)));
}

#[test]
fn ready_needs_every_check_and_names_the_one_that_fails() {
    let service = patient();
    for check in [Check::SelfScan, Check::Group, Check::InputTopic] {
        assert_eq!(service.probe("/readyz").0, 503, "before {check:?}");
        service.health.pass(check);
    }
    assert_eq!(service.probe("/readyz").0, 200);

    for (failed, name) in [
        (Check::SelfScan, "self_scan"),
        (Check::Group, "group"),
        (Check::InputTopic, "input_topic"),
        (Check::Producer, "producer"),
        (Check::Scans, "scans"),
        (Check::Running, "running"),
    ] {
        service.health.fail(failed, format!("{name} is \"out\""));
        let (status, answer) = service.probe("/readyz");
        assert_eq!(
            (status, &answer["ok"]),
            (503, &Value::Bool(false)),
            "{name}"
        );
        assert_eq!(check(&answer, name)["ok"], false);
        assert_eq!(check(&answer, name)["reason"], format!("{name} is \"out\""));
        service.health.pass(failed);
        assert_eq!(service.probe("/readyz").0, 200, "{name} is mended");
    }
}

#[test]
fn a_poll_loop_that_stands_still_is_not_live_and_one_that_never_started_is() {
    let limit = Duration::from_millis(200);
    let service = service(Limits {
        poll_loop: limit,
        worker: Duration::from_secs(60),
    });
    assert_eq!(service.probe("/livez").0, 200);
    service.health.poll_loop().beat();
    assert_eq!(service.probe("/livez").0, 200);
    std::thread::sleep(limit * 2);
    let (status, answer) = service.probe("/livez");
    assert_eq!(status, 503);
    assert_eq!(check(&answer, "poll_loop")["ok"], false);
    service.health.poll_loop().beat();
    assert_eq!(service.probe("/livez").0, 200);
}

#[test]
fn a_worker_stuck_in_one_record_is_not_live_and_one_busy_with_many_is() {
    let limit = Duration::from_millis(300);
    let service = service(Limits {
        poll_loop: Duration::from_secs(60),
        worker: limit,
    });
    let busy = service.health.working();
    let start = Instant::now();
    while start.elapsed() < limit * 2 {
        std::thread::sleep(limit / 30);
        busy.next();
    }
    assert_eq!(service.probe("/livez").0, 200, "many records in a row");
    std::thread::sleep(limit * 2);
    let (status, answer) = service.probe("/livez");
    assert_eq!(status, 503);
    assert_eq!(check(&answer, "workers")["ok"], false);
    drop(busy);
    assert_eq!(service.probe("/livez").0, 200, "nobody works");
}

#[test]
fn live_does_not_ask_what_a_restart_cannot_mend() {
    let service = patient();
    for check in [
        Check::Producer,
        Check::Scans,
        Check::Group,
        Check::InputTopic,
        Check::Running,
    ] {
        service.health.fail(check, "out");
    }
    assert_eq!(service.probe("/livez").0, 200);
}

#[test]
fn other_paths_and_methods_are_refused_by_name() {
    let service = patient();
    let (status, body) = service.get("/");
    assert_eq!(status, 404);
    assert!(body.contains("/readyz"), "{body}");
    let answer = service.raw(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert!(
        answer.to_lowercase().contains("allow: get, head"),
        "{answer}"
    );
    let answer = service.raw(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    let answer = service.raw(b"nonsense\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[test]
fn clients_that_send_nothing_are_cut_off_and_do_not_starve_a_probe() {
    let service = patient();
    let silent: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(service.server.address()).unwrap())
        .collect();
    let start = Instant::now();
    assert_eq!(service.probe("/livez").0, 200);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    for mut stream in silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(8)))
            .unwrap();
        let cut_off = match stream.read(&mut [0; 512]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        };
        assert!(cut_off);
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let health = Arc::new(Health::new(Limits {
        poll_loop: Duration::MAX,
        worker: Duration::MAX,
    }));
    let metrics = Arc::new(Metrics::new(Arc::clone(health.poll_loop())));
    let error = Server::start(address, health, metrics)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("cannot listen on {address}")),
        "{error}"
    );
    assert!(error.contains("--listen"), "{error}");
}

#[test]
fn a_stopped_server_has_freed_its_address() {
    let service = patient();
    let address = service.server.address();
    assert_ne!(address.port(), 0);
    assert_eq!(service.probe("/livez").0, 200);
    drop(service);
    TcpListener::bind(address).unwrap();
}

fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line[series.len() + 1..].parse().ok()
}

#[test]
fn what_is_recorded_is_scraped_under_the_documented_names() {
    let service = patient();
    let metrics = &service.metrics;
    let partition = metrics.partition(3);
    partition.messages_consumed.inc_by(5);
    partition.bytes_consumed.inc_by(1500);
    partition.consumer_lag.set(42);
    partition.watermark_blocked.set(1.5);
    metrics.scanned("threat", "clamav", Duration::from_micros(300));
    metrics
        .commits
        .get_or_create(&CommitLabels {
            result: "ok",
            mode: "sync",
        })
        .inc();
    metrics
        .records_skipped
        .get_or_create(&ReasonLabel { reason: "empty" })
        .inc();
    metrics.set_build("2.12.1", "1.4.3");
    metrics.set_signatures("first", 1);
    metrics.set_signatures("built-in", 7);
    let mut stats = PoolStats::default();
    (stats.queued_jobs, stats.cleared, stats.audits) = (4, 8, 2);
    stats.causes[Cause::Signature] = 6;
    metrics.pool(&stats);
    metrics.pool(&stats);
    service.health.poll_loop().beat();

    let (status, page) = service.get("/metrics");
    assert_eq!(status, 200);
    for (series, expected) in [
        ("scanner_messages_consumed_total{partition=\"3\"}", 5.0),
        ("scanner_bytes_consumed_total{partition=\"3\"}", 1500.0),
        ("scanner_partition_owned{partition=\"3\"}", 1.0),
        ("scanner_consumer_lag_messages{partition=\"3\"}", 42.0),
        ("scanner_watermark_blocked_seconds{partition=\"3\"}", 1.5),
        ("scanner_scan_total{verdict=\"threat\"}", 1.0),
        ("scanner_scan_total{verdict=\"clean\"}", 0.0),
        (
            "scanner_scan_duration_seconds_count{engine=\"clamav\"}",
            1.0,
        ),
        (
            "scanner_scan_duration_seconds_bucket{le=\"0.00025\",engine=\"clamav\"}",
            0.0,
        ),
        (
            "scanner_scan_duration_seconds_bucket{le=\"0.0005\",engine=\"clamav\"}",
            1.0,
        ),
        ("scanner_commits_total{result=\"ok\",mode=\"sync\"}", 1.0),
        ("scanner_records_skipped_total{reason=\"empty\"}", 1.0),
        ("scanner_rebalances_total{kind=\"lost\"}", 0.0),
        ("scanner_signatures_loaded", 7.0),
        ("scanner_queue_depth{queue=\"scan\"}", 4.0),
        (
            "scanner_prefilter_decisions_total{decision=\"cleared\"}",
            8.0,
        ),
        (
            "scanner_prefilter_decisions_total{decision=\"signature\"}",
            6.0,
        ),
        ("scanner_prefilter_audits_total", 2.0),
        ("scanner_signature_db_info{version=\"built-in\"}", 1.0),
        ("scanner_processing_rate_messages_per_second", 0.0),
    ] {
        assert_eq!(value(&page, series), Some(expected), "{series} in\n{page}");
    }
    assert!(
        page.contains("librdkafka=\"2.12.1\",libclamav=\"1.4.3\""),
        "{page}"
    );
    assert_eq!(
        value(&page, "scanner_signature_db_info{version=\"first\"}"),
        None
    );
    assert!(value(&page, "scanner_poll_loop_age_seconds").unwrap() < 60.0);
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn the_processing_rate_is_seen_within_the_next_seconds() {
    let service = patient();
    let start = Instant::now();
    service.metrics.processing_rate.add(500);
    let rate = loop {
        let page = service.get("/metrics").1;
        let rate = value(&page, "scanner_processing_rate_messages_per_second").unwrap();
        if rate > 0.0 || start.elapsed() > Duration::from_secs(9) {
            break rate;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!((50.0..=500.0).contains(&rate), "{rate}");
}

#[test]
fn a_revoked_partition_leaves_no_series_behind() {
    let service = patient();
    let three = service.metrics.partition(3);
    service.metrics.partition(4).messages_consumed.inc();
    assert!(service.get("/metrics").1.contains("{partition=\"3\"}"));
    service.metrics.remove_partition(3);
    // A thread that still holds the series cannot bring it back.
    three.messages_consumed.inc();
    let page = service.get("/metrics").1;
    assert!(!page.contains("partition=\"3\""), "{page}");
    assert_eq!(
        value(&page, "scanner_messages_consumed_total{partition=\"4\"}"),
        Some(1.0)
    );
    // Owned again, it counts from 0.
    service.metrics.partition(3);
    let page = service.get("/metrics").1;
    assert_eq!(
        value(&page, "scanner_messages_consumed_total{partition=\"3\"}"),
        Some(0.0)
    );
}

#[test]
fn every_scraped_family_is_in_the_catalogue_with_its_type() {
    let service = patient();
    service.metrics.partition(0);
    let page = service.get("/metrics").1;
    let families: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert!(families.len() > 20, "{page}");
    for family in families {
        let (name, kind) = family.split_once(' ').unwrap();
        let full = if kind == "counter" {
            format!("{name}_total")
        } else {
            name.to_owned()
        };
        let entry = metrics::CATALOGUE.iter().find(|entry| entry.name == full);
        assert_eq!(entry.map(|entry| entry.kind), Some(kind), "{full}");
    }
}

#[test]
fn the_page_of_metrics_is_the_catalogue() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let made = metrics::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        written, made,
        "run the test once with UPDATE_DOCS=1 to write docs/metrics.md anew"
    );
}
