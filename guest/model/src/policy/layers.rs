//! A loaded policy: the base, and over it everything that changed since.
//!
//! Each delta stays in memory as the fragment it came as, one *layer*, until every record in it has been replaced by a
//! later one. Records refer to others by their number in the same layer; a *slot* is that number for the whole policy:
//! the base's own numbers, then one more for each id that a delta brought. Hash tables keyed by the installation's seed
//! say which layer has the newest record of a slot, digest or host; while they are empty they cost nothing.

use super::Unreadable;
use super::format::{Fragment, FragmentKind, LoadError, Presence, Section, word};
use super::index;
use super::overlay::{Newest, Overlay};
use super::paths::PathTable;
use super::ranges::Ranges;
use super::records::{Credential, Endpoint, Group, Here, Service, Symbol, Tenant, User};
use crate::credential::SecretDigest;
use crate::id::Revision;
use crate::source::MAX_HOST_BYTES;

/// A loaded policy.
pub struct Policy {
    pub(super) base: Layer,
    pub(super) overlay: Overlay,
    pub(super) revision: Revision,
}

/// A fragment and how its records' numbers translate to slots and back.
pub(crate) struct Layer {
    pub(crate) fragment: Fragment,
    /// From number to slot and, sorted, from slot to number. Nothing for the base, whose numbers are the slots.
    pub(super) translation: Option<[Translation; Symbol::COUNT]>,
    pub(super) live: u32,
}

#[derive(Default)]
pub(super) struct Translation {
    pub(super) slots: Vec<u32>,
    pub(super) numbers: Vec<(u32, u32)>,
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
        let overlay = Overlay::new(fragment.keys, has_wildcards(&fragment).map_err(damaged)?);
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
        if host.len() > MAX_HOST_BYTES {
            return Ok(None);
        }
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
        if layer.fragment.raw_text(word(record, 0)?)? != pattern.as_bytes() {
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
    pub(super) fn slot(&self, symbol: Symbol, id: &str) -> Result<Option<u32>, Unreadable> {
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

pub(super) fn symbol_at(fragment: &Fragment, symbol: Symbol, number: u32) -> Result<(&str, Presence), Unreadable> {
    let record: &[u8; 8] = fragment.record(symbol.section(), number)?;
    Ok((fragment.text(word(record, 0)?)?, Presence::of(word(record, 4)?)?))
}

pub(super) fn route_at(fragment: &Fragment, number: u32) -> Result<(&str, Presence), Unreadable> {
    let record: &[u8; 8] = fragment.record(Section::Routes, number)?;
    Ok((fragment.text(word(record, 0)?)?, Presence::of(word(record, 4)?)?))
}

/// Reads every route, so it looks at no more of each than it must.
pub(super) fn has_wildcards(fragment: &Fragment) -> Result<bool, Unreadable> {
    let mut wildcards = false;
    for number in 0..fragment.count(Section::Routes) {
        let record: &[u8; 12] = fragment.record(Section::Routes, number)?;
        wildcards |= fragment.raw_text(word(record, 0)?)?.starts_with(b"*.");
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

pub(super) fn damaged(_: Unreadable) -> LoadError {
    LoadError::Damaged
}
