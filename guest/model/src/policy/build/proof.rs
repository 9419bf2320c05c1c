//! The records that proofs are checked with.

use super::{Encoder, bytes};
use crate::policy::proof::{ALGORITHM_EDDSA, ALGORITHM_ES256, ALGORITHM_RS256, HASH_SHA512, key_parts};
use crate::source::{CanonicalForm, SignatureHash, SignatureProfile, TokenAlgorithm, TokenKey};

impl Encoder<'_> {
    pub(super) fn profiles(&mut self, profiles: &[SignatureProfile]) -> u32 {
        let mut sorted: Vec<_> = profiles.iter().collect();
        sorted.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let mut records = Vec::new();
        for profile in sorted {
            let form = match profile.canonical_form {
                CanonicalForm::Escher => 0,
                CanonicalForm::Antavo => 1,
                CanonicalForm::Aws => 2,
            };
            let hash = match profile.hash {
                SignatureHash::Sha256 => 0,
                SignatureHash::Sha512 => HASH_SHA512,
            };
            let lower = str::to_ascii_lowercase;
            records.push([
                self.draft.text(profile.id.as_str()),
                self.draft.text(&profile.algorithm_prefix),
                self.draft.text(&profile.vendor_key),
                self.draft.text(&lower(&profile.auth_header)),
                self.draft.text(&lower(&profile.date_header)),
                self.draft.text(&profile.credential_scope),
                self.draft.text(&lower(profile.nonce_header.as_deref().unwrap_or_default())),
                form | hash,
                profile.clock_skew_s,
                profile.presigned_expires_s,
            ]);
        }
        self.draft.list(records.into_iter().map(bytes::<10, 40>))
    }

    pub(super) fn token_keys(&mut self, keys: &[TokenKey]) -> u32 {
        let mut sorted: Vec<_> = keys.iter().collect();
        sorted.sort_unstable_by(|a, b| a.kid.cmp(&b.kid));
        let mut records = Vec::new();
        for key in sorted {
            let algorithm = match key.material.algorithm() {
                TokenAlgorithm::EdDsa => ALGORITHM_EDDSA,
                TokenAlgorithm::Es256 => ALGORITHM_ES256,
                TokenAlgorithm::Rs256 => ALGORITHM_RS256,
            };
            // A key that is none was refused before.
            let [first, second] = key_parts(&key.material).unwrap_or_default();
            let one = |part: &[u8]| part.iter().map(|byte| [*byte]).collect::<Vec<_>>();
            let (first, second) = (self.draft.list(one(&first).into_iter()), self.draft.list(one(&second).into_iter()));
            records.push([self.draft.text(&key.kid), algorithm, first, second]);
        }
        self.draft.list(records.into_iter().map(bytes::<4, 16>))
    }
}
