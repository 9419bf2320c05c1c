//! The records of an installation: what the policy holds of each, and what only people and the proxy need.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portcullis_model::credential::{Kind, SecretDigest};
use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::source::{
    Application, Credential, EndpointSettings, Group, Installation, Module, Service, TenantState, TokenRevocation, User,
};
use portcullis_model::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::error_log::ErrorLogSettings;
use crate::token::TokenKeyRecord;

/// A record as it is stored, with the revision that changed it last: what `If-Match` is compared with.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// The revision that made it what it is.
    pub changed: Revision,
    /// When it was made.
    pub created: UnixTime,
}

/// A guarded API product: what the policy knows of it, and where its requests go.
#[derive(Clone, PartialEq, Debug)]
pub struct ServiceRecord {
    /// Its hosts, its prefix, its catalogue.
    pub service: Service,
    /// Its display name.
    pub name: String,
    /// Where its requests go.
    pub delivery: Delivery,
    /// Which catalogue its endpoints are.
    pub catalogue: CatalogueMark,
}

/// Which catalogue the endpoints of a service are: what it began as, and how often it has changed since.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CatalogueMark {
    /// Counts the changes, from 1.
    pub version: u32,
    /// The preset that it began as, as `name@version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
}

impl Default for CatalogueMark {
    fn default() -> Self {
        CatalogueMark { version: 1, preset: None }
    }
}

/// How the proxy delivers the requests of a service. The policy does not hold this.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The upstream's origin: `http://host:port`, `https://host:port`, or `h2c://host:port` for HTTP/2 without TLS.
    pub upstream: String,
    /// Whether the upstream gets the Host that the client sent, instead of its own.
    #[serde(default = "yes")]
    pub preserve_host: bool,
    /// How long the upstream may take until the head of its response, in seconds.
    #[serde(default = "thirty")]
    pub response_timeout_s: u32,
    /// A path of the service that Portcullis keeps for itself, such as `/.portcullis`: below it lies `/v1/leaked`. Off where
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_prefix: Option<String>,
    /// What answers a CORS preflight, which never carries a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<Preflight>,
}

fn yes() -> bool {
    true
}

fn thirty() -> u32 {
    30
}

/// The answer to CORS preflights (Fetch standard, section 4.8) of origins that are allowed to ask. It is given by the proxy;
/// nothing reaches the upstream. Without one a preflight is a request like any other and is denied for want of a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preflight {
    /// The origins, such as `https://app.example.com`, or `*` alone.
    pub origins: Vec<String>,
    /// The request header fields that scripts may send.
    #[serde(default)]
    pub headers: Vec<String>,
    /// How long browsers may remember the answer, in seconds.
    #[serde(default)]
    pub max_age_s: u32,
}

/// A customer.
#[derive(Clone, PartialEq, Debug)]
pub struct TenantRecord {
    /// Its stable id.
    pub id: Id,
    /// Its display name.
    pub name: String,
    /// Whether its credentials work at all.
    pub state: TenantState,
    /// What the operator has enabled for it.
    pub modules: Vec<Module>,
    /// How many tenant keys may be active and unexpired at once.
    pub key_limit: u32,
    /// What else the operator has set for it.
    pub rules: TenantRules,
}

/// What the operator sets for a tenant beside its modules and its limit. Members of the tenant read it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantRules {
    /// How long before its end a credential is expiring soon, in days.
    pub expiring_soon_days: u16,
    /// What access tokens of the tenant's clients name as their issuer (RFC 7519 section 4.1.1); the installation's own
    /// where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_issuer: Option<String>,
    /// How long an access token lives unless its client ends before, in seconds.
    pub token_validity_s: u32,
    /// What the end of a client does to the tokens that it has.
    pub token_revocation: TokenRevocation,
}

impl Default for TenantRules {
    fn default() -> Self {
        TenantRules {
            expiring_soon_days: 7,
            token_issuer: None,
            token_validity_s: 3600,
            token_revocation: TokenRevocation::default(),
        }
    }
}

/// A set of permissions of a tenant.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupRecord {
    /// What the policy holds.
    pub group: Group,
    /// Its display name.
    pub name: String,
    /// What it can be given to.
    pub kind: GroupKind,
}

/// What a group can be given to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Tenant keys.
    TenantKey,
    /// Members, as their profile.
    Member,
}

/// A part of a tenant that a key can be confined to.
#[derive(Clone, PartialEq, Debug)]
pub struct ApplicationRecord {
    /// What the policy holds.
    pub application: Application,
    /// Its display name.
    pub name: String,
}

/// What workers in proxies get of the policy: the part of some services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedRecord {
    /// Its id. The application of the system tenant to which its keys are confined has the same.
    pub id: Id,
    /// The services, in order of their ids.
    pub services: BTreeSet<Id>,
}

/// A person of a tenant.
#[derive(Clone, PartialEq, Debug)]
pub struct UserRecord {
    /// What the policy holds.
    pub user: User,
    /// The person's name or address, as the installation likes; it never reaches a policy.
    pub name: String,
}

/// A credential.
#[derive(Clone, PartialEq, Debug)]
pub struct CredentialRecord {
    /// What the policy holds. Its secrets are digests.
    pub credential: Credential,
    /// Its display name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Who made it.
    pub created_by: Actor,
    /// Workspace keys: the key id, sealed; its owner may see it again.
    pub sealed_key: Option<Vec<u8>>,
    /// Workspace keys: the signing secret, sealed; it is never shown again.
    pub sealed_secret: Option<Vec<u8>>,
    /// Clients: what their access tokens may be for.
    pub terms: Option<ClientTerms>,
}

/// What the access tokens of an OAuth client may be for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClientTerms {
    /// The scopes (RFC 6749 section 3.3).
    pub scopes: Vec<String>,
    /// The audiences (RFC 7519 section 4.1.3).
    pub audiences: Vec<String>,
}

/// A credential that signs requests, as far as its day keys are derived from it.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer {
    /// The credential.
    pub credential: Id,
    /// The profile that it signs by.
    pub profile: Id,
    /// Its place in the key sheets.
    pub slot: u32,
    /// Its secret, sealed.
    pub sealed_secret: Vec<u8>,
}

/// A digest that a credential has or had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenDigest {
    /// The digest.
    pub sha256: SecretDigest,
    /// The credential's tenant.
    pub tenant: Id,
    /// The credential.
    pub credential: Id,
}

/// Who does something: a credential, and the user who made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor {
    /// The tenant of the credential; the system tenant for what Portcullis does itself.
    pub tenant: Id,
    /// The credential that was used.
    pub credential: Option<Id>,
    /// The user who answers for it.
    pub user: Option<Id>,
}

/// One change of a record. A put replaces the whole record of that key.
#[derive(Clone, PartialEq, Debug)]
pub enum Write {
    /// What holds for the whole installation.
    PutInstallation(Installation),
    /// A service with its catalogue.
    PutService(ServiceRecord),
    /// A service is gone. Settings, permissions and keys that name its endpoints stay.
    RemoveService(Id),
    /// A tenant, without its settings.
    PutTenant(TenantRecord),
    /// What a tenant has set for one endpoint.
    PutSettings {
        /// The tenant.
        tenant: Id,
        /// The settings.
        settings: EndpointSettings,
    },
    /// What a tenant had set for one endpoint is gone.
    RemoveSettings {
        /// The tenant.
        tenant: Id,
        /// The endpoint.
        endpoint: EndpointRef,
    },
    /// A group.
    PutGroup(GroupRecord),
    /// A group is gone.
    RemoveGroup {
        /// The tenant.
        tenant: Id,
        /// The group.
        group: Id,
    },
    /// An application.
    PutApplication(ApplicationRecord),
    /// An application is gone.
    RemoveApplication {
        /// The tenant.
        tenant: Id,
        /// The application.
        application: Id,
    },
    /// A feed.
    PutFeed(FeedRecord),
    /// A feed is gone.
    RemoveFeed(Id),
    /// A user.
    PutUser(UserRecord),
    /// A user is deleted. The row stays, marked so, because keys and the audit name it; its id is not used again.
    RemoveUser {
        /// The tenant.
        tenant: Id,
        /// The user.
        user: Id,
    },
    /// A credential with all versions of its secret: those that it had and is put without are gone.
    PutCredential(CredentialRecord),
    /// Credentials that are all new, many at once. Where one of their ids is taken, the change fails.
    AddCredentials(Vec<CredentialRecord>),
    /// A credential is deleted. The row stays, marked so, without secrets; its id is not used again.
    RemoveCredential(Id),
    /// What a tenant has set for its error log.
    PutErrorLogSettings {
        /// The tenant.
        tenant: Id,
        /// The settings.
        settings: ErrorLogSettings,
    },
    /// A key that signs access tokens, new or with another time from which on it signs.
    PutTokenKey(TokenKeyRecord),
    /// A key that signs no more, by its id.
    RemoveTokenKey(String),
}

/// A page of a list: the records, and where the next page begins.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<T> {
    /// The records, in order of creation; of the audit and of decisions the newest first.
    pub items: Vec<T>,
    /// What to give as `after` for the next page; nothing at the end.
    pub next: Option<u64>,
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// The `next` of the page before.
    pub after: Option<u64>,
    /// The most records: from 1 to [`MAX_PAGE`]; what lies outside is brought to the nearest of both.
    pub limit: u32,
}

/// The most records on one page.
pub const MAX_PAGE: u32 = 200;

/// Which credentials are asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct CredentialFilter {
    /// Of this tenant.
    pub tenant: Id,
    /// Of this kind.
    pub kind: Kind,
    /// In this stored state; any where left out. Deleted ones are never listed.
    pub state: Option<portcullis_model::source::CredentialState>,
    /// With an end that lies so; any where left out.
    pub ends: Option<Ends>,
    /// Of this user; anybody's where left out.
    pub creator: Option<Id>,
}

impl CredentialFilter {
    /// Every credential of a kind.
    #[must_use]
    pub fn all(tenant: Id, kind: Kind) -> CredentialFilter {
        CredentialFilter { tenant, kind, state: None, ends: None, creator: None }
    }
}

/// Where the end of a credential lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// At this time or before.
    By(UnixTime),
    /// After the first, and at the second or before.
    Between(UnixTime, UnixTime),
    /// After this time, or never.
    After(UnixTime),
}

/// Where a command came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// What was used.
    pub channel: Channel,
    /// The client's address, where there is one.
    pub address: Option<IpAddr>,
}

/// What was used to give a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// The admin API.
    Api,
    /// The command line, over the admin API.
    Cli,
    /// The command line, on the files of a server that is not running.
    Offline,
    /// Portcullis itself.
    System,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Channel; 4] = [Channel::Api, Channel::Cli, Channel::Offline, Channel::System];

    /// The channel's name, as it is stored and hashed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Api => "api",
            Channel::Cli => "cli",
            Channel::Offline => "offline",
            Channel::System => "system",
        }
    }

    /// The channel of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.as_str() == name)
    }
}
