//! Stamps into the benches what a measurement means nothing without: the libclamav that was linked, the CPU, the commit.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    stamp("BENCH_LIBCLAMAV", env::var("DEP_CLAMAV_VERSION").ok());
    stamp("BENCH_CPU", cpu());
    stamp("BENCH_COMMIT", git(&["rev-parse", "--short=12", "HEAD"]));

    // Git appends to this file with every commit and checkout. Without it (a source archive) there is nothing to follow.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn stamp(name: &str, value: Option<String>) {
    println!(
        "cargo::rustc-env={name}={}",
        value.as_deref().unwrap_or("unknown")
    );
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map(|(_, name)| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}
