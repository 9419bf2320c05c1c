//! The installation that the benchmarks decide for, at any number of credentials.

pub mod cases;
pub mod instructions;
pub mod sweeps;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use anyhow::{Context as _, Result};
use portcullis_model::address::Cidr;
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
/// The largest size of a test.
const TEST_SIZE: usize = 1_000;
/// The length of a key in bytes.
pub const KEY_BYTES: usize = 52;

/// Whether this program was started to run each benchmark once and measure nothing: `cargo bench -- --test`.
#[must_use]
pub fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// Those of the sizes that are to be measured: of a test only those that are built at once.
pub fn sizes<const N: usize>(all: [usize; N]) -> impl Iterator<Item = usize> {
    let most = if is_test() { TEST_SIZE } else { usize::MAX };
    all.into_iter().filter(move |size| *size <= most)
}

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

/// How large an installation is. Its tenants, and so on, are all alike; each key is in another group than its neighbours.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many tenant keys there are.
    pub credentials: usize,
    /// How many of them a tenant has; the last tenant may have fewer.
    pub per_tenant: usize,
    /// How many endpoints the one service has.
    pub endpoints: usize,
    /// The endpoints of which a tenant says who may call them from where.
    pub ranged: Range<usize>,
    /// The addresses that may call those.
    pub ranges: Vec<Cidr>,
    /// How many groups a tenant has.
    pub groups: usize,
    /// The endpoints that a group may call, by all methods.
    pub permitted: Range<usize>,
    /// The addresses that every key may be used from, besides a range of its own.
    pub allowlist: Vec<Cidr>,
}

impl Shape {
    /// That many tenant keys, 100 to a tenant, two groups to a tenant, one service of 20 endpoints, an address filter on
    /// the endpoint that is called, and an allowlist on every key.
    pub fn usual(credentials: usize) -> Result<Shape> {
        Ok(Shape {
            credentials,
            per_tenant: PER_TENANT,
            endpoints: 20,
            ranged: 7..8,
            ranges: vec!["192.0.2.0/24".parse()?, "198.51.100.0/24".parse()?, "2001:db8::/32".parse()?],
            groups: 2,
            permitted: 0..20,
            allowlist: vec!["192.0.2.0/25".parse()?],
        })
    }

    /// The records of such an installation.
    pub fn source(&self) -> Result<Source> {
        let id = |text: String| text.parse::<Id>().context("an id");
        let endpoint_ref = |number| EndpointRef::try_from(format!("shop/endpoint-{number}")).context("an endpoint");
        let mut source = Source::empty(Revision(1), Seed(*b"a benchmark seed"));
        source.services.push(Service {
            id: id("shop".to_owned())?,
            hosts: vec!["api.shop.example".to_owned().try_into()?],
            prefix: "/v1".to_owned(),
            tenant: None,
            accept: Presentation::usual(),
            endpoints: (0..self.endpoints).map(endpoint).collect::<Result<_>>()?,
        });
        for number in 0..self.credentials.div_ceil(self.per_tenant) {
            let tenant = id(format!("tenant-{number}"))?;
            let settings = self.ranged.clone().map(|number| {
                Ok(EndpointSettings {
                    endpoint: endpoint_ref(number)?,
                    ip_ranges: self.ranges.clone(),
                    signature: SignatureMode::Off,
                    replay: Default::default(),
                })
            });
            source.tenants.push(Tenant {
                id: tenant.clone(),
                state: TenantState::Active,
                modules: vec![Module::IpFilter],
                endpoints: settings.collect::<Result<_>>()?,
                token_issuer: None,
                token_revocation: Default::default(),
            });
            for number in 0..self.groups {
                let permissions = self.permitted.clone();
                let permissions = permissions
                    .map(|number| Ok(Permission { endpoint: endpoint_ref(number)?, methods: Methods::ALL }))
                    .collect::<Result<_>>()?;
                source.groups.push(Group { id: id(format!("group-{number}"))?, tenant: tenant.clone(), permissions });
            }
        }
        let expires = Some(Expiry::at(UnixTime::from_secs(NOW_S + 86_400).context("the time is in range")?));
        for number in 0..self.credentials {
            let mut ip_allowlist = self.allowlist.clone();
            ip_allowlist.push(format!("10.{}.0.0/16", number % 64).parse()?);
            source.credentials.push(Credential {
                id: id(format!("k{number:07}"))?,
                tenant: id(format!("tenant-{}", number / self.per_tenant))?,
                kind: Kind::Tenant,
                state: CredentialState::Active,
                expires,
                secrets: vec![SecretVersion {
                    version: 1,
                    sha256: SecretDigest::new(Sha256::digest(key(number)).into()),
                    until: None,
                    signing_slot: None,
                }],
                group: Some(id(format!("group-{}", number % self.groups))?),
                ip_allowlist,
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
}

fn endpoint(number: usize) -> Result<Endpoint> {
    Ok(Endpoint {
        id: format!("endpoint-{number}").parse()?,
        name: String::new(),
        methods: Methods::ALL,
        paths: vec![format!("/v1/endpoint-{number}"), format!("/v1/endpoint-{number}/{{id}}")],
        prefixes: Vec::new(),
        per_application: false,
        scope: None,
        audience: None,
        legacy: false,
        formerly: None,
        aliases: Vec::new(),
        token_endpoint: false,
    })
}

/// The records of the installation that most is measured on: [`Shape::usual`].
pub fn source(credentials: usize) -> Result<Source> {
    Shape::usual(credentials)?.source()
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

/// A packed request as that of [`request`] by another method, for another endpoint, or from another address.
pub fn call(key: &str, method: &str, endpoint: usize, peer: IpAddr) -> Result<Vec<u8>> {
    let target = format!("/v1/endpoint-{endpoint}/42?expand=lines");
    pack(method, &target, peer, [REQUEST_ID, (b"x-api-key", key.as_bytes())])
}

/// A packed request with 12 header fields, and where the key stands in it, so that it can be exchanged in place.
pub fn request(key: &str) -> Result<(Vec<u8>, usize)> {
    let packed = packed([REQUEST_ID, (b"x-api-key", key.as_bytes())])?;
    // The key is the last value of the buffer.
    let at = packed.len() - key.len();
    Ok((packed, at))
}

/// Where every request comes from, unless it says otherwise.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const TARGET: &str = "/v1/endpoint-7/42?expand=lines";
const REQUEST_ID: (&[u8], &[u8]) = (b"x-request-id", b"0b9d4c1e-4a57-4b1c-9d43-6d6a5f0f7a11");

/// A packed request with 12 header fields, of which the last two are given, and without a body.
fn packed(fields: [(&[u8], &[u8]); 2]) -> Result<Vec<u8>> {
    pack("GET", TARGET, PEER, fields)
}

fn pack(method: &str, target: &str, peer: IpAddr, [first, last]: [(&[u8], &[u8]); 2]) -> Result<Vec<u8>> {
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
        peer,
        method: method.as_bytes(),
        authority: None,
        target: target.as_bytes(),
        headers: &headers,
        bodiless: true,
    };
    Ok(head.pack()?)
}
