//! The binary is GPL-2.0-only, as libclamav is: nothing that it is linked from may have a licence that forbids this.

// What cannot be read here is a failure of the test.
#![allow(clippy::unwrap_used)]

use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// Licences that the code may be combined with, and the tools under others: `deny.toml` has both lists.
struct Lists {
    compatible: BTreeSet<String>,
    tools: BTreeSet<String>,
}

/// They may hold an exception that a licence grants, which `deny.toml` spells the same way.
static LISTS: LazyLock<Lists> = LazyLock::new(|| {
    let text = fs::read_to_string(support::workspace().join("deny.toml")).unwrap();
    let file: toml::Value = toml::from_str(&text).unwrap();
    let list = |name: &str| file["licenses"][name].as_array().unwrap().clone();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    Lists {
        compatible: list("allow").iter().map(text).collect(),
        tools: list("exceptions")
            .iter()
            .map(|exception| text(&exception["crate"]))
            .collect(),
    }
});

#[test]
fn no_dependency_of_the_binary_forbids_gpl_2() {
    let graph = Graph::of_this_workspace();
    let shipped = graph.reachable_from("scanner-bin", |kind| kind == "normal");
    assert!(
        shipped.contains("rdkafka"),
        "the graph is not what this test believes it to be: {shipped:?}"
    );
    let bad: Vec<_> = shipped
        .iter()
        .filter(|name| !is_compatible(&graph.licence[*name]))
        .map(|name| format!("{name}: {}", graph.licence[name]))
        .collect();
    assert!(
        bad.is_empty(),
        "not to be combined with GPL-2.0-only: {bad:#?}"
    );
}

#[test]
fn every_other_licence_among_the_tools_is_known_and_explained() {
    let graph = Graph::of_this_workspace();
    let all = graph.reachable_from("scanner-bin", |_| true);
    let all: BTreeSet<_> = ["benches", "fuzz"]
        .into_iter()
        .flat_map(|root| graph.reachable_from(root, |_| true))
        .chain(all)
        .collect();
    let found: BTreeSet<_> = all
        .iter()
        .filter(|name| !is_compatible(&graph.licence[*name]))
        .map(String::as_str)
        .collect();
    let listed: BTreeSet<_> = LISTS.tools.iter().map(String::as_str).collect();
    assert_eq!(
        found, listed,
        "what is found (left) and what deny.toml excepts (right) differ"
    );
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "Apache-2.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "BSD-3-Clause AND BSD-2-Clause",
        "Apache-2.0 WITH LLVM-exception",
        "Apache-2.0 AND ISC OR MIT", // AND binds closer
    ] {
        assert!(is_compatible(good), "{good}");
    }
    for bad in [
        "Apache-2.0",
        "Apache-2.0 AND MIT",
        "MIT AND (Apache-2.0 OR GPL-3.0-only)",
        "Apache-2.0 AND (ISC OR MIT)",
        "GPL-3.0-only",
        "MIT WITH Something-else",
        "",
        "(MIT",
        "MIT MIT",
    ] {
        assert!(!is_compatible(bad), "{bad}");
    }
}

/// Whether the expression leaves a choice that is compatible. What cannot be read is not.
fn is_compatible(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = any(&mut words);
    verdict == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> Option<bool> {
    let mut verdict = all(words)?;
    while words.next_if_eq(&"OR").is_some() {
        verdict |= all(words)?;
    }
    Some(verdict)
}

fn all(words: &mut Words<'_>) -> Option<bool> {
    let mut verdict = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        verdict &= one(words)?;
    }
    Some(verdict)
}

fn one(words: &mut Words<'_>) -> Option<bool> {
    if words.next_if_eq(&"(").is_some() {
        let verdict = any(words)?;
        return words.next_if_eq(&")").map(|_| verdict);
    }
    let licence = words.next()?;
    if words.next_if_eq(&"WITH").is_some() {
        let exception = words.next()?;
        return Some(
            LISTS
                .compatible
                .contains(&format!("{licence} WITH {exception}")),
        );
    }
    Some(LISTS.compatible.contains(licence))
}

/// Who depends on whom, as cargo has resolved it for this machine. Crates are told apart by name alone: two versions of one
/// crate have one licence, or the stricter view is the wanted one.
struct Graph {
    licence: BTreeMap<String, String>,
    /// From, kind, to.
    edges: BTreeSet<(String, String, String)>,
}

impl Graph {
    fn of_this_workspace() -> Self {
        let metadata = cargo_metadata();
        let mut name_of = BTreeMap::new();
        let mut licence: BTreeMap<String, String> = BTreeMap::new();
        for package in metadata["packages"].as_array().unwrap() {
            let name = package["name"].as_str().unwrap().to_owned();
            let stated = package["license"].as_str().unwrap_or("none stated");
            licence
                .entry(name.clone())
                .and_modify(|known| {
                    if known != stated {
                        *known = format!("({known}) AND ({stated})");
                    }
                })
                .or_insert_with(|| stated.to_owned());
            name_of.insert(package["id"].as_str().unwrap().to_owned(), name);
        }
        let mut edges = BTreeSet::new();
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let from = &name_of[node["id"].as_str().unwrap()];
            for dependency in node["deps"].as_array().unwrap() {
                let to = &name_of[dependency["pkg"].as_str().unwrap()];
                for kind in dependency["dep_kinds"].as_array().unwrap() {
                    let kind = kind["kind"].as_str().unwrap_or("normal");
                    edges.insert((from.clone(), kind.to_owned(), to.clone()));
                }
            }
        }
        Self { licence, edges }
    }

    fn reachable_from(&self, root: &str, follow: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![root.to_owned()];
        while let Some(name) = open.pop() {
            if !found.insert(name.clone()) {
                continue;
            }
            let next = self
                .edges
                .iter()
                .filter(|(from, kind, _)| *from == name && follow(kind));
            open.extend(next.map(|(_, _, to)| to.clone()));
        }
        found
    }
}

fn cargo_metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let metadata = Command::new(cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--filter-platform",
            host,
        ])
        .current_dir(support::workspace())
        .output()
        .unwrap();
    assert!(
        metadata.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&metadata.stderr)
    );
    serde_json::from_slice(&metadata.stdout).unwrap()
}
