//! Files and standard input, read within a limit.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use portcullis_model::policy::MAX_POLICY_BYTES;

use crate::error::Error;

/// The longest source, policy or delta in bytes.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = MAX_POLICY_BYTES as u64;

/// Where bytes come from: a file, or standard input, written `-`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// Standard input.
    Stdin,
    /// The file of that path.
    File(PathBuf),
}

impl From<OsString> for Origin {
    fn from(text: OsString) -> Origin {
        if text == "-" { Origin::Stdin } else { Origin::File(PathBuf::from(text)) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Stdin => f.write_str("standard input"),
            // Quoted by hand, because `Debug` would show a space or a letter beyond ASCII as something else.
            Origin::File(path) => write!(f, "`{}`", path.display()),
        }
    }
}

/// What has been read so far. Standard input can be read once.
#[derive(Default)]
pub(crate) struct Inputs {
    stdin_is_read: bool,
}

impl Inputs {
    /// Reads a whole document, at most [`MAX_DOCUMENT_BYTES`] of it.
    ///
    /// # Errors
    /// Where it cannot be read, is longer, or standard input was read before.
    pub(crate) fn document(&mut self, from: &Origin) -> Result<Vec<u8>, Error> {
        self.whole(from, MAX_DOCUMENT_BYTES)
    }

    /// Reads everything, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Inputs::document`].
    pub(crate) fn whole(&mut self, from: &Origin, limit: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.start(from, limit.saturating_add(1))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLong { from: from.clone(), limit });
        }
        Ok(bytes)
    }

    /// Reads the first bytes, at most `limit` of them.
    ///
    /// # Errors
    /// Where it cannot be read, or standard input was read before.
    pub(crate) fn start(&mut self, from: &Origin, limit: u64) -> Result<Vec<u8>, Error> {
        let read = match from {
            Origin::Stdin if self.stdin_is_read => return Err(Error::StdinTwice),
            Origin::Stdin => {
                self.stdin_is_read = true;
                take(io::stdin().lock(), limit)
            }
            Origin::File(path) => File::open(path).and_then(|file| take(file, limit)),
        };
        read.map_err(|source| Error::Read { from: from.clone(), source })
    }
}

fn take(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
