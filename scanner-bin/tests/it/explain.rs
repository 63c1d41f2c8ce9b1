//! `scanner-bin explain`: what is shown of a message, and the exit status.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// One signature of two texts, and one that may match any message of 1,000 bytes.
const SIGNATURES: &str = "My.Both;Engine:51-255,Target:0;0&1;6672617a7a6c65;6e6565646c65\n\
    My.Sized;Engine:51-255,FileSize:1000-1000,Target:0;0=0;71717171\n";

fn database() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.ldb"), SIGNATURES).unwrap();
    dir
}

/// Runs it with these signatures; a text for standard input makes the message `-`.
fn explain(flags: &[&str], line: &str, stdin: Option<&[u8]>) -> Output {
    let database = database();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command
        .args(["explain", "--database"])
        .arg(database.path())
        .args(flags)
        .arg(line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(stdin.unwrap_or_default()).unwrap();
    drop(pipe);
    child.wait_with_output().unwrap()
}

fn printed(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn a_cleared_message_is_not_shown_to_libclamav_and_every_step_says_why() {
    let (code, text) = printed(&explain(&[], "A  frazzle alone", None));
    assert_eq!(code, 0);
    assert_eq!(
        text,
        "view raw, 16 bytes: A  frazzle alone\n\
         \x20 plain text yes, normalised: a frazzle alone\n\
         \x20 text       \"frazzle\" of signature My.Both: something else that it needs is missing\n\
         \x20 prefilter  cleared: libclamav would find nothing\n\
         \x20 libclamav  not asked\n\
         verdict: clean\n"
    );
}

#[test]
fn a_threat_is_status_1_and_the_views_after_it_are_settled() {
    let line = "<13>Oct 20 02:44:02 web app: a frazzle and a needle";
    let (code, text) = printed(&explain(&[], line, None));
    assert_eq!(code, 1);
    for wanted in [
        "\"frazzle\" of signature My.Both: all else that it needs is there\n",
        "prefilter  libclamav has to look: it has all that a signature is known to need\n",
        "libclamav  asked: My.Both.UNOFFICIAL\n",
        "view body, 22 bytes: a frazzle and a needle\n",
        "libclamav  not asked: it has found something already\n",
        "verdict: threat: My.Both.UNOFFICIAL\n",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing: {text}");
    }
    let (_, text) = printed(&explain(&["--views", "raw"], line, None));
    assert!(!text.contains("view body"), "{text}");
}

#[test]
fn what_is_not_plain_text_or_may_match_anything_is_said() {
    let (code, text) = printed(&explain(&[], "Subject: x", None));
    assert_eq!(code, 0);
    assert!(
        text.contains("plain text no: it starts like another type of file\n"),
        "{text}"
    );
    assert!(text.contains("libclamav  asked: nothing found\n"), "{text}");

    let sized = "a".repeat(1000);
    let (_, text) = printed(&explain(&[], &sized, None));
    assert!(
        text.contains("any text   My.Sized may match any message of this length\n"),
        "{text}"
    );
}

#[test]
fn a_prefilter_that_is_off_is_said_with_the_reason() {
    let database = tempfile::tempdir().unwrap();
    let negated = "My.Negated;Engine:51-255,Target:0;0=0;71717171\n";
    fs::write(database.path().join("b.ldb"), negated).unwrap();
    let path = database.path().to_str().unwrap();
    let (code, text) = printed(&explain(&["-d", path], "a line of a log qqqq", None));
    assert_eq!(code, 0);
    assert!(
        text.starts_with(
            "the prefilter is off, so libclamav is asked about every view: may match any message: My.Negated; "
        ),
        "{text}"
    );
    assert!(!text.contains("plain text"), "{text}");
    assert!(text.contains("libclamav  asked: nothing found\n"), "{text}");
}

#[test]
fn a_terminal_obeys_nothing_of_a_message() {
    let line = "a\x1b[2Jb \u{202e} frazzle";
    for format in ["text", "json"] {
        let (_, text) = printed(&explain(&["--format", format], line, None));
        let is_obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(is_obeyed), "{text:?}");
    }
}

#[test]
fn the_object_says_the_same() {
    let line = "<13>Oct 20 02:44:02 web app: a frazzle and a needle";
    let (code, text) = printed(&explain(&["--format", "json"], line, None));
    assert_eq!(code, 1);
    let object: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["status"], "threat");
    assert_eq!(object["matches"][0]["name"], "My.Both.UNOFFICIAL");
    assert_eq!(object["prefilter_off"], Value::Null);
    let raw = &object["views"][0];
    assert_eq!(
        (&raw["view"], &raw["bytes"], &raw["text"]),
        (&json!("raw"), &json!(line.len()), &json!(line))
    );
    assert_eq!(raw["normalised"], line.to_lowercase());
    assert_eq!(
        (&raw["not_plain"], &raw["decision"]),
        (&Value::Null, &json!("signature"))
    );
    let proposed =
        json!({"name": "My.Both", "file_type": false, "text": "frazzle", "possible": true});
    assert_eq!(raw["proposed"], json!([proposed]));
    assert_eq!(
        raw["clamav"],
        json!({"asked": true, "found": ["My.Both.UNOFFICIAL"], "incomplete": null, "type_ignored": false})
    );
    assert_eq!(object["views"][1]["clamav"]["asked"], false);
}

#[test]
fn each_line_of_standard_input_is_a_message_whatever_its_bytes() {
    let stdin = b"an ordinary line\nnot UTF-8: \xff\na frazzle and a needle";
    let (code, text) = printed(&explain(&["--format", "json"], "-", Some(stdin)));
    assert_eq!(code, 1);
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let statuses: Vec<_> = objects.iter().map(|object| &object["status"]).collect();
    assert_eq!(statuses, ["clean", "clean", "threat"]);
    assert_eq!(objects[1]["views"][0]["base64"], "bm90IFVURi04OiD/");
    assert!(objects[0]["views"][0].get("base64").is_none());
    let (_, text) = printed(&explain(&[], "-", Some(stdin)));
    assert_eq!(text.matches("\n\nview raw").count(), 2, "{text}");
}

#[test]
fn what_cannot_be_examined_in_full_is_status_2() {
    // More payloads than are decoded.
    let payload = |n: u32| {
        BASE64_STANDARD.encode(format!(
            "the payload of number {n} is a text of some length"
        ))
    };
    let many: Vec<_> = (0..scanlib::DecodeLimits::default().payloads + 1)
        .map(payload)
        .collect();
    let (code, text) = printed(&explain(&[], &many.join(" "), None));
    let verdict = text.lines().last().unwrap();
    assert!(
        verdict.starts_with("verdict: partial; not examined in full: "),
        "{verdict}"
    );
    assert_eq!(code, 2);
    // A threat counts for more.
    let (code, text) = printed(&explain(
        &[],
        &format!("frazzle needle {}", many.join(" ")),
        None,
    ));
    let verdict = text.lines().last().unwrap();
    assert!(
        verdict.contains("threat: My.Both.UNOFFICIAL; not examined"),
        "{verdict}"
    );
    assert_eq!(code, 1);
    // What is too long to be taken for a message.
    let long = vec![b'x'; (1 << 20) + 1];
    let output = explain(&[], "-", Some(&long));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("longer than the limit of 1048576"), "{said}");
}
