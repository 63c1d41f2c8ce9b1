//! `scanner-bin`: Kafka in, libclamav in this process, Kafka out.

use std::process::ExitCode;

use clap::Parser;
use scanner_bin::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
