//! Log lines, captured as they are written.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::io;
use std::time::{Duration, Instant};

use scanner_bin::config::Secrets;
use scanner_bin::log::{self, DetectionLimit, MAX_KEYS, Suppressed, Throttle};
use serde_json::Value;
use support::logs::captured;

#[test]
fn fields_stand_in_the_order_of_the_call_between_message_and_level() {
    let line = captured("info", || {
        tracing::info!(zebra = 1, apple = -2, ok = true, ratio = 0.5, name = ?Some("x"), "Hello");
    });
    let start = r#"{"message":"Hello","zebra":1,"apple":-2,"ok":true,"ratio":0.5,"name":"Some(\"x\")","level":"info","ts":""#;
    assert!(line.starts_with(start), "{line}");
    let value: Value = serde_json::from_str(&line).unwrap();
    let ts = value["ts"].as_str().unwrap();
    assert_eq!(ts.len(), "2025-10-20T02:44:02.484Z".len());
    assert!(ts.ends_with('Z') && ts.as_bytes()[19] == b'.', "{ts}");
}

#[test]
fn hostile_text_can_neither_forge_a_line_nor_reach_a_terminal() {
    let hostile = "a\nb\"}\r{\"message\":\"forged\u{1b}[2J\u{0}\u{7f}\u{9b}2J\u{202e}";
    let lines = captured("info", || tracing::warn!(host = hostile, "{hostile}"));
    assert_eq!(lines.matches('\n').count(), 1, "{lines:?}");
    assert!(
        lines
            .trim_end()
            .chars()
            .all(|c| !c.is_control() && c != '\u{202e}'),
        "{lines:?}"
    );
    let value: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(value["host"], hostile);
    assert_eq!(value["message"], hostile);
}

#[test]
fn a_field_called_as_one_of_ours_does_not_double_it() {
    let line = captured("info", || tracing::error!(level = "mine", ts = 1, "x"));
    assert_eq!(line.matches("\"level\"").count(), 1, "{line}");
    assert_eq!(line.matches("\"ts\"").count(), 1, "{line}");
    assert!(line.contains("\"level\":\"error\""), "{line}");
}

#[test]
fn the_filter_is_a_level_or_one_for_each_target() {
    let events = || {
        tracing::info!(target: "hyper", "of hyper");
        tracing::debug!("of us");
    };
    assert_eq!(captured("warn", events), "");
    let both = captured("debug", events);
    assert!(
        both.contains("of hyper") && both.contains("of us"),
        "{both}"
    );
    let ours = captured("debug,hyper=off", events);
    assert!(
        !ours.contains("of hyper") && ours.contains("of us"),
        "{ours}"
    );
    assert!(log::subscriber("a=b=c", io::sink, Secrets::default()).is_err());
}

#[test]
fn a_throttled_warning_passes_once_in_its_interval_and_tells_how_many_it_held_back() {
    let throttle = Throttle::new(Duration::from_secs(10));
    let start = Instant::now();
    let at = |seconds| throttle.pass_at(start + Duration::from_secs(seconds));
    assert_eq!(at(0), Some(0));
    assert_eq!([at(1), at(5), at(9)], [None; 3]);
    assert_eq!(at(10), Some(3));
    assert_eq!(at(11), None);
    assert_eq!(at(30), Some(1));
}

#[test]
fn a_long_text_is_cut_and_marked() {
    let long = "é".repeat(log::LONGEST_TEXT + 7);
    let line = captured("info", || {
        tracing::warn!(error = %long, name = ?long, "{long}");
    });
    let value: Value = serde_json::from_str(&line).unwrap();
    for field in ["message", "error", "name"] {
        let text = value[field].as_str().unwrap();
        let (kept, mark) = text.split_once('…').expect("the cut is marked");
        assert_eq!(kept.chars().count(), log::LONGEST_TEXT);
        assert!(mark.ends_with(" bytes more)"), "{mark}");
    }
    let whole = "é".repeat(log::LONGEST_TEXT);
    assert_eq!(log::cut(&whole, log::LONGEST_TEXT), whole);
}

#[test]
fn detections_of_one_name_and_source_are_limited_in_each_second_and_those_suppressed_are_counted() {
    let mut limit = DetectionLimit::new(3);
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut admitted = |name: &str, source: &str, ms| limit.admit(name, source, at(ms));
    let noisy: Vec<bool> = (0..10).map(|ms| admitted("Eicar", "web-1", ms)).collect();
    assert_eq!(noisy.iter().filter(|passed| **passed).count(), 3);
    assert!(noisy[..3].iter().all(|passed| *passed), "the first ones");
    // Neither another source nor another name waits for it.
    assert!(admitted("Eicar", "web-2", 20));
    assert!(admitted("Other", "web-1", 20));
    assert_eq!(limit.end(Some(at(999))), [], "the second is not over");
    let ended = limit.end(Some(at(1000)));
    let expected = Suppressed {
        of: Some(("Eicar".to_owned(), "web-1".to_owned())),
        count: 7,
    };
    assert_eq!(ended, [expected]);
    assert_eq!(limit.end(Some(at(5000))), [], "counted once");
    assert!(limit.admit("Eicar", "web-1", at(5000)), "a new second");
}

#[test]
fn sources_that_a_record_makes_up_share_one_count_beyond_a_bound() {
    let mut limit = DetectionLimit::new(2);
    let start = Instant::now();
    let admitted = (0..100_000)
        .filter(|n| limit.admit("Eicar", &format!("made-up-{n}"), start))
        .count();
    assert_eq!(admitted, MAX_KEYS + 2);
    let ended = limit.end(None);
    let expected = Suppressed {
        of: None,
        count: 100_000 - (MAX_KEYS as u64 + 2),
    };
    assert_eq!(ended, [expected]);
    assert!(
        (0..100).all(|_| DetectionLimit::new(0).admit("Eicar", "web-1", start)),
        "0 is no limit"
    );
}
