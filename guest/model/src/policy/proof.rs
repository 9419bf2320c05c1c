//! What proofs are checked with, read in place.

use base64ct::{Base64UrlUnpadded, Encoding as _};

use super::Unreadable;
use super::format::{Fragment, word};
use super::layers::Policy;
use crate::source::{CanonicalForm, SignatureHash, TokenKeyMaterial};

/// The lowest bits of a profile's flags are its canonical form; this one says SHA-512.
pub(super) const HASH_SHA512: u32 = 1 << 8;
const FORM_BITS: u32 = 0xff;

pub(super) const ALGORITHM_EDDSA: u32 = 1;
pub(super) const ALGORITHM_ES256: u32 = 2;
pub(super) const ALGORITHM_RS256: u32 = 3;

/// A way to sign requests, see [`SignatureProfile`](crate::source::SignatureProfile). Names of header fields are in lower
/// case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile<'p> {
    /// Its stable id.
    pub id: &'p str,
    /// What the algorithm's name begins with.
    pub algorithm_prefix: &'p str,
    /// The middle of the names of presigned parameters.
    pub vendor_key: &'p str,
    /// The header field of the signature.
    pub auth_header: &'p str,
    /// The header field of the date.
    pub date_header: &'p str,
    /// What the credential is confined to.
    pub credential_scope: &'p str,
    /// The header field of a nonce; empty where there is none.
    pub nonce_header: &'p str,
    /// How queries and paths are made canonical.
    pub canonical_form: CanonicalForm,
    /// The hash.
    pub hash: SignatureHash,
    /// How far the date may be from the time, in seconds.
    pub clock_skew_s: u32,
    /// The longest time that a presigned URL may be valid, in seconds; none is accepted where it is 0.
    pub presigned_expires_s: u32,
}

/// A public key of access tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenKey<'p> {
    /// What a token's header names it by.
    pub kid: &'p str,
    /// The key, whose algorithm is the only one that its tokens may have.
    pub bytes: TokenKeyBytes<'p>,
}

/// The bytes of a public key, by its algorithm. Lengths are checked where a policy is built; whoever uses them checks again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKeyBytes<'p> {
    /// Ed25519, 32 bytes.
    EdDsa(&'p [u8]),
    /// P-256: both coordinates, 32 bytes each.
    Es256 {
        /// The first coordinate.
        x: &'p [u8],
        /// The second.
        y: &'p [u8],
    },
    /// RSA, big-endian.
    Rs256 {
        /// The modulus.
        n: &'p [u8],
        /// The exponent.
        e: &'p [u8],
    },
}

impl Policy {
    /// The profile of that id, compared as bytes.
    pub fn profile(&self, id: &[u8]) -> Result<Option<Profile<'_>>, Unreadable> {
        let (fragment, record) = self.installation()?;
        for entry in fragment.list::<40>(word(record, 12)?)? {
            if fragment.raw_text(word(entry, 0)?)? == id {
                return profile(fragment, entry).map(Some);
            }
        }
        Ok(None)
    }

    /// The token key of that `kid`.
    pub fn token_key(&self, kid: &str) -> Result<Option<TokenKey<'_>>, Unreadable> {
        let (fragment, record) = self.installation()?;
        for entry in fragment.list::<16>(word(record, 16)?)? {
            if fragment.raw_text(word(entry, 0)?)? == kid.as_bytes() {
                return token_key(fragment, entry).map(Some);
            }
        }
        Ok(None)
    }
}

fn profile<'p>(fragment: &'p Fragment, entry: &[u8; 40]) -> Result<Profile<'p>, Unreadable> {
    let text = |at| fragment.text(word(entry, at)?);
    let flags = word(entry, 28)?;
    Ok(Profile {
        id: text(0)?,
        algorithm_prefix: text(4)?,
        vendor_key: text(8)?,
        auth_header: text(12)?,
        date_header: text(16)?,
        credential_scope: text(20)?,
        nonce_header: text(24)?,
        canonical_form: match flags & FORM_BITS {
            0 => CanonicalForm::Escher,
            1 => CanonicalForm::Antavo,
            2 => CanonicalForm::Aws,
            _ => return Err(Unreadable),
        },
        hash: if flags & HASH_SHA512 == 0 { SignatureHash::Sha256 } else { SignatureHash::Sha512 },
        clock_skew_s: word(entry, 32)?,
        presigned_expires_s: word(entry, 36)?,
    })
}

fn token_key<'p>(fragment: &'p Fragment, entry: &[u8; 16]) -> Result<TokenKey<'p>, Unreadable> {
    let part = |at| Ok(fragment.list::<1>(word(entry, at)?)?.as_flattened());
    let (first, second) = (part(8)?, part(12)?);
    let bytes = match word(entry, 4)? {
        ALGORITHM_EDDSA => TokenKeyBytes::EdDsa(first),
        ALGORITHM_ES256 => TokenKeyBytes::Es256 { x: first, y: second },
        ALGORITHM_RS256 => TokenKeyBytes::Rs256 { n: first, e: second },
        _ => return Err(Unreadable),
    };
    Ok(TokenKey { kid: fragment.text(word(entry, 0)?)?, bytes })
}

/// The two parts of a key as bytes; the second is empty where there is one. Nothing where they have no such lengths.
pub(super) fn key_parts(material: &TokenKeyMaterial) -> Option<[Vec<u8>; 2]> {
    let part = |text: &str| Base64UrlUnpadded::decode_vec(text).ok();
    let (first, second) = match material {
        TokenKeyMaterial::EdDsa { x } => (part(x)?, Vec::new()),
        TokenKeyMaterial::Es256 { x, y } => (part(x)?, part(y)?),
        TokenKeyMaterial::Rs256 { n, e } => (part(n)?, part(e)?),
    };
    let fits = match material {
        TokenKeyMaterial::EdDsa { .. } => first.len() == 32,
        TokenKeyMaterial::Es256 { .. } => first.len() == 32 && second.len() == 32,
        TokenKeyMaterial::Rs256 { .. } => (256..=512).contains(&first.len()) && (1..=8).contains(&second.len()),
    };
    fits.then_some([first, second])
}
