//! Rules about the tracked files that no compiler holds.

// What cannot be read here is a failure of the test.
#![allow(clippy::unwrap_used)]

use crate::support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::{announce, in_ci, workspace};

/// The compiler refuses `unsafe` in the whole workspace (`[workspace.lints]`), and these files alone may allow it.
const MAY_ALLOW_UNSAFE: &[&str] = &["clamav-sys/src/lib.rs", "scanlib/src/lib.rs"];

#[test]
fn unsafe_occurs_only_where_the_architecture_allows_it() {
    let Some(files) = tracked_files() else { return };
    let workspace: toml::Value = toml::from_str(&read("Cargo.toml")).unwrap();
    let lints = &workspace["workspace"]["lints"]["rust"];
    assert_eq!(lints["unsafe_code"].as_str(), Some("deny"));
    for manifest in files.iter().filter(|path| path.ends_with("Cargo.toml")) {
        let manifest_text: toml::Value = toml::from_str(&read(manifest)).unwrap();
        let inherited = manifest_text
            .get("lints")
            .and_then(|lints| lints.get("workspace"));
        assert_eq!(
            inherited.and_then(toml::Value::as_bool),
            Some(true),
            "{manifest} does not inherit the lints of the workspace"
        );
    }

    // An attribute that lowers the lint, over several lines or not; `forbid` and `deny` raise it.
    let allowed =
        regex::Regex::new(r"\b(allow|expect|warn)\s*\([^)]*\bunsafe_code\b[^)]*\)").unwrap();
    let is_test = |path: &str| {
        path.split('/')
            .rev()
            .skip(1)
            .any(|folder| folder == "tests")
    };
    let guilty: Vec<_> = files
        .iter()
        .filter(|path| path.ends_with(".rs"))
        .filter(|path| !MAY_ALLOW_UNSAFE.contains(&path.as_str()) && !is_test(path))
        .filter(|path| allowed.is_match(&read(path)))
        .collect();
    assert!(
        guilty.is_empty(),
        "`unsafe` is allowed outside clamav-sys and scanlib::clam: {guilty:#?}"
    );
    let library = read("scanlib/src/lib.rs");
    assert_eq!(allowed.find_iter(&library).count(), 1);
    assert!(library.contains("#[allow(unsafe_code)]\nmod clam;"));
    for root in [
        "build.rs",
        "benches/support/lib.rs",
        "clamav-sys/build/main.rs",
        "fuzz/src/lib.rs",
        "scanner-bin/src/lib.rs",
        "scanner-bin/src/main.rs",
    ] {
        assert!(read(root).contains("#![forbid(unsafe_code)]"), "{root}");
    }
}

/// What a workflow runs can be run locally: every step that is not an action calls one make target that exists.
#[test]
fn workflows_only_call_make_targets() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| line.contains(":") && line.contains(" ## "))
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .collect();
    let call = regex::Regex::new(
        r"^make ([a-z0-9-]+)( [A-Z_]+=([A-Za-z0-9_.-]+|'\$\{\{ join\(needs\.\*\.result, ' '\) \}\}'))*$",
    )
    .unwrap();
    let mut steps_seen = 0;
    for (workflow, text) in workflows() {
        for (job, definition) in text["jobs"].as_object().unwrap() {
            assert!(
                definition["timeout-minutes"].is_u64(),
                "{workflow}: {job} has no time limit"
            );
            for step in definition["steps"].as_array().unwrap() {
                match (step["uses"].as_str(), step["run"].as_str()) {
                    (Some(action), None) => assert!(
                        action.starts_with("actions/checkout@"),
                        "{workflow}: {job} uses {action}"
                    ),
                    (None, Some(run)) => {
                        let target = call.captures(run).map(|found| found[1].to_owned());
                        let target = target.unwrap_or_else(|| {
                            panic!("{workflow}: {job} runs {run:?}, which is not one make target")
                        });
                        assert!(
                            targets.contains(target.as_str()),
                            "{workflow}: {job} runs `make {target}`, and there is no such target"
                        );
                        steps_seen += 1;
                    }
                    _ => panic!("{workflow}: {job} has a step that neither uses nor runs"),
                }
            }
        }
    }
    assert!(steps_seen > 10, "only {steps_seen} steps were found");
}

/// A branch protection rule requires one check, so that check has to fail with any other job.
#[test]
fn the_gate_needs_every_other_job() {
    let workflows = workflows();
    let (_, text) = workflows
        .iter()
        .find(|(path, _)| path.ends_with("ci.yml"))
        .unwrap();
    let jobs = text["jobs"].as_object().unwrap();
    let others: BTreeSet<&str> = jobs
        .keys()
        .map(String::as_str)
        .filter(|job| *job != "gate")
        .collect();
    let gate = &jobs["gate"];
    let needed: BTreeSet<&str> = gate["needs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|job| job.as_str())
        .collect();
    assert_eq!(needed, others);
    // Without it the gate is skipped when a job fails, and a skipped check counts as passed.
    assert_eq!(gate["if"], "always()");

    let gate = |results: &str| {
        let status = Command::new("tests/public")
            .arg("gate")
            .args(results.split_whitespace())
            .current_dir(workspace())
            .output()
            .unwrap()
            .status;
        status.success()
    };
    assert!(gate("success success"));
    for results in ["", "success failure", "skipped success", "cancelled"] {
        assert!(!gate(results), "{results:?}");
    }
}

/// Path and content of each workflow.
fn workflows() -> Vec<(String, serde_json::Value)> {
    let folder = workspace().join(".github/workflows");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let name = path.display().to_string();
            let content =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, content)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() >= 2);
    found
}

/// A document that names a test as a proof names one that is there: `[name_of_the_test](path/to/its.rs)`. And other links lead somewhere.
#[test]
fn what_the_documents_link_to_is_there() {
    let Some(files) = tracked_files() else { return };
    let link = regex::Regex::new(r"\[([^\]]+)\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    let mut wrong = Vec::new();
    for document in files.iter().filter(|path| path.ends_with(".md")) {
        let folder = workspace().join(document);
        for found in link.captures_iter(&read(document)) {
            let target = folder.parent().unwrap().join(&found[2]);
            let is_test = found[2].ends_with(".rs") && !found[1].contains(['.', '/', ' ']);
            let is_there = if is_test {
                let named = format!("fn {}(", &found[1]);
                fs::read_to_string(&target).is_ok_and(|source| source.contains(&named))
            } else {
                target.exists()
            };
            if !is_there {
                wrong.push(format!("{document}: {}", &found[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere: {wrong:#?}");
}

/// `autotests` is off, so a file that is named nowhere would not even be compiled.
#[test]
fn every_test_file_is_compiled() {
    let Some(files) = tracked_files() else { return };
    let mut forgotten = Vec::new();
    for package in [
        "clamav-sys",
        "crates/scan-pipeline",
        "scanlib",
        "scanner-bin",
    ] {
        let manifest = read(&format!("{package}/Cargo.toml"));
        assert!(manifest.contains("autotests = false"), "{package}");
        for file in files.iter().filter(|file| file.ends_with(".rs")) {
            let Some(name) = file.strip_prefix(&format!("{package}/tests/")) else {
                continue;
            };
            let mut folders: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
            // The file of a folder stands for the folder.
            let is_program = folders.len() == 1 || folders == [folders[0], "main"];
            if matches!(*folders.last().unwrap(), "main" | "mod") {
                folders.pop();
            }
            let last = folders.pop().unwrap();
            let is_compiled = if is_program {
                manifest.contains(&format!("[[test]]\nname = \"{last}\"\n"))
            } else {
                let folder = format!("{package}/tests/{}", folders.join("/"));
                let declares = |parent: &str| {
                    let source = read(&format!("{folder}/{parent}"));
                    source.lines().any(|line| {
                        let line = line.trim_start_matches("pub ");
                        line == format!("mod {last};")
                    })
                };
                // What several programs share is declared by path.
                let is_shared = ["support", "corpus", "scaling"].contains(&last)
                    || folders.first() == Some(&"support");
                is_shared || declares("main.rs") || declares("mod.rs")
            };
            if !is_compiled {
                forgotten.push(file);
            }
        }
    }
    assert!(
        forgotten.is_empty(),
        "no `mod` or `[[test]]` names {forgotten:#?}; see tests/it of each package"
    );
}

/// A build that asks a registry by name cannot be pointed at a mirror; and names of hosts grow old.
#[test]
fn no_tracked_file_names_a_registry_host() {
    // In two pieces, so that this file names none either.
    let hosts: Vec<String> = [
        ("crates", "io"),
        ("deb.debian", "org"),
        ("docker", "io"),
        ("files.pythonhosted", "org"),
        ("gcr", "io"),
        ("ghcr", "io"),
        ("mcr.microsoft", "com"),
        ("proxy.golang", "org"),
        ("pypi", "org"),
        ("quay", "io"),
        ("registry.k8s", "io"),
        ("registry.npmjs", "org"),
        ("repo.maven.apache", "org"),
        ("repo1.maven", "org"),
    ]
    .map(|(name, domain)| format!("{name}.{domain}"))
    .into();
    let Some(files) = tracked_files() else { return };
    let guilty: Vec<_> = files
        .iter()
        .filter(|path| !path.ends_with(".lock"))
        .flat_map(|path| {
            let text = read(path).to_lowercase();
            let named = hosts
                .iter()
                .filter(move |host| text.contains(host.as_str()));
            named.map(move |host| format!("{path}: {host}"))
        })
        .collect();
    assert!(guilty.is_empty(), "{guilty:#?}");
}

#[test]
fn vendor_holds_no_third_party_code() {
    let Some(files) = tracked_files() else { return };
    let vendored: Vec<_> = files
        .iter()
        .filter(|path| path.starts_with("vendor/"))
        .collect();
    assert_eq!(vendored, ["vendor/.gitignore", "vendor/README.md"]);
}

fn read(path: &str) -> String {
    // A file that is tracked but deleted in the working tree has nothing wrong in it.
    let bytes = fs::read(workspace().join(path)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What git tracks, relative to the workspace's root and sorted; `None` outside of a git tree, which is announced.
fn tracked_files() -> Option<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(workspace())
        .output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        assert!(
            !in_ci(),
            "CI must check the tracked files, and this is no git tree"
        );
        announce!(
            "left out: the rules about tracked files; {} is no git tree",
            workspace().display()
        );
        return None;
    };
    let paths = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<_> = paths.split_terminator('\0').map(str::to_owned).collect();
    assert!(
        files
            .iter()
            .any(|path| PathBuf::from(path).ends_with("Cargo.toml")),
        "git lists too little"
    );
    Some(files)
}
