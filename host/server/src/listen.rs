//! Listeners: sockets, TLS and HTTP connections, for guarded traffic and for the admin API alike.
//!
//! Everything a stranger can do here has a bound: how many connections, how long a handshake and a head may take, how large
//! a head may be, how long a reader may make us wait. What it says is somebody else's business: a service per connection.

mod aside;
mod shutdown;
mod stall;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use portcullis_model::head::{MAX_HEAD_BYTES, MAX_HEADERS};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use self::aside::Aside;
pub(crate) use self::shutdown::Shutdown;
use self::stall::Stalling;
use crate::metrics::{Metrics, Open};

/// The most bytes of a head over HTTP/1.1 with its separators and spaces, which are not packed for the gate. Beyond it the
/// answer is 431 before the gate sees anything.
const MAX_RAW_HEAD_BYTES: usize = 2 * MAX_HEAD_BYTES;
/// The most bytes of a field list over HTTP/2, as RFC 9113 section 6.5.2 counts them.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// The most requests at once on one HTTP/2 connection; enough for a gateway in front, and a bound on what one socket holds.
const MAX_STREAMS: u32 = 256;
/// How often a silent HTTP/2 connection is pinged, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may go without beginning a request before it is asked to end. Requests that run go on.
const QUIET: Duration = Duration::from_secs(300);
/// How long accepting rests after an error such as too many open files (EMFILE), which only time mends.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The most connections that wait in the system to be accepted.
const BACKLOG: u32 = 1024;

/// The bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most connections at once, upgraded ones included; more wait unaccepted.
    pub(crate) max_connections: usize,
    /// How long a client may take for the head of a request; the first one includes the TLS handshake.
    pub(crate) head_timeout: Duration,
    /// How long a client may leave what was sent to it unread.
    pub(crate) idle_timeout: Duration,
}

/// A socket that listens.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    /// The most fields of a head over HTTP/1.1.
    max_headers: usize,
    metrics: Metrics,
}

/// One connection, as a service sees it. Whoever keeps it keeps its place among [`Limits::max_connections`].
#[derive(Clone)]
pub(crate) struct Connection {
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// Whether it is TLS.
    pub(crate) secure: bool,
    place: Arc<Place>,
}

struct Place {
    _slot: OwnedSemaphorePermit,
    _open: Open,
    shutdown: Shutdown,
}

impl Connection {
    /// What ends it: tasks that outlive a request are tracked and ended by it.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.place.shutdown
    }
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`, which `{key}` asks for: {source}: {}", listen_fix(source))]
pub(crate) struct ListenError {
    key: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    /// Whether another program has the port.
    pub(crate) fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

fn listen_fix(error: &io::Error) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "an open list of the system's errors")]
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the program that has the port, or set another",
        io::ErrorKind::AddrNotAvailable => "set an address that this machine has, such as `0.0.0.0`",
        io::ErrorKind::PermissionDenied => "set a port of 1024 or above, or grant CAP_NET_BIND_SERVICE",
        _ => "set another address",
    }
}

impl Listener {
    /// Opens a socket. `key` names the setting that asks for it, for errors.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) fn bind(
        key: &'static str,
        address: SocketAddr,
        tls: Option<ServerConfig>,
        limits: Limits,
        metrics: Metrics,
    ) -> Result<Self, ListenError> {
        let open = || {
            let socket = match address {
                SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
                SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
            };
            // A restart must not wait for the last connections of the process before to be forgotten.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let socket = socket.listen(BACKLOG)?;
            Ok((socket.local_addr()?, socket))
        };
        let (address, socket) = open().map_err(|source| ListenError { key, address, source })?;
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        // The gate's own limit, so that every request within it is decided.
        Ok(Listener { socket, address, tls, limits, max_headers: MAX_HEADERS, metrics })
    }

    /// The same for checks of proxies: so many more fields, which are the proxy's own beside those of the request.
    pub(crate) fn with_own_headers(self, own: usize) -> Self {
        Listener { max_headers: MAX_HEADERS + own, ..self }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` begins. Connections that are open then go on until what they began is done.
    pub(crate) async fn serve<M, S, B>(self, shutdown: Shutdown, service: M)
    where
        M: Fn(Connection) -> S,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let http = Arc::new(http(self.limits, self.max_headers));
        let places = Arc::new(Semaphore::new(self.limits.max_connections));
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.begun() => return,
                accepted = self.accept(&places) => accepted,
            };
            let Some((stream, peer, slot)) = accepted else { continue };
            let place = Arc::new(Place { _slot: slot, _open: self.metrics.connection(), shutdown: shutdown.clone() });
            let connection = Connection { peer, secure: self.tls.is_some(), place };
            let requests = Arc::new(AtomicU64::new(0));
            let served = Served {
                service: Counted { inner: service(connection.clone()), requests: Arc::clone(&requests) },
                connection,
                http: Arc::clone(&http),
                requests,
                limits: self.limits,
                metrics: self.metrics.clone(),
                shutdown: shutdown.clone(),
            };
            let tls = self.tls.clone();
            shutdown.track(async move {
                match tls {
                    None => served.run(stream, Instant::now()).await,
                    Some(tls) => served.handshake(&tls, stream).await,
                }
            });
        }
    }

    /// The next connection and its place, or nothing where the system refused one.
    async fn accept(&self, places: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(places).acquire_owned().await.ok()?;
        match self.socket.accept().await {
            Ok((stream, peer)) => {
                // Without it the last part of a response waits for the client's acknowledgement. A socket that is
                // already gone is noticed by the first read.
                let _ = stream.set_nodelay(true);
                Some((stream, peer, slot))
            }
            Err(error) => {
                tracing::warn!(%error, address = %self.address, "a connection could not be accepted");
                drop(slot);
                tokio::time::sleep(ACCEPT_REST).await;
                None
            }
        }
    }
}

fn http(limits: Limits, max_headers: usize) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        // Runs from the end of one response to the end of the next head, so it bounds idle connections as well.
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(MAX_RAW_HEAD_BYTES)
        .max_headers(max_headers);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}

/// A service that counts its requests, by which the connection's clock tells whether any came.
struct Counted<S> {
    inner: S,
    requests: Arc<AtomicU64>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.inner.call(request)
    }
}

/// All that serving one connection takes.
struct Served<S> {
    service: Counted<S>,
    connection: Connection,
    http: Arc<auto::Builder<TokioExecutor>>,
    requests: Arc<AtomicU64>,
    limits: Limits,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl<S, B> Served<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    async fn handshake(self, tls: &TlsAcceptor, stream: TcpStream) {
        let began = Instant::now();
        let shaken = tokio::select! {
            biased;
            () = self.shutdown.begun() => return,
            shaken = tokio::time::timeout_at(began + self.limits.head_timeout, tls.accept(stream)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.run(stream, began).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => self.metrics.head_refused(),
        }
    }

    async fn run<T>(self, stream: T, began: Instant)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The place is kept until the connection has ended, whatever the service made of its own copy.
        let Served { service, connection: _place, http, requests, limits, metrics, shutdown } = self;
        let stream = Stalling::new(TokioIo::new(stream), limits.idle_timeout);
        let mut connection = pin!(http.serve_connection_with_upgrades(stream, service));
        // hyper's own timeout begins with HTTP/1.1 and does not bound the bytes by which the version is told.
        let mut deadline = began + limits.head_timeout;
        let (mut seen, mut ending) = (0, false);
        loop {
            let mut aside = Aside::new(next(&shutdown, deadline, ending));
            let event = tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        note(error.as_ref(), &metrics);
                    }
                    return;
                }
                event = &mut aside => event,
            };
            let so_far = requests.load(Ordering::Relaxed);
            match event {
                Event::Ended => return,
                Event::Deadline if so_far == 0 => {
                    metrics.head_refused();
                    return;
                }
                Event::Deadline if so_far != seen => {
                    seen = so_far;
                    deadline = Instant::now() + QUIET;
                }
                Event::Begun | Event::Deadline => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// What can happen to a connection besides its requests.
enum Event {
    /// A shutdown has begun.
    Begun,
    /// A shutdown has come to its end.
    Ended,
    /// The time is over in which a request should have come.
    Deadline,
}

async fn next(shutdown: &Shutdown, deadline: Instant, ending: bool) -> Event {
    tokio::select! {
        biased;
        () = shutdown.begun(), if !ending => Event::Begun,
        () = shutdown.ended(), if ending => Event::Ended,
        () = sleep_until(deadline), if !ending => Event::Deadline,
    }
}

/// Counts what a connection ended by, where that was a head. Clients that vanish are nobody's fault.
fn note(error: &(dyn StdError + 'static), metrics: &Metrics) {
    if error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_parse() || error.is_timeout()) {
        metrics.head_refused();
    }
    tracing::debug!(error, "a connection ended");
}

#[cfg(test)]
mod tests;
