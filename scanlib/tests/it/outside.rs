//! A stranger's path: a crate of its own, outside of this workspace, with a path to this one and the programs of the
//! crate page and of the README.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// What stands between the first `open` of a page and the next `close`.
fn between<'p>(page: &'p str, open: &str, close: &str) -> &'p str {
    let (_, rest) = page.split_once(open).expect("the page has a program");
    let (program, _) = rest.split_once(close).expect("the program ends");
    program
}

/// The first example of the crate page, as the page shows it: without the lines that only the doc test sees.
fn program_of_the_crate_page() -> String {
    between(include_str!("../../src/lib.rs"), "//! ```\n", "//! ```\n")
        .lines()
        .map(|line| line.trim_start_matches("//!").trim_start())
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("    {line}\n"))
        .collect()
}

/// The program of the README, which leaves out where its line comes from.
fn program_of_the_readme() -> String {
    let program = between(include_str!("../../../README.md"), "```rust\n", "```\n");
    format!(
        "fn main() -> Result<(), Box<dyn std::error::Error>> {{\nlet line = b\"\";\n{program}Ok(())\n}}\n"
    )
}

#[test]
fn a_new_crate_outside_finds_eicar_with_the_program_of_the_crate_page_and_builds_the_readmes() {
    let scanlib = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = scanlib.parent().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    let cargo = |arguments: &[&str]| {
        // Not the surroundings that cargo makes for this test; and compiled things are kept for the next time.
        let output = Command::new(env!("CARGO"))
            .args(arguments)
            .current_dir(if outside.is_dir() {
                &outside
            } else {
                dir.path()
            })
            .env("CARGO_TARGET_DIR", workspace.join("target/outside"))
            .env_remove("CARGO_MANIFEST_DIR")
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "cargo {arguments:?}:\n{said}");
        String::from_utf8(output.stdout).unwrap()
    };

    cargo(&["new", "--vcs", "none", "outside"]);
    let manifest = outside.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let path = scanlib.to_str().unwrap();
    let dependency = format!("scanlib = {{ package = \"libclamav-scan\", path = {path:?} }}\n");
    fs::write(&manifest, format!("{text}{dependency}")).unwrap();
    // The versions that this workspace was tested with, which are at hand without a network.
    fs::copy(workspace.join("Cargo.lock"), outside.join("Cargo.lock")).unwrap();
    let main = format!(
        "fn main() -> Result<(), Box<dyn std::error::Error>> {{\n{}    println!(\"{{}}\", found.headline().name);\n    Ok(())\n}}\n",
        program_of_the_crate_page()
    );
    fs::write(outside.join("src/main.rs"), main).unwrap();
    fs::create_dir(outside.join("src/bin")).unwrap();
    fs::write(outside.join("src/bin/readme.rs"), program_of_the_readme()).unwrap();

    assert_eq!(
        cargo(&["run", "--offline", "--quiet", "--bin", "outside"]),
        "Malicious pattern: eicar_test\n"
    );
    // It wants signatures at a place of its own, so it is compiled only.
    cargo(&["build", "--offline", "--quiet", "--bin", "readme"]);
}
