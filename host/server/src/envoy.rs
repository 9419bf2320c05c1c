//! `portcullis envoy`: what a proxy needs that decides by itself.

use clap::Subcommand;
use portcullis_model::module;
use sha2::{Digest as _, Sha256};

use crate::Exit;
use crate::error::Error;
use crate::output::{self, Destination};

/// The module for Envoy and other proxies, with an empty slot for its digest.
const MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/portcullis-envoy.wasm"));

/// The configuration as it is tested.
const CONFIG: &str = include_str!("../deploy/envoy-filter.yaml");

/// What workers report that run the module which this program carries: the digest of its bytes with an empty slot.
pub(crate) fn carried() -> [u8; module::DIGEST_BYTES] {
    Sha256::digest(MODULE).into()
}

/// The gate inside Envoy
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Module(ModuleArgs),
    /// Print a ready configuration of Envoy with the filter
    Config,
}

const HELP: &str = "\
The first digest is that of the file, which Envoy's configuration can ask for (`code.local.sha256`, `code.remote.sha256`). The \
second is the one that workers report of themselves (`portcullis nodes`): that of the file whose slot for it is zeroed.

Example:
  portcullis envoy module -o portcullis-envoy.wasm";

/// Write the module for Envoy
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
struct ModuleArgs {
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "portcullis-envoy.wasm")]
    output: Destination,
}

/// Runs the command.
///
/// # Errors
/// Where something cannot be written.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    match &args.command {
        Command::Module(args) => write_module(&args.output)?,
        Command::Config => output::say(CONFIG)?,
    }
    Ok(Exit::Success)
}

fn write_module(to: &Destination) -> Result<(), Error> {
    let mut bytes = MODULE.to_vec();
    let reported = module::fill(&mut bytes).map_err(|_| Error::ModuleSlot)?;
    output::write_bytes(to, &bytes)?;
    let hex = base16ct::lower::encode_string;
    let text = format!(
        "written to {to}: {} bytes\nsha256 of the file      {}\nreported by its workers {}\n",
        bytes.len(),
        hex(&Sha256::digest(&bytes)),
        hex(&reported),
    );
    match to {
        Destination::Stdout => output::say_aside(&text),
        Destination::File(_) => output::say(&text),
    }
}
