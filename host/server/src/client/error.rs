//! Everything that can go wrong between a command and its answer, each with its remedy.

use std::io;
use std::path::PathBuf;

use http::StatusCode;

use super::address::Address;
use super::key::KeySource;
use super::problem::Problem;
use crate::tls::TlsError;

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No key was given.
    #[error(
        "no key to call the server with: give `--key-file FILE`, or set PORTCULLIS_KEY_FILE or PORTCULLIS_KEY; \
         `portcullis recover` on the server's machine makes a key"
    )]
    NoKey,
    /// Two keys were given.
    #[error("PORTCULLIS_KEY_FILE and PORTCULLIS_KEY are both set: unset one of them, or give `--key-file FILE`")]
    TwoKeys,
    /// The key file cannot be read.
    #[error("cannot read the key in {from}: {source}: check the path and its permissions")]
    KeyUnreadable {
        /// Where it should be.
        from: KeySource,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read the key file.
    #[error("the key file `{path}` can be read by others (mode {mode:04o}): run `chmod 600 {path}`", path = path.display())]
    KeyIsOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What should be a key is none.
    #[error("{from} holds no key: it must be the key alone, as it was shown when it was made")]
    KeyMalformed {
        /// Where it was found.
        from: KeySource,
    },

    /// The server's URL is none.
    #[error(
        "{from} is not the address of a server: write `https://HOST:PORT`, or `http://127.0.0.1:PORT` for this machine"
    )]
    NoAddress {
        /// What gave it.
        from: &'static str,
    },
    /// The key would travel in clear.
    #[error(
        "the key would travel in clear to `{address}`: use https, or a tunnel to a port of this machine; \
         `--allow-plaintext` sends it anyway"
    )]
    Plaintext {
        /// The server.
        address: Address,
    },
    /// The file of authorities cannot be used.
    #[error("{source}: {fix}", fix = source.fix())]
    Authorities {
        /// What is wrong with it.
        source: TlsError,
    },
    /// The system has no authorities.
    #[error("cannot read the system's certificate authorities: {0}: give `--ca FILE`")]
    NoAuthorities(io::Error),
    /// No TLS.
    #[error("TLS cannot be set up: {0}: report it")]
    Tls(rustls::Error),
    /// No runtime.
    #[error("cannot wait for the network: {0}: check the files and threads that this process may have")]
    Runtime(io::Error),

    /// Nothing listens there.
    #[error(
        "nothing listens at `{address}`: start a server with `portcullis serve`, or say where it is with `--server URL`"
    )]
    NobodyListens {
        /// The server.
        address: Address,
    },
    /// Its certificate is not trusted.
    #[error("the certificate of `{address}` is not trusted: {what}: give its authority with `--ca FILE`")]
    Untrusted {
        /// The server.
        address: Address,
        /// What TLS said.
        what: String,
    },
    /// No connection.
    #[error("cannot connect to `{address}`: {what}: check `--server` and the network")]
    Unreachable {
        /// The server.
        address: Address,
        /// What the system said.
        what: String,
    },
    /// The connection broke.
    #[error("the connection to `{address}` broke before the answer was whole: {what}: {OUTCOME}")]
    Broken {
        /// The server.
        address: Address,
        /// What happened.
        what: String,
    },
    /// No answer in time.
    #[error("`{address}` did not answer within {seconds} seconds: {OUTCOME}")]
    Timeout {
        /// The server.
        address: Address,
        /// The limit.
        seconds: u64,
    },
    /// An answer beyond the limit.
    #[error("the answer of `{address}` is longer than {limit} bytes: ask for less with `--limit`")]
    TooLong {
        /// The server.
        address: Address,
        /// The limit.
        limit: usize,
    },
    /// Something else answers there.
    #[error(
        "`{address}` answered {status}, but not as the admin API does: check `--server`, and that both are of one version"
    )]
    NotTheApi {
        /// The server.
        address: Address,
        /// The status.
        status: StatusCode,
    },

    /// The key is not accepted.
    #[error(
        "`{address}` does not accept the key in {key}: check that it is a management key of this installation, \
         neither revoked nor expired; `portcullis recover` on the server's machine makes another"
    )]
    Unauthorized {
        /// The server.
        address: Address,
        /// Where the key was found.
        key: KeySource,
    },
    /// The server refused.
    #[error("{0}")]
    Refused(Problem),
    /// The server failed.
    #[error("`{address}` failed: {problem}")]
    Failed {
        /// The server.
        address: Address,
        /// What it said.
        problem: Problem,
    },
}

/// What is known of a change whose answer did not come.
const OUTCOME: &str = "`portcullis audit list` tells whether a change was made";

impl ClientError {
    /// Whether the server has understood the call and refused it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, ClientError::Unauthorized { .. } | ClientError::Refused(_))
    }
}
