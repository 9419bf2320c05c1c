//! Bodies that a signature is over: read whole, and hashed.

use portcullis_model::verdict::DigestAlgorithm;
use sha2::{Digest as _, Sha256, Sha512};

/// The digest of a body that comes in pieces.
#[derive(Clone)]
pub enum BodyDigest {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl BodyDigest {
    /// The digest of nothing, so far.
    #[must_use]
    pub fn new(algorithm: DigestAlgorithm) -> BodyDigest {
        match algorithm {
            DigestAlgorithm::Sha256 => BodyDigest::Sha256(Sha256::new()),
            DigestAlgorithm::Sha512 => BodyDigest::Sha512(Sha512::new()),
        }
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            BodyDigest::Sha256(hash) => hash.update(bytes),
            BodyDigest::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self {
            BodyDigest::Sha256(hash) => hash.finalize().to_vec(),
            BodyDigest::Sha512(hash) => hash.finalize().to_vec(),
        }
    }
}
