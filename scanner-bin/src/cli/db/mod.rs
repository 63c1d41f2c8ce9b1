//! `db`: what is known about signature files, what the prefilter makes of them, and which of them a replica uses.

mod activate;
mod history;
mod info;
mod outside;
mod place;
mod status;
mod sync;
mod tune;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Load signatures and say what the prefilter makes of them
    Info(info::InfoArgs),
    /// Count your own log lines, for the prefilter to choose by
    Tune(tune::TuneArgs),
    /// Show which signatures a replica uses and keeps, and what the files hold
    Status(status::StatusArgs),
    /// Check signature files as the service would before it takes them
    Verify(verify::VerifyArgs),
    /// Bring signature files from a private mirror into the directory that services read
    Sync(sync::SyncArgs),
    /// Have a replica use signatures that it keeps, or what the files hold whatever it was
    Activate(activate::ActivateArgs),
    /// Have a replica go back to the signatures before
    Rollback(activate::RollbackArgs),
    /// Show which signatures a replica had, which it refused, and why
    History(history::HistoryArgs),
}

/// Runs the subcommand.
pub fn run(command: &DbCommand) -> ExitCode {
    match command {
        DbCommand::Info(args) => info::run(args),
        DbCommand::Tune(args) => tune::run(args),
        DbCommand::Status(args) => status::run(args),
        DbCommand::Verify(args) => verify::run(args),
        DbCommand::Sync(args) => sync::run(args),
        DbCommand::Activate(args) => activate::activate(args),
        DbCommand::Rollback(args) => activate::rollback(args),
        DbCommand::History(args) => history::run(args),
    }
}
