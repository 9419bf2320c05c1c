//! Who signs requests.

use portcullis_model::id::Id;

use super::Store;
use super::rows::Columns;
use crate::error::StoreError;
use crate::record::Signer;

impl Store {
    /// The credentials that sign, their tenants and slots.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn signing_slots(&self) -> Result<Vec<(Id, Id, u32)>, StoreError> {
        let query = sqlx::query(
            "SELECT id, tenant, signing_slot FROM credential_secret JOIN credential ON seq = credential_seq
             WHERE signing_slot IS NOT NULL ORDER BY signing_slot",
        );
        let rows = query.fetch_all(&self.readers).await?;
        let slot = |row| {
            let row = Columns::new(row, "credential_secret");
            Ok((row.id("id")?, row.id("tenant")?, row.small("signing_slot")?))
        };
        rows.iter().map(slot).collect()
    }

    /// The active credentials that sign, of `count` slots from `first` on, in their order.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn signers(&self, first: u32, count: u32) -> Result<Vec<Signer>, StoreError> {
        let query = sqlx::query(
            "SELECT id, signature_profile, signing_slot, sealed_secret
             FROM credential_secret JOIN credential ON seq = credential_seq
             WHERE signing_slot >= ?1 AND signing_slot < ?2 AND deleted = 0 AND state = 'active'
               AND sealed_secret IS NOT NULL AND signature_profile IS NOT NULL
             ORDER BY signing_slot",
        );
        let end = i64::from(first).saturating_add(i64::from(count));
        let rows = query.bind(i64::from(first)).bind(end).fetch_all(&self.readers).await?;
        let signer = |row| {
            let row = Columns::new(row, "credential");
            Ok(Signer {
                credential: row.id("id")?,
                profile: row.id("signature_profile")?,
                slot: row.small("signing_slot")?,
                sealed_secret: row.get("sealed_secret")?,
            })
        };
        rows.iter().map(signer).collect()
    }

    /// The highest slot that is taken.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn highest_slot(&self) -> Result<Option<u32>, StoreError> {
        let query =
            sqlx::query("SELECT max(signing_slot) AS slot FROM credential_secret WHERE signing_slot IS NOT NULL");
        let row = query.fetch_one(&self.readers).await?;
        let row = Columns::new(&row, "credential_secret");
        match row.get::<Option<i64>>("slot")? {
            None => Ok(None),
            Some(slot) => u32::try_from(slot).map(Some).map_err(|error| row.damaged("slot", error)),
        }
    }

    /// A credential that signs by a profile, if any does.
    ///
    /// # Errors
    /// Nothing could be read.
    pub async fn signer_by(&self, profile: &Id) -> Result<Option<Id>, StoreError> {
        let query = sqlx::query(
            "SELECT id FROM credential_secret JOIN credential ON seq = credential_seq
             WHERE signing_slot IS NOT NULL AND signature_profile = ?1 AND deleted = 0 LIMIT 1",
        );
        let row = query.bind(profile.as_str()).fetch_optional(&self.readers).await?;
        row.map(|row| Columns::new(&row, "credential").id("id")).transpose()
    }
}
