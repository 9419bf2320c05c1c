//! What deltas leave behind, and which of them are refused.

use portcullis_model::id::Revision;
use portcullis_model::policy::{BuildError, LoadError, MAX_OVERLAY_BYTES, Policy, build, build_delta};
use portcullis_model::source::{Credential, Delta, Group, SecretVersion, Source, Tenant};

use crate::oracle::check;
use crate::sources::{self, digest, id};

fn open(source: &Source) -> Policy {
    Policy::open(build(source).unwrap()).unwrap()
}

fn next(source: &Source, change: impl FnOnce(&mut Source)) -> Source {
    let mut next = source.clone();
    next.revision = Revision(source.revision.0 + 1);
    change(&mut next);
    next
}

fn step(policy: &mut Policy, from: &Source, to: &Source) {
    let delta = build_delta(&Delta::between(from, to)).unwrap();
    let prepared = policy.prepare(delta).unwrap();
    policy.apply(prepared).unwrap();
}

/// Applies each change in turn and compares everything after each.
fn chain(changes: &[&dyn Fn(&mut Source)]) {
    let mut source = sources::small();
    let mut policy = open(&source);
    for change in changes {
        let next = next(&source, change);
        step(&mut policy, &source, &next);
        check(&policy, &next, &[]);
        check_by_secret(&policy, &next);
        source = next;
    }
}

/// The oracle knows the digests of its own sources; these are those of the small one.
fn check_by_secret(policy: &Policy, source: &Source) {
    let all = [sources::small(), sources::next(), source.clone()];
    let secrets = |credential: &Credential| {
        credential.secrets.iter().map(|secret| (credential.id.clone(), secret.clone())).collect::<Vec<_>>()
    };
    let standing: Vec<(_, SecretVersion)> = source.credentials.iter().flat_map(secrets).collect();
    for (name, secret) in all.iter().flat_map(|source| source.credentials.iter().flat_map(secrets)) {
        let found = policy.credential(&secret.sha256).unwrap();
        let expected = standing.iter().find(|(_, standing)| standing.sha256 == secret.sha256);
        let named = |found: portcullis_model::policy::Credential<'_>| (found.id().unwrap().to_owned(), found.version());
        assert_eq!(found.map(named), expected.map(|(name, secret)| (name.to_string(), secret.version)));
        let found = policy.credential_by_id(name.as_str(), secret.version).unwrap();
        let expected = standing.iter().any(|(other, standing)| *other == name && standing.version == secret.version);
        assert_eq!(found.is_some(), expected, "{name} {}", secret.version);
    }
}

fn drop_tenant(source: &mut Source, tenant: &str) {
    source.tenants.retain(|record| record.id.as_str() != tenant);
    source.applications.retain(|record| record.tenant.as_str() != tenant);
    source.groups.retain(|record| record.tenant.as_str() != tenant);
    source.users.retain(|record| record.tenant.as_str() != tenant);
    source.credentials.retain(|record| record.tenant.as_str() != tenant);
    source.services.retain(|record| record.tenant.as_ref().is_none_or(|pinned| pinned.as_str() != tenant));
}

#[test]
fn what_is_removed_can_be_added_again() {
    let full = sources::small();
    let again = |source: &mut Source| *source = Source { revision: source.revision, ..full.clone() };
    chain(&[
        &|source| drop_tenant(source, "bolt"),
        &again,
        &|source| drop_tenant(source, "acme"),
        &again,
        &|source| source.credentials.clear(),
        &again,
        &|source| *source = Source { revision: source.revision, ..Source::empty(source.revision, source.seed) },
        &again,
        &|source| *source = Source { revision: source.revision, ..sources::next() },
        &again,
    ]);
}

#[test]
fn an_endpoint_that_left_a_service_can_come_back() {
    let without = |source: &mut Source, endpoint: &str| {
        source.services[0].endpoints.retain(|record| record.id.as_str() != endpoint);
        source.tenants[0].endpoints.retain(|record| record.endpoint.endpoint.as_str() != endpoint);
        source.groups[0].permissions.retain(|record| record.endpoint.endpoint.as_str() != endpoint);
        source.credentials[1].endpoints.retain(|record| record.endpoint.as_str() != endpoint);
    };
    let full = sources::small();
    let again = |source: &mut Source| *source = Source { revision: source.revision, ..full.clone() };
    chain(&[&|source| without(source, "apps"), &again, &|source| without(source, "events"), &again]);
}

#[test]
fn ids_may_sort_anywhere_among_those_of_the_base() {
    let add = |name: &'static str| {
        move |source: &mut Source| {
            let tenant = Tenant { id: id(name), ..source.tenants[1].clone() };
            source.tenants.push(tenant);
            source.groups.push(Group { id: id("all"), tenant: id(name), permissions: Vec::new() });
            let mut permitted = source.groups[0].clone();
            permitted.id = id(name);
            source.groups.push(permitted);
            source.users[0].group = Some(id(name));
        }
    };
    chain(&[&add("0"), &add("acme-1"), &add("zz"), &add("b"), &|source| drop_tenant(source, "b"), &add("A")]);
}

#[test]
fn a_digest_may_move_to_another_credential() {
    chain(&[
        &|source| {
            let secrets = source.credentials[0].secrets.clone();
            source.credentials[0].secrets = std::mem::replace(&mut source.credentials[1].secrets, secrets);
        },
        &|source| source.credentials[0].id = id("k9"),
        &|source| drop(source.credentials.remove(1)),
    ]);
}

fn rotate(source: &mut Source, turn: u16) {
    let secrets = &mut source.credentials[0].secrets;
    secrets.remove(0);
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&turn.to_le_bytes());
    let sha256 = portcullis_model::credential::SecretDigest::new(bytes);
    secrets.push(SecretVersion { version: turn, sha256, until: None, signing_slot: None });
}

#[test]
fn ten_thousand_rotations_leave_two_digests() {
    let mut source = sources::small();
    let mut policy = open(&source);
    let mut kept = Vec::new();
    for turn in 3..10_003 {
        let rotated = next(&source, |source| rotate(source, turn));
        step(&mut policy, &source, &rotated);
        source = rotated;
        if turn > 10 {
            kept.push(policy.counts());
        }
    }
    assert!(kept.iter().all(|counts| counts == &kept[0]), "{:?}", kept.last());
    assert_eq!((kept[0].overlay_layers, policy.revision()), (1, source.revision));
    check_by_secret(&policy, &source);
    assert!(policy.credential_by_id("k1", 10_002).unwrap().is_some());
    assert!(policy.credential_by_id("k1", 10_000).unwrap().is_none());
}

#[test]
fn ids_that_came_and_went_count_until_the_overlay_is_full() {
    let source = sources::small();
    let mut policy = open(&source);
    let mut last = 0;
    for turn in 0..500u32 {
        let with = next(&source, |source| {
            source.tenants.push(Tenant { id: id(&format!("t{turn}")), ..source.tenants[1].clone() })
        });
        for (from, to) in [(&source, &with), (&with, &source)] {
            let mut delta = Delta::between(from, to);
            delta.from = policy.revision();
            delta.revision = Revision(policy.revision().0 + 1);
            let prepared = policy.prepare(build_delta(&delta).unwrap()).unwrap();
            policy.apply(prepared).unwrap();
        }
        let counts = policy.counts();
        assert_eq!(counts.overlay_layers, 0);
        assert!(counts.overlay_bytes > last, "what is remembered is counted");
        last = counts.overlay_bytes;
    }
    assert!(last < 500 * 512 && last < MAX_OVERLAY_BYTES as u64);
}

#[test]
fn the_bytes_of_replaced_deltas_are_given_back() {
    let source = sources::small();
    let mut policy = open(&source);
    let mut held = Vec::new();
    for turn in 1..40u32 {
        let mut delta = Delta::empty(policy.revision(), Revision(policy.revision().0 + 1), source.seed);
        delta.installation = Some(source.installation.clone());
        delta.tenants = source.tenants.clone();
        delta.credentials = source.credentials.clone();
        delta.groups = source.groups.clone();
        delta.users = source.users.clone();
        let prepared = policy.prepare(build_delta(&delta).unwrap()).unwrap();
        policy.apply(prepared).unwrap();
        held.push((policy.counts().overlay_bytes, policy.counts().overlay_layers));
        assert_eq!(held[0], *held.last().unwrap(), "{turn}");
    }
    assert_eq!(held[0].1, 1);
}

#[test]
fn a_delta_for_another_revision_or_of_the_past_is_refused() {
    let source = sources::small();
    let mut policy = open(&source);
    let delta = |from, to| build_delta(&Delta::empty(Revision(from), Revision(to), source.seed)).unwrap();
    for from in [0, 6, 8] {
        let refused = policy.prepare(delta(from, 100)).err();
        assert_eq!(refused, Some(LoadError::WrongRevision { from: Revision(from), at: Revision(7) }));
    }
    assert_eq!(policy.prepare(build(&source).unwrap()).err(), Some(LoadError::WrongKind { expected: "delta" }));
    assert_eq!(Policy::open(delta(7, 8)).err(), Some(LoadError::WrongKind { expected: "base" }));
}

#[test]
fn of_two_prepared_deltas_only_the_first_can_be_applied() {
    let source = sources::small();
    let mut policy = open(&source);
    let changed = next(&source, |source| drop_tenant(source, "bolt"));
    let delta = build_delta(&Delta::between(&source, &changed)).unwrap();
    drop(policy.prepare(delta.clone()).unwrap());
    assert_eq!(policy.prepare(b"nothing".to_vec()).err(), Some(LoadError::NotAPolicy));
    check_by_secret(&policy, &source);
    let (first, second) = (policy.prepare(delta.clone()).unwrap(), policy.prepare(delta).unwrap());
    assert_eq!(first.revision(), Revision(8));
    policy.apply(first).unwrap();
    assert_eq!(policy.apply(second), Err(LoadError::WrongRevision { from: Revision(7), at: Revision(8) }));
    check_by_secret(&policy, &changed);
}

#[test]
fn a_delta_that_names_what_is_not_there_is_dangling() {
    let source = sources::small();
    let base = open(&source);
    let empty = || Delta::empty(base.revision(), Revision(base.revision().0 + 1), source.seed);
    let permission = |endpoint: &str| {
        let mut group = source.groups[0].clone();
        group.permissions[0].endpoint = endpoint.to_owned().try_into().unwrap();
        Delta { groups: vec![group], ..empty() }
    };
    let of_tenant = |tenant: &str| {
        let mut key = source.credentials[2].clone();
        key.tenant = id(tenant);
        Delta { credentials: vec![key], ..empty() }
    };
    let in_group = |group: &str| {
        let mut key = source.credentials[0].clone();
        key.group = Some(id(group));
        Delta { credentials: vec![key], ..empty() }
    };
    let by = |user: &str| {
        let mut key = source.credentials[1].clone();
        key.creator = Some(id(user));
        Delta { credentials: vec![key], ..empty() }
    };
    let group_of = |tenant: &str| {
        let group = Group { id: id("g"), tenant: id(tenant), permissions: Vec::new() };
        Delta { groups: vec![group], ..empty() }
    };
    let removing = |tenant: &str| {
        let mut delta = empty();
        delta.removed.tenants.push(id(tenant));
        delta
    };
    for (delta, dangling) in [
        (permission("shop/events"), None),
        (permission("shop/none"), Some(("endpoint", "shop/none"))),
        (permission("none/events"), Some(("endpoint", "none/events"))),
        (of_tenant("acme"), None),
        (of_tenant("none"), Some(("tenant", "none"))),
        (in_group("none"), Some(("group", "acme/none"))),
        (by("none"), Some(("user", "acme/none"))),
        (group_of("none"), Some(("tenant", "none"))),
        (removing("bolt"), None),
        (removing("none"), Some(("tenant", "none"))),
    ] {
        let found = open(&source).prepare(build_delta(&delta).unwrap()).err();
        let expected = dangling.map(|(kind, id)| LoadError::Dangling { kind, id: id.to_owned() });
        assert_eq!(found, expected);
    }
}

#[test]
fn a_delta_that_names_what_an_earlier_one_removed_is_dangling() {
    let source = sources::small();
    let gone = next(&source, |source| *source = Source::empty(source.revision, source.seed));
    let mut policy = open(&source);
    step(&mut policy, &source, &gone);
    let mut delta = Delta::empty(Revision(8), Revision(9), source.seed);
    delta.credentials.push(source.credentials[2].clone());
    let prepare = |policy: &mut Policy, delta: &Delta| policy.prepare(build_delta(delta).unwrap()).map(drop);
    assert_eq!(prepare(&mut policy, &delta), Err(LoadError::Dangling { kind: "tenant", id: "acme".to_owned() }));
    delta.tenants.push(Tenant { endpoints: Vec::new(), ..source.tenants[0].clone() });
    assert_eq!(prepare(&mut policy, &delta), Ok(()));
    delta.tenants = vec![source.tenants[0].clone()];
    let missing = LoadError::Dangling { kind: "endpoint", id: "private/all".to_owned() };
    assert_eq!(prepare(&mut policy, &delta), Err(missing));

    // The service is there, but lost the endpoint.
    let mut policy = open(&source);
    let mut delta = Delta::empty(Revision(7), Revision(8), source.seed);
    delta.services.push(source.services[0].clone());
    delta.services[0].endpoints.remove(0);
    let prepared = policy.prepare(build_delta(&delta).unwrap()).unwrap();
    policy.apply(prepared).unwrap();
    let mut delta = Delta::empty(Revision(8), Revision(9), source.seed);
    delta.groups.push(source.groups[0].clone());
    let missing = LoadError::Dangling { kind: "endpoint", id: "shop/events".to_owned() };
    assert_eq!(prepare(&mut policy, &delta), Err(missing));
    // Nor may the delta that takes it away name it.
    let mut delta = Delta::empty(Revision(8), Revision(9), source.seed);
    delta.services.push(source.services[1].clone());
    delta.services[0].endpoints.clear();
    delta.tenants.push(source.tenants[0].clone());
    delta.tenants[0].endpoints.remove(0);
    let missing = LoadError::Dangling { kind: "endpoint", id: "private/all".to_owned() };
    assert_eq!(prepare(&mut policy, &delta), Err(missing));
}

#[test]
fn what_is_removed_is_neither_put_nor_named_in_the_same_delta() {
    let source = sources::small();
    let empty = || Delta::empty(Revision(7), Revision(8), source.seed);
    let fault = |change: &dyn Fn(&mut Delta)| {
        let mut delta = empty();
        change(&mut delta);
        match build_delta(&delta) {
            Err(BuildError::Faults(faults)) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            other => panic!("{other:?}"),
        }
    };
    let both = "it is removed, but also put or referred to";
    let put = fault(&|delta| {
        delta.tenants.push(source.tenants[1].clone());
        delta.removed.tenants.push(id("bolt"));
    });
    assert_eq!(put, format!("tenant `bolt`: {both}"));
    let named = fault(&|delta| {
        delta.credentials.push(source.credentials[0].clone());
        delta.removed.groups.push((id("acme"), id("readers")));
    });
    assert_eq!(named, format!("group `acme/readers`: {both}"));
    let host = source.services[0].hosts[0].clone();
    let twice = fault(&|delta| delta.removed.routes = vec![host.clone(), host.clone()]);
    assert_eq!(twice, "host `api.example`: there are two of this id");
    let twice = fault(&|delta| delta.removed.digests = vec![digest(1), digest(1)]);
    assert!(twice.ends_with("there are two of this id"), "{twice}");
    let format = fault(&|delta| delta.format = 2);
    assert_eq!(format, "format: it is 2, this build reads format 1");
    let past = fault(&|delta| delta.revision = delta.from);
    assert_eq!(past, "revision: 7 is not after 7");
}

#[test]
fn a_credential_is_replaced_with_all_versions_of_its_secret() {
    let source = sources::small();
    let mut policy = open(&source);
    let [old, current] = [0, 1].map(|at| source.credentials[0].secrets[at].sha256);
    // Nothing is listed as removed, and yet the version that is not put again is gone: from the base, then from a delta.
    for (revision, kept, gone) in [(8, 1, old), (9, 0, current)] {
        let mut delta = Delta::empty(policy.revision(), Revision(revision), source.seed);
        let mut key = source.credentials[0].clone();
        key.secrets = vec![key.secrets[kept].clone()];
        delta.credentials.push(key);
        let prepared = policy.prepare(build_delta(&delta).unwrap()).unwrap();
        policy.apply(prepared).unwrap();
        assert!(policy.credential(&gone).unwrap().is_none());
        assert!(policy.credential(&source.credentials[0].secrets[kept].sha256).unwrap().is_some());
        assert_eq!(policy.counts().overlay_layers, 1);
    }
    assert!(policy.credential_by_id("k1", 2).unwrap().is_none());
    assert!(policy.credential_by_id("k1", 1).unwrap().is_some());
}
