//! `scanner-bin db`: what is said about signatures, and counts of the user's own logs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

fn run(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // A command that ends early reads nothing.
    pipe.write_all(stdin).ok();
    drop(pipe);
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> (i32, String, String) {
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        utf8(&output.stdout),
        utf8(&output.stderr),
    )
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn info(dir: &Path, more: &[&str]) -> (i32, String, String) {
    let database = ["db", "info", "--database", dir.to_str().unwrap()];
    text(&run(&[&database, more].concat(), b""))
}

fn object(dir: &Path, more: &[&str]) -> (i32, Value) {
    let (code, out, error) = info(dir, &[&["--format", "json"], more].concat());
    (code, serde_json::from_str(&out).expect(&error))
}

/// "needle" and "http", wherever they are, and an executable.
const BODY: &str = "My.Needle:0:*:6e6565646c65\nMy.Common:0:*:68747470\nMy.Exe:1:*:6e6565646c65\n";
const SIZED: &str = "My.Sized;Engine:51-255,FileSize:100-200,Target:0;0=0;71717171\n";
const NEGATED: &str = "My.Negated;Engine:51-255,Target:0;0=0;71717171\n";

#[test]
fn signatures_that_are_understood_are_status_0_and_told_in_numbers() {
    let hash = "44d88612fea8a8f36de82e1278abb02f:68:My.Hash\n";
    let dir = directory(&[("a.ndb", BODY), ("b.ldb", SIZED), ("c.hdb", hash)]);
    let (code, out, _) = info(dir.path(), &[]);
    assert_eq!(code, 0, "{out}");
    for wanted in [
        "prefilter  on\n",
        "loaded     5 signatures by libclamav's count\n",
        "2  body signatures\n",
        "1  logical signatures\n",
        "0  YARA rules\n",
        "1  hashes\n",
        "memory     ",
        "always     1 may match any message of some lengths\n           My.Sized\n",
        " signatures in a message of 300 bytes; most often\n",
        "  My.Common\n",
        "build time ",
    ] {
        assert!(out.contains(wanted), "{wanted:?} is missing: {out}");
    }

    let rare = out.lines().find(|line| line.ends_with("  My.Needle"));
    let rare = rare.and_then(|line| line.split_whitespace().next());
    let rare: f64 = rare.unwrap().parse().unwrap();
    assert!(rare > 0.0 && rare < 0.01, "{out}");

    let (code, object) = object(dir.path(), &[]);
    assert_eq!(
        (code, &object["on"], &object["off"]),
        (0, &json!(true), &Value::Null)
    );
    assert_eq!(
        (&object["loaded"], &object["hashes"]),
        (&json!(5), &json!(1))
    );
    assert_eq!(object["signatures"]["body"], 2);
    assert_eq!(object["always"], json!(["My.Sized"]));
    assert!(object["memory_bytes"].as_u64() > Some(1000), "{object}");
    assert!(object["build_seconds"].as_f64() > Some(0.0), "{object}");
    assert!(object["texts"].as_u64() > Some(2), "{object}");
    let dearest = object["dearest"].as_array().unwrap();
    let expected = |name: &str| {
        let one = dearest.iter().find(|one| one["name"] == name);
        one.unwrap()["expected"].as_f64().unwrap()
    };
    assert!(expected("My.Common") > expected("My.Needle"), "{object}");
    assert!(object["expected"].as_f64().unwrap() > expected("My.Common"));
}

#[test]
fn signatures_that_turn_it_off_are_status_1_and_named() {
    let dir = directory(&[("a.ndb", BODY), ("b.ldb", NEGATED)]);
    let (code, out, _) = info(dir.path(), &[]);
    assert_eq!(code, 1);
    assert!(
        out.starts_with(
            "prefilter  off: may match any message: 1\n           My.Negated\n           if you can do without them: --leave-out NAME"
        ),
        "{out}"
    );
    let (code, off) = object(dir.path(), &[]);
    assert_eq!((code, &off["on"]), (1, &json!(false)));
    assert_eq!(off["anything"], json!(["My.Negated"]));
    assert_eq!(
        off["off"],
        "may match any message: My.Negated; leave_out keeps a signature out of the engine, if you can do without it"
    );
}

#[test]
fn what_is_left_out_is_told_and_what_is_not_there_is_said_with_the_nearest_name() {
    let dir = directory(&[("a.ndb", BODY), ("b.ldb", NEGATED)]);
    let flags = ["--leave-out", "My.Negated", "--leave-out", "My.Nedle"];
    let (code, out, error) = info(dir.path(), &flags);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.starts_with("prefilter  on\nloaded     3 signatures by libclamav's count\nprofile    full\nleft out   1, as --leave-out says\n           My.Negated\n"),
        "{out}"
    );
    assert!(
        error.contains("scanner-bin: warning: My.Nedle cannot be excluded: ")
            && error.contains("; the nearest is My.Needle\n"),
        "{error}"
    );
    let (_, object) = object(dir.path(), &flags);
    assert_eq!(object["left_out"], json!(["My.Negated"]));
    assert_eq!(object["not_there"], json!(["My.Nedle"]));
}

#[test]
fn all_that_is_not_understood_is_told_the_first_twenty_by_name() {
    let odd: String = (0..15)
        .map(|n| format!("My.Odd{n}:0:*:6e6565646c65\0\x1bmore\n"))
        .collect();
    let dir = directory(&[("a.ndb", &odd)]);
    let (code, out, _) = info(dir.path(), &[]);
    assert_eq!(code, 1);
    assert!(
        out.starts_with(
            "prefilter  off: not everything is understood\n           a.ndb, line 1: a line with a NUL byte\n"
        ),
        "{out}"
    );
    // Each line once as it was read, and once as libclamav names it.
    assert!(out.contains("\n           and 10 more\n"), "{out}");
    assert!(
        !out.contains(|c: char| c.is_control() && c != '\n'),
        "{out:?}"
    );
    let (_, object) = object(dir.path(), &[]);
    assert_eq!(object["doubts"].as_array().unwrap().len(), 20);
    assert_eq!(object["doubts_not_told"], 10);
    assert_eq!(
        object["doubts"][0],
        json!({"file": "a.ndb", "line": 1, "signature": null, "why": "a line with a NUL byte"})
    );
}

#[test]
fn what_cannot_be_loaded_is_status_2() {
    let dir = directory(&[("a.ndb", "this is no signature\n")]);
    let (code, out, error) = info(dir.path(), &[]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(error.contains("a.ndb"), "{error}");

    let dir = directory(&[("a.ndb", BODY), ("model", "htt 5\nnonsense\n")]);
    let model = dir.path().join("model");
    let (code, _, error) = info(dir.path(), &["--text-model", model.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(error.contains("line 2 is not three characters"), "{error}");
}

#[test]
fn counts_of_own_logs_are_written_and_change_what_is_expected() {
    let dir = directory(&[
        ("a.ndb", BODY),
        ("own.log", &"widget 7: the needle is in place\n".repeat(200)),
    ]);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (code, out, error) = text(&run(
        &[
            "db",
            "tune",
            "--output",
            &path("model"),
            &path("own.log"),
            "-",
        ],
        b"one more needle",
    ));
    assert_eq!((code, out.as_str()), (0, ""), "{error}");
    assert!(error.contains("201 lines counted"), "{error}");
    let mode = fs::metadata(path("model")).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "others can read it: {mode:o}");
    assert!(fs::read_to_string(path("model")).unwrap().contains("nee "));

    let expected = |more: &[&str]| {
        let (_, object) = object(dir.path(), more);
        let dearest = object["dearest"].as_array().unwrap();
        let one = dearest.iter().find(|one| one["name"] == "My.Needle");
        one.unwrap()["expected"].as_f64().unwrap()
    };
    let model = path("model");
    let (by_itself, tuned) = (expected(&[]), expected(&["--text-model", &model]));
    assert!(tuned > 100.0 * by_itself, "{tuned} {by_itself}");

    // To standard output, the same.
    let both = [
        fs::read(path("own.log")).unwrap(),
        b"one more needle".to_vec(),
    ]
    .concat();
    let (_, out, _) = text(&run(&["db", "tune", "-"], &both));
    assert_eq!(out, fs::read_to_string(&model).unwrap());

    // Every command that judges takes it.
    for command in ["scan", "explain"] {
        let line = path("own.log");
        let output = run(
            &[command, "--text-model", &model, "-d", &path("a.ndb"), &line],
            b"",
        );
        assert!(output.status.code() < Some(2), "{command}: {output:?}");
        let nothing = [
            command,
            "--text-model",
            "/nothing",
            "-d",
            &path("a.ndb"),
            &line,
        ];
        let (code, _, error) = text(&run(&nothing, b""));
        assert_eq!(code, 2, "{command}");
        assert!(
            error.contains("text model /nothing: No such file"),
            "{error}"
        );
    }
}

#[test]
fn nothing_is_written_of_logs_that_hold_nothing_or_cannot_be_read() {
    let dir = directory(&[("model", "as it was"), ("empty", "\n\n")]);
    let model = dir.path().join("model");
    for (log, why) in [
        ("empty", "2 lines hold no text"),
        ("missing", "missing: No such file"),
    ] {
        let log = dir.path().join(log);
        let flags = [
            "db",
            "tune",
            "-o",
            model.to_str().unwrap(),
            log.to_str().unwrap(),
        ];
        let (code, _, error) = text(&run(&flags, b""));
        assert_eq!(code, 2);
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(fs::read_to_string(&model).unwrap(), "as it was");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        2,
        "nothing half done"
    );
    let log = directory(&[("log", "a line\n")]);
    let log = log.path().join("log");
    let flags = ["db", "tune", "-o", "/proc/no/model", log.to_str().unwrap()];
    let (code, _, error) = text(&run(&flags, b""));
    assert_eq!(code, 2);
    assert!(error.contains("/proc/no/model"), "{error}");
}
