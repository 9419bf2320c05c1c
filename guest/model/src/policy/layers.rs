//! A loaded policy: the base, and over it everything that changed since.
//!
//! Each delta stays in memory as the fragment it came as, one *layer*, until every record in it has been replaced by a
//! later one. Records refer to others by their number in the same layer; a *slot* is that number for the whole policy:
//! the base's own numbers, then one more for each id that a delta brought. Hash tables keyed by the installation's seed
//! say which layer has the newest record of a slot, digest or host; while they are empty they cost nothing.

use std::collections::HashMap;
use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

use super::Unreadable;
use super::format::{Fragment, FragmentKind, LoadError, Presence, Section, word};
use super::index;
use super::paths::PathTable;
use super::ranges::Ranges;
use super::records::{Credential, Endpoint, Group, Here, Service, Symbol, Tenant, User};
use crate::credential::SecretDigest;
use crate::id::Revision;

/// The most bytes of deltas that an overlay holds before a new base must be loaded.
pub const MAX_OVERLAY_BYTES: usize = 64 << 20;
/// The most deltas whose records are still in use before a new base must be loaded.
pub const MAX_OVERLAY_LAYERS: usize = 65_536;

/// What a layer costs besides its bytes, counted against [`MAX_OVERLAY_BYTES`].
const LAYER_OVERHEAD_BYTES: usize = 512;

/// A loaded policy.
pub struct Policy {
    base: Layer,
    overlay: Overlay,
    revision: Revision,
}

/// A fragment and how its records' numbers translate to slots and back.
pub(crate) struct Layer {
    pub(crate) fragment: Fragment,
    /// From number to slot and, sorted, from slot to number. Nothing for the base, whose numbers are the slots.
    translation: Option<[Translation; Symbol::COUNT]>,
    live: u32,
}

#[derive(Default)]
struct Translation {
    slots: Vec<u32>,
    numbers: Vec<(u32, u32)>,
}

/// Where the newest record of a key is.
#[derive(Clone, Copy)]
enum Newest {
    At { layer: usize, number: u32 },
    Removed,
}

struct Overlay {
    layers: Vec<Option<Layer>>,
    free: Vec<usize>,
    bytes: usize,
    wildcards: bool,
    installation: Option<usize>,
    slots: [HashMap<u32, Newest, Keyed>; Symbol::COUNT],
    ids: [HashMap<String, u32, Keyed>; Symbol::COUNT],
    credentials: HashMap<[u8; 32], Newest, Keyed>,
    credential_ids: HashMap<String, Vec<[u8; 32]>, Keyed>,
    routes: HashMap<String, Newest, Keyed>,
}

/// Hashing keyed by the installation's seed: the guest has no randomness of its own.
#[derive(Clone, Copy)]
struct Keyed((u64, u64));

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0.0, self.0.1)
    }
}

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

/// How much a policy holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Bytes of the base.
    pub base_bytes: u64,
    /// Bytes of deltas that are still in use.
    pub overlay_bytes: u64,
    /// Deltas that are still in use.
    pub overlay_layers: u32,
    /// Services in the base.
    pub services: u32,
    /// Endpoints in the base.
    pub endpoints: u32,
    /// Tenants in the base.
    pub tenants: u32,
    /// Groups in the base.
    pub groups: u32,
    /// Users in the base.
    pub users: u32,
    /// Versions of secrets in the base.
    pub credentials: u32,
}

impl Policy {
    /// Opens a base and takes its bytes.
    ///
    /// # Errors
    /// Any [`LoadError`] of damaged or foreign bytes; [`LoadError::WrongKind`] for a delta.
    pub fn open(bytes: Vec<u8>) -> Result<Policy, LoadError> {
        let fragment = Fragment::open(bytes)?;
        if fragment.kind != FragmentKind::Base || fragment.count(Section::Installation) != 1 {
            return Err(LoadError::WrongKind { expected: "base" });
        }
        let keyed = Keyed(fragment.keys);
        let overlay = Overlay {
            layers: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            wildcards: has_wildcards(&fragment).map_err(damaged)?,
            installation: None,
            slots: std::array::from_fn(|_| HashMap::with_hasher(keyed)),
            ids: std::array::from_fn(|_| HashMap::with_hasher(keyed)),
            credentials: HashMap::with_hasher(keyed),
            credential_ids: HashMap::with_hasher(keyed),
            routes: HashMap::with_hasher(keyed),
        };
        let revision = fragment.revision;
        Ok(Policy { base: Layer { fragment, translation: None, live: 0 }, overlay, revision })
    }

    /// The revision that decides now.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How much the policy holds.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let base = &self.base.fragment;
        let layers = self.overlay.layers.len() - self.overlay.free.len();
        Counts {
            base_bytes: base.size() as u64,
            overlay_bytes: self.overlay.bytes as u64,
            overlay_layers: u32::try_from(layers).unwrap_or(u32::MAX),
            services: base.count(Section::Services),
            endpoints: base.count(Section::Endpoints),
            tenants: base.count(Section::Tenants),
            groups: base.count(Section::Groups),
            users: base.count(Section::Users),
            credentials: base.count(Section::Credentials),
        }
    }

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

    fn layer(&self, place: usize) -> Result<&Layer, Unreadable> {
        self.overlay.layers.get(place).and_then(Option::as_ref).ok_or(Unreadable)
    }

    /// The newest record behind a reference that stands in `layer`; nothing where it has been removed.
    #[inline]
    pub(crate) fn follow<const N: usize>(
        &self,
        symbol: Symbol,
        layer: &Layer,
        number: u32,
    ) -> Result<Option<(Here<'_>, u32, &[u8; N])>, Unreadable> {
        let slot = layer.slot(symbol, number)?;
        let (layer, number) = match self.overlay.slots(symbol).get(&slot) {
            Some(Newest::Removed) => return Ok(None),
            Some(Newest::At { layer, number }) => (self.layer(*layer)?, *number),
            None => (&self.base, slot),
        };
        let record = layer.fragment.record(symbol.section(), number)?;
        Ok(Some((Here { policy: self, layer }, number, record)))
    }

    /// The service for a host and a path: the host itself before `*.suffix` with the longest suffix, and under a host the
    /// longest prefix of the path, segment by segment.
    ///
    /// The host is lower case and without a port; the path decoded and without its first slash.
    pub fn service(&self, host: &str, path: &str) -> Result<Option<Service<'_>>, Unreadable> {
        if let Some(service) = self.service_under(host, path)? {
            return Ok(Some(service));
        }
        let mut rest = host;
        while self.overlay.wildcards
            && let Some((_, suffix)) = rest.split_once('.')
        {
            if let Some(service) = self.service_under(&format!("*.{suffix}"), path)? {
                return Ok(Some(service));
            }
            rest = suffix;
        }
        Ok(None)
    }

    fn service_under(&self, pattern: &str, path: &str) -> Result<Option<Service<'_>>, Unreadable> {
        let Some((here, table)) = self.route(pattern)? else { return Ok(None) };
        let Some(target) = table.find(path, |_| true)? else { return Ok(None) };
        Ok(here.follow(Symbol::Service, target.record)?.map(|(here, _, record)| Service { here, record }))
    }

    fn route(&self, pattern: &str) -> Result<Option<(Here<'_>, PathTable<'_>)>, Unreadable> {
        match self.overlay.routes.get(pattern) {
            Some(Newest::Removed) => return Ok(None),
            Some(Newest::At { layer, number }) => return self.route_at(self.layer(*layer)?, *number, pattern),
            None => {}
        }
        let base = &self.base.fragment;
        for number in index::probe(base.section(Section::RouteIndex)?, index::hash(base.keys, pattern.as_bytes())) {
            if let Some(routes) = self.route_at(&self.base, number?, pattern)? {
                return Ok(Some(routes));
            }
        }
        Ok(None)
    }

    /// The route of that number, if it is that of the pattern.
    fn route_at<'p>(
        &'p self,
        layer: &'p Layer,
        number: u32,
        pattern: &str,
    ) -> Result<Option<(Here<'p>, PathTable<'p>)>, Unreadable> {
        let record: &[u8; 12] = layer.fragment.record(Section::Routes, number)?;
        if layer.fragment.text(word(record, 0)?)? != pattern {
            return Ok(None);
        }
        let table = PathTable::open(&layer.fragment, word(record, 8)?)?;
        Ok(Some((Here { policy: self, layer }, table)))
    }

    /// The credential version with that digest.
    #[inline]
    pub fn credential(&self, digest: &SecretDigest) -> Result<Option<Credential<'_>>, Unreadable> {
        match self.overlay.credentials.get(digest.as_bytes()) {
            Some(Newest::Removed) => return Ok(None),
            Some(Newest::At { layer, number }) => {
                let layer = self.layer(*layer)?;
                let record = layer.fragment.record(Section::Credentials, *number)?;
                return Ok(Some(Credential { here: Here { policy: self, layer }, record }));
            }
            None => {}
        }
        let base = &self.base.fragment;
        let index = base.section(Section::CredentialIndex)?;
        for number in index::probe(index, index::hash(base.keys, digest.as_bytes())) {
            let record = base.record(Section::Credentials, number?)?;
            let credential = Credential { here: Here { policy: self, layer: &self.base }, record };
            if credential.has_digest(digest) {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    /// The credential version of that id and number, as recorded facts name it.
    pub fn credential_by_id(&self, id: &str, version: u16) -> Result<Option<Credential<'_>>, Unreadable> {
        for digest in self.overlay.credential_ids.get(id).into_iter().flatten() {
            if let Some(credential) = self.credential(&SecretDigest::new(*digest))?
                && credential.id()? == id
                && credential.version() == version
            {
                return Ok(Some(credential));
            }
        }
        let base = &self.base.fragment;
        let at = |number| {
            let record = base.record(Section::Credentials, number)?;
            Ok(Credential { here: Here { policy: self, layer: &self.base }, record })
        };
        let found = search(base.count(Section::Credentials), |number| {
            let credential: Credential<'_> = at(number)?;
            Ok((credential.id()?, credential.version()).cmp(&(id, version)))
        })?;
        let Some(found) = found else { return Ok(None) };
        let credential = at(found)?;
        // A later delta may have replaced or removed it.
        let newest = self.overlay.credentials.contains_key(credential.digest().as_bytes());
        Ok((!newest).then_some(credential))
    }

    /// The installation's clock skew and maximum staleness in seconds.
    pub fn limits(&self) -> Result<(u64, u64), Unreadable> {
        let (_, record) = self.installation()?;
        Ok((u64::from(word(record, 0)?), u64::from(word(record, 4)?)))
    }

    /// The proxies whose word on the client's address is taken; nothing where there are none.
    pub fn trusted_proxies(&self) -> Result<Option<Ranges<'_>>, Unreadable> {
        let (fragment, record) = self.installation()?;
        Ranges::open(fragment, word(record, 8)?)
    }

    fn installation(&self) -> Result<(&Fragment, &[u8; 12]), Unreadable> {
        let layer = match self.overlay.installation {
            Some(place) => self.layer(place)?,
            None => &self.base,
        };
        Ok((&layer.fragment, layer.fragment.record(Section::Installation, 0)?))
    }

    /// The slot of an id that is in the base or came with a delta.
    fn slot(&self, symbol: Symbol, id: &str) -> Result<Option<u32>, Unreadable> {
        if let Some(slot) = self.overlay.ids(symbol).get(id) {
            return Ok(Some(*slot));
        }
        let base = &self.base.fragment;
        search(base.count(symbol.section()), |number| Ok(symbol_at(base, symbol, number)?.0.cmp(id)))
    }
}

impl<'p> Here<'p> {
    pub(crate) fn tenant(self, number: u32) -> Result<Option<Tenant<'p>>, Unreadable> {
        Ok(self.follow(Symbol::Tenant, number)?.map(|(here, number, record)| Tenant { here, number, record }))
    }

    pub(crate) fn group(self, number: u32) -> Result<Option<Group<'p>>, Unreadable> {
        Ok(self.follow(Symbol::Group, number)?.map(|(here, _, record)| Group { here, record }))
    }

    pub(crate) fn user(self, number: u32) -> Result<Option<User<'p>>, Unreadable> {
        Ok(self.follow(Symbol::User, number)?.map(|(here, _, record)| User { here, record }))
    }

    /// The endpoint of that number in this very layer: a service and its catalogue are replaced together.
    pub(crate) fn endpoint(self, number: u32) -> Result<Endpoint<'p>, Unreadable> {
        let record = self.layer.fragment.record(Section::Endpoints, number)?;
        Ok(Endpoint { here: self, number, record })
    }

    #[inline]
    fn follow<const N: usize>(
        self,
        symbol: Symbol,
        number: u32,
    ) -> Result<Option<(Here<'p>, u32, &'p [u8; N])>, Unreadable> {
        self.policy.follow(symbol, self.layer, number)
    }
}

impl Layer {
    /// The slot of a record's number in this layer.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a symbol's number is below the array's length")]
    pub(crate) fn slot(&self, symbol: Symbol, number: u32) -> Result<u32, Unreadable> {
        match &self.translation {
            None => Ok(number),
            Some(all) => all[symbol as usize].slots.get(number as usize).copied().ok_or(Unreadable),
        }
    }

    /// The number in this layer of a slot, where the layer names it.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a symbol's number is below the array's length")]
    pub(crate) fn number(&self, symbol: Symbol, slot: u32) -> Option<u32> {
        match &self.translation {
            None => Some(slot),
            Some(all) => {
                let numbers = &all[symbol as usize].numbers;
                let at = numbers.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
                numbers.get(at).map(|(_, number)| *number)
            }
        }
    }
}

#[expect(clippy::indexing_slicing, reason = "a symbol's number is below the array's length")]
impl Overlay {
    fn slots(&self, symbol: Symbol) -> &HashMap<u32, Newest, Keyed> {
        &self.slots[symbol as usize]
    }

    fn slots_mut(&mut self, symbol: Symbol) -> &mut HashMap<u32, Newest, Keyed> {
        &mut self.slots[symbol as usize]
    }

    fn ids(&self, symbol: Symbol) -> &HashMap<String, u32, Keyed> {
        &self.ids[symbol as usize]
    }

    fn ids_mut(&mut self, symbol: Symbol) -> &mut HashMap<String, u32, Keyed> {
        &mut self.ids[symbol as usize]
    }

    /// Puts a layer in its place and makes its records the newest. The delta was checked, so every read succeeds; a
    /// record that could not be read would be left as it was before.
    fn install(&mut self, place: usize, mut layer: Layer) {
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

fn symbol_at(fragment: &Fragment, symbol: Symbol, number: u32) -> Result<(&str, Presence), Unreadable> {
    let record: &[u8; 8] = fragment.record(symbol.section(), number)?;
    Ok((fragment.text(word(record, 0)?)?, Presence::of(word(record, 4)?)?))
}

fn route_at(fragment: &Fragment, number: u32) -> Result<(&str, Presence), Unreadable> {
    let record: &[u8; 8] = fragment.record(Section::Routes, number)?;
    Ok((fragment.text(word(record, 0)?)?, Presence::of(word(record, 4)?)?))
}

fn has_wildcards(fragment: &Fragment) -> Result<bool, Unreadable> {
    let mut wildcards = false;
    for number in 0..fragment.count(Section::Routes) {
        wildcards |= route_at(fragment, number)?.0.starts_with("*.");
    }
    Ok(wildcards)
}

/// Binary search over the numbers below `count`.
fn search(
    count: u32,
    mut compare: impl FnMut(u32) -> Result<std::cmp::Ordering, Unreadable>,
) -> Result<Option<u32>, Unreadable> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle)? {
            std::cmp::Ordering::Equal => return Ok(Some(middle)),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Ok(None)
}

pub(crate) fn damaged(_: Unreadable) -> LoadError {
    LoadError::Damaged
}
