//! Kinds of credentials, where they are presented, and the digest by which a key is known.

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
}

impl Kind {
    /// Every kind, in the order of [`Kind::code`].
    pub const ALL: [Kind; 5] = [Kind::Workspace, Kind::Tenant, Kind::Management, Kind::Personal, Kind::Client];

    /// The kind's name, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Workspace => "workspace",
            Kind::Tenant => "tenant",
            Kind::Management => "management",
            Kind::Personal => "personal",
            Kind::Client => "client",
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
        }
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
    fn kinds_have_distinct_codes() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
