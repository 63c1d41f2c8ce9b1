//! What a scanner says of messages and objects, with the real libclamav.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use scanlib::prefilter::AuditOptions;
use scanlib::rules::RuleSet;
use scanlib::{
    CancelToken, Detector, Engine, EngineBuilder, Incomplete, Library, Parser, Payload, Report,
    Request, ScanOptions, Screened, Severity, Stage, ThreatType, Verdict, View, ViewSet, eicar,
};

const SIGNATURE: &str = "Embedded.Test.Eicar.UNOFFICIAL";

fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let build = || {
        let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
        builder.builtin_signatures().unwrap().compile().unwrap()
    };
    ENGINE.get_or_init(build).clone()
}

fn detector(rules: bool, views: ViewSet) -> Detector {
    let rules = rules.then(RuleSet::builtin);
    Detector::builder()
        .engine(engine())
        .rules(rules)
        .views(views)
        .build()
        .unwrap()
}

fn scan(detector: &Detector, record: &[u8]) -> Report {
    let message = Parser::default().parse(record);
    detector
        .scanner()
        .scan_message(&message, &Request::new())
        .unwrap()
}

fn seen(report: &Report) -> Vec<(&str, View)> {
    report
        .verdict
        .detections()
        .iter()
        .map(|found| (found.name.as_str(), found.view))
        .collect()
}

#[test]
fn eicar_is_found_at_any_offset_and_named_by_the_rule_first() {
    let record = format!("<13>Oct 20 02:44:02 host app: see {} there", eicar::text());
    let report = scan(&detector(true, ViewSet::ALL), record.as_bytes());
    let Verdict::Infected(found) = &report.verdict else {
        panic!("{report:?}")
    };
    assert_eq!(found.headline().name, "Malicious pattern: eicar_test");
    assert_eq!(found.headline().severity, Severity::High);
    let clamav = found
        .as_slice()
        .iter()
        .find(|found| found.is_clamav())
        .unwrap();
    assert_eq!(
        (clamav.name.as_str(), clamav.view),
        (SIGNATURE, View::Raw),
        "once, for its first view"
    );
    assert_eq!(clamav.threat_type, ThreatType::Virus);
}

#[test]
fn each_view_shows_libclamav_what_the_others_hide() {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let inner = format!("<13>Oct 20 02:44:02 host app: {}", eicar::text());
    let json = serde_json::json!({ "message": inner }).to_string();
    let encoded = format!(
        "<13>Oct 20 02:44:02 host app: x={}",
        BASE64_STANDARD.encode(eicar::text())
    );
    let utf16: Vec<u8> = eicar::text()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let wide = format!("powershell -enc {}", BASE64_STANDARD.encode(utf16));
    let guarded = format!("ID3 {}", eicar::text());
    for (record, view) in [
        (json.as_str(), View::Body),
        (encoded.as_str(), View::Decoded),
        (wide.as_str(), View::Decoded),
        (guarded.as_str(), View::Guarded),
    ] {
        let report = scan(&detector(false, ViewSet::ALL), record.as_bytes());
        assert_eq!(seen(&report), [(SIGNATURE, view)], "{record}");
        // Without that view it is not found, so the view is what finds it.
        let others = [View::Body, View::Decoded, View::Guarded]
            .into_iter()
            .filter(|v| *v != view);
        let without = others.fold(ViewSet::RAW, ViewSet::with);
        let report = scan(&detector(false, without), record.as_bytes());
        assert_eq!(report.verdict, Verdict::Clean, "{record}");
        assert_eq!(report.type_ignored, view == View::Guarded, "{record}");
    }
}

#[test]
fn an_ordinary_message_is_clean_and_every_view_was_examined() {
    let message = b"<38>Oct 11 22:14:15 web su[7]: hello";
    let report = scan(&detector(true, ViewSet::ALL), message);
    assert_eq!(report.verdict, Verdict::Clean);
    assert_eq!((report.views, report.engine_calls), (2, 0));
    assert_eq!(report.decided_by, Stage::Prefilter);

    let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
    let builder = builder.builtin_signatures().unwrap().prefilter(false);
    let engine = builder.compile().unwrap();
    let report = scan(
        &Detector::builder().engine(engine).build().unwrap(),
        message,
    );
    assert_eq!(report.verdict, Verdict::Clean);
    assert_eq!((report.views, report.engine_calls), (2, 2));
    assert_eq!(report.decided_by, Stage::Engine);
}

#[test]
fn a_cancelled_or_late_scan_is_incomplete_and_the_next_one_is_right() {
    let detector = detector(false, ViewSet::RAW);
    let mut scanner = detector.scanner();
    let text = format!("see {} there", eicar::text());
    let stop = CancelToken::new();
    stop.cancel();
    let cancelled = Request::new().cancel(&stop);
    let late = Request::new().deadline(Instant::now() - Duration::from_millis(1));
    for (request, expected) in [
        (cancelled, Incomplete::Cancelled),
        (late, Incomplete::Deadline),
    ] {
        let report = scanner
            .scan(Payload::Bytes(text.as_bytes()), &request)
            .unwrap();
        let Verdict::Incomplete { cause, .. } = report.verdict else {
            panic!("{report:?}")
        };
        assert_eq!(cause, expected);
        let report = scanner
            .scan(Payload::Bytes(text.as_bytes()), &Request::new())
            .unwrap();
        assert_eq!(seen(&report), [(SIGNATURE, View::Raw)]);
    }
}

#[test]
fn files_are_scanned_alike_with_and_without_rules() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "see {} there", eicar::text()).unwrap();
    for rules in [false, true] {
        let mut scanner = detector(rules, ViewSet::RAW).scanner();
        let opened = File::open(file.path()).unwrap();
        for payload in [
            Payload::Path(file.path()),
            Payload::File {
                file: &opened,
                path: file.path(),
            },
        ] {
            let report = scanner.scan(payload, &Request::new()).unwrap();
            let names: Vec<&str> = seen(&report).into_iter().map(|(name, _)| name).collect();
            let expected: &[&str] = if rules {
                &["Malicious pattern: eicar_test", SIGNATURE]
            } else {
                &[SIGNATURE]
            };
            assert_eq!(names, expected);
            assert_eq!(report.input_bytes, 78);
        }
        let missing = scanner.scan(Payload::Path("/nonexistent/file".as_ref()), &Request::new());
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .starts_with("/nonexistent/file: No such file")
        );
    }
}

#[test]
fn rules_alone_read_a_file_up_to_the_bound_and_say_what_they_left_out() {
    let rules = Detector::builder()
        .rules(RuleSet::builtin())
        .build()
        .unwrap();
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    file.write_all(eicar::text().as_bytes()).unwrap();
    let scan = |path| {
        let payload = Payload::Path(path);
        rules.scanner().scan(payload, &Request::new()).unwrap()
    };
    let report = scan(file.path());
    assert_eq!(
        seen(&report),
        [("Malicious pattern: eicar_test", View::Raw)]
    );
    assert!(matches!(report.verdict, Verdict::Infected(_)));

    // Sparse, and one byte longer than what is read.
    let max = scanlib::Limits::default().max_file_bytes;
    file.as_file().set_len(max + 1).unwrap();
    let report = scan(file.path());
    let Verdict::Incomplete { cause, so_far } = &report.verdict else {
        panic!("{report:?}")
    };
    assert_eq!(*cause, Incomplete::FileTooLarge { len: max + 1, max });
    assert_eq!(so_far[0].name, "Malicious pattern: eicar_test");
}

#[test]
fn all_match_reports_every_signature_once() {
    let mut database = tempfile::Builder::new().suffix(".ndb").tempfile().unwrap();
    writeln!(database, "Test.One:0:*:6f6e65206f6e65").unwrap();
    writeln!(database, "Test.Two:0:*:74776f2074776f").unwrap();
    let builder = EngineBuilder::new(Library::init().unwrap()).unwrap();
    let engine = builder
        .database(database.path())
        .unwrap()
        .compile()
        .unwrap();
    let detector = Detector::builder().engine(engine).build().unwrap();
    let record = b"<13>Oct 20 02:44:02 h a: one one two two";
    let options = ScanOptions {
        all_matches: true,
        ..ScanOptions::default()
    };
    let message = Parser::default().parse(record);
    let all = detector
        .scanner()
        .scan_message(&message, &Request::new().options(options))
        .unwrap();
    let mut names: Vec<_> = seen(&all).into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["Test.One.UNOFFICIAL", "Test.Two.UNOFFICIAL"]);
    let first = detector
        .scanner()
        .scan_message(&message, &Request::new())
        .unwrap();
    assert_eq!(seen(&first).len(), 1);
}

#[test]
fn a_detector_that_examines_nothing_cannot_be_built() {
    let error = Detector::builder().build().unwrap_err();
    assert!(error.to_string().contains("neither libclamav nor rules"));
}

#[test]
fn an_open_file_is_scanned_from_its_beginning_with_rules_too() {
    let mut file = tempfile::tempfile().unwrap();
    write!(file, "see {}", eicar::text()).unwrap();
    for rules in [false, true] {
        // libclamav moves the cursor.
        file.seek(SeekFrom::End(0)).unwrap();
        let payload = Payload::File {
            file: &file,
            path: "upload".as_ref(),
        };
        let mut scanner = detector(rules, ViewSet::ALL).scanner();
        let report = scanner.scan(payload, &Request::new()).unwrap();
        assert!(
            seen(&report).contains(&(SIGNATURE, View::Raw)),
            "{rules}: {report:?}"
        );
        assert_eq!(scanner.stats().infected, 1);
    }
}

#[test]
fn either_token_stops_a_scan_and_leaves_the_other_alone() {
    let [own, of_request] = [CancelToken::new(), CancelToken::new()];
    let mut scanner = detector(false, ViewSet::ALL)
        .scanner()
        .with_cancel_token(own.clone());
    let request = Request::new().cancel(&of_request);
    let mut verdict = || {
        scanner
            .scan(Payload::Bytes(b"harmless"), &request)
            .unwrap()
            .verdict
    };
    assert_eq!(verdict(), Verdict::Clean);
    own.cancel();
    assert!(matches!(
        verdict(),
        Verdict::Incomplete {
            cause: Incomplete::Cancelled,
            ..
        }
    ));
    assert!(!of_request.is_cancelled());
}

#[test]
fn a_type_that_libclamav_ignores_is_told_of_files_and_bytes_alike() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("ID3 {}", eicar::text());
    file.write_all(text.as_bytes()).unwrap();
    let opened = File::open(file.path()).unwrap();
    let mut scanner = detector(false, ViewSet::RAW).scanner();
    for payload in [
        Payload::Bytes(text.as_bytes()),
        Payload::Path(file.path()),
        Payload::File {
            file: &opened,
            path: file.path(),
        },
    ] {
        let report = scanner.scan(payload, &Request::new()).unwrap();
        assert_eq!(report.verdict, Verdict::Clean, "libclamav's own answer");
        assert!(report.type_ignored, "which says nothing: {payload:?}");
    }
}

#[test]
fn scanned_one_after_another_or_in_one_go_the_reports_are_the_same() {
    let eicar = format!("<13>Oct 20 02:44:02 host app: see {} there", eicar::text());
    // More than are judged ahead at a time; a finding in each part, and at its ends.
    let mut lines: Vec<String> = (0..100).map(|n| format!("line {n} of a log")).collect();
    for at in [0, 31, 32, 77, 99] {
        lines[at] = eicar::text().to_owned();
    }
    lines[50] = eicar;
    lines[51] = String::new();
    lines[52] = "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}".to_owned();
    let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
    for rules in [false, true] {
        let detector = detector(rules, ViewSet::RAW);
        let (mut in_one_go, mut one_by_one) = (detector.scanner(), detector.scanner());
        let request = Request::new();
        let reports = in_one_go.scan_each(&lines, &request);
        assert_eq!(reports.len(), lines.len());
        for (line, report) in lines.iter().zip(reports) {
            let alone = one_by_one.scan(Payload::Bytes(line), &request).unwrap();
            let report = report.unwrap();
            assert_eq!(report.verdict, alone.verdict, "{}", line.escape_ascii());
            assert_eq!(report.decided_by, alone.decided_by);
            assert_eq!(report.input_bytes, alone.input_bytes);
            assert_eq!(report.engine_calls, alone.engine_calls);
        }
        let stats = in_one_go.stats();
        assert_eq!((stats.scans, stats.infected), (100, 6));
        assert_eq!(stats.causes, one_by_one.stats().causes);
        assert_eq!(stats.cleared, one_by_one.stats().cleared);
    }
}

#[test]
fn messages_one_after_another_or_in_one_go_have_the_same_reports() {
    // With none, one and several payloads to decode, more than are judged ahead at a time, and one that is too long to be judged with others.
    let encoded = "WDVPIVAlQEFQWzRcUFpYNTQoUF4pN0NDKTd9JEVJQ0FSLVNUQU5EQVJELUFOVElWSVJVUy1URVNULUZJTEUhJEgrSCo=";
    let mut lines: Vec<String> = (0..80)
        .map(|n| match n % 5 {
            0 => format!("<13>Oct 20 02:44:02 host app[{n}]: a line of a log"),
            1 => format!("a plain line {n}"),
            2 => format!(r#"{{"source_ip":"10.42.2.{n}","message":"<38>Oct 11 22:14:15 web su[7]: hello"}}"#),
            3 => format!("data=SGVsbG8sIHRoaXMgaXMgYSBsaW5lIG9mIHRleHQsIGVuY29kZWQu; again=VGhpcyBpcyBhbm90aGVyIGxpbmUgb2YgdGV4dCwgZW5jb2RlZC4= {n}"),
            _ => format!("see <script>alert({n})</script>"),
        })
        .collect();
    for at in [0, 31, 32, 33, 79] {
        lines[at] = format!("<13>Oct 20 02:44:02 host app: {encoded}");
    }
    lines[40] = "long ".repeat(60_000);
    lines[41] = String::new();
    for rules in [false, true] {
        let detector = detector(rules, ViewSet::ALL);
        let (mut in_one_go, mut one_by_one) = (detector.scanner(), detector.scanner());
        let (parser, request) = (Parser::default(), Request::new());
        let messages: Vec<_> = lines
            .iter()
            .map(|line| parser.parse(line.as_bytes()))
            .collect();
        let reports = in_one_go.scan_messages(&messages, &request);
        assert_eq!(reports.len(), messages.len());
        for (message, report) in messages.iter().zip(reports) {
            let (report, alone) = (
                report.unwrap(),
                one_by_one.scan_message(message, &request).unwrap(),
            );
            assert_eq!(
                report.verdict,
                alone.verdict,
                "{}",
                message.raw.escape_ascii()
            );
            assert_eq!(report.decided_by, alone.decided_by);
            assert_eq!(
                (report.views, report.engine_calls),
                (alone.views, alone.engine_calls)
            );
        }
        assert_eq!(in_one_go.stats().infected, 5);
        assert_eq!(in_one_go.stats().causes, one_by_one.stats().causes);
        assert_eq!(in_one_go.stats().cleared, one_by_one.stats().cleared);
    }
}

/// Messages of every kind that matters to how a scan goes: clean, cleared by no prefilter, with rules' findings, libclamav's and both,
/// in each view, with payloads left out, too long, empty, and of a type that libclamav ignores.
fn kinds_of_messages() -> Vec<Vec<u8>> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let eicar = eicar::text();
    let encoded = BASE64_STANDARD.encode(&eicar);
    let payload = |n: usize| BASE64_STANDARD.encode(format!("line {n} of a decoded text"));
    let many: Vec<String> = (0..12).map(payload).collect();
    let mut messages: Vec<Vec<u8>> = [
        "<38>Oct 11 22:14:15 web su[7]: hello".to_owned(),
        format!("<13>Oct 20 02:44:02 host app: see {eicar} there"),
        serde_json::json!({ "message": format!("<13>Oct 20 02:44:02 host app: {eicar}") })
            .to_string(),
        format!("<13>Oct 20 02:44:02 host app: x={encoded}"),
        format!("ID3 {eicar}"),
        "ID3 nothing".to_owned(),
        "see <script>alert(1)</script>".to_owned(),
        format!("see <script>alert(1)</script> and {encoded}"),
        "powershell.exe -nop -w hidden -enc VwByAGkAdABlAC0ASABvAHMAdAAgAGgAZQBsAGwAbwA="
            .to_owned(),
        "login failed: user='admin'; DROP TABLE users; --'".to_owned(),
        many.join(" "),
        format!("{} <html> {}", many.join(" "), encoded),
        String::new(),
        "\u{1}\u{2}\u{3}\u{4}".to_owned(),
        "long ".repeat(60_000),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    messages.push(vec![0xff, 0xfe, 0, 1, 2, 3]);
    // More than are judged ahead at a time.
    messages.iter().cycle().take(75).cloned().collect()
}

#[test]
fn screened_and_finished_by_another_scanner_the_reports_are_those_of_one_scan() {
    let records = kinds_of_messages();
    let all_matches = ScanOptions {
        all_matches: true,
        ..ScanOptions::default()
    };
    for (rules, views) in [
        (false, ViewSet::RAW),
        (false, ViewSet::ALL),
        (true, ViewSet::ALL),
    ] {
        for request in [Request::new(), Request::new().options(all_matches)] {
            let detector = detector(rules, views);
            let (mut first, mut second) = (detector.scanner(), detector.scanner());
            let mut alone = detector.scanner();
            let parser = Parser::default();
            let messages: Vec<_> = records.iter().map(|record| parser.parse(record)).collect();
            let screened: Vec<Screened> = first.screen_messages(&messages).collect();
            assert_eq!(screened.len(), messages.len());
            let mut pending_scans = 0;
            for (message, screened) in messages.iter().zip(screened) {
                let expected = alone.scan_message(message, &request).unwrap();
                let report = match screened {
                    Screened::Decided(report) => {
                        assert_eq!(report.engine_calls, 0);
                        report
                    }
                    Screened::Pending(pending) => {
                        pending_scans += 1;
                        let once = second.finish_message(message, &pending, &request).unwrap();
                        let again = alone.finish_message(message, &pending, &request).unwrap();
                        assert_eq!(once.verdict, again.verdict, "it may be repeated");
                        once
                    }
                    _ => unreachable!(),
                };
                let comparable = |report: &Report| {
                    let Report {
                        verdict,
                        decided_by,
                        generation,
                        ..
                    } = report.clone();
                    let counts = (report.input_bytes, report.views, report.engine_calls);
                    (verdict, decided_by, generation, counts, report.type_ignored)
                };
                let raw = message.raw.escape_ascii();
                assert_eq!(comparable(&report), comparable(&expected), "{raw}");
            }
            assert!(pending_scans > 10 && pending_scans < messages.len());
            let (first, second) = (first.stats(), second.stats());
            assert_eq!(first.engine_calls, 0, "libclamav is for the second stage");
            assert_eq!(first.scans + second.scans, messages.len() as u64);
            let mut expected = detector.scanner();
            for message in &messages {
                drop(expected.scan_message(message, &request).unwrap());
            }
            let expected = expected.stats();
            assert_eq!(first.cleared + second.cleared, expected.cleared);
            assert_eq!(first.infected + second.infected, expected.infected);
            assert_eq!(first.incomplete + second.incomplete, expected.incomplete);
            assert!(first.causes.iter().all(|(_, count)| count == 0));
            assert_eq!(second.causes, expected.causes);
            assert_eq!(second.engine_calls, expected.engine_calls);
        }
    }
}

#[test]
fn a_scan_screened_by_another_detector_begins_anew() {
    let parser = Parser::default();
    let message = [parser.parse(b"see <script>alert(1)</script> and DROP TABLE users; --")];
    let (before, after) = (detector(false, ViewSet::RAW), detector(true, ViewSet::ALL));
    let Some(Screened::Pending(pending)) = before.scanner().screen_messages(&message).next() else {
        panic!("libclamav has to look at HTML");
    };
    assert_eq!(pending.generation(), before.generation());
    let [message] = message;
    let report = after
        .scanner()
        .finish_message(&message, &pending, &Request::new());
    let expected = after.scanner().scan_message(&message, &Request::new());
    let (report, expected) = (report.unwrap(), expected.unwrap());
    assert_eq!(report.verdict, expected.verdict);
    assert_eq!(report.generation, after.generation());
}

#[test]
fn an_audit_is_a_pending_scan_and_finds_what_was_cleared_by_mistake() {
    let audit = AuditOptions {
        one_in: 1,
        percent: 100,
    };
    let detector = Detector::builder()
        .engine(engine())
        .views(ViewSet::RAW)
        .audit(audit)
        .build()
        .unwrap();
    let parser = Parser::default();
    let messages: Vec<_> = (0..3)
        .map(|_| parser.parse(b"an ordinary line of a log"))
        .collect();
    let (mut first, mut second) = (detector.scanner(), detector.scanner());
    let screened: Vec<_> = first.screen_messages(&messages).collect();
    let Some(Screened::Pending(pending)) = screened.first() else {
        panic!("one in one is audited: {screened:?}");
    };
    let report = second.finish_message(&messages[0], pending, &Request::new());
    let report = report.unwrap();
    assert_eq!((report.verdict, report.engine_calls), (Verdict::Clean, 0));
    assert_eq!((first.stats().audits, second.stats().audits), (0, 1));
    assert_eq!(second.stats().cleared, 1);
}

#[test]
fn a_scanner_that_is_stopped_decides_nothing() {
    let stop = CancelToken::new();
    let detector = detector(true, ViewSet::ALL);
    let mut scanner = detector.scanner().with_cancel_token(stop.clone());
    let messages = [Parser::default().parse(b"harmless")];
    let screened = scanner.screen_messages(&messages).next();
    assert!(matches!(screened, Some(Screened::Decided(_))));
    stop.cancel();
    let Some(Screened::Pending(pending)) = scanner.screen_messages(&messages).next() else {
        panic!("it is not to say clean any more");
    };
    let report = scanner.finish_message(&messages[0], &pending, &Request::new());
    assert!(matches!(
        report.unwrap().verdict,
        Verdict::Incomplete {
            cause: Incomplete::Cancelled,
            ..
        }
    ));
}

#[test]
fn a_remembered_verdict_is_the_one_that_libclamav_gave() {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let cached = Detector::builder()
        .engine(engine())
        .rules(RuleSet::builtin())
        .verdict_cache_entries(8)
        .build()
        .unwrap();
    let records: [Vec<u8>; 5] = [
        format!("ID3 {}", eicar::text()).into_bytes(),
        format!("app: x={}", BASE64_STANDARD.encode(eicar::text())).into_bytes(),
        b"EGGA the quick brown fox jumps over".to_vec(),
        b"<html><script>var a = 1;</script></html>".to_vec(),
        b"bytes that are no text: \x00\x01\x02\xff".to_vec(),
    ];
    let (parser, request) = (Parser::default(), Request::new());
    let (mut with, mut other) = (cached.scanner(), cached.scanner());
    for record in &records {
        let expected = scan(&detector(true, ViewSet::ALL), record);
        assert!(expected.engine_calls > 0, "{expected:?}");
        let message = parser.parse(record);
        let first = with.scan_message(&message, &request).unwrap();
        assert_eq!(first.engine_calls, expected.engine_calls);
        // Scanners of one detector share what they know; and a scan in two stages knows it, too.
        let again = other.scan_message(&message, &request).unwrap();
        let Some(Screened::Pending(pending)) =
            other.screen_messages(std::slice::from_ref(&message)).next()
        else {
            panic!("{record:?} is decided without libclamav")
        };
        let staged = with.finish_message(&message, &pending, &request).unwrap();
        for report in [&again, &staged] {
            assert_eq!(report.engine_calls, 0, "{report:?}");
        }
        for report in [first, again, staged] {
            assert_eq!(report.verdict, expected.verdict);
            assert_eq!(report.decided_by, expected.decided_by);
            assert_eq!(report.type_ignored, expected.type_ignored);
            assert_eq!(report.failed_in, expected.failed_in);
            assert_eq!(report.views, expected.views);
        }
    }
    assert!(with.stats().cached >= records.len() as u64);

    // Options are part of the question.
    let all = Request::new().options(ScanOptions {
        all_matches: true,
        ..ScanOptions::default()
    });
    let report = with.scan_message(&parser.parse(&records[0]), &all).unwrap();
    assert!(report.engine_calls > 0);
    // Another detector knows nothing of it.
    let fresh = detector(true, ViewSet::ALL);
    assert!(scan(&fresh, &records[0]).engine_calls > 0);
}

#[test]
fn a_scan_that_was_stopped_is_not_remembered() {
    let detector = Detector::builder()
        .engine(engine())
        .verdict_cache_entries(8)
        .build()
        .unwrap();
    let mut scanner = detector.scanner();
    let parser = Parser::default();
    let message = parser.parse(b"<html><script>var a = 1;</script></html>");
    let late = Request::new().deadline(Instant::now());
    let report = scanner.scan_message(&message, &late).unwrap();
    assert!(
        matches!(report.verdict, Verdict::Incomplete { .. }),
        "{report:?}"
    );
    let report = scanner.scan_message(&message, &Request::new()).unwrap();
    assert_eq!(report.verdict, Verdict::Clean);
    // It is known now, but who has stopped the scanner is to hear of it.
    let stop = CancelToken::new();
    stop.cancel();
    let stopped = Request::new().cancel(&stop);
    let report = scanner.scan_message(&message, &stopped).unwrap();
    assert!(
        matches!(
            report.verdict,
            Verdict::Incomplete {
                cause: Incomplete::Cancelled,
                ..
            }
        ),
        "{report:?}"
    );
}
