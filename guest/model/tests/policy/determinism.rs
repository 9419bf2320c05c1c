//! The same records give the same bytes.

use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Delta, Source};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::sources::{self, Choices};

proptest! {
    #[test]
    fn the_order_of_lists_does_not_matter(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        other in prop::collection::vec(any::<u8>(), 0..400),
        order in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (source, next) = (sources::source(&bytes, 1), sources::source(&other, 2));
        let mut choices = Choices(&order);
        let (mut source_2, mut next_2) = (source.clone(), next.clone());
        shuffle_source(&mut choices, &mut source_2);
        shuffle_source(&mut choices, &mut next_2);
        prop_assert_eq!(build(&source), build(&source));
        prop_assert_eq!(build(&source), build(&source_2));

        let delta = Delta::between(&source, &next);
        let mut delta_2 = delta.clone();
        shuffle_delta(&mut choices, &mut delta_2);
        prop_assert_eq!(build_delta(&delta), build_delta(&delta_2));
    }
}

/// A change of the format is to be noticed here, and then to change `FORMAT` with it or to be no change at all.
#[test]
fn a_fixed_source_has_fixed_bytes() {
    let (source, next) = (sources::small(), sources::next());
    let base = build(&source).unwrap();
    assert_eq!((base.len(), xxh3_64(&base)), (2096, 0xe88f86b9059405c6));
    let delta = build_delta(&Delta::between(&source, &next)).unwrap();
    assert_eq!((delta.len(), xxh3_64(&delta)), (1696, 0x62cbbddd21902e26));
}

fn shuffle<T>(choices: &mut Choices<'_>, list: &mut [T]) {
    for last in (1..list.len()).rev() {
        list.swap(last, choices.below(last + 1));
    }
}

fn shuffle_source(choices: &mut Choices<'_>, source: &mut Source) {
    shuffle(choices, &mut source.installation.trusted_proxies);
    let Source { services, tenants, groups, users, credentials, applications, .. } = source;
    shuffle(choices, services);
    shuffle(choices, tenants);
    shuffle(choices, groups);
    shuffle(choices, users);
    shuffle(choices, credentials);
    shuffle(choices, applications);
    for service in services {
        shuffle(choices, &mut service.hosts);
        shuffle(choices, &mut service.accept);
        shuffle(choices, &mut service.endpoints);
        for presentation in &mut service.accept {
            shuffle(choices, &mut presentation.kinds);
        }
        for endpoint in &mut service.endpoints {
            shuffle(choices, &mut endpoint.paths);
            shuffle(choices, &mut endpoint.prefixes);
        }
    }
    for tenant in tenants {
        shuffle(choices, &mut tenant.modules);
        shuffle(choices, &mut tenant.endpoints);
        for settings in &mut tenant.endpoints {
            shuffle(choices, &mut settings.ip_ranges);
        }
    }
    for group in groups {
        shuffle(choices, &mut group.permissions);
    }
    for credential in credentials {
        shuffle(choices, &mut credential.secrets);
        shuffle(choices, &mut credential.ip_allowlist);
        shuffle(choices, &mut credential.endpoints);
        shuffle(choices, &mut credential.applications);
    }
}

fn shuffle_delta(choices: &mut Choices<'_>, delta: &mut Delta) {
    let mut records = Source::empty(delta.revision, delta.seed);
    records.services = std::mem::take(&mut delta.services);
    records.tenants = std::mem::take(&mut delta.tenants);
    records.groups = std::mem::take(&mut delta.groups);
    records.users = std::mem::take(&mut delta.users);
    records.credentials = std::mem::take(&mut delta.credentials);
    shuffle_source(choices, &mut records);
    let Source { services, tenants, groups, users, credentials, .. } = records;
    (delta.services, delta.tenants, delta.groups, delta.users, delta.credentials) =
        (services, tenants, groups, users, credentials);
    shuffle(choices, &mut delta.routes);
    for route in &mut delta.routes {
        shuffle(choices, &mut route.services);
    }
    let removed = &mut delta.removed;
    shuffle(choices, &mut removed.services);
    shuffle(choices, &mut removed.routes);
    shuffle(choices, &mut removed.tenants);
    shuffle(choices, &mut removed.groups);
    shuffle(choices, &mut removed.users);
    shuffle(choices, &mut removed.digests);
}
