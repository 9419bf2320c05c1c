//! Sealing: secrets that must be read again are stored encrypted under a master key that is not in the database.
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce; what a text belongs to is authenticated with it, so that one row's text
//! does not open in another. A sealed text is nonce, ciphertext, tag.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

/// The length of a master key in bytes.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// What seals and opens secrets. `Debug` shows nothing of the key.
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
}

impl Sealer {
    /// Reads the master key from a file, or makes it there with mode 0600.
    ///
    /// # Errors
    /// Where the file cannot be read or made, others may read it, or it holds no key.
    pub(crate) fn open(path: &Path) -> Result<Sealer, MasterKeyError> {
        let key = match read(path) {
            Err(MasterKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => make(path)?,
            result => result?,
        };
        let cipher = XChaCha20Poly1305::new_from_slice(key.as_slice())
            .map_err(|_| MasterKeyError::Malformed { path: path.to_owned() })?;
        Ok(Sealer { cipher })
    }

    /// Seals `secret` for the place that `belongs_to` names.
    pub(crate) fn seal(&self, secret: &SecretString, belongs_to: &str) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: secret.expose_secret().as_bytes(), aad: belongs_to.as_bytes() };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed for the same place.
    pub(crate) fn open_sealed(&self, sealed: &[u8], belongs_to: &str) -> Result<SecretString, SealError> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError)?;
        let payload = Payload { msg: text, aad: belongs_to.as_bytes() };
        let opened = Zeroizing::new(self.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError)?);
        std::str::from_utf8(&opened).map(SecretString::from).map_err(|_| SealError)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

fn read(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, MasterKeyError> {
    let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(MasterKeyError::Exposed { path: path.to_owned() });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(1024).read_to_string(&mut text).map_err(failed)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let decoded = base16ct::mixed::decode(text.trim(), key.as_mut_slice()).map(<[u8]>::len);
    if decoded == Ok(KEY_BYTES) { Ok(key) } else { Err(MasterKeyError::Malformed { path: path.to_owned() }) }
}

/// Makes a key where there is none: written whole under another name first, so that a crash leaves no half of one.
fn make(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, MasterKeyError> {
    let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::rng().fill_bytes(key.as_mut_slice());
    let text = Zeroizing::new(base16ct::lower::encode_string(key.as_slice()));
    let beside = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    // A link fails where another process was faster; its key stands then.
    fs::hard_link(&beside, path).map_err(failed)?;
    fs::remove_file(&beside).map_err(failed)?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(key)
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// The file cannot be read or made.
    #[error("cannot use the master key `{}`: {source}: check the path and its permissions", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("the master key `{}` can be read by others: chmod it to 600", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It holds no key.
    #[error("the master key `{}` is not 64 hex digits: restore the file that this installation was made with", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// A text could not be sealed, or does not open: it was changed, moved to another place, or sealed under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed secret does not open: it was changed, or the master key is not the one it was sealed under")]
pub struct SealError;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_sealed_opens_in_its_place_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let secret = SecretString::from("the secret");
        let sealed = Sealer::open(&path).unwrap().seal(&secret, "credential/a").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        // Another process, the same key.
        let sealer = Sealer::open(&path).unwrap();
        assert_eq!(sealer.open_sealed(&sealed, "credential/a").unwrap().expose_secret(), "the secret");
        assert!(sealer.open_sealed(&sealed, "credential/b").is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open_sealed(&changed, "credential/a").is_err(), "byte {at}");
        }
        assert!(sealer.open_sealed(&sealed[..10], "credential/a").is_err());
    }

    #[test]
    fn a_master_key_is_closed_to_others_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        Sealer::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Sealer::open(&path), Err(MasterKeyError::Exposed { .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(matches!(Sealer::open(&path), Err(MasterKeyError::Malformed { .. })));
    }
}
