//! The command line: one file or folder a subcommand.

pub mod demo;
pub mod run;
pub mod scan;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::RunFlags;

/// Scans Kafka records, files and lines with libclamav in this process.
#[derive(Debug, Parser)]
#[command(name = "scanner-bin", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scan a Kafka topic and write a verdict for each record to another
    Run(Box<RunFlags>),
    /// Scan files, or lines of files
    Scan(Box<scan::ScanArgs>),
    /// Show the whole service at work on an embedded broker, and prove what it found
    Demo(demo::DemoArgs),
}

impl Cli {
    /// Runs the subcommand.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Run(flags) => run::run(&flags),
            Command::Scan(args) => scan::run(&args),
            Command::Demo(args) => demo::run(&args),
        }
    }
}

/// Exit status of a command that could not do its work: clamscan's "some error occurred".
pub const EXIT_ERROR: u8 = 2;

/// Says on standard error why the command could not do its work.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("scanner-bin: {error}");
    ExitCode::from(EXIT_ERROR)
}
