//! A configuration is taken, and can be shown and read again, or each thing that is wrong is named.
//!
//! The input is a file, then, each behind a zero byte, variables as NAME=VALUE and flags as --NAME=VALUE.

use std::path::Path;
use std::sync::LazyLock;

use clap::Parser;
use scanner_bin::config::{self, Config, Environment, RunFlags};
use tempfile::TempDir;

/// Stands in the variable that a configuration may name as the place of its password.
const SECRET: &str = "correct-horse-battery-staple";
const SECRET_VARIABLE: &str = "PW";

static DIRECTORY: LazyLock<Option<TempDir>> = LazyLock::new(|| {
    // Memory if there is any: a file is written for each input.
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .ok()
});

/// A command line that holds nothing but the flags of `run`.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    flags: RunFlags,
}

/// Panics unless the configuration is taken or refused as promised.
pub fn check(input: &[u8]) {
    let Some(directory) = DIRECTORY.as_ref() else {
        panic!("no temporary directory");
    };
    let mut parts = input.split(|byte| *byte == 0);
    let file = parts.next().unwrap_or_default();
    let (mut environment, mut arguments) = (Environment::new(), vec!["run".to_owned()]);
    environment.insert(SECRET_VARIABLE.to_owned(), SECRET.to_owned());
    for part in parts.filter_map(|part| std::str::from_utf8(part).ok()) {
        match part.split_once('=') {
            _ if part.starts_with("--") => arguments.push(part.to_owned()),
            Some((name, value)) if !names_a_file(name) && name != SECRET_VARIABLE => {
                environment.insert(name.to_owned(), value.to_owned());
            }
            _ => {}
        }
    }
    let Ok(CommandLine { mut flags }) = CommandLine::try_parse_from(arguments) else {
        return;
    };
    flags.config = None;
    if !file.is_empty() {
        flags.config = Some(write(directory.path(), "given.toml", file));
    }

    match config::load_with_origins(&flags, &environment) {
        Err(error) => {
            assert!(!error.problems().is_empty());
            for problem in error.problems() {
                assert!(
                    !problem.what.is_empty() && !problem.remedy.is_empty(),
                    "{problem:?}"
                );
            }
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
        Ok((config, origins)) => {
            let page = config::show(&config, &origins);
            assert!(!page.contains(SECRET), "{page}");
            assert!(!format!("{config:?}").contains(SECRET));
            reads_the_same(directory.path(), &page, config);
        }
    }
}

/// The variable that names a file would lead out of the input.
fn names_a_file(variable: &str) -> bool {
    variable == "SCANNER_CONFIG"
}

fn write(directory: &Path, name: &str, text: &[u8]) -> std::path::PathBuf {
    let path = directory.join(name);
    // Again and again: a run of hours outlives whoever cleans up temporary directories.
    let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, text));
    if let Err(error) = written {
        panic!("{}: {error}", path.display());
    }
    path
}

/// What is shown is a file that gives the same configuration, but for what it hides.
fn reads_the_same(directory: &Path, page: &str, mut config: Config) {
    let flags = RunFlags {
        config: Some(write(directory, "shown.toml", page.as_bytes())),
        ..RunFlags::default()
    };
    let environment = Environment::from([(SECRET_VARIABLE.to_owned(), SECRET.to_owned())]);
    let shown: Vec<(String, String)> = config
        .kafka
        .properties
        .shown()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    config.kafka.properties.0 = shown.into_iter().collect();
    match config::load(&flags, &environment) {
        Ok(again) => assert_eq!(again, config, "{page}"),
        Err(error) => panic!("{error}\n{page}"),
    }
}
