//! `man`: one page for each command, made from its flags.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::Cli;

/// Where to write.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  scanner-bin man ~/.local/share/man/man1 && man scanner-bin-run")]
pub struct ManArgs {
    /// Directory for the pages; it is created if it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &ManArgs) -> ExitCode {
    let directory = &args.directory;
    match write(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&io::Error::new(
            error.kind(),
            format!("{} cannot be written to: {error}", directory.display()),
        )),
    }
}

fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}
