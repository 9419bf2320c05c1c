//! A proxy with its engine, and upstreams that keep what they received.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use portcullis_engine::{Config, Engine};
use portcullis_model::id::Revision;
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{CredentialState, Delta, Source};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::failures;
use crate::journal::{self, Batches};
use crate::listen::{Limits, Listener, Shutdown};
use crate::metrics::Metrics;
use crate::proxy::{Bounds, ClientSettings, Preflight, Proxy, Routing, Service, Upstream, Wiring};

/// By when a test gives up. Nothing is measured by it.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// A service with three ways to present a key, one that is not served here, and keys `k` and `w`.
const SOURCE: &str = r#"{
    "format": 1, "revision": 1, "seed": "000102030405060708090a0b0c0d0e0f",
    "services": [
        {"id": "shop", "hosts": ["api.example"],
         "accept": [{"header": "X-API-Key", "kinds": ["tenant"]}, {"parameter": "api_key", "kinds": ["workspace"]}],
         "endpoints": [{"id": "events", "paths": ["/events", "/events/{id}"]}]},
        {"id": "admin", "hosts": ["admin.example"], "endpoints": [{"id": "all", "prefixes": ["/"]}]}
    ],
    "tenants": [{"id": "acme"}],
    "groups": [{"id": "all", "tenant": "acme", "permissions": [{"endpoint": "shop/events"}, {"endpoint": "admin/all"}]}],
    "credentials": [
        {"id": "key", "tenant": "acme", "kind": "tenant", "group": "all", "secrets": [
            {"version": 1, "sha256": "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"}]},
        {"id": "workspace", "tenant": "acme", "kind": "workspace", "secrets": [
            {"version": 1, "sha256": "50e721e49c013f00c62cf59f2163542a9d8df02464efeb615d31051b0fddc326"}]}
    ]
}"#;

/// A head that is permitted, ready to be continued.
pub(super) const PERMITTED: &str = "GET /events HTTP/1.1\r\nhost: api.example\r\nx-api-key: k\r\n";

pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) engine: Arc<Engine>,
    pub(super) revisions: watch::Sender<u64>,
    pub(super) metrics: Metrics,
    pub(super) batches: Batches,
    pub(super) shutdown: Shutdown,
}

/// What a test chooses of a world.
pub(super) struct Choice {
    pub(super) service: Service,
    pub(super) idle_timeout: Duration,
    pub(super) request_body_limit: Option<u64>,
    pub(super) signed_body_limit: u64,
    pub(super) authorities: Option<std::path::PathBuf>,
    pub(super) queue: usize,
    pub(super) tls: Option<ServerConfig>,
}

impl Choice {
    pub(super) fn of(upstream: &str) -> Self {
        let service = Service {
            upstream: Upstream::parse(upstream).unwrap(),
            preserve_host: true,
            response_timeout: LONG,
            id: "shop".parse().unwrap(),
            leaked: None,
            reserved: None,
            errors: crate::proxy::ErrorForm::Problem,
            preflight: None,
        };
        Choice {
            service,
            idle_timeout: LONG,
            request_body_limit: None,
            signed_body_limit: 8 << 20,
            authorities: None,
            queue: 1000,
            tls: None,
        }
    }

    pub(super) fn with_preflight(mut self, origins: &[&str]) -> Self {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let headers = ["X-API-Key".to_owned(), "Content-Type".to_owned()];
        self.service.preflight = Preflight::new(origins, &headers, 600);
        self
    }

    pub(super) fn start(self) -> World {
        let engine = Arc::new(engine());
        let (sender, revisions) = watch::channel(1);
        let (journal, batches) = journal::channel(self.queue);
        let metrics = Metrics::new();
        let routing = Routing::new([("shop".to_owned(), self.service)]);
        let proxy = Proxy::new(Wiring {
            replays: Arc::new(portcullis_tower::replays::Replays::new(1024)),
            engine: Arc::clone(&engine),
            routing: Arc::new(ArcSwap::from_pointee(routing)),
            revisions,
            journal,
            reports: crate::leaked::channel().0,
            issuing: None,
            failures: failures::channel(watch::channel(Arc::default()).1, metrics.clone()).0,
            metrics: metrics.clone(),
            bounds: Bounds {
                idle_timeout: self.idle_timeout,
                request_body_limit: self.request_body_limit,
                signed_body_limit: self.signed_body_limit,
            },
            clients: ClientSettings {
                connect_timeout: LONG,
                idle_timeout: LONG,
                idle_connections: 8,
                authorities: self.authorities,
            },
        })
        .unwrap();
        let limits = Limits { max_connections: 100, head_timeout: LONG, idle_timeout: LONG };
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind("proxy.listen", at, self.tls, limits, metrics.clone()).unwrap();
        let address = listener.address();
        let shutdown = Shutdown::new();
        tokio::spawn(listener.serve(shutdown.clone(), move |connection| proxy.service(connection)));
        World { address, engine, revisions: sender, metrics, batches, shutdown }
    }
}

pub(super) fn source() -> Source {
    Source::from_json(SOURCE.as_bytes()).unwrap()
}

fn engine() -> Engine {
    // Compiled code is kept for the other tests of this process.
    static CACHE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = CACHE.get_or_init(|| tempfile::tempdir().unwrap()).path().join("cache");
    let workers = NonZeroUsize::new(2).unwrap();
    let engine = Engine::new(&Config { workers, cache: Some(folder), ..Config::default() }).unwrap();
    engine.load(build(&source()).unwrap().into()).unwrap();
    engine.confirm(clock::now());
    engine
}

impl World {
    /// Changes the state of a key and tells of the revision.
    pub(super) fn set_state(&self, number: usize, state: CredentialState) {
        let from = *self.revisions.borrow();
        let mut delta = Delta::empty(Revision(from), Revision(from + 1), source().seed);
        let mut credential = source().credentials.remove(number);
        credential.state = state;
        delta.credentials.push(credential);
        let revision = self.engine.apply(&build_delta(&delta).unwrap()).unwrap();
        self.revisions.send(revision.0).unwrap();
    }

    /// Sends bytes on a connection of their own and reads until the proxy closes it.
    pub(super) async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The proxy may have closed before it took all of it.
        let _ = stream.write_all(request.as_ref()).await;
        rest(&mut stream).await
    }

    /// A request that is permitted, with more fields, closing its connection.
    pub(super) async fn permitted(&self, fields: &str) -> String {
        self.exchange(format!("{PERMITTED}{fields}connection: close\r\n\r\n")).await
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The reasons of the next decisions.
    pub(super) async fn reasons(&mut self) -> Vec<u16> {
        let batch = tokio::time::timeout(LONG, self.batches.next()).await.unwrap().unwrap();
        batch.records.iter().map(|record| record.reason).collect()
    }

    /// Waits until a line of the metrics is there.
    pub(super) async fn measured(&self, line: &str) {
        let deadline = tokio::time::Instant::now() + LONG;
        while !self.metrics.encode().lines().any(|known| known == line) {
            assert!(tokio::time::Instant::now() < deadline, "{line}\n{}", self.metrics.encode());
            tokio::task::yield_now().await;
        }
    }
}

/// Reads until the other end closes; a reset is an end as well.
pub(super) async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the text ends in `end`.
pub(super) async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let byte = tokio::time::timeout(LONG, stream.read_u8()).await.unwrap();
        match byte {
            Ok(byte) => bytes.push(byte),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The text without lines of fields that differ from run to run.
pub(super) fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let head = message.split("\r\n\r\n").next()?;
    let mut found = head.lines().skip(1).filter_map(|line| line.split_once(": ")).filter(|(n, _)| *n == name);
    let (_, value) = found.next()?;
    assert!(found.next().is_none(), "{name} is given twice in {head}");
    Some(value)
}

/// An upstream that keeps the bytes of every request and answers with bytes.
pub(super) struct Raw {
    pub(super) origin: String,
    received: mpsc::UnboundedReceiver<String>,
}

impl Raw {
    /// Answers all requests with the same bytes.
    pub(super) async fn answering(response: &'static str) -> Self {
        Self::start(move |_| response.to_owned()).await
    }

    /// Answers each request with what `answer` makes of it.
    pub(super) async fn start(answer: impl Fn(&str) -> String + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, sender.clone(), answer.clone()));
            }
        });
        Raw { origin, received }
    }

    /// The next request that was received.
    pub(super) async fn request(&mut self) -> String {
        tokio::time::timeout(LONG, self.received.recv()).await.unwrap().unwrap()
    }

    /// Whether there is none that was not asked for.
    pub(super) fn is_empty(&mut self) -> bool {
        self.received.try_recv().is_err()
    }
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn serve(mut stream: TcpStream, sender: mpsc::UnboundedSender<String>, answer: impl Fn(&str) -> String) {
    let mut bytes = Vec::new();
    loop {
        let length = loop {
            if let Some(length) = message_length(&bytes) {
                break length;
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => {
                    if !bytes.is_empty() {
                        let _ = sender.send(format!("CUT {}", String::from_utf8_lossy(&bytes)));
                    }
                    return;
                }
                Ok(_) => {}
            }
        };
        let rest = bytes.split_off(length);
        let request = String::from_utf8(std::mem::replace(&mut bytes, rest)).unwrap();
        let response = answer(&request);
        let _ = sender.send(request);
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The length of the request that the bytes begin with, once it is there as a whole.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        let end = bytes[head..].windows(5).position(|end| end == b"0\r\n\r\n" || end == b"0\r\nx-")?;
        let trailers = bytes[head + end..].windows(4).position(|end| end == b"\r\n\r\n")?;
        return Some(head + end + trailers + 4);
    }
    let length = field(&text, "content-length").map_or(0, |length| length.parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// A certificate for `localhost` in a file, and how to serve with it.
pub(super) fn certificate(folder: &std::path::Path) -> (std::path::PathBuf, ServerConfig) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = crate::tls::Files { certificate: folder.join("c.pem"), key: folder.join("k.pem") };
    std::fs::write(&files.certificate, pair.cert.pem()).unwrap();
    std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    let config = crate::tls::Identity::load(files.clone()).unwrap().server_config().unwrap();
    (files.certificate, config)
}

pub(super) fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}
