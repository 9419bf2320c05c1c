//! From a source document or a delta to bytes: the one builder.
//!
//! The same records give the same bytes, in whatever order the document lists them.

mod check;
mod proof;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

#[cfg(test)]
use super::format::Fragment;
use super::format::{
    FORMAT, FragmentKind, HEADER_BYTES, MAGIC, MAX_POLICY_BYTES, NONE, Presence, SECTIONS, Section, checksum, keys,
};
use super::index;
use super::paths::{Match, PathTableBuilder, Pattern};
use super::ranges;
use super::records::{
    CREDENTIAL_INDEPENDENT, CREDENTIAL_REVOKED, CREDENTIAL_SIGNED_ONLY, ENDPOINT_PER_APPLICATION, ENDPOINT_TOKEN,
    NEVER, Symbol, TENANT_IP_FILTER, TENANT_ISSUANCE_ONLY, TENANT_SIGNATURE_CHECK, TENANT_SUSPENDED, USER_DISABLED,
    USER_MEMBER, kind_bit,
};
use crate::address::Cidr;
use crate::credential::{Kind, Seed};
use crate::id::{Id, Revision};
use crate::method::Methods;
use crate::source::{
    CreatorRule, Credential, CredentialState, Delta, Fault, Group, Installation, Module, Presentation, Removed,
    ReplayMode, Role, Route, SecretVersion, Service, SignatureMode, Source, Tenant, TenantState, TokenRevocation, User,
    UserState, routes,
};

/// Compiles a whole source document into the bytes of a base.
///
/// # Errors
/// [`BuildError::Faults`] with the first faults of the document: dangling references, duplicates, fields that a kind does
/// not have, paths that cannot match; the others where the result would exceed the format.
pub fn build(source: &Source) -> Result<Vec<u8>, BuildError> {
    check::source(source).map_err(BuildError::Faults)?;
    let routes = routes(source);
    encode(&Records {
        kind: FragmentKind::Base,
        from: source.revision,
        revision: source.revision,
        seed: source.seed,
        installation: Some(&source.installation),
        services: &source.services,
        routes: &routes,
        tenants: &source.tenants,
        groups: &source.groups,
        users: &source.users,
        credentials: &source.credentials,
        removed: &Removed::default(),
        checkpoint: source.checkpoint.as_deref(),
    })
}

/// Compiles a delta.
///
/// References to records that the delta does not hold are left to the policy that it is applied to.
///
/// # Errors
/// As [`build`], for the records that the delta does hold.
pub fn build_delta(delta: &Delta) -> Result<Vec<u8>, BuildError> {
    check::delta(delta).map_err(BuildError::Faults)?;
    encode(&Records {
        kind: FragmentKind::Delta,
        from: delta.from,
        revision: delta.revision,
        seed: delta.seed,
        installation: delta.installation.as_ref(),
        services: &delta.services,
        routes: &delta.routes,
        tenants: &delta.tenants,
        groups: &delta.groups,
        users: &delta.users,
        credentials: &delta.credentials,
        removed: &delta.removed,
        checkpoint: delta.checkpoint.as_deref(),
    })
}

/// Why a policy could not be built. Nothing has been made then.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// What is wrong with the document, each with its place; the first [`check::MAX_FAULTS`] of them.
    Faults(Vec<Fault>),
    /// Too many digests fall into one place of the table. By chance that does not happen: they were chosen so.
    IndexFull {
        /// The credential, or the host, that found no place.
        record: String,
    },
    /// The policy would be longer than [`MAX_POLICY_BYTES`].
    TooLarge,
}

impl std::error::Error for BuildError {}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Faults(faults) => {
                for (position, fault) in faults.iter().enumerate() {
                    let separator = if position == 0 { "" } else { "\n" };
                    write!(f, "{separator}{fault}")?;
                }
                Ok(())
            }
            BuildError::IndexFull { record } => {
                write!(f, "no place in the table for `{record}`: its digest was chosen to collide")
            }
            BuildError::TooLarge => write!(f, "the policy would be longer than {MAX_POLICY_BYTES} bytes"),
        }
    }
}

/// Checked records, of a source or of a delta.
struct Records<'s> {
    kind: FragmentKind,
    from: Revision,
    revision: Revision,
    seed: Seed,
    installation: Option<&'s Installation>,
    services: &'s [Service],
    routes: &'s [Route],
    tenants: &'s [Tenant],
    groups: &'s [Group],
    users: &'s [User],
    credentials: &'s [Credential],
    removed: &'s Removed,
    checkpoint: Option<&'s str>,
}

/// The part of a fragment that other parts point into.
pub(crate) struct Arena {
    start: usize,
    bytes: Vec<u8>,
    texts: HashMap<String, u32>,
    blobs: HashMap<Vec<u8>, u32>,
}

impl Arena {
    pub(crate) fn new(start: usize) -> Self {
        Arena { start, bytes: Vec::new(), texts: HashMap::new(), blobs: HashMap::new() }
    }

    /// A fragment that is this arena alone, at its offset.
    #[cfg(test)]
    pub(crate) fn into_fragment(self, keys: (u64, u64)) -> Fragment {
        Fragment::of([vec![0; self.start], self.bytes].concat(), keys)
    }

    fn offset(&self) -> u32 {
        // Too large a policy saturates here and is refused at the end.
        u32::try_from(self.start + self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn push_text(&mut self, text: &str) -> u32 {
        let offset = self.offset();
        crate::packed::put_text(&mut self.bytes, text);
        offset
    }

    /// The offset of a text, stored once. The empty text is at 0.
    pub(crate) fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(offset) = self.texts.get(text) {
            return *offset;
        }
        let offset = self.push_text(text);
        self.texts.insert(text.to_owned(), offset);
        offset
    }

    /// The offset of bytes on a multiple of 4, stored once.
    pub(crate) fn blob(&mut self, blob: &[u8]) -> u32 {
        if let Some(offset) = self.blobs.get(blob) {
            return *offset;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let offset = self.offset();
        self.bytes.extend_from_slice(blob);
        self.blobs.insert(blob.to_vec(), offset);
        offset
    }

    /// The offset of a list: its entries behind their number. The empty list is at 0.
    pub(crate) fn list<const N: usize>(&mut self, entries: impl ExactSizeIterator<Item = [u8; N]>) -> u32 {
        if entries.len() == 0 {
            return 0;
        }
        let mut blob = u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        entries.for_each(|entry| blob.extend_from_slice(&entry));
        self.blob(&blob)
    }

    fn ranges(&mut self, cidrs: &[Cidr]) -> u32 {
        if cidrs.is_empty() { 0 } else { self.blob(&ranges::encode(cidrs)) }
    }
}

/// The ids of one kind of record, numbered in order.
struct Names {
    sorted: Vec<(String, Presence)>,
    numbers: HashMap<String, u32>,
}

impl Names {
    /// # Errors
    /// What is removed and at the same time put, or named by another record.
    fn new(
        symbol: Symbol,
        defined: impl Iterator<Item = String>,
        named: impl Iterator<Item = String>,
        removed: impl Iterator<Item = String>,
    ) -> Result<Names, BuildError> {
        let mut all: BTreeMap<String, Presence> = BTreeMap::new();
        // What is said later wins: a record defined here may also be named here.
        all.extend(named.map(|id| (id, Presence::Named)));
        all.extend(defined.map(|id| (id, Presence::Defined)));
        for id in removed {
            let at = format!("{} `{id}`", symbol.as_str());
            if all.insert(id, Presence::Removed).is_some_and(|stands| stands != Presence::Removed) {
                let what = "it is removed, but also put or referred to".to_owned();
                return Err(BuildError::Faults(vec![Fault { at, what }]));
            }
        }
        let sorted: Vec<_> = all.into_iter().collect();
        let numbers = sorted.iter().zip(0..).map(|((id, _), number)| (id.clone(), number)).collect();
        Ok(Names { sorted, numbers })
    }

    fn number(&self, id: &str) -> u32 {
        self.numbers.get(id).copied().unwrap_or(NONE)
    }

    fn count(&self) -> usize {
        self.sorted.len()
    }
}

fn scoped(tenant: &Id, id: &Id) -> String {
    format!("{tenant}/{id}")
}

/// Everything that is being put together.
struct Encoder<'s> {
    records: &'s Records<'s>,
    keys: (u64, u64),
    tenants: Names,
    services: Names,
    endpoints: Names,
    groups: Names,
    users: Names,
    arena: Arena,
}

fn encode(records: &Records<'_>) -> Result<Vec<u8>, BuildError> {
    let names = |text: &str| text.to_owned();
    let none = std::iter::empty::<String>;
    let settings = records.tenants.iter().flat_map(|tenant| &tenant.endpoints).map(|setting| &setting.endpoint);
    let permissions = records.groups.iter().flat_map(|group| &group.permissions).map(|permission| &permission.endpoint);
    let allowed = records.credentials.iter().flat_map(|credential| &credential.endpoints);
    let members = records.users.iter().filter_map(|user| Some(scoped(&user.tenant, user.group.as_ref()?)));
    let holders = records
        .credentials
        .iter()
        .filter_map(|credential| Some(scoped(&credential.tenant, credential.group.as_ref()?)));
    let creators = records
        .credentials
        .iter()
        .filter_map(|credential| Some(scoped(&credential.tenant, credential.creator.as_ref()?)));
    let pinned = records.services.iter().filter_map(|service| service.tenant.as_ref());
    let owners = records.credentials.iter().map(|credential| &credential.tenant).collect::<BTreeSet<_>>();
    let parents = records.groups.iter().map(|group| &group.tenant).chain(records.users.iter().map(|user| &user.tenant));
    let parents = parents.collect::<BTreeSet<_>>();
    let routed = records.routes.iter().flat_map(|route| &route.services).map(|target| &target.service);
    let pairs = |pairs: &[(Id, Id)]| pairs.iter().map(|(tenant, id)| scoped(tenant, id)).collect::<Vec<_>>();

    let tenants = Names::new(
        Symbol::Tenant,
        records.tenants.iter().map(|tenant| names(tenant.id.as_str())),
        pinned.chain(owners).chain(parents).map(|id| names(id.as_str())),
        records.removed.tenants.iter().map(|id| names(id.as_str())),
    )?;
    let services = Names::new(
        Symbol::Service,
        records.services.iter().map(|service| names(service.id.as_str())),
        routed.map(|id| names(id.as_str())),
        records.removed.services.iter().map(|id| names(id.as_str())),
    )?;
    let endpoints = Names::new(
        Symbol::Endpoint,
        records
            .services
            .iter()
            .flat_map(|service| service.endpoints.iter().map(|endpoint| scoped(&service.id, &endpoint.id))),
        settings.chain(permissions).chain(allowed).collect::<BTreeSet<_>>().into_iter().map(ToString::to_string),
        none(),
    )?;
    let groups = Names::new(
        Symbol::Group,
        records.groups.iter().map(|group| scoped(&group.tenant, &group.id)),
        members.chain(holders),
        pairs(&records.removed.groups).into_iter(),
    )?;
    let users = Names::new(
        Symbol::User,
        records.users.iter().map(|user| scoped(&user.tenant, &user.id)),
        creators,
        pairs(&records.removed.users).into_iter(),
    )?;
    let arena = Arena::new(0);
    Encoder { records, keys: keys(records.seed), tenants, services, endpoints, groups, users, arena }.encode()
}

impl Encoder<'_> {
    fn encode(mut self) -> Result<Vec<u8>, BuildError> {
        let records = self.records;
        let secrets: usize = records.credentials.iter().map(|credential| credential.secrets.len()).sum();
        // Each is found by its id too.
        let clients = records.credentials.iter().filter(|credential| credential.kind.is_client()).count();
        let routes = records.routes.len() + records.removed.routes.len();
        let is_base = records.kind == FragmentKind::Base;
        let buckets = |count: usize| if is_base { count.div_ceil(index::LOAD) } else { 0 };
        let counts: [usize; SECTIONS - 1] = [
            usize::from(records.installation.is_some()),
            self.tenants.count(),
            self.services.count(),
            self.endpoints.count(),
            self.groups.count(),
            self.users.count(),
            routes,
            secrets + records.removed.digests.len(),
            buckets(secrets + clients),
            buckets(routes),
        ];
        let mut places = Vec::with_capacity(SECTIONS);
        let mut end = HEADER_BYTES;
        for (section, count) in Section::ALL.into_iter().zip(counts) {
            // Whole cache lines for what is looked up at random.
            end = end.next_multiple_of(if section.record_bytes() == 64 { 64 } else { 4 });
            places.push((end, count));
            end += count * section.record_bytes();
        }
        self.arena = Arena::new(end);

        let installation = self.installation();
        let tenants = self.tenants()?;
        let services = self.services()?;
        let endpoints = self.endpoints();
        let groups = self.groups();
        let users = self.users();
        let (routes, route_index) = self.routes()?;
        let (credentials, credential_index) = self.credentials()?;
        let checkpoint = records.checkpoint.unwrap_or_default().as_bytes().iter().map(|byte| [*byte]);
        let checkpoint = self.arena.list(checkpoint);
        let arena = std::mem::take(&mut self.arena.bytes);
        places.push((end, arena.len()));

        let mut out = Vec::with_capacity(end + arena.len());
        self.header(&mut out, &places, end + arena.len(), checkpoint)?;
        let sections = [
            installation,
            tenants,
            services,
            endpoints,
            groups,
            users,
            routes,
            credentials,
            credential_index,
            route_index,
            arena,
        ];
        for ((offset, _), section) in places.iter().zip(&sections) {
            out.resize(*offset, 0);
            out.extend_from_slice(section);
        }
        let sum = checksum(&out).to_le_bytes();
        if let Some(place) = out.get_mut(8..16) {
            place.copy_from_slice(&sum);
        }
        Ok(out)
    }

    fn header(
        &self,
        out: &mut Vec<u8>,
        places: &[(usize, usize)],
        length: usize,
        checkpoint: u32,
    ) -> Result<(), BuildError> {
        if length > MAX_POLICY_BYTES {
            return Err(BuildError::TooLarge);
        }
        let word = |number: usize| u32::try_from(number).map_err(|_| BuildError::TooLarge);
        let kind: u32 = match self.records.kind {
            FragmentKind::Base => 0,
            FragmentKind::Delta => 1,
        };
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&self.records.from.0.to_le_bytes());
        out.extend_from_slice(&self.records.revision.0.to_le_bytes());
        out.extend_from_slice(&self.records.seed.0);
        out.extend_from_slice(&word(length)?.to_le_bytes());
        out.extend_from_slice(&word(SECTIONS)?.to_le_bytes());
        out.extend(words([checkpoint, 0]));
        for (offset, count) in places {
            out.extend_from_slice(&word(*offset)?.to_le_bytes());
            out.extend_from_slice(&word(*count)?.to_le_bytes());
        }
        Ok(())
    }

    fn installation(&mut self) -> Vec<u8> {
        let Some(installation) = self.records.installation else { return Vec::new() };
        let proxies = self.arena.ranges(&installation.trusted_proxies);
        let profiles = self.profiles(&installation.signature_profiles);
        let keys = self.token_keys(&installation.token_keys);
        words([installation.clock_skew_s, installation.max_staleness_s, proxies, profiles, keys])
    }

    /// One record for each name: that of the defined ones from `record`, of the others the name alone.
    fn symbols<'r, T: 'r, const N: usize>(
        &mut self,
        symbol: Symbol,
        defined: impl Iterator<Item = (String, &'r T)>,
        mut record: impl FnMut(&mut Self, &'r T) -> Result<[u32; N], BuildError>,
    ) -> Result<Vec<u8>, BuildError> {
        let defined: HashMap<String, &T> = defined.collect();
        let names = std::mem::take(&mut self.names(symbol).sorted);
        let mut out = Vec::with_capacity(names.len() * symbol.section().record_bytes());
        for (id, presence) in &names {
            let at = self.arena.text(id);
            let mut rest = match defined.get(id) {
                Some(value) => record(self, value)?,
                None => [0; N],
            };
            if let Some(flags) = rest.first_mut() {
                *flags |= presence.bits();
            }
            out.extend(words([at]));
            out.extend(words(rest));
        }
        self.names(symbol).sorted = names;
        Ok(out)
    }

    fn names(&mut self, symbol: Symbol) -> &mut Names {
        match symbol {
            Symbol::Tenant => &mut self.tenants,
            Symbol::Service => &mut self.services,
            Symbol::Endpoint => &mut self.endpoints,
            Symbol::Group => &mut self.groups,
            Symbol::User => &mut self.users,
        }
    }

    fn tenants(&mut self) -> Result<Vec<u8>, BuildError> {
        let defined = self.records.tenants.iter().map(|tenant| (tenant.id.to_string(), tenant));
        self.symbols(Symbol::Tenant, defined, |this, tenant| {
            let mut flags = match tenant.state {
                TenantState::Active => 0,
                TenantState::Suspended => TENANT_SUSPENDED,
            };
            flags |= match tenant.token_revocation {
                TokenRevocation::AllTokens => 0,
                TokenRevocation::IssuanceOnly => TENANT_ISSUANCE_ONLY,
            };
            for module in &tenant.modules {
                flags |= match module {
                    Module::IpFilter => TENANT_IP_FILTER,
                    Module::SignatureCheck => TENANT_SIGNATURE_CHECK,
                };
            }
            let mut sorted: Vec<_> = tenant.endpoints.iter().collect();
            sorted.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
            let mut settings = Vec::new();
            for setting in sorted {
                let signature = match setting.signature {
                    SignatureMode::Off => 0,
                    SignatureMode::Observed => 1,
                    SignatureMode::Enforced => 2,
                };
                let replay = match setting.replay {
                    ReplayMode::Auto => 0,
                    ReplayMode::Once => 1,
                    ReplayMode::Any => 2,
                };
                let endpoint = this.endpoints.number(&setting.endpoint.to_string());
                settings.push([endpoint, this.arena.ranges(&setting.ip_ranges), signature | (replay << 8)]);
            }
            settings.sort_unstable();
            let settings = this.arena.list(settings.into_iter().map(bytes::<3, 12>));
            Ok([flags, settings, this.arena.text(tenant.token_issuer.as_deref().unwrap_or_default())])
        })
    }

    fn services(&mut self) -> Result<Vec<u8>, BuildError> {
        let defined = self.records.services.iter().map(|service| (service.id.to_string(), service));
        self.symbols(Symbol::Service, defined, |this, service| {
            let pinned = service.tenant.as_ref().map_or(NONE, |tenant| this.tenants.number(tenant.as_str()));
            // The order in which they stand does not matter: two at once are refused.
            let mut sorted: Vec<_> = service.accept.iter().map(accepted_place).collect();
            sorted.sort_unstable();
            let mut accepted = Vec::new();
            for (place, name, kinds) in sorted {
                accepted.push([place, this.arena.text(&name), kinds]);
            }
            let accepted = this.arena.list(accepted.into_iter().map(bytes::<3, 12>));
            let table = this.endpoint_paths(service)?;
            let challenge = this.arena.text(&challenge(service));
            Ok([0, pinned, accepted, table, challenge])
        })
    }

    fn endpoint_paths(&mut self, service: &Service) -> Result<u32, BuildError> {
        let mut patterns = Vec::new();
        for endpoint in &service.endpoints {
            let whole = endpoint.paths.iter().map(|path| (path, Match::Whole));
            let prefixes = endpoint.prefixes.iter().map(|path| (path, Match::Prefix));
            for (path, how) in whole.chain(prefixes) {
                let fault = |what| BuildError::Faults(vec![check::endpoint_fault(service, endpoint, what)]);
                patterns.push((Pattern::parse(path).map_err(fault)?, how, path, endpoint));
            }
        }
        // The table's nodes are numbered as its patterns come.
        patterns.sort_by(|(a, how, _, one), (b, other_how, _, other)| {
            (a, how, one.methods, &one.id).cmp(&(b, other_how, other.methods, &other.id))
        });
        let mut table = PathTableBuilder::new();
        for (pattern, how, path, endpoint) in patterns {
            let number = self.endpoints.number(&scoped(&service.id, &endpoint.id));
            table.add(&pattern, how, number, endpoint.methods).map_err(|conflict| {
                let other = self.endpoints.sorted.get(conflict.record as usize).map_or("", |(id, _)| id);
                let what = format!("the path `{path}` is that of `{other}` for the same method");
                BuildError::Faults(vec![check::endpoint_fault(service, endpoint, what)])
            })?;
        }
        self.write_table(&table, service.id.as_str())
    }

    fn write_table(&mut self, table: &PathTableBuilder, of: &str) -> Result<u32, BuildError> {
        table.write(&mut self.arena, self.keys).map_err(|_| BuildError::IndexFull { record: of.to_owned() })
    }

    fn endpoints(&mut self) -> Vec<u8> {
        let records = self.records;
        let defined: HashMap<String, _> = records
            .services
            .iter()
            .flat_map(|service| service.endpoints.iter().map(|endpoint| (scoped(&service.id, &endpoint.id), endpoint)))
            .collect();
        let mut out = Vec::new();
        for (id, presence) in &self.endpoints.sorted {
            let mut flags = presence.bits();
            let (mut name, mut scope, mut audience) = ("", "", "");
            if let Some(endpoint) = defined.get(id) {
                flags |= if endpoint.per_application { ENDPOINT_PER_APPLICATION } else { 0 };
                flags |= if endpoint.token_endpoint { ENDPOINT_TOKEN } else { 0 };
                name = &endpoint.name;
                scope = endpoint.scope.as_deref().unwrap_or_default();
                audience = endpoint.audience.as_deref().unwrap_or_default();
            }
            let texts = [id.as_str(), name, scope, audience].map(|text| self.arena.text(text));
            let [id, name, scope, audience] = texts;
            out.extend(words([id, flags, name, scope, audience]));
        }
        out
    }

    fn groups(&mut self) -> Vec<u8> {
        let defined = self.records.groups.iter().map(|group| (scoped(&group.tenant, &group.id), group));
        let encoded = self.symbols(Symbol::Group, defined, |this, group| {
            let mut permissions: BTreeMap<u32, u32> = BTreeMap::new();
            for permission in &group.permissions {
                let endpoint = this.endpoints.number(&permission.endpoint.to_string());
                *permissions.entry(endpoint).or_default() |= u32::from(permission.methods.bits());
            }
            let entries: Vec<[u32; 2]> = permissions.into_iter().map(<[u32; 2]>::from).collect();
            Ok([0, this.arena.list(entries.into_iter().map(bytes::<2, 8>))])
        });
        encoded.unwrap_or_default()
    }

    fn users(&mut self) -> Vec<u8> {
        let defined = self.records.users.iter().map(|user| (scoped(&user.tenant, &user.id), user));
        let encoded = self.symbols(Symbol::User, defined, |this, user| {
            let state = match user.state {
                UserState::Active => 0,
                UserState::Disabled => USER_DISABLED,
            };
            let role = match user.role {
                Role::Superuser | Role::Admin => 0,
                Role::Member => USER_MEMBER,
            };
            let group = user.group.as_ref().map_or(NONE, |group| this.groups.number(&scoped(&user.tenant, group)));
            Ok([state | role, group])
        });
        encoded.unwrap_or_default()
    }

    fn routes(&mut self) -> Result<(Vec<u8>, Vec<u8>), BuildError> {
        let records = self.records;
        let mut all: BTreeMap<&str, Option<&Route>> = BTreeMap::new();
        all.extend(records.removed.routes.iter().map(|host| (host.as_str(), None)));
        all.extend(records.routes.iter().map(|route| (route.host.as_str(), Some(route))));
        let mut out = Vec::new();
        let mut hashes = Vec::new();
        for (host, route) in all {
            hashes.push(index::name_hash(self.keys, host.as_bytes(), 0));
            let mut targets: Vec<_> = route.into_iter().flat_map(|route| &route.services).collect();
            targets.sort_unstable();
            let mut table = PathTableBuilder::new();
            for target in targets {
                let fault = |what: String| BuildError::Faults(vec![check::route_fault(host, what)]);
                let prefix = Pattern::parse(&target.prefix).map_err(fault)?;
                let service = self.services.number(target.service.as_str());
                table.add(&prefix, Match::Prefix, service, Methods::ALL).map_err(|conflict| {
                    let other = self.services.sorted.get(conflict.record as usize).map_or("", |(id, _)| id);
                    let service = &target.service;
                    fault(format!("the services `{service}` and `{other}` both have the prefix `{}`", target.prefix))
                })?;
            }
            let presence = if route.is_some() { Presence::Defined } else { Presence::Removed };
            let table = self.write_table(&table, host)?;
            out.extend(words([self.arena.text(host), presence.bits(), table]));
        }
        if records.kind == FragmentKind::Delta {
            return Ok((out, Vec::new()));
        }
        let index = index::build(&hashes).map_err(|_| BuildError::IndexFull { record: "a host".to_owned() })?;
        Ok((out, index))
    }

    fn credentials(&mut self) -> Result<(Vec<u8>, Vec<u8>), BuildError> {
        let records = self.records;
        let mut versions: Vec<_> = records
            .credentials
            .iter()
            .flat_map(|credential| credential.secrets.iter().map(move |secret| (credential, secret)))
            .collect();
        versions.sort_unstable_by(|(a, one), (b, other)| (&a.id, one.version).cmp(&(&b.id, other.version)));
        let mut out = Vec::with_capacity(64 * (versions.len() + records.removed.digests.len()));
        let mut digests = Vec::with_capacity(versions.len());
        // Clients are found by their ids too; where there are two versions, by the first.
        let mut ids = Vec::new();
        let mut id: (Option<&Id>, u32) = (None, 0);
        for ((credential, secret), number) in versions.iter().zip(0..) {
            if id.0 != Some(&credential.id) {
                id = (Some(&credential.id), self.arena.push_text(credential.id.as_str()));
                if credential.kind.is_client() {
                    ids.push((number, index::text_hash(self.keys, credential.id.as_str().as_bytes())));
                }
            }
            digests.push((number, index::digest_hash(self.keys, secret.sha256.as_bytes())));
            let ends = [credential.expires, secret.until].into_iter().flatten().min();
            let [a, b, c] = self.grant(credential, secret);
            let flags = (u32::from(secret.version) << 16)
                | (u32::from(credential.kind.code()) << 8)
                | match credential.state {
                    CredentialState::Active => 0,
                    CredentialState::Revoked => CREDENTIAL_REVOKED,
                }
                | match credential.creator_rule {
                    CreatorRule::FollowCreator => 0,
                    CreatorRule::Independent => CREDENTIAL_INDEPENDENT,
                }
                | if credential.signed_only { CREDENTIAL_SIGNED_ONLY } else { 0 };
            out.extend_from_slice(secret.sha256.as_bytes());
            out.extend(words([id.1, self.tenants.number(credential.tenant.as_str()), flags, a]));
            out.extend_from_slice(&ends.map_or(NEVER, |end| end.instant().as_secs()).to_le_bytes());
            out.extend(words([b, c]));
        }
        let mut removed = records.removed.digests.clone();
        removed.sort_unstable();
        for digest in removed {
            out.extend_from_slice(digest.as_bytes());
            out.extend(words([0, NONE, Presence::Removed.bits(), NONE, 0, 0, 0, 0]));
        }
        if records.kind == FragmentKind::Delta {
            return Ok((out, Vec::new()));
        }
        let count = digests.len() + ids.len();
        let index = index::build_entries(digests.into_iter().chain(ids), count).map_err(|full| {
            let record = versions.get(full.record as usize).map_or(String::new(), |(c, _)| c.id.to_string());
            BuildError::IndexFull { record }
        })?;
        Ok((out, index))
    }

    fn grant(&mut self, credential: &Credential, secret: &SecretVersion) -> [u32; 3] {
        let tenant = &credential.tenant;
        match credential.kind {
            Kind::Tenant => {
                let group = credential.group.as_ref().map_or(NONE, |group| self.groups.number(&scoped(tenant, group)));
                [group, self.arena.ranges(&credential.ip_allowlist), 0]
            }
            Kind::Management | Kind::Session => {
                let creator = credential.creator.as_ref().map_or(NONE, |user| self.users.number(&scoped(tenant, user)));
                let endpoints =
                    credential.endpoints.iter().map(|endpoint| self.endpoints.number(&endpoint.to_string()));
                let endpoints: BTreeSet<[u32; 1]> = endpoints.map(|number| [number]).collect();
                let endpoints = self.arena.list(endpoints.into_iter().map(bytes::<1, 4>));
                let applications: BTreeSet<&Id> = credential.applications.iter().collect();
                let applications: Vec<_> = applications.into_iter().map(|id| [self.arena.text(id.as_str())]).collect();
                let applications = self.arena.list(applications.into_iter().map(bytes::<1, 4>));
                [creator, endpoints, applications]
            }
            Kind::Workspace => {
                let profile = credential.signature_profile.as_ref().map_or("", Id::as_str);
                [secret.signing_slot.unwrap_or(NONE), self.arena.text(profile), 0]
            }
            Kind::Personal => {
                let user = credential.creator.as_ref().map_or(NONE, |user| self.users.number(&scoped(tenant, user)));
                [user, 0, 0]
            }
            Kind::Client => [NONE, 0, 0],
        }
    }
}

/// The number of the place, its name and the bits of the kinds.
fn accepted_place(presentation: &Presentation) -> (u32, String, u32) {
    let Presentation { header, parameter, scheme, signature, token, client, kinds } = presentation;
    let places = [
        (1, header.as_deref().map(str::to_ascii_lowercase)),
        (2, parameter.clone()),
        (3, scheme.clone()),
        (4, signature.as_ref().map(Id::to_string)),
        (5, token.clone()),
        (6, client.clone()),
    ];
    let kinds = kinds.iter().fold(0, |bits, kind| bits | kind_bit(*kind));
    let (place, name) = places.into_iter().find_map(|(place, name)| Some((place, name?))).unwrap_or_default();
    (place, name, kinds)
}

/// The challenges of a service, one for each way it accepts (RFC 9110 section 11.6.1). No scheme is registered for keys in
/// fields and parameters of their own, nor for signatures by a profile; `ApiKey` and `Signature` say so. Client
/// authentication is asked for by the token endpoint alone: a browser that reads `Basic` asks its user for a password.
fn challenge(service: &Service) -> String {
    let mut schemes: BTreeSet<&str> = BTreeSet::new();
    for Presentation { header, parameter, scheme, signature, token, .. } in &service.accept {
        schemes.extend(scheme.as_deref().or(token.as_deref()));
        schemes.extend(header.as_ref().or(parameter.as_ref()).map(|_| "ApiKey"));
        schemes.extend(signature.as_ref().map(|_| "Signature"));
    }
    let challenges: Vec<_> = schemes.iter().map(|scheme| format!("{scheme} realm=\"{}\"", service.id)).collect();
    challenges.join(", ")
}

fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn bytes<const N: usize, const M: usize>(words: [u32; N]) -> [u8; M] {
    let mut bytes = [0; M];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
