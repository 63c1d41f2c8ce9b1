//! `completions`: made from the flags themselves, so that they cannot lag behind.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// For which shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  scanner-bin completions bash >~/.local/share/bash-completion/completions/scanner-bin
  scanner-bin completions zsh >~/.zfunc/_scanner-bin
  scanner-bin completions fish >~/.config/fish/completions/scanner-bin.fish")]
pub struct CompletionsArgs {
    /// Shell to write for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Runs the subcommand.
pub fn run(args: &CompletionsArgs) -> ExitCode {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Into memory first: a pipe that is closed would be a panic in there.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, &name, &mut script);
    // clap_complete 4.6 takes the hyphen of this program's name for a step to a subcommand in half of
    // bash's script; without this nothing behind `scanner-bin run` is completed.
    let (wrong, right) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
    let script = String::from_utf8_lossy(&script).replace(&wrong, &right);
    super::print(script.as_bytes())
}
