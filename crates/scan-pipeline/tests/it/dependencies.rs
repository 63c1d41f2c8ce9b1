//! The crate stays free of the command line, HTTP and curl.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crates that belong to the program around the pipeline. `scanner-bin` would be a cycle through a test dependency.
const FOREIGN: &[&str] = &[
    "clap",
    "config",
    "curl",
    "curl-sys",
    "hyper",
    "hyper-util",
    "scanner-bin",
    "tokio",
];

/// Names of the packages that are linked into `scan-pipeline`, itself included.
fn linked() -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata does not start");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names: BTreeMap<String, String> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let nodes: BTreeMap<String, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let (root, _) = names
        .iter()
        .find(|(_, name)| *name == "scan-pipeline")
        .unwrap();
    let mut found = BTreeSet::from([root.clone()]);
    let mut open = vec![root.clone()];
    while let Some(id) = open.pop() {
        for dependency in nodes[&id]["deps"].as_array().unwrap() {
            let mut kinds = dependency["dep_kinds"].as_array().unwrap().iter();
            let package = text(&dependency["pkg"]);
            // A kind of null is a normal dependency.
            if kinds.any(|kind| kind["kind"].is_null()) && found.insert(package.clone()) {
                open.push(package);
            }
        }
    }
    found.iter().map(|id| names[id].clone()).collect()
}

#[test]
fn neither_the_command_line_nor_http_nor_curl_is_linked() {
    let linked = linked();
    assert!(
        linked.contains("rdkafka") && linked.contains("scanlib"),
        "the walk misses dependencies: {linked:?}"
    );
    let foreign: Vec<_> = FOREIGN
        .iter()
        .filter(|name| linked.contains(**name))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?} are linked");
}
