//! Sources made from bytes: the same bytes, the same source, and every one of them can be built.
//!
//! Names come from small pools, so that what one source lacks another one has and deltas remove, add again and move.

use std::collections::BTreeSet;

use portcullis_model::address::Cidr;
use portcullis_model::credential::{Kind, SecretDigest, Seed};
use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::method::{Method, Methods};
use portcullis_model::source::{
    Application, CreatorRule, Credential, CredentialState, Endpoint, EndpointSettings, Group, Module, Permission,
    Presentation, Role, SecretVersion, Service, SignatureMode, Source, Tenant, TenantState, TokenRevocation, User,
    UserState,
};
use portcullis_model::time::{Expiry, UnixTime};

pub(crate) const SEED: Seed = Seed(*b"0123456789abcdef");
pub(crate) const HOSTS: [&str; 6] =
    ["api.example", "a.api.example", "*.example", "*.api.example", "192.0.2.1", "[2001:db8::1]"];
pub(crate) const SEGMENTS: [&str; 6] = ["a", "b", "v1", "web", "caf\u{e9} 1", "x.y"];
pub(crate) const DIGESTS: u8 = 24;
const TENANTS: [&str; 5] = ["bolt", "acme", "acme-eu", "acme.eu", "Zeta"];
const SERVICES: [&str; 4] = ["shop", "api", "shop-2", "Admin"];
const PREFIXES: [&str; 4] = ["/", "/v1", "/v1/a", "/a"];
const NAMES: [&str; 4] = ["m", "a", "m-1", "z"];
const CIDRS: [&str; 8] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "11.0.0.0/8",
    "192.0.2.7",
    "0.0.0.0/1",
    "2001:db8::/32",
    "2001:db9::/32",
    "::ffff:10.9.0.0/112",
];

/// Choices read from bytes; where these end, the first of everything.
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % limit
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        of.iter().filter(|_| self.one_in(2)).cloned().collect()
    }

    fn methods(&mut self) -> Methods {
        let bits = Methods::from_bits(u8::try_from(self.below(128)).unwrap());
        if bits == Methods::NONE { Methods::ALL } else { bits }
    }

    fn cidrs(&mut self) -> Vec<Cidr> {
        (0..self.below(4)).map(|_| self.one(&CIDRS).parse().unwrap()).collect()
    }

    fn expiry(&mut self) -> Expiry {
        Expiry::at(UnixTime::from_secs(1_000_000 + self.below(8) as u64).unwrap())
    }
}

/// A source with something of everything. The keys are `key-one-old` and `key-one` to `key-four`.
pub(crate) fn small() -> Source {
    Source::from_json(include_bytes!("small.json")).unwrap()
}

/// What follows it: something of everything changed.
pub(crate) fn next() -> Source {
    Source::from_json(include_bytes!("next.json")).unwrap()
}

pub(crate) fn id(text: &str) -> Id {
    text.parse().unwrap()
}

pub(crate) fn digest(number: u8) -> SecretDigest {
    SecretDigest::new([number; 32])
}

pub(crate) fn source(bytes: &[u8], revision: u64) -> Source {
    let mut choices = Choices(bytes);
    let mut source = Source::empty(Revision(revision), SEED);
    source.installation.trusted_proxies = choices.cidrs();
    source.installation.clock_skew_s = u32::try_from(choices.below(4)).unwrap();
    let tenants = choices.some(&TENANTS);
    source.services = services(&mut choices, &tenants);
    for tenant in tenants {
        members(&mut choices, tenant, &mut source);
    }
    credentials(&mut choices, &mut source);
    source
}

fn services(choices: &mut Choices<'_>, tenants: &[&str]) -> Vec<Service> {
    let mut taken = BTreeSet::new();
    let mut services = Vec::new();
    for service in choices.some(&SERVICES) {
        let prefix = choices.one(&PREFIXES);
        let hosts: Vec<_> = choices.some(&HOSTS).into_iter().filter(|host| taken.insert((*host, prefix))).collect();
        if hosts.is_empty() {
            continue;
        }
        services.push(Service {
            id: id(service),
            hosts: hosts.into_iter().map(|host| host.to_owned().try_into().unwrap()).collect(),
            prefix: prefix.to_owned(),
            tenant: (!tenants.is_empty() && choices.one_in(3)).then(|| id(choices.one(tenants))),
            accept: accept(choices),
            endpoints: endpoints(choices, prefix),
        });
    }
    services
}

fn accept(choices: &mut Choices<'_>) -> Vec<Presentation> {
    let some = choices.some(&Presentation::usual());
    if some.is_empty() { Presentation::usual() } else { some }
}

fn endpoints(choices: &mut Choices<'_>, prefix: &str) -> Vec<Endpoint> {
    let mut taken: Vec<(String, bool, Methods)> = Vec::new();
    let mut endpoints = Vec::new();
    for endpoint in choices.some(&NAMES) {
        let methods = choices.methods();
        let per_application = choices.one_in(3);
        let (mut paths, mut prefixes) = (Vec::new(), Vec::new());
        for _ in 0..1 + choices.below(4) {
            let mut path = prefix.trim_end_matches('/').to_owned();
            let mut has_application = false;
            for _ in 0..choices.below(4) {
                path += "/";
                path += match choices.below(8) {
                    0 | 1 => "{p}",
                    2 if !has_application => {
                        has_application = true;
                        "{application}"
                    }
                    other => SEGMENTS[other % SEGMENTS.len()],
                };
            }
            let is_prefix = choices.one_in(3);
            let shape = path.replace("{application}", "{p}");
            let conflicts = |(other, as_prefix, of): &(String, bool, Methods)| {
                *other == shape && *as_prefix == is_prefix && of.overlaps(methods)
            };
            if path.is_empty() || (per_application && !has_application) || taken.iter().any(conflicts) {
                continue;
            }
            taken.push((shape, is_prefix, methods));
            if is_prefix { prefixes.push(path) } else { paths.push(path) }
        }
        if !paths.is_empty() || !prefixes.is_empty() {
            endpoints.push(Endpoint {
                id: id(endpoint),
                name: choices.one(&["", "An endpoint"]).to_owned(),
                methods,
                paths,
                prefixes,
                per_application,
                scope: None,
                audience: None,
                legacy: false,
                formerly: None,
                aliases: Vec::new(),
                token_endpoint: false,
            });
        }
    }
    endpoints
}

pub(crate) fn endpoint_refs(source: &Source) -> Vec<EndpointRef> {
    let of = |service: &Service| {
        let name = |endpoint: &Endpoint| EndpointRef { service: service.id.clone(), endpoint: endpoint.id.clone() };
        service.endpoints.iter().map(name).collect::<Vec<_>>()
    };
    source.services.iter().flat_map(of).collect()
}

fn members(choices: &mut Choices<'_>, tenant: &str, source: &mut Source) {
    let known = endpoint_refs(source);
    let settings = |choices: &mut Choices<'_>, endpoint: EndpointRef| EndpointSettings {
        endpoint,
        ip_ranges: choices.cidrs(),
        signature: choices.one(&[SignatureMode::Off, SignatureMode::Observed, SignatureMode::Enforced]),
        replay: Default::default(),
    };
    let endpoints = choices.some(&known).into_iter().map(|endpoint| settings(choices, endpoint)).collect::<Vec<_>>();
    source.tenants.push(Tenant {
        id: id(tenant),
        state: choices.one(&[TenantState::Active, TenantState::Suspended]),
        modules: choices.some(&[Module::IpFilter, Module::SignatureCheck]),
        endpoints,
        token_issuer: choices.one_in(2).then(|| format!("https://{tenant}.example")),
        token_revocation: choices.one(&[TokenRevocation::AllTokens, TokenRevocation::IssuanceOnly]),
    });
    for application in choices.some(&["web", "b"]) {
        source.applications.push(Application { id: id(application), tenant: id(tenant) });
    }
    let groups = choices.some(&NAMES);
    for group in &groups {
        let chosen = choices.some(&known);
        let permission = |endpoint| Permission { endpoint, methods: choices.methods() };
        let permissions = chosen.into_iter().map(permission).collect();
        source.groups.push(Group { id: id(group), tenant: id(tenant), permissions });
    }
    for user in choices.some(&NAMES) {
        let role = choices.one(&[Role::Member, Role::Admin, Role::Superuser]);
        let has_group = role == Role::Member && !groups.is_empty() && choices.one_in(2);
        source.users.push(User {
            id: id(user),
            tenant: id(tenant),
            role,
            state: choices.one(&[UserState::Active, UserState::Disabled]),
            group: has_group.then(|| id(choices.one(&groups))),
        });
    }
}

fn credentials(choices: &mut Choices<'_>, source: &mut Source) {
    let known = endpoint_refs(source);
    let mut digests: Vec<u8> = (0..DIGESTS).collect();
    let mut workspaces = BTreeSet::new();
    for number in 0..10 {
        if source.tenants.is_empty() || choices.one_in(3) {
            continue;
        }
        let tenant = choices.one(&source.tenants).id.clone();
        let groups: Vec<_> = source.groups.iter().filter(|group| group.tenant == tenant).collect();
        let users: Vec<_> = source.users.iter().filter(|user| user.tenant == tenant).collect();
        let applications: Vec<_> = source.applications.iter().filter(|app| app.tenant == tenant).collect();
        let mut credential = Credential {
            id: id(&format!("c{number}")),
            tenant: tenant.clone(),
            kind: choices.one(&Kind::ALL),
            state: choices.one(&[CredentialState::Active, CredentialState::Active, CredentialState::Revoked]),
            expires: choices.one_in(2).then(|| choices.expiry()),
            secrets: Vec::new(),
            group: None,
            ip_allowlist: Vec::new(),
            endpoints: Vec::new(),
            applications: Vec::new(),
            creator: None,
            creator_rule: CreatorRule::FollowCreator,
            signature_profile: None,
            signed_only: false,
        };
        match credential.kind {
            Kind::Tenant if groups.is_empty() => continue,
            Kind::Tenant => {
                credential.group = Some(choices.one(&groups).id.clone());
                credential.ip_allowlist = choices.cidrs();
            }
            Kind::Management => {
                credential.expires = Some(choices.expiry());
                credential.creator = (!users.is_empty()).then(|| choices.one(&users).id.clone());
                if users.is_empty() || choices.one_in(4) {
                    credential.creator_rule = CreatorRule::Independent;
                }
                credential.applications = choices.some(&applications).into_iter().map(|app| app.id.clone()).collect();
                let confined = !credential.applications.is_empty();
                credential.endpoints = choices.some(&known);
                credential.endpoints.retain(|endpoint| !confined || is_per_application(source, endpoint));
            }
            Kind::Workspace => {
                if credential.state == CredentialState::Active && !workspaces.insert(tenant) {
                    continue;
                }
            }
            Kind::Session if users.is_empty() => continue,
            Kind::Session => {
                credential.expires = Some(choices.expiry());
                credential.creator = Some(choices.one(&users).id.clone());
                credential.endpoints = choices.some(&known);
            }
            Kind::Personal if users.is_empty() => continue,
            Kind::Personal => credential.creator = Some(choices.one(&users).id.clone()),
            Kind::Client => {}
        }
        let version = 1 + u16::try_from(choices.below(3)).unwrap();
        for version in version..=version + u16::from(choices.one_in(2)) {
            let chosen = digests.swap_remove(choices.below(digests.len()));
            let until = choices.one_in(3).then(|| choices.expiry());
            credential.secrets.push(SecretVersion { version, sha256: digest(chosen), until, signing_slot: None });
        }
        source.credentials.push(credential);
    }
}

fn is_per_application(source: &Source, name: &EndpointRef) -> bool {
    let service = source.services.iter().find(|service| service.id == name.service).unwrap();
    service.endpoints.iter().any(|endpoint| endpoint.id == name.endpoint && endpoint.per_application)
}

/// A method of each kind and one that no endpoint has.
pub(crate) fn methods() -> impl Iterator<Item = Option<Method>> {
    Method::ALL.into_iter().map(Some).chain([None])
}
