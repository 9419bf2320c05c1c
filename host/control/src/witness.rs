//! A signed checkpoint as a line of JSON: how it leaves the store, to be compared with it later.
//!
//! The newest is in every revision of the policy, so that each node that holds the policy is a witness of the audit.

use std::sync::{Arc, Mutex, PoisonError};

use portcullis_model::id::{Id, Revision};
use portcullis_model::time::UnixTime;
use portcullis_store::{ChainMark, Checkpoint, Stub};
use serde::{Deserialize, Serialize};

use crate::PublicKey;

/// The version of the line.
const FORMAT: u32 = 1;
/// The longest line that a delta carries: some three hundred chains. Deltas stay in the memory of every instance.
const MAX_DELTA_BYTES: usize = 64 * 1024;
/// The longest line that a base carries: some twenty thousand chains.
const MAX_BASE_BYTES: usize = 4 << 20;

/// A checkpoint as it is written. Hashes and keys are in hex.
#[derive(Serialize, Deserialize)]
pub struct CheckpointLine {
    format: u32,
    number: u64,
    revision: u64,
    /// In seconds since 1970, as it is signed.
    at: u64,
    public_key: String,
    signature: String,
    chains: Vec<MarkLine>,
}

#[derive(Serialize, Deserialize)]
struct MarkLine {
    tenant: Id,
    count: u64,
    hash: String,
    removed: u64,
    removed_hash: Option<String>,
}

impl CheckpointLine {
    /// The line of a checkpoint, with the public half of the key that signed it.
    #[must_use]
    pub fn of(checkpoint: &Checkpoint, key: &PublicKey) -> CheckpointLine {
        let chains = checkpoint.chains.iter().map(|mark| MarkLine {
            tenant: mark.tenant.clone(),
            count: mark.count,
            hash: hex(&mark.hash),
            removed: mark.stub.map_or(0, |stub| stub.number),
            removed_hash: mark.stub.map(|stub| hex(&stub.hash)),
        });
        CheckpointLine {
            format: FORMAT,
            number: checkpoint.number,
            revision: checkpoint.revision.0,
            at: checkpoint.at.as_secs(),
            public_key: hex(key),
            signature: hex(&checkpoint.signature),
            chains: chains.collect(),
        }
    }

    /// The version of the line.
    #[must_use]
    pub fn format(&self) -> u32 {
        self.format
    }

    /// The checkpoint and the key, or nothing where the line has none. Whether it is signed by that key is another question.
    #[must_use]
    pub fn read(&self) -> Option<(Checkpoint, PublicKey)> {
        let mark = |line: &MarkLine| {
            let stub = match &line.removed_hash {
                Some(hash) => Some(Stub { number: line.removed, hash: unhex(hash)? }),
                None if line.removed == 0 => None,
                None => return None,
            };
            Some(ChainMark { tenant: line.tenant.clone(), count: line.count, hash: unhex(&line.hash)?, stub })
        };
        let checkpoint = Checkpoint {
            number: self.number,
            revision: Revision(self.revision),
            at: UnixTime::from_secs(self.at)?,
            chains: self.chains.iter().map(mark).collect::<Option<Vec<_>>>()?,
            signature: unhex(&self.signature)?,
        };
        Some((checkpoint, unhex(&self.public_key)?))
    }
}

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (base16ct::mixed::decode(text, &mut bytes).ok()?.len() == N).then_some(bytes)
}

/// A file of one such line is a witness, so what a policy carries is written as that.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Carried<'c> {
    Checkpoint(&'c CheckpointLine),
}

/// The newest checkpoint, on its way into revisions of the policy.
#[derive(Default)]
pub(crate) struct Witness(Mutex<Option<(u64, Arc<str>)>>);

impl Witness {
    pub(crate) fn take_note(&self, checkpoint: &Checkpoint, key: &PublicKey) {
        let line = serde_json::to_string(&Carried::Checkpoint(&CheckpointLine::of(checkpoint, key)));
        // It has no map with other keys than texts, so it can be written.
        let Ok(line) = line else { return };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((checkpoint.number, line.into()));
    }

    fn newest(&self) -> Option<(u64, Arc<str>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a base carries.
    pub(crate) fn for_base(&self) -> Option<String> {
        self.newest().map(|(_, line)| line.to_string()).filter(|line| line.len() <= MAX_BASE_BYTES)
    }

    /// What a delta carries, where the policy has had only checkpoints up to `carried`, and that one's number.
    pub(crate) fn for_delta(&self, carried: u64) -> Option<(u64, String)> {
        let (number, line) = self.newest()?;
        (number > carried && line.len() <= MAX_DELTA_BYTES).then(|| (number, line.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(number: u64, chains: usize) -> Checkpoint {
        let mark =
            |n| ChainMark { tenant: format!("tenant-{n}").parse().unwrap(), count: 7, hash: [7; 32], stub: None };
        let (revision, at) = (Revision(9), UnixTime::from_secs(1_700_000_000).unwrap());
        Checkpoint { number, revision, at, chains: (0..chains).map(mark).collect(), signature: [3; 64] }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let line = CheckpointLine::of(&checkpoint(4, 2), &[5; 32]);
        assert_eq!(line.read(), Some((checkpoint(4, 2), [5; 32])));
    }

    #[test]
    fn a_delta_carries_what_is_newer_and_not_too_long() {
        let witness = Witness::default();
        assert!(witness.for_base().is_none() && witness.for_delta(0).is_none());
        witness.take_note(&checkpoint(4, 2), &[5; 32]);
        assert!(witness.for_delta(4).is_none());
        assert_eq!(witness.for_delta(3).map(|(number, _)| number), Some(4));
        witness.take_note(&checkpoint(5, 1000), &[5; 32]);
        assert!(witness.for_delta(4).is_none() && witness.for_base().is_some());
        witness.take_note(&checkpoint(6, 40_000), &[5; 32]);
        assert!(witness.for_base().is_none());
    }
}
