//! A damaged policy is a typed error; where its checksum was made right again, every lookup still ends.

use std::sync::LazyLock;

use portcullis_model::method::Method;
use portcullis_model::policy::{
    Creator, Endpoint, Grant, LoadError, Policy, Ranges, Segments, Service, Tenant, Unreadable, build, build_delta,
};
use portcullis_model::source::{Delta, Source};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::sources;

const FLIPS: [u8; 3] = [0x01, 0x80, 0xff];

static SOURCES: LazyLock<[Source; 2]> = LazyLock::new(|| [sources::small(), sources::next()]);

fn base() -> Vec<u8> {
    build(&SOURCES[0]).unwrap()
}

fn delta() -> Vec<u8> {
    build_delta(&Delta::between(&SOURCES[0], &SOURCES[1])).unwrap()
}

fn with_right_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= 16 {
        let sum = xxh3_64(&bytes[16..]).to_le_bytes();
        bytes[8..16].copy_from_slice(&sum);
    }
    bytes
}

fn flipped(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let places = (0..bytes.len()).flat_map(|at| FLIPS.map(|flip| (at, flip)));
    places.map(|(at, flip)| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= flip;
        (at, bytes)
    })
}

fn apply(base: Vec<u8>, delta: Vec<u8>) -> Result<Policy, LoadError> {
    let mut policy = Policy::open(base)?;
    let prepared = policy.prepare(delta)?;
    policy.apply(prepared)?;
    Ok(policy)
}

#[test]
fn a_flipped_byte_of_a_base_is_an_error() {
    for (at, bytes) in flipped(&base()) {
        assert!(Policy::open(bytes).is_err(), "{at}");
    }
}

#[test]
fn a_flipped_byte_of_a_delta_is_an_error() {
    let base = base();
    for (at, bytes) in flipped(&delta()) {
        assert!(apply(base.clone(), bytes).is_err(), "{at}");
    }
}

#[test]
fn a_cut_or_lengthened_policy_is_an_error() {
    let (base, delta) = (base(), delta());
    for end in 0..base.len() {
        assert!(Policy::open(base[..end].to_vec()).is_err(), "{end}");
        assert!(Policy::open(with_right_checksum(base[..end].to_vec())).is_err(), "{end}");
    }
    for end in 0..delta.len() {
        assert!(apply(base.clone(), delta[..end].to_vec()).is_err(), "{end}");
        assert!(apply(base.clone(), with_right_checksum(delta[..end].to_vec())).is_err(), "{end}");
    }
    let longer = [base.as_slice(), &[0]].concat();
    let expected = LoadError::Length { expected: base.len(), found: base.len() + 1 };
    assert_eq!(Policy::open(longer).err(), Some(expected));
}

#[test]
fn what_is_wrong_is_named() {
    let with = |at: usize, byte: u8| {
        let mut bytes = base();
        bytes[at] = byte;
        Policy::open(with_right_checksum(bytes)).err()
    };
    assert_eq!(with(0, b'X'), Some(LoadError::NotAPolicy));
    assert_eq!(with(16, 4), Some(LoadError::NewerFormat { found: 4 }));
    assert_eq!(with(16, 1), Some(LoadError::Damaged));
    assert_eq!(with(20, 2), Some(LoadError::Damaged));
    assert_eq!(with(20, 1), Some(LoadError::WrongKind { expected: "base" }));
    assert_eq!(with(60, 12), Some(LoadError::Damaged));
    // The number of tenants, beyond what fits.
    assert_eq!(with(72 + 8 + 7, 0xff), Some(LoadError::Damaged));
    let mut bytes = base();
    bytes[100] ^= 1;
    assert_eq!(Policy::open(bytes).err(), Some(LoadError::Checksum));
}

#[test]
fn a_flipped_byte_under_a_right_checksum_stops_no_lookup() {
    let mut read = 0;
    for (_, bytes) in flipped(&base()) {
        if let Ok(policy) = Policy::open(with_right_checksum(bytes)) {
            read += u32::from(look_up_everything(&policy).is_ok());
        }
    }
    assert!(read > 100, "some damage is of no consequence: {read}");
}

#[test]
fn a_flipped_byte_of_a_delta_under_a_right_checksum_stops_no_lookup() {
    let base = base();
    let mut after = Delta::between(&sources::next(), &sources::small());
    after.revision.0 = 9;
    let after = build_delta(&after).unwrap();
    let mut applied = 0;
    for (_, bytes) in flipped(&delta()) {
        let Ok(mut policy) = apply(base.clone(), with_right_checksum(bytes)) else { continue };
        applied += 1;
        let _ = look_up_everything(&policy);
        // A delta after it finds its way as well.
        if let Ok(prepared) = policy.prepare(after.clone()) {
            policy.apply(prepared).unwrap();
            let _ = look_up_everything(&policy);
        }
    }
    assert!(applied > 100, "{applied}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn words_set_at_random_under_a_right_checksum_stop_no_lookup(
        in_delta: bool,
        patches in prop::collection::vec((any::<prop::sample::Index>(), word()), 1..12),
    ) {
        let mut fragments = [base(), delta()];
        let bytes = &mut fragments[usize::from(in_delta)];
        for (at, word) in patches {
            let at = at.index(bytes.len() / 4) * 4;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let [base, delta] = fragments.map(with_right_checksum);
        if let Ok(policy) = Policy::open(base.clone()) {
            let _ = look_up_everything(&policy);
        }
        if let Ok(policy) = apply(base, delta) {
            let _ = look_up_everything(&policy);
        }
    }
}

/// Words as they stand in a policy: small numbers, offsets, and the ends.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..16, 0u32..2300, Just(u32::MAX), Just(i32::MAX.unsigned_abs()), any::<u32>()]
}

/// Asks everything there is to ask. The first part that cannot be read ends the one question, not the whole.
fn look_up_everything(policy: &Policy) -> Result<(), Unreadable> {
    let mut result = policy.limits().and(policy.trusted_proxies()).map(|proxies| proxies.as_ref().is_none_or(contains));
    let mut endpoints = Vec::new();
    let mut note = |outcome: Result<bool, Unreadable>| result = result.and(outcome);
    let paths = ["", "v1/events", "v1/events/1", "v1/apps/web/x", "v1/private/a", "v1/a/b/c/d"];
    let hosts = [("shop.example", "v1/events"), ("a.b.shop.example", "v1/apps/web/y"), ("other.example", "v1/events")];
    for (host, path) in paths.into_iter().map(|path| ("api.example", path)).chain(hosts) {
        let path = Segments::of(path.as_bytes());
        match policy.service(host.as_bytes(), &path) {
            Ok(Some(service)) => {
                note(service_reads(&service));
                for method in [Some(Method::Get), None] {
                    match service.endpoint(&path, method) {
                        Ok(Ok(matched)) => endpoints.push(matched.endpoint),
                        Ok(Err(_)) => {}
                        Err(unreadable) => note(Err(unreadable)),
                    }
                }
            }
            Ok(None) => {}
            Err(unreadable) => note(Err(unreadable)),
        }
    }
    for credential in SOURCES.iter().flat_map(|source| &source.credentials) {
        for secret in &credential.secrets {
            let by_id = policy.credential_by_id(credential.id.as_str(), secret.version);
            for found in [policy.credential(&secret.sha256), by_id] {
                match found {
                    Ok(Some(found)) => note(credential_reads(&found, &endpoints)),
                    Ok(None) => {}
                    Err(unreadable) => note(Err(unreadable)),
                }
            }
        }
    }
    result.map(drop)
}

fn contains(ranges: &Ranges<'_>) -> bool {
    let addresses = ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::", "255.255.255.255"];
    let found = addresses.map(|address| ranges.contains(address.parse().unwrap()));
    ranges.iter().count() > 0 && found.contains(&true)
}

fn service_reads(service: &Service<'_>) -> Result<bool, Unreadable> {
    let accepts = service.accepts()?.collect::<Result<Vec<_>, _>>()?;
    let texts = service.id()?.len() + service.challenge()?.len() + service.pinned()?.map_or(0, str::len);
    Ok(accepts.len() + texts > 0)
}

fn credential_reads(
    found: &portcullis_model::policy::Credential<'_>,
    endpoints: &[Endpoint<'_>],
) -> Result<bool, Unreadable> {
    let (_, _) = (found.id()?, found.expires()?);
    let _ = (found.kind()?, found.version(), found.is_revoked());
    if let Some(tenant) = found.tenant()? {
        tenant_reads(&tenant, endpoints)?;
    }
    match found.grant()? {
        Grant::Workspace | Grant::Client => {}
        Grant::Tenant { group, allowlist } => {
            let _ = allowlist.as_ref().map(contains);
            for endpoint in endpoints {
                let _ = group.map(|group| group.permits(endpoint, Method::Get)).transpose()?;
            }
        }
        Grant::Management { creator, endpoints: set, applications } => {
            for endpoint in endpoints {
                let _ = set.contains(endpoint)?;
                if let Some(Creator::Present(user)) = creator {
                    let _ = (user.id()?, user.is_active()?, user.may_use(endpoint, Method::Get)?);
                }
            }
            let _ = applications.map(|set| set.contains(b"web")).transpose()?;
        }
        Grant::Personal { user: Creator::Gone } => {}
        Grant::Personal { user: Creator::Present(user) } => {
            user.is_active()?;
        }
        Grant::Session { user, endpoints: set } => {
            for endpoint in endpoints {
                let _ = set.contains(endpoint)?;
            }
            if let Creator::Present(user) = user {
                let _ = (user.id()?, user.is_active()?);
            }
        }
    }
    Ok(true)
}

fn tenant_reads(tenant: &Tenant<'_>, endpoints: &[Endpoint<'_>]) -> Result<(), Unreadable> {
    let _ = (tenant.id()?, tenant.is_active()?);
    for endpoint in endpoints {
        let _ = (endpoint.id()?, endpoint.name()?, endpoint.is_per_application()?);
        let _ = tenant.settings(endpoint)?.ranges.as_ref().map(contains);
    }
    Ok(())
}
