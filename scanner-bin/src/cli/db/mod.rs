//! `db`: what is known about signature files, and what the prefilter makes of them.

mod info;
mod tune;

use std::process::ExitCode;

use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Load signatures and say what the prefilter makes of them
    Info(info::InfoArgs),
    /// Count your own log lines, for the prefilter to choose by
    Tune(tune::TuneArgs),
}

/// Runs the subcommand.
pub fn run(command: &DbCommand) -> ExitCode {
    match command {
        DbCommand::Info(args) => info::run(args),
        DbCommand::Tune(args) => tune::run(args),
    }
}
