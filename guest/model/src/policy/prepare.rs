//! Deltas: checked against a policy first, then applied to it.

use super::format::{Fragment, FragmentKind, LoadError, Presence, Section, word};
use super::layers::{Layer, Policy, Translation, damaged, has_wildcards, symbol_at};
use super::overlay::{LAYER_OVERHEAD_BYTES, MAX_OVERLAY_BYTES, MAX_OVERLAY_LAYERS, Newest};
use super::records::Symbol;
use crate::id::Revision;

/// A delta that has been checked against a policy and only waits to be applied to it.
pub struct PreparedDelta {
    layer: Layer,
    new_ids: Vec<(Symbol, String, u32)>,
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
        let fragment = Fragment::open(bytes)?;
        if fragment.kind != FragmentKind::Delta {
            return Err(LoadError::WrongKind { expected: "delta" });
        }
        if fragment.from != self.revision || fragment.revision <= self.revision {
            return Err(LoadError::WrongRevision { from: fragment.from, at: self.revision });
        }
        let in_use = self.overlay.layers.len() - self.overlay.free.len();
        let bytes = fragment.size() + LAYER_OVERHEAD_BYTES;
        if in_use >= MAX_OVERLAY_LAYERS || self.overlay.bytes + bytes > MAX_OVERLAY_BYTES {
            return Err(LoadError::OverlayFull);
        }
        let mut new_ids = Vec::new();
        let mut translation: [Translation; Symbol::COUNT] = Default::default();
        for (symbol, translation) in Symbol::ALL.into_iter().zip(&mut translation) {
            self.translate(&fragment, symbol, translation, &mut new_ids)?;
        }
        for number in 0..fragment.count(Section::Credentials) {
            let record: &[u8; 64] = fragment.record(Section::Credentials, number).map_err(damaged)?;
            fragment.text(word(record, 32).map_err(damaged)?).map_err(damaged)?;
        }
        has_wildcards(&fragment).map_err(damaged)?;
        let layer = Layer { fragment, translation: Some(translation), live: 0 };
        self.reserve(&layer, new_ids.len()).map_err(|_| LoadError::OutOfMemory)?;
        Ok(PreparedDelta { layer, new_ids })
    }

    fn translate(
        &self,
        fragment: &Fragment,
        symbol: Symbol,
        translation: &mut Translation,
        new_ids: &mut Vec<(Symbol, String, u32)>,
    ) -> Result<(), LoadError> {
        let known = self.base.fragment.count(symbol.section()) as usize + self.overlay.ids(symbol).len();
        let mut next = u32::try_from(known).map_err(|_| LoadError::TooLarge)?;
        for number in 0..fragment.count(symbol.section()) {
            let (id, presence) = symbol_at(fragment, symbol, number).map_err(damaged)?;
            let known = self.slot(symbol, id).map_err(damaged)?;
            let slot = match (presence, known) {
                (Presence::Defined, Some(slot)) => slot,
                (Presence::Defined, None) => {
                    new_ids.push((symbol, id.to_owned(), next));
                    next += 1;
                    next - 1
                }
                (Presence::Named | Presence::Removed, Some(slot))
                    if !matches!(self.overlay.slots(symbol).get(&slot), Some(Newest::Removed)) =>
                {
                    slot
                }
                (Presence::Named | Presence::Removed, _) => {
                    return Err(LoadError::Dangling { kind: symbol.as_str(), id: id.to_owned() });
                }
            };
            translation.slots.push(slot);
            translation.numbers.push((slot, number));
        }
        translation.numbers.sort_unstable();
        Ok(())
    }

    fn reserve(&mut self, layer: &Layer, new_ids: usize) -> Result<(), std::collections::TryReserveError> {
        let overlay = &mut self.overlay;
        overlay.layers.try_reserve(1)?;
        overlay.free.try_reserve(overlay.layers.len() + 1)?;
        for symbol in Symbol::ALL {
            let count = layer.fragment.count(symbol.section()) as usize;
            overlay.slots_mut(symbol).try_reserve(count)?;
            overlay.ids_mut(symbol).try_reserve(new_ids)?;
        }
        let credentials = layer.fragment.count(Section::Credentials) as usize;
        overlay.credentials.try_reserve(credentials)?;
        overlay.credential_ids.try_reserve(credentials)?;
        overlay.routes.try_reserve(layer.fragment.count(Section::Routes) as usize)
    }

    /// Applies a delta that was prepared for this policy as it is now. The next decision is made with it.
    ///
    /// # Errors
    /// [`LoadError::WrongRevision`] where the policy has changed since the delta was prepared.
    pub fn apply(&mut self, prepared: PreparedDelta) -> Result<(), LoadError> {
        let PreparedDelta { layer, new_ids } = prepared;
        if layer.fragment.from != self.revision {
            return Err(LoadError::WrongRevision { from: layer.fragment.from, at: self.revision });
        }
        self.revision = layer.fragment.revision;
        let overlay = &mut self.overlay;
        for (symbol, id, slot) in new_ids {
            overlay.ids_mut(symbol).insert(id, slot);
        }
        overlay.bytes += layer.fragment.size() + LAYER_OVERHEAD_BYTES;
        let place = overlay.free.pop().unwrap_or(overlay.layers.len());
        if place == overlay.layers.len() {
            overlay.layers.push(None);
        }
        overlay.install(place, layer);
        Ok(())
    }
}
