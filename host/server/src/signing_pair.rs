//! The keys of one signer, for a check without a server.
//!
//! A server derives the keys of all signers from the secrets that it holds. A policy alone has none, so whoever checks with
//! it has to bring the one that the request was signed with.

use portcullis_engine::LoadError;
use portcullis_model::credential::SecretDigest;
use portcullis_model::key_sheet::{Day, encode};
use portcullis_model::policy::{self, Compiled, Policy, Unreadable};
use portcullis_model::signing::{day_key, presets};
use portcullis_model::source::SignatureProfile;
use portcullis_model::time::UnixTime;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::input::{Inputs, Origin};

/// The longest file of a key id and a secret in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// A key id and its secret.
pub(crate) struct SigningPair {
    bytes: Zeroizing<Vec<u8>>,
}

impl SigningPair {
    /// Reads a file: the key id on the first line, the secret on the second.
    ///
    /// # Errors
    /// Where it cannot be read, or has other than two lines.
    pub(crate) fn read(from: &Origin, inputs: &mut Inputs) -> Result<SigningPair, Error> {
        let pair = SigningPair { bytes: Zeroizing::new(inputs.whole(from, MAX_FILE_BYTES)?) };
        pair.split().map(|_| ()).ok_or(Error::Options {
            what: "the file of the signing secret is not of two lines",
            fix: "write the key id on the first line and the secret on the second",
        })?;
        Ok(pair)
    }

    fn split(&self) -> Option<(&[u8], &[u8])> {
        let mut lines = self.bytes.trim_ascii().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let pair = (lines.next()?, lines.next()?);
        (lines.next().is_none() && !pair.0.is_empty() && !pair.1.is_empty()).then_some(pair)
    }

    /// The key sheets of this signer alone: of the days that can count at a time, see `portcullis_model::key_sheet`.
    ///
    /// # Errors
    /// Where the policy cannot be read, or nobody signs with that key id.
    pub(crate) fn sheets(
        &self,
        from: &Origin,
        (policy_from, base): &(Origin, Compiled),
        deltas: &[(Origin, Compiled)],
        now: UnixTime,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
        let (key_id, secret) = self.split().unwrap_or_default();
        let refused = |from: &Origin, error: policy::LoadError| Error::Refused {
            from: from.clone(),
            source: LoadError::Invalid(error.to_string()),
        };
        let mut policy = Policy::open(base.bytes().to_vec()).map_err(|error| refused(policy_from, error))?;
        for (from, delta) in deltas {
            let prepared = policy.prepare(delta.bytes().to_vec());
            prepared.and_then(|prepared| policy.apply(prepared)).map_err(|error| refused(from, error))?;
        }
        let signer = signer(&policy, key_id).map_err(|Unreadable| refused(policy_from, policy::LoadError::Damaged))?;
        let (profile, slot) = signer.ok_or(Error::Options {
            what: "nobody signs with the key id of the signing secret's file by this policy",
            fix: "give the key id of a workspace key that has a signature profile",
        })?;
        let today = Day::of(now).0;
        let days = [today.checked_sub(2), today.checked_sub(1), Some(today), today.checked_add(1)];
        let sheet = |day| {
            let key = day_key(&profile, secret, day);
            encode(day, slot, &[key])
                .map(Zeroizing::new)
                .map_err(|error| Error::Refused { from: from.clone(), source: LoadError::Invalid(error.to_string()) })
        };
        days.into_iter().flatten().map(Day).map(sheet).collect()
    }
}

/// How a key id signs, and the place of its keys.
fn signer(policy: &Policy, key_id: &[u8]) -> Result<Option<(SignatureProfile, u32)>, Unreadable> {
    let digest = SecretDigest::new(Sha256::digest(key_id).into());
    let Some(credential) = policy.credential(&digest)? else { return Ok(None) };
    let Some(signer) = credential.signer()? else { return Ok(None) };
    let Some(profile) = policy.profile(signer.profile.as_bytes())? else { return Ok(None) };
    // The rest of a profile says how requests are read, which is the gate's to do.
    let derives = SignatureProfile {
        algorithm_prefix: profile.algorithm_prefix.to_owned(),
        hash: profile.hash,
        ..presets::escher(profile.credential_scope)
    };
    Ok(Some((derives, signer.slot)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_two_lines() {
        let split = |text: &str| {
            let pair = SigningPair { bytes: Zeroizing::new(text.as_bytes().to_vec()) };
            pair.split().map(|(id, secret)| (id.to_vec(), secret.to_vec()))
        };
        let pair = Some((b"id".to_vec(), b"se cret".to_vec()));
        assert_eq!(split("id\nse cret"), pair);
        assert_eq!(split("id\r\nse cret\r\n"), pair);
        for wrong in ["", "id", "id\n", "\nsecret", "id\n\nsecret", "id\nsecret\nmore"] {
            assert_eq!(split(wrong), None, "{wrong:?}");
        }
    }
}
