//! Who signs requests, and where in the key sheets each of them has its place.

use std::collections::{BTreeSet, HashMap};

use portcullis_model::id::Id;
use portcullis_model::key_sheet::MAX_SLOTS;
use portcullis_model::source::Credential;
use portcullis_store::{Store, StoreError, Write};

/// The slots that are taken. Whoever holds the lane may change it.
#[derive(Default)]
pub(crate) struct Signers {
    slots: HashMap<Id, u32>,
    /// Free slots below `next`.
    free: BTreeSet<u32>,
    next: u32,
}

impl Signers {
    /// The signers as the store has them.
    pub(crate) async fn read(store: &Store) -> Result<Signers, StoreError> {
        let mut signers = Signers::default();
        for (id, _, slot) in store.signing_slots().await? {
            signers.take(id, slot);
        }
        Ok(signers)
    }

    /// A slot that nobody has: one that became free, or the next.
    pub(crate) fn free(&self) -> Option<u32> {
        self.free.first().copied().or_else(|| (self.next < MAX_SLOTS).then_some(self.next))
    }

    /// The credentials of a change that get a slot that they do not have.
    pub(crate) fn new_in<'w>(&self, writes: &'w [Write]) -> Vec<&'w portcullis_store::CredentialRecord> {
        let put = writes.iter().flat_map(|write| {
            if let Write::PutCredential(record) = write {
                std::slice::from_ref(record)
            } else if let Write::AddCredentials(records) = write {
                records.as_slice()
            } else {
                &[]
            }
        });
        put.filter(|record| {
            let slot = slot(&record.credential);
            slot.is_some() && slot != self.slots.get(&record.credential.id).copied()
        })
        .collect()
    }

    /// Takes over what was written, and leads to the slots that are free from then on.
    pub(crate) fn advance(&mut self, writes: &[Write]) -> Vec<u32> {
        let mut freed = Vec::new();
        for write in writes {
            if let Write::PutCredential(record) = write {
                freed.extend(self.put(&record.credential));
            } else if let Write::AddCredentials(records) = write {
                records.iter().for_each(|record| freed.extend(self.put(&record.credential)));
            } else if let Write::RemoveCredential(id) = write {
                freed.extend(self.release(id));
            }
        }
        freed
    }

    fn put(&mut self, credential: &Credential) -> Option<u32> {
        let slot = slot(credential);
        let freed = if self.slots.get(&credential.id).copied() == slot { None } else { self.release(&credential.id) };
        if let Some(slot) = slot {
            self.take(credential.id.clone(), slot);
        }
        freed
    }

    fn take(&mut self, id: Id, slot: u32) {
        self.slots.insert(id, slot);
        self.free.remove(&slot);
        while self.next <= slot {
            if self.next < slot {
                self.free.insert(self.next);
            }
            self.next += 1;
        }
    }

    fn release(&mut self, id: &Id) -> Option<u32> {
        let slot = self.slots.remove(id)?;
        self.free.insert(slot);
        Some(slot)
    }
}

/// A workspace key is replaced and never rotated, so it has one version and one slot.
fn slot(credential: &Credential) -> Option<u32> {
    credential.secrets.iter().find_map(|secret| secret.signing_slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    #[test]
    fn a_slot_is_used_again_once_it_is_free() {
        let mut signers = Signers::default();
        assert_eq!(signers.free(), Some(0));
        signers.take(id("a"), 0);
        signers.take(id("c"), 3);
        assert_eq!(signers.free(), Some(1), "those between are free");
        signers.take(id("b"), 1);
        signers.take(id("d"), 2);
        assert_eq!(signers.free(), Some(4));
        assert_eq!(signers.release(&id("b")), Some(1));
        assert_eq!((signers.free(), signers.release(&id("b"))), (Some(1), None));
    }

    #[test]
    fn there_are_as_many_slots_as_a_sheet_has() {
        let mut signers = Signers { next: MAX_SLOTS - 1, ..Signers::default() };
        assert_eq!(signers.free(), Some(MAX_SLOTS - 1));
        signers.take(id("last"), MAX_SLOTS - 1);
        assert_eq!(signers.free(), None);
        signers.release(&id("last"));
        assert_eq!(signers.free(), Some(MAX_SLOTS - 1));
    }
}
