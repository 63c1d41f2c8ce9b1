//! What `scanner-bin scan` promises, tried with the real program and the real libclamav.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{announce, corpus, data};

fn scan(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.arg("scan").args(arguments).stdin(Stdio::null());
    command
}

fn rows(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by a signal")
}

/// A directory on memory where there is one, as it holds thousands of small files.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn eicar() -> String {
    scanlib::eicar::text()
}

#[test]
fn malformed_content_is_partial_with_the_words_of_libclamav_and_the_exit_status_is_two() {
    let dir = directory();
    let file = dir.path().join("malformed");
    fs::write(&file, "EGGA the quick brown fox jumps over").unwrap();
    for lines in [&[][..], &["--lines"]] {
        let arguments = [lines, &["--format", "jsonl", file.to_str().unwrap()]].concat();
        let output = scan(&arguments);
        assert_eq!(code(&output), 2);
        let row = &rows(&output)[0];
        assert_eq!(row["status"], "partial", "{row:#}");
        assert!(row.to_string().contains("cli_egg"), "{row:#}");
    }
}

#[test]
fn a_threat_is_named_as_clamscan_names_it_and_the_exit_status_is_one() {
    let dir = directory();
    let (bad, good) = (dir.path().join("bad"), dir.path().join("good"));
    fs::write(&bad, format!("Oct 20 host app: {}", eicar())).unwrap();
    fs::write(&good, "hello, world").unwrap();

    let output = scan(&[bad.to_str().unwrap(), good.to_str().unwrap()]);
    let expected = format!(
        "{}: Embedded.Test.Eicar.UNOFFICIAL FOUND\n{}: OK\n",
        bad.display(),
        good.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Infected files: 1\n"));
    assert_eq!(code(&scan(&[good.to_str().unwrap()])), 0);
}

#[test]
fn a_file_whose_type_libclamav_ignores_is_examined_all_the_same_or_it_is_said() {
    let dir = directory();
    let song = dir.path().join("song.mp3");
    fs::write(&song, format!("ID3 {}", eicar())).unwrap();
    let song = song.to_str().unwrap();

    let output = scan(&["--format", "jsonl", song]);
    let row = &rows(&output)[0];
    assert_eq!(
        row["clamav_result"], "Embedded.Test.Eicar.UNOFFICIAL",
        "{row}"
    );
    assert_eq!(row["matches"][0]["view"], "guarded");
    assert_eq!(code(&output), 1);

    // Exactly libclamav's answer, when that is asked for; and that it says nothing.
    let row = &rows(&scan(&["--format", "jsonl", "--views", "raw", song]))[0];
    assert_eq!(row["status"], "clean");
    assert_eq!(row["type_ignored"], true, "{row}");
    let shown = scan(&["--views", "raw", song]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("does not examine this type"), "{shown}");
}

#[test]
fn a_file_that_has_bytes_and_no_length_is_examined() {
    let row = &rows(&scan(&["--format", "jsonl", "/proc/version"]))[0];
    assert_eq!(row["status"], "clean", "{row}");
    let dir = directory();
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    let row = &rows(&scan(&["--format", "jsonl", empty.to_str().unwrap()]))[0];
    assert_eq!(row["status"], "skipped", "{row}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_in_its_place_and_hides_no_threat() {
    let dir = directory();
    let bad = dir.path().join("bad");
    fs::write(&bad, eicar()).unwrap();
    let (missing, bad) = (dir.path().join("missing"), bad);
    let (missing, bad) = (missing.to_str().unwrap(), bad.to_str().unwrap());

    let output = scan(&["--format", "jsonl", missing]);
    assert_eq!(code(&output), 2);
    let row = &rows(&output)[0];
    assert_eq!(row["status"], "error");
    assert!(
        row["error"].as_str().unwrap().contains("No such file"),
        "{row}"
    );

    let output = scan(&["--format", "jsonl", missing, bad]);
    assert_eq!(code(&output), 1, "a threat, whatever else happened");
    let statuses: Vec<_> = rows(&output)
        .iter()
        .map(|row| row["status"].clone())
        .collect();
    assert_eq!(statuses, ["error", "threat"], "in the order of the input");
}

#[test]
fn a_database_that_does_not_load_is_refused_with_libclamavs_own_words() {
    let dir = directory();
    let database = dir.path().join("broken.ndb");
    fs::write(&database, "Broken.Signature:0:*:zz\n").unwrap();
    let output = scan(&["--database", database.to_str().unwrap(), "/etc/hostname"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 2, "{said}");
    assert!(
        said.contains("broken.ndb") && said.contains("line 1"),
        "{said}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn lines_are_messages_with_all_views_and_rules() {
    let dir = directory();
    let log = dir.path().join("log");
    let json = serde_json::json!({ "message": format!("<13>Oct 20 02:44:02 h a: {}", eicar()) });
    let lines = format!("<13>Oct 20 02:44:02 web su: hello\r\n\n{json}\n'; DROP TABLE users; --");
    fs::write(&log, lines).unwrap();

    let output = scan(&["--lines", "--format", "jsonl", log.to_str().unwrap()]);
    let rows = rows(&output);
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["line"].as_u64().unwrap(),
                row["status"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [(1, "clean"), (2, "skipped"), (3, "threat"), (4, "threat")]
    );
    assert_eq!(rows[2]["threat_name"], "Malicious pattern: eicar_test");
    assert_eq!(rows[2]["clamav_result"], "Embedded.Test.Eicar.UNOFFICIAL");
    let by_libclamav = rows[2]["matches"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["engine"] == "clamav");
    assert_eq!(
        by_libclamav.unwrap()["view"],
        "body",
        "JSON escapes its backslash in the raw bytes"
    );
    assert_eq!(rows[3]["threat_name"], "Injection attempt: sql_injection");
    assert_eq!(rows[3]["clamav_result"], Value::Null);

    // The same with the parts left out.
    let status = |extra: &[&str], line: usize| {
        let arguments = [
            &["--lines", "--format", "jsonl"],
            extra,
            &[log.to_str().unwrap()],
        ]
        .concat();
        self::rows(&scan(&arguments))[line - 1]["status"].clone()
    };
    assert_eq!(status(&["--rules", "off"], 4), "clean");
    assert_eq!(
        status(&["--rules", "off", "--views", "raw"], 3),
        "clean",
        "libclamav's answer for the raw bytes"
    );
    assert_eq!(
        status(&["--rules", "off", "--views", "raw,body"], 3),
        "threat"
    );
}

#[test]
fn output_is_in_input_order_whatever_the_threads_do() {
    let dir = directory();
    let log = dir.path().join("log");
    let text: String = (0..20_000)
        .map(|n| format!("<13>Oct 20 02:44:02 web su: {n}\n"))
        .collect();
    fs::write(&log, text).unwrap();
    let output = scan(&[
        "--lines",
        "--format",
        "jsonl",
        "--views",
        "raw",
        "--threads",
        "4",
        log.to_str().unwrap(),
    ]);
    let lines: Vec<u64> = rows(&output)
        .iter()
        .map(|row| row["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, (1..=20_000).collect::<Vec<u64>>());
}

#[test]
fn a_line_past_the_limit_is_partial_and_never_clean() {
    let mut child = command(&["--lines", "--format", "jsonl", "--rules", "off", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&vec![b'x'; (1 << 20) + 1]).unwrap();
    input.write_all(b"\nshort\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let rows = rows(&output);
    assert_eq!(rows[0]["status"], "partial");
    assert_eq!(rows[0]["limits"][0], "max_message_bytes");
    assert_eq!(rows[1]["status"], "clean");
    assert_eq!(code(&output), 2);
}

#[test]
fn memory_does_not_grow_with_the_input() {
    const LINE: usize = 256 << 10;
    const LINES: usize = 1_000;
    let mut child = command(&[
        "--lines",
        "--views",
        "raw",
        "--rules",
        "off",
        "--threads",
        "2",
        "-",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut out = child.stdout.take().unwrap();
    // Nobody reads the output at first: the input has to wait, and not to pile up.
    let writer = std::thread::spawn(move || {
        let line = [vec![b'x'; LINE], vec![b'\n']].concat();
        (0..LINES).for_each(|_| input.write_all(&line).unwrap());
    });
    let mut peak = 0;
    let mut output = Vec::new();
    let mut part = [0; 512];
    loop {
        let read = out.read(&mut part).unwrap();
        if read == 0 {
            break;
        }
        output.extend_from_slice(&part[..read]);
        peak = peak.max(peak_memory(child.id()).unwrap_or(0));
    }
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(output.iter().filter(|&&byte| byte == b'\n').count(), LINES);
    announce!(
        "peak memory of a scan of {} MiB: {} MiB",
        (LINE * LINES) >> 20,
        peak >> 10
    );
    assert!(
        peak > 0 && peak < 150 << 10,
        "{peak} KiB for {} KiB of input",
        (LINE * LINES) >> 10
    );
}

/// `VmHWM` of a process, in KiB.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[test]
fn a_closed_pipe_ends_the_scan_quietly() {
    let dir = directory();
    let log = dir.path().join("log");
    fs::write(&log, "<13>Oct 20 02:44:02 web su: hello\n".repeat(50_000)).unwrap();
    let mut child = command(&[
        "--lines",
        "--format",
        "jsonl",
        "--views",
        "raw",
        log.to_str().unwrap(),
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panic") && !said.contains("pipe"), "{said}");
}

#[test]
fn names_cannot_drive_the_terminal() {
    let dir = directory();
    let name = dir.path().join("a\u{1b}[31m\nb");
    fs::write(&name, "hello, world").unwrap();
    let output = scan(&[name.to_str().unwrap()]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains(r"a\u{1b}[31m\nb: OK"), "{shown}");
}

#[test]
fn a_directory_is_entered_and_subdirectories_only_when_asked() {
    let dir = directory();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(dir.path().join("a"), "hello, world").unwrap();
    fs::write(inner.join("b"), "hello, world").unwrap();
    std::os::unix::fs::symlink(dir.path(), inner.join("loop")).unwrap();
    let root = dir.path().to_str().unwrap();
    assert_eq!(rows(&scan(&["--format", "jsonl", root])).len(), 1);
    assert_eq!(rows(&scan(&["--format", "jsonl", "-r", root])).len(), 2);
}

#[test]
fn all_test_files_of_clamav_are_found_and_nothing_in_clean_files() {
    let Some(data) = data("sigs-formats/ut-clamav.hdb") else {
        return;
    };
    let samples = Path::new("/usr/share/clamav-testfiles");
    assert!(
        samples.is_dir(),
        "`tests/setup test` installs clamav-testfiles"
    );
    let scan = |path: &str| {
        scan(&[
            "--views",
            "raw",
            "--rules",
            "off",
            "--allmatch",
            "-r",
            "--format",
            "jsonl",
            "--database",
            data.to_str().unwrap(),
            path,
        ])
    };
    let found = rows(&scan(samples.to_str().unwrap()));
    assert_eq!(found.len(), 44);
    for row in &found {
        assert_eq!(row["clamav_result"], "ClamAV-Test-File.UNOFFICIAL", "{row}");
    }

    // Ordinary files of the system: small ones of many kinds.
    let dir = directory();
    let list = Command::new("find")
        .args([
            "/usr/share/doc",
            "/usr/lib",
            "/usr/bin",
            "-type",
            "f",
            "-size",
            "-200k",
        ])
        .output()
        .unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let files: Vec<&str> = list
        .lines()
        .filter(|path| !path.contains("clamav"))
        .collect();
    let step = (files.len() / 500).max(1);
    let chosen: Vec<&&str> = files.iter().step_by(step).take(500).collect();
    assert_eq!(chosen.len(), 500);
    for (number, path) in chosen.iter().enumerate() {
        std::os::unix::fs::symlink(path, dir.path().join(format!("{number}"))).unwrap();
    }
    let links: Vec<String> = (0..500)
        .map(|n| dir.path().join(n.to_string()).display().to_string())
        .collect();
    let mut arguments = vec![
        "--views",
        "raw",
        "--rules",
        "off",
        "--format",
        "jsonl",
        "--infected",
        "--database",
        data.to_str().unwrap(),
    ];
    arguments.extend(links.iter().map(String::as_str));
    let output = self::scan(&arguments);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(code(&output), 0);
}

/// With `SCANNER_TEST_FULL=1` all 33,392 messages (ten minutes or more), else a sample with many positives.
#[test]
fn every_finding_of_clamscan_is_found_name_for_name_and_none_besides() {
    let Some(data) = data("") else { return };
    let full = std::env::var_os("SCANNER_TEST_FULL").is_some();
    let expected = corpus::findings(&data);
    let places: BTreeSet<_> = if full {
        corpus::scanned(&data).into_iter().collect()
    } else {
        // Up to ten messages for each name, and as many messages without a finding.
        let mut shown = BTreeMap::<&str, usize>::new();
        let mut with = BTreeSet::new();
        for (place, found) in &expected {
            for name in found {
                let count = shown.entry(name).or_default();
                *count += 1;
                if *count <= 10 {
                    with.insert(place.clone());
                }
            }
        }
        let clean = corpus::scanned(&data)
            .into_iter()
            .filter(|place| !expected.contains_key(place));
        let clean: BTreeSet<_> = clean.step_by(97).take(with.len()).collect();
        with.union(&clean).cloned().collect()
    };
    let dir = directory();
    let (databases, messages) = (dir.path().join("databases"), dir.path().join("messages"));
    corpus::unpack_databases(&data, &databases);
    fs::create_dir(&messages).unwrap();
    let mut by_path = BTreeMap::new();
    for ((file, line), bytes) in corpus::messages(&data, &places) {
        let path = messages.join(format!("{file}.{line}"));
        fs::write(&path, bytes).unwrap();
        by_path.insert(path.display().to_string(), (file, line));
    }

    let output = scan(&[
        "--views",
        "raw",
        "--rules",
        "off",
        "--allmatch",
        "--bytecode-unsigned",
        "--format",
        "jsonl",
        "--infected",
        "--database",
        databases.to_str().unwrap(),
        messages.to_str().unwrap(),
    ]);
    let mut found = BTreeMap::<_, BTreeSet<String>>::new();
    for row in rows(&output) {
        let place = by_path[row["path"].as_str().unwrap()].clone();
        let names = row["matches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["name"].as_str().unwrap().to_owned());
        assert!(
            found.insert(place, names.collect()).is_none(),
            "one row for each file"
        );
    }
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .filter(|(place, _)| places.contains(place))
        .collect();
    announce!(
        "compared with clamscan: {} messages, {} findings in {} of them",
        places.len(),
        expected.values().map(BTreeSet::len).sum::<usize>(),
        expected.len()
    );
    assert!(expected.len() >= 50, "a sample with many positives");
    let differences: Vec<_> = expected
        .keys()
        .chain(found.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|place| expected.get(*place) != found.get(*place))
        .map(|place| (place, expected.get(place), found.get(place)))
        .collect();
    assert!(
        differences.is_empty(),
        "message, clamscan, ours: {differences:#?}"
    );
}
