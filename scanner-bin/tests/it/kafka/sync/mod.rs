//! `scanner-bin db sync`: the real program against a web server that counts, and misbehaves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod directory;
mod mirror;
use crate::support;
mod trust;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use mirror::Mirror;

/// A signature in libclamav's own format: this text, anywhere.
fn signature(name: &str, text: &str) -> String {
    let hex = hex::encode(text);
    format!("{name}:0:*:{hex}\n")
}

/// Containers that ClamAV signed; the caller is left out without them.
struct Signed {
    old: Vec<u8>,
    new: Vec<u8>,
    /// Some 60,000 bytes.
    long: Vec<u8>,
}

impl Signed {
    fn new() -> Option<Signed> {
        let read = |name: &str| {
            let path = support::data(&format!("sigs-formats/{name}"))?;
            Some(fs::read(path).unwrap())
        };
        Some(Signed {
            old: read("ut-freshclam-test-2.cvd")?,
            new: read("ut-freshclam-test-3.cvd")?,
            long: read("ut-bytecode.cvd")?,
        })
    }
}

/// A mirror, and the directory that a sync fills from it.
struct Place {
    mirror: Mirror,
    dir: TempDir,
}

/// How a sync ended.
struct Done {
    code: i32,
    out: String,
    error: String,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("db")).unwrap();
        Place {
            mirror: Mirror::start(),
            dir,
        }
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.to().join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        sync(&self.mirror.url(), &self.to(), words)
    }

    /// Only these files.
    fn sync(&self, files: &[&str]) -> Done {
        self.sync_with(files, &[])
    }

    fn sync_with(&self, files: &[&str], flags: &[&str]) -> Done {
        let mut words = flags.to_vec();
        for file in files {
            words.extend(["--file", file]);
        }
        done(self.command(&words).output().unwrap())
    }

    /// Starts one, which the caller ends.
    fn start(&self, files: &[&str]) -> Child {
        let words: Vec<_> = files.iter().flat_map(|file| ["--file", file]).collect();
        self.command(&words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// What the directory shows to those who read it.
    fn visible(&self) -> Vec<String> {
        let entries = fs::read_dir(self.to()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".scanner-sync")
            .collect();
        names.sort();
        names
    }
}

fn sync(from: &str, to: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.args(["db", "sync", "--from", from, "--to"]).arg(to);
    command.args(words);
    // The surroundings of a test have no say.
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command
}

fn done(output: Output) -> Done {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        error: text(output.stderr),
    }
}

impl Done {
    /// Asserts how it ended.
    #[track_caller]
    fn ends(self, code: i32) -> Done {
        assert_eq!(self.code, code, "{}{}", self.out, self.error);
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Done {
        assert!(
            self.out.contains(text) || self.error.contains(text),
            "{text:?} is missing: {}{}",
            self.out,
            self.error
        );
        self
    }

    /// The last word of the line about a file.
    #[track_caller]
    fn result(&self, name: &str) -> &str {
        let line = self
            .out
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is missing: {}{}", self.out, self.error));
        line.split_whitespace().last().unwrap()
    }

    fn object(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.error))
    }
}
