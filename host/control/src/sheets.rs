//! Key sheets: what the gate verifies signatures with, derived from the sealed secrets day by day.
//!
//! The gate never sees a secret. Of each signer it has the keys of yesterday and the day before, of today, and from noon on of
//! tomorrow (UTC), so that midnight finds them there. A change that adds a signer gives its keys to the gate before the
//! policy names it; a signer that goes leaves zeros.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_engine::{Engine, LoadError};
use portcullis_model::key_sheet::{DAY_KEY_BYTES, Day, DayKey, MAX_PART_KEYS, encode};
use portcullis_model::signing;
use portcullis_model::source::SignatureProfile;
use portcullis_model::time::UnixTime;
use portcullis_store::{CredentialRecord, Signer};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use tokio::sync::MutexGuard;

use crate::Control;
use crate::error::Failed;
use crate::feed::Hub;
use crate::plan::keys::sealed_place;
use crate::seal::{SealError, Sealer};

/// How long before midnight tomorrow's keys are given to the gate, in seconds: 12 h.
const AHEAD_S: u64 = 12 * 3600;
/// How many days back keys are kept: a presigned URL lives a day and the clock skew.
const DAYS_BACK: u32 = 2;

const FREE: DayKey = DayKey([0; DAY_KEY_BYTES]);

/// The days whose sheets the gate has.
#[derive(Default)]
pub(crate) struct Sheets {
    days: BTreeSet<Day>,
    /// Set where signers are in the store whose keys the gate may not have.
    stale: bool,
}

/// The signers that a change adds, whose keys the gate has already. As long as it is held no day's sheet is made, so none
/// comes to be without them.
pub(crate) struct Added<'c> {
    sheets: MutexGuard<'c, Sheets>,
    slots: Vec<u32>,
}

/// The days whose sheets the gate is to have.
fn wanted(now: UnixTime) -> impl Iterator<Item = Day> {
    let today = Day::of(now).0;
    let last = UnixTime::from_secs(now.as_secs().saturating_add(AHEAD_S)).map_or(today, |ahead| Day::of(ahead).0);
    (today.saturating_sub(DAYS_BACK)..=last).map(Day)
}

impl Control {
    /// Gives the gate the keys of the days that count now and that it does not have.
    ///
    /// # Errors
    /// Where the store or the gate fails; the days before are there.
    pub async fn keep_sheets(&self) -> Result<(), Failed> {
        let mut sheets = self.sheets.lock().await;
        if std::mem::take(&mut sheets.stale) {
            sheets.days.clear();
        }
        for day in wanted((self.clock)()) {
            if !sheets.days.contains(&day) {
                self.make_sheet(day).await?;
                sheets.days.insert(day);
                self.feeds.hub.tell();
            }
        }
        let last = wanted((self.clock)()).collect::<BTreeSet<_>>();
        sheets.days.retain(|day| last.contains(day));
        Ok(())
    }

    /// Derives a day's keys of every signer, a part of the sheet at a time.
    async fn make_sheet(&self, day: Day) -> Result<(), Failed> {
        let holders = self.holders();
        let profiles: Arc<[SignatureProfile]> = self.store.installation().await?.record.signature_profiles.into();
        let part = u32::try_from(MAX_PART_KEYS).unwrap_or(u32::MAX);
        let mut first = 0;
        loop {
            let signers = self.store.signers(first, part).await?;
            let Some(highest) = self.store.highest_slot().await? else {
                // Without a signer there is a sheet all the same: the gate knows that the day has come.
                return holders.give(&[FREE], day, 0);
            };
            let (sealer, holders, profiles) = (Arc::clone(&self.sealer), holders.clone(), Arc::clone(&profiles));
            let given =
                tokio::task::spawn_blocking(move || part_of(&sealer, &holders, &profiles, &signers, (day, first)));
            given.await.map_err(|_| Failed::Interrupted)??;
            first = first.saturating_add(part);
            if first > highest {
                return Ok(());
            }
        }
    }

    /// Gives the gate the keys of the signers that a change adds, before the policy names them.
    pub(crate) async fn add_signers(&self, new: &[&CredentialRecord]) -> Result<Option<Added<'_>>, Failed> {
        if new.is_empty() {
            return Ok(None);
        }
        let profiles = self.store.installation().await?.record.signature_profiles;
        let sheets = self.sheets.lock().await;
        let mut slots = Vec::new();
        for record in new {
            let credential = &record.credential;
            let slot = credential.secrets.iter().find_map(|secret| secret.signing_slot);
            let profile = profiles.iter().find(|profile| credential.signature_profile.as_ref() == Some(&profile.id));
            let (Some(slot), Some(profile), Some(sealed)) = (slot, profile, &record.sealed_secret) else { continue };
            slots.push(slot);
            // Before its keys: a worker that asks meanwhile gets them then or never.
            self.feeds.hub.own(slot, credential.tenant.clone());
            for day in &sheets.days {
                let key = derive(&self.sealer, profile, &credential.id, sealed, *day)?;
                self.holders().give(&[*key], *day, slot)?;
            }
        }
        Ok(Some(Added { sheets, slots }))
    }

    /// Takes the keys of added signers back, where the change did not come about.
    pub(crate) fn take_back(&self, added: Option<Added<'_>>) {
        if let Some(Added { mut sheets, slots }) = added {
            self.clear(&sheets, &slots);
            // Should the change be in the store after all, the next look at the sheets makes them anew.
            sheets.stale = true;
        }
    }

    /// Takes the keys of signers that are gone out of the gate.
    pub(crate) async fn remove_signers(&self, slots: &[u32], added: Option<Added<'_>>) {
        if slots.is_empty() {
            return;
        }
        match added {
            Some(Added { sheets, .. }) => self.clear(&sheets, slots),
            None => self.clear(&*self.sheets.lock().await, slots),
        }
    }

    fn clear(&self, sheets: &Sheets, slots: &[u32]) {
        for (slot, day) in slots.iter().flat_map(|slot| sheets.days.iter().map(move |day| (slot, day))) {
            // The policy names the slot no more, so the key is of no use where it cannot be taken out.
            if let Err(error) = self.holders().give(&[FREE], *day, *slot) {
                tracing::error!(%error, slot, "the day keys of a signer that is gone could not be taken out of the gate");
            }
        }
        slots.iter().for_each(|slot| self.feeds.hub.release(*slot));
    }

    fn holders(&self) -> Holders {
        Holders { engine: Arc::clone(&self.engine), hub: Arc::clone(&self.feeds.hub) }
    }
}

/// Those that have the keys: the gate, and the feeds, which hand them out.
#[derive(Clone)]
struct Holders {
    engine: Arc<Engine>,
    hub: Arc<Hub>,
}

impl Holders {
    fn give(&self, keys: &[DayKey], day: Day, first: u32) -> Result<(), Failed> {
        let part =
            encode(day, first, keys).map(Zeroizing::new).map_err(|error| LoadError::Invalid(error.to_string()))?;
        self.engine.load_keys(&part)?;
        self.hub.keys(day, first, keys);
        Ok(())
    }
}

fn part_of(
    sealer: &Sealer,
    holders: &Holders,
    profiles: &[SignatureProfile],
    signers: &[Signer],
    (day, first): (Day, u32),
) -> Result<(), Failed> {
    let length = signers.last().map_or(1, |last| last.slot.saturating_sub(first).saturating_add(1));
    let mut keys = vec![FREE; usize::try_from(length).unwrap_or(MAX_PART_KEYS)];
    for signer in signers {
        let Some(profile) = profiles.iter().find(|profile| profile.id == signer.profile) else { continue };
        let place = usize::try_from(signer.slot.saturating_sub(first)).ok().and_then(|at| keys.get_mut(at));
        match (place, derive(sealer, profile, &signer.credential, &signer.sealed_secret, day)) {
            (Some(place), Ok(key)) => *place = *key,
            (None, _) => {}
            // That one is denied, and the others go on.
            (_, Err(error)) => {
                tracing::error!(%error, credential = %signer.credential, "a signing secret does not open")
            }
        }
    }
    let given = holders.give(&keys, day, first);
    keys.iter_mut().for_each(|key| key.0.zeroize());
    given
}

fn derive(
    sealer: &Sealer,
    profile: &SignatureProfile,
    credential: &portcullis_model::id::Id,
    sealed: &[u8],
    day: Day,
) -> Result<Derived, SealError> {
    let secret = sealer.open_sealed(sealed, &sealed_place(credential, "secret"))?;
    Ok(Derived(signing::day_key(profile, secret.expose_secret().as_bytes(), day)))
}

/// A day key that is wiped when it is dropped.
struct Derived(DayKey);

impl std::ops::Deref for Derived {
    type Target = DayKey;

    fn deref(&self) -> &DayKey {
        &self.0
    }
}

impl Drop for Derived {
    fn drop(&mut self) {
        self.0.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_holds_no_secret() {
        let profile = portcullis_model::signing::presets::antavo("eu");
        let secret = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
        let keys = [signing::day_key(&profile, secret.as_bytes(), Day(20_000))];
        let part = encode(Day(20_000), 0, &keys).unwrap();
        for of in secret.as_bytes().windows(4) {
            assert!(part.windows(4).all(|window| window != of));
        }
    }

    #[test]
    fn tomorrow_comes_at_noon_and_two_days_stay() {
        let days = |text: &str| {
            let now: UnixTime = text.parse().unwrap();
            wanted(now).map(|day| i64::from(day.0) - i64::from(Day::of(now).0)).collect::<Vec<_>>()
        };
        assert_eq!(days("2026-03-07T00:00:00Z"), [-2, -1, 0]);
        assert_eq!(days("2026-03-07T11:59:59Z"), [-2, -1, 0]);
        assert_eq!(days("2026-03-07T12:00:00Z"), [-2, -1, 0, 1]);
        assert_eq!(days("2026-03-07T23:59:59Z"), [-2, -1, 0, 1]);
    }
}
