//! The gate as an authorization service beside proxies.
//!
//! A proxy asks before it forwards a request, and does what the answer says. An [`Authz`] answers in one [`Dialect`], over an
//! engine that decides; whoever has sockets puts it behind one and hands it every request, see [`Authz::handle`].
//!
//! | module | holds |
//! |---|---|
//! | [`gate`] | one check: from what a proxy told of a request to a permit or a denial |
//! | [`answer`] | the edits of an allow, the document of a denial |
//! | [`envoy_grpc`] | `envoy.service.auth.v3.Authorization` |
//! | [`check`] | what the dialects over HTTP share: the request that a check is about, its body, the answer |
//! | [`envoy_http`], [`nginx`], [`forward_auth`] | what is particular to each |
//! | [`secret`] | the secret that a proxy shows |
//!
//! Nothing here fails open: what a proxy left out denies, and so does what it told twice.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests"))]

mod answer;
mod check;
mod envoy_grpc;
mod envoy_http;
mod forward_auth;
mod gate;
mod nginx;
mod secret;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use http::{HeaderMap, Request, Response};
use portcullis_engine::Engine;
use portcullis_model::facts::Facts;
use portcullis_model::fault::HostFault;
use portcullis_model::time::UnixTime;
use portcullis_tower::enforce::{Cause, Denial, Permit};
use portcullis_tower::replays::Replays;
use tonic::body::Body as Answer;
use tower_service::Service as _;

pub use self::check::MAX_HELD_BYTES;
pub use self::envoy_grpc::EnvoyGrpc;
pub use self::secret::{MAX_SECRET_BYTES, MIN_SECRET_BYTES, NoSecret, Secret};

/// The field in which a proxy sends the shared secret.
pub const SECRET_HEADER: &str = "x-portcullis-proxy-secret";
/// The field in which Envoy's HTTP service tells the address that it took the request from.
pub const PEER_HEADER: &str = "x-portcullis-peer";
/// The most bytes that a check over gRPC may have beyond the body: its head, and what else Envoy tells.
const MAX_CHECK_BYTES: usize = 256 * 1024;

/// What a proxy asks in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Envoy's ext_authz over gRPC.
    EnvoyGrpc,
    /// Envoy's ext_authz over HTTP.
    EnvoyHttp,
    /// `auth_request` of nginx.
    Nginx,
    /// ForwardAuth, of Traefik and Caddy.
    ForwardAuth,
}

impl Dialect {
    /// All of them by their names.
    pub const ALL: [(&'static str, Dialect); 4] = [
        ("envoy-grpc", Dialect::EnvoyGrpc),
        ("envoy-http", Dialect::EnvoyHttp),
        ("nginx", Dialect::Nginx),
        ("forward-auth", Dialect::ForwardAuth),
    ];
}

/// Records a decision, why it is no allow and its packed details, and leads to its id.
pub type Record = Box<dyn Fn(Option<Cause>, &[u8]) -> String + Send + Sync>;

/// What decides, and what is told of it. Listeners of one process share it.
pub struct Wiring {
    /// What decides.
    pub engine: Arc<Engine>,
    /// What time it is.
    pub clock: Box<dyn Fn() -> UnixTime + Send + Sync>,
    /// Signed requests that are accepted once: one for everything that the engine decides.
    pub replays: Arc<Replays>,
    /// Whether what the facts name may be reached through a proxy. What may not looks like no service at all.
    pub serves: Box<dyn Fn(&Facts<'_>) -> bool + Send + Sync>,
    /// Where decisions are recorded. The answer waits for it.
    pub record: Record,
    /// Told what is counted.
    pub note: Box<dyn Fn(Note) + Send + Sync>,
}

/// Something to count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// The gate decided, in that time.
    Decided(Duration),
    /// So many signed requests are remembered.
    Replays(usize),
    /// One that was accepted before was refused.
    ReplayRefused,
    /// A check did not have the shared secret, so that it was nobody's.
    Stranger,
}

/// How one listener is asked.
#[derive(Debug)]
pub struct Terms {
    /// In what.
    pub dialect: Dialect,
    /// The one service that may be asked about, where it is one.
    pub service: Option<String>,
    /// What a proxy has to show with every check.
    pub secret: Option<Secret>,
    /// The `path_prefix` of Envoy's HTTP service; empty without one.
    pub path_prefix: String,
    /// The proxy sends the whole body of every request that has one, so that an empty one means that there is none. Where it
    /// does not say so, a signature over a body that did not come is denied.
    pub whole_bodies: bool,
    /// The longest body in bytes that is taken for a signature.
    pub body_limit: usize,
}

/// The authorization service of one listener.
pub struct Authz {
    wiring: Arc<Wiring>,
    terms: Terms,
    held: Arc<tokio::sync::Semaphore>,
    /// What to do about mistakes in the proxy's configuration: each is told once, not with every request.
    told: Mutex<Vec<&'static str>>,
}

impl fmt::Debug for Authz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authz").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// What a proxy did not tell of a request, or told in a way that cannot be gone by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Incomplete {
    pub(crate) fault: HostFault,
    /// What to do about it.
    pub(crate) fix: &'static str,
}

impl Incomplete {
    /// Something of the original request is missing, or there twice.
    pub(crate) const fn original(fix: &'static str) -> Incomplete {
        Incomplete { fault: HostFault::OriginalMissing, fix }
    }

    /// The address is missing that the proxy took the request from.
    pub(crate) const fn peer(fix: &'static str) -> Incomplete {
        Incomplete { fault: HostFault::PeerUnknown, fix }
    }
}

impl Authz {
    /// Makes one.
    #[must_use]
    pub fn new(wiring: Arc<Wiring>, terms: Terms) -> Arc<Authz> {
        let held = Arc::new(tokio::sync::Semaphore::new(check::MAX_HELD_KIB));
        Arc::new(Authz { wiring, terms, held, told: Mutex::default() })
    }

    /// The service of Envoy's gRPC dialect, whatever the terms say of the dialect.
    #[must_use]
    pub fn grpc(self: &Arc<Self>) -> AuthorizationServer<EnvoyGrpc> {
        let most = self.terms.body_limit.saturating_add(MAX_CHECK_BYTES);
        AuthorizationServer::new(EnvoyGrpc::new(Arc::clone(self))).max_decoding_message_size(most)
    }

    /// Answers one request of a proxy. Whatever happens, there is an answer.
    pub async fn handle<B>(self: &Arc<Self>, request: Request<B>) -> Response<Answer>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        if self.terms.dialect == Dialect::EnvoyGrpc {
            let Ok(response) = self.grpc().call(request).await;
            return response;
        }
        let (parts, body) = request.into_parts();
        self.answer(&parts, body).await.map(Answer::new)
    }

    /// Whether a check has the shared secret, where there is one: exactly one field, with exactly that.
    pub(crate) fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(secret) = &self.terms.secret else { return true };
        let mut given = headers.get_all(SECRET_HEADER).iter();
        let is_known = match (given.next(), given.next()) {
            (Some(given), None) => secret.is(given.as_bytes()),
            (None, _) | (Some(_), Some(_)) => false,
        };
        if !is_known {
            (self.wiring.note)(Note::Stranger);
        }
        is_known
    }

    /// The denial of a check that cannot be decided, of whose cause the operator is told once.
    pub(crate) fn incomplete(&self, incomplete: Incomplete) -> Denial {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&incomplete.fix) {
            told.push(incomplete.fix);
            let fault = Cause::Host(incomplete.fault).name();
            tracing::warn!(
                fault,
                fix = incomplete.fix,
                "a proxy asks in a way that cannot be answered: every such request is denied"
            );
        }
        Denial::by_host(incomplete.fault)
    }

    /// Records what was decided. Leads to the decision's id.
    pub(crate) fn record(&self, outcome: &Result<Permit, Denial>) -> String {
        match outcome {
            Ok(permit) => (self.wiring.record)(None, permit.packed()),
            Err(denial) => (self.wiring.record)(Some(denial.cause()), denial.packed()),
        }
    }
}
