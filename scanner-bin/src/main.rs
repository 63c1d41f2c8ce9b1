//! `scanner-bin`: Kafka in, libclamav in this process, Kafka out.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use scan_pipeline::unreadable;
use scanner_bin::cli::Cli;

fn main() -> ExitCode {
    // The service starts itself to fetch with limited memory; this is not a command for people.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == unreadable::CHILD_COMMAND)
    {
        return unreadable::child();
    }
    Cli::parse().run()
}
