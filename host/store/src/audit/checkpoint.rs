//! Checkpoints and stubs: what is signed of all chains at once, and what is left of rows that were removed.

use std::fmt;
use std::sync::Arc;

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use sha2::{Digest as _, Sha256};

use super::{ChainReport, RowHash};

/// What is signed of a checkpoint.
pub type CheckpointDigest = [u8; 32];

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// How long every chain was at a moment, signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Its number, from 1.
    pub number: u64,
    /// The revision that was in the store.
    pub revision: Revision,
    /// When.
    pub at: UnixTime,
    /// The chains, in the order of their tenants' ids; none is there twice.
    pub chains: Vec<ChainMark>,
    /// The signature of its digest.
    pub signature: Signature,
}

/// How far a chain is vouched for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainMark {
    /// The tenant.
    pub tenant: Id,
    /// The number of its newest row.
    pub count: u64,
    /// That row's hash.
    pub hash: RowHash,
    /// What was removed of it.
    pub stub: Option<Stub>,
}

/// What is left of the oldest rows of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stub {
    /// The number of the newest row that was removed: as many were.
    pub number: u64,
    /// That row's hash, from which the chain goes on.
    pub hash: RowHash,
}

impl Checkpoint {
    /// What is signed.
    #[must_use]
    pub fn digest(&self) -> CheckpointDigest {
        let mut sha = Sha256::new();
        sha.update(b"portcullis audit checkpoint 1\n");
        sha.update(self.number.to_le_bytes());
        sha.update(self.revision.0.to_le_bytes());
        sha.update(self.at.as_secs().to_le_bytes());
        // A length is at most 64 bits wide on every platform there is.
        sha.update(u64::try_from(self.chains.len()).unwrap_or(u64::MAX).to_le_bytes());
        for chain in &self.chains {
            let tenant = chain.tenant.as_str();
            sha.update(u32::try_from(tenant.len()).unwrap_or(u32::MAX).to_le_bytes());
            sha.update(tenant.as_bytes());
            sha.update(chain.count.to_le_bytes());
            sha.update(chain.hash);
            let (number, hash) = chain.stub.map_or((0, super::ORIGIN), |stub| (stub.number, stub.hash));
            sha.update(number.to_le_bytes());
            sha.update(hash);
        }
        sha.finalize().into()
    }

    /// Whether its chains are in order, so that each is there once.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.chains.is_sorted_by(|a, b| a.tenant.as_str() < b.tenant.as_str())
    }

    /// What it says of a chain.
    #[must_use]
    pub fn mark(&self, tenant: &Id) -> Option<&ChainMark> {
        let found = self.chains.binary_search_by(|chain| chain.tenant.as_str().cmp(tenant.as_str()));
        found.ok().and_then(|index| self.chains.get(index))
    }
}

/// Makes a signature.
pub type Sign = dyn Fn(&CheckpointDigest) -> Signature + Send + Sync;

/// Whether a signature is one of its own.
pub type HasSigned = dyn Fn(&CheckpointDigest, &Signature) -> bool + Send + Sync;

/// What signs checkpoints and knows its own signatures. The store itself has no key.
#[derive(Clone)]
pub struct Notary {
    /// Signs.
    pub sign: Arc<Sign>,
    /// Whether it has signed that.
    pub has_signed: Arc<HasSigned>,
}

impl fmt::Debug for Notary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notary").finish_non_exhaustive()
    }
}

/// What came of making a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpointed {
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// Whether it was made now; nothing was added since the last one otherwise.
    pub is_new: bool,
    /// Chains that do not go on from where they were signed last. They are not signed further.
    pub broken: Vec<ChainReport>,
}

/// What was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// From so many chains.
    pub chains: u64,
    /// So many rows.
    pub rows: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let mark = |tenant: &str, stub| ChainMark { tenant: tenant.parse().unwrap(), count: 7, hash: [7; 32], stub };
        Checkpoint {
            number: 3,
            revision: Revision(5),
            at: UnixTime::from_secs(1_750_000_000).unwrap(),
            chains: vec![mark("acme", None), mark("globex", Some(Stub { number: 2, hash: [2; 32] }))],
            signature: [0; 64],
        }
    }

    #[test]
    fn the_digest_is_the_one_of_the_documented_layout() {
        let mut bytes = b"portcullis audit checkpoint 1\n".to_vec();
        for number in [3, 5, 1_750_000_000, 2_u64] {
            bytes.extend(number.to_le_bytes());
        }
        for (tenant, removed, hash) in [("acme", 0_u64, [0; 32]), ("globex", 2, [2; 32])] {
            bytes.extend(u32::try_from(tenant.len()).unwrap().to_le_bytes());
            bytes.extend(tenant.as_bytes());
            bytes.extend(7_u64.to_le_bytes());
            bytes.extend([7; 32]);
            bytes.extend(removed.to_le_bytes());
            bytes.extend(hash);
        }
        let expected: CheckpointDigest = Sha256::digest(&bytes).into();
        assert_eq!(checkpoint().digest(), expected);
    }

    #[test]
    fn every_field_changes_the_digest() {
        type Edit = fn(&mut Checkpoint);
        let edits: [Edit; 9] = [
            |c| c.number += 1,
            |c| c.revision.0 += 1,
            |c| c.at = UnixTime::default(),
            |c| c.chains.truncate(1),
            |c| c.chains[0].tenant = "acmf".parse().unwrap(),
            |c| c.chains[0].count += 1,
            |c| c.chains[0].hash[31] ^= 1,
            |c| c.chains[0].stub = Some(Stub { number: 1, hash: [0; 32] }),
            |c| c.chains[1].stub = None,
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let mut edited = checkpoint();
            edit(&mut edited);
            assert_ne!(edited.digest(), checkpoint().digest(), "{number}");
        }
    }

    #[test]
    fn a_chain_that_is_there_twice_is_noticed() {
        let mut twice = checkpoint();
        assert!(twice.is_in_order() && twice.mark(&"globex".parse().unwrap()).is_some());
        twice.chains[0].tenant = "globex".parse().unwrap();
        assert!(!twice.is_in_order());
    }
}
