//! Every command there is, and who may give it.

use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id, Revision};
use portcullis_model::source::{
    CreatorRule, Endpoint, HostPattern, Installation, Module, Permission, Presentation, ReplayMode, Role,
    SignatureMode, SignatureProfile, TenantState, TokenRevocation, UserState,
};
use portcullis_model::time::Expiry;
use portcullis_store::{ClientTerms, Delivery, ErrorLogSettings, GroupKind, Origin};

use crate::catalogue::{Preset, SYSTEM_TENANT};
use crate::idempotency::Idempotency;
use crate::import::{ImportKeys, ImportPair};

/// Who gives a command: a credential that the gate has proven and let through to the admin API.
#[derive(Clone, PartialEq, Debug)]
pub struct Caller {
    /// The tenant of the credential.
    pub tenant: Id,
    /// The credential.
    pub credential: Id,
    /// From where.
    pub origin: Origin,
}

impl Caller {
    /// Whether the caller administers the whole installation.
    #[must_use]
    pub fn is_superuser(&self) -> bool {
        self.tenant.as_str() == SYSTEM_TENANT
    }
}

/// A change that somebody wants. Fields that an edit leaves out stay as they are.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Change what holds for the whole installation.
    EditInstallation(Installation),
    /// Put a signature profile, new or in place of the one of its id.
    PutSignatureProfile(Box<SignatureProfile>),
    /// Remove a signature profile that nothing uses.
    RemoveSignatureProfile(Id),
    /// Make a service.
    CreateService(NewService),
    /// Change a service.
    EditService(Id, ServiceEdit),
    /// Remove a service. Cannot be undone.
    RemoveService(Id, Confirmation),
    /// Put an endpoint into a service's catalogue, new or in place of the one of its id.
    PutEndpoint(Id, Box<Endpoint>),
    /// Take an endpoint out of a service's catalogue. What tenants have set for it stays for its return.
    RemoveEndpoint(EndpointRef, Confirmation),
    /// Make a tenant.
    CreateTenant(NewTenant),
    /// Change a tenant.
    EditTenant(Id, TenantEdit),
    /// Set what a tenant has for an endpoint, as a whole.
    PutSettings(Id, SettingsOf),
    /// Take one range out of a tenant's settings for an endpoint.
    RemoveRange(Id, EndpointRef, Cidr),
    /// Remove a tenant's settings for an endpoint: it is then open to any address and needs no signature.
    RemoveSettings(Id, EndpointRef),
    /// Make a group.
    CreateGroup(Id, NewGroup),
    /// Change a group.
    EditGroup(Id, Id, GroupEdit),
    /// Remove a group that nothing uses.
    RemoveGroup(Id, Id),
    /// Make an application.
    CreateApplication(Id, NewApplication),
    /// Remove an application that no active key is confined to.
    RemoveApplication(Id, Id),
    /// Make a feed, and the application of the system tenant to which its keys are confined.
    CreateFeed(NewFeed),
    /// Change the services of a feed.
    EditFeed(Id, FeedEdit),
    /// Remove a feed that no active key is confined to, with its application. Its workers decide nothing then.
    DeleteFeed(Id, Confirmation),
    /// Make a user.
    CreateUser(Id, NewUser),
    /// Change a user.
    EditUser(Id, Id, UserEdit),
    /// Delete a user. Keys that follow the user are dead for good, the user's own are gone.
    RemoveUser(Id, Id, Confirmation),
    /// Make a one-time code by which a user signs in. An earlier one is dead at once.
    Enrol(Id, Id),
    /// Sign in: the code that the caller presents becomes a session.
    OpenSession,
    /// Sign out.
    CloseSession,
    /// Make the caller's personal key.
    CreatePersonalKey,
    /// Give the caller's personal key a new secret; the old one is dead at once.
    RegeneratePersonalKey(Confirmation),
    /// Delete the caller's personal key: immediate and final. Another may be made.
    DeletePersonalKey(Confirmation),
    /// Make a workspace key and its signing secret. The pair that the tenant has is dead at once.
    CreateWorkspaceKey(Id, NewWorkspaceKey),
    /// Take over a key id and its signing secret that another system has made. The pair that the tenant has is dead at once.
    ImportPair(Id, ImportPair),
    /// Make a tenant key.
    CreateTenantKey(Id, NewTenantKey),
    /// Take over tenant keys that another system has made, by their digests.
    ImportKeys(Id, ImportKeys),
    /// Change a tenant key.
    EditTenantKey(KeyRef, TenantKeyEdit),
    /// Make a management key.
    CreateManagementKey(Id, NewManagementKey),
    /// Make an OAuth client.
    CreateClient(Id, NewClient),
    /// Give a key a new secret.
    RotateKey(KeyRef, Rotation),
    /// End the earlier secret of a rotated key before its time.
    EndOverlap(KeyRef, Confirmation),
    /// Revoke a key: immediate and final; it stays listed.
    RevokeKey(KeyRef, Confirmation),
    /// Delete a management key: immediate and final; it is gone from lists.
    DeleteKey(KeyRef, Confirmation),
    /// Set whether a tenant's failed calls are kept, and what is taken out of them.
    PutErrorLogSettings(Id, ErrorLogSettings),
    /// Have another key sign access tokens.
    RotateTokenKey(Takeover),
    /// Take a key of access tokens out of use before its time: its tokens are dead.
    RetireTokenKey(String, Confirmation),
}

/// When a new key of access tokens begins to sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takeover {
    /// Once whoever verifies tokens elsewhere had the time to fetch it.
    Published,
    /// Now: for when the present key has got out.
    AtOnce,
}

/// Whether the caller has confirmed what cannot be undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Confirmation {
    /// Yes.
    Confirmed,
    /// Not yet: the refusal tells what would happen.
    #[default]
    Missing,
}

/// A key of a tenant, by its kind and id. A key of another kind or tenant is a missing one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRef {
    /// The tenant.
    pub tenant: Id,
    /// The kind.
    pub kind: Kind,
    /// The id.
    pub id: Id,
}

/// A service to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewService {
    /// Its id.
    pub id: Id,
    /// Its display name.
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<HostPattern>,
    /// Its path prefix.
    pub prefix: String,
    /// The tenant it is pinned to; shared where left out.
    pub tenant: Option<Id>,
    /// How credentials may be presented.
    pub accept: Vec<Presentation>,
    /// Where its requests go.
    pub delivery: Delivery,
    /// The catalogue to begin with.
    pub preset: Option<Preset>,
}

/// What changes of a service.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "as the fields of `NewService`")]
pub struct ServiceEdit {
    pub name: Option<String>,
    pub hosts: Option<Vec<HostPattern>>,
    pub accept: Option<Vec<Presentation>>,
    pub delivery: Option<Delivery>,
}

/// A tenant to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewTenant {
    /// Its id.
    pub id: Id,
    /// Its display name.
    pub name: String,
    /// Its modules.
    pub modules: Vec<Module>,
    /// How many tenant keys may be active and unexpired at once.
    pub key_limit: u32,
    /// What else is set for it; as usual where left out.
    pub rules: RulesEdit,
}

/// What changes of a tenant.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "as the fields of `NewTenant`")]
pub struct TenantEdit {
    pub name: Option<String>,
    pub state: Option<TenantState>,
    pub modules: Option<Vec<Module>>,
    pub key_limit: Option<u32>,
    pub rules: RulesEdit,
    /// Needed where a module is disabled that the tenant has settings of.
    pub confirmation: Confirmation,
}

/// What changes of a tenant's rules.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "as the fields of `TenantRules`")]
pub struct RulesEdit {
    pub expiring_soon_days: Option<u16>,
    pub token_issuer: Option<String>,
    pub token_validity_s: Option<u32>,
    pub token_revocation: Option<TokenRevocation>,
}

/// What a tenant sets for one endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct SettingsOf {
    /// The endpoint.
    pub endpoint: EndpointRef,
    /// The addresses that may use it; any where empty. Needs the module `ip_filter`.
    pub ip_ranges: Vec<Cidr>,
    /// Whether requests must be signed. Needs the module `signature_check`.
    pub signature: SignatureMode,
    /// Whether a signed request is accepted once only.
    pub replay: ReplayMode,
}

/// A group to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewGroup {
    /// Its id.
    pub id: Id,
    /// Its display name.
    pub name: String,
    /// What it can be given to.
    pub kind: GroupKind,
    /// What it permits.
    pub permissions: Vec<Permission>,
}

/// What changes of a group.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "as the fields of `NewGroup`")]
pub struct GroupEdit {
    pub name: Option<String>,
    pub permissions: Option<Vec<Permission>>,
}

/// An application to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewApplication {
    /// Its id, as it stands in paths.
    pub id: Id,
    /// Its display name.
    pub name: String,
}

/// A feed to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewFeed {
    /// Its id, as it stands in paths.
    pub id: Id,
    /// The services of which it has the policy.
    pub services: Vec<Id>,
}

/// What changes of a feed.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "as the fields of `NewFeed`")]
pub struct FeedEdit {
    pub services: Option<Vec<Id>>,
}

/// A user to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewUser {
    /// Its id.
    pub id: Id,
    /// The person's name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// A member's profile.
    pub group: Option<Id>,
}

/// What changes of a user.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "as the fields of `NewUser`")]
pub struct UserEdit {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub state: Option<UserState>,
    pub group: Option<Id>,
}

/// A workspace key to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewWorkspaceKey {
    /// Its display name.
    pub name: String,
    /// The profile by which its requests are signed; where left out the only one there is.
    pub profile: Option<Id>,
    /// Whether it is proven by signatures alone. Its key id is then no key.
    pub signed_only: bool,
    /// Needed where the tenant has an active pair, which dies with this.
    pub confirmation: Confirmation,
}

/// A tenant key to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewTenantKey {
    /// Its display name, 2 to 200 characters.
    pub name: String,
    /// What it is for, at most 1000 characters.
    pub description: String,
    /// Its authorization group, of the type tenant key.
    pub group: Id,
    /// When it ends; never where left out.
    pub expires: Option<Expiry>,
    /// The addresses it may be used from; any where empty.
    pub ip_allowlist: Vec<Cidr>,
}

/// What changes of a tenant key. Its expiry changes by rotation alone.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "as the fields of `NewTenantKey`")]
pub struct TenantKeyEdit {
    pub name: Option<String>,
    pub description: Option<String>,
    pub group: Option<Id>,
    pub ip_allowlist: Option<Vec<Cidr>>,
}

/// A management key to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct NewManagementKey {
    /// Its display name, 2 to 200 characters.
    pub name: String,
    /// What it is for, at most 1000 characters.
    pub description: String,
    /// When it ends.
    pub expires: Expiry,
    /// The endpoints it may use.
    pub endpoints: Vec<EndpointRef>,
    /// The applications it is confined to; all where empty.
    pub applications: Vec<Id>,
    /// The admin who answers for it; the caller's own user where left out.
    pub creator: Option<Id>,
    /// Whether its power depends on its creator's.
    pub creator_rule: CreatorRule,
}

/// An OAuth client to be made. It is not edited later.
#[derive(Clone, PartialEq, Debug)]
pub struct NewClient {
    /// Its display name, 2 to 200 characters.
    pub name: String,
    /// What it is for, at most 1000 characters.
    pub purpose: String,
    /// When it ends; never where left out.
    pub expires: Option<Expiry>,
    /// What its tokens may be for, by the scopes that endpoints ask for.
    pub terms: ClientTerms,
}

/// How a key is rotated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// A new expiry; as before where left out. An expired key needs one.
    pub expires: Option<Expiry>,
    /// How long the old secret goes on working, in seconds; it dies at once where this is 0.
    pub overlap_s: u32,
    /// Needed where a secret dies at once.
    pub confirmation: Confirmation,
}

/// A command with everything that decides whether it is done.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// Who gives it.
    pub caller: Caller,
    /// The revision that the record was at when the caller read it; any where left out.
    pub if_match: Option<Revision>,
    /// What a repetition of it is known by, for a creation that must not be done twice.
    pub idempotency: Option<Idempotency>,
    /// What is to be done.
    pub command: Command,
}

/// Who may give a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    /// Keys of the system tenant alone.
    Superuser,
    /// Keys of this tenant, and of the system tenant.
    Tenant(Id),
    /// A person, signed in: what the command is about is the person's own.
    Session,
}

impl Command {
    /// Who may give it. The list is exhaustive: a new command does not compile without a line here.
    pub(crate) fn needs(&self) -> Needs {
        match self {
            Command::EditInstallation(_)
            | Command::PutSignatureProfile(_)
            | Command::RemoveSignatureProfile(_)
            | Command::CreateService(_)
            | Command::EditService(..)
            | Command::RemoveService(..)
            | Command::PutEndpoint(..)
            | Command::RemoveEndpoint(..)
            | Command::CreateTenant(_)
            | Command::EditTenant(..)
            | Command::CreateFeed(_)
            | Command::EditFeed(..)
            | Command::DeleteFeed(..)
            | Command::RotateTokenKey(_)
            | Command::RetireTokenKey(..) => Needs::Superuser,
            Command::PutSettings(tenant, _)
            | Command::RemoveRange(tenant, ..)
            | Command::RemoveSettings(tenant, _)
            | Command::PutErrorLogSettings(tenant, _)
            | Command::CreateGroup(tenant, _)
            | Command::EditGroup(tenant, ..)
            | Command::RemoveGroup(tenant, _)
            | Command::CreateApplication(tenant, _)
            | Command::RemoveApplication(tenant, _)
            | Command::CreateUser(tenant, _)
            | Command::EditUser(tenant, ..)
            | Command::RemoveUser(tenant, ..)
            | Command::Enrol(tenant, _)
            | Command::CreateClient(tenant, _)
            | Command::CreateWorkspaceKey(tenant, _)
            | Command::ImportPair(tenant, _)
            | Command::CreateTenantKey(tenant, _)
            | Command::ImportKeys(tenant, _)
            | Command::CreateManagementKey(tenant, _) => Needs::Tenant(tenant.clone()),
            Command::EditTenantKey(key, _)
            | Command::RotateKey(key, _)
            | Command::EndOverlap(key, _)
            | Command::RevokeKey(key, _)
            | Command::DeleteKey(key, _) => Needs::Tenant(key.tenant.clone()),
            Command::OpenSession
            | Command::CloseSession
            | Command::CreatePersonalKey
            | Command::RegeneratePersonalKey(_)
            | Command::DeletePersonalKey(_) => Needs::Session,
        }
    }

    /// What the audit calls it: the action, and the kind of record.
    pub(crate) fn title(&self) -> (&'static str, &'static str) {
        match self {
            Command::EditInstallation(_) => ("edit", "installation"),
            Command::PutSignatureProfile(_) => ("put", "signature-profile"),
            Command::RemoveSignatureProfile(_) => ("delete", "signature-profile"),
            Command::CreateService(_) => ("create", "service"),
            Command::EditService(..) => ("edit", "service"),
            Command::RemoveService(..) => ("delete", "service"),
            Command::PutEndpoint(..) => ("put", "endpoint"),
            Command::RemoveEndpoint(..) => ("delete", "endpoint"),
            Command::CreateTenant(_) => ("create", "tenant"),
            Command::EditTenant(..) => ("edit", "tenant"),
            Command::PutSettings(..) => ("put", "settings"),
            Command::RemoveRange(..) => ("remove-range", "settings"),
            Command::RemoveSettings(..) => ("delete", "settings"),
            Command::CreateGroup(..) => ("create", "group"),
            Command::EditGroup(..) => ("edit", "group"),
            Command::RemoveGroup(..) => ("delete", "group"),
            Command::CreateApplication(..) => ("create", "application"),
            Command::RemoveApplication(..) => ("delete", "application"),
            Command::CreateFeed(_) => ("create", "feed"),
            Command::EditFeed(..) => ("edit", "feed"),
            Command::DeleteFeed(..) => ("delete", "feed"),
            Command::CreateUser(..) => ("create", "user"),
            Command::EditUser(..) => ("edit", "user"),
            Command::RemoveUser(..) => ("delete", "user"),
            Command::Enrol(..) => ("enrol", "user"),
            Command::OpenSession => ("create", "session"),
            Command::CloseSession => ("delete", "session"),
            Command::CreatePersonalKey => ("create", "personal-key"),
            Command::RegeneratePersonalKey(_) => ("rotate", "personal-key"),
            Command::DeletePersonalKey(_) => ("delete", "personal-key"),
            Command::CreateClient(..) => ("create", "client"),
            Command::CreateWorkspaceKey(..) => ("create", "workspace-key"),
            Command::ImportPair(..) => ("import", "workspace-key"),
            Command::CreateTenantKey(..) => ("create", "tenant-key"),
            Command::ImportKeys(..) => ("import", "tenant-key"),
            Command::EditTenantKey(..) => ("edit", "tenant-key"),
            Command::CreateManagementKey(..) => ("create", "management-key"),
            Command::RotateKey(key, _) => ("rotate", key_name(key.kind)),
            Command::EndOverlap(key, _) => ("end-overlap", key_name(key.kind)),
            Command::RevokeKey(key, _) => ("revoke", key_name(key.kind)),
            Command::DeleteKey(key, _) => ("delete", key_name(key.kind)),
            Command::PutErrorLogSettings(..) => ("put", "error-log-settings"),
            Command::RotateTokenKey(_) => ("rotate", "token-key"),
            Command::RetireTokenKey(..) => ("delete", "token-key"),
        }
    }

    /// The id of the record that the command is about, as far as it has one.
    pub(crate) fn object(&self) -> String {
        match self {
            Command::EditInstallation(_) => String::new(),
            Command::PutSignatureProfile(profile) => profile.id.to_string(),
            Command::RemoveSignatureProfile(id) => id.to_string(),
            Command::CreateService(new) => new.id.to_string(),
            Command::EditService(id, _) | Command::RemoveService(id, _) | Command::EditTenant(id, _) => id.to_string(),
            Command::PutEndpoint(service, endpoint) => format!("{service}/{}", endpoint.id),
            Command::RemoveEndpoint(endpoint, _) => endpoint.to_string(),
            Command::CreateTenant(new) => new.id.to_string(),
            Command::PutSettings(_, settings) => settings.endpoint.to_string(),
            Command::RemoveRange(_, endpoint, _) | Command::RemoveSettings(_, endpoint) => endpoint.to_string(),
            Command::CreateGroup(_, new) => new.id.to_string(),
            Command::EditGroup(_, id, _) | Command::RemoveGroup(_, id) | Command::RemoveApplication(_, id) => {
                id.to_string()
            }
            Command::CreateApplication(_, new) => new.id.to_string(),
            Command::CreateFeed(new) => new.id.to_string(),
            Command::EditFeed(id, _) | Command::DeleteFeed(id, _) => id.to_string(),
            Command::CreateUser(_, new) => new.id.to_string(),
            Command::EditUser(_, id, _) | Command::RemoveUser(_, id, _) | Command::Enrol(_, id) => id.to_string(),
            Command::CreateWorkspaceKey(..)
            | Command::ImportPair(..)
            | Command::CreateTenantKey(..)
            | Command::ImportKeys(..)
            | Command::CreateManagementKey(..)
            | Command::CreateClient(..)
            | Command::OpenSession
            | Command::CloseSession
            | Command::CreatePersonalKey
            | Command::RegeneratePersonalKey(_)
            | Command::DeletePersonalKey(_) => String::new(),
            Command::EditTenantKey(key, _)
            | Command::RotateKey(key, _)
            | Command::EndOverlap(key, _)
            | Command::RevokeKey(key, _)
            | Command::DeleteKey(key, _) => key.id.to_string(),
            Command::PutErrorLogSettings(..) | Command::RotateTokenKey(_) => String::new(),
            Command::RetireTokenKey(kid, _) => kid.clone(),
        }
    }
}

/// What a key of that kind is called.
#[must_use]
pub fn key_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Workspace => "workspace-key",
        Kind::Tenant => "tenant-key",
        Kind::Management => "management-key",
        Kind::Personal => "personal-key",
        Kind::Client => "client",
        Kind::Session => "session",
    }
}
