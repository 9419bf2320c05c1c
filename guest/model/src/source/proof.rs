//! What proofs are checked with: profiles of request signatures, and the public keys of access tokens.

use serde::{Deserialize, Serialize};

use crate::id::Id;

/// One way to sign requests: Escher's protocol, a descendant of AWS Signature Version 4, with the names that its users chose.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureProfile {
    /// Its stable id.
    pub id: Id,
    /// What the algorithm's name begins with: `ANTAVO` of `ANTAVO-HMAC-SHA256`. Also what the secret is prefixed with.
    pub algorithm_prefix: String,
    /// The middle of the names of presigned parameters: `Antavo` of `X-Antavo-Signature`.
    pub vendor_key: String,
    /// The hash of the HMAC and of the body.
    #[serde(default)]
    pub hash: SignatureHash,
    /// The header field of the signature.
    pub auth_header: String,
    /// The header field of the date.
    pub date_header: String,
    /// What the credential is confined to, such as `eu/api/antavo_request`.
    pub credential_scope: String,
    /// How far the date may be from the time, in seconds, inclusive at both ends.
    #[serde(default = "three_hundred")]
    pub clock_skew_s: u32,
    /// How queries and paths are made canonical.
    pub canonical_form: CanonicalForm,
    /// The longest time that a presigned URL may be valid, in seconds; none is accepted where it is 0.
    #[serde(default = "a_day")]
    pub presigned_expires_s: u32,
    /// The header field of a nonce. A request that signs one is accepted once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce_header: Option<String>,
}

fn three_hundred() -> u32 {
    300
}

fn a_day() -> u32 {
    86_400
}

/// A hash for signatures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureHash {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How a request is written before it is signed. Three are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CanonicalForm {
    /// Escher's libraries: parameters are form-decoded, encoded anew with `!` and `*` literal, and sorted as a whole.
    Escher,
    /// Antavo's: as Escher's, but `!*'()` are all encoded and `%2B` counts as a space.
    Antavo,
    /// AWS Signature Version 4: parameters are sorted by name, then by value, and the path is encoded once more.
    Aws,
}

/// A public key of access tokens, known by its `kid`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKey {
    /// What a token's header names it by (RFC 7515 section 4.1.4).
    pub kid: String,
    /// The key. Its algorithm is the only one that a token of this key may have.
    pub material: TokenKeyMaterial,
}

/// A public key, as the members of a JWK (RFC 7517) in base64url.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "alg", deny_unknown_fields)]
pub enum TokenKeyMaterial {
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa {
        /// The 32 bytes of the key.
        x: String,
    },
    /// ECDSA with P-256 and SHA-256 (RFC 7518 section 3.4).
    #[serde(rename = "ES256")]
    Es256 {
        /// The first coordinate, 32 bytes.
        x: String,
        /// The second coordinate, 32 bytes.
        y: String,
    },
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3).
    #[serde(rename = "RS256")]
    Rs256 {
        /// The modulus, 2048 to 4096 bits.
        n: String,
        /// The exponent.
        e: String,
    },
}

/// An algorithm of access tokens (RFC 7518 section 3.1, RFC 8037 section 3.1). There is none with a shared key: whoever
/// could verify with it could mint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum TokenAlgorithm {
    /// Ed25519.
    #[default]
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
}

impl TokenAlgorithm {
    /// All of them.
    pub const ALL: [TokenAlgorithm; 3] = [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256, TokenAlgorithm::Rs256];

    /// Its name in a token's header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenAlgorithm::EdDsa => "EdDSA",
            TokenAlgorithm::Es256 => "ES256",
            TokenAlgorithm::Rs256 => "RS256",
        }
    }
}

impl TokenKeyMaterial {
    /// The algorithm that the key is bound to.
    #[must_use]
    pub fn algorithm(&self) -> TokenAlgorithm {
        match self {
            TokenKeyMaterial::EdDsa { .. } => TokenAlgorithm::EdDsa,
            TokenKeyMaterial::Es256 { .. } => TokenAlgorithm::Es256,
            TokenKeyMaterial::Rs256 { .. } => TokenAlgorithm::Rs256,
        }
    }
}
