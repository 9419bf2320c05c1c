//! Access tokens for tests, signed here with keys that everybody knows.

use anyhow::{Context as _, Result};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use p256::ecdsa::signature::Signer as _;
use portcullis_model::source::{TokenAlgorithm, TokenKey, TokenKeyMaterial};
use rsa::BoxedUint;
use rsa::pkcs1v15::SigningKey as RsaSigner;
use rsa::signature::SignatureEncoding as _;
use sha2::Sha256;

/// A private key and the id that its public half has in a policy.
pub struct Minter {
    /// The key's id.
    pub kid: String,
    key: Key,
}

enum Key {
    EdDsa(Box<ed25519_dalek::SigningKey>),
    Es256(Box<p256::ecdsa::SigningKey>),
    Rs256(Box<RsaSigner<Sha256>>),
}

/// The RSA key of RFC 7515 appendix A.2: modulus, private exponent and primes. Its public exponent is 65537.
const RSA: [&str; 4] = [
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
];

impl Minter {
    /// The key of that algorithm and number. One RSA key is all there is.
    ///
    /// # Errors
    /// Never, unless a constant is no key.
    pub fn new(kid: &str, algorithm: TokenAlgorithm, number: u8) -> Result<Minter> {
        let key = match algorithm {
            TokenAlgorithm::EdDsa => {
                Key::EdDsa(Box::new(ed25519_dalek::SigningKey::from_bytes(&[number.wrapping_add(1); 32])))
            }
            TokenAlgorithm::Es256 => {
                Key::Es256(Box::new(p256::ecdsa::SigningKey::from_slice(&[number.wrapping_add(1); 32])?))
            }
            TokenAlgorithm::Rs256 => {
                let [n, d, p, q] = RSA.map(|part| Base64UrlUnpadded::decode_vec(part).unwrap_or_default());
                let [n, d, p, q] = [n, d, p, q].map(|part| BoxedUint::from_be_slice_vartime(&part));
                let key = rsa::PrivateKey::from_components(n, BoxedUint::from(65_537u64), d, vec![p, q])?;
                Key::Rs256(Box::new(RsaSigner::new(key)))
            }
        };
        Ok(Minter { kid: kid.to_owned(), key })
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> TokenAlgorithm {
        match self.key {
            Key::EdDsa(_) => TokenAlgorithm::EdDsa,
            Key::Es256(_) => TokenAlgorithm::Es256,
            Key::Rs256(_) => TokenAlgorithm::Rs256,
        }
    }

    /// The public half, as a policy has it.
    #[must_use]
    pub fn public(&self) -> TokenKey {
        let text = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
        let material = match &self.key {
            Key::EdDsa(key) => TokenKeyMaterial::EdDsa { x: text(key.verifying_key().as_bytes()) },
            Key::Es256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let [x, y] =
                    [point.x(), point.y()].map(|part| text(part.map(|part| part.as_slice()).unwrap_or_default()));
                TokenKeyMaterial::Es256 { x, y }
            }
            Key::Rs256(_) => TokenKeyMaterial::Rs256 { n: RSA[0].to_owned(), e: "AQAB".to_owned() },
        };
        TokenKey { kid: self.kid.clone(), material }
    }

    /// Signs a header and a payload, whatever they are.
    #[must_use]
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let text = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
        let signed = format!("{}.{}", text(header.as_bytes()), text(payload.as_bytes()));
        let signature = match &self.key {
            Key::EdDsa(key) => key.sign(signed.as_bytes()).to_bytes().to_vec(),
            Key::Es256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(signed.as_bytes());
                signature.to_bytes().to_vec()
            }
            Key::Rs256(key) => key.sign(signed.as_bytes()).to_vec(),
        };
        format!("{signed}.{}", text(&signature))
    }

    /// The header of a token by this key.
    #[must_use]
    pub fn header(&self) -> serde_json::Value {
        serde_json::json!({ "typ": "at+jwt", "alg": self.algorithm().as_str(), "kid": self.kid })
    }

    /// A token with these claims.
    #[must_use]
    pub fn token(&self, claims: &serde_json::Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }
}

/// The minter of that name: an algorithm, and a number behind a hyphen. Its `kid` is the name.
///
/// # Errors
/// Where the name is none.
pub fn minter(name: &str) -> Result<Minter> {
    let (algorithm, number) = name.split_once('-').context("a key is named `EdDSA-1`")?;
    let algorithm = [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256, TokenAlgorithm::Rs256]
        .into_iter()
        .find(|known| known.as_str() == algorithm)
        .with_context(|| format!("there is no algorithm `{algorithm}`"))?;
    Minter::new(name, algorithm, number.parse()?)
}
