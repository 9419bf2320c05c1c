//! The installation that the benchmarks decide for, at any number of credentials.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use portcullis_model::credential::{Kind, SecretDigest, Seed, key_checksum};
use portcullis_model::head::RequestHead;
use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::method::Methods;
use portcullis_model::signing::presets;
use portcullis_model::signing::signer::{Signer, Unsigned};
use portcullis_model::source::{
    CreatorRule, Credential, CredentialState, Endpoint, EndpointSettings, Group, Module, Permission, Presentation,
    SecretVersion, Service, SignatureMode, Source, Tenant, TenantState,
};
use portcullis_model::time::{Expiry, UnixTime};
use sha2::{Digest as _, Sha256};

/// The time of every decision: 2026-11-21T09:00:00Z.
pub const NOW_S: u64 = 1_795_251_600;
/// How many credentials a tenant has.
const PER_TENANT: usize = 100;
/// The length of a key in bytes.
pub const KEY_BYTES: usize = 52;

/// The time of every decision.
pub fn now() -> Result<UnixTime> {
    UnixTime::from_secs(NOW_S).context("the time is in range")
}

/// The key of that number, of the form of a real one, its checksum too.
#[must_use]
pub fn key(number: usize) -> String {
    let digits = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let body = format!("ptc_k{number:07}_{:033}", digits % 10_u128.pow(33));
    let sum = key_checksum(body.as_bytes()).map(char::from);
    body.chars().chain(sum).collect()
}

/// An installation with that many tenant keys, 100 to a tenant, two groups to a tenant, one service of 20 endpoints, an
/// address filter on the endpoint that is called, and an allowlist on every key.
pub fn source(credentials: usize) -> Result<Source> {
    let id = |text: String| text.parse::<Id>().context("an id");
    let endpoint_ref = |name: &str| EndpointRef::try_from(format!("shop/{name}")).context("an endpoint");
    let mut source = Source::empty(Revision(1), Seed(*b"a benchmark seed"));
    let endpoints: Vec<String> = (0..20).map(|number| format!("endpoint-{number}")).collect();
    source.services.push(Service {
        id: id("shop".to_owned())?,
        hosts: vec!["api.shop.example".to_owned().try_into()?],
        prefix: "/v1".to_owned(),
        tenant: None,
        accept: Presentation::usual(),
        endpoints: endpoints
            .iter()
            .map(|name| {
                Ok(Endpoint {
                    id: id(name.clone())?,
                    name: String::new(),
                    methods: Methods::ALL,
                    paths: vec![format!("/v1/{name}"), format!("/v1/{name}/{{id}}")],
                    prefixes: Vec::new(),
                    per_application: false,
                    scope: None,
                    audience: None,
                    legacy: false,
                    formerly: None,
                    aliases: Vec::new(),
                    token_endpoint: false,
                })
            })
            .collect::<Result<_>>()?,
    });
    for number in 0..credentials.div_ceil(PER_TENANT) {
        let tenant = id(format!("tenant-{number}"))?;
        source.tenants.push(Tenant {
            id: tenant.clone(),
            state: TenantState::Active,
            modules: vec![Module::IpFilter],
            endpoints: vec![EndpointSettings {
                endpoint: endpoint_ref("endpoint-7")?,
                ip_ranges: vec!["192.0.2.0/24".parse()?, "198.51.100.0/24".parse()?, "2001:db8::/32".parse()?],
                signature: SignatureMode::Off,
                replay: Default::default(),
            }],
            token_issuer: None,
            token_revocation: Default::default(),
        });
        for group in ["readers", "writers"] {
            let permissions = endpoints
                .iter()
                .map(|name| Ok(Permission { endpoint: endpoint_ref(name)?, methods: Methods::ALL }))
                .collect::<Result<_>>()?;
            source.groups.push(Group { id: id(group.to_owned())?, tenant: tenant.clone(), permissions });
        }
    }
    let expires = Some(Expiry::at(UnixTime::from_secs(NOW_S + 86_400).context("the time is in range")?));
    for number in 0..credentials {
        source.credentials.push(Credential {
            id: id(format!("k{number:07}"))?,
            tenant: id(format!("tenant-{}", number / PER_TENANT))?,
            kind: Kind::Tenant,
            state: CredentialState::Active,
            expires,
            secrets: vec![SecretVersion {
                version: 1,
                sha256: SecretDigest::new(Sha256::digest(key(number)).into()),
                until: None,
                signing_slot: None,
            }],
            group: Some(id(if number % 2 == 0 { "readers" } else { "writers" }.to_owned())?),
            ip_allowlist: vec!["192.0.2.0/25".parse()?, format!("10.{}.0.0/16", number % 64).parse()?],
            endpoints: Vec::new(),
            applications: Vec::new(),
            creator: None,
            creator_rule: CreatorRule::FollowCreator,
            signature_profile: None,
            signed_only: false,
        });
    }
    Ok(source)
}

/// An installation as [`source`], but of OAuth clients: as many, of the same ids, with one scope on the endpoint.
pub fn clients(credentials: usize) -> Result<Source> {
    let mut source = source(credentials)?;
    for tenant in &mut source.tenants {
        tenant.token_issuer = Some("https://api.shop.example".to_owned());
    }
    for endpoint in source.services.iter_mut().flat_map(|service| &mut service.endpoints) {
        endpoint.scope = Some("orders.read".to_owned());
    }
    for credential in &mut source.credentials {
        credential.kind = Kind::Client;
        credential.group = None;
        credential.ip_allowlist = Vec::new();
    }
    Ok(source)
}

/// An installation as [`source`], in which every tenant's first key is a workspace key that signs, with the secret
/// [`signing_secret`] in the slot of its tenant's number: a tenant has one such key.
pub fn signers(credentials: usize) -> Result<Source> {
    let mut source = source(credentials)?;
    let profile = presets::antavo("eu");
    for service in &mut source.services {
        service.accept = serde_json::from_value(serde_json::json!([
            { "header": "X-API-Key", "kinds": ["tenant"] },
            { "signature": "antavo", "kinds": ["workspace"] },
        ]))?;
    }
    for (credential, slot) in source.credentials.iter_mut().step_by(PER_TENANT).zip(0..) {
        credential.kind = Kind::Workspace;
        credential.group = None;
        credential.ip_allowlist = Vec::new();
        credential.signature_profile = Some(profile.id.clone());
        for secret in &mut credential.secrets {
            secret.signing_slot = Some(slot);
        }
    }
    source.installation.signature_profiles = vec![profile];
    Ok(source)
}

/// How many signers there are among that many credentials.
#[must_use]
pub fn signers_among(credentials: usize) -> usize {
    credentials.div_ceil(PER_TENANT)
}

/// The secret of the signer of that number.
#[must_use]
pub fn signing_secret(number: usize) -> String {
    format!("a signing secret, number {number:012}")
}

/// The request of [`request`], by the signer of that number.
pub fn signed_request(number: usize) -> Result<Vec<u8>> {
    let profile = presets::antavo("eu");
    let (key, secret) = (key(number * PER_TENANT), signing_secret(number));
    let signer = Signer { profile: &profile, key_id: &key, secret: secret.as_bytes() };
    let host = [("host".to_owned(), "api.shop.example".to_owned())];
    let unsigned = Unsigned { method: "GET", target: TARGET, host: "api.shop.example", headers: &host, body: b"" };
    let signed = signer.sign(&unsigned, &[], now()?);
    let mut added = signed.added.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let (date, authorization) = (added.next().context("a date")?, added.next().context("a signature")?);
    packed([date, authorization])
}

/// The request of [`request`], with an access token in place of the key.
pub fn bearer_request(token: &str) -> Result<Vec<u8>> {
    packed([REQUEST_ID, (b"authorization", format!("Bearer {token}").as_bytes())])
}

/// A packed request with 12 header fields, and where the key stands in it, so that it can be exchanged in place.
pub fn request(key: &str) -> Result<(Vec<u8>, usize)> {
    let packed = packed([REQUEST_ID, (b"x-api-key", key.as_bytes())])?;
    // The key is the last value of the buffer.
    let at = packed.len() - key.len();
    Ok((packed, at))
}

const TARGET: &str = "/v1/endpoint-7/42?expand=lines";
const REQUEST_ID: (&[u8], &[u8]) = (b"x-request-id", b"0b9d4c1e-4a57-4b1c-9d43-6d6a5f0f7a11");

/// A packed request with 12 header fields, of which the last two are given, and without a body.
fn packed([first, last]: [(&[u8], &[u8]); 2]) -> Result<Vec<u8>> {
    let headers: [(&[u8], &[u8]); 12] = [
        (b"host", b"api.shop.example"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0"),
        (b"accept", b"application/json, text/plain, */*"),
        (b"accept-encoding", b"gzip, deflate, br, zstd"),
        (b"accept-language", b"en-GB,en;q=0.9,de;q=0.8"),
        (b"cache-control", b"no-cache"),
        (b"content-type", b"application/json"),
        (b"cookie", b"session=0123456789abcdef0123456789abcdef; theme=dark"),
        (b"origin", b"https://www.shop.example"),
        (b"referer", b"https://www.shop.example/orders"),
        first,
        last,
    ];
    let head = RequestHead {
        secure: true,
        peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        method: b"GET",
        authority: None,
        target: TARGET.as_bytes(),
        headers: &headers,
        bodiless: true,
    };
    Ok(head.pack()?)
}
