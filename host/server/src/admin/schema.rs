//! Schemas of the model's types, which know nothing of schemas themselves.
//!
//! A field of such a type is described by the type of that name in here: `#[schemars(with = "schema::Id")]`. Nothing is made of
//! these types; that real answers are as described is what the tests of the whole see to.

#![expect(dead_code, reason = "nothing but their schemas is used")]

use std::borrow::Cow;

use portcullis_control::store::USUAL_ERROR_ENTRIES;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Describes a view that wraps another crate's type by the type of that name in here.
macro_rules! described_as {
    ($view:ident: $schema:ty) => {
        impl ::schemars::JsonSchema for $view {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                <$schema as ::schemars::JsonSchema>::schema_name()
            }

            fn schema_id() -> ::std::borrow::Cow<'static, str> {
                <$schema as ::schemars::JsonSchema>::schema_id()
            }

            fn json_schema(generator: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                <$schema as ::schemars::JsonSchema>::json_schema(generator)
            }
        }
    };
}
pub(super) use described_as;

/// A text of a certain form.
macro_rules! texts {
    ($($name:ident $schema:tt)*) => { $(
        #[derive(Default)]
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )* };
}

texts! {
    Id {
        "description": "An id: it stays, whatever the display name becomes.",
        "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
        "examples": ["acme"],
    }
    EndpointRef {
        "description": "An endpoint of a service, as `service/endpoint`.",
        "type": "string", "maxLength": 129, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        "examples": ["shop/events"],
    }
    Cidr {
        "description": "A range of addresses, or one address. Host bits are masked.",
        "type": "string", "examples": ["192.0.2.0/24", "2001:db8::1"],
    }
    Expiry {
        "description": "When it ends, as RFC 3339. A bare date is the end of that day in UTC.",
        "type": "string", "examples": ["2027-12-31", "2027-12-31T18:00:00Z"],
    }
    HostPattern {
        "description": "A host in lower case and without a port, or `*.` before a suffix for every host below it.",
        "type": "string", "maxLength": 255, "examples": ["api.example.com", "*.example.com"],
    }
    Sha256 {
        "description": "A SHA-256 in hex.",
        "type": "string", "minLength": 64, "maxLength": 64, "pattern": "^[0-9a-fA-F]{64}$",
    }
    Methods {
        "description": "Methods; where the field is left out, every one.",
        "type": "array",
        "items": { "type": "string", "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] },
    }
}

/// What a key is for.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Kind {
    Workspace,
    Tenant,
    Management,
    Personal,
    Client,
}

/// Whether a tenant's keys work at all.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum TenantState {
    Active,
    Suspended,
}

/// A check that the operator enables for a tenant.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(super) enum Module {
    IpFilter,
    SignatureCheck,
}

/// Whether requests to an endpoint must be signed. `observed`: what would have been denied is recorded.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum SignatureMode {
    Off,
    Observed,
    Enforced,
}

/// Whether a signed request is accepted once only. `auto`: once where a nonce is signed.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum ReplayMode {
    Auto,
    Once,
    Any,
}

/// The hash of a signature and of the body.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum SignatureHash {
    Sha256,
    Sha512,
}

/// How a request is written before it is signed.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum CanonicalForm {
    Escher,
    Antavo,
    Aws,
}

/// One way to sign requests.
#[derive(JsonSchema)]
pub(super) struct SignatureProfile {
    id: Id,
    /// What the algorithm's name begins with: `ANTAVO` of `ANTAVO-HMAC-SHA256`.
    algorithm_prefix: String,
    /// The middle of the names of presigned parameters: `Antavo` of `X-Antavo-Signature`.
    vendor_key: String,
    hash: SignatureHash,
    /// The header field of the signature.
    auth_header: String,
    /// The header field of the date.
    date_header: String,
    /// What the credential is confined to, such as `eu/api/antavo_request`.
    credential_scope: String,
    /// How far the date may be from the time, in seconds.
    clock_skew_s: u32,
    canonical_form: CanonicalForm,
    /// The longest time that a presigned URL may be valid, in seconds; none is accepted where it is 0.
    presigned_expires_s: u32,
    /// The header field of a nonce. A request that signs one is accepted once.
    #[schemars(skip_serializing_if = "Option::is_none")]
    nonce_header: Option<String>,
}

/// What a user may do: everything in the installation, everything in the tenant, or what the user's group permits.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Role {
    Superuser,
    Admin,
    Member,
}

/// Whether a user may act. Keys that follow a disabled user are dead as long.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum UserState {
    Active,
    Disabled,
}

/// The stored state of a key. It says nothing of the expiry.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum CredentialState {
    Active,
    Revoked,
}

/// Whether a key's power depends on its creator's.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(super) enum CreatorRule {
    FollowCreator,
    Independent,
}

/// What a group can be given to: tenant keys, or members as their profile.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(super) enum GroupKind {
    TenantKey,
    Member,
}

/// One endpoint and the methods permitted on it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Permission {
    endpoint: EndpointRef,
    /// The permitted methods; all that the endpoint has where it is left out.
    #[schemars(default)]
    methods: Methods,
}

/// One way to present a credential. Exactly one of `header`, `parameter`, `scheme`, `signature` and `token` is given.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Presentation {
    /// A header field that holds the key.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// A parameter of the query that holds the key.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// A scheme of `Authorization`, before the key.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<String>,
    /// A request signature by the profile of that id.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    signature: Option<Id>,
    /// A scheme of `Authorization`, before an access token.
    #[schemars(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The kinds of credential that may be presented so.
    kinds: Vec<Kind>,
}

/// A named part of a service.
#[derive(JsonSchema)]
pub(super) struct Endpoint {
    id: Id,
    /// The display name.
    #[schemars(skip_serializing_if = "String::is_empty")]
    name: String,
    methods: Methods,
    /// Whole paths, with `{name}` for one segment of any text. `{application}` names the application.
    paths: Vec<String>,
    /// Paths that match themselves and everything below.
    #[schemars(skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    /// Whether it works with individual applications: every path then names one.
    #[schemars(skip_serializing_if = "is_false")]
    per_application: bool,
    /// The scope that an access token needs.
    #[schemars(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The audience that an access token needs.
    #[schemars(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    /// Kept for old clients only.
    #[schemars(skip_serializing_if = "is_false")]
    legacy: bool,
    /// Its earlier display name.
    #[schemars(skip_serializing_if = "Option::is_none")]
    formerly: Option<String>,
    /// Other ids by which people and programs may name it.
    #[schemars(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<Id>,
}

/// What answers the CORS preflights of origins that may ask.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Preflight {
    /// The origins, such as `https://app.example.com`, or `*` alone.
    origins: Vec<String>,
    /// The request header fields that scripts may send.
    #[schemars(default)]
    headers: Vec<String>,
    /// How long browsers may remember the answer, in seconds.
    #[schemars(default)]
    max_age_s: u32,
}

/// Where a service's requests go.
#[derive(JsonSchema)]
pub(super) struct Delivery {
    /// The upstream's origin: `http://host:port`, `https://host:port`, or `h2c://host:port`.
    upstream: String,
    /// Whether the upstream gets the Host that the client sent.
    preserve_host: bool,
    /// How long the upstream may take until the head of its response, in seconds.
    response_timeout_s: u32,
    /// A path of the service that Portcullis keeps for itself: below it lie `/v1/leaked`,
    /// `/v1/auth/token` and `/v1/auth/jwks.json`. Off where left out.
    #[schemars(skip_serializing_if = "Option::is_none")]
    reserved_prefix: Option<String>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    preflight: Option<Preflight>,
}

/// What the operator sets for a tenant beside its modules and its limit.
#[derive(JsonSchema)]
pub(super) struct TenantRules {
    /// How long before its end a credential is expiring soon, in days.
    expiring_soon_days: u16,
    /// What access tokens of the tenant's clients name as their issuer (RFC 7519 section 4.1.1).
    token_issuer: String,
    /// How long an access token lives unless its client ends before, in seconds.
    token_validity_s: u32,
    /// What the end of a client does to the access tokens that it has.
    token_revocation: TokenRevocation,
}

/// An algorithm of access tokens.
#[derive(JsonSchema)]
pub(super) enum TokenAlgorithm {
    /// Ed25519 (RFC 8037).
    #[schemars(rename = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256 and SHA-256 (RFC 7518).
    #[schemars(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518).
    #[schemars(rename = "RS256")]
    Rs256,
}

/// What the end of a client, or of a version of its secret, does to the access tokens that were issued to it.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(super) enum TokenRevocation {
    /// They are dead on the next request.
    AllTokens,
    /// No more are issued; those there are live until they expire.
    IssuanceOnly,
}

/// What the access tokens of an OAuth client may be for.
#[derive(JsonSchema)]
pub(super) struct ClientTerms {
    /// The scopes (RFC 6749 section 3.3).
    scopes: Vec<String>,
    /// The audiences (RFC 7519 section 4.1.3).
    audiences: Vec<String>,
}

/// What a tenant sets for its error log.
#[derive(JsonSchema)]
#[schemars(default, deny_unknown_fields, rename = "ErrorLogChoices")]
pub(super) struct ErrorLogSettings {
    /// Whether failed calls are kept at all.
    enabled: bool,
    /// How many are kept, proven ones and those of strangers each; the oldest go first.
    max_entries: u32,
    /// What is taken out of each, besides what always is.
    redact: Redactions,
}

impl Default for ErrorLogSettings {
    fn default() -> ErrorLogSettings {
        ErrorLogSettings { enabled: true, max_entries: USUAL_ERROR_ENTRIES, redact: Redactions::default() }
    }
}

/// What is taken out of a failed call before it is kept.
#[derive(JsonSchema, Default)]
#[schemars(default, deny_unknown_fields)]
pub(super) struct Redactions {
    /// Names of JSON fields at any depth, form fields and query parameters; their values go.
    fields: Vec<String>,
    /// Names of header fields; their values go.
    headers: Vec<String>,
    /// Texts that go wherever they occur.
    values: Vec<String>,
    /// Regular expressions; what they match goes wherever it occurs.
    patterns: Vec<String>,
}

/// Which line of an exported audit it is.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum EntryType {
    Entry,
}

/// Which line of an exported audit it is.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub(super) enum CheckpointType {
    Checkpoint,
}

/// An entry with everything that its hash is computed from. `details` is the text that was hashed.
#[derive(JsonSchema)]
pub(super) struct ExportedEntry {
    r#type: EntryType,
    tenant: String,
    /// Its number in the tenant's chain.
    number: u64,
    /// In seconds since 1970, as it is hashed.
    at: u64,
    actor_tenant: String,
    actor_credential: Option<String>,
    actor_user: Option<String>,
    channel: String,
    address: Option<String>,
    action: String,
    object_kind: String,
    object: String,
    #[schemars(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    details: String,
    hash: Sha256,
}

/// A signed checkpoint: how long every chain is, and its newest hash.
#[derive(JsonSchema)]
pub(super) struct SignedCheckpoint {
    r#type: CheckpointType,
    format: u32,
    number: u64,
    revision: u64,
    /// In seconds since 1970, as it is signed.
    at: u64,
    /// The Ed25519 key in hex.
    public_key: String,
    /// The signature in hex.
    signature: String,
    chains: Vec<Mark>,
}

/// One chain of a checkpoint.
#[derive(JsonSchema)]
#[schemars(rename = "CheckpointMark")]
pub(super) struct Mark {
    tenant: Id,
    count: u64,
    hash: Sha256,
    /// Up to which number entries were removed.
    removed: u64,
    removed_hash: Option<Sha256>,
}
