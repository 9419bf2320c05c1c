//! Every lookup against a plain reading of the source.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::method::Method;
use portcullis_model::policy::{
    Creator, Credential as Compiled, Endpoint as CompiledEndpoint, Grant, NoMatch, Policy, Ranges, Segments,
    SignatureMode as Compiles, build, build_delta,
};
use portcullis_model::source::{
    CreatorRule, Credential, CredentialState, Delta, Endpoint, Group, Module, Role, SecretVersion, Service, Source,
    TenantState, User, UserState,
};
use proptest::prelude::*;

use crate::sources::{self, Choices, DIGESTS, HOSTS, SEGMENTS, digest, id, methods};

const ADDRESSES: [&str; 14] = [
    "9.255.255.255",
    "10.0.0.0",
    "10.1.255.255",
    "10.9.3.1",
    "11.255.255.255",
    "12.0.0.0",
    "127.255.255.255",
    "128.0.0.0",
    "192.0.2.7",
    "192.0.2.8",
    "::ffff:10.9.0.1",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:dba::",
    "::",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_says_what_its_source_says(bytes in choices(), paths in choices()) {
        let source = sources::source(&bytes, 1);
        let policy = Policy::open(build(&source).unwrap()).unwrap();
        check(&policy, &source, &paths);
    }

    #[test]
    fn after_any_chain_of_deltas_a_policy_says_what_the_last_source_says(
        bytes in choices(),
        steps in prop::collection::vec(prop::collection::vec((0usize..400, any::<u8>()), 0..12), 1..=8),
        paths in choices(),
    ) {
        let mut bytes = bytes;
        let mut source = sources::source(&bytes, 1);
        let mut policy = Policy::open(build(&source).unwrap()).unwrap();
        for (edits, revision) in steps.iter().zip(2..) {
            for (at, value) in edits {
                let at = at % bytes.len().max(1);
                if let Some(place) = bytes.get_mut(at) {
                    *place = *value;
                }
            }
            let next = sources::source(&bytes, revision);
            let delta = Delta::between(&source, &next);
            let json = serde_json::to_vec(&delta).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<Delta>(&json).unwrap(), &delta);
            let prepared = policy.prepare(build_delta(&delta).unwrap()).unwrap();
            policy.apply(prepared).unwrap();
            check(&policy, &next, &paths);
            source = next;
        }
    }
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

/// Compares everything that can be asked of the policy with the source.
pub(crate) fn check(policy: &Policy, source: &Source, paths: &[u8]) {
    assert_eq!(policy.revision(), source.revision);
    let installation = &source.installation;
    let limits = (u64::from(installation.clock_skew_s), u64::from(installation.max_staleness_s));
    assert_eq!(policy.limits(), Ok(limits));
    let proxies: Vec<String> = installation.trusted_proxies.iter().map(ToString::to_string).collect();
    check_ranges(policy.trusted_proxies().unwrap().as_ref(), &proxies);

    let mut endpoints = Vec::new();
    for host in
        HOSTS.into_iter().filter(|host| !host.contains('*')).chain(["b.api.example", "other.example", "example"])
    {
        for path in probe_paths(source, paths) {
            let split = Segments::of(path.as_bytes());
            let found = policy.service(host.as_bytes(), &split).unwrap();
            let expected = service(source, host, &path);
            assert_eq!(
                found.map(|found| found.id().unwrap()),
                expected.map(|service| service.id.as_str()),
                "{host} {path}"
            );
            let (Some(found), Some(expected)) = (found, expected) else { continue };
            assert_eq!(found.pinned().unwrap(), expected.tenant.as_ref().map(Id::as_str));
            assert_eq!(found.accepts().unwrap().map(Result::unwrap).count(), expected.accept.len());
            for method in methods() {
                let found = found.endpoint(&split, method).unwrap();
                match (endpoint(expected, &path, method), found) {
                    (Err(expected), Err(found)) => assert_eq!(found, expected),
                    (Ok((expected, pattern)), Ok(found)) => {
                        assert_eq!(found.endpoint.id().unwrap(), expected.0.to_string(), "{path}");
                        let application = segments(pattern).position(|segment| segment == "{application}");
                        assert_eq!(found.target.application_segment.map(usize::from), application);
                        assert_eq!(found.endpoint.is_per_application(), Ok(expected.1.per_application));
                        assert_eq!(found.endpoint.name(), Ok(expected.1.name.as_str()));
                        endpoints.push((expected.0, found.endpoint));
                    }
                    (expected, found) => {
                        panic!("{path}: expected {:?}, found {:?}", expected.map(|found| found.1), found.err());
                    }
                }
            }
            for credential in (0..DIGESTS).filter_map(|number| policy.credential(&digest(number)).unwrap()) {
                let tenant = credential.tenant().unwrap().unwrap();
                let serves = expected.tenant.as_ref().is_none_or(|pinned| pinned.as_str() == tenant.id().unwrap());
                assert_eq!(found.serves(&tenant), Ok(serves));
            }
        }
    }
    endpoints.sort_by(|(one, _), (other, _)| one.cmp(other));
    endpoints.dedup_by(|(one, _), (other, _)| one == other);
    for number in 0..DIGESTS {
        let found = policy.credential(&digest(number)).unwrap();
        let expected = secret(source, number);
        assert_eq!(found.is_some(), expected.is_some(), "{number}");
        if let (Some(found), Some((credential, version))) = (found, expected) {
            check_credential(source, &found, credential, version, &endpoints);
        }
    }
    for name in (0..11).map(|number| format!("c{number}")) {
        for version in 0..5 {
            let found = policy.credential_by_id(&name, version).unwrap();
            let expected =
                source.credentials.iter().find(|credential| credential.id.as_str() == name).and_then(|credential| {
                    Some((credential, credential.secrets.iter().find(|s| s.version == version)?))
                });
            assert_eq!(found.is_some(), expected.is_some(), "{name} {version}");
            if let (Some(found), Some((credential, version))) = (found, expected) {
                check_credential(source, &found, credential, version, &[]);
            }
        }
        let found: Vec<_> = policy.client(&name).unwrap().into_iter().flatten().collect();
        let expected = source.credentials.iter().find(|c| c.id.as_str() == name && c.kind.is_client());
        let mut versions: Vec<_> =
            expected.into_iter().flat_map(|client| client.secrets.iter().map(move |s| (client, s))).collect();
        versions.sort_by_key(|(_, secret)| secret.version);
        assert_eq!(found.len(), versions.len(), "{name}");
        for (found, (client, secret)) in found.iter().zip(versions) {
            check_credential(source, found, client, secret, &endpoints);
        }
    }
    for stranger in ["", "c", "c99", "C0", "acme"] {
        assert!(policy.client(stranger).unwrap().iter().all(Option::is_none));
    }
}

fn check_credential(
    source: &Source,
    found: &Compiled<'_>,
    expected: &Credential,
    version: &SecretVersion,
    endpoints: &[(EndpointRef, CompiledEndpoint<'_>)],
) {
    assert_eq!(found.id().unwrap(), expected.id.as_str());
    assert_eq!(found.version(), version.version);
    assert_eq!(found.kind(), Ok(expected.kind));
    assert_eq!(found.is_revoked(), expected.state == CredentialState::Revoked);
    let mut ends: Vec<u64> = Vec::new();
    ends.extend(expected.expires.map(|end| end.instant().as_secs()));
    ends.extend(version.until.map(|end| end.instant().as_secs()));
    assert_eq!(found.expires(), Ok(ends.into_iter().min()));

    let tenant = found.tenant().unwrap().unwrap();
    let settings = source.tenants.iter().find(|tenant| tenant.id == expected.tenant).unwrap();
    assert_eq!(tenant.id().unwrap(), settings.id.as_str());
    assert_eq!(tenant.is_active(), Ok(settings.state == TenantState::Active));
    assert_eq!(tenant.token_issuer(), Ok(settings.token_issuer.as_deref().unwrap_or_default()));
    assert_eq!(tenant.token_revocation(), Ok(settings.token_revocation));
    for (name, endpoint) in endpoints {
        let found = tenant.settings(endpoint).unwrap();
        let set = settings.endpoints.iter().find(|set| set.endpoint == *name);
        let ranges: Vec<String> = set
            .filter(|_| settings.modules.contains(&Module::IpFilter))
            .map(|set| set.ip_ranges.iter().map(ToString::to_string).collect())
            .unwrap_or_default();
        check_ranges(found.ranges.as_ref(), &ranges);
        let signature = set.filter(|_| settings.modules.contains(&Module::SignatureCheck));
        assert_eq!(found.signature, signature.map_or(Compiles::Off, |set| set.signature));
    }

    match (found.grant().unwrap(), expected.kind) {
        (Grant::Workspace, Kind::Workspace) => {}
        (Grant::Tenant { group, allowlist }, Kind::Tenant) => {
            let allowed: Vec<String> = expected.ip_allowlist.iter().map(ToString::to_string).collect();
            check_ranges(allowlist.as_ref(), &allowed);
            let (found, expected) =
                (group.unwrap(), group_of(source, &expected.tenant, expected.group.as_ref().unwrap()));
            assert_eq!(found.id().unwrap(), format!("{}/{}", expected.tenant, expected.id));
            for (name, endpoint) in endpoints {
                for method in Method::ALL {
                    assert_eq!(found.permits(endpoint, method), Ok(permits(expected, name, method)));
                }
            }
        }
        (Grant::Management { creator, endpoints: set, applications }, Kind::Management) => {
            match (creator, expected.creator_rule) {
                (None, CreatorRule::Independent) => {}
                (Some(Creator::Present(found)), CreatorRule::FollowCreator) => {
                    let creator = expected.creator.as_ref().unwrap();
                    let user = source.users.iter().find(|u| u.tenant == expected.tenant && u.id == *creator).unwrap();
                    assert_eq!(found.id().unwrap(), format!("{}/{}", user.tenant, user.id));
                    assert_eq!(found.is_active(), Ok(user.state == UserState::Active));
                    for (name, endpoint) in endpoints {
                        for method in Method::ALL {
                            assert_eq!(found.may_use(endpoint, method), Ok(may_use(source, user, name, method)));
                        }
                    }
                }
                (found, rule) => panic!("creator {} under {rule:?}", found.is_some()),
            }
            for (name, endpoint) in endpoints {
                assert_eq!(set.contains(endpoint), Ok(expected.endpoints.contains(name)));
            }
            assert_eq!(applications.is_none(), expected.applications.is_empty());
            for name in ["web", "b", "a", "", "webb", "zz"] {
                let listed = expected.applications.iter().any(|application| application.as_str() == name);
                assert_eq!(applications.is_some_and(|set| set.contains(name.as_bytes()).unwrap()), listed);
            }
        }
        (Grant::Session { user: Creator::Present(found), endpoints: set }, Kind::Session) => {
            let user = expected.creator.as_ref().unwrap();
            let user = source.users.iter().find(|u| u.tenant == expected.tenant && u.id == *user).unwrap();
            assert_eq!(found.id().unwrap(), format!("{}/{}", user.tenant, user.id));
            assert_eq!(found.is_active(), Ok(user.state == UserState::Active));
            for (name, endpoint) in endpoints {
                assert_eq!(set.contains(endpoint), Ok(expected.endpoints.contains(name)));
            }
        }
        (Grant::Personal { user: Creator::Present(found) }, Kind::Personal) => {
            let user = expected.creator.as_ref().unwrap();
            let user = source.users.iter().find(|u| u.tenant == expected.tenant && u.id == *user).unwrap();
            assert_eq!(found.id().unwrap(), format!("{}/{}", user.tenant, user.id));
            for (name, endpoint) in endpoints {
                for method in Method::ALL {
                    assert_eq!(found.may_use(endpoint, method), Ok(may_use(source, user, name, method)));
                }
            }
        }
        (Grant::Client, Kind::Client) => {}
        (_, kind) => panic!("another grant than that of a {kind} key"),
    }
}

fn check_ranges(found: Option<&Ranges<'_>>, expected: &[String]) {
    assert_eq!(found.is_none(), expected.is_empty());
    let Some(found) = found else { return };
    let nets: Vec<IpNet> =
        expected.iter().map(|net| net.parse().or_else(|_| net.parse::<IpAddr>().map(IpNet::from)).unwrap()).collect();
    for address in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        let listed = nets.iter().any(|net| net.contains(&address.to_canonical()));
        assert_eq!(found.contains(address), listed, "{address} in {expected:?}");
    }
}

/// Paths without their first slash: one for each pattern, and some by chance.
fn probe_paths(source: &Source, bytes: &[u8]) -> Vec<String> {
    let mut choices = Choices(bytes);
    let mut paths: Vec<String> =
        (0..12).map(|_| (0..choices.below(5)).map(|_| choices.one(&SEGMENTS)).collect::<Vec<_>>().join("/")).collect();
    let patterns = source.services.iter().flat_map(|service| &service.endpoints).flat_map(Endpoint::patterns);
    for (pattern, _) in patterns {
        let filled = segments(pattern).map(|segment| if segment.starts_with('{') { "web" } else { segment });
        paths.push(filled.collect::<Vec<_>>().join("/"));
    }
    paths.sort();
    paths.dedup();
    paths
}

trait Patterns {
    fn patterns(&self) -> Vec<(&str, bool)>;
}

impl Patterns for Endpoint {
    /// Each with whether it is a prefix.
    fn patterns(&self) -> Vec<(&str, bool)> {
        let whole = self.paths.iter().map(|path| (path.as_str(), false));
        whole.chain(self.prefixes.iter().map(|path| (path.as_str(), true))).collect()
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn service<'s>(source: &'s Source, host: &str, path: &str) -> Option<&'s Service> {
    let mut patterns = vec![host.to_owned()];
    patterns.extend(host.match_indices('.').map(|(dot, _)| format!("*{}", &host[dot..])));
    patterns.iter().find_map(|pattern| {
        let under = |service: &&Service| {
            let is_host = service.hosts.iter().any(|host| host.as_str() == pattern);
            is_host && segments(path).take(segments(&service.prefix).count()).eq(segments(&service.prefix))
        };
        source.services.iter().filter(under).max_by_key(|service| segments(&service.prefix).count())
    })
}

type Found<'s> = ((EndpointRef, &'s Endpoint), &'s str);

fn endpoint<'s>(service: &'s Service, path: &str, method: Option<Method>) -> Result<Found<'s>, NoMatch> {
    let of = |endpoint: &'s Endpoint| endpoint.patterns().into_iter().map(move |pattern| (endpoint, pattern));
    let mut matching: Vec<_> = service
        .endpoints
        .iter()
        .flat_map(of)
        .filter(|(_, (pattern, is_prefix))| matches(pattern, *is_prefix, path))
        .collect();
    if matching.is_empty() {
        return Err(NoMatch::Path);
    }
    matching.retain(|(endpoint, _)| method.is_some_and(|method| endpoint.methods.contains(method)));
    matching.sort_by(|(_, one), (_, other)| precedence(*one, *other));
    let (endpoint, (pattern, _)) = matching.first().ok_or(NoMatch::Method)?;
    let name = EndpointRef { service: service.id.clone(), endpoint: endpoint.id.clone() };
    Ok(((name, endpoint), pattern))
}

fn matches(pattern: &str, is_prefix: bool, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (segments(pattern).collect(), segments(path).collect());
    let length = if is_prefix { path.len() >= pattern.len() } else { path.len() == pattern.len() };
    length && pattern.iter().zip(&path).all(|(expected, given)| expected.starts_with('{') || expected == given)
}

/// Of two patterns that match one path: the first difference counts, a literal before a parameter, a longer one before
/// one that has ended; of two that are the same the whole path before the prefix.
fn precedence(one: (&str, bool), other: (&str, bool)) -> Ordering {
    let (mut first, mut second) = (segments(one.0), segments(other.0));
    loop {
        match (first.next(), second.next()) {
            (None, None) => return one.1.cmp(&other.1),
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (Some(first), Some(second)) => {
                let order = first.starts_with('{').cmp(&second.starts_with('{'));
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

fn secret(source: &Source, number: u8) -> Option<(&Credential, &SecretVersion)> {
    source.credentials.iter().find_map(|credential| {
        let secret = credential.secrets.iter().find(|secret| secret.sha256 == digest(number))?;
        Some((credential, secret))
    })
}

fn group_of<'s>(source: &'s Source, tenant: &Id, group: &Id) -> &'s Group {
    source.groups.iter().find(|candidate| candidate.tenant == *tenant && candidate.id == *group).unwrap()
}

fn permits(group: &Group, endpoint: &EndpointRef, method: Method) -> bool {
    group.permissions.iter().any(|permission| permission.endpoint == *endpoint && permission.methods.contains(method))
}

fn may_use(source: &Source, user: &User, endpoint: &EndpointRef, method: Method) -> bool {
    match (user.role, &user.group) {
        (Role::Superuser | Role::Admin, _) => true,
        (Role::Member, None) => false,
        (Role::Member, Some(group)) => permits(group_of(source, &user.tenant, group), endpoint, method),
    }
}

#[test]
fn the_sources_are_not_all_alike() {
    let full: Vec<u8> = (0..400u32).map(|n| u8::try_from(n * 37 % 251).unwrap()).collect();
    let source = sources::source(&full, 1);
    assert!(source.services.len() > 1 && source.credentials.len() > 3 && source.groups.len() > 1);
    assert!(source.tenants.iter().any(|tenant| tenant.id == id("acme")));
}
