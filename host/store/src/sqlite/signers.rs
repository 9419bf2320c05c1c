//! Who signs requests.

use portcullis_model::id::Id;

use super::Store;
use super::rows::{all, one};
use crate::error::StoreError;
use crate::record::Signer;

impl Store {
    /// The credentials that sign, their tenants and slots.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn signing_slots(&self) -> Result<Vec<(Id, Id, u32)>, StoreError> {
        let query = "SELECT id, tenant, signing_slot FROM credential_secret JOIN credential ON seq = credential_seq
             WHERE signing_slot IS NOT NULL ORDER BY signing_slot";
        self.readers.read(|db| {
            all(db, query, [], "credential_secret", |row| {
                Ok((row.id("id")?, row.id("tenant")?, row.small("signing_slot")?))
            })
        })
    }

    /// The active credentials that sign, of `count` slots from `first` on, in their order.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn signers(&self, first: u32, count: u32) -> Result<Vec<Signer>, StoreError> {
        let query = "SELECT id, signature_profile, signing_slot, sealed_secret
             FROM credential_secret JOIN credential ON seq = credential_seq
             WHERE signing_slot >= ?1 AND signing_slot < ?2 AND deleted = 0 AND state = 'active'
               AND sealed_secret IS NOT NULL AND signature_profile IS NOT NULL
             ORDER BY signing_slot";
        let end = i64::from(first).saturating_add(i64::from(count));
        self.readers.read(|db| {
            all(db, query, [i64::from(first), end], "credential", |row| {
                Ok(Signer {
                    credential: row.id("id")?,
                    profile: row.id("signature_profile")?,
                    slot: row.small("signing_slot")?,
                    sealed_secret: row.get("sealed_secret")?,
                })
            })
        })
    }

    /// The highest slot that is taken.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn highest_slot(&self) -> Result<Option<u32>, StoreError> {
        let query = "SELECT signing_slot FROM credential_secret WHERE signing_slot IS NOT NULL
             ORDER BY signing_slot DESC LIMIT 1";
        self.readers.read(|db| one(db, query, [], "credential_secret", |row| row.small("signing_slot")))
    }

    /// A credential that signs by a profile, if any does.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn signer_by(&self, profile: &Id) -> Result<Option<Id>, StoreError> {
        let query = "SELECT id FROM credential_secret JOIN credential ON seq = credential_seq
             WHERE signing_slot IS NOT NULL AND signature_profile = ?1 AND deleted = 0 LIMIT 1";
        self.readers.read(|db| one(db, query, [profile.as_str()], "credential", |row| row.id("id")))
    }
}
