//! For whom a command prints.

use clap::ValueEnum;

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object on one line.
    Json,
}
