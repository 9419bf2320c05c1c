//! Kinds of credentials, the form of keys, and the digest by which a key is known.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest key or token that is looked at, in bytes. Keys made by Portcullis have 52.
pub const MAX_KEY_BYTES: usize = 512;

/// What a credential is for; each kind has its own rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One active key id and secret per tenant, with the whole tenant's power.
    Workspace,
    /// A key with a group, an address allowlist and an expiry.
    Tenant,
    /// A key confined to endpoints and applications, tied to the admin who made it.
    Management,
    /// A user's own OAuth client.
    Personal,
    /// An OAuth client of a tenant.
    Client,
    /// A person's sign-in to the admin API, for hours; also the code that opens one. It is no credential of a guarded API.
    Session,
}

impl Kind {
    /// Every kind, in the order of [`Kind::code`].
    pub const ALL: [Kind; 6] =
        [Kind::Workspace, Kind::Tenant, Kind::Management, Kind::Personal, Kind::Client, Kind::Session];

    /// The kind's name, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Workspace => "workspace",
            Kind::Tenant => "tenant",
            Kind::Management => "management",
            Kind::Personal => "personal",
            Kind::Client => "client",
            Kind::Session => "session",
        }
    }

    /// The number that stands for the kind in packed forms.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Kind::Workspace => 1,
            Kind::Tenant => 2,
            Kind::Management => 3,
            Kind::Personal => 4,
            Kind::Client => 5,
            Kind::Session => 6,
        }
    }

    /// Whether it is an OAuth client, which is known by its id as well as by its secret.
    #[must_use]
    pub fn is_client(self) -> bool {
        matches!(self, Kind::Personal | Kind::Client)
    }

    /// The kind with that number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every key begins with, for people and for scanners of leaked secrets.
pub const KEY_PREFIX: &str = "ptc_";
/// The length of the id within a key. It is safe to log.
pub const KEY_ID_CHARS: usize = 8;
/// The length of a key's secret part: 33 characters of base62 are 196 bits; 192 are asked for.
pub const KEY_SECRET_CHARS: usize = 33;
/// The length of a key's checksum: 32 bits in base62.
pub const KEY_CHECKSUM_CHARS: usize = 6;
/// The length of a key: `ptc_` + id (8) + `_` + secret (33) + checksum (6), all but the separators of base62. One block of
/// SHA-256 hashes it.
pub const KEY_CHARS: usize = KEY_PREFIX.len() + KEY_ID_CHARS + 1 + KEY_SECRET_CHARS + KEY_CHECKSUM_CHARS;
/// What a scanner looks for, as a regular expression that common engines read. What it finds is a key where the checksum
/// holds: [`key_shape`].
pub const KEY_PATTERN: &str = r"\bptc_[0-9A-Za-z]{8}_[0-9A-Za-z]{39}\b";

/// What a text looks like, beside the keys that Portcullis makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyShape {
    /// A key, its checksum holds.
    Key,
    /// A key with a typing error, or noise that happens to look like one.
    Mistyped,
    /// Something else, such as a key that was imported by its digest.
    Other,
}

/// Looks at the form of a text alone.
#[must_use]
pub fn key_shape(text: &[u8]) -> KeyShape {
    let Some(body) = text.strip_prefix(KEY_PREFIX.as_bytes()).filter(|_| text.len() == KEY_CHARS) else {
        return KeyShape::Other;
    };
    let is_form =
        body.iter().enumerate().all(|(at, b)| if at == KEY_ID_CHARS { *b == b'_' } else { b.is_ascii_alphanumeric() });
    let Some((summed, sum)) = text.split_last_chunk::<KEY_CHECKSUM_CHARS>().filter(|_| is_form) else {
        return KeyShape::Other;
    };
    if key_checksum(summed) == *sum { KeyShape::Key } else { KeyShape::Mistyped }
}

/// The CRC-32 in base62, most significant digit first, padded with zeros.
#[must_use]
pub fn key_checksum(text: &[u8]) -> [u8; KEY_CHECKSUM_CHARS] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(text);
    let mut digits = [b'0'; KEY_CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(rest % 62).ok().and_then(|index| DIGITS.get(index)).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// The SHA-256 of a key: all that a policy knows of it. In JSON 64 hex digits.
///
/// A digest of a high-entropy key cannot be turned back, but `Debug` shows only its beginning: a log is no place for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// A digest from its 32 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        SecretDigest(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, ..] = self.0;
        write!(f, "sha256:{a:02x}{b:02x}..")
    }
}

impl From<SecretDigest> for String {
    fn from(digest: SecretDigest) -> String {
        hex(&digest.0)
    }
}

impl TryFrom<String> for SecretDigest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        unhex(&text).map(SecretDigest).ok_or(DigestError { length: text.len() })
    }
}

/// A text that is no digest. It does not repeat the text, which may be a key put in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hex digits, this text has {length} characters: write the SHA-256 of the key, never the key")]
pub struct DigestError {
    length: usize,
}

/// The seed that keeps callers from choosing where their keys fall in the policy's tables: 16 random bytes of the
/// installation. In JSON 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(pub [u8; 16]);

impl From<Seed> for String {
    fn from(seed: Seed) -> String {
        hex(&seed.0)
    }
}

impl TryFrom<String> for Seed {
    type Error = SeedError;

    fn try_from(text: String) -> Result<Self, SeedError> {
        unhex(&text).map(Seed).ok_or(SeedError)
    }
}

/// A text that is no seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a seed is 32 hex digits, for example from `openssl rand -hex 16`")]
pub struct SeedError;

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let decoded = base16ct::mixed::decode(text, &mut bytes).ok()?.len();
    (decoded == N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_hex_digits() {
        let text = "00ff".repeat(16);
        let digest = SecretDigest::try_from(text.clone()).unwrap();
        assert_eq!(String::from(digest), text);
        for bad in [&text[1..], "ptc_tkAcme01_x", "", &"zz".repeat(32)] {
            let error = SecretDigest::try_from(bad.to_owned()).unwrap_err();
            assert!(bad.is_empty() || !error.to_string().contains(bad));
        }
    }

    #[test]
    fn a_checksum_tells_a_key_from_noise() {
        // The CRC-32 of "123456789" is cbf43926 (the check value of CRC-32/ISO-HDLC), in base62:
        assert_eq!(key_checksum(b"123456789"), *b"3jZRME");
        let body = format!("ptc_k3J9aQ2x_{}", "a".repeat(KEY_SECRET_CHARS));
        let sum = key_checksum(body.as_bytes());
        let key = format!("{body}{}", std::str::from_utf8(&sum).unwrap());
        assert_eq!((key.len(), key_shape(key.as_bytes())), (KEY_CHARS, KeyShape::Key));
        for at in KEY_PREFIX.len()..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            let expected = if at == KEY_PREFIX.len() + KEY_ID_CHARS { KeyShape::Other } else { KeyShape::Mistyped };
            assert_eq!(key_shape(&wrong), expected, "{at}");
        }
        for other in ["", "ptc_", "ptc_tkAcme01_x", &key[1..], &format!("{key}a")] {
            assert_eq!(key_shape(other.as_bytes()), KeyShape::Other, "{other}");
        }
    }

    #[test]
    fn kinds_have_distinct_codes() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
