//! The real log messages, payloads and signature databases of the test data.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A message by the file it stands in and its line there, from 1.
pub type Place = (String, usize);

/// What `zstd -dc` makes of a file.
pub fn unpack(path: &Path) -> Vec<u8> {
    let output = Command::new("zstd").arg("-dcq").arg(path).output();
    let output = output.expect("zstd does not start; `tests/setup test` installs it");
    assert!(
        output.status.success(),
        "zstd cannot unpack {}",
        path.display()
    );
    output.stdout
}

/// A tab-separated file of two or three columns: what clamscan scanned, or what it found.
pub fn places(text: &str) -> impl Iterator<Item = (Place, Option<&str>)> {
    text.lines().map(|line| {
        let mut columns = line.splitn(3, '\t');
        let file = columns.next().unwrap().to_owned();
        (
            (file, columns.next().unwrap().parse().unwrap()),
            columns.next(),
        )
    })
}

/// What clamscan found: the names for each message.
pub fn findings(data: &Path) -> BTreeMap<Place, BTreeSet<String>> {
    let text = fs::read_to_string(data.join("expected/clamscan.tsv")).unwrap();
    let mut findings = BTreeMap::<_, BTreeSet<_>>::new();
    for (place, name) in places(&text) {
        findings
            .entry(place)
            .or_default()
            .insert(name.unwrap().to_owned());
    }
    findings
}

/// The messages that clamscan scanned.
pub fn scanned(data: &Path) -> Vec<Place> {
    let text = unpack(&data.join("expected/scanned.tsv.zst"));
    places(std::str::from_utf8(&text).unwrap())
        .map(|(place, _)| place)
        .collect()
}

/// The bytes of the messages at `places`.
pub fn messages(data: &Path, wanted: &BTreeSet<Place>) -> BTreeMap<Place, Vec<u8>> {
    let files: BTreeSet<&str> = wanted.iter().map(|(file, _)| file.as_str()).collect();
    let mut messages = BTreeMap::new();
    for file in files {
        let folder = if file == "payloads.tsv" {
            "payloads"
        } else {
            "logs"
        };
        let text = unpack(&data.join(folder).join(format!("{file}.zst")));
        for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let place = (file.to_owned(), number);
            if wanted.contains(&place) {
                messages.insert(place, message(file, line));
            }
        }
    }
    assert_eq!(
        messages.len(),
        wanted.len(),
        "a message is missing from the data"
    );
    messages
}

/// Lines of `windows-events` are ten times as long as others, so of them no more than one in so many is taken.
const WINDOWS_NTH: usize = 20;

/// Every `nth` message of all logs and payloads, from the first of each file on.
pub fn every(data: &Path, nth: usize) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    for folder in ["logs", "payloads"] {
        let entries = fs::read_dir(data.join(folder)).unwrap();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.sort();
    let mut messages = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        let file = name.strip_suffix(".zst").unwrap();
        let text = unpack(&path);
        let lines = text.trim_ascii_end().split(|&byte| byte == b'\n');
        let nth = match file {
            "windows-events.jsonl" => nth.max(WINDOWS_NTH),
            _ => nth,
        };
        messages.extend(lines.step_by(nth).map(|line| message(file, line)));
    }
    messages
}

/// The message of a line: the third column, the JSON field, or the line itself.
fn message(file: &str, line: &[u8]) -> Vec<u8> {
    if file == "payloads.tsv" {
        return line
            .splitn(3, |&byte| byte == b'\t')
            .nth(2)
            .unwrap()
            .to_vec();
    }
    if !file.ends_with(".jsonl") || file == "windows-events.jsonl" {
        return line.to_vec();
    }
    let object: serde_json::Value = serde_json::from_slice(line).unwrap();
    match (&object["msg"], &object["b64"]) {
        (serde_json::Value::String(text), _) => text.clone().into_bytes(),
        (_, serde_json::Value::String(text)) => BASE64_STANDARD.decode(text).unwrap(),
        _ => panic!("{file}: neither msg nor b64 in a line"),
    }
}

/// Log messages as they are met: `count` of them, from systems of many kinds. Where the test data is absent, made ones.
pub fn log_lines(count: usize) -> Vec<Vec<u8>> {
    const FILES: [&str; 6] = [
        "syslog-edge.jsonl",
        "loghub-Linux.log",
        "auth-elastic.log",
        "web-attack-acunetix.log",
        "product-logs.jsonl",
        "vendor-messages.jsonl",
    ];
    let Some(folder) = super::data("logs") else {
        let line = |n| {
            format!(
                "<38>Oct 20 02:44:{:02} web-1 sshd[{n}]: Accepted publickey for deploy",
                n % 60
            )
        };
        return (0..count).map(|n| line(n).into_bytes()).collect();
    };
    let each = count.div_ceil(FILES.len());
    let mut found = Vec::new();
    for file in FILES {
        let text = unpack(&folder.join(format!("{file}.zst")));
        let lines: Vec<_> = text.trim_ascii_end().split(|&byte| byte == b'\n').collect();
        let step = (lines.len() / each).max(1);
        let lines = lines.into_iter().step_by(step).take(each);
        found.extend(lines.map(|line| message(file, line)));
    }
    found.truncate(count);
    assert_eq!(
        found.len(),
        count,
        "the test data has fewer lines than that"
    );
    found
}

/// The files of ClamAV's own publisher, unpacked.
pub fn official(signatures: &Path, to: &Path) {
    let mut count = 0;
    for entry in fs::read_dir(signatures).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("official-") {
            continue;
        }
        match name.strip_suffix(".zst") {
            Some(unpacked) => fs::write(to.join(unpacked), unpack(&path)).unwrap(),
            None => {
                fs::copy(&path, to.join(name)).unwrap();
            }
        }
        count += 1;
    }
    assert!(count >= 5, "{count} files");
}

/// Unpacks all signature databases into `into`, but the update script, which is none.
pub fn unpack_databases(data: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    for folder in ["sigs", "sigs-formats"] {
        for entry in fs::read_dir(data.join(folder)).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            match name.strip_suffix(".zst") {
                Some(stem) => fs::write(into.join(stem), unpack(&path)).unwrap(),
                None if name.ends_with(".cdiff") => {}
                None => drop(fs::copy(&path, into.join(name)).unwrap()),
            }
        }
    }
}
