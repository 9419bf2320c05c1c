//! Keys: how they are made, what they look like, and what is kept of them.
//!
//! A key is `ptc_` + id (8) + `_` + secret (33) + checksum (6), 52 characters of base62. The id is safe to log; the secret
//! has 196 random bits; the checksum is the CRC-32 of all before it, so that a scanner can tell a key from noise and a typing
//! error is found without a look-up. One block of SHA-256 hashes it.

use portcullis_model::credential::SecretDigest;
use portcullis_model::id::Id;
use rand::distr::{Alphanumeric, SampleString as _};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

/// What every key begins with, for people and for scanners of leaked secrets.
pub const KEY_PREFIX: &str = "ptc_";
/// The length of a key's id.
const ID_CHARS: usize = 8;
/// The length of a key's secret part: 33 characters of base62 are 196 bits; 192 are asked for.
const SECRET_CHARS: usize = 33;
/// The length of the checksum: 32 bits in base62.
const CHECKSUM_CHARS: usize = 6;
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
    random(ID_CHARS).as_str().parse().ok()
}

/// A new key of the credential `id`.
pub(crate) fn new_key(id: &Id) -> NewKey {
    let secret = random(SECRET_CHARS);
    let mut key = Zeroizing::new(format!("{KEY_PREFIX}{id}_{}", secret.as_str()));
    let sum = checksum(&key);
    key.push_str(&sum);
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

/// The CRC-32 in base62, most significant digit first, padded with zeros.
fn checksum(text: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(rest % 62).ok().and_then(|index| DIGITS.get(index)).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_key_has_its_parts_and_fits_one_block() {
        let id = new_id().unwrap();
        let made = new_key(&id);
        let key = made.key.expose_secret();
        assert_eq!(key.len(), 52);
        assert!(key.starts_with(&format!("ptc_{id}_")), "the id is in the key");
        let (body, sum) = key.split_at(key.len() - CHECKSUM_CHARS);
        assert_eq!(checksum(body), sum);
        assert_eq!(digest(key), made.digest);
        assert!(!format!("{made:?}").contains(key), "Debug holds no key");
    }

    #[test]
    fn a_checksum_finds_a_typing_error() {
        // The CRC-32 of "123456789" is cbf43926 (the check value of CRC-32/ISO-HDLC), in base62:
        assert_eq!(checksum("123456789"), "3jZRME");
        let key = new_key(&new_id().unwrap());
        let (body, sum) = key.key.expose_secret().split_at(46);
        for at in 0..body.len() {
            let mut wrong = body.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            assert_ne!(checksum(std::str::from_utf8(&wrong).unwrap()), sum);
        }
    }

    #[test]
    fn keys_differ() {
        let id = new_id().unwrap();
        let keys: std::collections::BTreeSet<_> = (0..1000).map(|_| new_key(&id).digest).collect();
        assert_eq!(keys.len(), 1000);
    }
}
