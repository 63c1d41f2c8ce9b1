//! Rules about the tracked files that no compiler holds.

// What cannot be read here is a failure of the test.
#![allow(clippy::unwrap_used)]

use crate::support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::{announce, in_ci, workspace};

/// Where `unsafe` may be: what C says, and the one module that makes it safe. Tests may need it to break things.
fn may_be_unsafe(path: &str) -> bool {
    path.starts_with("clamav-sys/")
        || path.starts_with("scanlib/src/clam/")
        || path
            .split('/')
            .rev()
            .skip(1)
            .any(|folder| folder == "tests")
}

#[test]
fn unsafe_occurs_only_where_the_architecture_allows_it() {
    let Some(files) = tracked_files() else { return };
    let sources = files.iter().filter(|path| path.ends_with(".rs"));
    let guilty: Vec<_> = sources
        .filter(|path| !may_be_unsafe(path))
        .flat_map(|path| {
            let lines = lines_with_unsafe(&read(path));
            lines.into_iter().map(move |line| format!("{path}:{line}"))
        })
        .collect();
    assert!(
        guilty.is_empty(),
        "`unsafe` outside clamav-sys and scanlib::clam: {guilty:#?}"
    );
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

#[test]
fn unsafe_is_seen_in_code_and_not_in_text() {
    let code = r####"
        // unsafe in a comment
        /* unsafe /* nested unsafe */ unsafe */
        let text = "unsafe \" unsafe";
        let raw = r#"unsafe " unsafe"#;
        let bytes = b"unsafe"; let c = '"'; let life: &'static str = "";
        #![deny(unsafe_code)] let not_unsafe = 1; let unsafely = 2;
        unsafe { }
        let x = '\''; unsafe fn f() {}
    "####;
    assert_eq!(lines_with_unsafe(code), [8, 9]);
}

/// The lines (from 1) on which `unsafe` stands as a word of Rust: not in comments, strings or characters.
fn lines_with_unsafe(source: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut in_word = false;
    while let Some(next) = rest.chars().next() {
        let skipped = text_length(rest, in_word);
        if skipped > 0 {
            rest = &rest[skipped..];
            in_word = false;
            continue;
        }
        if !in_word
            && let Some(after) = rest.strip_prefix("unsafe")
            && !after.starts_with(is_word)
        {
            found.push(source[..source.len() - rest.len()].matches('\n').count() + 1);
        }
        in_word = is_word(next);
        rest = &rest[next.len_utf8()..];
    }
    found
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// How many bytes at the start of `code` are a comment, a string or a character; 0 if it starts with something else.
fn text_length(code: &str, in_word: bool) -> usize {
    if code.starts_with("//") {
        return code.find('\n').unwrap_or(code.len());
    }
    if code.starts_with("/*") {
        return block_comment_length(code);
    }
    if code.starts_with('"') {
        return quoted_length(code, '"');
    }
    if let Some(hashes) = code.strip_prefix('r').filter(|_| !in_word) {
        let count = hashes.len() - hashes.trim_start_matches('#').len();
        if hashes[count..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(count));
            let body = 1 + count + 1;
            return code[body..]
                .find(&end)
                .map_or(code.len(), |at| body + at + end.len());
        }
    }
    // 'x' and '\n' are characters; 'a in &'a str is a lifetime.
    let mut chars = code.chars();
    if chars.next() == Some('\'') {
        let (second, third) = (chars.next(), chars.next());
        if second == Some('\\') || third == Some('\'') {
            return quoted_length(code, '\'');
        }
    }
    0
}

fn block_comment_length(code: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < code.len() {
        if code.as_bytes()[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if code.as_bytes()[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    code.len()
}

/// From one quote to the next that no backslash hides.
fn quoted_length(code: &str, quote: char) -> usize {
    let mut hidden = false;
    for (at, c) in code.char_indices().skip(1) {
        if c == quote && !hidden {
            return at + 1;
        }
        hidden = c == '\\' && !hidden;
    }
    code.len()
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
