//! Schemas of the model's types, which know nothing of schemas themselves.
//!
//! A field of such a type is described by the type of that name in here: `#[schemars(with = "schema::Id")]`. Nothing is made of
//! these types; that real answers are as described is what the tests of the whole see to.

#![expect(dead_code, reason = "nothing but their schemas is used")]

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

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

/// One way to present a credential. Exactly one of `header`, `parameter` and `scheme` is given.
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
    #[schemars(skip_serializing_if = "Option::is_none")]
    preflight: Option<Preflight>,
}
