//! What this crate is made of: nothing that needs libclamav or C, `unsafe` nowhere but in vector code, and modules in layers.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const NAME: &str = "clamav-prefilter";

/// Where `unsafe` code may be allowed.
const VECTOR_CODE: &str = "md5";

/// Crates that bind or compile C.
const FOREIGN: [&str; 6] = [
    "bindgen",
    "cc",
    "clamav-sys",
    "clang-sys",
    "libloading",
    "scanlib",
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn it_is_built_and_tested_without_libclamav_and_without_c() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let packages: BTreeMap<&str, &Value> = packages
        .iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<&str, &Value> =
        nodes.iter().map(|node| (text(&node["id"]), node)).collect();
    let own = *packages
        .iter()
        .find(|(_, package)| package["name"] == NAME)
        .unwrap()
        .0;

    let mut seen = BTreeSet::new();
    let mut open = vec![own];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            // Dependencies of tests count for this crate alone: nobody builds those of others.
            if id == own || kinds.iter().any(|kind| kind["kind"] != "dev") {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    let names: BTreeSet<_> = seen.iter().map(|id| text(&packages[id]["name"])).collect();
    assert!(
        names.contains("aho-corasick") && names.contains("proptest"),
        "{names:?}"
    );
    for name in FOREIGN {
        assert!(!names.contains(name), "{NAME} depends on {name}");
    }
    for id in seen {
        let package = packages[id];
        assert!(
            package["links"].is_null(),
            "{} links a library",
            package["name"]
        );
    }
}

/// Every source file but the tests', with its path below `src`.
fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut sources, mut open) = (Vec::new(), vec![src.clone()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path.strip_prefix(&src).unwrap().to_owned(), text));
            }
        }
    }
    sources.sort();
    assert!(sources.len() > 30, "{}", sources.len());
    sources
}

#[test]
fn unsafe_code_is_denied_outside_of_vector_code() {
    for (path, text) in sources() {
        let is_root = path == Path::new("lib.rs");
        assert!(
            !is_root || text.contains("\n#![deny(unsafe_code)]\n"),
            "lib.rs allows unsafe code"
        );
        let loosens = [
            "allow(unsafe_code",
            "expect(unsafe_code",
            "warn(unsafe_code",
        ];
        let is_looser = loosens.iter().any(|attribute| text.contains(attribute));
        assert!(
            !is_looser || path.starts_with(VECTOR_CODE),
            "{} allows unsafe code",
            path.display()
        );
    }
}

/// Modules of the root use each other in one direction: none is needed by what it needs.
#[test]
fn no_two_modules_need_each_other() {
    let paths = regex::Regex::new(r"\b(crate|super::super|super)::(\w+|\{[^}]*\})").unwrap();
    let sources = sources();
    let module = |path: &Path| {
        let first = path.components().next().unwrap();
        Path::new(&first)
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let modules: BTreeSet<String> = sources.iter().map(|(path, _)| module(path)).collect();
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in &sources {
        let (own, depth) = (module(path), path.components().count());
        // The root holds the public types, which parts of it use.
        if own == "lib" || path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for found in paths.captures_iter(line) {
                let is_from_root = match &found[1] {
                    "crate" => true,
                    "super" => depth == 1 || (depth == 2 && path.ends_with("mod.rs")),
                    _ => depth == 2 && !path.ends_with("mod.rs"),
                };
                let words = found[2].split(|c: char| !c.is_alphanumeric() && c != '_');
                let named =
                    words.filter(|word| is_from_root && modules.contains(*word) && **word != own);
                needs
                    .entry(own.clone())
                    .or_default()
                    .extend(named.map(str::to_owned));
            }
        }
    }
    assert!(
        needs["read"].contains("formats") && needs["gate"].contains("plan"),
        "{needs:?}"
    );
    for start in needs.keys() {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(next) = open.pop() {
            for need in needs.get(next).into_iter().flatten() {
                assert!(need != start, "{start} needs {next}, which needs {start}");
                if seen.insert(need) {
                    open.push(need);
                }
            }
        }
    }
}
