//! What must hold of a document before it can become a policy.

mod proof;

use std::fmt::{self, Display};
use std::hash::Hash;

use hashbrown::HashSet;

use super::order::InOrder;
use crate::credential::Kind;
use crate::id::{EndpointRef, Id};
use crate::method::Methods;
use crate::policy::paths::Pattern;
use crate::policy::records::{MAX_ACCEPTED, MAX_SECRETS};
use crate::source::{
    CreatorRule, Credential, CredentialState, Delta, Endpoint, Fault, Group, Presentation, Role, SOURCE_FORMAT,
    Service, Source, Tenant, User,
};

/// The most faults that are reported at once.
pub(super) const MAX_FAULTS: usize = 20;
/// The longest name of a header field or query parameter in bytes.
pub(super) const MAX_NAME_BYTES: usize = 64;
/// The longest display name, scope and audience in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 1024;
/// The longest path pattern in bytes.
pub(super) const MAX_PATH_BYTES: usize = 1024;

/// Header fields that have a meaning of their own and can hold no key. Those that begin with `x-portcullis-` join them.
const TAKEN_HEADERS: [&str; 13] = [
    "host",
    "date",
    "connection",
    "authorization",
    "forwarded",
    "x-forwarded-for",
    "content-length",
    "transfer-encoding",
    "cookie",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
];

/// Checks a whole document: each record, and that every reference holds.
pub(super) fn source(source: &Source, in_order: &InOrder<'_>) -> Result<(), Vec<Fault>> {
    let mut check = Check::default();
    let known = Known::of(source);
    check.installation(&source.installation);
    check.records(&source.services, &source.tenants, &source.groups, &source.users, Some(&known));
    check.credentials(&source.credentials, in_order, Some(&known));
    check.unique("application", source.applications.iter().map(|app| (&app.tenant, &app.id)), slashed);
    for application in &source.applications {
        let at = format!("application `{}/{}`", application.tenant, application.id);
        check.tenant(&at, &application.tenant, Some(&known));
    }
    let mut workspaces = HashSet::new();
    for credential in &source.credentials {
        if credential.kind == Kind::Workspace
            && credential.state == CredentialState::Active
            && !workspaces.insert(&credential.tenant)
        {
            let at = credential_at(credential);
            check.fault(at, format!("the tenant `{}` has another active workspace key already", credential.tenant));
        }
    }
    check.end()
}

/// Checks the records of a delta. What they refer to is left to the policy that the delta is applied to.
pub(super) fn delta(delta: &Delta, in_order: &InOrder<'_>) -> Result<(), Vec<Fault>> {
    let mut check = Check::default();
    if delta.revision <= delta.from {
        check.fault("revision", format!("{} is not after {}", delta.revision, delta.from));
    }
    if delta.format != SOURCE_FORMAT {
        check.fault("format", format!("it is {}, this build reads format {SOURCE_FORMAT}", delta.format));
    }
    if let Some(installation) = &delta.installation {
        check.installation(installation);
    }
    let removed = &delta.removed;
    let hosts = delta.routes.iter().map(|route| &route.host).chain(&removed.routes);
    check.unique("host", hosts.map(|host| host.as_str()), str::to_owned);
    for route in &delta.routes {
        for target in route.services.iter().filter(|target| target.prefix.len() > MAX_PATH_BYTES) {
            let what = format!("the prefix of `{}` is longer than {MAX_PATH_BYTES} bytes", target.service);
            check.fault(format!("host `{}`", route.host.as_str()), what);
        }
    }
    check.unique("removed service", removed.services.iter(), Id::to_string);
    check.unique("removed tenant", removed.tenants.iter(), Id::to_string);
    check.unique("removed group", removed.groups.iter().map(|(tenant, id)| (tenant, id)), slashed);
    check.unique("removed user", removed.users.iter().map(|(tenant, id)| (tenant, id)), slashed);
    check.unique("removed digest", removed.digests.iter(), |digest| format!("{digest:?}"));
    check.records(&delta.services, &delta.tenants, &delta.groups, &delta.users, None);
    check.credentials(&delta.credentials, in_order, None);
    let put: HashSet<_> =
        delta.credentials.iter().flat_map(|credential| &credential.secrets).map(|secret| &secret.sha256).collect();
    for digest in delta.removed.digests.iter().filter(|digest| put.contains(digest)) {
        check.fault("removed.digests", format!("{digest:?} is both removed and put"));
    }
    check.end()
}

pub(super) fn endpoint_fault(service: &Service, endpoint: &Endpoint, what: String) -> Fault {
    Fault { at: format!("endpoint `{}/{}`", service.id, endpoint.id), what }
}

pub(super) fn route_fault(host: &str, what: String) -> Fault {
    Fault { at: format!("host `{host}`"), what }
}

/// Written out only where there is something to say: a million credentials have no fault.
fn credential_at(credential: &Credential) -> impl Display {
    fmt::from_fn(|f| write!(f, "credential `{}`", credential.id))
}

/// What a whole document defines.
struct Known<'s> {
    tenants: HashSet<&'s Id>,
    endpoints: HashSet<(&'s Id, &'s Id)>,
    per_application: HashSet<(&'s Id, &'s Id)>,
    groups: HashSet<(&'s Id, &'s Id)>,
    users: HashSet<(&'s Id, &'s Id)>,
    applications: HashSet<(&'s Id, &'s Id)>,
    profiles: HashSet<&'s Id>,
}

impl<'s> Known<'s> {
    fn of(source: &'s Source) -> Self {
        let endpoints = || {
            source.services.iter().flat_map(|service| service.endpoints.iter().map(move |endpoint| (service, endpoint)))
        };
        Known {
            tenants: source.tenants.iter().map(|tenant| &tenant.id).collect(),
            endpoints: endpoints().map(|(service, endpoint)| (&service.id, &endpoint.id)).collect(),
            per_application: endpoints()
                .filter(|(_, endpoint)| endpoint.per_application)
                .map(|(service, endpoint)| (&service.id, &endpoint.id))
                .collect(),
            groups: source.groups.iter().map(|group| (&group.tenant, &group.id)).collect(),
            users: source.users.iter().map(|user| (&user.tenant, &user.id)).collect(),
            applications: source.applications.iter().map(|app| (&app.tenant, &app.id)).collect(),
            profiles: source.installation.signature_profiles.iter().map(|profile| &profile.id).collect(),
        }
    }
}

#[derive(Default)]
struct Check {
    faults: Vec<Fault>,
}

impl Check {
    fn fault(&mut self, at: impl Display, what: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { at: at.to_string(), what: what.into() });
        }
    }

    fn end(self) -> Result<(), Vec<Fault>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    fn records<'s>(
        &mut self,
        services: &'s [Service],
        tenants: &'s [Tenant],
        groups: &'s [Group],
        users: &'s [User],
        known: Option<&Known<'s>>,
    ) {
        self.unique("service", services.iter().map(|service| &service.id), Id::to_string);
        self.unique("tenant", tenants.iter().map(|tenant| &tenant.id), Id::to_string);
        self.unique("group", groups.iter().map(|group| (&group.tenant, &group.id)), slashed);
        self.unique("user", users.iter().map(|user| (&user.tenant, &user.id)), slashed);
        for service in services {
            self.service(service, known);
        }
        for tenant in tenants {
            let at = format!("tenant `{}`", tenant.id);
            self.issuer(&at, tenant.token_issuer.as_deref());
            self.endpoints(&at, tenant.endpoints.iter().map(|setting| &setting.endpoint), known);
        }
        for group in groups {
            let at = format!("group `{}/{}`", group.tenant, group.id);
            self.tenant(&at, &group.tenant, known);
            self.endpoints(&at, group.permissions.iter().map(|permission| &permission.endpoint), known);
        }
        for user in users {
            self.user(user, known);
        }
    }

    fn credentials(&mut self, credentials: &[Credential], in_order: &InOrder<'_>, known: Option<&Known<'_>>) {
        if !in_order.ids_differ {
            self.unique("credential", credentials.iter().map(|credential| &credential.id), Id::to_string);
        }
        let mut digests = HashSet::new();
        for credential in credentials {
            self.credential(credential, known);
            for secret in &credential.secrets {
                if !in_order.digests_differ && !digests.insert(&secret.sha256) {
                    let what = format!("the digest of version {} is already that of another secret", secret.version);
                    self.fault(credential_at(credential), what);
                }
            }
        }
    }

    fn unique<K: Copy + Eq + Hash>(&mut self, kind: &str, keys: impl Iterator<Item = K>, show: impl Fn(K) -> String) {
        let mut seen = HashSet::new();
        for key in keys {
            if !seen.insert(key) {
                self.fault(format!("{kind} `{}`", show(key)), "there are two of this id");
            }
        }
    }

    fn tenant(&mut self, at: impl Display, tenant: &Id, known: Option<&Known<'_>>) {
        self.known(at, "tenant", tenant, known.is_none_or(|known| known.tenants.contains(tenant)));
    }

    fn known(&mut self, at: impl Display, kind: &str, id: impl Display, known: bool) {
        if !known {
            self.fault(at, format!("there is no {kind} `{id}`"));
        }
    }

    fn endpoints<'r>(
        &mut self,
        at: impl Display,
        endpoints: impl Iterator<Item = &'r EndpointRef>,
        known: Option<&Known<'_>>,
    ) {
        let mut seen = HashSet::new();
        for endpoint in endpoints {
            let is_known = known.is_none_or(|known| known.endpoints.contains(&(&endpoint.service, &endpoint.endpoint)));
            self.known(&at, "endpoint", endpoint, is_known);
            if !seen.insert(endpoint) {
                self.fault(&at, format!("the endpoint `{endpoint}` is listed twice"));
            }
        }
    }

    fn service(&mut self, service: &Service, known: Option<&Known<'_>>) {
        let at = format!("service `{}`", service.id);
        if let Some(tenant) = &service.tenant {
            self.tenant(&at, tenant, known);
        }
        if service.hosts.is_empty() {
            self.fault(&at, "it has no host, so no request reaches it");
        }
        self.unique("host", service.hosts.iter().map(|host| host.as_str()), str::to_owned);
        let prefix = match Pattern::parse(&service.prefix) {
            Ok(_) if service.prefix.len() > MAX_PATH_BYTES => {
                self.fault(&at, format!("the prefix is longer than {MAX_PATH_BYTES} bytes"));
                None
            }
            Ok(prefix) if prefix.has_parameters() => {
                self.fault(
                    &at,
                    format!("the prefix `{}` has a parameter; a service's prefix is literal", service.prefix),
                );
                None
            }
            Ok(prefix) => Some(prefix),
            Err(what) => {
                self.fault(&at, what);
                None
            }
        };
        self.accepted(&at, &service.accept, known);
        let ids = service.endpoints.iter().map(|endpoint| (&service.id, &endpoint.id));
        self.unique("endpoint", ids, slashed);
        for endpoint in &service.endpoints {
            if endpoint.paths.is_empty() && endpoint.prefixes.is_empty() {
                let what = "it has neither `paths` nor `prefixes`, so no request reaches it".to_owned();
                self.faults.push(endpoint_fault(service, endpoint, what));
            }
            if endpoint.methods == Methods::NONE {
                let what = "it has no method, so no request reaches it".to_owned();
                self.faults.push(endpoint_fault(service, endpoint, what));
            }
            let (scope, audience) = (endpoint.scope.as_deref(), endpoint.audience.as_deref());
            for (field, text) in [("name", Some(endpoint.name.as_str())), ("scope", scope), ("audience", audience)] {
                if text.is_some_and(|text| text.len() > MAX_TEXT_BYTES) {
                    let what = format!("its `{field}` is longer than {MAX_TEXT_BYTES} bytes");
                    self.faults.push(endpoint_fault(service, endpoint, what));
                }
            }
            for path in endpoint.paths.iter().chain(&endpoint.prefixes) {
                if let Err(what) = endpoint_path(path, endpoint, prefix.as_ref(), &service.prefix) {
                    self.faults.push(endpoint_fault(service, endpoint, what));
                }
            }
        }
        self.faults.truncate(MAX_FAULTS);
    }

    fn accepted(&mut self, at: &str, accepted: &[Presentation], known: Option<&Known<'_>>) {
        if accepted.is_empty() {
            self.fault(at, "`accept` is empty, so no credential could be presented");
        }
        if accepted.len() > MAX_ACCEPTED {
            self.fault(at, format!("`accept` has more than {MAX_ACCEPTED} entries"));
        }
        let mut places = HashSet::new();
        for presentation in accepted {
            if presentation.kinds.is_empty() {
                self.fault(at, "an entry of `accept` has no `kinds`");
            }
            let Some(place) = self.place(at, presentation, known) else { continue };
            let name = place.trim_matches(['?', ' ', '=']);
            let plain = !name.is_empty()
                && name.len() <= MAX_NAME_BYTES
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !plain {
                self.fault(
                    at,
                    format!("`{name}` in `accept` is not 1 to {MAX_NAME_BYTES} letters, digits, `-` or `_`"),
                );
            }
            if presentation.header.is_some() {
                let reserved = name.starts_with(crate::answer::RESERVED_HEADER_PREFIX);
                if reserved || TAKEN_HEADERS.contains(&name) {
                    self.fault(at, format!("the header `{name}` in `accept` has another meaning"));
                }
                if name.contains('_') {
                    self.fault(
                        at,
                        format!("the header `{name}` in `accept` has an underscore, which proxies drop or change"),
                    );
                }
            }
            if !places.insert(place.clone()) {
                self.fault(at, format!("`{name}` stands twice in `accept`: give it all its kinds at once"));
            }
        }
    }

    fn user(&mut self, user: &User, known: Option<&Known<'_>>) {
        let at = format!("user `{}/{}`", user.tenant, user.id);
        self.tenant(&at, &user.tenant, known);
        if let Some(group) = &user.group {
            self.known(&at, "group", group, known.is_none_or(|known| known.groups.contains(&(&user.tenant, group))));
            if user.role != Role::Member {
                self.fault(&at, "`group` is the profile of members; an admin has the whole tenant");
            }
        }
    }

    fn credential(&mut self, credential: &Credential, known: Option<&Known<'_>>) {
        let at = credential_at(credential);
        let tenant = &credential.tenant;
        self.tenant(&at, tenant, known);
        if credential.secrets.is_empty() || credential.secrets.len() > MAX_SECRETS {
            self.fault(&at, format!("`secrets` has {} entries, it needs 1 or {MAX_SECRETS}", credential.secrets.len()));
        }
        for (position, secret) in credential.secrets.iter().enumerate().take(MAX_SECRETS) {
            let mut before = credential.secrets.iter().take(position);
            if secret.version == 0 || before.any(|other| other.version == secret.version) {
                self.fault(&at, format!("version {} of its secret is 0 or stands twice", secret.version));
            }
        }
        let kind = credential.kind;
        let (tenant_keys, management_keys) = ([Kind::Tenant].as_slice(), [Kind::Management].as_slice());
        let of_persons = [Kind::Management, Kind::Personal, Kind::Session].as_slice();
        let with_endpoints = [Kind::Management, Kind::Session].as_slice();
        let workspace_keys = [Kind::Workspace].as_slice();
        let is_signing = credential.secrets.iter().any(|secret| secret.signing_slot.is_some());
        let fields = [
            ("group", credential.group.is_some(), tenant_keys),
            ("ip_allowlist", !credential.ip_allowlist.is_empty(), tenant_keys),
            ("endpoints", !credential.endpoints.is_empty(), with_endpoints),
            ("applications", !credential.applications.is_empty(), management_keys),
            ("creator", credential.creator.is_some(), of_persons),
            ("creator_rule", credential.creator_rule != CreatorRule::default(), management_keys),
            ("signature_profile", credential.signature_profile.is_some(), workspace_keys),
            ("signed_only", credential.signed_only, workspace_keys),
            ("signing_slot", is_signing, workspace_keys),
        ];
        for (field, given, of) in fields {
            if given && !of.contains(&kind) {
                let of: Vec<&str> = of.iter().map(|kind| kind.as_str()).collect();
                self.fault(&at, format!("`{field}` is for {} keys, this is a {kind} key", of.join(" and ")));
            }
        }
        match kind {
            Kind::Workspace => self.signing(&at, credential, known),
            Kind::Tenant => match &credential.group {
                None => self.fault(&at, "a tenant key needs a `group`"),
                Some(group) => {
                    self.known(&at, "group", group, known.is_none_or(|known| known.groups.contains(&(tenant, group))));
                }
            },
            Kind::Management => self.management(&at, credential, known),
            Kind::Session => {
                if credential.expires.is_none() || credential.creator.is_none() {
                    self.fault(&at, "a session needs `expires`, and as its `creator` the person whose it is");
                }
                if let Some(user) = &credential.creator {
                    self.known(&at, "user", user, known.is_none_or(|known| known.users.contains(&(tenant, user))));
                }
                self.endpoints(&at, credential.endpoints.iter(), known);
            }
            Kind::Personal => match &credential.creator {
                None => self.fault(&at, "a personal key needs as its `creator` the person whose it is"),
                Some(user) => {
                    self.known(&at, "user", user, known.is_none_or(|known| known.users.contains(&(tenant, user))));
                }
            },
            Kind::Client => {}
        }
    }

    fn management(&mut self, at: &impl Display, credential: &Credential, known: Option<&Known<'_>>) {
        let tenant = &credential.tenant;
        if credential.expires.is_none() {
            self.fault(at, "a management key needs `expires`");
        }
        match (&credential.creator, credential.creator_rule) {
            (None, CreatorRule::FollowCreator) => {
                self.fault(at, "a management key needs its `creator`, or `\"creator_rule\": \"independent\"`");
            }
            (Some(user), _) => {
                self.known(at, "user", user, known.is_none_or(|known| known.users.contains(&(tenant, user))));
            }
            (None, CreatorRule::Independent) => {}
        }
        self.endpoints(at, credential.endpoints.iter(), known);
        let Some(known) = known else { return };
        for application in &credential.applications {
            self.known(at, "application", application, known.applications.contains(&(tenant, application)));
        }
        if credential.applications.is_empty() {
            return;
        }
        for endpoint in &credential.endpoints {
            if !known.per_application.contains(&(&endpoint.service, &endpoint.endpoint)) {
                let what =
                    format!("the key is confined to applications, but `{endpoint}` does not work with individual ones");
                self.fault(at, what);
            }
        }
    }
}

fn slashed((parent, id): (&Id, &Id)) -> String {
    format!("{parent}/{id}")
}

fn endpoint_path(
    path: &str,
    endpoint: &Endpoint,
    prefix: Option<&Pattern>,
    service_prefix: &str,
) -> Result<(), String> {
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("a path is longer than {MAX_PATH_BYTES} bytes"));
    }
    let pattern = Pattern::parse(path)?;
    if prefix.is_some_and(|prefix| !pattern.is_under(prefix)) {
        return Err(format!("the path `{path}` is not under the service's prefix `{service_prefix}`"));
    }
    if endpoint.per_application && !pattern.names_application() {
        return Err(format!("the path `{path}` has no `{{application}}`, though the endpoint is `per_application`"));
    }
    Ok(())
}
