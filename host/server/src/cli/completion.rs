//! `portcullis completion`: scripts by which a shell completes commands and options.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::error::Error;
use crate::output;

const HELP: &str = "\
Examples:
  portcullis completion bash > ~/.local/share/bash-completion/completions/portcullis
  portcullis completion zsh > ~/.zfunc/_portcullis
  portcullis completion fish > ~/.config/fish/completions/portcullis.fish";

/// Print the completion script of a shell
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// Where the script cannot be written.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "portcullis", &mut script);
    output::say(&String::from_utf8_lossy(&script))
}
