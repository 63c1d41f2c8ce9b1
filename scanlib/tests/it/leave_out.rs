//! Signatures that the user can do without: the real libclamav loads all but those, and the prefilter agrees with it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::path::Path;
use std::process::Command;

use scanlib::prefilter::{Cause, DisabledReason, Gate, Scratch};
use scanlib::{DatabaseOptions, Engine, EngineBuilder, Library, Payload, Request, ScanOptions};
use support::data;
use tempfile::TempDir;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn builder(dir: &Path) -> EngineBuilder {
    EngineBuilder::new(Library::init().unwrap())
        .unwrap()
        .database(dir)
        .unwrap()
        .database_options(DatabaseOptions {
            bytecode_unsigned: true,
            // Else files of these endings are passed over.
            pua: true,
            ..DatabaseOptions::default()
        })
}

fn engine(files: &[(&str, &str)], leave_out: &[&str]) -> Engine {
    let dir = directory(files);
    let builder = builder(dir.path()).exclude(leave_out.iter().copied());
    builder.compile().unwrap()
}

/// All that libclamav finds.
fn found(engine: &Engine, message: &[u8]) -> Vec<String> {
    let options = ScanOptions {
        all_matches: true,
        ..ScanOptions::default()
    };
    let request = Request::new().options(options);
    let scan = engine.scan(Payload::Bytes(message), &request).unwrap();
    assert_eq!(scan.incomplete, None);
    let mut names = scan.names;
    names.sort();
    names
}

fn check(engine: &Engine, message: &[u8]) -> Gate {
    let prefilter = engine.prefilter();
    assert_eq!(prefilter.off(), None);
    prefilter.check(message, &mut Scratch::default())
}

/// Two signatures of each kind that libclamav names: `My.First` finds this message, `My.Second` the other one.
const FIRST: &[u8] = b"a needle in the hay";
const SECOND: &[u8] = b"only a straw in the hay";

fn kinds() -> Vec<(&'static str, String, [&'static str; 2])> {
    let names = ["My.First", "My.Second"];
    let body = "My.First:0:*:6e6565646c65\nMy.Second:0:*:7374726177\n".to_owned();
    let logical = "My.First;Engine:51-255,Target:0;0&1;6e6565646c65;686179\nMy.Second;Target:0;0;7374726177\n";
    let rules = "rule First { strings: $a = \"needle\" condition: $a }\nrule Second { strings: $a = \"straw\" condition: $a }\n";
    let digest = |tool: &str, message: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("message");
        fs::write(&path, message).unwrap();
        let output = Command::new(tool).arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().next().unwrap().to_owned()
    };
    let hashes = |tool: &str, tail: &str| {
        let line = |message: &[u8], name| {
            format!("{}:{}:{name}{tail}\n", digest(tool, message), message.len())
        };
        line(FIRST, names[0]) + &line(SECOND, names[1])
    };
    vec![
        ("a.ndb", body.clone(), names),
        ("a.ndu", body, names),
        (
            "a.db",
            "My.First=6e6565646c65\nMy.Second=7374726177\n".to_owned(),
            names,
        ),
        ("a.ldb", logical.to_owned(), names),
        ("a.ldu", logical.to_owned(), names),
        ("a.hdb", hashes("md5sum", ""), names),
        ("a.hsb", hashes("sha256sum", ":73"), names),
        ("a.x.HSB", hashes("sha1sum", ":73"), names),
        ("a.yar", rules.to_owned(), ["YARA.First", "YARA.Second"]),
        ("a.yara", rules.to_owned(), ["YARA.First", "YARA.Second"]),
    ]
}

#[test]
fn what_is_left_out_is_not_found_and_all_else_is_in_every_kind_of_file() {
    for (file, content, [first, second]) in kinds() {
        let files = [(file, &*content)];
        let reported = |name: &str| vec![format!("{name}.UNOFFICIAL")];
        let all = engine(&files, &[]);
        assert_eq!(all.info().signatures, 2, "{file}");
        assert_eq!(found(&all, FIRST), reported(first), "{file}");
        assert_eq!(found(&all, SECOND), reported(second), "{file}");

        for name in [first.to_owned(), format!("{first}.UNOFFICIAL")] {
            let less = engine(&files, &[&name]);
            let info = less.info();
            assert_eq!(
                (info.signatures, info.excluded.as_slice()),
                (1, &[first.to_owned()][..]),
                "{file}"
            );
            assert_eq!(info.unmatched_exclusions, [], "{file}");
            assert_eq!(found(&less, FIRST), Vec::<String>::new(), "{file}");
            assert_eq!(found(&less, SECOND), reported(second), "{file}");
            // The prefilter was held to libclamav's names, and does not count it either.
            assert_eq!(check(&less, FIRST), Gate::Cleared, "{file}");
            assert!(matches!(check(&less, SECOND), Gate::MustScan(_)), "{file}");
            assert!(matches!(check(&all, FIRST), Gate::MustScan(_)), "{file}");
            assert_ne!(info.digest, all.info().digest, "{file}");
        }
        // Without a prefilter as well.
        let dir = directory(&files);
        let slow = builder(dir.path())
            .prefilter(false)
            .exclude([first])
            .compile()
            .unwrap();
        assert_eq!(slow.prefilter().off(), Some(&DisabledReason::NotAskedFor));
        assert_eq!(found(&slow, FIRST), Vec::<String>::new(), "{file}");
        assert_eq!(found(&slow, SECOND), reported(second), "{file}");
    }
}

const NEEDLE: (&str, &str) = ("a.ndb", "My.Needle:0:*:6e6565646c65\n");

/// As the four rules of a published collection that turn the prefilter off, and one line of logical signatures.
const ANYTHING: (&str, &str) = (
    "b.yar",
    "rule Case_Anomaly { strings: $a = \"power\" nocase $b = \"power\" condition: #a > #b or #b < 2 }
rule Short { condition: filesize < 100 }
rule Without { strings: $a = \"absent\" condition: not $a }
rule Kept { strings: $a = \"straw\" condition: $a }
",
);
const NEGATED: (&str, &str) = ("c.ldb", "My.Negated;Engine:51-255,Target:0;0=0;71717171\n");

#[test]
fn without_the_signatures_that_match_anything_the_prefilter_is_on() {
    let files = [NEEDLE, ANYTHING, NEGATED];
    // Told by the very names that it gives, which come one kind after the other.
    let mut names = Vec::new();
    let less = loop {
        let names_now: Vec<&str> = names.iter().map(String::as_str).collect();
        let engine = engine(&files, &names_now);
        let Some(off) = engine.prefilter().off() else {
            break engine;
        };
        let said = off.to_string();
        assert!(said.contains("; leave_out keeps a signature out"), "{said}");
        assert!(names.len() < 5, "{names:?}: {said}");
        names.extend(in_the_way(&engine));
    };
    names.sort();
    assert_eq!(names, ["Case_Anomaly", "My.Negated", "Short", "Without"]);
    assert_eq!(less.info().excluded.len(), names.len());
    for (message, wanted) in [
        (&b"an ordinary line"[..], &[][..]),
        (b"a needle", &["My.Needle.UNOFFICIAL"]),
        (
            b"a needle and a straw",
            &["My.Needle.UNOFFICIAL", "YARA.Kept.UNOFFICIAL"],
        ),
    ] {
        assert_eq!(found(&less, message), wanted);
        assert_eq!(check(&less, message) == Gate::Cleared, wanted.is_empty());
    }
    // One of them is enough to keep it off.
    for kept in 0..names.len() {
        let others = names.iter().enumerate().filter(|(at, _)| *at != kept);
        let others: Vec<_> = others.map(|(_, name)| name.as_str()).collect();
        assert_eq!(in_the_way(&engine(&files, &others)), [names[kept].as_str()]);
    }
}

/// The signatures that turn the prefilter off.
fn in_the_way(engine: &Engine) -> Vec<String> {
    match engine.prefilter().off() {
        Some(DisabledReason::Anything { signatures }) => signatures.clone(),
        Some(DisabledReason::NotUnderstood { .. }) => {
            let doubts = engine.prefilter().doubts().iter();
            doubts
                .map(|doubt| doubt.signature.clone().unwrap())
                .collect()
        }
        off => panic!("{off:?}"),
    }
}

#[test]
fn a_signature_that_is_not_understood_can_be_left_out() {
    // More alternatives than are followed.
    let alternatives: Vec<_> = (0..5000).map(|n| format!("{:02x}", n % 256)).collect();
    let alternatives = alternatives.join("|");
    let odd = format!("My.Odd;Engine:51-255,Target:0;0;6e6565646c65({alternatives})\n");
    let files = [("a.ndb", "My.Straw:0:*:7374726177\n"), ("b.ldb", &*odd)];
    let all = engine(&files, &[]);
    let off = all.prefilter().off();
    let Some(DisabledReason::NotUnderstood { first, more: 0 }) = off else {
        panic!("{off:?}")
    };
    assert_eq!(first.signature.as_deref(), Some("My.Odd"));
    assert_eq!(found(&all, b"two needles"), ["My.Odd.UNOFFICIAL"]);

    let less = engine(&files, &["My.Odd"]);
    assert_eq!(check(&less, b"two needles"), Gate::Cleared);
    assert_eq!(found(&less, b"two needles"), Vec::<String>::new());
    assert_eq!(found(&less, SECOND), ["My.Straw.UNOFFICIAL"]);
}

#[test]
fn what_libclamav_never_names_stays_and_the_prefilter_knows() {
    let plain = ("b.sdb", "My.First:0:*:6e6565646c65\n");
    let engine_with = |files: &[(&str, &str)]| {
        let engine = engine(files, &["My.First"]);
        assert_eq!(found(&engine, FIRST), ["My.First.UNOFFICIAL"], "{files:?}");
        assert_eq!(
            check(&engine, FIRST),
            Gate::MustScan(Cause::Signature),
            "{files:?}"
        );
        engine
    };
    let alone = engine_with(&[plain]);
    assert_eq!(alone.info().excluded, Vec::<String>::new());
    let said = alone.info().unmatched_exclusions[0].to_string();
    assert!(said.starts_with("My.First cannot be excluded: "), "{said}");
    // One of that name that is named does not take it along.
    let both = engine_with(&[
        plain,
        (
            "a.ndb",
            "My.First:0:*:6e6565646c65\nMy.Second:0:*:7374726177\n",
        ),
    ]);
    assert_eq!(both.info().excluded, ["My.First"]);
}

#[test]
fn all_of_a_name_are_left_out_of_whatever_kind() {
    let engine = engine(
        &[
            (
                "a.ndb",
                "Twin:0:*:6e6565646c65\nTwin:0:*:7374726177\nOther:0:*:6f74686572\n",
            ),
            ("b.ldb", "Twin;Target:0;0;686179\n"),
            (
                "c.yar",
                "rule Twin { strings: $a = \"needle\" condition: $a }\n",
            ),
        ],
        &["Twin"],
    );
    assert_eq!(engine.info().excluded, ["Twin", "YARA.Twin"]);
    assert_eq!(engine.info().signatures, 1);
    assert_eq!(check(&engine, FIRST), Gate::Cleared);
    assert_eq!(found(&engine, FIRST), Vec::<String>::new());
    assert_eq!(found(&engine, b"the other"), ["Other.UNOFFICIAL"]);
}

/// In libclamav a rule that is refused bequeaths its strings to the next one; one that is left out does not.
#[test]
fn rules_around_the_one_that_is_left_out_mean_what_they_meant() {
    let rules = "rule Before { strings: $a = \"before\" condition: $a }
rule Out { strings: $a = \"needle\" condition: $a }
rule After { strings: $b = \"straw\" condition: any of them }
rule Refers { strings: $c = \"refers\" condition: $c and not Out }
";
    let all = engine(&[("a.yar", rules)], &[]);
    let less = engine(&[("a.yar", rules)], &["Out"]);
    assert_eq!(
        found(&all, b"before a needle"),
        ["YARA.Before.UNOFFICIAL", "YARA.Out.UNOFFICIAL"]
    );
    for (message, wanted) in [
        ("before a needle", &["YARA.Before.UNOFFICIAL"][..]),
        ("only a needle", &[]),
        ("only a straw", &["YARA.After.UNOFFICIAL"]),
    ] {
        assert_eq!(found(&less, message.as_bytes()), wanted, "{message}");
    }
    // Whatever libclamav makes of a rule that refers to it, nothing that it finds is cleared.
    for message in ["it refers to it", "it refers to a needle"] {
        let gate = less
            .prefilter()
            .check(message.as_bytes(), &mut Scratch::default());
        assert!(
            found(&less, message.as_bytes()).is_empty() || gate != Gate::Cleared,
            "{message}"
        );
    }
}

#[test]
fn a_name_that_is_not_there_is_told_with_the_nearest() {
    let engine = engine(
        &[NEEDLE, ANYTHING],
        &["my.nedle", "case-anomaly", "Something.Else-1", "Kept"],
    );
    let told: Vec<_> = engine
        .info()
        .unmatched_exclusions
        .iter()
        .map(|one| (one.name.as_str(), one.nearest.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("my.nedle", Some("My.Needle")),
            ("case-anomaly", Some("YARA.Case_Anomaly")),
            ("Something.Else-1", None),
        ]
    );
    assert_eq!(engine.info().excluded, ["YARA.Kept"]);
}

#[test]
fn an_engine_of_which_all_is_left_out_is_refused() {
    let dir = directory(&[NEEDLE]);
    let error = builder(dir.path())
        .exclude(["My.Needle"])
        .compile()
        .unwrap_err();
    assert!(
        error.to_string().contains("holds no signature database"),
        "{error}"
    );
}

/// A bytecode has no name but that of its file; without its logical signature libclamav takes it for malformed.
#[test]
fn bytecode_is_left_out_by_the_name_of_its_file() {
    let Some(path) = data("sigs-formats/ut-lsig.cbc") else {
        return;
    };
    let content = fs::read_to_string(path).unwrap();
    let files = [NEEDLE, ("ut-lsig.cbc", content.as_str())];
    let all = engine(&files, &[]);
    let less = engine(&files, &["ut-lsig.cbc"]);
    assert_eq!(less.info().excluded, ["ut-lsig.cbc"]);
    assert!(less.info().signatures < all.info().signatures);
    assert_eq!(check(&less, b"an ordinary line"), Gate::Cleared);

    let logical = content.lines().nth(1).unwrap().split(';').next().unwrap();
    let same = engine(&files, &[logical]);
    assert_eq!(same.info().excluded, Vec::<String>::new());
    assert_eq!(same.info().unmatched_exclusions[0].name, logical);
    assert_eq!(same.info().signatures, all.info().signatures);
}

/// What a user has who loads every published file there is.
#[test]
fn with_four_rules_left_out_the_prefilter_is_on_for_everything_published() {
    let Some(folder) = data("sigs") else { return };
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(stem) = name.strip_suffix(".zst") else {
            fs::copy(&path, dir.path().join(name)).unwrap();
            continue;
        };
        let output = Command::new("zstd")
            .arg("-dcq")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        fs::write(dir.path().join(stem), output.stdout).unwrap();
    }
    let all = builder(dir.path()).compile().unwrap();
    let mut names = in_the_way(&all);
    names.sort();
    assert_eq!(
        names,
        [
            "LOG_TeamViewer_Connect_Chinese_Keyboard_Layout",
            "LOG_TeamViewer_Connect_Russian_Keyboard_Layout",
            "PowerShell_Case_Anomaly",
            "WScriptShell_Case_Anomaly",
        ]
    );
    let less = builder(dir.path()).exclude(names).compile().unwrap();
    assert_eq!(less.prefilter().off(), None);
    assert_eq!(less.info().unmatched_exclusions, []);
    assert_eq!(less.info().signatures, all.info().signatures - 4);
    assert_eq!(
        check(&less, b"<13>Oct 20 02:44:02 web app: an ordinary line"),
        Gate::Cleared
    );
}
