//! Evidence fetched, written and checked: what `audit export`, `checkpoint` and `verify` do here rather than on the server.

use std::path::Path;

use portcullis_control::PublicKey;
use portcullis_model::id::Id;
use serde_json::Value;

use super::super::Session;
use super::super::table::word;
use crate::client::{Call, path};
use crate::error::Error;
use crate::evidence::{CheckpointLine, ExportLine, Line, Log, Witness, hex};
use crate::output::{self, Destination};

/// Writes the server's audit as JSON lines.
pub(super) fn export(session: &Session, tenant: Option<&Id>, to: &Destination) -> Result<(), Error> {
    let first = newest_checkpoint(session)?;
    output::stream(to, |write| {
        let head = Line::Export(ExportLine::of(tenant.cloned()));
        write(&line(&serde_json::to_value(head).unwrap_or_default()))?;
        write(&line(&first))?;
        each_entry(session, tenant, |entry| write(&line(&entry)))
    })?;
    require_unmoved(session, &first)
}

/// Writes the server's newest checkpoint.
pub(super) fn checkpoint(session: &Session, to: &Destination) -> Result<(), Error> {
    let newest = newest_checkpoint(session)?;
    output::stream(to, |write| write(&line(&newest)))
}

/// Checks an exported log.
pub(super) fn verify_file(export: &Path, witness: Option<&Path>, key: Option<&PublicKey>) -> Result<Value, Error> {
    let witness = witness.map(Witness::read).transpose()?;
    let found = Log::verify(export, witness.as_ref())?.require_key(key);
    serde_json::to_value(found).map_err(|_| Error::NoEvidence)
}

/// Fetches a server's log and checks it here, against what somebody else has kept.
pub(super) fn verify_server(session: &Session, witness: &Path, key: Option<&PublicKey>) -> Result<Value, Error> {
    let witness = Witness::read(witness)?;
    let first = newest_checkpoint(session)?;
    let Ok(Line::Checkpoint(checkpoint)) = serde_json::from_value(first.clone()) else { return Err(Error::NoEvidence) };
    let mut log = begin(&checkpoint, &witness)?;
    each_entry(session, None, |entry| match serde_json::from_value(entry) {
        Ok(Line::Entry(entry)) => log.entry(*entry).ok_or(Error::NoEvidence),
        Ok(Line::Export(_) | Line::Checkpoint(_)) | Err(_) => Err(Error::NoEvidence),
    })?;
    require_unmoved(session, &first)?;
    serde_json::to_value(log.end().require_key(key)).map_err(|_| Error::NoEvidence)
}

fn begin<'w>(checkpoint: &CheckpointLine, witness: &'w Witness) -> Result<Log<'w>, Error> {
    Log::new(checkpoint, None, Some(witness)).ok_or(Error::NoEvidence)
}

/// Holds what the server itself found to a key that is known to be the installation's.
pub(super) fn hold_to(found: &mut Value, key: Option<&PublicKey>) {
    let Some(key) = key else { return };
    if found.pointer("/public_key").and_then(Value::as_str) != Some(hex(key).as_str()) {
        if let Some(intact) = found.pointer_mut("/intact") {
            *intact = Value::Bool(false);
        }
        if let Some(state) = found.pointer_mut("/checkpoint/state") {
            *state = "of another key".into();
        }
    }
}

fn newest_checkpoint(session: &Session) -> Result<Value, Error> {
    Ok(session.send(&Call::get(path(&["audit", "checkpoint"])))?.body)
}

/// Asks for all entries, a part at a time.
fn each_entry(
    session: &Session,
    tenant: Option<&Id>,
    mut with: impl FnMut(Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let call =
        tenant.into_iter().fold(Call::get(path(&["audit", "export"])), |call, tenant| call.with("tenant", tenant));
    let mut part = session.part(&call)?;
    loop {
        part.items.drain(..).try_for_each(&mut with)?;
        if part.next.is_null() {
            return Ok(());
        }
        let next = session.part(&call.clone().with("after", word(&part.next)))?;
        // A server that gives the same place twice would keep this going for ever.
        if next.next == part.next {
            return Err(Error::NoEvidence);
        }
        part = next;
    }
}

/// Whether the chains still begin where they did: entries that were removed in between are in neither place.
fn require_unmoved(session: &Session, first: &Value) -> Result<(), Error> {
    let removed = |checkpoint: &Value| -> Option<Vec<(Value, u64)>> {
        let chains = checkpoint.pointer("/chains")?.as_array()?.iter();
        let stubs = chains.map(|chain| Some((chain.pointer("/tenant")?.clone(), chain.pointer("/removed")?.as_u64()?)));
        Some(stubs.collect::<Option<Vec<_>>>()?.into_iter().filter(|(_, removed)| *removed > 0).collect())
    };
    let last = newest_checkpoint(session)?;
    match (removed(first), removed(&last)) {
        (Some(first), Some(last)) if first == last => Ok(()),
        (Some(_), Some(_)) => Err(Error::Moved),
        (None, _) | (_, None) => Err(Error::NoEvidence),
    }
}

fn line(value: &Value) -> Vec<u8> {
    let mut text = value.to_string().into_bytes();
    text.push(b'\n');
    text
}
