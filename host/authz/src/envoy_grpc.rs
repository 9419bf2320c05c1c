//! Envoy's ext_authz over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! The fields have to come raw (`encode_raw_headers`): the other form joins doubled ones by a comma, in which a doubled
//! security header could hide. Bodies have to come as bytes (`pack_as_bytes`) and whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::pb::google::rpc;
use portcullis_model::fault::HostFault;
use portcullis_tower::enforce::{Denial, Permit};
use tonic::{Code, Request, Response, Status};

use crate::answer::{Edits, Told};
use crate::gate::{First, Original, Pins};
use crate::{Authz, Incomplete};

/// The field by which Envoy tells whether it sent the body whole. It is none of the request's.
pub(crate) const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";
/// The key of `context_extensions` that confines a route to one service.
const SERVICE: &str = "service";

const NO_PEER: &str = "have Envoy tell the address that it took the connection from: `source.address` is missing";
const NOT_RAW: &str = "set `encode_raw_headers: true` in the ext_authz filter";
const NO_REQUEST: &str = "use the HTTP filter of ext_authz: the check has no attributes of an HTTP request";

/// The gRPC service of an [`Authz`].
#[derive(Debug)]
pub struct EnvoyGrpc {
    authz: Arc<Authz>,
}

impl EnvoyGrpc {
    pub(crate) fn new(authz: Arc<Authz>) -> EnvoyGrpc {
        EnvoyGrpc { authz }
    }
}

#[tonic::async_trait]
impl Authorization for EnvoyGrpc {
    /// Decides one request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` where the check does not have the shared secret, which Envoy takes for a failed check.
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        if !self.authz.knows(request.metadata().as_ref()) {
            return Err(Status::new(Code::Unauthenticated, "the check does not have the shared secret"));
        }
        Ok(Response::new(self.authz.check(request.get_ref())))
    }
}

impl Authz {
    fn check(&self, request: &CheckRequest) -> CheckResponse {
        let asked = Asked::of(request, self.terms.whole_bodies);
        let outcome = match &asked {
            Ok(asked) => self.decide_asked(asked),
            Err(incomplete) => Err(self.incomplete(*incomplete)),
        };
        let decision = self.record(&outcome);
        match (&outcome, &asked) {
            (Ok(permit), Ok(asked)) => allow(permit, &asked.original, &decision),
            // Not reached: without a request nothing is permitted.
            (Ok(_), Err(incomplete)) => deny(&Denial::by_host(incomplete.fault), &decision),
            (Err(denial), _) => deny(denial, &decision),
        }
    }

    fn decide_asked(&self, asked: &Asked<'_>) -> Result<Permit, Denial> {
        let pins = Pins([self.terms.service.as_deref(), asked.service]);
        let pending = match self.wiring.first(&asked.original, pins) {
            First::Done(outcome) => return outcome,
            First::NeedsBody(pending) => pending,
        };
        let body = asked.body(self.terms.whole_bodies).and_then(|body| {
            let fits = body.len() <= self.terms.body_limit;
            if fits { Ok(body) } else { Err(HostFault::BodyTooLarge) }
        });
        self.wiring.finish(&pending, body, pins)
    }
}

/// A check, read.
struct Asked<'a> {
    original: Original<'a>,
    service: Option<&'a str>,
    http: &'a HttpRequest,
    /// What [`PARTIAL_BODY`] says, every time that it does.
    marks: Vec<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    is_chunked: bool,
}

impl<'a> Asked<'a> {
    fn of(request: &'a CheckRequest, whole_bodies: bool) -> Result<Asked<'a>, Incomplete> {
        let attributes = request.attributes.as_ref().ok_or(Incomplete::original(NO_REQUEST))?;
        let http = attributes.request.as_ref().and_then(|request| request.http.as_ref());
        let http = http.ok_or(Incomplete::original(NO_REQUEST))?;
        let peer = peer(attributes).ok_or(Incomplete::peer(NO_PEER))?;
        if http.method.is_empty() || http.path.is_empty() {
            return Err(Incomplete::original(NO_REQUEST));
        }
        let map = match &http.header_map {
            Some(map) => map,
            None => return Err(Incomplete { fault: HostFault::HeadersNotRaw, fix: NOT_RAW }),
        };
        let is_http1 = http.protocol.starts_with("HTTP/1.");
        let mut fields: Vec<(&[u8], Cow<'_, [u8]>)> = Vec::with_capacity(map.headers.len());
        let (mut marks, mut content_length, mut is_chunked) = (Vec::new(), None, false);
        // Over HTTP/1.1 the host came in a field, which Envoy turned into `:authority`.
        if is_http1 && !http.host.is_empty() {
            fields.push((b"host", Cow::Borrowed(http.host.as_bytes())));
        }
        for HeaderValue { key, value, raw_value } in &map.headers {
            let value = if raw_value.is_empty() { value.as_bytes() } else { raw_value };
            match key.as_str() {
                PARTIAL_BODY => {
                    marks.push(value);
                    continue;
                }
                pseudo if pseudo.starts_with(':') => continue,
                "content-length" => content_length = Some(value),
                "transfer-encoding" => is_chunked = true,
                _ => {}
            }
            fields.push((key.as_bytes(), Cow::Borrowed(value)));
        }
        // Over HTTP/2 a body may follow that nothing announces; it would be here where all of them come.
        let is_announced = is_chunked || content_length.is_some_and(|length| length != b"0");
        let is_certain = is_http1 || content_length.is_some() || whole_bodies;
        let bodiless = !is_announced && is_certain && http.raw_body.is_empty() && http.body.is_empty();
        let original = Original {
            secure: http.scheme.eq_ignore_ascii_case("https"),
            peer,
            method: http.method.as_bytes(),
            target: http.path.as_bytes(),
            authority: (!is_http1).then_some(http.host.as_bytes()),
            fields,
            bodiless,
        };
        let service = attributes.context_extensions.get(SERVICE).map(String::as_str);
        Ok(Asked { original, service, http, marks, content_length, is_chunked })
    }

    /// The whole body, where it came.
    fn body(&self, whole_bodies: bool) -> Result<&'a [u8], HostFault> {
        let body = self.http.raw_body.as_slice();
        let is_partial = self.marks.iter().any(|mark| *mark != b"false");
        let length = body.len().to_string();
        let is_other = self.content_length.is_some_and(|announced| announced != length.as_bytes());
        if is_partial || is_other || !self.http.body.is_empty() {
            return Err(HostFault::BodyUnavailable);
        }
        let is_there = match body {
            // Envoy marks what it sends, so an empty body that it does not mark may be one that it does not send.
            [] => whole_bodies && (!self.is_chunked || !self.marks.is_empty()),
            _ => !self.marks.is_empty(),
        };
        if is_there { Ok(body) } else { Err(HostFault::BodyUnavailable) }
    }
}

fn peer(attributes: &AttributeContext) -> Option<IpAddr> {
    match attributes.source.as_ref()?.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => socket.address.parse().ok(),
        Address::Pipe(_) | Address::EnvoyInternalAddress(_) => None,
    }
}

fn option(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

fn allow(permit: &Permit, original: &Original<'_>, decision: &str) -> CheckResponse {
    let Edits { set, remove, target, .. } = Edits::of(permit, original);
    let mut headers: Vec<HeaderValueOption> = set.iter().map(|(name, value)| option(name, value)).collect();
    // Removing a parameter by Envoy's own means writes the whole query anew, in another order.
    headers.extend(target.map(|target| option(":path", &target)));
    CheckResponse {
        status: Some(rpc::Status { code: Code::Ok.into(), ..rpc::Status::default() }),
        dynamic_metadata: Some(metadata(permit, decision)),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers,
            headers_to_remove: remove,
            ..OkHttpResponse::default()
        })),
    }
}

/// What filters behind this one and access logs can go by, under `envoy.filters.http.ext_authz`.
fn metadata(permit: &Permit, decision: &str) -> Struct {
    let facts = permit.details().facts;
    let credential = facts.credential.map(|credential| (credential.id, credential.kind.as_str()));
    let (id, kind) = credential.unwrap_or_default();
    let texts = [
        ("tenant", facts.tenant),
        ("credential", id),
        ("kind", kind),
        ("endpoint", facts.endpoint),
        ("decision", decision),
    ];
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields: HashMap<String, Value> = texts.into_iter().map(|(name, text)| (name.to_owned(), value(text))).collect();
    Struct { fields: fields.into_iter().collect() }
}

fn deny(denial: &Denial, decision: &str) -> CheckResponse {
    let told = Told::of(denial, decision);
    let code = if told.status.as_u16() == 401 { Code::Unauthenticated } else { Code::PermissionDenied };
    let headers = told.fields.iter().map(|(name, value)| option(name, value)).collect();
    CheckResponse {
        status: Some(rpc::Status { code: code.into(), message: told.code.to_owned(), details: Vec::new() }),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: told.status.as_u16().into() }),
            headers,
            body: told.document,
        })),
    }
}

#[cfg(test)]
mod tests;
