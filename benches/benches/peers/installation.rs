//! What is decided on: the records, and the requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use portcullis_benches::{NOW_S, source};
use portcullis_model::method::{Method, Methods};
use portcullis_model::source::Source;
use portcullis_model::time::{Expiry, UnixTime};
use portcullis_model::verdict::Reason;

/// How many different keys are asked with while the time is taken.
const TIMED: usize = 65_536;
/// The endpoint with address ranges.
const RANGED: usize = 7;
/// The endpoint without them, that is called from elsewhere.
const OPEN: usize = 8;
/// The endpoint that readers may not call.
const WITHHELD: usize = 19;

/// What somebody asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The number of the key; there is none of that number where it is not smaller than the size.
    pub(crate) key: usize,
    pub(crate) method: &'static str,
    pub(crate) endpoint: usize,
    pub(crate) client: IpAddr,
    /// Why not, if not.
    pub(crate) denied: Option<Reason>,
}

impl Asked {
    /// The id of the key as records have it.
    pub(crate) fn key_id(&self) -> String {
        format!("k{:07}", self.key)
    }

    /// The endpoint as records name it.
    pub(crate) fn endpoint_name(&self) -> String {
        format!("shop/endpoint-{}", self.endpoint)
    }
}

/// The installation of all benchmarks, with a group to each tenant that reads only and a key that has expired, the last.
pub(crate) fn installation(size: usize) -> Result<Source> {
    let mut source = source(size)?;
    let reads = Methods::NONE.with(Method::Get).with(Method::Head);
    for group in source.groups.iter_mut().filter(|group| group.id.as_str() == "group-0") {
        group.permissions.truncate(WITHHELD);
        for permission in &mut group.permissions {
            permission.methods = reads;
        }
    }
    let last = source.credentials.last_mut().context("there are credentials")?;
    last.expires = Some(Expiry::at(UnixTime::from_secs(NOW_S - 1).context("the time is in range")?));
    Ok(source)
}

/// The requests that are timed: all of them allowed, by keys from all over the table.
pub(crate) fn timed(size: usize) -> impl Iterator<Item = Asked> {
    (0..TIMED).map(move |number| Asked {
        // A step that shares no factor with any size visits the whole table out of order.
        key: number * 7_919 % (size - 1),
        method: "GET",
        endpoint: RANGED,
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        denied: None,
    })
}

/// Requests for each answer that all can give, by as many keys from all over the table. Every other one may only read.
pub(crate) fn covering(size: usize, keys: usize) -> Vec<Asked> {
    let v4 = |octets: [u8; 4]| IpAddr::from(octets);
    // In the ranges of the endpoint, and in the allowlist of every key.
    let inside = v4([192, 0, 2, 7]);
    let in_ranges_only = [v4([198, 51, 100, 5]), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5))];
    let mut all = Vec::new();
    let mut ask = |key, method, endpoint, client, denied| {
        all.push(Asked { key, method, endpoint, client, denied });
    };
    ask(size, "GET", RANGED, inside, Some(Reason::CredentialUnknown));
    ask(size - 1, "GET", RANGED, inside, Some(Reason::CredentialExpired));
    for number in 0..keys {
        let key = number * 7_919 % (size - 1);
        let in_allowlist_only = IpAddr::V4(Ipv4Addr::new(10, u8::try_from(key % 64).unwrap_or_default(), 1, 2));
        let elsewhere = IpAddr::V4(Ipv4Addr::new(10, u8::try_from((key + 1) % 64).unwrap_or_default(), 1, 2));
        let unless_writer = |reason| key.is_multiple_of(2).then_some(reason);
        ask(key, "GET", RANGED, inside, None);
        ask(key, "GET", OPEN, in_allowlist_only, None);
        ask(key, "GET", RANGED, in_allowlist_only, Some(Reason::AddressNotInEndpoint));
        ask(key, "GET", OPEN, elsewhere, Some(Reason::AddressNotInKey));
        for client in in_ranges_only {
            ask(key, "GET", RANGED, client, Some(Reason::AddressNotInKey));
        }
        ask(key, "GET", WITHHELD, inside, unless_writer(Reason::GroupLacksEndpoint));
        ask(key, "POST", RANGED, inside, unless_writer(Reason::GroupLacksEndpoint));
    }
    all
}
