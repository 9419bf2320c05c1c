//! What changed since the base: layers of deltas, and which of them has the newest record of each key.

use std::collections::{HashMap, TryReserveError};
use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

use super::format::{Fragment, Presence, Section, word};
use super::layers::{Layer, base_credential, base_route, find_credential};
use super::prepare::Names;
use super::records::Symbol;

/// The most bytes that an overlay keeps before a new base must be loaded: deltas that are still in use, and what has to be
/// remembered of others (ids that they brought, removals of what the base holds). Its tables and translations take about
/// as much again.
pub const MAX_OVERLAY_BYTES: usize = 64 << 20;
/// The most deltas whose records are still in use before a new base must be loaded.
pub const MAX_OVERLAY_LAYERS: usize = 65_536;

/// What a layer costs besides its bytes, counted against [`MAX_OVERLAY_BYTES`].
pub(super) const LAYER_OVERHEAD_BYTES: usize = 512;
/// What an id or a removal costs that is kept apart from any layer, besides its text.
pub(super) const KEPT_BYTES: usize = 128;

/// Where the newest record of a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Newest {
    At { layer: usize, number: u32 },
    Removed,
}

/// INVARIANT (bounded-overlay): every table holds entries for records of live layers, and others only where `bytes`
/// counts them.
pub(super) struct Overlay {
    layers: Vec<Option<Layer>>,
    free: Vec<usize>,
    bytes: usize,
    pub(super) wildcards: bool,
    pub(super) installation: Option<usize>,
    slots: [HashMap<u32, Newest, Keyed>; Symbol::COUNT],
    ids: [HashMap<String, u32, Keyed>; Symbol::COUNT],
    pub(super) credentials: HashMap<[u8; 32], Newest, Keyed>,
    /// The layer that replaced a credential last. All versions of its secret are there, but some may have been removed.
    pub(super) credential_ids: HashMap<String, usize, Keyed>,
    pub(super) routes: HashMap<Vec<u8>, Newest, Keyed>,
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

    fn slots_mut(&mut self, symbol: Symbol) -> &mut HashMap<u32, Newest, Keyed> {
        &mut self.slots[symbol as usize]
    }

    pub(super) fn ids(&self, symbol: Symbol) -> &HashMap<String, u32, Keyed> {
        &self.ids[symbol as usize]
    }

    fn ids_mut(&mut self, symbol: Symbol) -> &mut HashMap<String, u32, Keyed> {
        &mut self.ids[symbol as usize]
    }

    pub(super) fn layer(&self, place: usize) -> Option<&Layer> {
        self.layers.get(place).and_then(Option::as_ref)
    }

    /// Bytes kept, as [`MAX_OVERLAY_BYTES`] counts them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Layers that are in use.
    pub(super) fn layers(&self) -> usize {
        self.layers.len() - self.free.len()
    }

    /// Makes room for all that [`Overlay::install`] will put in.
    pub(super) fn reserve(&mut self, fragment: &Fragment, names: &Names) -> Result<(), TryReserveError> {
        self.layers.try_reserve(1)?;
        self.free.try_reserve(self.layers.len() + 1)?;
        for symbol in Symbol::ALL {
            self.slots_mut(symbol).try_reserve(fragment.count(symbol.section()) as usize)?;
            self.ids_mut(symbol).try_reserve(names.new_ids.len())?;
        }
        let stale = VERSIONS * names.credential_ids.len();
        self.credentials.try_reserve(fragment.count(Section::Credentials) as usize + stale)?;
        self.credential_ids.try_reserve(names.credential_ids.len())?;
        self.routes.try_reserve(names.hosts.len())
    }

    /// Makes the records of a checked delta the newest. It allocates nothing, so it cannot fail. Every read was made before;
    /// a record that could not be read would be left as it was.
    pub(super) fn install(&mut self, base: &Fragment, mut layer: Layer, names: Names) {
        let Names { new_ids, hosts, credential_ids } = names;
        let place = self.free.pop().unwrap_or(self.layers.len());
        if place == self.layers.len() {
            self.layers.push(None);
        }
        self.bytes += layer.fragment.size() + LAYER_OVERHEAD_BYTES;
        for (symbol, id, slot) in new_ids {
            self.bytes += id.len() + KEPT_BYTES;
            self.ids_mut(symbol).insert(id, slot);
        }
        let mut installing = Installing { overlay: self, place, live: 0 };
        installing.symbols(&layer);
        installing.routes(&layer.fragment, base, hosts);
        installing.credentials(&layer.fragment, base);
        for id in credential_ids {
            installing.credential_id(id, base);
        }
        if layer.fragment.count(Section::Installation) == 1 {
            let before = installing.overlay.installation.replace(place);
            let newest = |layer| Newest::At { layer, number: 0 };
            installing.count(before.map(newest), Some(newest(place)));
        }
        layer.live = installing.live;
        if layer.live == 0 {
            self.retire(place, &layer);
        } else if let Some(slot) = self.layers.get_mut(place) {
            *slot = Some(layer);
        }
    }

    /// Frees a layer once none of its records is the newest.
    fn release(&mut self, place: usize) {
        let Some(slot) = self.layers.get_mut(place) else { return };
        let Some(mut layer) = slot.take() else { return };
        layer.live = layer.live.saturating_sub(1);
        if layer.live == 0 {
            self.retire(place, &layer);
        } else {
            *slot = Some(layer);
        }
    }

    fn retire(&mut self, place: usize, layer: &Layer) {
        let fragment = &layer.fragment;
        self.bytes = self.bytes.saturating_sub(fragment.size() + LAYER_OVERHEAD_BYTES);
        self.free.push(place);
        for number in 0..fragment.count(Section::Credentials) {
            let record = fragment.record::<64>(Section::Credentials, number);
            if let Ok(id) = record.and_then(|record| fragment.text(word(record, 32)?))
                && self.credential_ids.get(id) == Some(&place)
            {
                self.credential_ids.remove(id);
            }
        }
    }
}

/// The most versions of one credential that are looked for in a fragment: that which a search comes upon, and those beside.
const VERSIONS: usize = 3;

/// The digests of a credential in a fragment, and their numbers.
fn versions(fragment: &Fragment, id: &str) -> [Option<(u32, [u8; 32])>; VERSIONS] {
    let Ok(Some(found)) = find_credential(fragment, id, None) else { return [None; VERSIONS] };
    [found.checked_sub(1), Some(found), found.checked_add(1)].map(|number| {
        let number = number?;
        let record = fragment.record::<64>(Section::Credentials, number).ok()?;
        let is_of = Presence::of(word(record, 40).ok()?).ok()? == Presence::Defined
            && fragment.raw_text(word(record, 32).ok()?).ok()? == id.as_bytes();
        is_of.then_some((number, *record.first_chunk()?))
    })
}

/// A layer on its way into its place.
struct Installing<'o> {
    overlay: &'o mut Overlay,
    place: usize,
    /// How many of its records are the newest.
    live: u32,
}

impl Installing<'_> {
    fn symbols(&mut self, layer: &Layer) {
        // Endpoints are reached through their service alone, in its own layer, so they have no newest record.
        for symbol in Symbol::ALL.into_iter().filter(|symbol| *symbol != Symbol::Endpoint) {
            for number in 0..layer.fragment.count(symbol.section()) {
                let record = layer.fragment.record::<8>(symbol.section(), number);
                let Ok(presence) = record.and_then(|record| word(record, 4)).and_then(Presence::of) else { continue };
                let Ok(slot) = layer.slot(symbol, number) else { continue };
                if let Some(newest) = self.newest(presence, number) {
                    let before = self.overlay.slots_mut(symbol).insert(slot, newest);
                    self.count(before, Some(newest));
                }
            }
        }
    }

    fn routes(&mut self, fragment: &Fragment, base: &Fragment, hosts: Vec<Vec<u8>>) {
        for (number, host) in (0..).zip(hosts) {
            let record = fragment.record::<8>(Section::Routes, number);
            let Ok(presence) = record.and_then(|record| word(record, 4)).and_then(Presence::of) else { continue };
            self.overlay.wildcards |= host.starts_with(b"*.");
            let newest = self.newest(presence, number).filter(|newest| {
                // What the base does not hold needs no note of its removal.
                matches!(newest, Newest::At { .. }) || !matches!(base_route(base, &host), Ok(None))
            });
            let before = match newest {
                Some(newest) => self.overlay.routes.insert(host, newest),
                None => self.overlay.routes.remove(&host),
            };
            self.count(before, newest);
        }
    }

    fn credentials(&mut self, fragment: &Fragment, base: &Fragment) {
        for number in 0..fragment.count(Section::Credentials) {
            let Ok(record) = fragment.record::<64>(Section::Credentials, number) else { continue };
            let (Some(digest), Ok(presence)) = (record.first_chunk(), word(record, 40).and_then(Presence::of)) else {
                continue;
            };
            if let Some(newest) = self.newest(presence, number) {
                self.credential(digest, newest, base);
            }
        }
    }

    fn credential(&mut self, digest: &[u8; 32], newest: Newest, base: &Fragment) {
        // What the base does not hold needs no note of its removal.
        let note = matches!(newest, Newest::At { .. }) || !matches!(base_credential(base, digest), Ok(None));
        let credentials = &mut self.overlay.credentials;
        let before = if note { credentials.insert(*digest, newest) } else { credentials.remove(digest) };
        self.count(before, note.then_some(newest));
    }

    /// Takes note where the credential is, once its new versions are in: a credential is replaced as a whole, so those of
    /// its earlier versions that were not put again go.
    fn credential_id(&mut self, id: String, base: &Fragment) {
        if let Some(&earlier) = self.overlay.credential_ids.get(&id)
            && let Some(layer) = self.overlay.layer(earlier)
        {
            for (number, digest) in versions(&layer.fragment, &id).into_iter().flatten() {
                if self.overlay.credentials.get(&digest) == Some(&Newest::At { layer: earlier, number }) {
                    self.credential(&digest, Newest::Removed, base);
                }
            }
        }
        for (_, digest) in versions(base, &id).into_iter().flatten() {
            if !self.overlay.credentials.contains_key(&digest) {
                self.credential(&digest, Newest::Removed, base);
            }
        }
        self.overlay.credential_ids.insert(id, self.place);
    }

    fn newest(&self, presence: Presence, number: u32) -> Option<Newest> {
        match presence {
            Presence::Defined => Some(Newest::At { layer: self.place, number }),
            Presence::Removed => Some(Newest::Removed),
            Presence::Named => None,
        }
    }

    /// Counts what a key had before and has now.
    fn count(&mut self, before: Option<Newest>, now: Option<Newest>) {
        match now {
            Some(Newest::At { .. }) => self.live += 1,
            Some(Newest::Removed) => self.overlay.bytes += KEPT_BYTES,
            None => {}
        }
        match before {
            Some(Newest::At { layer, .. }) if layer == self.place => self.live = self.live.saturating_sub(1),
            Some(Newest::At { layer, .. }) => self.overlay.release(layer),
            Some(Newest::Removed) => self.overlay.bytes = self.overlay.bytes.saturating_sub(KEPT_BYTES),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{SecretDigest, Seed};
    use crate::id::Revision;
    use crate::policy::{LoadError, Policy, build, build_delta};
    use crate::source::{Delta, HostPattern, Source, Tenant, TenantState};

    const SEED: Seed = Seed([7; 16]);

    fn policy() -> Policy {
        Policy::open(build(&Source::empty(Revision(1), SEED)).unwrap()).unwrap()
    }

    fn tenant(id: &str) -> Tenant {
        Tenant {
            id: id.parse().unwrap(),
            state: TenantState::Active,
            modules: Vec::new(),
            endpoints: Vec::new(),
            token_issuer: None,
            token_revocation: Default::default(),
        }
    }

    fn delta(policy: &Policy, change: impl FnOnce(&mut Delta)) -> Vec<u8> {
        let mut delta = Delta::empty(policy.revision(), Revision(policy.revision().0 + 1), SEED);
        change(&mut delta);
        build_delta(&delta).unwrap()
    }

    fn apply(policy: &mut Policy, change: impl FnOnce(&mut Delta)) {
        let prepared = policy.prepare(delta(policy, change)).unwrap();
        policy.apply(prepared).unwrap();
    }

    #[test]
    fn an_overlay_has_a_limit_of_layers() {
        let mut policy = policy();
        // Places that are neither free nor empty are in use.
        policy.overlay.layers.resize_with(MAX_OVERLAY_LAYERS - 1, || None);
        apply(&mut policy, |delta| delta.tenants.push(tenant("a")));
        assert_eq!(policy.counts().overlay_layers as usize, MAX_OVERLAY_LAYERS);
        let one_more = delta(&policy, |delta| delta.tenants.push(tenant("b")));
        assert_eq!(policy.prepare(one_more).err(), Some(LoadError::OverlayFull));
    }

    #[test]
    fn an_overlay_has_a_limit_of_bytes() {
        let mut policy = policy();
        let bytes = delta(&policy, |delta| delta.tenants.push(tenant("abc")));
        let cost = bytes.len() + LAYER_OVERHEAD_BYTES + KEPT_BYTES + "abc".len();
        policy.overlay.bytes = MAX_OVERLAY_BYTES - cost + 1;
        assert_eq!(policy.prepare(bytes.clone()).err(), Some(LoadError::OverlayFull));
        policy.overlay.bytes = MAX_OVERLAY_BYTES - cost;
        let prepared = policy.prepare(bytes).unwrap();
        policy.apply(prepared).unwrap();
        assert_eq!(policy.overlay.bytes, MAX_OVERLAY_BYTES);
    }

    #[test]
    fn what_the_base_does_not_hold_leaves_no_note_of_its_removal() {
        let mut policy = policy();
        apply(&mut policy, |delta| delta.removed.digests.push(SecretDigest::new([1; 32])));
        apply(&mut policy, |delta| delta.removed.routes.push(HostPattern::try_from("a.example".to_owned()).unwrap()));
        let overlay = &policy.overlay;
        assert_eq!((overlay.credentials.len(), overlay.routes.len()), (0, 0));
        assert_eq!((overlay.bytes(), overlay.layers()), (0, 0));
    }

    #[test]
    fn a_layer_goes_when_its_last_record_is_replaced_and_its_place_is_used_again() {
        let mut policy = policy();
        apply(&mut policy, |delta| delta.tenants = vec![tenant("a"), tenant("b")]);
        apply(&mut policy, |delta| delta.tenants = vec![tenant("a")]);
        assert_eq!(policy.overlay.layers(), 2);
        apply(&mut policy, |delta| delta.tenants = vec![tenant("b")]);
        assert_eq!((policy.overlay.layers(), policy.overlay.free.len()), (2, 1));
        apply(&mut policy, |delta| delta.removed.tenants = vec!["a".parse().unwrap(), "b".parse().unwrap()]);
        assert_eq!((policy.overlay.layers(), policy.overlay.layers.len()), (0, 3));
        let kept = 2 * (KEPT_BYTES + 1) + 2 * KEPT_BYTES;
        assert_eq!(policy.overlay.bytes(), kept, "two ids and their removal");
        apply(&mut policy, |delta| delta.tenants = vec![tenant("a")]);
        assert_eq!(policy.overlay.layers.len(), 3);
        assert!(policy.overlay.bytes() > kept);
        apply(&mut policy, |delta| delta.removed.tenants = vec!["a".parse().unwrap()]);
        assert_eq!(policy.overlay.bytes(), kept);
    }
}
