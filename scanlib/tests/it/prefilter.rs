//! What the prefilter promises to those who use it, with the real libclamav. That it is right is `soundness`' subject.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;
use scanlib::prefilter::{AuditOptions, Cause, DisabledReason, Gate, Prefilter, Scratch};
use scanlib::{
    Detector, Engine, EngineBuilder, Library, Limits, Parser, Payload, Request, Stage, Verdict,
    ViewSet,
};
use tempfile::TempDir;

fn builder() -> EngineBuilder {
    EngineBuilder::new(Library::init().unwrap()).unwrap()
}

/// An engine with these files.
fn engine(files: &[(&str, &[u8])]) -> Engine {
    let dir = directory(files);
    builder().database(dir.path()).unwrap().compile().unwrap()
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn check(prefilter: &Prefilter, message: &[u8]) -> Gate {
    prefilter.check(message, &mut Scratch::default())
}

proptest! {
    #[test]
    fn judged_together_they_are_judged_as_alone(
        pieces in prop::collection::vec((0..7_usize, 0..90_usize, prop::collection::vec(any::<bool>(), 3)), 0..80),
    ) {
        static PREFILTER: LazyLock<Prefilter> = LazyLock::new(|| {
            let hashes = |known: &[&str]| -> String {
                known
                    .iter()
                    .enumerate()
                    .map(|(n, text)| match n % 2 {
                        0 => format!("{}:{}:My.Hash{n}\n", md5(text.as_bytes()), text.len()),
                        _ => format!("{}:*:My.Hash{n}:73\n", md5(text.as_bytes())),
                    })
                    .collect()
            };
            let hashes = hashes(&["a known message", "another known message", "one in upper case", "and a fourth one"]);
            let files = [
                ("a.ndb", NEEDLE),
                ("c.hsb", hashes.as_bytes()),
                // Has libclamav write the normalised text to a file, and take its digest.
                ("e.ndb", b"My.End:7:EOF-4:71717171\n"),
            ];
            engine(&files).prefilter().clone()
        });
        let messages: Vec<Vec<u8>> = pieces.iter().map(|(text, longer, how)| {
            let text = ["a known message", "another known message", "one in upper case", "and a fourth one",
                "a needle here", "an ordinary line", "\u{1}\u{2}\u{3}\u{4} bytes"][*text];
            let mut text = text.to_owned();
            if how[0] { text = text.to_uppercase(); }
            if how[1] { text = text.replace(' ', " \t"); }
            // Mostly another one, then; of every length.
            if how[2] { text.push_str(&"x".repeat(*longer)); }
            text.into_bytes()
        }).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let (mut scratch, mut gates) = (Scratch::default(), vec![Gate::Cleared; 3]);
        PREFILTER.check_each(&messages, &mut scratch, &mut gates);
        let alone: Vec<Gate> = messages.iter().map(|message| check(&PREFILTER, message)).collect();
        prop_assert_eq!(gates, alone);
    }
}

#[test]
fn a_message_is_known_beside_others_too() {
    let digest = md5(b"a known message");
    let known = engine(&[("c.hsb", format!("{digest}:*:My.Hash:73\n").as_bytes())]);
    let other = &b"an ordinary line of a log"[..];
    for at in 0..9 {
        let mut messages = [other; 9];
        messages[at] = b"a known message";
        let mut gates = Vec::new();
        let prefilter = known.prefilter();
        prefilter.check_each(&messages, &mut Scratch::default(), &mut gates);
        let mut expected = [Gate::Cleared; 9];
        expected[at] = Gate::MustScan(Cause::Digest);
        assert_eq!(gates, expected);
    }
}

/// "needle", wherever it is.
const NEEDLE: &[u8] = b"My.Needle:0:*:6e6565646c65\n";

#[test]
fn every_cause_is_told_and_all_else_is_cleared() {
    let engine = engine(&[
        ("a.ndb", NEEDLE),
        (
            "b.ldb",
            b"My.Sized;Engine:51-255,FileSize:100-200,Target:0;0=0;71717171\n",
        ),
    ]);
    let prefilter = engine.prefilter();
    assert_eq!(prefilter.off(), None);
    let long = vec![b'a'; (64 << 10) + 1];
    let in_range = [b'a'; 150];
    for (message, gate) in [
        (&b"an ordinary line of a log"[..], Gate::Cleared),
        (b"", Gate::Cleared),
        (b"\0\0\0\0\0", Gate::Cleared),
        (b"\0\0\0\0\0\0", Gate::MustScan(Cause::Bytes)),
        (b"with a NEEDLE", Gate::MustScan(Cause::Signature)),
        (b"Subject: hello", Gate::MustScan(Cause::Magic)),
        (b"\xff\xfeabcdefg", Gate::MustScan(Cause::ByteOrderMark)),
        (b"see <script>", Gate::MustScan(Cause::FileType)),
        (b"< s c r i p t >", Gate::MustScan(Cause::Utf16)),
        (&in_range, Gate::MustScan(Cause::Unprovable)),
        (&long, Gate::MustScan(Cause::Length)),
    ] {
        assert_eq!(
            check(prefilter, message),
            gate,
            "{}",
            message.escape_ascii()
        );
    }
}

#[test]
fn a_known_digest_is_scanned_that_of_the_normalised_text_too() {
    let digest = md5(b"a known message");
    let dir = directory(&[("c.hdb", format!("{digest}:15:My.Hash\n").as_bytes())]);
    let load = |dir: &TempDir| builder().database(dir.path()).unwrap().compile().unwrap();
    let plain = load(&dir);
    let known = Gate::MustScan(Cause::Digest);
    assert_eq!(check(plain.prefilter(), b"a known message"), known);
    // libclamav takes no digest of normalised text until a signature has it written to a file.
    assert_eq!(check(plain.prefilter(), b"a  Known message"), Gate::Cleared);
    fs::write(dir.path().join("e.ndb"), "My.End:7:EOF-4:71717171\n").unwrap();
    let with_file = load(&dir);
    for message in [&b"a known message"[..], b"a  Known message"] {
        assert_eq!(check(with_file.prefilter(), message), known);
        let scan = with_file
            .scan(Payload::Bytes(message), &Request::new())
            .unwrap();
        assert_eq!(scan.names, ["My.Hash.UNOFFICIAL"]);
    }
}

/// As the tool tells it, which stands in for a crate that the tests do without.
fn md5(content: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = std::process::Command::new("md5sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout[..32].to_vec()).unwrap()
}

#[test]
fn what_is_not_understood_turns_it_off_and_is_named() {
    let clears_nothing = |engine: &Engine| {
        let gate = check(engine.prefilter(), b"an ordinary line of a log");
        assert_eq!(gate, Gate::MustScan(Cause::Off));
        engine.prefilter().off().unwrap().clone()
    };
    // libclamav takes the NUL for the end of the line, and names a signature that was not read.
    let odd = [NEEDLE, b"My.Odd:0:*:6e6565646c65\0more\n"].concat();
    let with_doubts = engine(&[("a.ndb", &odd)]);
    let off = clears_nothing(&with_doubts);
    let DisabledReason::NotUnderstood { first, more: 1 } = &off else {
        panic!("{off:?}")
    };
    let doubts = with_doubts.prefilter().doubts();
    assert_eq!((doubts.len(), doubts.first()), (2, Some(first)));
    assert_eq!((first.file.as_str(), first.line), ("a.ndb", Some(2)));
    assert_eq!(
        off.to_string(),
        "not understood: a.ndb, line 2: a line with a NUL byte; and 1 more"
    );

    let off = clears_nothing(&engine(&[
        ("a.ndb", NEEDLE),
        ("b.ldb", b"My.Negated;Engine:51-255,Target:0;0=0;71717171\n"),
    ]));
    assert_eq!(
        off,
        DisabledReason::Anything {
            signatures: vec!["My.Negated".to_owned()]
        }
    );
    assert_eq!(
        off.to_string(),
        "may match any message: My.Negated; leave_out keeps a signature out of the engine, if you can do without it"
    );

    let dir = directory(&[("a.ndb", NEEDLE)]);
    let unasked = builder().prefilter(false).database(dir.path()).unwrap();
    assert_eq!(
        clears_nothing(&unasked.compile().unwrap()),
        DisabledReason::NotAskedFor
    );
}

#[test]
fn messages_near_a_limit_of_the_engine_are_scanned() {
    let dir = directory(&[("a.ndb", NEEDLE)]);
    let limits = Limits {
        max_file_bytes: 100,
        ..Limits::default()
    };
    let engine = builder()
        .limits(limits)
        .database(dir.path())
        .unwrap()
        .compile()
        .unwrap();
    assert_eq!(check(engine.prefilter(), &[b'a'; 100]), Gate::Cleared);
    assert_eq!(
        check(engine.prefilter(), &[b'a'; 101]),
        Gate::MustScan(Cause::Length)
    );
}

#[test]
fn cleared_buffers_are_audited_as_often_as_was_asked() {
    let engine = engine(&[("a.ndb", NEEDLE)]);
    let scan = |audit: AuditOptions| {
        let detector = Detector::builder()
            .engine(engine.clone())
            .audit(audit)
            .views(ViewSet::RAW);
        let mut scanner = detector.build().unwrap().scanner();
        for n in 0..200 {
            let line = format!("an ordinary line of a log, number {n}");
            let message = Parser::default().parse(line.as_bytes());
            let report = scanner.scan_message(&message, &Request::new()).unwrap();
            assert_eq!(
                (report.verdict, report.decided_by),
                (Verdict::Clean, Stage::Prefilter)
            );
        }
        scanner.stats()
    };
    let all = scan(AuditOptions {
        one_in: 1,
        percent: 100,
    });
    assert_eq!((all.cleared, all.audits, all.engine_calls), (200, 200, 0));
    let none = scan(AuditOptions {
        one_in: 0,
        percent: 100,
    });
    assert_eq!((none.cleared, none.audits), (200, 0));
}

#[test]
fn every_step_of_a_decision_can_be_seen() {
    let engine = engine(&[(
        "a.ldb",
        b"My.Both;Engine:51-255,Target:0;0&1;6672617a7a6c65;6e6565646c65\n",
    )]);
    let explain = |message: &str| engine.prefilter().explain(message.as_bytes());
    let one = explain("A  frazzle alone");
    assert_eq!((one.gate, one.not_plain), (Gate::Cleared, None));
    assert_eq!(one.normalised, b"a frazzle alone");
    let [proposed] = &one.candidates[..] else {
        panic!("{one:?}")
    };
    assert_eq!(
        (proposed.name.as_str(), proposed.is_possible),
        ("My.Both", false)
    );
    assert_eq!(proposed.text, b"frazzle");
    let both = explain("a frazzle and a needle");
    assert_eq!(both.gate, Gate::MustScan(Cause::Signature));
    assert!(both.candidates[0].is_possible);
    assert_eq!(explain("Subject: x").not_plain, Some(Cause::Magic));
    assert_eq!(
        Prefilter::disabled().explain(b"anything").not_plain,
        Some(Cause::Off)
    );
}

#[test]
fn a_summary_says_what_was_read() {
    let summary = engine(&[
        (
            "a.ndb",
            &[
                NEEDLE,
                b"My.Binary:0:*:00010203\n",
                b"My.Exe:1:*:6e6565646c65\n",
            ]
            .concat(),
        ),
        (
            "b.yar",
            b"rule r { strings: $a = \"haystack\" condition: $a }\n",
        ),
    ]);
    let summary = summary.prefilter().summary().clone();
    assert_eq!((summary.signatures.body, summary.signatures.yara), (1, 1));
    assert_eq!(summary.signatures.logical, 0);
    assert!(
        summary.texts >= 2 && summary.memory_bytes > 1000,
        "{summary:?}"
    );
    assert!(!summary.build_time.is_zero());
}
