//! What changed since the base: layers of deltas, and which of them has the newest record of each key.

use std::collections::HashMap;
use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

use super::format::{Presence, Section, word};
use super::layers::{Layer, route_at, symbol_at};
use super::records::Symbol;

/// The most bytes of deltas that an overlay holds before a new base must be loaded.
pub const MAX_OVERLAY_BYTES: usize = 64 << 20;
/// The most deltas whose records are still in use before a new base must be loaded.
pub const MAX_OVERLAY_LAYERS: usize = 65_536;

/// What a layer costs besides its bytes, counted against [`MAX_OVERLAY_BYTES`].
pub(super) const LAYER_OVERHEAD_BYTES: usize = 512;

/// Where the newest record of a key is.
#[derive(Clone, Copy)]
pub(super) enum Newest {
    At { layer: usize, number: u32 },
    Removed,
}

pub(super) struct Overlay {
    pub(super) layers: Vec<Option<Layer>>,
    pub(super) free: Vec<usize>,
    pub(super) bytes: usize,
    pub(super) wildcards: bool,
    pub(super) installation: Option<usize>,
    pub(super) slots: [HashMap<u32, Newest, Keyed>; Symbol::COUNT],
    pub(super) ids: [HashMap<String, u32, Keyed>; Symbol::COUNT],
    pub(super) credentials: HashMap<[u8; 32], Newest, Keyed>,
    pub(super) credential_ids: HashMap<String, Vec<[u8; 32]>, Keyed>,
    pub(super) routes: HashMap<String, Newest, Keyed>,
}

/// Hashing keyed by the installation's seed: the guest has no randomness of its own.
#[derive(Clone, Copy)]
pub(super) struct Keyed((u64, u64));

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0.0, self.0.1)
    }
}

#[expect(clippy::indexing_slicing, reason = "a symbol's number is below the array's length")]
impl Overlay {
    pub(super) fn new(keys: (u64, u64), wildcards: bool) -> Overlay {
        let keyed = Keyed(keys);
        Overlay {
            layers: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            wildcards,
            installation: None,
            slots: std::array::from_fn(|_| HashMap::with_hasher(keyed)),
            ids: std::array::from_fn(|_| HashMap::with_hasher(keyed)),
            credentials: HashMap::with_hasher(keyed),
            credential_ids: HashMap::with_hasher(keyed),
            routes: HashMap::with_hasher(keyed),
        }
    }

    pub(super) fn slots(&self, symbol: Symbol) -> &HashMap<u32, Newest, Keyed> {
        &self.slots[symbol as usize]
    }

    pub(super) fn slots_mut(&mut self, symbol: Symbol) -> &mut HashMap<u32, Newest, Keyed> {
        &mut self.slots[symbol as usize]
    }

    pub(super) fn ids(&self, symbol: Symbol) -> &HashMap<String, u32, Keyed> {
        &self.ids[symbol as usize]
    }

    pub(super) fn ids_mut(&mut self, symbol: Symbol) -> &mut HashMap<String, u32, Keyed> {
        &mut self.ids[symbol as usize]
    }

    /// Puts a layer in its place and makes its records the newest. The delta was checked, so every read succeeds; a
    /// record that could not be read would be left as it was before.
    pub(super) fn install(&mut self, place: usize, mut layer: Layer) {
        let mut replaced = Vec::new();
        let mut live = 0;
        let mut newest = |presence, number| {
            if presence == Presence::Defined {
                live += 1;
                Newest::At { layer: place, number }
            } else {
                Newest::Removed
            }
        };
        // Endpoints are reached through their service alone, in its own layer, so they have no newest record.
        for symbol in Symbol::ALL.into_iter().filter(|symbol| *symbol != Symbol::Endpoint) {
            for number in 0..layer.fragment.count(symbol.section()) {
                if let (Ok((_, presence)), Ok(slot)) =
                    (symbol_at(&layer.fragment, symbol, number), layer.slot(symbol, number))
                    && presence != Presence::Named
                {
                    replaced.extend(self.slots_mut(symbol).insert(slot, newest(presence, number)));
                }
            }
        }
        for number in 0..layer.fragment.count(Section::Routes) {
            if let Ok((pattern, presence)) = route_at(&layer.fragment, number) {
                self.wildcards |= pattern.starts_with("*.");
                replaced.extend(self.routes.insert(pattern.to_owned(), newest(presence, number)));
            }
        }
        for number in 0..layer.fragment.count(Section::Credentials) {
            let record = layer.fragment.record::<64>(Section::Credentials, number);
            let Some((record, digest)) = record.ok().and_then(|record| Some((record, *record.first_chunk()?))) else {
                continue;
            };
            let presence = word(record, 40).and_then(Presence::of).unwrap_or(Presence::Removed);
            replaced.extend(self.credentials.insert(digest, newest(presence, number)));
            if presence == Presence::Defined
                && let Ok(id) = word(record, 32).and_then(|id| layer.fragment.text(id))
            {
                let digests = self.credential_ids.entry(id.to_owned()).or_default();
                if !digests.contains(&digest) {
                    digests.push(digest);
                }
            }
        }
        if layer.fragment.count(Section::Installation) == 1 {
            live += 1;
            replaced.extend(self.installation.replace(place).map(|layer| Newest::At { layer, number: 0 }));
        }
        if live > 0 {
            layer.live = live;
            if let Some(slot) = self.layers.get_mut(place) {
                *slot = Some(layer);
            }
        } else {
            self.bytes -= layer.fragment.size() + LAYER_OVERHEAD_BYTES;
            self.free.push(place);
        }
        for replaced in replaced {
            self.release(replaced);
        }
    }

    /// Frees a layer once none of its records is the newest.
    fn release(&mut self, replaced: Newest) {
        let Newest::At { layer: place, .. } = replaced else { return };
        let Some(slot) = self.layers.get_mut(place) else { return };
        let Some(layer) = slot else { return };
        layer.live -= 1;
        if layer.live == 0 {
            self.bytes -= layer.fragment.size() + LAYER_OVERHEAD_BYTES;
            self.free.push(place);
            *slot = None;
        }
    }
}
