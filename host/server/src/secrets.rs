//! `portcullis secrets`: what secrets are sealed under, while no server runs.

use std::path::PathBuf;

use clap::Subcommand;
use portcullis_control::{MasterKeySource, RekeyError, Rekeyed, rekey};

use crate::config::Config;
use crate::master_key::{self, NEW_VARIABLE, TwoMasterKeys};
use crate::serve::ServeError;
use crate::{Exit, clock, output};

const HELP: &str = "\
Secrets that must be read again, such as those that requests are signed with, are in the database sealed under a
master key. It is in `master.key` in the data folder, in the `master_key_file` of the configuration, or in the
environment, in PORTCULLIS_MASTER_KEY.

Examples:
  portcullis secrets rekey --config /etc/portcullis.toml";

const REKEY_HELP: &str = "\
Every secret is sealed anew in one transaction, which is in the audit. A new key is made and takes the place of the
old one in its file; with PORTCULLIS_NEW_MASTER_KEY (64 hex digits) that one is taken. A key that is in
PORTCULLIS_MASTER_KEY cannot be changed there, so the new one has to be given.

Should it be cut off at any point, run it again, or start the server: one of the two keys opens everything, and the
right one is put in its place. Backups of the database that were made before need the old key: keep it with them.

The server must not be running: it has the database alone.

Examples:
  portcullis secrets rekey --config /etc/portcullis.toml
  portcullis secrets rekey --data portcullis-demo";

/// Secrets at rest: change the master key, offline
#[derive(clap::Args)]
#[command(after_long_help = HELP, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Seal every secret under another master key
    #[command(after_long_help = REKEY_HELP)]
    Rekey {
        /// The server's configuration, a TOML file
        #[arg(long, value_name = "FILE", required_unless_present = "data", conflicts_with = "data")]
        config: Option<PathBuf>,
        /// The data folder itself
        #[arg(long, value_name = "FOLDER")]
        data: Option<PathBuf>,
    },
}

/// Why the master key is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretsError {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    TwoMasterKeys(#[from] TwoMasterKeys),
    #[error(transparent)]
    Rekey(#[from] RekeyError),
    #[error(transparent)]
    Output(#[from] crate::error::Error),
}

/// Runs the command.
///
/// # Errors
/// Where the key was not changed, or it could not be told.
pub(crate) fn run(args: &Args) -> Result<Exit, SecretsError> {
    let Command::Rekey { config, data } = &args.command;
    let (data, file) = match (config, data) {
        (Some(config), _) => {
            let config = Config::read(config).map_err(ServeError::from)?;
            (config.data, config.master_key_file)
        }
        (None, data) => (data.clone().unwrap_or_default(), None),
    };
    let source = master_key::source(&data, file.as_ref())?;
    let new = master_key::variable(NEW_VARIABLE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Runtime)?;
    let done = runtime.block_on(rekey(&data, &source, (new.as_ref(), NEW_VARIABLE), clock::now()))?;
    let place = match &source {
        MasterKeySource::File(_) => format!("the new master key is in {source}"),
        MasterKeySource::Given { by, .. } => format!("give the new master key in `{by}` from now on"),
    };
    output::say(&match done {
        Rekeyed::Done { secrets: 1 } => format!("1 secret is sealed anew: {place}\n"),
        Rekeyed::Done { secrets } => format!("{secrets} secrets are sealed anew: {place}\n"),
        Rekeyed::Finished => format!("an earlier change of the master key was cut off and is finished: {place}\n"),
    })?;
    Ok(Exit::Success)
}
