//! What an operator sees of the prefilter: the log at load, the metrics, and what happens when it was wrong.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::sync::Arc;

use scanlib::Detector;
use scanlib::prefilter::Cause;
use scanner_bin::cli::run;
use scanner_bin::config::Config;
use scanner_bin::ops::metrics::CATALOGUE;
use scanner_bin::reload::{self, Loader};
use scanner_bin::service::Watch;
use scanner_bin::wrong::WrongReports;
use serde_json::Value;
use support::logs::captured;

/// "needle", wherever it is.
const NEEDLE: &str = "My.Needle:0:*:6e6565646c65\n";

/// What is logged while these files are loaded, and what serves them.
fn load(files: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> (Detector, Watch, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let mut config = Config::default();
    config.scan.database = vec![dir.path().to_owned()];
    change(&mut config);
    let watch = run::watch(&config);
    let mut detector = None;
    let log = captured("info", || {
        detector = Some(Loader::new(&config.scan, &watch).first().unwrap());
    });
    (detector.unwrap(), watch, log)
}

fn value(watch: &Watch, series: &str) -> String {
    let page = watch.metrics.encode();
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in {page}"))
        .trim()
        .to_owned()
}

/// The line that starts with this message.
fn said(log: &str, message: &str) -> Value {
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut found = lines.filter(|line| line["message"].as_str().unwrap().starts_with(message));
    let line = found
        .next()
        .unwrap_or_else(|| panic!("no {message:?} in {log}"));
    assert!(found.next().is_none(), "twice: {log}");
    line
}

#[test]
fn the_log_and_a_metric_say_that_it_is_on() {
    let (_, watch, log) = load(&[("a.ndb", NEEDLE)], |_| ());
    assert!(said(&log, "The prefilter is on")["texts"].as_u64() > Some(0));
    assert_eq!(value(&watch, "scanner_prefilter_enabled"), "1");
}

#[test]
fn the_log_says_that_it_is_off_and_why() {
    let negated = "My.Negated;Engine:51-255,Target:0;0=0;71717171\n";
    let (_, watch, log) = load(&[("a.ndb", NEEDLE), ("b.ldb", negated)], |_| ());
    let line = said(
        &log,
        "The prefilter is off: libclamav is asked about every message",
    );
    assert_eq!(
        line["why"],
        "may match any message: My.Negated; leave_out keeps a signature out of the engine, if you can do without it"
    );
    assert_eq!(line["level"], "warn");
    assert_eq!(value(&watch, "scanner_prefilter_enabled"), "0");

    let (_, watch, log) = load(&[("a.ndb", NEEDLE)], |config| config.scan.prefilter = false);
    let line = said(
        &log,
        "The prefilter is off: libclamav is asked about every message",
    );
    assert_eq!(line["why"], "the prefilter is not asked for");
    assert_eq!(line["level"], "info", "as it was asked to be");
    assert_eq!(value(&watch, "scanner_prefilter_enabled"), "0");
}

#[test]
fn the_log_says_what_is_left_out_and_what_is_not_there() {
    let negated = "My.Negated;Engine:51-255,Target:0;0=0;71717171\n";
    let files = [("a.ndb", NEEDLE), ("b.ldb", negated)];
    let (detector, watch, log) = load(&files, |config| {
        config.scan.leave_out = vec!["My.Negated".to_owned(), "My.Nedle".to_owned()];
    });
    let line = said(&log, "Signatures are left out, as scan.leave_out says");
    assert_eq!(
        (&line["count"], &line["names"]),
        (&1.into(), &"My.Negated".into())
    );
    let line = said(&log, "scan.leave_out names what is not there");
    let name = line["name"].as_str().unwrap();
    assert!(
        name.starts_with("My.Nedle cannot be excluded")
            && name.ends_with("the nearest is My.Needle"),
        "{name}"
    );
    assert_eq!(line["level"], "warn");
    said(&log, "The prefilter is on");
    assert_eq!(value(&watch, "scanner_prefilter_enabled"), "1");
    // Results name the signatures by this: it is that of other signatures.
    let (all, ..) = load(&files, |_| ());
    let digest = |detector: &Detector| detector.engine().unwrap().info().digest;
    assert_ne!(digest(&detector), digest(&all));
}

#[test]
fn every_decision_has_a_series_from_the_start() {
    let watch = run::watch(&Config::default());
    for decision in [
        "cleared",
        "off",
        "length",
        "bytes",
        "byte_order_mark",
        "magic",
        "file_type",
        "utf16",
        "digest",
        "signature",
        "unprovable",
    ] {
        let series = format!("scanner_prefilter_decisions_total{{decision=\"{decision}\"}}");
        assert_eq!(value(&watch, &series), "0");
    }
    assert_eq!(value(&watch, "scanner_prefilter_audits_total"), "0");
    assert_eq!(value(&watch, "scanner_prefilter_wrong_total"), "0");
    assert_eq!(value(&watch, "scanner_prefilter_enabled"), "0");
}

#[test]
fn the_page_for_operators_names_every_decision_and_every_metric() {
    let page = include_str!("../../../docs/prefilter.md");
    let metrics = CATALOGUE.iter().map(|entry| entry.name);
    let metrics = metrics.filter(|name| name.contains("prefilter"));
    for word in metrics.chain(Cause::ALL.iter().map(|cause| cause.as_str())) {
        let is_named = |after: &str| page.contains(&format!("`{word}{after}"));
        assert!(is_named("`") || is_named("{"), "{word} is missing");
    }
}

#[test]
fn the_configured_audit_is_the_detectors() {
    for (one_in, audits) in [(1, true), (0, false)] {
        let (detector, ..) = load(&[("a.ndb", NEEDLE)], |config| {
            config.scan.audit_one_in = one_in;
        });
        let mut scanner = detector.scanner();
        for n in 0..2000 {
            let line = format!("an ordinary line of a log, number {n}");
            let message = scanlib::Parser::default().parse(line.as_bytes());
            let request = scanlib::Request::new();
            let _clean = scanner.scan_message(&message, &request).unwrap();
        }
        assert_eq!(scanner.stats().audits > 0, audits, "{:?}", scanner.stats());
    }
}

#[test]
fn a_wrong_decision_is_said_counted_and_kept_once_for_each_load() {
    let kept = tempfile::tempdir().unwrap();
    let dir = kept.path().join("wrong");
    let message = b"a message\x1b with a needle";
    let sha256 = "f707d9b976cc3669";
    let (first, watch, _) = load(&[("a.ndb", NEEDLE)], |_| ());
    let (second, ..) = load(&[("a.ndb", NEEDLE)], |_| ());
    let reports = WrongReports::new(Some(dir.clone()), Arc::clone(&watch.metrics));

    assert_eq!(captured("info", || reports.look(&first)), "");
    assert_eq!(value(&watch, "scanner_prefilter_enabled"), "1");
    first
        .prefilter()
        .report_false_negative(message, &["My.Needle.UNOFFICIAL".to_owned()]);
    let log = captured("info", || (0..3).for_each(|_| reports.look(&first)));
    let line = said(&log, "The prefilter was wrong");
    assert_eq!(line["level"], "error");
    assert_eq!(line["names"], "My.Needle.UNOFFICIAL");
    assert_eq!(line["bytes"], message.len());
    assert!(line["sha256"].as_str().unwrap().starts_with(sha256));
    assert_eq!(fs::read(line["kept"].as_str().unwrap()).unwrap(), message);
    assert_eq!(value(&watch, "scanner_prefilter_wrong_total"), "1");
    assert_eq!(value(&watch, "scanner_prefilter_enabled"), "0");

    second
        .prefilter()
        .report_false_negative(message, &["My.Needle.UNOFFICIAL".to_owned()]);
    let log = captured("info", || reports.look(&second));
    said(&log, "The prefilter was wrong");
    assert_eq!(value(&watch, "scanner_prefilter_wrong_total"), "2");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "the same message");
}

#[test]
fn a_message_that_is_not_kept_is_said_with_its_digest() {
    let not_a_directory = tempfile::NamedTempFile::new().unwrap();
    for (dir, why) in [
        (None, "no: scan.wrong_dir is not set"),
        (Some(not_a_directory.path().to_owned()), "no: /"),
    ] {
        let (detector, watch, _) = load(&[("a.ndb", NEEDLE)], |_| ());
        let reports = WrongReports::new(dir, Arc::clone(&watch.metrics));
        detector
            .prefilter()
            .report_false_negative(b"text", &["X".to_owned()]);
        let log = captured("info", || reports.look(&detector));
        let line = said(&log, "The prefilter was wrong");
        assert!(line["kept"].as_str().unwrap().starts_with(why), "{line}");
        assert_eq!(
            line["sha256"],
            "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
        );
    }
}

#[test]
fn a_text_model_that_is_none_is_refused_with_its_line() {
    let model = tempfile::NamedTempFile::new().unwrap();
    let mut config = Config::default();
    config.scan.text_model = Some(model.path().to_owned());
    let refusal = |text: &str| {
        fs::write(model.path(), text).unwrap();
        reload::detector(&config.scan, None)
            .err()
            .map(|e| e.to_string())
    };
    let path = model.path().display();
    let tune = "write it with 'scanner-bin db tune'";
    assert_eq!(
        refusal("abc 5\nabc\n"),
        Some(format!(
            "text model {path}: line 2 is not three characters, a space and a number; {tune}"
        ))
    );
    assert_eq!(
        refusal(""),
        Some(format!("text model {path}: it is empty; {tune}"))
    );
    assert_eq!(refusal("abc 5\n"), None);
}
