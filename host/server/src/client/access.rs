//! Where the server is and with which key it is called: options, and the environment where they are left out.

use std::ffi::OsString;
use std::path::PathBuf;

use rustls::RootCertStore;

use super::address::Address;
use super::error::ClientError;
use super::key::{Key, KeySource};
use crate::tls;

/// Where a server listens unless it is told otherwise.
const USUAL_SERVER: &str = "http://127.0.0.1:9180";
const SERVER: &str = "PORTCULLIS_SERVER";
const KEY_FILE: &str = "PORTCULLIS_KEY_FILE";
const KEY: &str = "PORTCULLIS_KEY";
const CA: &str = "PORTCULLIS_CA";

/// How a server is called. A key is never an argument: everybody who can list processes sees those.
#[derive(clap::Args)]
pub(crate) struct Access {
    /// The file that holds the management key [env: PORTCULLIS_KEY_FILE, or the key in PORTCULLIS_KEY]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Server")]
    key_file: Option<PathBuf>,
    /// The authorities of an https server, PEM [env: PORTCULLIS_CA] [default: the system's]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Server")]
    ca: Option<PathBuf>,
    /// Let the key travel in clear to another machine
    #[arg(long, global = true, help_heading = "Server")]
    allow_plaintext: bool,
}

impl Access {
    /// The server: as given, of the environment, or on this machine.
    pub(super) fn address(&self, given: Option<&str>) -> Result<Address, ClientError> {
        let (text, from) = match (given, variable(SERVER)) {
            (Some(text), _) => (text.to_owned(), "`--server`"),
            (None, Some(text)) => (text.into_string().map_err(|_| ClientError::NoAddress { from: SERVER })?, SERVER),
            (None, None) => (USUAL_SERVER.to_owned(), "`--server`"),
        };
        let address = Address::parse(&text).ok_or(ClientError::NoAddress { from })?;
        if address.is_open_to_others() && !self.allow_plaintext {
            return Err(ClientError::Plaintext { address });
        }
        Ok(address)
    }

    /// The key. Two of them in the environment are refused, for nobody could tell which one counts.
    pub(super) fn key(&self) -> Result<Key, ClientError> {
        if let Some(path) = &self.key_file {
            return Key::read(path.clone(), KeySource::option);
        }
        match (variable(KEY_FILE), variable(KEY)) {
            (Some(_), Some(_)) => Err(ClientError::TwoKeys),
            (Some(path), None) => Key::read(path.into(), KeySource::variable),
            (None, Some(text)) => Key::of(text.as_encoded_bytes(), KeySource::Environment),
            (None, None) => Err(ClientError::NoKey),
        }
    }

    pub(super) fn authorities(&self) -> Result<Option<RootCertStore>, ClientError> {
        let path = self.ca.clone().or_else(|| variable(CA).map(PathBuf::from));
        path.map(|path| tls::authorities(&path)).transpose().map_err(|source| ClientError::Authorities { source })
    }
}

/// A variable of the environment; an empty one counts as not set.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
