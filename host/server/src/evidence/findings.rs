//! What checking the audit found, and what it does not show.

use portcullis_control::PublicKey;
use portcullis_control::store::{AuditFault, ChainReport, Checkpoint};
use portcullis_model::id::Id;
use schemars::JsonSchema;
use serde::Serialize;

use super::hex;

/// What checking the audit found, as it is answered and printed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditVerification")]
pub(crate) struct Findings {
    /// Whether nothing is wrong.
    intact: bool,
    checkpoint: CheckpointView,
    public_key: String,
    /// Of a log that is checked against one; a server that checks its own database has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    witness: Option<WitnessView>,
    chains: Vec<ChainView>,
    /// Entries that came after the checkpoint.
    unsigned: u64,
    /// What all of this does not show.
    unproven: String,
}

/// The newest checkpoint, and its state: `signed`, `forged` or `missing`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CheckpointState")]
struct CheckpointView {
    number: Option<u64>,
    revision: Option<u64>,
    at: Option<String>,
    state: &'static str,
}

/// What a witness was.
#[derive(Serialize)]
pub(crate) struct WitnessView {
    pub(super) checkpoint: u64,
    pub(super) at: String,
    pub(super) same_key: bool,
    /// Of how many chains everything that it has was removed since.
    pub(super) beyond: usize,
}

/// The chain of one tenant's entries.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditChain")]
struct ChainView {
    #[schemars(with = "String")]
    tenant: Id,
    rows: u64,
    removed: u64,
    newest: String,
    fault: Option<String>,
}

impl Findings {
    pub(crate) fn new<'c>(
        checkpoint: impl Into<Option<&'c Checkpoint>>,
        state: &'static str,
        key: PublicKey,
        chains: Vec<ChainReport>,
        unsigned: u64,
        witness: Option<WitnessView>,
    ) -> Findings {
        let checkpoint = checkpoint.into();
        let shown = chains.iter().map(|chain| ChainView {
            tenant: chain.tenant.clone(),
            rows: chain.rows,
            removed: chain.removed,
            newest: hex(&chain.newest),
            fault: chain.fault.map(|fault: AuditFault| fault.to_string()),
        });
        let mut unproven = match &witness {
            None => "without a witness, an earlier export or checkpoint that somebody else has kept, an audit that was put \
                     back to an earlier state, or made anew and signed again by whoever has the master key, cannot be told \
                     from a true one"
                .to_owned(),
            Some(_) => "entries that are newer than the witness can have been made anew and signed again by whoever has \
                        the master key"
                .to_owned(),
        };
        if let Some(beyond) = witness.as_ref().map(|witness| witness.beyond).filter(|beyond| *beyond > 0) {
            unproven += &format!(
                "; all that the witness has of {beyond} chains was removed since, so it proves nothing of them"
            );
        }
        if unsigned > 0 {
            unproven +=
                &format!("; {unsigned} entries are newer than the checkpoint, their hashes alone speak for them");
        }
        Findings {
            intact: state == "signed"
                && chains.iter().all(|chain| chain.fault.is_none())
                && witness.as_ref().is_none_or(|witness| witness.same_key),
            checkpoint: CheckpointView {
                number: checkpoint.map(|checkpoint| checkpoint.number),
                revision: checkpoint.map(|checkpoint| checkpoint.revision.0),
                at: checkpoint.map(|checkpoint| checkpoint.at.to_string()),
                state,
            },
            public_key: hex(&key),
            witness,
            chains: shown.collect(),
            unsigned,
            unproven,
        }
    }

    /// Holds it to a key that is known to be the installation's.
    pub(crate) fn require_key(mut self, expected: Option<&PublicKey>) -> Findings {
        match expected {
            Some(expected) if hex(expected) == self.public_key => {}
            Some(_) => {
                self.intact = false;
                self.checkpoint.state = "of another key";
            }
            None if self.witness.is_none() => {
                self.unproven +=
                    "; that the key is this installation's own is the log's word: give it with `--public-key`";
            }
            None => {}
        }
        self
    }
}
