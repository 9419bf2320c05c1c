//! Deltas: checked against a policy first, then applied to it.

use std::cmp::Ordering;
use std::collections::TryReserveError;

use super::Unreadable;
use super::format::{Fragment, FragmentKind, LoadError, Presence, Section, word};
use super::layers::{Layer, Policy, Translation, damaged, find, symbol_at};
use super::overlay::{KEPT_BYTES, LAYER_OVERHEAD_BYTES, MAX_OVERLAY_BYTES, MAX_OVERLAY_LAYERS, Newest};
use super::records::{MAX_SECRETS, Symbol};
use crate::id::{MAX_ID_BYTES, Revision};
use crate::source::MAX_HOST_BYTES;

/// The longest name of a record: two ids and the slash between.
const MAX_NAME_BYTES: usize = 2 * MAX_ID_BYTES + 1;
/// The longest host pattern: a name behind `*.`.
const MAX_PATTERN_BYTES: usize = MAX_HOST_BYTES + 2;

/// A delta that has been checked against a policy and only waits to be applied to it.
pub struct PreparedDelta {
    layer: Layer,
    names: Names,
    checkpoint: Option<String>,
}

/// Texts that the overlay will own, made beforehand so that applying a delta allocates nothing.
#[derive(Default)]
pub(super) struct Names {
    /// The ids that the policy has not had before, and their slots.
    pub(super) new_ids: Vec<(Symbol, String, u32)>,
    /// The host pattern of each route.
    pub(super) hosts: Vec<Vec<u8>>,
    /// The id of each credential that is put.
    pub(super) credential_ids: Vec<String>,
}

impl PreparedDelta {
    /// The revision that applying it leads to.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.layer.fragment.revision
    }
}

impl Policy {
    /// Checks a delta and reserves what applying it needs. The policy stays as it is.
    ///
    /// # Errors
    /// Any [`LoadError`]: damaged bytes, another revision, a reference to what the policy does not have, a full overlay.
    pub fn prepare(&mut self, bytes: Vec<u8>) -> Result<PreparedDelta, LoadError> {
        let fragment = Fragment::open(bytes.into())?;
        if fragment.kind != FragmentKind::Delta {
            return Err(LoadError::WrongKind { expected: "delta" });
        }
        if fragment.keys != self.base.fragment.keys {
            return Err(LoadError::ForeignInstallation);
        }
        if fragment.from != self.revision || fragment.revision <= self.revision {
            return Err(LoadError::WrongRevision { from: fragment.from, at: self.revision });
        }
        // Before anything in it is read: a delta that is too long costs no more than its checksum.
        let mut cost = fragment.size() + LAYER_OVERHEAD_BYTES;
        if self.overlay.layers() >= MAX_OVERLAY_LAYERS || self.overlay.bytes() + cost > MAX_OVERLAY_BYTES {
            return Err(LoadError::OverlayFull);
        }
        if fragment.count(Section::Installation) > 1 {
            return Err(LoadError::Damaged);
        }
        let mut names = Names::default();
        let mut translation: [Translation; Symbol::COUNT] = Default::default();
        let mut removals = 0;
        for (symbol, translation) in Symbol::ALL.into_iter().zip(&mut translation) {
            removals += self.translate(&fragment, symbol, translation, &mut names)?;
        }
        removals += names.take_hosts(&fragment)?;
        removals += names.take_credential_ids(&fragment)?;
        // The earlier versions of what is put may have to be removed.
        removals += MAX_SECRETS * names.credential_ids.len();
        // In a damaged delta sections may overlap, and the sum may exceed 32 bits.
        cost = cost.saturating_add(removals.saturating_mul(KEPT_BYTES));
        let ids = names.new_ids.iter().map(|(_, id, _)| id.len() + KEPT_BYTES);
        cost = ids.fold(cost, usize::saturating_add);
        if self.overlay.bytes().saturating_add(cost) > MAX_OVERLAY_BYTES {
            return Err(LoadError::OverlayFull);
        }
        self.overlay.reserve(&fragment, &names).map_err(out_of_memory)?;
        let checkpoint = match fragment.checkpoint().map_err(damaged)? {
            "" => None,
            text => Some(owned(text)?),
        };
        let layer = Layer { fragment, translation: Some(translation), live: 0 };
        Ok(PreparedDelta { layer, names, checkpoint })
    }

    /// Finds the slot of each record of a kind, gives slots to new ones, and tells how many are removed.
    fn translate(
        &self,
        fragment: &Fragment,
        symbol: Symbol,
        translation: &mut Translation,
        names: &mut Names,
    ) -> Result<usize, LoadError> {
        let known = self.base.fragment.count(symbol.section()) as usize + self.overlay.ids(symbol).len();
        let mut next = u32::try_from(known).map_err(|_| LoadError::TooLarge)?;
        let count = fragment.count(symbol.section());
        translation.slots.try_reserve_exact(count as usize).map_err(out_of_memory)?;
        translation.numbers.try_reserve_exact(count as usize).map_err(out_of_memory)?;
        let mut removals = 0;
        let mut last = "";
        for number in 0..count {
            let (id, presence) = symbol_at(fragment, symbol, number).map_err(damaged)?;
            // INVARIANT (one-slot): no id stands twice in a fragment, so each has one slot and `next` is never in use.
            if id <= last || id.len() > MAX_NAME_BYTES {
                return Err(LoadError::Damaged);
            }
            last = id;
            removals += usize::from(presence == Presence::Removed);
            let slot = match (presence, self.slot(symbol, id).map_err(damaged)?) {
                (Presence::Defined, Some(slot)) => slot,
                (Presence::Defined, None) => {
                    let slot = next;
                    next = next.checked_add(1).ok_or(LoadError::TooLarge)?;
                    names.new_ids.try_reserve(1).map_err(out_of_memory)?;
                    names.new_ids.push((symbol, owned(id)?, slot));
                    slot
                }
                (Presence::Named | Presence::Removed, Some(slot))
                    if self.has(fragment, symbol, id, slot).map_err(damaged)? =>
                {
                    slot
                }
                (Presence::Named | Presence::Removed, _) => {
                    return Err(LoadError::Dangling { kind: symbol.as_str(), id: owned(id)? });
                }
            };
            translation.slots.push(slot);
            translation.numbers.push((slot, number));
        }
        translation.numbers.sort_unstable();
        Ok(removals)
    }

    /// Whether what `delta` names without defining it is there.
    fn has(&self, delta: &Fragment, symbol: Symbol, id: &str, slot: u32) -> Result<bool, Unreadable> {
        if symbol != Symbol::Endpoint {
            return Ok(self.overlay.slots(symbol).get(&slot) != Some(&Newest::Removed));
        }
        // An endpoint is there if its service, as it stands now, has it.
        let (service, _) = id.split_once('/').ok_or(Unreadable)?;
        if let Some(number) = find(delta, Symbol::Service, service)?
            && symbol_at(delta, Symbol::Service, number)?.1 != Presence::Named
        {
            return Ok(false);
        }
        let Some(slot) = self.slot(Symbol::Service, service)? else { return Ok(false) };
        let layer = match self.overlay.slots(Symbol::Service).get(&slot) {
            Some(Newest::Removed) => return Ok(false),
            Some(Newest::At { layer, .. }) => self.layer(*layer)?,
            None => &self.base,
        };
        let Some(number) = find(&layer.fragment, Symbol::Endpoint, id)? else { return Ok(false) };
        Ok(symbol_at(&layer.fragment, Symbol::Endpoint, number)?.1 == Presence::Defined)
    }

    /// Applies a delta that was prepared for this policy as it is now. The next decision is made with it.
    ///
    /// # Errors
    /// [`LoadError::WrongRevision`] where the policy has changed since the delta was prepared.
    pub fn apply(&mut self, prepared: PreparedDelta) -> Result<(), LoadError> {
        let PreparedDelta { layer, names, checkpoint } = prepared;
        if layer.fragment.from != self.revision {
            return Err(LoadError::WrongRevision { from: layer.fragment.from, at: self.revision });
        }
        self.revision = layer.fragment.revision;
        if checkpoint.is_some() {
            self.checkpoint = checkpoint;
        }
        self.overlay.install(&self.base.fragment, layer, names);
        Ok(())
    }
}

impl Names {
    /// Takes the hosts and tells how many are removed.
    fn take_hosts(&mut self, fragment: &Fragment) -> Result<usize, LoadError> {
        let count = fragment.count(Section::Routes);
        self.hosts.try_reserve_exact(count as usize).map_err(out_of_memory)?;
        let mut removals = 0;
        for number in 0..count {
            let record: &[u8; 12] = fragment.record(Section::Routes, number).map_err(damaged)?;
            let host = word(record, 0).and_then(|host| fragment.text(host)).map_err(damaged)?;
            let presence = word(record, 4).and_then(Presence::of).map_err(damaged)?;
            let is_after = self.hosts.last().is_none_or(|last| last.as_slice() < host.as_bytes());
            if !is_after || host.is_empty() || host.len() > MAX_PATTERN_BYTES || presence == Presence::Named {
                return Err(LoadError::Damaged);
            }
            removals += usize::from(presence == Presence::Removed);
            self.hosts.push(owned(host)?.into_bytes());
        }
        Ok(removals)
    }

    /// Takes the ids of the credentials that are put, each once, and tells how many digests are removed.
    fn take_credential_ids(&mut self, fragment: &Fragment) -> Result<usize, LoadError> {
        let mut removals = 0;
        let (mut last_version, mut versions) = (0, 0);
        for number in 0..fragment.count(Section::Credentials) {
            let record: &[u8; 64] = fragment.record(Section::Credentials, number).map_err(damaged)?;
            let flags = word(record, 40).map_err(damaged)?;
            match Presence::of(flags).map_err(damaged)? {
                Presence::Removed => removals += 1,
                // INVARIANT (credentials-in-order): by id and version, and what is removed at the end.
                Presence::Defined if removals == 0 => {
                    let id = word(record, 32).and_then(|id| fragment.text(id)).map_err(damaged)?;
                    let version = flags >> 16;
                    match self.credential_ids.last().map_or(Ordering::Greater, |last| id.cmp(last)) {
                        Ordering::Greater if !id.is_empty() && id.len() <= MAX_ID_BYTES => {
                            self.credential_ids.try_reserve(1).map_err(out_of_memory)?;
                            self.credential_ids.push(owned(id)?);
                            versions = 1;
                        }
                        Ordering::Equal if version > last_version && versions < MAX_SECRETS => versions += 1,
                        Ordering::Less | Ordering::Equal | Ordering::Greater => return Err(LoadError::Damaged),
                    }
                    last_version = version;
                }
                Presence::Defined | Presence::Named => return Err(LoadError::Damaged),
            }
        }
        Ok(removals)
    }
}

fn owned(text: &str) -> Result<String, LoadError> {
    let mut owned = String::new();
    owned.try_reserve_exact(text.len()).map_err(out_of_memory)?;
    owned.push_str(text);
    Ok(owned)
}

fn out_of_memory(_: TryReserveError) -> LoadError {
    LoadError::OutOfMemory
}
