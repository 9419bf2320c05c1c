//! Connections to upstreams.
//!
//! HTTP/1.1 goes through hyper-util's pooled client, with TLS or without. HTTP/2 without TLS has one connection per upstream
//! of our own, because `:authority` must be able to differ from what is connected to, which the pool's keys forbid. For the
//! same reason HTTP/2 inside TLS is offered only where the upstream gets its own Host.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::body::Upload;
use super::routing::{Protocol, Service};
use crate::tls::{self, TlsError};

/// How long an idle connection is kept. Less than the 75 s after which common servers close theirs, so that a request is
/// seldom sent into a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(60);
/// How often a connection that is waited on is asked whether it lives: by TCP, and by pings of HTTP/2.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The port of `h2c://` without one.
const HTTP_PORT: u16 = 80;

/// How upstreams are reached.
#[derive(Clone, Debug)]
pub(crate) struct ClientSettings {
    /// How long connecting may take, name and all addresses included.
    pub(crate) connect_timeout: Duration,
    /// How long an upstream may leave what was sent to it unacknowledged.
    pub(crate) idle_timeout: Duration,
    /// How many idle connections are kept to each upstream.
    pub(crate) idle_connections: usize,
    /// The authorities that certificates are checked with, instead of the system's.
    pub(crate) authorities: Option<PathBuf>,
}

/// Why the clients could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientsError {
    /// The file of authorities.
    #[error("{0}: {fix}", fix = .0.fix())]
    Authorities(#[from] TlsError),
    /// rustls does not support its own defaults.
    #[error("TLS for upstreams could not be set up: {0}: build with the features that Cargo.toml names")]
    Tls(#[from] rustls::Error),
}

/// Why no head of a response came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SendError {
    /// No connection could be made.
    Connect,
    /// No connection could be made in time.
    ConnectTimeout,
    /// The connection broke, what came was no HTTP, or our own body failed.
    Broken,
}

type Pooled<C> = Client<C, Upload>;

/// The clients for all upstreams.
pub(super) struct Clients {
    plain: Pooled<HttpConnector>,
    /// HTTP/2 or HTTP/1.1, whichever the upstream prefers.
    tls: Pooled<HttpsConnector<HttpConnector>>,
    tls_http1: Pooled<HttpsConnector<HttpConnector>>,
    h2c: Multiplexed,
}

/// How a request has to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Demand {
    /// As the upstream likes.
    Any,
    /// In a way that can carry the Host that the client sent, or switch protocols.
    Http1,
}

impl Clients {
    pub(super) fn new(settings: ClientSettings) -> Result<Self, ClientsError> {
        let tls = client_config(settings.authorities.as_deref())?;
        let connector = || {
            let mut http = HttpConnector::new();
            http.enforce_http(false);
            http.set_nodelay(true);
            http.set_connect_timeout(Some(settings.connect_timeout));
            http.set_keepalive(Some(KEEP_ALIVE));
            #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
            http.set_tcp_user_timeout(Some(settings.idle_timeout));
            http
        };
        let https = |tls: ClientConfig| HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
        Ok(Clients {
            plain: pooled(&settings, connector()),
            tls: pooled(&settings, https(tls.clone()).enable_http2().wrap_connector(connector())),
            tls_http1: pooled(&settings, https(tls).wrap_connector(connector())),
            h2c: Multiplexed { connect_timeout: settings.connect_timeout, upstreams: Mutex::default() },
        })
    }

    /// Sends a request, whose target is absolute, to a service's upstream.
    ///
    /// A request is sent again only where a pooled connection was closed before any of it was written.
    pub(super) async fn send(
        &self,
        service: &Service,
        demand: Demand,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, SendError> {
        match (service.upstream.protocol, demand) {
            (Protocol::Http, _) => self.plain.request(request).await.map_err(|error| kind_of(&error)),
            (Protocol::Https, Demand::Any) => self.tls.request(request).await.map_err(|error| kind_of(&error)),
            (Protocol::Https, Demand::Http1) => self.tls_http1.request(request).await.map_err(|error| kind_of(&error)),
            (Protocol::H2c, _) => self.h2c.send(&service.upstream.authority, request).await,
        }
    }
}

fn pooled<C: Connect + Clone>(settings: &ClientSettings, connector: C) -> Pooled<C> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.idle_connections)
        .http2_keep_alive_interval(KEEP_ALIVE)
        // Host is set by whoever builds the request.
        .set_host(false)
        .build(connector)
}

fn client_config(authorities: Option<&Path>) -> Result<ClientConfig, ClientsError> {
    let builder = || ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    if let Some(path) = authorities {
        return Ok(builder()?.with_root_certificates(tls::authorities(path)?).with_no_client_auth());
    }
    let trusting = match builder()?.with_native_roots() {
        Ok(trusting) => trusting,
        Err(error) => {
            // A small container has none, and needs none as long as every upstream is plain HTTP.
            tracing::warn!(%error, "no authorities for upstreams with https; install ca-certificates or set `upstream_ca`");
            builder()?.with_root_certificates(RootCertStore::empty())
        }
    };
    Ok(trusting.with_no_client_auth())
}

fn kind_of(error: &ClientError) -> SendError {
    tracing::debug!(error = error as &dyn StdError, "an upstream failed");
    if !error.is_connect() {
        return SendError::Broken;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return SendError::ConnectTimeout;
        }
        cause = error.source();
    }
    SendError::Connect
}

/// One HTTP/2 connection to each upstream, made when it is needed and again when it has ended.
struct Multiplexed {
    connect_timeout: Duration,
    /// Upstreams that are no longer routed to stay as empty places; they are as many as administrators ever wrote down.
    upstreams: Mutex<HashMap<Authority, Arc<tokio::sync::Mutex<Option<Sender>>>>>,
}

type Sender = http2::SendRequest<Upload>;

impl Multiplexed {
    async fn send(&self, authority: &Authority, request: Request<Upload>) -> Result<Response<Incoming>, SendError> {
        let place = {
            let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
            match upstreams.get(authority) {
                Some(place) => Arc::clone(place),
                None => Arc::clone(upstreams.entry(authority.clone()).or_default()),
            }
        };
        let mut sender = self.sender(authority, &place).await?;
        let unsent = match sender.try_send_request(request).await {
            Ok(response) => return Ok(response),
            // Given back only where nothing of it was sent.
            Err(mut error) => error.take_message().ok_or(SendError::Broken)?,
        };
        let mut sender = self.sender(authority, &place).await?;
        sender.send_request(unsent).await.map_err(|error| {
            tracing::debug!(error = &error as &dyn StdError, "an upstream failed");
            SendError::Broken
        })
    }

    async fn sender(
        &self,
        authority: &Authority,
        place: &tokio::sync::Mutex<Option<Sender>>,
    ) -> Result<Sender, SendError> {
        // Held while connecting, so that all who wait get the one connection.
        let mut place = place.lock().await;
        if let Some(sender) = place.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let connecting = tokio::time::timeout(self.connect_timeout, connect(authority)).await;
        let sender = connecting.map_err(|_| SendError::ConnectTimeout)?.map_err(|error| {
            tracing::debug!(%error, "an upstream cannot be connected to");
            SendError::Connect
        })?;
        Ok(place.insert(sender).clone())
    }
}

async fn connect(authority: &Authority) -> Result<Sender, Box<dyn StdError + Send + Sync>> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(HTTP_PORT))).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream ended");
        }
    });
    Ok(sender)
}
