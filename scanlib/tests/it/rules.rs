//! The promises of rule sets.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use crate::corpus;

use scanlib::message::{Parser, ViewBuffers, ViewSet};
use scanlib::rules::{MAX_COUNT, RuleSet, check_samples};
use scanlib::{DetectionSource, RuleError, Severity, ThreatType, View};

/// The test string, put together at run time so that this file is no find itself.
fn eicar() -> String {
    [
        r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR",
        "STANDARD",
        "ANTIVIRUS",
        "TEST",
        "FILE!$H+H*",
    ]
    .join("-")
}

/// Name and severity of what the built-in rules find in the views of a record, without repeats.
fn findings(record: &[u8], set: ViewSet) -> Vec<(String, Severity, View)> {
    let rules = RuleSet::builtin();
    let message = Parser::default().parse(record);
    let mut buffers = ViewBuffers::default();
    let mut all: Vec<(String, Severity, View)> = Vec::new();
    for view in buffers.views(&message, set) {
        let mut found = Vec::new();
        rules.find(view.data, &mut found);
        for hit in &found {
            let detection = rules.detection(hit, view.view, view.data);
            if all.iter().all(|(name, ..)| *name != detection.name) {
                all.push((detection.name, detection.severity, detection.view));
            }
        }
    }
    all
}

#[test]
fn every_sample_of_the_builtin_rules_does_what_the_file_says() {
    let failures: Vec<_> = check_samples(&RuleSet::builtin())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_first_six_rules_keep_their_names_labels_and_severities() {
    let rules = RuleSet::builtin();
    assert_eq!(rules.name(), "syslog-core");
    let found: Vec<_> = rules
        .rules()
        .iter()
        .map(|rule| (rule.name(), rule.severity()))
        .collect();
    let expected = [
        ("Malicious pattern: eicar_test", Severity::High),
        ("Malicious pattern: powershell_encoded", Severity::High),
        ("Injection attempt: sql_injection", Severity::High),
        ("Injection attempt: cmd_injection", Severity::High),
        ("Suspicious content: suspicious_url", Severity::Medium),
        ("Suspicious content: base64_payload", Severity::Medium),
    ];
    assert_eq!(
        found[..6],
        expected.map(|(name, severity)| (name.to_owned(), severity))
    );
}

#[test]
fn the_usual_test_messages_are_found_under_their_names() {
    let record = |text: &str| {
        let text = format!("Oct 19 21:44:02 CDT 2025 test-host test-app: {text}");
        serde_json::json!({ "message": text, "program": "<30>Sun" }).to_string()
    };
    let names = |text: &str| -> Vec<String> {
        findings(record(text).as_bytes(), ViewSet::ALL)
            .into_iter()
            .map(|(name, ..)| name)
            .collect()
    };
    assert_eq!(names("This is a normal log message"), [""; 0]);
    assert_eq!(names(&eicar()), ["Malicious pattern: eicar_test"]);
    let powershell = "powershell.exe -EncodedCommand VwByAGkAdABlAC0ASABvAHMAdAAgAGgAZQBsAGwAbwA=";
    assert_eq!(names(powershell), ["Malicious pattern: powershell_encoded"]);
    let url = "User downloaded http://malicious-site.com/payload.exe";
    assert_eq!(names(url), ["Suspicious content: suspicious_url"]);
    assert_eq!(
        names("Login attempt: '; DROP TABLE users; --"),
        ["Injection attempt: sql_injection"]
    );
}

#[test]
fn a_url_alone_is_not_suspicious() {
    for url in [
        "http://www.example.com/",
        "https://example.org/a/b?c=d#e",
        "http://192.0.2.1/status",
    ] {
        assert_eq!(findings(url.as_bytes(), ViewSet::ALL), []);
    }
}

#[test]
fn what_is_encoded_is_found_in_the_decoded_view() {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(eicar());
    let record = format!("<38>Oct 11 22:14:15 web upload[7]: file={encoded}");
    let expected = (
        "Malicious pattern: eicar_test".to_owned(),
        Severity::High,
        View::Decoded,
    );
    assert_eq!(findings(record.as_bytes(), ViewSet::ALL), [expected]);
    assert_eq!(findings(record.as_bytes(), ViewSet::RAW), []);
}

#[test]
fn a_detection_says_where_how_often_and_by_which_rule() {
    let rules = RuleSet::builtin();
    let mut found = Vec::new();
    let text = b"q='; DROP TABLE a; -- and q='; drop table b;";
    rules.find(text, &mut found);
    let detection = rules.detection(&found[0], View::Body, text);
    assert_eq!(
        (detection.view, detection.threat_type),
        (View::Body, ThreatType::Injection)
    );
    let DetectionSource::Rule {
        id,
        span,
        count,
        sample,
        ..
    } = detection.source
    else {
        panic!("not a rule")
    };
    assert_eq!((id.as_str(), span.start, count), ("sql_injection", 2, 2));
    assert_eq!(sample, b"'; DROP TABLE a;");

    found.clear();
    rules.find("'; drop table b;\n".repeat(5000).as_bytes(), &mut found);
    assert_eq!((found.len(), found[0].count), (1, MAX_COUNT));
}

const HEAD: &str = "name = \"a\"\nversion = \"1\"\n";
const RULE: &str = r#"[[rule]]
id = "x"
version = 1
title = "t"
type = "test"
severity = "low"
confidence = "low"
anchors = ["abc"]
regex = ['abc+d']
tests = { match = ["abcd"], no_match = ["abd"] }
"#;

fn refusal(text: &str) -> RuleError {
    RuleSet::parse("my.toml", text).expect_err(text)
}

#[test]
fn a_refused_file_names_the_place_and_what_was_expected() {
    assert!(RuleSet::parse("my.toml", &format!("{HEAD}{RULE}")).is_ok());
    // What is changed in the rule, the line and column of the error, and what it says.
    for (from, to, place, says) in [
        (
            "severity",
            "severty",
            (8, 1),
            "unknown key `severty` in a `rule`: did you mean `severity`?",
        ),
        (
            "title",
            "colour",
            (6, 1),
            "expected one of id, version, title",
        ),
        ("no_match", "nomatch", (12, 29), "did you mean `no_match`?"),
        (
            "\"low\"\ncon",
            "\"hihg\"\ncon",
            (8, 12),
            "unknown severity `hihg`: did you mean `high`?",
        ),
        (
            "\"test\"",
            "\"virus\"",
            (7, 8),
            "unknown type `virus`: expected one of malware",
        ),
        (
            "version = 1",
            "version = \"1\"",
            (5, 11),
            "`version` must be a whole number from 0, not string",
        ),
        ("version = 1", "version = -1", (5, 11), "whole number"),
        ("\"x\"", "\"X y\"", (4, 6), "lower-case"),
        ("title = \"t\"\n", "", (3, 1), "a `rule` has no `title`"),
        (
            "[\"abc\"]",
            "[]",
            (10, 11),
            "`anchors` of a `rule` must not be empty",
        ),
        (
            "[\"abc\"]",
            "\"abc\"",
            (10, 11),
            "`anchors` must be a list of strings, not string",
        ),
        ("abc+d", "abc(", (11, 10), "the expression is refused"),
        (
            "abc+d",
            "(?:abcd{1,1000}){1000}",
            (11, 10),
            "the expression is refused",
        ),
        (
            "abc+d",
            "ab+cd",
            (11, 10),
            "could match without any of the anchors (abc)",
        ),
        (
            "abc+d",
            "abcd|x",
            (11, 10),
            "could match without any of the anchors",
        ),
        (
            "abc+d",
            "(?:abc)*",
            (11, 10),
            "could match without any of the anchors",
        ),
        (
            "abc+d",
            "ab+c",
            (11, 10),
            "could match without any of the anchors",
        ),
        (
            "abc+d",
            "ab(?:cx?)*c",
            (11, 10),
            "could match without any of the anchors",
        ),
        (
            "abc+d",
            "(?:abc)?d",
            (11, 10),
            "could match without any of the anchors",
        ),
        (
            ", no_match = [\"abd\"]",
            "",
            (12, 9),
            "`tests` of a `rule` has no `no_match`",
        ),
        ("[\"abcd\"]", "[]", (12, 19), "must not be empty"),
        ("title = \"t\"", "title = ", (6, 9), ""),
    ] {
        assert!(RULE.contains(from));
        let error = refusal(&format!("{HEAD}{}", RULE.replacen(from, to, 1)));
        assert_eq!((error.line, error.column), place, "{error}");
        assert!(error.problem.contains(says), "{error}");
        assert!(error.to_string().starts_with("my.toml:"), "{error}");
    }
    let error = refusal(&format!("{HEAD}{RULE}{RULE}"));
    assert_eq!(
        (error.line, error.problem.as_str()),
        (14, "there is another rule `x`")
    );
    assert_eq!(refusal(RULE).problem, "the rule file has no `name`");
}

/// Expressions of which the proof has to look inside.
#[test]
fn an_expression_is_taken_if_every_match_contains_an_anchor() {
    for regex in [
        "abc",
        "x*abc",
        "(?i)ABC",
        "ab[cC]",
        "(?:x|y)?abc$",
        "(?:zabc|abcy|(abc))",
        "a(?:bcd|bce)",
        "(?:abc){2,}",
        "(?:ab|xab)c",
        "[a]b(?:cx|cd)",
        "abc+d",
        "ab(?:c)+",
        "x+abc",
        "(?:q|w|e|r|t|z|u|i|o|p)?(?:1|2|3|4|5|6|7|8|9)?(?:_|-)abc",
    ] {
        let text = format!("{HEAD}{}", RULE.replacen("abc+d", regex, 1));
        let taken = RuleSet::parse("my.toml", &text);
        assert!(taken.is_ok(), "{regex}: {taken:?}");
    }
}

#[test]
fn a_sample_that_does_not_do_what_the_file_says_is_named() {
    let text = format!(
        "{HEAD}{}",
        RULE.replacen("\"abcd\"", "\"abc\\u001bx\"", 1)
            .replacen("\"abd\"", "\"abccd\"", 1)
    );
    let failures: Vec<_> = check_samples(&RuleSet::parse("my.toml", &text).expect("valid"))
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        r#"x does not match its sample "abc\u{1b}x""#,
        r#"x must not match its sample "abccd""#,
    ];
    assert_eq!(failures, expected);
}

#[test]
fn an_exception_applies_to_the_match_and_not_to_its_neighbours() {
    let rule = RULE.replacen("tests", "unless = ['ccc']\ntests", 1);
    let rules = RuleSet::parse("my.toml", &format!("{HEAD}{rule}")).expect("valid");
    let count = |text: &str| {
        let mut found = Vec::new();
        rules.find(text.as_bytes(), &mut found);
        found.first().map_or(0, |hit| hit.count)
    };
    assert_eq!(
        (count("abcccd"), count("abccd"), count("ccc abcccd abcd")),
        (0, 1, 1)
    );
}

/// Logs without attacks: a rule of high severity may fire on one line in a thousand.
#[test]
fn ordinary_logs_hardly_ever_match_a_high_rule() {
    for name in [
        "app-k8s-mixed.log.zst",
        "app-kafka-broker.log.zst",
        "auth-elastic.log.zst",
        "loghub-Android.log.zst",
        "loghub-Hadoop.log.zst",
        "loghub-Linux.log.zst",
        "loghub-OpenStack.log.zst",
        "loghub-Windows.log.zst",
        "web-apache-access.log.zst",
        "web-nasa-access.log.zst",
        "zeek-json.log.zst",
    ] {
        let Some(messages) = corpus::messages(name) else {
            continue;
        };
        let high = |message: &&Vec<u8>| {
            findings(message, ViewSet::ALL)
                .iter()
                .any(|(_, severity, _)| *severity >= Severity::High)
        };
        let hits: Vec<_> = messages.iter().filter(high).collect();
        let examples: Vec<_> = hits
            .iter()
            .take(3)
            .map(|text| String::from_utf8_lossy(text))
            .collect();
        assert!(
            hits.len() * 1000 < messages.len(),
            "{name}: {} lines, such as {examples:#?}",
            hits.len()
        );
    }
}
