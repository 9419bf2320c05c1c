//! Keys that sign access tokens.
//!
//! A key is made by the library that signs with it, sealed under the master key, and named after its public half, so that no
//! two have one name and none can be swapped for another.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use portcullis_model::source::{TokenAlgorithm, TokenKey, TokenKeyMaterial};
use portcullis_model::time::UnixTime;
use portcullis_store::TokenKeyRecord;
use rand::Rng as _;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts as _;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::seal::{SealError, Sealer};

/// The type of an access token (RFC 9068 section 2.1).
const TYPE: &str = "at+jwt";
/// The bits of an RSA key: the least that is taken, and enough for a key of a few months (NIST SP 800-57).
const RSA_BITS: usize = 2048;
/// What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410 section 7).
const ED25519_PKCS8: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// A key that signs, open.
pub(crate) struct Signer {
    pub(crate) kid: String,
    pub(crate) algorithm: TokenAlgorithm,
    pub(crate) public: TokenKeyMaterial,
    pub(crate) signs_from: UnixTime,
    header: Header,
    key: EncodingKey,
}

/// A key that was just made.
pub(crate) struct NewTokenKey {
    pub(crate) record: TokenKeyRecord,
    pub(crate) public: TokenKey,
}

/// A key could not be made, or nothing could be signed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key of access tokens cannot be made or used")]
pub struct TokenKeyError;

impl NewTokenKey {
    /// Makes a key that signs from a time on.
    pub(crate) fn make(
        algorithm: TokenAlgorithm,
        sealer: &Sealer,
        signs_from: UnixTime,
    ) -> Result<NewTokenKey, crate::Failed> {
        let private = generate(algorithm)?;
        let material = public(algorithm, &private)?;
        let kid = thumbprint(&material);
        let text = Zeroizing::new(base16ct::lower::encode_string(&private));
        let sealed = sealer.seal(&SecretString::from(text.as_str()), &place(&kid))?;
        let record = TokenKeyRecord { kid: kid.clone(), algorithm, sealed, signs_from };
        Ok(NewTokenKey { record, public: TokenKey { kid, material } })
    }
}

impl Signer {
    /// Opens a sealed key.
    pub(crate) fn open(sealer: &Sealer, stored: &TokenKeyRecord) -> Result<Signer, SealError> {
        let text = sealer.open_sealed(&stored.sealed, &place(&stored.kid))?;
        let private = Zeroizing::new(base16ct::lower::decode_vec(text.expose_secret()).map_err(|_| SealError)?);
        let public = public(stored.algorithm, &private).map_err(|_| SealError)?;
        if thumbprint(&public) != stored.kid {
            return Err(SealError);
        }
        let (algorithm, key) = match stored.algorithm {
            TokenAlgorithm::EdDsa => (Algorithm::EdDSA, EncodingKey::from_ed_der(&private)),
            TokenAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_der(&private)),
            TokenAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_der(&private)),
        };
        let header = Header { typ: Some(TYPE.to_owned()), kid: Some(stored.kid.clone()), ..Header::new(algorithm) };
        let (kid, signs_from) = (stored.kid.clone(), stored.signs_from);
        Ok(Signer { kid, algorithm: stored.algorithm, public, signs_from, header, key })
    }

    /// A token of these claims.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, TokenKeyError> {
        jsonwebtoken::encode(&self.header, claims, &self.key).map_err(|_| TokenKeyError)
    }
}

/// What a key is sealed for.
fn place(kid: &str) -> String {
    format!("token/{kid}")
}

/// A private key: PKCS #8, and for RSA what is in it (PKCS #1), as jsonwebtoken takes them.
fn generate(algorithm: TokenAlgorithm) -> Result<Zeroizing<Vec<u8>>, TokenKeyError> {
    match algorithm {
        TokenAlgorithm::EdDsa => {
            let mut private = Zeroizing::new(ED25519_PKCS8.to_vec());
            let mut secret = Zeroizing::new([0; 32]);
            rand::rng().fill_bytes(secret.as_mut_slice());
            private.reserve_exact(secret.len());
            private.extend_from_slice(secret.as_slice());
            Ok(private)
        }
        TokenAlgorithm::Es256 => {
            let document = p256::SecretKey::random(&mut OsRng).to_pkcs8_der().map_err(|_| TokenKeyError)?;
            Ok(Zeroizing::new(document.as_bytes().to_vec()))
        }
        TokenAlgorithm::Rs256 => {
            let key = rsa::RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|_| TokenKeyError)?;
            let document = key.to_pkcs1_der().map_err(|_| TokenKeyError)?;
            Ok(Zeroizing::new(document.as_bytes().to_vec()))
        }
    }
}

/// The public half of a private key.
fn public(algorithm: TokenAlgorithm, private: &[u8]) -> Result<TokenKeyMaterial, TokenKeyError> {
    let base64 = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
    match algorithm {
        TokenAlgorithm::EdDsa => {
            let secret = private.strip_prefix(&ED25519_PKCS8).and_then(|secret| secret.try_into().ok());
            let key = SigningKey::from_bytes(secret.ok_or(TokenKeyError)?);
            Ok(TokenKeyMaterial::EdDsa { x: base64(key.verifying_key().as_bytes()) })
        }
        TokenAlgorithm::Es256 => {
            let key = p256::SecretKey::from_pkcs8_der(private).map_err(|_| TokenKeyError)?;
            let point = key.public_key().to_encoded_point(false);
            let (x, y) = (point.x().ok_or(TokenKeyError)?, point.y().ok_or(TokenKeyError)?);
            Ok(TokenKeyMaterial::Es256 { x: base64(x), y: base64(y) })
        }
        TokenAlgorithm::Rs256 => {
            let key = rsa::RsaPrivateKey::from_pkcs1_der(private).map_err(|_| TokenKeyError)?;
            Ok(TokenKeyMaterial::Rs256 { n: base64(&key.n().to_bytes_be()), e: base64(&key.e().to_bytes_be()) })
        }
    }
}

/// The thumbprint of a key (RFC 7638 section 3): the SHA-256 of its members that are required, in the order of their names,
/// without white space. Their values are base64url and need no escaping.
fn thumbprint(public: &TokenKeyMaterial) -> String {
    let members = match public {
        TokenKeyMaterial::EdDsa { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
        TokenKeyMaterial::Es256 { x, y } => format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#),
        TokenKeyMaterial::Rs256 { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
    };
    Base64UrlUnpadded::encode_string(&Sha256::digest(members.as_bytes()))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};

    use super::*;
    use crate::master_key::MasterKey;

    const ALL: [TokenAlgorithm; 3] = [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256, TokenAlgorithm::Rs256];

    #[test]
    fn what_each_algorithm_signs_verifies_with_the_published_key() {
        for algorithm in ALL {
            let sealer = Sealer::new(&MasterKey::random());
            let made = NewTokenKey::make(algorithm, &sealer, UnixTime::default()).unwrap();
            let signer = Signer::open(&sealer, &made.record).unwrap();
            assert_eq!((&signer.kid, &signer.public), (&made.public.kid, &made.public.material));
            let token = signer.sign(&json!({ "sub": "c1", "exp": 4_000_000_000_u64 })).unwrap();
            let header = decode_header(&token).unwrap();
            assert_eq!(header.typ.as_deref(), Some("at+jwt"));
            assert_eq!(header.kid.as_ref(), Some(&made.public.kid));
            let jwk: Jwk = serde_json::from_value(super::super::jwk(&signer.kid, &signer.public)).unwrap();
            let key = DecodingKey::from_jwk(&jwk).unwrap();
            let read = decode::<Value>(&token, &key, &Validation::new(header.alg)).unwrap();
            assert_eq!(read.claims["sub"], "c1", "{algorithm:?}");
            assert_eq!(header.alg, read.header.alg);
        }
    }

    #[test]
    fn a_sealed_key_opens_under_its_master_key_as_itself_alone() {
        let sealer = Sealer::new(&MasterKey::random());
        let make = || NewTokenKey::make(TokenAlgorithm::EdDsa, &sealer, UnixTime::default()).unwrap().record;
        let (one, other) = (make(), make());
        assert!(Signer::open(&sealer, &one).is_ok());
        assert!(Signer::open(&Sealer::new(&MasterKey::random()), &one).is_err(), "another master key");
        let swapped = TokenKeyRecord { sealed: other.sealed, ..one.clone() };
        assert!(Signer::open(&sealer, &swapped).is_err(), "another key under its name");
        assert!(Signer::open(&sealer, &TokenKeyRecord { algorithm: TokenAlgorithm::Es256, ..one }).is_err());
    }

    #[test]
    fn a_thumbprint_is_that_of_rfc_8037() {
        // RFC 8037 appendix A.3.
        let public = TokenKeyMaterial::EdDsa { x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned() };
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
