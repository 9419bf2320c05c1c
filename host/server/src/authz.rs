//! Listeners for proxies that ask before they forward. What they answer is the business of `portcullis-authz`; here it is
//! given the server's engine, routes, journal and measures, and a socket.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use portcullis_authz::{Authz, Note, Terms, Wiring};
use portcullis_engine::Engine;
use portcullis_model::facts::{Facts, Proof};
use portcullis_tower::replays::Replays;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::{AuthzConfig, AuthzTls};
use crate::journal::{Journal, Kept};
use crate::listen::{Limits, ListenError, Listener, Shutdown};
use crate::metrics::Metrics;
use crate::proxy::Routing;
use crate::tls::Identity;

/// The most fields that a proxy adds to those of a request.
const MAX_OWN_HEADERS: usize = 128;

/// A listener that is open and is not served yet.
pub(crate) struct Opened {
    listener: Listener,
    terms: Terms,
}

/// Why one could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What the listeners share with the proxy.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) routing: Arc<ArcSwap<Routing>>,
    pub(crate) journal: Journal,
    pub(crate) replays: Arc<Replays>,
    pub(crate) metrics: Metrics,
}

/// Opens one.
///
/// # Errors
/// Where the system refuses.
pub(crate) fn open(config: AuthzConfig, limits: Limits, metrics: &Metrics) -> Result<Opened, OpenError> {
    let tls = config.tls.as_ref().map(|AuthzTls { identity, clients }| match clients {
        Some(clients) => identity.mutual_config(clients),
        None => identity.server_config(),
    });
    let listener = Listener::bind("authz.listen", config.listen, tls.transpose()?, limits, metrics.clone())?;
    // So that a request with too many fields is told so by the gate.
    let listener = listener.with_own_headers(MAX_OWN_HEADERS);
    tracing::info!(authz = %listener.address(), dialect = ?config.dialect, "answering");
    let AuthzConfig { dialect, service, secret, path_prefix, whole_bodies, signed_body_limit, .. } = config;
    let terms = Terms { dialect, service, secret, path_prefix, whole_bodies, body_limit: signed_body_limit };
    Ok(Opened { listener, terms })
}

/// The certificates of listeners, to be followed.
pub(crate) fn identities(configs: &[AuthzConfig]) -> Vec<Identity> {
    configs.iter().filter_map(|config| config.tls.as_ref()).map(|tls| tls.identity.clone()).collect()
}

/// Serves all of them until `shutdown` begins.
pub(crate) fn serve(opened: Vec<Opened>, shared: Shared, shutdown: &Shutdown, traffic: &Handle) -> Vec<JoinHandle<()>> {
    let wiring = Arc::new(wiring(shared));
    let serve = |Opened { listener, terms }: Opened| {
        let authz = Authz::new(Arc::clone(&wiring), terms);
        traffic.spawn(listener.serve(shutdown.clone(), move |_| {
            let authz = Arc::clone(&authz);
            service_fn(move |request| {
                let authz = Arc::clone(&authz);
                async move { Ok(authz.handle(request).await) }
            })
        }))
    };
    opened.into_iter().map(serve).collect()
}

fn wiring(shared: Shared) -> Wiring {
    let Shared { engine, routing, journal, replays, metrics } = shared;
    let recording = metrics.clone();
    Wiring {
        engine,
        clock: Box::new(clock::now),
        replays,
        serves: Box::new(move |facts| serves(&routing.load(), facts)),
        record: Box::new(move |cause, details| {
            match cause {
                None => recording.allowed(),
                Some(cause) => recording.denied(cause),
            }
            let (id, kept) = journal.record(cause.map_or(0, |cause| cause.number()), details);
            if kept == Kept::Counted {
                recording.journal_gap();
            }
            id.to_string()
        }),
        note: Box::new(move |note| match note {
            Note::Decided(took) => metrics.decided_in(took),
            Note::Replays(entries) => metrics.replays_are(entries),
            Note::ReplayRefused => metrics.replay_refused(),
            Note::Stranger => metrics.stranger_refused(),
        }),
    }
}

/// Services of the routing, without what is Portcullis's own at them: tokens are issued by the proxy, and the admin API is a
/// service of the same policy that nobody reaches from outside.
fn serves(routing: &Routing, facts: &Facts<'_>) -> bool {
    let is_client = facts.credential.is_some_and(|credential| credential.proof == Proof::Client);
    let own = |path| routing.service(facts.service).is_none_or(|service| service.own(path).is_some());
    !is_client && !own(facts.path)
}
