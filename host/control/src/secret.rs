//! Keys: how they are made, and what is kept of them. Their form is in `portcullis_model::credential`, for the gate too finds
//! a typing error by the checksum.

use portcullis_model::credential::{KEY_CHARS, KEY_ID_CHARS, KEY_PREFIX, KEY_SECRET_CHARS, SecretDigest, key_checksum};
use portcullis_model::id::Id;
use rand::distr::{Alphanumeric, SampleString as _};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

/// The length of a signing secret: 43 characters of base62 are 256 bits.
const SIGNING_SECRET_CHARS: usize = 43;

/// A key that was just made. Its only copy in clear is on its way to whoever asked for it.
#[derive(Debug)]
pub(crate) struct NewKey {
    /// The key itself; redacted in `Debug`, wiped when dropped.
    pub(crate) key: SecretString,
    /// All that is kept of it.
    pub(crate) digest: SecretDigest,
}

/// A new id for a credential: random, so that it tells nothing, and short enough to be part of its keys.
pub(crate) fn new_id() -> Option<Id> {
    random(KEY_ID_CHARS).as_str().parse().ok()
}

/// A new key of the credential `id`.
pub(crate) fn new_key(id: &Id) -> NewKey {
    let secret = random(KEY_SECRET_CHARS);
    // With room for all of it from the start: a string that grows leaves copies behind.
    let mut key = Zeroizing::new(String::with_capacity(KEY_CHARS));
    for part in [KEY_PREFIX, id.as_str(), "_", secret.as_str()] {
        key.push_str(part);
    }
    let sum = key_checksum(key.as_bytes());
    key.extend(sum.map(char::from));
    NewKey { digest: digest(&key), key: SecretString::from(key.as_str()) }
}

/// A new secret to sign requests with.
pub(crate) fn new_signing_secret() -> SecretString {
    SecretString::from(random(SIGNING_SECRET_CHARS).as_str())
}

/// What is kept of a key.
pub(crate) fn digest(key: &str) -> SecretDigest {
    SecretDigest::new(Sha256::digest(key.as_bytes()).into())
}

/// Letters and digits from the thread's generator, which is cryptographically strong and seeded by the system.
fn random(chars: usize) -> Zeroizing<String> {
    Zeroizing::new(Alphanumeric.sample_string(&mut rand::rng(), chars))
}

#[cfg(test)]
mod tests {
    use portcullis_model::credential::{KeyShape, key_shape};
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_key_has_its_form_and_fits_one_block() {
        let id = new_id().unwrap();
        let made = new_key(&id);
        let key = made.key.expose_secret();
        assert_eq!(key_shape(key.as_bytes()), KeyShape::Key);
        assert!(key.len() == KEY_CHARS && KEY_CHARS <= 55, "padding included one block of SHA-256 hashes it");
        assert!(key.starts_with(&format!("ptc_{id}_")), "the id is in the key");
        assert_eq!(digest(key), made.digest);
        assert!(!format!("{made:?}").contains(key), "Debug holds no key");
    }

    #[test]
    fn keys_differ() {
        let id = new_id().unwrap();
        let keys: std::collections::BTreeSet<_> = (0..1000).map(|_| new_key(&id).digest).collect();
        assert_eq!(keys.len(), 1000);
    }
}
