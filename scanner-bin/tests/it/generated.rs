//! What the program writes about itself: completions, manual pages, help.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use scanner_bin::cli::Cli;
use support::announce;

fn scanner(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanner-bin"));
    command.args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = scanner(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every command with its subcommands: `config`, `config show`, …
fn commands() -> Vec<Vec<String>> {
    fn walk(command: &clap::Command, path: &[String], all: &mut Vec<Vec<String>>) {
        for sub in command.get_subcommands() {
            let path = [path, &[sub.get_name().to_owned()]].concat();
            walk(sub, &path, all);
            all.push(path);
        }
    }
    let mut all = Vec::new();
    walk(&Cli::command(), &[], &mut all);
    assert!(all.len() >= 9, "{all:?}");
    all
}

/// Whether a program can be started at all.
fn have(program: &str, what: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        announce!("left out: {what}; {program} is not there");
    }
    found
}

#[test]
fn completions_know_every_command_and_flag_in_every_shell() {
    let run = Cli::command().find_subcommand("run").unwrap().clone();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(&["completions", shell]);
        for name in commands().iter().flatten() {
            assert!(script.contains(name.as_str()), "{shell} lacks {name}");
        }
        for flag in run.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(script.contains(flag), "{shell} lacks --{flag}");
        }
    }
    assert_eq!(scanner(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn bash_completes_a_command_a_subcommand_and_a_flag() {
    let script = printed(&["completions", "bash"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("completions");
    fs::write(&path, script).unwrap();
    let checked = Command::new("bash").arg("-n").arg(&path).output().unwrap();
    assert!(
        checked.status.success() && checked.stderr.is_empty(),
        "{checked:?}"
    );
    let complete = |words: &[&str]| {
        let at = words.len() - 1;
        let text = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={at}; $(complete -p scanner-bin | sed 's/.*-F \\([^ ]*\\).*/\\1/') scanner-bin {} {}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.display(),
            words.join(" "),
            words[at],
            words[at - 1]
        );
        let output = Command::new("bash")
            .args(["--norc", "-c", &text])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete(&["scanner-bin", "ru"]), "run\n");
    assert_eq!(complete(&["scanner-bin", "config", "sh"]), "show\n");
    assert_eq!(
        complete(&["scanner-bin", "run", "--inp"]),
        "--input-topic\n"
    );
}

#[test]
fn every_command_has_a_manual_page_that_groff_takes_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man/man1");
    assert_eq!(printed(&["man", pages.to_str().unwrap()]), "");
    let page = |path: &[String]| {
        let name = [&["scanner-bin".to_owned()], path].concat().join("-");
        let file = pages.join(format!("{name}.1"));
        let text =
            fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is missing", file.display()));
        (file, text)
    };
    let mut all = commands();
    let (_, main) = page(&[]);
    for command in Cli::command().get_subcommands() {
        assert!(
            main.contains(&command.get_name().replace('-', "\\-")),
            "{main}"
        );
    }
    all.push(Vec::new());
    let can_format = have("groff", "formatting manual pages");
    for command in all {
        let (file, text) = page(&command);
        assert!(
            text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"),
            "{text}"
        );
        if can_format {
            assert_eq!(warnings(&file), "", "{}", file.display());
        }
    }
    let (_, run) = page(&["run".to_owned()]);
    assert!(run.contains("input\\-topic"), "{run}");
}

/// What groff has to say about a page, all warnings switched on.
fn warnings(page: &Path) -> String {
    let mut groff = Command::new("groff");
    let output = groff
        .args(["-man", "-Tutf8", "-z", "-ww"])
        .arg(page)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_directory_that_cannot_be_written_to_is_named() {
    let output = scanner(&["man", "/proc/no-such-directory"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/proc/no-such-directory"), "{said}");
}

#[test]
fn the_short_help_fits_a_screen_and_shows_how_to_begin() {
    let help = printed(&["-h"]);
    assert!(help.lines().count() <= 24, "{help}");
    assert!(help.contains("Examples:"), "{help}");
    for command in commands() {
        let arguments: Vec<_> = command.iter().map(String::as_str).chain(["-h"]).collect();
        let help = printed(&arguments);
        let lines = help.lines().count();
        assert!(lines <= 60, "{command:?} needs {lines} lines");
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
    }
}
