//! Installations that differ in one size, by powers of ten: does a decision cost more where there is more of it?

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use portcullis_model::policy::build;

use crate::cases::{Case, spread};
use crate::{Shape, call, key};

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sweep {
    /// Keys, 100 to a tenant.
    Credentials,
    /// Tenants that share 100,000 keys.
    Tenants,
    /// Endpoints of the service, each with address ranges of the tenant, each permitted to the groups.
    Endpoints,
    /// Entries of the endpoint's list of addresses.
    Ranges,
    /// Groups of all tenants together, two to a tenant, of 100,000 keys.
    Groups,
    /// Groups of one tenant with 100,000 keys.
    GroupsOfTenant,
}

impl Sweep {
    /// All of them.
    pub const ALL: [Sweep; 6] =
        [Sweep::Credentials, Sweep::Tenants, Sweep::Endpoints, Sweep::Ranges, Sweep::Groups, Sweep::GroupsOfTenant];

    /// Its name in figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Sweep::Credentials => "credentials",
            Sweep::Tenants => "tenants",
            Sweep::Endpoints => "endpoints",
            Sweep::Ranges => "address ranges",
            Sweep::Groups => "groups",
            Sweep::GroupsOfTenant => "groups of one tenant",
        }
    }

    /// The sizes, each ten times the one before it.
    pub fn sizes(self) -> impl Iterator<Item = usize> {
        let (first, last): (usize, usize) = match self {
            Sweep::Credentials => (10, 1_000_000),
            Sweep::Endpoints => (1, 10_000),
            Sweep::Groups => (10, 100_000),
            Sweep::Tenants | Sweep::Ranges | Sweep::GroupsOfTenant => (1, 100_000),
        };
        std::iter::successors(Some(first), |size| size.checked_mul(10)).take_while(move |size| *size <= last)
    }

    /// An installation of that size, and requests that it allows: by keys from all over the table, to endpoints and from
    /// addresses from all over theirs.
    pub fn case(self, size: usize, requests: usize) -> Result<Case> {
        const SHARED: usize = 100_000;
        let mut shape = Shape::usual(100)?;
        match self {
            Sweep::Credentials => shape.credentials = size,
            Sweep::Tenants => (shape.credentials, shape.per_tenant) = (SHARED, SHARED / size),
            Sweep::Endpoints => (shape.endpoints, shape.ranged, shape.permitted) = (size, 0..size, 0..size),
            Sweep::Ranges => {
                shape.ranges =
                    (0..size).map(|number| Ok(format!("{}/32", address(number)).parse()?)).collect::<Result<_>>()?;
                shape.allowlist = vec!["0.0.0.0/0".parse()?];
            }
            Sweep::Groups => (shape.credentials, shape.per_tenant) = (SHARED, SHARED * shape.groups / size),
            Sweep::GroupsOfTenant => (shape.credentials, shape.per_tenant, shape.groups) = (SHARED, SHARED, size),
        }
        if matches!(self, Sweep::Groups | Sweep::GroupsOfTenant) {
            shape.permitted = 5..9;
        }
        let keys = spread(shape.credentials, requests);
        let heads = keys.zip(spread(size, requests)).map(|(number, other)| {
            let (endpoint, client) = match self {
                Sweep::Endpoints => (other, Ipv4Addr::new(192, 0, 2, 7)),
                Sweep::Ranges => (7, address(other)),
                Sweep::Credentials | Sweep::Tenants | Sweep::Groups | Sweep::GroupsOfTenant => {
                    (7, Ipv4Addr::new(192, 0, 2, 7))
                }
            };
            call(&key(number), "GET", endpoint, IpAddr::V4(client))
        });
        let heads = heads.collect::<Result<_>>()?;
        Ok(Case { base: build(&shape.source()?)?.into(), sheets: Vec::new(), heads })
    }
}

/// The address of that number: no two are neighbours, so that their ranges cannot be joined.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x3000_0000_u32.saturating_add(u32::try_from(number * 3).unwrap_or_default()))
}
