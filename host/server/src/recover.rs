//! `portcullis recover`: a superuser's key for whoever may write to the data folder, while no server has it.

use std::path::PathBuf;
use std::sync::Arc;

use portcullis_control::{CommandError, Control, OtherKeys, TokenSettings};
use portcullis_model::time::{Expiry, UnixTime};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

use crate::config::Config;
use crate::serve::{self, ServeError};
use crate::{Exit, clock, master_key, output};

/// How long the key lives where nothing is said, in seconds: 90 days.
const USUAL_LIFE_S: u64 = 90 * 86_400;

const HELP: &str = "\
The key is printed once and can be shown by nobody again. It belongs to the tenant `system`, has every endpoint
of the admin API, and is in the audit. With --revoke-others every other superuser key is dead from then on.

The server must not be running: it has the database alone.

Examples:
  portcullis recover --config /etc/portcullis.toml
  portcullis recover --data portcullis-demo --revoke-others";

/// Make a new superuser key, offline
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// The server's configuration, a TOML file
    #[arg(long, value_name = "FILE", required_unless_present = "data", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// The data folder itself
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The key's name
    #[arg(long, default_value = "Recovery")]
    name: String,
    /// When it ends, such as 2027-12-31 [default: in 90 days]
    #[arg(long, value_name = "TIME")]
    expires: Option<Expiry>,
    /// Revoke every other superuser key
    #[arg(long)]
    revoke_others: bool,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Start(#[from] ServeError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("the key would have expired already: give `--expires` a time in the future")]
    Expired,
    #[error("no key was made")]
    NoKey,
    #[error(transparent)]
    Output(#[from] crate::error::Error),
}

/// Runs the command.
///
/// # Errors
/// Where no key was made, or it could not be shown.
pub(crate) fn run(args: &Args) -> Result<Exit, RecoverError> {
    let (data, file, tokens) = match (&args.config, &args.data) {
        (Some(config), _) => {
            let config = Config::read(config).map_err(ServeError::from)?;
            (config.data, config.master_key_file, config.tokens)
        }
        (None, data) => (data.clone().unwrap_or_default(), None, TokenSettings::default()),
    };
    let source = master_key::source(&data, file.as_ref()).map_err(ServeError::from)?;
    let now = clock::now();
    let usual = || UnixTime::from_secs(now.as_secs() + USUAL_LIFE_S).map_or(Expiry::at(UnixTime::MAX), Expiry::at);
    let expires = args.expires.unwrap_or_else(usual);
    if expires.instant() <= now {
        return Err(RecoverError::Expired);
    }
    let others = if args.revoke_others { OtherKeys::Revoke } else { OtherKeys::Keep };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Runtime)?;
    let issued = runtime.block_on(async {
        let engine = Arc::new(serve::engine(&data).map_err(ServeError::from)?);
        let opened = Control::open_under(&source, &data, engine, clock::now, Box::new(|_| {}), tokens).await;
        let control = opened.map_err(ServeError::from)?;
        let done = control.recover(&args.name, expires, others).await?;
        control.close().await;
        done.issued.ok_or(RecoverError::NoKey)
    })?;
    output::say_aside("Superuser key, shown this once:\n")?;
    output::say(&Zeroizing::new(format!("{}\n", issued.key.expose_secret())))?;
    Ok(Exit::Success)
}
