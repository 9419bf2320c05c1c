//! Each limit of a source document at N and at N + 1.

use portcullis_model::credential::{Kind, SecretDigest};
use portcullis_model::method::Methods;
use portcullis_model::policy::{BuildError, build};
use portcullis_model::source::{HostPattern, MAX_HOST_BYTES, Presentation, SecretVersion, Source};

use crate::sources::{self, id};

fn faults(change: impl FnOnce(&mut Source)) -> Vec<String> {
    let mut source = sources::small();
    change(&mut source);
    match build(&source) {
        Ok(_) => Vec::new(),
        Err(BuildError::Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

/// The limit holds: `n` of something is fine and one more is the fault.
#[track_caller]
fn check(n: usize, fault: &str, change: impl Fn(&mut Source, usize)) {
    assert_eq!(faults(|source| change(source, n)), Vec::<String>::new());
    let found = faults(|source| change(source, n + 1));
    assert!(found.iter().any(|found| found.contains(fault)), "{found:?}");
}

fn header(name: String) -> Presentation {
    Presentation {
        header: Some(name),
        parameter: None,
        scheme: None,
        kinds: vec![Kind::Tenant],
        ..Presentation::default()
    }
}

#[test]
fn a_service_accepts_credentials_in_8_places() {
    check(8, "`accept` has more than 8 entries", |source, count| {
        source.services[0].accept = (0..count).map(|number| header(format!("X-Key-{number}"))).collect();
    });
}

#[test]
fn the_name_of_a_place_has_64_bytes() {
    let fault = "is not 1 to 64 letters, digits, `-` or `_`";
    check(64, fault, |source, length| source.services[0].accept[0] = header("n".repeat(length)));
    check(64, fault, |source, length| source.services[0].accept[1].parameter = Some("n".repeat(length)));
    check(64, fault, |source, length| source.services[0].accept[2].scheme = Some("n".repeat(length)));
    assert!(faults(|source| source.services[0].accept[0] = header(String::new()))[0].contains(fault));
}

#[test]
fn a_credential_has_2_secrets() {
    check(2, "`secrets` has 3 entries, it needs 1 or 2", |source, count| {
        let secret = |version: u16| {
            let sha256 = SecretDigest::new([u8::try_from(version).unwrap(); 32]);
            SecretVersion { version, sha256, until: None, signing_slot: None }
        };
        source.credentials[0].secrets = (1..).map(secret).take(count).collect();
    });
    assert!(faults(|source| source.credentials[0].secrets.clear())[0].contains("`secrets` has 0 entries"));
}

#[test]
fn a_path_has_1024_bytes() {
    let path = |length: usize| format!("/v1/{}", "p".repeat(length - 4));
    check(1024, "a path is longer than 1024 bytes", |source, length| {
        source.services[0].endpoints[0].paths.push(path(length));
    });
    check(1024, "a path is longer than 1024 bytes", |source, length| {
        source.services[0].endpoints[0].prefixes.push(path(length));
    });
    check(1024, "the prefix is longer than 1024 bytes", |source, length| {
        source.services[1].endpoints.clear();
        source.services[1].prefix = path(length);
        source.tenants[0].endpoints.remove(1);
    });
}

#[test]
fn a_path_has_64_segments() {
    check(64, "has more than 64 segments", |source, segments| {
        source.services[0].endpoints[0].paths.push(format!("/v1{}", "/s".repeat(segments - 1)));
    });
}

#[test]
fn a_name_scope_or_audience_has_1024_bytes() {
    check(1024, "its `name` is longer than 1024 bytes", |source, length| {
        source.services[0].endpoints[0].name = "n".repeat(length);
    });
    check(1024, "its `scope` is longer than 1024 bytes", |source, length| {
        source.services[0].endpoints[0].scope = Some("n".repeat(length));
    });
    check(1024, "its `audience` is longer than 1024 bytes", |source, length| {
        source.services[0].endpoints[0].audience = Some("n".repeat(length));
    });
}

#[test]
fn a_host_has_253_bytes_and_a_label_63() {
    let host = |length: usize| "a.".repeat((length - 1) / 2) + if length.is_multiple_of(2) { "aa" } else { "a" };
    for prefix in ["", "*."] {
        let of = |length: usize| HostPattern::try_from(format!("{prefix}{}", host(length)));
        assert_eq!(host(MAX_HOST_BYTES).len(), MAX_HOST_BYTES);
        assert_eq!(host(MAX_HOST_BYTES + 1).len(), MAX_HOST_BYTES + 1);
        assert!(of(MAX_HOST_BYTES).is_ok());
        assert!(of(MAX_HOST_BYTES + 1).is_err());
    }
    assert!(HostPattern::try_from("a".repeat(63)).is_ok());
    assert!(HostPattern::try_from("a".repeat(64)).is_err());
}

#[test]
fn twenty_faults_are_told() {
    let with = |count: usize| {
        faults(|source| {
            for number in 0..count {
                let mut group = source.groups[1].clone();
                (group.id, group.tenant) = (id(&format!("g{number}")), id("none"));
                source.groups.push(group);
            }
        })
    };
    assert_eq!((with(20).len(), with(21).len()), (20, 20));
}

#[test]
fn an_endpoint_without_methods_is_a_fault() {
    let found = faults(|source| source.services[0].endpoints[0].methods = Methods::NONE);
    assert_eq!(found, ["endpoint `shop/events`: it has no method, so no request reaches it"]);
}
