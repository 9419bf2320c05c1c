//! `/v1/client-ip`, `/v1/tenants/{tenant}/client-ip`: what this node sees of its clients, and whom the address lists let in.
//!
//! Who the client of a call is, the gate says. The hops are told beside it for people, as they came.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use portcullis_control::store::{MAX_PAGE, Paging};
use portcullis_control::{Caller, KeyFilter, RecentClients, TenantView};
use portcullis_model::address::{Cidr, as_bits};
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::source::{CredentialState, Module};
use portcullis_model::time::UnixTime;
use schemars::JsonSchema;
use serde::Serialize;

use super::extract::At;
use super::problem::Problem;
use super::{Api, schema};

/// How far back recorded decisions are looked at, in seconds.
const RECENT_S: u64 = 3600;
/// From how many requests on it is telling that all came from one address.
const TELLING: u64 = 10;
/// The most addresses that are listed.
const MAX_SHOWN: usize = 20;
/// The most pages of keys that are looked through.
const KEY_PAGES: usize = 10;
/// The fields that proxies write hops into.
const HOP_FIELDS: [&str; 2] = ["forwarded", "x-forwarded-for"];

/// The other end of the connection that a call came on.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// What the node saw of this call's hops.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SeenCall")]
struct Seen {
    peer: IpAddr,
    /// Whether the peer is a proxy that is believed.
    peer_trusted: bool,
    hops: Vec<Hop>,
    /// Who the gate takes for the client.
    client: Option<IpAddr>,
}

/// One hop, as it was written.
#[derive(Serialize, JsonSchema)]
struct Hop {
    field: &'static str,
    hop: String,
    address: Option<IpAddr>,
    trusted: bool,
}

/// From where requests came of late.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RecentClients")]
struct Recent {
    since: String,
    requests: u64,
    addresses: Vec<Address>,
    /// There were more than could be looked at.
    cut: bool,
}

/// How many requests came from an address.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RecentAddress")]
struct Address {
    address: IpAddr,
    requests: u64,
}

/// Lists that let nobody in who came of late.
#[derive(Serialize, Default, JsonSchema)]
#[schemars(rename = "BlockingLists")]
struct Blocking {
    endpoints: Vec<BlockedEndpoint>,
    keys: Vec<BlockedKey>,
}

/// An endpoint with its ranges.
#[derive(Serialize, JsonSchema)]
struct BlockedEndpoint {
    #[schemars(with = "schema::EndpointRef")]
    endpoint: EndpointRef,
    #[schemars(with = "Vec<schema::Cidr>")]
    ip_ranges: Vec<Cidr>,
}

/// A tenant key with its list.
#[derive(Serialize, JsonSchema)]
struct BlockedKey {
    #[schemars(with = "schema::Id")]
    id: Id,
    name: String,
    #[schemars(with = "Vec<schema::Cidr>")]
    ip_allowlist: Vec<Cidr>,
}

/// The whole test.
#[derive(Serialize, JsonSchema)]
pub(super) struct ClientIp {
    this_call: Seen,
    recent: Recent,
    /// Whose addresses the lists were held against: `recent` requests, or `this_call` where there are none.
    judged_by: &'static str,
    blocks_everyone: Blocking,
    warnings: Vec<String>,
}

pub(super) async fn installation(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Json<ClientIp>, Problem> {
    let view = api.control.system_view(&caller)?;
    let trusted = view.installation().await?.record.trusted_proxies;
    let since = api.since();
    let recent = view.recent_clients(since).await?;
    Ok(Json(test(&caller, peer, &headers, &trusted, since, recent)))
}

pub(super) async fn tenant(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    At(tenant): At<Id>,
    headers: HeaderMap,
) -> Result<Json<ClientIp>, Problem> {
    let view = api.control.tenant_view(&caller, &tenant).await?;
    let trusted = view.trusted_proxies().await?;
    let since = api.since();
    let recent = view.recent_clients(since).await?;
    let addresses: Vec<IpAddr> = match recent.addresses.is_empty() {
        true => caller.origin.address.into_iter().collect(),
        false => recent.addresses.keys().copied().collect(),
    };
    let mut test = test(&caller, peer, &headers, &trusted, since, recent);
    let (blocking, is_cut) = blocking(&view, &addresses).await?;
    for BlockedEndpoint { endpoint, .. } in &blocking.endpoints {
        test.warnings.push(format!("the address ranges of `{endpoint}` let in none of these addresses"));
    }
    for BlockedKey { id, .. } in &blocking.keys {
        test.warnings.push(format!("the address list of the key `{id}` lets in none of these addresses"));
    }
    if is_cut {
        test.warnings.push("there are more keys than were looked at".to_owned());
    }
    test.blocks_everyone = blocking;
    Ok(Json(test))
}

impl Api {
    fn since(&self) -> UnixTime {
        UnixTime::from_secs(self.control.now().as_secs().saturating_sub(RECENT_S)).unwrap_or_default()
    }
}

fn test(
    caller: &Caller,
    Peer(peer): Peer,
    headers: &HeaderMap,
    trusted: &[Cidr],
    since: UnixTime,
    recent: RecentClients,
) -> ClientIp {
    let peer_trusted = is_in(trusted, peer);
    let hops = hops(headers, trusted);
    let mut warnings = Vec::new();
    if !peer_trusted && let Some(hop) = hops.first() {
        warnings.push(format!(
            "`{}` came from {peer}, which is not in `trusted_proxies`, and was not believed: if that is your proxy, have \
             the operator add it",
            hop.field
        ));
    }
    let mut addresses: Vec<Address> =
        recent.addresses.iter().map(|(address, requests)| Address { address: *address, requests: *requests }).collect();
    addresses.sort_by_key(|address| std::cmp::Reverse(address.requests));
    addresses.truncate(MAX_SHOWN);
    let judged_by = match addresses.as_slice() {
        [] => {
            warnings.push("there was no request in the last hour: the lists are held against this call".to_owned());
            "this_call"
        }
        [only] if recent.decisions >= TELLING => {
            warnings.push(format!(
                "all {} requests of the last hour came from {}: if that is a proxy, address lists see the proxy alone, \
                 and the operator should add it to `trusted_proxies`",
                recent.decisions, only.address
            ));
            "recent"
        }
        _ => "recent",
    };
    ClientIp {
        this_call: Seen { peer, peer_trusted, hops, client: caller.origin.address },
        recent: Recent { since: since.to_string(), requests: recent.decisions, addresses, cut: recent.is_cut },
        judged_by,
        blocks_everyone: Blocking::default(),
        warnings,
    }
}

/// What proxies wrote, in their order: the last hop is the nearest.
fn hops(headers: &HeaderMap, trusted: &[Cidr]) -> Vec<Hop> {
    let mut hops = Vec::new();
    for field in HOP_FIELDS {
        let values = headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
        hops.extend(values.flat_map(|value| value.split(',')).map(|hop| {
            let hop = hop.trim();
            let address = written_address(hop);
            let trusted = address.is_some_and(|address| is_in(trusted, address));
            Hop { field, hop: hop.to_owned(), address, trusted }
        }));
    }
    hops
}

/// The address in a hop, where it is plain to see. Nothing is decided by it.
fn written_address(hop: &str) -> Option<IpAddr> {
    let node = hop.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value.trim_matches('"'))
    });
    let node = node.unwrap_or(hop);
    let bare = node.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(node, |(address, _)| address);
    let address: Option<IpAddr> = bare.parse().ok();
    address.or_else(|| bare.split_once(':')?.0.parse().ok()).map(|address| address.to_canonical())
}

fn is_in(ranges: &[Cidr], address: IpAddr) -> bool {
    let at = as_bits(address);
    ranges.iter().any(|range| {
        let (first, last) = range.bounds();
        (as_bits(first)..=as_bits(last)).contains(&at)
    })
}

/// The lists that let none of the addresses in, and whether there are more keys than were looked at.
async fn blocking(view: &TenantView<'_>, addresses: &[IpAddr]) -> Result<(Blocking, bool), Problem> {
    let is_blocking = |ranges: &[Cidr]| {
        !ranges.is_empty() && !addresses.is_empty() && !addresses.iter().any(|address| is_in(ranges, *address))
    };
    let mut found = Blocking::default();
    // Without its module the filter has no effect.
    if view.tenant().record.modules.contains(&Module::IpFilter) {
        let settings = view.settings().await?.into_iter().map(|stored| stored.record);
        let blocking = settings.filter(|set| is_blocking(&set.ip_ranges));
        found.endpoints =
            blocking.map(|set| BlockedEndpoint { endpoint: set.endpoint, ip_ranges: set.ip_ranges }).collect();
    }
    let mut after = None;
    for _ in 0..KEY_PAGES {
        let paging = Paging { after, limit: MAX_PAGE };
        let filter = KeyFilter { kind: Kind::Tenant, state: Some(CredentialState::Active), expiration: None };
        let page = view.keys(filter, paging).await?;
        for stored in page.items {
            let (name, credential) = (stored.record.name, stored.record.credential);
            if is_blocking(&credential.ip_allowlist) {
                found.keys.push(BlockedKey { id: credential.id, name, ip_allowlist: credential.ip_allowlist });
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok((found, false));
        }
    }
    Ok((found, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_hop_is_found_where_it_is_plain() {
        for (hop, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("for=\"[2001:db8::1]:443\";proto=https", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("unknown", None),
        ] {
            assert_eq!(written_address(hop), address.map(|address| address.parse().unwrap()), "{hop}");
        }
    }

    #[test]
    fn a_range_holds_its_own_family() {
        let ranges = ["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        assert!(is_in(&ranges, "192.0.2.255".parse().unwrap()) && is_in(&ranges, "2001:db8::1".parse().unwrap()));
        assert!(!is_in(&ranges, "192.0.3.0".parse().unwrap()) && !is_in(&ranges, "::1".parse().unwrap()));
    }
}
