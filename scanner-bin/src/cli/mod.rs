//! The command line: one file or folder a subcommand.

pub mod completions;
pub mod config;
pub mod db;
pub mod demo;
pub mod engine;
pub mod explain;
mod format;
mod lines;
pub mod man;
pub mod probe;
pub mod replay;
pub mod run;
pub mod scan;
mod table;
mod unpack;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::RunFlags;
use crate::escape::Escaped;

/// Scans Kafka records, files and lines with libclamav in this process.
#[derive(Debug, Parser)]
#[command(name = "scanner-bin", version, max_term_width = 100)]
#[command(after_help = "\
Examples: scanner-bin demo ('scanner-bin COMMAND --help' says more)
  scanner-bin run --brokers kafka:9092 --database /var/lib/clamav
  scanner-bin scan -r /srv/uploads")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scan a Kafka topic and write a verdict for each record to another
    #[command(after_help = "\
Every setting can stand in the file or the environment too: see 'scanner-bin config sample'.

Examples:
  scanner-bin run --brokers kafka:9092 --database /var/lib/clamav
  SCANNER_BROKERS=kafka:9092 scanner-bin run --config /etc/scanner.toml

Exit status: 0 after an orderly stop, 3 if the drain ran out of time, 2 if it could not go on.")]
    Run(Box<RunFlags>),
    /// Scan a part of the topic once more, in a group of its own, and print a tally
    #[command(after_help = "\
--group is the replay's own [default: the configured one with -replay]. Results are marked
\"replay\": true. The log goes to standard error, the tally to standard output.
Example: scanner-bin replay --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z
Exit status: 0 if every record was answered, 3 if it was stopped before, 2 if it could not go on.")]
    Replay(Box<replay::ReplayArgs>),
    /// Scan files, or lines of files
    Scan(Box<scan::ScanArgs>),
    /// Show what becomes of a message, step by step: its views, the prefilter, libclamav
    Explain(explain::ExplainArgs),
    /// Look at signatures, check them, choose which are in use, or tune the prefilter
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Show, check or sample the configuration of `run`
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show the whole service at work on an embedded broker, and prove what it found
    Demo(demo::DemoArgs),
    /// Ask a running service one of its probes, for supervisors that do it by a program
    Probe(probe::ProbeArgs),
    /// Print what makes a shell complete the commands and flags of this program
    Completions(completions::CompletionsArgs),
    /// Write the manual pages into a directory
    Man(man::ManArgs),
}

impl Cli {
    /// Runs the subcommand.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Run(flags) => run::run(&flags),
            Command::Replay(args) => replay::run(&args),
            Command::Scan(args) => scan::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Db(command) => db::run(&command),
            Command::Config(command) => config::run(&command),
            Command::Demo(args) => demo::run(&args),
            Command::Probe(args) => probe::run(&args),
            Command::Completions(args) => completions::run(&args),
            Command::Man(args) => man::run(&args),
        }
    }
}

/// Exit status of a command that could not do its work: clamscan's "some error occurred".
pub const EXIT_ERROR: u8 = 2;

/// Prints on standard output. A reader that closes the pipe early has seen enough.
fn print(bytes: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error),
        _ => ExitCode::SUCCESS,
    }
}

/// Longest line that is taken for a message, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Says something on standard error. That nobody listens there is no reason to stop.
fn say(text: fmt::Arguments<'_>) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Says on standard error why the command could not do its work.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("scanner-bin: {error}");
    ExitCode::from(EXIT_ERROR)
}
