//! What takes one policy to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::{Credential, Group, HostPattern, Installation, SOURCE_FORMAT, Service, Source, Tenant, User};
use crate::credential::{SecretDigest, Seed};
use crate::id::{Id, Revision};

/// The records that changed between two revisions, and what is gone.
///
/// A record is replaced as a whole: a service with its catalogue, a tenant with its settings, a
/// credential with the versions of its secret.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The format of this document, as of [`Source`].
    pub format: u32,
    /// The revision it applies to.
    pub from: Revision,
    /// The revision it leads to.
    pub revision: Revision,
    /// The installation's seed.
    pub seed: Seed,
    /// New values for the whole installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<Installation>,
    /// Services, new or replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Hosts whose services changed, each with all of its services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Tenants, new or replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Tenant>,
    /// Groups, new or replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Users, new or replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Credentials, new or replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// What is gone.
    #[serde(default, skip_serializing_if = "Removed::is_empty")]
    pub removed: Removed,
    /// A newer checkpoint of the audit, as in [`Source`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// One host and the services it leads to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The host.
    pub host: HostPattern,
    /// Its services, each under another prefix.
    pub services: Vec<RouteTarget>,
}

/// A service under a host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTarget {
    /// The path prefix.
    pub prefix: String,
    /// The service.
    pub service: Id,
}

/// The keys of records that are gone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Removed {
    /// Services.
    pub services: Vec<Id>,
    /// Hosts that lead to no service any more.
    pub routes: Vec<HostPattern>,
    /// Tenants.
    pub tenants: Vec<Id>,
    /// Groups, as tenant and group.
    pub groups: Vec<(Id, Id)>,
    /// Users, as tenant and user.
    pub users: Vec<(Id, Id)>,
    /// Versions of secrets. Those that a credential had and is put without go whether they are listed or not.
    pub digests: Vec<SecretDigest>,
}

impl Removed {
    fn is_empty(&self) -> bool {
        *self == Removed::default()
    }
}

impl Delta {
    /// A delta that changes nothing but the revision.
    #[must_use]
    pub fn empty(from: Revision, revision: Revision, seed: Seed) -> Delta {
        Delta {
            format: SOURCE_FORMAT,
            from,
            revision,
            seed,
            installation: None,
            services: Vec::new(),
            routes: Vec::new(),
            tenants: Vec::new(),
            groups: Vec::new(),
            users: Vec::new(),
            credentials: Vec::new(),
            removed: Removed::default(),
            checkpoint: None,
        }
    }

    /// What changed from `old` to `new`. Both are to be buildable; order within their lists does not matter.
    #[must_use]
    pub fn between(old: &Source, new: &Source) -> Delta {
        let scoped = |tenant: &Id, id: &Id| (tenant.clone(), id.clone());
        let (services, services_gone) = changed(&old.services, &new.services, |service| service.id.clone());
        let (routes, routes_gone) = changed(&routes(old), &routes(new), |route| route.host.clone());
        let (tenants, tenants_gone) = changed(&old.tenants, &new.tenants, |tenant| tenant.id.clone());
        let (groups, groups_gone) = changed(&old.groups, &new.groups, |group| scoped(&group.tenant, &group.id));
        let (users, users_gone) = changed(&old.users, &new.users, |user| scoped(&user.tenant, &user.id));
        let (credentials, _) = changed(&old.credentials, &new.credentials, |credential| credential.id.clone());
        let digests = |source: &Source| -> BTreeSet<SecretDigest> {
            source.credentials.iter().flat_map(|credential| &credential.secrets).map(|secret| secret.sha256).collect()
        };
        Delta {
            installation: (old.installation != new.installation).then(|| new.installation.clone()),
            services,
            routes,
            tenants,
            groups,
            users,
            credentials,
            removed: Removed {
                services: services_gone,
                routes: routes_gone,
                tenants: tenants_gone,
                groups: groups_gone,
                users: users_gone,
                digests: digests(old).difference(&digests(new)).copied().collect(),
            },
            checkpoint: new.checkpoint.clone().filter(|_| old.checkpoint != new.checkpoint),
            ..Delta::empty(old.revision, new.revision, new.seed)
        }
    }
}

/// The hosts of a source, each with the services it leads to, in order of host and prefix.
pub(crate) fn routes(source: &Source) -> Vec<Route> {
    let mut hosts: BTreeMap<&HostPattern, BTreeSet<RouteTarget>> = BTreeMap::new();
    for service in &source.services {
        for host in &service.hosts {
            let target = RouteTarget { prefix: service.prefix.clone(), service: service.id.clone() };
            hosts.entry(host).or_default().insert(target);
        }
    }
    hosts
        .into_iter()
        .map(|(host, services)| Route { host: host.clone(), services: services.into_iter().collect() })
        .collect()
}

/// The records of `new` that are not the same in `old`, and the keys of `old` that `new` lacks.
fn changed<T, K>(old: &[T], new: &[T], key: impl Fn(&T) -> K) -> (Vec<T>, Vec<K>)
where
    T: Clone + PartialEq,
    K: Clone + Eq + Ord + Hash,
{
    let before: BTreeMap<K, &T> = old.iter().map(|record| (key(record), record)).collect();
    let after: BTreeMap<K, &T> = new.iter().map(|record| (key(record), record)).collect();
    let put = after.iter().filter(|(key, record)| before.get(key) != Some(record)).map(|(_, record)| (*record).clone());
    let gone = before.keys().filter(|key| !after.contains_key(key)).cloned();
    (put.collect(), gone.collect())
}
