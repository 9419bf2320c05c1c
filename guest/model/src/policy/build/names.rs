//! The ids of each kind of record, numbered in order: records refer to others by these numbers.

use std::hash::Hash;

use hashbrown::HashMap;

use super::{BuildError, Records};
use crate::id::{EndpointRef, Id};
use crate::policy::format::{FragmentKind, NONE, Presence};
use crate::policy::records::Symbol;
use crate::source::{Endpoint, Fault, Group, Service, Tenant, User};

/// A parent's id and the record's own.
pub(super) type Scoped<'s> = (&'s Id, &'s Id);

pub(super) fn endpoint(name: &EndpointRef) -> Scoped<'_> {
    (&name.service, &name.endpoint)
}

/// The ids of one kind of record.
pub(super) struct Names<'s, K, T> {
    pub(super) sorted: Vec<Name<'s, T>>,
    numbers: HashMap<K, u32>,
}

/// An id, as it stands in the policy.
pub(super) struct Name<'s, T> {
    pub(super) id: String,
    pub(super) presence: Presence,
    /// Where it is defined here.
    pub(super) record: Option<&'s T>,
}

impl<'s, K: Copy + Eq + Hash, T> Names<'s, K, T> {
    /// # Errors
    /// What is removed and at the same time put, or named by another record.
    fn new(
        symbol: Symbol,
        show: fn(K) -> String,
        defined: impl Iterator<Item = (K, &'s T)>,
        named: impl Iterator<Item = K>,
        removed: impl Iterator<Item = K>,
    ) -> Result<Self, BuildError> {
        let mut all: HashMap<K, (Presence, Option<&'s T>)> = HashMap::new();
        // What is said later wins: a record defined here may also be named here.
        all.extend(named.map(|key| (key, (Presence::Named, None))));
        all.extend(defined.map(|(key, record)| (key, (Presence::Defined, Some(record)))));
        for key in removed {
            if all.insert(key, (Presence::Removed, None)).is_some_and(|(stands, _)| stands != Presence::Removed) {
                let at = format!("{} `{}`", symbol.as_str(), show(key));
                let what = "it is removed, but also put or referred to".to_owned();
                return Err(BuildError::Faults(vec![Fault { at, what }]));
            }
        }
        let mut keyed: Vec<(Name<'s, T>, K)> =
            all.into_iter().map(|(key, (presence, record))| (Name { id: show(key), presence, record }, key)).collect();
        keyed.sort_unstable_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        let numbers = keyed.iter().zip(0..).map(|((_, key), number)| (*key, number)).collect();
        Ok(Names { sorted: keyed.into_iter().map(|(name, _)| name).collect(), numbers })
    }

    pub(super) fn number(&self, key: K) -> u32 {
        self.numbers.get(&key).copied().unwrap_or(NONE)
    }

    pub(super) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The id of that number.
    pub(super) fn id(&self, number: u32) -> &str {
        self.sorted.get(number as usize).map_or("", |name| &name.id)
    }
}

/// The ids of all kinds.
pub(super) struct AllNames<'s> {
    pub(super) tenants: Names<'s, &'s Id, Tenant>,
    pub(super) services: Names<'s, &'s Id, Service>,
    pub(super) endpoints: Names<'s, Scoped<'s>, Endpoint>,
    pub(super) groups: Names<'s, Scoped<'s>, Group>,
    pub(super) users: Names<'s, Scoped<'s>, User>,
}

impl<'s> AllNames<'s> {
    pub(super) fn of(records: &'s Records<'s>) -> Result<AllNames<'s>, BuildError> {
        // INVARIANT (references-hold): a base defines whatever it names, which was checked. So only a delta is asked for names.
        let is_delta = match records.kind {
            FragmentKind::Base => false,
            FragmentKind::Delta => true,
        };
        let credentials = || records.credentials.iter();
        let settings = records.tenants.iter().flat_map(|tenant| &tenant.endpoints).map(|setting| &setting.endpoint);
        let permissions = records.groups.iter().flat_map(|group| &group.permissions).map(|granted| &granted.endpoint);
        let allowed = credentials().flat_map(|credential| &credential.endpoints);
        let members = records.users.iter().filter_map(|user| Some((&user.tenant, user.group.as_ref()?)));
        let holders = credentials().filter_map(|credential| Some((&credential.tenant, credential.group.as_ref()?)));
        let creators = credentials().filter_map(|credential| Some((&credential.tenant, credential.creator.as_ref()?)));
        let pinned = records.services.iter().filter_map(|service| service.tenant.as_ref());
        let owners = credentials().map(|credential| &credential.tenant);
        let parents = records.groups.iter().map(|group| &group.tenant);
        let parents = parents.chain(records.users.iter().map(|user| &user.tenant));
        let routed = records.routes.iter().flat_map(|route| &route.services).map(|target| &target.service);
        let removed = records.removed;
        let services = || records.services.iter();
        Ok(AllNames {
            tenants: Names::new(
                Symbol::Tenant,
                Id::to_string,
                records.tenants.iter().map(|tenant| (&tenant.id, tenant)),
                pinned.chain(owners).chain(parents).filter(|_| is_delta),
                removed.tenants.iter(),
            )?,
            services: Names::new(
                Symbol::Service,
                Id::to_string,
                services().map(|service| (&service.id, service)),
                routed.filter(|_| is_delta),
                removed.services.iter(),
            )?,
            endpoints: Names::new(
                Symbol::Endpoint,
                slashed,
                services().flat_map(|service| {
                    service.endpoints.iter().map(|endpoint| ((&service.id, &endpoint.id), endpoint))
                }),
                settings.chain(permissions).chain(allowed).filter(|_| is_delta).map(endpoint),
                std::iter::empty(),
            )?,
            groups: Names::new(
                Symbol::Group,
                slashed,
                records.groups.iter().map(|group| ((&group.tenant, &group.id), group)),
                members.chain(holders).filter(|_| is_delta),
                removed.groups.iter().map(|(tenant, id)| (tenant, id)),
            )?,
            users: Names::new(
                Symbol::User,
                slashed,
                records.users.iter().map(|user| ((&user.tenant, &user.id), user)),
                creators.filter(|_| is_delta),
                removed.users.iter().map(|(tenant, id)| (tenant, id)),
            )?,
        })
    }
}

fn slashed((parent, id): Scoped<'_>) -> String {
    format!("{parent}/{id}")
}
