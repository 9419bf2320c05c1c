//! Where the master key is: in the environment, in the file that the configuration names, or in the data folder.

use std::path::{Path, PathBuf};

use portcullis_control::{MASTER_KEY, MasterKeySource};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

/// The variable with the master key, 64 hex digits.
pub(crate) const VARIABLE: &str = "PORTCULLIS_MASTER_KEY";
/// The variable with the key that is to take its place.
pub(crate) const NEW_VARIABLE: &str = "PORTCULLIS_NEW_MASTER_KEY";

/// Why it is not known where the master key is.
#[derive(Debug, thiserror::Error)]
#[error(
    "the master key is both in `{VARIABLE}` and in the `master_key_file` of the configuration: leave one of them out"
)]
pub(crate) struct TwoMasterKeys;

/// Where the master key is. `file` is the one that the configuration names.
///
/// # Errors
/// Where two places are named.
pub(crate) fn source(data: &Path, file: Option<&PathBuf>) -> Result<MasterKeySource, TwoMasterKeys> {
    match (variable(VARIABLE), file) {
        (Some(_), Some(_)) => Err(TwoMasterKeys),
        (Some(key), None) => Ok(MasterKeySource::Given { key, by: VARIABLE }),
        (None, Some(file)) => Ok(MasterKeySource::File(file.clone())),
        (None, None) => Ok(MasterKeySource::File(data.join(MASTER_KEY))),
    }
}

/// A secret out of the environment; nothing where it is empty.
pub(crate) fn variable(name: &str) -> Option<SecretString> {
    // What is no text is no key either, and is told as one that cannot be read.
    let text = Zeroizing::new(std::env::var_os(name)?.into_string().unwrap_or_else(|_| "?".to_owned()));
    (!text.is_empty()).then(|| SecretString::from(text.as_str()))
}
