//! TLS on either listener: HTTP/2 and HTTP/1.1 by ALPN, and a certificate that is replaced while it runs.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::{LONG, Settings, Site, eventually};
use crate::upstream::Echo;
use crate::world::HOST;

/// Makes a certificate and puts it where the server reads it, as deployments do: written beside and renamed.
fn replace_certificate(site: &Site) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed([HOST.to_owned(), "localhost".to_owned()]).unwrap();
    for (name, text) in [("server.pem", pair.cert.pem()), ("server.key", pair.signing_key.serialize_pem())] {
        let beside = site.path("beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, site.path(name)).unwrap();
    }
    pair.cert.der().clone()
}

/// A client that trusts some certificates and offers some protocols.
struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    fn new(trusted: &[&CertificateDer<'static>], protocols: &[&str]) -> Client {
        let mut roots = RootCertStore::empty();
        for certificate in trusted {
            roots.add((*certificate).clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Client { config: Arc::new(config) }
    }

    async fn connect(&self, to: SocketAddr) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await.unwrap()
    }

    /// The protocol that was agreed on, the status and the body.
    async fn send(&self, to: SocketAddr, request: Request<Full<Bytes>>) -> (String, u16, Bytes) {
        let stream = self.connect(to).await;
        let agreed = stream.get_ref().1.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        let io = TokioIo::new(stream);
        let response = if agreed.as_deref() == Some("h2") {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        let status = response.status().as_u16();
        (agreed.unwrap_or_default(), status, response.into_body().collect().await.unwrap().to_bytes())
    }

    fn seen(&self, to: SocketAddr) -> CertificateDer<'static> {
        let stream = wait(self.connect(to));
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

fn wait<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, task).await.unwrap() })
}

/// A request in the form of either version: HTTP/1.1 with Host, HTTP/2 with an authority.
fn request(
    client: &str,
    method: &str,
    host: &str,
    path: &str,
    field: (&str, &str),
    body: &str,
) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).header(field.0, field.1).header("content-type", "application/json");
    let request = match client {
        "h2" => request.uri(format!("https://{host}{path}")),
        _ => request.uri(path).header("host", host),
    };
    request.body(Full::from(body.to_owned())).unwrap()
}

const TLS: &str = "tls = { certificate = \"server.pem\", key = \"server.key\" }";

#[test]
fn both_listeners_speak_tls_in_both_versions_of_http() {
    let site = Site::without_key(Settings::default());
    let certificate = replace_certificate(&site);
    site.configure(Settings { proxy: TLS, admin: TLS, ..Settings::default() });
    let admin_key = format!("ManagementKey-v1 {}", site.recover());
    let mut server = site.start();
    let echo = Echo::start();
    let ask = |protocol: &str, method: &str, path: &str, body: &str| {
        let client = Client::new(&[&certificate], &[protocol]);
        let request = request(protocol, method, "localhost", path, ("authorization", &admin_key), body);
        let (agreed, status, told) = wait(client.send(server.admin, request));
        assert_eq!(agreed, protocol);
        assert!(status < 300, "{status} {told:?}");
        serde_json::from_slice::<serde_json::Value>(&told).unwrap()
    };
    ask("h2", "POST", "/v1/tenants", "{\"id\": \"acme\"}");
    let service = format!("{{\"id\": \"shop\", \"hosts\": [\"{HOST}\"], \"upstream\": \"http://{}\"}}", echo.address);
    ask("http/1.1", "POST", "/v1/services", &service);
    ask("h2", "PUT", "/v1/services/shop/endpoints/events", "{\"paths\": [\"/events\"]}");
    let group = "{\"id\": \"all\", \"permissions\": [{\"endpoint\": \"shop/events\"}]}";
    ask("http/1.1", "POST", "/v1/tenants/acme/groups", group);
    let made = ask("h2", "POST", "/v1/tenants/acme/tenant-keys", "{\"name\": \"Ours\", \"group\": \"all\"}");
    let key = made["key"].as_str().unwrap();

    for protocol in ["h2", "http/1.1"] {
        for (presented, status) in [(key, 200), ("ptc_nobody", 401)] {
            let client = Client::new(&[&certificate], &[protocol]);
            let request = request(protocol, "POST", HOST, "/events?x=1", ("x-api-key", presented), "a body");
            let (agreed, answered, _) = wait(client.send(server.proxy, request));
            assert_eq!((agreed.as_str(), answered), (protocol, status));
        }
        let received = echo.last();
        assert_eq!((received.start.as_str(), received.text().as_str()), ("POST /events?x=1 HTTP/1.1", "a body"));
        assert_eq!((received.field("host"), received.field("x-forwarded-proto")), (Some(HOST), Some("https")));
    }
    assert_eq!(echo.count(), 2);
    // Whoever offers both gets the newer, and whoever offers none the older.
    let agreed = |protocols: &[&str]| {
        let stream = wait(Client::new(&[&certificate], protocols).connect(server.proxy));
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(agreed(&["http/1.1", "h2"]), Some(b"h2".to_vec()));
    assert_eq!(agreed(&[]), None);
    server.stop();
}

#[test]
fn a_certificate_that_is_replaced_is_served_without_a_restart() {
    let site = Site::without_key(Settings::default());
    let first = replace_certificate(&site);
    site.configure(Settings { proxy: TLS, ..Settings::default() });
    let mut server = site.start();
    assert_eq!(Client::new(&[&first], &[]).seen(server.proxy), first);
    let second = replace_certificate(&site);
    let either = Client::new(&[&first, &second], &[]);
    eventually("the new certificate is served", || (either.seen(server.proxy) == second).then_some(()));
    // What cannot be used is not, and the log says so.
    std::fs::write(site.path("server.pem"), "nonsense").unwrap();
    eventually("the fault is logged", || server.stderr().contains("server.pem").then_some(()));
    assert_eq!(either.seen(server.proxy), second);
    server.stop();
}

#[test]
fn plain_text_is_not_answered_on_a_tls_listener() {
    let site = Site::without_key(Settings::default());
    replace_certificate(&site);
    site.configure(Settings { proxy: TLS, ..Settings::default() });
    let mut server = site.start();
    let plain = crate::http::Call::new("GET", "/events").field("host", HOST).try_send(server.proxy);
    assert!(plain.is_err(), "{plain:?}");
    server.stop();
}
