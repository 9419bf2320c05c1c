//! Random policies and requests, for properties.
//!
//! Everything comes from a list of [`Choices`], so a failing case shrinks with the list: zeros, and an end that comes early,
//! choose what is plainest. Documents are valid by construction and share their ids, so that one can be moved to another;
//! requests are biased to hit them.

use std::net::IpAddr;

use anyhow::Result;
use base64ct::{Base64, Encoding as _};
use portcullis_model::source::{Source, TokenKey};
use portcullis_model::time::UnixTime;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::corpus::Request;
use crate::minter::minter;

/// The time around which expiries and requests lie: 2026-11-21T09:00:00Z.
const NOW_S: u64 = 1_795_251_600;
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
const HOSTS: [&str; 4] = ["a.example", "b.example", "*.example", "*.b.example"];
const APPLICATIONS: [&str; 2] = ["spring", "autumn"];
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "OPTIONS"];
const RANGES: [&str; 5] = ["192.0.2.9/28", "10.0.0.0/8", "2001:db8::1/48", "198.51.100.7", "::ffff:203.0.113.0/120"];
const ADDRESSES: [&str; 8] = [
    "192.0.2.10",
    "10.0.0.1",
    "2001:db8::7",
    "198.51.100.7",
    "203.0.113.5",
    "::ffff:10.0.0.2",
    "2001:db8:1::1",
    "192.0.2.16",
];
/// Keys, and behind them OAuth clients.
const KEYS: usize = 6;
const CREDENTIALS: usize = KEYS + 2;
const ISSUER: &str = "https://issuer.example";

/// Numbers to choose by. After the last all are zero.
pub struct Choices<'n> {
    numbers: std::slice::Iter<'n, u16>,
}

impl<'n> Choices<'n> {
    /// Choices by these numbers.
    #[must_use]
    pub fn new(numbers: &'n [u16]) -> Self {
        Choices { numbers: numbers.iter() }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.numbers.next().copied().unwrap_or_default()) % end.max(1)
    }

    /// True once in `times`; never by a zero.
    fn rarely(&mut self, times: usize) -> bool {
        self.below(times) + 1 == times
    }

    /// One of the list, which is not empty.
    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        let chosen = self.below(of.len());
        of.iter().copied().cycle().nth(chosen).unwrap_or_else(|| unreachable!("a list to choose from is not empty"))
    }

    /// Most of the list, in order.
    fn most<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        of.iter().filter(|_| !self.rarely(4)).cloned().collect()
    }

    /// Some of the list, in order.
    fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        of.iter().filter(|_| self.rarely(2)).cloned().collect()
    }
}

/// The key of a credential's secret. Documents give it to other credentials too.
fn key(number: usize, version: usize) -> String {
    format!("ptc_random{number:02}_version-{version}")
}

fn digest(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a document has that its other records can name.
struct Known {
    tenants: Vec<&'static str>,
    endpoints: Vec<String>,
    per_application: Vec<String>,
    /// Each with its tenant.
    groups: Vec<(&'static str, &'static str)>,
    users: Vec<(&'static str, &'static str)>,
}

/// A document that can be built.
///
/// # Errors
/// Where it is no source document after all.
pub fn document(choices: &mut Choices<'_>, revision: u64) -> Result<Source> {
    let tenants = choices.most(&TENANTS);
    let services = services(choices, &tenants);
    let known = Known {
        endpoints: endpoints_of(&services, |_| true),
        per_application: endpoints_of(&services, |endpoint| endpoint.get("per_application").is_some()),
        groups: tenants
            .iter()
            .flat_map(|tenant| choices.most(&["g0", "g1"]).into_iter().map(|id| (*tenant, id)))
            .collect(),
        users: tenants
            .iter()
            .flat_map(|tenant| choices.most(&["u0", "u1"]).into_iter().map(|id| (*tenant, id)))
            .collect(),
        tenants,
    };
    let applications = known
        .tenants
        .iter()
        .flat_map(|tenant| APPLICATIONS.iter().map(move |id| json!({ "id": id, "tenant": tenant })));
    let applications: Vec<_> = applications.collect();
    let document = json!({
        "format": 1, "revision": revision, "seed": "6f".repeat(16),
        "installation": {
            "trusted_proxies": choices.some(&RANGES),
            "clock_skew_s": if choices.rarely(4) { 0 } else { 300 },
            "max_staleness_s": if choices.rarely(4) { 60 } else { 3600 },
            "token_keys": token_keys(choices)?,
        },
        "services": services,
        "applications": applications,
        "tenants": known.tenants.iter().map(|id| tenant(choices, id, &known.endpoints)).collect::<Vec<_>>(),
        "groups": known.groups.iter().map(|group| self::group(choices, *group, &known)).collect::<Vec<_>>(),
        "users": known.users.iter().map(|user| self::user(choices, *user, &known)).collect::<Vec<_>>(),
        "credentials": credentials(choices, &known),
    });
    Ok(Source::from_json(document.to_string().as_bytes())?)
}

/// Two keys, the first of which is now and then another one under the same id.
fn token_keys(choices: &mut Choices<'_>) -> Result<Vec<TokenKey>> {
    let first = if choices.rarely(8) { minter("EdDSA-2") } else { minter("EdDSA-1") };
    Ok(vec![TokenKey { kid: "EdDSA-1".to_owned(), ..first?.public() }, minter("ES256-1")?.public()])
}

fn group(choices: &mut Choices<'_>, (tenant, id): (&str, &str), known: &Known) -> Value {
    let endpoints = choices.most(&known.endpoints);
    let permissions = endpoints.iter().map(|endpoint| with_methods(choices, json!({ "endpoint": endpoint })));
    json!({ "id": id, "tenant": tenant, "permissions": permissions.collect::<Vec<_>>() })
}

fn user(choices: &mut Choices<'_>, (tenant, id): (&str, &str), known: &Known) -> Value {
    let role = choices.one(&["admin", "member", "superuser"]);
    let groups = of(tenant, &known.groups);
    json!({
        "id": id, "tenant": tenant, "role": role, "group": groups.first().filter(|_| role == "member"),
        "state": if choices.rarely(5) { "disabled" } else { "active" },
    })
}

/// The ids among the records of a tenant.
fn of(tenant: &str, records: &[(&str, &'static str)]) -> Vec<&'static str> {
    records.iter().filter(|(owner, _)| *owner == tenant).map(|(_, id)| *id).collect()
}

fn credentials(choices: &mut Choices<'_>, known: &Known) -> Vec<Value> {
    // Secrets wander between credentials from one document to the next.
    let shift = if choices.rarely(3) { 1 + choices.below(CREDENTIALS - 1) } else { 0 };
    let mut with_workspace_key = Vec::new();
    let mut credentials = Vec::new();
    for number in 0..CREDENTIALS {
        if known.tenants.is_empty() || choices.rarely(8) {
            continue;
        }
        let tenant = choices.one(&known.tenants);
        let mut credential = match choices.below(3) {
            _ if number >= KEYS => oauth_client(choices, &of(tenant, &known.users)),
            0 if !of(tenant, &known.groups).is_empty() => tenant_key(choices, &of(tenant, &known.groups)),
            1 => management_key(choices, &of(tenant, &known.users), known),
            _ => json!({ "kind": "workspace", "expires": choices.rarely(4).then(|| time(choices)) }),
        };
        let is_workspace = credential.get("kind") == Some(&json!("workspace"));
        let revoked = choices.rarely(12) || (is_workspace && with_workspace_key.contains(&tenant));
        if is_workspace && !revoked {
            with_workspace_key.push(tenant);
        }
        if let Some(fields) = credential.as_object_mut() {
            fields.insert("id".to_owned(), json!(format!("c{number}")));
            fields.insert("tenant".to_owned(), json!(tenant));
            fields.insert("state".to_owned(), json!(if revoked { "revoked" } else { "active" }));
            fields.insert("secrets".to_owned(), secrets(choices, (number + shift) % CREDENTIALS));
        }
        credentials.push(credential);
    }
    credentials
}

fn secrets(choices: &mut Choices<'_>, number: usize) -> Value {
    let versions: &[usize] = if choices.rarely(3) { &[1] } else { &[2, 1] };
    let secrets = versions.iter().map(|version| {
        let until = choices.rarely(4).then(|| time(choices));
        json!({ "version": version, "sha256": digest(&key(number, *version)), "until": until })
    });
    secrets.collect()
}

fn tenant_key(choices: &mut Choices<'_>, groups: &[&str]) -> Value {
    json!({
        "kind": "tenant", "group": choices.one(groups), "expires": choices.rarely(4).then(|| time(choices)),
        "ip_allowlist": if choices.rarely(4) { choices.some(&RANGES) } else { Vec::new() },
    })
}

fn oauth_client(choices: &mut Choices<'_>, users: &[&str]) -> Value {
    let expires = choices.rarely(4).then(|| time(choices));
    if users.is_empty() || !choices.rarely(3) {
        return json!({ "kind": "client", "expires": expires });
    }
    json!({ "kind": "personal", "creator": choices.one(users), "expires": expires })
}

fn management_key(choices: &mut Choices<'_>, users: &[&str], known: &Known) -> Value {
    let creator = (!users.is_empty()).then(|| choices.one(users));
    let confined = choices.rarely(3);
    json!({
        "kind": "management", "creator": creator, "expires": time(choices),
        "creator_rule": if users.is_empty() || choices.rarely(3) { "independent" } else { "follow_creator" },
        "endpoints": choices.most(if confined { &known.per_application } else { &known.endpoints }),
        "applications": if confined { choices.some(&APPLICATIONS) } else { Vec::new() },
    })
}

/// Two services whose prefixes differ on whatever hosts they share.
fn services(choices: &mut Choices<'_>, tenants: &[&str]) -> Vec<Value> {
    let mut services = Vec::new();
    for (id, prefixes) in [("one", ["/", "/", "/", "/v1"]), ("two", ["/v1/x", "/v1/x", "/v2", "/v2"])] {
        if choices.rarely(16) {
            continue;
        }
        let prefix = choices.one(&prefixes);
        let mut hosts = choices.most(&HOSTS);
        if hosts.is_empty() {
            hosts.push("a.example");
        }
        let mut service = json!({
            "id": id, "hosts": hosts, "prefix": prefix, "endpoints": endpoints(choices, prefix.trim_end_matches('/')),
        });
        let accept = match choices.below(8) {
            0 | 1 => None,
            2..=6 => Some(json!([
                { "header": "X-API-Key", "kinds": ["tenant", "workspace", "management"] },
                { "token": "Bearer", "kinds": ["client", "personal"] },
                { "client": "Basic", "kinds": ["client", "personal"] },
            ])),
            _ => Some(json!([
                { "scheme": "Key", "kinds": ["tenant", "management"] },
                { "parameter": "key", "kinds": ["workspace", "tenant"] },
                { "header": "X-Api-Token", "kinds": ["management"] },
            ])),
        };
        let pinned = (choices.rarely(8) && !tenants.is_empty()).then(|| choices.one(tenants));
        if let Some(fields) = service.as_object_mut() {
            fields.extend(accept.map(|accept| ("accept".to_owned(), accept)));
            fields.extend(pinned.map(|tenant| ("tenant".to_owned(), json!(tenant))));
        }
        services.push(service);
    }
    services
}

/// Endpoints whose patterns are never the same, whichever of them there are.
fn endpoints(choices: &mut Choices<'_>, base: &str) -> Vec<Value> {
    let first = if choices.rarely(4) { "moved" } else { "a" };
    let root = if base.is_empty() { "/" } else { base };
    let all = [
        json!({ "id": "e0", "paths": [format!("{base}/{first}"), format!("{base}/{first}/{{id}}")] }),
        json!({ "id": "e1", "paths": [format!("{base}/{{any}}")] }),
        json!({ "id": "e2", "prefixes": [format!("{base}/a")] }),
        json!({ "id": "e3", "paths": [format!("{base}/apps/{{application}}/b")], "per_application": true }),
        json!({ "id": "e4", "paths": [format!("{base}/a/b")], "name": "Literal", "scope": "write" }),
        json!({ "id": "e5", "prefixes": [format!("{base}/{{any}}/deep")], "audience": "elsewhere" }),
        json!({ "id": "e6", "prefixes": [root] }),
        json!({ "id": "e7", "paths": [format!("{base}/token")], "token_endpoint": true }),
    ];
    choices.most(&all).into_iter().map(|endpoint| with_methods(choices, endpoint)).collect()
}

fn endpoints_of(services: &[Value], keep: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for service in services {
        let endpoints = service.get("endpoints").and_then(Value::as_array).into_iter().flatten();
        for endpoint in endpoints.filter(|endpoint| keep(endpoint)) {
            let id = |record: &Value| record.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            found.push(format!("{}/{}", id(service), id(endpoint)));
        }
    }
    found
}

fn with_methods(choices: &mut Choices<'_>, mut record: Value) -> Value {
    if choices.rarely(3)
        && let Some(fields) = record.as_object_mut()
    {
        let methods = choices.most(&METHODS);
        // None at all is a fault of the document.
        if !methods.is_empty() {
            fields.insert("methods".to_owned(), json!(methods));
        }
    }
    record
}

fn tenant(choices: &mut Choices<'_>, id: &str, endpoints: &[String]) -> Value {
    let settings: Vec<_> = choices
        .some(endpoints)
        .iter()
        .map(|endpoint| {
            json!({
                "endpoint": endpoint, "ip_ranges": if choices.rarely(2) { choices.most(&RANGES) } else { Vec::new() },
                "signature": choices.one(&["off", "off", "observed", "enforced"]),
            })
        })
        .collect();
    json!({
        "id": id, "state": if choices.rarely(12) { "suspended" } else { "active" },
        "modules": choices.some(&["ip_filter", "signature_check"]), "endpoints": settings,
        "token_issuer": if choices.rarely(8) { None } else { Some(choices.one(&[ISSUER, ISSUER, ISSUER, "https://other.example"])) },
        "token_revocation": choices.one(&["all_tokens", "issuance_only"]),
    })
}

fn time(choices: &mut Choices<'_>) -> String {
    choices.one(&["2027-06-30", "2026-11-21", "2026-11-21T09:00:00Z", "2026-11-21T09:00:01Z", "2026-01-01"]).to_owned()
}

/// When a policy is confirmed.
#[must_use]
pub fn confirmed() -> UnixTime {
    UnixTime::from_secs(NOW_S).unwrap_or_default()
}

/// A request and its time, packed. A few are damaged.
///
/// # Errors
/// Where a length does not fit its place.
pub fn request(choices: &mut Choices<'_>) -> Result<(Vec<u8>, UnixTime)> {
    let mut fields = Fields::default();
    let host = if choices.rarely(16) {
        choices.one(&["A.Example:8443", "example", "nowhere.test", "a..example", "a.example.", ""])
    } else {
        choices.one(&["a.example", "b.example", "x.b.example", "c.example"])
    };
    if !choices.rarely(48) {
        fields.put("Host", host);
    }
    if choices.rarely(64) {
        fields.put("host", host);
    }
    let authority = choices.rarely(24).then(|| choices.one(&[host, host, "b.example"]).as_bytes().to_vec());
    for _ in 0..1 + choices.below(24) / 22 {
        fields.put_key(choices);
    }
    for _ in 0..choices.below(24) / 17 + choices.below(24) / 22 {
        fields.put_other(choices);
    }
    let method = if choices.rarely(32) {
        choices.one(&["get", "TRACE", "PROPFIND", "", "CONNECT"])
    } else {
        choices.one(&METHODS)
    };
    let request = Request {
        secure: !choices.rarely(2),
        peer: choices.one(&ADDRESSES).parse::<IpAddr>()?,
        method: method.as_bytes().to_vec(),
        authority,
        target: target(choices, &fields.query).into_bytes(),
        headers: fields.headers,
        body_digest: None,
        body: None,
        capture: None,
        captured: Vec::new(),
    };
    let mut head = request.pack()?;
    if choices.rarely(40) {
        let at = choices.below(head.len());
        let mask = u8::try_from(1 + choices.below(255))?;
        head.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
    }
    let seconds = match choices.below(24) {
        0..=19 => NOW_S,
        20 => NOW_S - 1,
        21 => NOW_S + 60,
        22 => NOW_S + 3600 + u64::try_from(choices.below(2))?,
        _ => NOW_S - 300 - u64::try_from(choices.below(2))?,
    };
    Ok((head, UnixTime::from_secs(seconds).unwrap_or_default()))
}

/// The header fields and the query of a request being made.
#[derive(Default)]
struct Fields {
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    query: String,
}

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        self.headers.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    }

    fn put_key(&mut self, choices: &mut Choices<'_>) {
        if choices.rarely(4) {
            let token = token(choices).unwrap_or_default();
            return self.put("Authorization", &format!("Bearer {token}"));
        }
        if choices.rarely(8) {
            let number = KEYS + choices.below(CREDENTIALS - KEYS);
            let id = if choices.rarely(4) { choices.below(CREDENTIALS) } else { number };
            let pair = format!("c{id}:{}", key(number, 1 + choices.below(2)));
            return self.put("Authorization", &format!("Basic {}", Base64::encode_string(pair.as_bytes())));
        }
        let key = match choices.below(16) {
            15 => choices.one(&["", "unknown", "two words", "ptc_\u{fc}"]).to_owned(),
            _ => key(choices.below(KEYS), 1 + choices.below(3) / 2),
        };
        match choices.below(24) {
            0..=17 => self.put("X-API-Key", &key),
            18 => self.put("x-workspace-key", &key),
            19 => self.put("Authorization", &format!("ManagementKey-v1 {key}")),
            20 => self.put("Authorization", &format!("{} {key}", choices.one(&["Key", "key", "Bearer"]))),
            21 | 22 => {
                let name = choices.one(&["api_key", "key", "API_KEY", "k%65y", "api_key[]"]);
                self.query.push_str(&format!("&{name}={key}"));
            }
            _ => self.put(choices.one(&["X-Api-Token", "X_API_Key", "X-Api_Token"]), &key),
        }
    }

    fn put_other(&mut self, choices: &mut Choices<'_>) {
        const CONNECTION: [&str; 5] = ["close", "X-API-Key", "x_api_token", "date", "X-Portcullis-Kind"];
        match choices.below(8) {
            0 => self.put("X-Forwarded-For", &hops(choices, "")),
            1 => self.put("Forwarded", &hops(choices, "for=")),
            2 => self.put("Connection", choices.one(&CONNECTION)),
            3 => self.put("Date", "Sat, 21 Nov 2026 09:00:00 GMT"),
            4 => self.put(choices.one(&["X-Portcullis-Tenant", "X_Portcullis_Tenant"]), "globex"),
            5 => self.put(choices.one(&["X Y", "", "X-\u{e9}", "x!"]), "1"),
            6 => self.put("X-Custom", choices.one(&["a\tb", "a\nb", "\u{0}", "\u{e9}"])),
            _ => self.put("Authorization", "Basic c2hvcDp4"),
        }
    }
}

/// An access token: good for one of the clients if that is of the tenant, or with one thing wrong.
fn token(choices: &mut Choices<'_>) -> Result<String> {
    let minter = minter(if choices.rarely(4) { "ES256-1" } else { "EdDSA-1" })?;
    let client = format!("c{}", KEYS + choices.below(CREDENTIALS - KEYS));
    let mut header = minter.header();
    let mut claims = json!({
        "iss": ISSUER, "sub": client, "client_id": client,
        "aud": ["one", "two"], "scope": choices.one(&["write read", "read"]), "iat": NOW_S - 60, "exp": NOW_S + 600,
        "jti": "t", "secret_version": 1 + choices.below(4) / 3,
    });
    if choices.rarely(3) {
        let (of, name, value) = match choices.below(10) {
            0 => (&mut header, "alg", json!("none")),
            1 => (&mut header, "crit", json!(["exp"])),
            2 => (&mut header, "kid", json!("EdDSA-9")),
            3 => (&mut header, "kid", json!("EdDSA-1")),
            4 => (&mut header, "typ", json!("JWT")),
            5 => (&mut claims, "aud", json!("elsewhere")),
            6 => (&mut claims, "exp", json!(NOW_S)),
            7 => (&mut claims, "iat", json!(NOW_S + 300 + u64::try_from(choices.below(2))?)),
            8 => (&mut claims, "client_id", json!("c99")),
            _ => (&mut claims, "exp", json!("soon")),
        };
        if let Some(members) = of.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    }
    let mut token = minter.sign(&header.to_string(), &claims.to_string());
    if choices.rarely(12) {
        token.truncate(token.len().saturating_sub(2));
        token.push_str("AA");
    }
    Ok(token)
}

fn hops(choices: &mut Choices<'_>, before: &str) -> String {
    let hops: Vec<_> = (0..1 + choices.below(3))
        .map(|_| {
            let hop = if choices.rarely(12) { "unknown" } else { choices.one(&ADDRESSES) };
            let hop = if !before.is_empty() && hop.contains(':') { format!("\"[{hop}]\"") } else { hop.to_owned() };
            format!("{before}{hop}")
        })
        .collect();
    hops.join(", ")
}

fn target(choices: &mut Choices<'_>, query: &str) -> String {
    const PLAIN: [&str; 9] = ["a", "b", "apps", "spring", "autumn", "deep", "moved", "%C3%A9", "token"];
    const ODD: [&str; 10] = ["..", "", "%2F", "%41", "%25", "x;y", "%ff", "%00", "\u{e9}", "%"];
    let mut target = choices.one(&["", "/v1", "/v1/x", "/v2"]).to_owned();
    if choices.rarely(4) {
        target.push_str(&format!("/apps/{}/b", choices.one(&["spring", "autumn", "winter"])));
    } else {
        for _ in 0..1 + choices.below(3) {
            let segment = if choices.rarely(40) { choices.one(&ODD) } else { choices.one(&PLAIN) };
            target.push('/');
            target.push_str(segment);
        }
    }
    if let Some(query) = query.strip_prefix('&') {
        target.push('?');
        target.push_str(query);
    }
    target
}
