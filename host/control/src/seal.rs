//! Sealing: secrets that must be read again are stored encrypted under a master key that is not in the database.
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce; what a text belongs to is authenticated with it, so that one row's text
//! does not open in another. A sealed text is nonce, ciphertext, tag.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::master_key::{KEY_BYTES, MasterKey};

const NONCE_BYTES: usize = 24;

/// What seals and opens secrets. `Debug` shows nothing of the key.
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
}

impl Sealer {
    /// Seals and opens under a master key.
    pub(crate) fn new(key: &MasterKey) -> Sealer {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        bytes.copy_from_slice(key.bytes());
        Sealer { cipher: XChaCha20Poly1305::new((&*bytes).into()) }
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

/// A text could not be sealed, or does not open: it was changed, moved to another place, or sealed under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed secret does not open: it was changed, or the master key is not the one it was sealed under")]
pub struct SealError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_in_its_place_and_nowhere_else() {
        let key = MasterKey::random();
        let secret = SecretString::from("the secret");
        let sealed = Sealer::new(&key).seal(&secret, "credential/a").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        // Another process, the same key.
        let sealer = Sealer::new(&key);
        assert!(Sealer::new(&MasterKey::random()).open_sealed(&sealed, "credential/a").is_err(), "another key");
        assert_eq!(sealer.open_sealed(&sealed, "credential/a").unwrap().expose_secret(), "the secret");
        assert!(sealer.open_sealed(&sealed, "credential/b").is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open_sealed(&changed, "credential/a").is_err(), "byte {at}");
        }
        assert!(sealer.open_sealed(&sealed[..10], "credential/a").is_err());
    }
}
