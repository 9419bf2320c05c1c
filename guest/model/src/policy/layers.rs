//! A loaded policy: the base, and over it everything that changed since.
//!
//! Each delta stays in memory as the fragment it came as, one *layer*, until every record in it has been replaced by a
//! later one. Records refer to others by their number in the same layer; a *slot* is that number for the whole policy:
//! the base's own numbers, then one more for each id that a delta brought. Hash tables keyed by the installation's seed
//! say which layer has the newest record of a slot, digest or host; while they are empty they cost nothing.

use std::cmp::Ordering;

use bytes::Bytes;
use subtle::ConstantTimeEq as _;

use super::Unreadable;
use super::format::{Fragment, FragmentKind, LoadError, Presence, Section, word};
use super::index;
use super::overlay::{Newest, Overlay};
use super::paths::{PathTable, Segments};
use super::ranges::Ranges;
use super::records::{Credential, Endpoint, Group, Here, MAX_SECRETS, Service, Symbol, Tenant, User};
use crate::credential::SecretDigest;
use crate::id::Revision;
use crate::source::MAX_HOST_BYTES;
use crate::sweep;

/// Where a reference leads: the layer, the number there, and the record; nothing where it has been removed.
type Followed<'p, const N: usize> = Option<(Here<'p>, u32, &'p [u8; N])>;

/// The versions of a client's secret.
pub type ClientVersions<'p> = [Option<Credential<'p>>; MAX_SECRETS];

/// A loaded policy.
pub struct Policy {
    pub(super) base: Layer,
    pub(super) overlay: Overlay,
    pub(super) revision: Revision,
    /// A newer checkpoint of the audit than the base's.
    pub(super) checkpoint: Option<String>,
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
    /// Bytes of deltas that are still in use, and of what is remembered of others.
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
    /// Opens a base where it lies and keeps it: a `Vec<u8>`, or bytes that have another owner.
    ///
    /// # Errors
    /// Any [`LoadError`] of damaged or foreign bytes; [`LoadError::WrongKind`] for a delta.
    pub fn open(bytes: impl Into<Bytes>) -> Result<Policy, LoadError> {
        let fragment = Fragment::open(bytes.into())?;
        if fragment.kind != FragmentKind::Base || fragment.count(Section::Installation) != 1 {
            return Err(LoadError::WrongKind { expected: "base" });
        }
        let overlay = Overlay::new(fragment.keys, has_wildcards(&fragment).map_err(damaged)?);
        let revision = fragment.revision;
        let base = Layer { fragment, translation: None, live: 0 };
        Ok(Policy { base, overlay, revision, checkpoint: None })
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
        Counts {
            base_bytes: base.size() as u64,
            overlay_bytes: self.overlay.bytes() as u64,
            overlay_layers: u32::try_from(self.overlay.layers()).unwrap_or(u32::MAX),
            services: base.count(Section::Services),
            endpoints: base.count(Section::Endpoints),
            tenants: base.count(Section::Tenants),
            groups: base.count(Section::Groups),
            users: base.count(Section::Users),
            credentials: base.count(Section::Credentials),
        }
    }

    pub(super) fn layer(&self, place: usize) -> Result<&Layer, Unreadable> {
        self.overlay.layer(place).ok_or(Unreadable)
    }

    /// The newest record behind a reference that stands in `layer`; nothing where it has been removed.
    #[inline]
    pub(crate) fn follow<const N: usize>(
        &self,
        symbol: Symbol,
        layer: &Layer,
        number: u32,
    ) -> Result<Followed<'_, N>, Unreadable> {
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
    /// The host is lower case and without a port.
    pub fn service(&self, host: &[u8], path: &Segments<'_>) -> Result<Option<Service<'_>>, Unreadable> {
        if host.len() > MAX_HOST_BYTES {
            return Ok(None);
        }
        if let Some(service) = self.service_under(host, path)? {
            return Ok(Some(service));
        }
        let mut rest = host;
        while self.overlay.wildcards
            && let Some(dot) = rest.iter().position(|byte| *byte == b'.')
        {
            rest = rest.get(dot + 1..).unwrap_or_default();
            if let Some(service) = self.service_under(&[b"*.", rest].concat(), path)? {
                return Ok(Some(service));
            }
        }
        Ok(None)
    }

    #[inline(always)]
    fn service_under(&self, pattern: &[u8], path: &Segments<'_>) -> Result<Option<Service<'_>>, Unreadable> {
        let Some((here, table)) = self.route(pattern)? else { return Ok(None) };
        let Some(target) = table.find(path, |_| true)? else { return Ok(None) };
        Ok(here.follow(Symbol::Service, target.record)?.map(|(here, _, record)| Service { here, record }))
    }

    #[inline(always)]
    fn route(&self, pattern: &[u8]) -> Result<Option<(Here<'_>, PathTable<'_>)>, Unreadable> {
        match self.overlay.routes.get(pattern) {
            Some(Newest::Removed) => return Ok(None),
            Some(Newest::At { layer, number }) => return self.route_at(self.layer(*layer)?, *number).map(Some),
            None => {}
        }
        match base_route(&self.base.fragment, pattern)? {
            Some(number) => self.route_at(&self.base, number).map(Some),
            None => Ok(None),
        }
    }

    #[inline(always)]
    fn route_at<'p>(&'p self, layer: &'p Layer, number: u32) -> Result<(Here<'p>, PathTable<'p>), Unreadable> {
        let record: &[u8; 12] = layer.fragment.record(Section::Routes, number)?;
        let table = PathTable::open(&layer.fragment, word(record, 8)?)?;
        Ok((Here { policy: self, layer }, table))
    }

    /// The credential version with that digest.
    #[inline(always)]
    pub fn credential(&self, digest: &SecretDigest) -> Result<Option<Credential<'_>>, Unreadable> {
        match self.overlay.credentials.get(digest.as_bytes()) {
            Some(Newest::Removed) => return Ok(None),
            Some(Newest::At { layer, number }) => {
                return self.credential_at(self.layer(*layer)?, *number).map(Some);
            }
            None => {}
        }
        match base_credential(&self.base.fragment, digest.as_bytes())? {
            Some(number) => self.credential_at(&self.base, number).map(Some),
            None => Ok(None),
        }
    }

    #[inline(always)]
    fn credential_at<'p>(&'p self, layer: &'p Layer, number: u32) -> Result<Credential<'p>, Unreadable> {
        let record = layer.fragment.record(Section::Credentials, number)?;
        Ok(Credential { here: Here { policy: self, layer }, record })
    }

    /// The credential version of that id and number, as recorded facts name it.
    pub fn credential_by_id(&self, id: &str, version: u16) -> Result<Option<Credential<'_>>, Unreadable> {
        // A record that is found counts only where it is still the newest of its digest.
        if let Some(&place) = self.overlay.credential_ids.get(id)
            && let Some((number, credential)) = self.credential_in(self.layer(place)?, id, version)?
            && self.newest(&credential) == Some(Newest::At { layer: place, number })
        {
            return Ok(Some(credential));
        }
        let found = self.credential_in(&self.base, id, version)?.map(|(_, credential)| credential);
        Ok(found.filter(|credential| self.newest(credential).is_none()))
    }

    fn credential_in<'p>(
        &'p self,
        layer: &'p Layer,
        id: &str,
        version: u16,
    ) -> Result<Option<(u32, Credential<'p>)>, Unreadable> {
        let found = find_credential(&layer.fragment, id, Some(version))?;
        found.map(|number| Ok((number, self.credential_at(layer, number)?))).transpose()
    }

    /// The versions of the secret of the client or personal key of that id, in their order; none where there is no such
    /// client.
    pub fn client(&self, id: &str) -> Result<ClientVersions<'_>, Unreadable> {
        if let Some(&place) = self.overlay.credential_ids.get(id) {
            let layer = self.layer(place)?;
            let number = find_credential(&layer.fragment, id, None)?;
            let newest = |credential: &Credential<'_>, number| {
                self.newest(credential) == Some(Newest::At { layer: place, number })
            };
            let found = number.map(|number| self.client_at(layer, number, id, newest)).transpose()?;
            if let Some(found) = found.filter(|found| found.iter().any(Option::is_some)) {
                return Ok(found);
            }
        }
        match base_client(&self.base.fragment, id)? {
            Some(number) => self.client_at(&self.base, number, id, |credential, _| self.newest(credential).is_none()),
            None => Ok(ClientVersions::default()),
        }
    }

    /// The versions at and beside a number that are of this client and `stand`.
    fn client_at<'p>(
        &'p self,
        layer: &'p Layer,
        number: u32,
        id: &str,
        stand: impl Fn(&Credential<'p>, u32) -> bool,
    ) -> Result<ClientVersions<'p>, Unreadable> {
        let mut versions = ClientVersions::default();
        let mut places = versions.iter_mut();
        let last = number.saturating_add(1).min(layer.fragment.count(Section::Credentials).saturating_sub(1));
        for number in number.saturating_sub(1)..=last {
            let record: &[u8; 64] = layer.fragment.record(Section::Credentials, number)?;
            let is_of = Presence::of(word(record, 40)?)? == Presence::Defined
                && layer.fragment.raw_text(word(record, 32)?)? == id.as_bytes();
            let credential = Credential { here: Here { policy: self, layer }, record };
            if is_of
                && credential.kind()?.is_client()
                && stand(&credential, number)
                && let Some(place) = places.next()
            {
                *place = Some(credential);
            }
        }
        Ok(versions)
    }

    fn newest(&self, credential: &Credential<'_>) -> Option<Newest> {
        self.overlay.credentials.get(credential.digest().as_bytes()).copied()
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

    /// The newest checkpoint of the audit that came with the policy; empty where none did.
    pub fn checkpoint(&self) -> Result<&str, Unreadable> {
        match &self.checkpoint {
            Some(newest) => Ok(newest),
            None => self.base.fragment.checkpoint(),
        }
    }

    pub(super) fn installation(&self) -> Result<(&Fragment, &[u8; 20]), Unreadable> {
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
        find(&self.base.fragment, symbol, id)
    }
}

impl<'p> Here<'p> {
    #[inline(always)]
    pub(crate) fn tenant(self, number: u32) -> Result<Option<Tenant<'p>>, Unreadable> {
        Ok(self.follow(Symbol::Tenant, number)?.map(|(here, number, record)| Tenant { here, number, record }))
    }

    #[inline(always)]
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
    fn follow<const N: usize>(self, symbol: Symbol, number: u32) -> Result<Followed<'p, N>, Unreadable> {
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

/// The number of an id in a fragment.
pub(super) fn find(fragment: &Fragment, symbol: Symbol, id: &str) -> Result<Option<u32>, Unreadable> {
    search(fragment.count(symbol.section()), |number| Ok(symbol_at(fragment, symbol, number)?.0.cmp(id)))
}

/// The number of a credential version in a fragment; of any version where none is given.
pub(super) fn find_credential(fragment: &Fragment, id: &str, version: Option<u16>) -> Result<Option<u32>, Unreadable> {
    search(fragment.count(Section::Credentials), |number| {
        let record: &[u8; 64] = fragment.record(Section::Credentials, number)?;
        let flags = word(record, 40)?;
        // What is removed stands at the end and has no id.
        if Presence::of(flags)? == Presence::Removed {
            return Ok(Ordering::Greater);
        }
        let order = fragment.text(word(record, 32)?)?.cmp(id);
        Ok(order.then_with(|| version.map_or(Ordering::Equal, |version| (flags >> 16).cmp(&u32::from(version)))))
    })
}

/// The number of the base's credential version with that digest.
#[inline(always)]
pub(super) fn base_credential(base: &Fragment, digest: &[u8; 32]) -> Result<Option<u32>, Unreadable> {
    for number in index::probe(base.section(Section::CredentialIndex)?, index::digest_hash(base.keys, digest)) {
        let number = number?;
        let record: &[u8; 64] = base.record(Section::Credentials, number)?;
        if record.first_chunk().is_some_and(|known| is_same(known, digest)) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// The number of the first version of the base's client of that id.
fn base_client(base: &Fragment, id: &str) -> Result<Option<u32>, Unreadable> {
    for number in index::probe(base.section(Section::CredentialIndex)?, index::text_hash(base.keys, id.as_bytes())) {
        let number = number?;
        let record: &[u8; 64] = base.record(Section::Credentials, number)?;
        if base.raw_text(word(record, 32)?)? == id.as_bytes() {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Whether two digests are the same, in constant time: the differences of all words are gathered, and looked at once.
#[inline]
fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differences = index::words(a).into_iter().zip(index::words(b)).fold(0, |all, (a, b)| all | (a ^ b));
    differences.ct_eq(&0).into()
}

/// The number of the base's route for that host pattern.
#[inline(always)]
pub(super) fn base_route(base: &Fragment, pattern: &[u8]) -> Result<Option<u32>, Unreadable> {
    for number in index::probe(base.section(Section::RouteIndex)?, index::name_hash(base.keys, pattern, 0)) {
        let number = number?;
        let record: &[u8; 12] = base.record(Section::Routes, number)?;
        if sweep::same(base.raw_text(word(record, 0)?)?, pattern) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Reads every route, so it looks at no more of each than it must.
fn has_wildcards(fragment: &Fragment) -> Result<bool, Unreadable> {
    let mut wildcards = false;
    for number in 0..fragment.count(Section::Routes) {
        let record: &[u8; 12] = fragment.record(Section::Routes, number)?;
        wildcards |= fragment.raw_text(word(record, 0)?)?.starts_with(b"*.");
    }
    Ok(wildcards)
}

/// Binary search over the numbers below `count`.
fn search(count: u32, mut compare: impl FnMut(u32) -> Result<Ordering, Unreadable>) -> Result<Option<u32>, Unreadable> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle)? {
            Ordering::Equal => return Ok(Some(middle)),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Ok(None)
}

pub(super) fn damaged(_: Unreadable) -> LoadError {
    LoadError::Damaged
}
