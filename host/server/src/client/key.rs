//! The management key or the session, and where it was found. It is in no message; where it came from is.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use http::HeaderValue;
use portcullis_model::credential::MAX_KEY_BYTES;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::error::ClientError;

/// The scheme behind which the admin API takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    /// A management key.
    ManagementKey,
    /// A session of a person, or the code that opens one.
    Session,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Scheme::ManagementKey => "ManagementKey-v1",
            Scheme::Session => "Session-v1",
        }
    }
}

/// The most bytes of a key file: the longest key, and line ends around it.
const MAX_FILE_BYTES: u64 = MAX_KEY_BYTES as u64 + 16;
/// Permissions by which others than the owner reach a file.
const OTHERS: u32 = 0o077;

/// A key with its origin.
pub(super) struct Key {
    secret: SecretString,
    source: KeySource,
}

/// Where a key was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeySource {
    /// A file, and what named it.
    File {
        /// The file.
        path: PathBuf,
        /// The option or variable.
        named_by: &'static str,
    },
    /// `PORTCULLIS_KEY`.
    Environment,
}

impl KeySource {
    pub(super) fn option(path: PathBuf) -> KeySource {
        KeySource::File { path, named_by: "--key-file" }
    }

    pub(super) fn variable(path: PathBuf) -> KeySource {
        KeySource::File { path, named_by: "PORTCULLIS_KEY_FILE" }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::File { path, named_by } => write!(f, "`{}` (of {named_by})", path.display()),
            KeySource::Environment => f.write_str("the variable PORTCULLIS_KEY"),
        }
    }
}

impl Key {
    /// Reads a key file, which nobody but its owner may be able to read.
    pub(super) fn read(path: PathBuf, source: fn(PathBuf) -> KeySource) -> Result<Key, ClientError> {
        let source = source(path.clone());
        let failed = |error: io::Error| ClientError::KeyUnreadable { from: source.clone(), source: error };
        let file = File::open(&path).map_err(failed)?;
        // Of the file that was opened, not of the name: what is checked is what is read.
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & OTHERS != 0 {
            return Err(ClientError::KeyIsOpen { path, mode: mode & 0o777 });
        }
        // Room for all of it at once: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_KEY_BYTES + 64));
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        Key::of(&bytes, source)
    }

    /// A key out of bytes that hold nothing else, white space around it aside.
    pub(super) fn of(bytes: &[u8], source: KeySource) -> Result<Key, ClientError> {
        let text = std::str::from_utf8(bytes.trim_ascii()).unwrap_or_default();
        let is_key = !text.is_empty() && text.len() <= MAX_KEY_BYTES && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_key {
            return Err(ClientError::KeyMalformed { from: source });
        }
        Ok(Key { secret: SecretString::from(text), source })
    }

    pub(super) fn source(&self) -> &KeySource {
        &self.source
    }

    /// The value of Authorization, marked so that nothing shows it.
    pub(super) fn header(&self, scheme: Scheme) -> Result<HeaderValue, ClientError> {
        let text = Zeroizing::new(format!("{} {}", scheme.as_str(), self.secret.expose_secret()));
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| ClientError::KeyMalformed { from: self.source.clone() })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word() {
        let header = |text: &str| {
            Key::of(text.as_bytes(), KeySource::Environment).and_then(|key| key.header(Scheme::ManagementKey)).ok()
        };
        assert_eq!(header(" ptc_abc\r\n").unwrap(), "ManagementKey-v1 ptc_abc");
        assert_eq!(format!("{:?}", header("ptc_abc").unwrap()), "Sensitive");
        let longest = "k".repeat(MAX_KEY_BYTES);
        assert!(header(&longest).is_some());
        for bad in ["", "\n", "two words", "a\nb", "key\u{e9}", "a\0b", &format!("{longest}k")] {
            assert!(header(bad).is_none(), "{bad:?}");
        }
    }
}
