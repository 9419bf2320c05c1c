//! The token endpoint: an endpoint of policy that no catalogue lists. Every service that keeps a prefix for Portcullis has it.

use portcullis_model::credential::Kind;
use portcullis_model::id::Id;
use portcullis_model::method::{Method, Methods};
use portcullis_model::source::{Endpoint, Presentation, Service};

use crate::token::TOKEN_PATH;

/// What it is called in facts and decisions, and what where a service has an endpoint of that name.
const NAMES: [&str; 2] = ["token", "portcullis-token"];
/// The most ways to present a credential that a service with a token endpoint can have beside the one for clients: the gate
/// takes eight in all.
pub(crate) const MAX_OTHER_WAYS: usize = 7;

/// A service with its token endpoint. Where there is no place for one it is left out: nothing is allowed by that.
pub(super) fn with(mut service: Service, reserved: &str) -> Service {
    if !has_place(&service, reserved) {
        return service;
    }
    let path = format!("{reserved}{TOKEN_PATH}");
    let is_taken = |name: &Id| service.endpoints.iter().any(|own| own.id == *name || own.aliases.contains(name));
    let Some(id) = NAMES.iter().filter_map(|name| name.parse().ok()).find(|name| !is_taken(name)) else {
        return service;
    };
    service.endpoints.push(Endpoint {
        id,
        name: "Access tokens".to_owned(),
        methods: Methods::NONE.with(Method::Post),
        paths: vec![path],
        prefixes: Vec::new(),
        per_application: false,
        token_endpoint: true,
        scope: None,
        audience: None,
        legacy: false,
        formerly: None,
        aliases: Vec::new(),
    });
    if !service.accept.iter().any(|way| way.client.is_some()) {
        service.accept.push(Presentation {
            client: Some("Basic".to_owned()),
            kinds: vec![Kind::Personal, Kind::Client],
            ..Presentation::default()
        });
    }
    service
}

/// Whether a service can have a token endpoint below that prefix.
pub(crate) fn has_place(service: &Service, reserved: &str) -> bool {
    let takes_clients = service.accept.iter().any(|way| way.client.is_some());
    let is_below = service.prefix == "/"
        || reserved.strip_prefix(&service.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // A catalogue may have had an endpoint of that very path before there was this one.
    let path = format!("{reserved}{TOKEN_PATH}");
    let is_free = !service.endpoints.iter().any(|endpoint| endpoint.paths.contains(&path));
    is_below
        && is_free
        && (takes_clients || (service.accept.len() <= MAX_OTHER_WAYS && !service.accept.iter().any(is_basic)))
}

/// Whether a way takes the scheme that a client's id and secret come with.
fn is_basic(way: &Presentation) -> bool {
    [&way.scheme, &way.token].into_iter().flatten().any(|scheme| scheme.eq_ignore_ascii_case("basic"))
}
