//! The JSON source document of a policy, and the delta between two of them.
//!
//! One document describes a whole installation, in flat lists that name each other by id. It is what `portcullis policy
//! build` reads, what the corpus is written in and what a host compiles from its store. It holds digests, never keys.

mod delta;
mod projection;
mod proof;

pub(crate) use delta::routes;
pub use delta::{Delta, Removed, Route, RouteTarget};
pub use projection::{KeptTenants, Projected, Projection, Replaced};
pub use proof::{CanonicalForm, SignatureHash, SignatureProfile, TokenAlgorithm, TokenKey, TokenKeyMaterial};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::address::Cidr;
use crate::credential::{Kind, SecretDigest, Seed};
use crate::id::{EndpointRef, Id, Revision};
use crate::method::Methods;
use crate::time::Expiry;

/// The version of the source format that this crate reads and writes.
pub const SOURCE_FORMAT: u32 = 1;

/// The longest host name in bytes (RFC 1035 section 2.3.4).
pub const MAX_HOST_BYTES: usize = 253;

/// A whole policy as people and stores write it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The format of this document: [`SOURCE_FORMAT`].
    pub format: u32,
    /// The revision that this document describes.
    pub revision: Revision,
    /// The installation's seed.
    pub seed: Seed,
    /// What holds for every service and tenant.
    #[serde(default)]
    pub installation: Installation,
    /// The guarded API products.
    #[serde(default)]
    pub services: Vec<Service>,
    /// The customers.
    #[serde(default)]
    pub tenants: Vec<Tenant>,
    /// Parts of tenants that keys can be confined to.
    #[serde(default)]
    pub applications: Vec<Application>,
    /// Sets of permissions.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// The people who make keys.
    #[serde(default)]
    pub users: Vec<User>,
    /// The keys, by digest.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// The newest signed checkpoint of the audit, as its JSON: whoever holds this policy is a witness of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

impl Source {
    /// Reads a source document.
    ///
    /// # Errors
    /// What the parser found first, with its line and column. That references hold is checked when the policy is built.
    pub fn from_json(json: &[u8]) -> Result<Source, SourceError> {
        let source: Source = serde_json::from_slice(json).map_err(SourceError::Json)?;
        if source.format != SOURCE_FORMAT {
            return Err(SourceError::Format { found: source.format });
        }
        Ok(source)
    }

    /// An empty document: it denies everything.
    #[must_use]
    pub fn empty(revision: Revision, seed: Seed) -> Source {
        Source {
            format: SOURCE_FORMAT,
            revision,
            seed,
            installation: Installation::default(),
            services: Vec::new(),
            tenants: Vec::new(),
            applications: Vec::new(),
            groups: Vec::new(),
            users: Vec::new(),
            credentials: Vec::new(),
            checkpoint: None,
        }
    }
}

/// What holds for the whole installation. Durations are in seconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Installation {
    /// The proxies whose `Forwarded` or `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// How far two clocks may differ.
    pub clock_skew_s: u32,
    /// How long a policy stays in force after it was last confirmed.
    pub max_staleness_s: u32,
    /// The ways in which requests are signed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signature_profiles: Vec<SignatureProfile>,
    /// The keys that access tokens are verified with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_keys: Vec<TokenKey>,
}

impl Default for Installation {
    fn default() -> Self {
        Installation {
            trusted_proxies: Vec::new(),
            clock_skew_s: 300,
            max_staleness_s: 3600,
            signature_profiles: Vec::new(),
            token_keys: Vec::new(),
        }
    }
}

/// A guarded API product.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its stable id.
    pub id: Id,
    /// Exact hosts, or `*.suffix` for every host below a suffix.
    pub hosts: Vec<HostPattern>,
    /// The path prefix under which its endpoints lie; compared segment by segment.
    #[serde(default = "root")]
    pub prefix: String,
    /// The one tenant it is pinned to; shared by all where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Id>,
    /// How a credential may be presented.
    #[serde(default = "Presentation::usual")]
    pub accept: Vec<Presentation>,
    /// Its catalogue of endpoints.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

fn root() -> String {
    "/".to_owned()
}

/// A host that a service answers to: `api.example.com`, `192.0.2.1`, `[2001:db8::1]`, or `*.example.com` for any host that
/// ends so, however many labels come before. Lower case, no port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern(String);

impl HostPattern {
    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> String {
        pattern.0
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostPatternError;

    fn try_from(text: String) -> Result<Self, HostPatternError> {
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let is_address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|v6| {
            // One spelling only, or a request for another would not find the service.
            v6.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.to_string() == v6)
        });
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        };
        let is_name = name.len() <= MAX_HOST_BYTES && name.split('.').all(label);
        if is_name || (is_address && name.len() == text.len()) {
            Ok(HostPattern(text))
        } else {
            Err(HostPatternError { text })
        }
    }
}

/// A text that is no host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a host: write a lower-case name without a port such as `api.example.com`, or `*.example.com`")]
pub struct HostPatternError {
    text: String,
}

/// One way to present a credential, and the kinds that may be presented so. Exactly one of the ways is given.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presentation {
    /// A header field that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// A query parameter that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// A scheme of the Authorization header, before the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// A request signature by the profile of that id, in its header field or in the URL. The key's secret never travels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Id>,
    /// A scheme of the Authorization header, before an access token (RFC 6750 section 2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A scheme of the Authorization header, before a client's id and secret (RFC 6749 section 2.3.1). It proves a client
    /// at a token endpoint and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The kinds of credential that may be presented so.
    pub kinds: Vec<Kind>,
}

impl Presentation {
    fn header(name: &str, kinds: &[Kind]) -> Presentation {
        Presentation { header: Some(name.to_owned()), kinds: kinds.to_vec(), ..Presentation::default() }
    }

    /// What a service accepts unless it says otherwise: tenant keys in `X-API-Key`, workspace keys in `X-Workspace-Key`
    /// or `?api_key=`, management keys behind `Authorization: ManagementKey-v1`, access tokens behind
    /// `Authorization: Bearer`.
    #[must_use]
    pub fn usual() -> Vec<Presentation> {
        vec![
            Presentation::header("X-API-Key", &[Kind::Tenant]),
            Presentation::header("X-Workspace-Key", &[Kind::Workspace]),
            Presentation {
                parameter: Some("api_key".to_owned()),
                kinds: vec![Kind::Workspace],
                ..Presentation::default()
            },
            Presentation {
                scheme: Some("ManagementKey-v1".to_owned()),
                kinds: vec![Kind::Management],
                ..Presentation::default()
            },
            Presentation {
                token: Some("Bearer".to_owned()),
                kinds: vec![Kind::Personal, Kind::Client],
                ..Presentation::default()
            },
        ]
    }
}

/// A named part of a service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its stable id within the service.
    pub id: Id,
    /// Its display name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The methods it has; all where left out.
    #[serde(default)]
    pub methods: Methods,
    /// Whole paths, with `{name}` for one segment of any text. `{application}` names the application.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Paths that match themselves and everything below them; `{name}` as in `paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Whether it works with individual applications: every path then names one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub per_application: bool,
    /// Whether it is a token endpoint: it takes a client's id and secret, and nothing else does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub token_endpoint: bool,
    /// The scope that an access token needs; none where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The audience that an access token needs; the service's id where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Kept for old clients only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub legacy: bool,
    /// Its earlier display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<String>,
    /// Other ids by which people and programs may name it, unique within the service. Requests are matched by paths alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Id>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// A customer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its stable id.
    pub id: Id,
    /// Whether its credentials work at all.
    #[serde(default)]
    pub state: TenantState,
    /// What the operator has enabled for it. Settings of a module that is off have no effect.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// Its settings per endpoint.
    #[serde(default)]
    pub endpoints: Vec<EndpointSettings>,
    /// The issuer that access tokens of its clients must name; without one it has no tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_issuer: Option<String>,
    /// What the end of a client does to the tokens that it has.
    #[serde(default)]
    pub token_revocation: TokenRevocation,
}

/// What the end of a client, or of a version of its secret, does to the access tokens that were issued to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRevocation {
    /// They are dead on the next request.
    #[default]
    AllTokens,
    /// No more are issued; those there are live until they expire.
    IssuanceOnly,
}

/// Whether a tenant's credentials work at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// They do.
    #[default]
    Active,
    /// They do not, until it is active again.
    Suspended,
}

/// A check that the operator enables per tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    /// Address ranges per endpoint.
    IpFilter,
    /// Signatures per endpoint.
    SignatureCheck,
}

/// What a tenant has set for one endpoint.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSettings {
    /// The endpoint, as `service/endpoint`.
    pub endpoint: EndpointRef,
    /// The addresses that may use it; any where empty. Needs the module `ip_filter`.
    #[serde(default)]
    pub ip_ranges: Vec<Cidr>,
    /// Whether requests must be signed. Needs the module `signature_check`.
    #[serde(default)]
    pub signature: SignatureMode,
    /// Whether a signed request is accepted once only.
    #[serde(default, skip_serializing_if = "ReplayMode::is_default")]
    pub replay: ReplayMode,
}

/// Whether a signed request is accepted once only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayMode {
    /// Once where the profile's nonce is signed, else as often as it comes: two identical requests within one second bear
    /// one signature.
    #[default]
    Auto,
    /// Once.
    Once,
    /// As often as it comes within the time window.
    Any,
}

impl ReplayMode {
    fn is_default(&self) -> bool {
        *self == ReplayMode::default()
    }
}

/// Whether requests to an endpoint must be signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureMode {
    /// No.
    #[default]
    Off,
    /// No, but the decision records what enforcing would have denied.
    Observed,
    /// Yes.
    Enforced,
}

/// A part of a tenant that a key can be confined to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its id, as it stands in paths.
    pub id: Id,
    /// The tenant it is part of.
    pub tenant: Id,
}

/// A set of permissions of a tenant.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its id, unique within the tenant.
    pub id: Id,
    /// The tenant it belongs to.
    pub tenant: Id,
    /// What it permits; nothing where empty.
    #[serde(default)]
    pub permissions: Vec<Permission>,
}

/// One endpoint and the methods permitted on it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// The endpoint, as `service/endpoint`.
    pub endpoint: EndpointRef,
    /// The permitted methods; all that the endpoint has where left out.
    #[serde(default)]
    pub methods: Methods,
}

/// A person of a tenant, as far as keys depend on them. There is no name and no address here.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The user's id, unique within the tenant.
    pub id: Id,
    /// The tenant the user belongs to.
    pub tenant: Id,
    /// What the user may do.
    pub role: Role,
    /// Whether the user may act at present. A deleted user is not in the document.
    #[serde(default)]
    pub state: UserState,
    /// The group that is a member's profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Id>,
}

/// A user's role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Of the whole installation.
    Superuser,
    /// Of one tenant: everything in it.
    Admin,
    /// Of one tenant: what the user's group permits.
    Member,
}

/// Whether a user may act.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserState {
    /// Yes.
    #[default]
    Active,
    /// Not until enabled again; keys that follow the user are dead as long.
    Disabled,
}

/// A key, known by the digests of its secret versions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Its internal id, unique in the installation and safe to log.
    pub id: Id,
    /// The tenant it belongs to.
    pub tenant: Id,
    /// What it is for.
    pub kind: Kind,
    /// Its stored state. A deleted credential is not in the document.
    #[serde(default)]
    pub state: CredentialState,
    /// When it ends; never where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
    /// The versions of its secret that stand: one, or two while a rotation overlaps.
    pub secrets: Vec<SecretVersion>,
    /// Tenant keys: the group whose permissions it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Id>,
    /// Tenant keys: the addresses it may be used from; any where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_allowlist: Vec<Cidr>,
    /// Management keys and sessions: the endpoints it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointRef>,
    /// Management keys: the applications it is confined to; all where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applications: Vec<Id>,
    /// Management keys: the user who made it. Personal credentials and sessions: the user whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<Id>,
    /// Management keys: whether its power depends on its creator's.
    #[serde(default, skip_serializing_if = "CreatorRule::is_default")]
    pub creator_rule: CreatorRule,
    /// Workspace keys: the profile by which its requests are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_profile: Option<Id>,
    /// Workspace keys: whether it is proven by signatures alone. Its key id is then no key.
    #[serde(default, skip_serializing_if = "is_false")]
    pub signed_only: bool,
}

/// A credential's stored state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialState {
    /// It works unless it has expired.
    #[default]
    Active,
    /// It never works again.
    Revoked,
}

/// Whether a key's power depends on its creator's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreatorRule {
    /// The key is dead while its creator is disabled or gone, and never more powerful than its creator is now.
    #[default]
    FollowCreator,
    /// The key stands by itself.
    Independent,
}

impl CreatorRule {
    fn is_default(&self) -> bool {
        *self == CreatorRule::default()
    }
}

/// One version of a credential's secret.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretVersion {
    /// Counts the rotations, from 1.
    pub version: u16,
    /// The SHA-256 of the key.
    pub sha256: SecretDigest,
    /// When this version ends, where that is before the credential does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Expiry>,
    /// Where its day keys are in the key sheets, for what signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_slot: Option<u32>,
}

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It is not the JSON that this format asks for; the message has the line and column.
    #[error("{0}")]
    Json(serde_json::Error),
    /// It is of another format.
    #[error("the document has format {found}, this build reads format {SOURCE_FORMAT}")]
    Format {
        /// The format it says.
        found: u32,
    },
}

/// One thing that is wrong with a document, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub(crate) at: String,
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_text_have_a_line() {
        let head = r#"{"format":1,"revision":1,"seed":"000102030405060708090a0b0c0d0e0f","#;
        for (rest, expected) in [
            (
                "\n\"installation\":{\"trusted_proxies\":[\"10.0.0.0/8\",\n\"10.0.0.0/99\"]}}",
                "`10.0.0.0/99` is not an address range",
            ),
            ("\n\n\"surprise\":1}", "unknown field `surprise`"),
        ] {
            let error = Source::from_json(format!("{head}{rest}").as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("at line 3"), "{error}");
        }
    }

    #[test]
    fn another_format_is_named() {
        let json = br#"{"format":2,"revision":1,"seed":"000102030405060708090a0b0c0d0e0f"}"#;
        assert_eq!(
            Source::from_json(json).unwrap_err().to_string(),
            "the document has format 2, this build reads format 1"
        );
    }

    #[test]
    fn hosts_are_names_addresses_or_suffixes() {
        for good in ["api.example.com", "localhost", "*.example.com", "192.0.2.1", "[::1]"] {
            assert!(HostPattern::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in
            ["API.example.com", "a.example:80", "*", "a.*.b", "*.[::1]", "a..b", "", "a.example.", "[0::1]", "http://a"]
        {
            assert!(HostPattern::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
