//! The part of a policy that concerns some services alone, for a worker that decides for these and no others.

use std::collections::{BTreeMap, BTreeSet};

use super::{Credential, Delta, Group, HostPattern, Removed, Service, Source, Tenant};
use crate::credential::{Kind, SecretDigest};
use crate::id::{EndpointRef, Id};

/// What is kept of a policy: services, and of everything else what decisions about them need.
///
/// # Invariants
/// Projecting each delta and applying it to the projected base leads to what projecting the last document builds. The
/// projection of a record depends on the record, on the services that are kept and on where these are pinned, so a record
/// whose projection changes is in the delta, unless a pin moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Projection {
    services: BTreeSet<Id>,
    apart: Id,
}

/// The tenants of which a projection keeps anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeptTenants {
    /// Those to which every service is pinned.
    Only(BTreeSet<Id>),
    /// All but the one that administers the installation, which is among them only where a service is pinned to it.
    AllBut(Option<Id>),
}

impl KeptTenants {
    /// Whether a tenant is among them.
    #[must_use]
    pub fn contains(&self, tenant: &Id) -> bool {
        match self {
            KeptTenants::Only(tenants) => tenants.contains(tenant),
            KeptTenants::AllBut(apart) => apart.as_ref() != Some(tenant),
        }
    }

    /// Whether the checkpoint of the audit may go along: it names every tenant, so it is not for those who have some.
    fn may_witness(&self) -> bool {
        match self {
            KeptTenants::Only(_) => false,
            KeptTenants::AllBut(_) => true,
        }
    }
}

/// What a delta takes the place of.
#[derive(Clone, Copy, Debug)]
pub struct Replaced<'r> {
    /// All services as they were.
    pub services: &'r [Service],
    /// Each credential that is put again or gone, as it was.
    pub credentials: &'r [Credential],
}

/// What came of projecting a delta.
#[derive(Clone, PartialEq, Debug)]
pub enum Projected {
    /// The delta of the projection. It may change nothing but the revision.
    Delta(Box<Delta>),
    /// No delta can tell it: a pin moved, so tenants come or go whose records did not change.
    NewBase,
}

impl Projection {
    /// The projection to these services. Of the tenant `apart`, which administers the installation, nothing is kept unless
    /// one of them is pinned to it.
    #[must_use]
    pub fn new(services: BTreeSet<Id>, apart: Id) -> Projection {
        Projection { services, apart }
    }

    /// The same for other services.
    #[must_use]
    pub fn of(&self, services: BTreeSet<Id>) -> Projection {
        Projection { services, apart: self.apart.clone() }
    }

    /// The tenants of which anything is kept, while the services are these.
    #[must_use]
    pub fn tenants(&self, services: &[Service]) -> KeptTenants {
        let pins: Option<BTreeSet<Id>> = self.kept(services).map(|service| service.tenant.clone()).collect();
        let is_pinned_to = self.kept(services).any(|service| service.tenant.as_ref() == Some(&self.apart));
        let others = || KeptTenants::AllBut((!is_pinned_to).then(|| self.apart.clone()));
        pins.map_or_else(others, KeptTenants::Only)
    }

    /// The part of a whole document.
    #[must_use]
    pub fn source(&self, mut source: Source) -> Source {
        let tenants = self.tenants(&source.services);
        source.checkpoint = source.checkpoint.filter(|_| tenants.may_witness());
        source.services = self.catalogue(&source.services);
        source.applications.retain(|application| tenants.contains(&application.tenant));
        source.users.retain(|user| tenants.contains(&user.tenant));
        Source {
            tenants: source.tenants.into_iter().filter_map(|tenant| self.tenant(tenant, &tenants)).collect(),
            groups: source.groups.into_iter().filter_map(|group| self.group(group, &tenants)).collect(),
            credentials: source.credentials.into_iter().filter_map(|held| self.credential(held, &tenants)).collect(),
            ..source
        }
    }

    /// The part of a delta.
    #[must_use]
    pub fn delta(&self, delta: &Delta, was: &Replaced<'_>) -> Projected {
        let services = after(was.services, delta);
        let tenants = self.tenants(was.services);
        if tenants != self.tenants(&services) {
            return Projected::NewBase;
        }
        let known: BTreeSet<_> = digests(was.credentials).collect();
        // Whose that was is not known here, so neither is whether the projection has it.
        if delta.removed.digests.iter().any(|digest| !known.contains(digest)) {
            return Projected::NewBase;
        }
        let of = |revision, services: &[Service]| Source {
            services: self.catalogue(services),
            ..Source::empty(revision, delta.seed)
        };
        let catalogue = Delta::between(&of(delta.from, was.services), &of(delta.revision, &services));
        let project = |held: &[Credential]| -> Vec<Credential> {
            held.iter().filter_map(|credential| self.credential(credential.clone(), &tenants)).collect()
        };
        let credentials = project(&delta.credentials);
        let put: BTreeSet<SecretDigest> = digests(&credentials).collect();
        // INVARIANT (nothing-stays): whatever the projection had of a credential that changes is put again or removed, also
        // where it keeps nothing of it from now on.
        let gone: BTreeSet<SecretDigest> =
            digests(&project(was.credentials)).filter(|digest| !put.contains(digest)).collect();
        let is_kept = |(tenant, _): &&(Id, Id)| tenants.contains(tenant);
        Projected::Delta(Box::new(Delta {
            format: delta.format,
            from: delta.from,
            revision: delta.revision,
            seed: delta.seed,
            installation: delta.installation.clone(),
            services: catalogue.services,
            routes: catalogue.routes,
            tenants: delta.tenants.iter().filter_map(|tenant| self.tenant(tenant.clone(), &tenants)).collect(),
            groups: delta.groups.iter().filter_map(|group| self.group(group.clone(), &tenants)).collect(),
            users: delta.users.iter().filter(|user| tenants.contains(&user.tenant)).cloned().collect(),
            credentials,
            removed: Removed {
                services: catalogue.removed.services,
                routes: catalogue.removed.routes,
                tenants: delta.removed.tenants.iter().filter(|tenant| tenants.contains(tenant)).cloned().collect(),
                groups: delta.removed.groups.iter().filter(is_kept).cloned().collect(),
                users: delta.removed.users.iter().filter(is_kept).cloned().collect(),
                digests: gone.into_iter().collect(),
            },
            checkpoint: delta.checkpoint.clone().filter(|_| tenants.may_witness()),
        }))
    }

    /// The services of the part: those that are kept, and of every other one that shares a host with them its place alone:
    /// the shared hosts, the prefix, and how it takes credentials, without which it would refuse otherwise than in the whole.
    ///
    /// INVARIANT (no-request-moves): what the whole routes to another service must not fall to one that is kept.
    #[must_use]
    pub fn catalogue(&self, services: &[Service]) -> Vec<Service> {
        let kept: Vec<&HostPattern> = self.kept(services).flat_map(|service| &service.hosts).collect();
        let part = |service: &Service| {
            if self.services.contains(&service.id) {
                return Some(service.clone());
            }
            let is_shared = |host: &&HostPattern| kept.iter().any(|kept| meet(kept.as_str(), host.as_str()));
            let hosts: Vec<HostPattern> = service.hosts.iter().filter(is_shared).cloned().collect();
            let place = || Service { hosts: hosts.clone(), endpoints: Vec::new(), tenant: None, ..service.clone() };
            (!hosts.is_empty()).then(place)
        };
        services.iter().filter_map(part).collect()
    }

    fn kept<'s>(&self, services: &'s [Service]) -> impl Iterator<Item = &'s Service> {
        services.iter().filter(|service| self.services.contains(&service.id))
    }

    fn is_of(&self, endpoint: &EndpointRef) -> bool {
        self.services.contains(&endpoint.service)
    }

    fn tenant(&self, mut tenant: Tenant, tenants: &KeptTenants) -> Option<Tenant> {
        tenant.endpoints.retain(|settings| self.is_of(&settings.endpoint));
        tenants.contains(&tenant.id).then_some(tenant)
    }

    fn group(&self, mut group: Group, tenants: &KeptTenants) -> Option<Group> {
        group.permissions.retain(|permission| self.is_of(&permission.endpoint));
        tenants.contains(&group.tenant).then_some(group)
    }

    fn credential(&self, mut credential: Credential, tenants: &KeptTenants) -> Option<Credential> {
        if !tenants.contains(&credential.tenant) {
            return None;
        }
        match credential.kind {
            Kind::Workspace | Kind::Tenant | Kind::Personal | Kind::Client => Some(credential),
            Kind::Management => {
                credential.endpoints.retain(|endpoint| self.is_of(endpoint));
                // An empty list permits nothing, so it is of no use here.
                (!credential.endpoints.is_empty()).then_some(credential)
            }
            // It is for the admin API alone.
            Kind::Session => None,
        }
    }
}

/// Whether a request can be for both of two hosts or suffixes of hosts.
fn meet(one: &str, other: &str) -> bool {
    let covers = |suffix: &str, host: &str| {
        suffix.strip_prefix('*').is_some_and(|suffix| host.strip_prefix('*').unwrap_or(host).ends_with(suffix))
    };
    one == other || covers(one, other) || covers(other, one)
}

/// The services once a delta is applied.
fn after(services: &[Service], delta: &Delta) -> Vec<Service> {
    let all = services.iter().chain(&delta.services).map(|service| (&service.id, service));
    let mut after: BTreeMap<&Id, &Service> = all.collect();
    after.retain(|id, _| !delta.removed.services.contains(id));
    after.into_values().cloned().collect()
}

fn digests(credentials: &[Credential]) -> impl Iterator<Item = SecretDigest> + '_ {
    credentials.iter().flat_map(|credential| &credential.secrets).map(|secret| secret.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_meet_where_a_request_can_be_for_both() {
        for (one, other, can) in [
            ("api.example", "api.example", true),
            ("*.example", "api.example", true),
            ("*.example", "*.shop.example", true),
            ("*.example", "*.example", true),
            ("api.example", "shop.example", false),
            ("*.shop.example", "api.example", false),
            ("*.example", "example", false),
            ("*.example", "badexample", false),
        ] {
            assert_eq!((meet(one, other), meet(other, one)), (can, can), "{one} {other}");
        }
    }

    #[test]
    fn a_service_that_shares_a_host_keeps_its_place_and_nothing_else() {
        let service = |id: &str, hosts: &[&str], prefix: &str| -> Service {
            let endpoint = serde_json::json!({ "id": "all", "name": "All", "prefixes": [prefix] });
            let service = serde_json::json!({ "id": id, "hosts": hosts, "prefix": prefix, "endpoints": [endpoint] });
            serde_json::from_value(service).unwrap()
        };
        let all = [
            service("shop", &["api.example"], "/"),
            service("wallet", &["api.example", "wallet.example"], "/wallet"),
            service("away", &["away.example"], "/"),
        ];
        let projection = Projection::new(BTreeSet::from(["shop".parse().unwrap()]), "system".parse().unwrap());
        let part = projection.catalogue(&all);
        let of = |service: &Service| (service.id.to_string(), service.hosts.len(), service.endpoints.len());
        let part: Vec<_> = part.iter().map(of).collect();
        assert_eq!(part, [("shop".to_owned(), 1, 1), ("wallet".to_owned(), 1, 0)]);
    }
}
