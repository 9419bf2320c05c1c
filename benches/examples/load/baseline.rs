//! The proxy without checks: hyper's server and its pooled client, and between them only what every proxy has to do with a
//! head. Listener and client are set up as in `host/server`, whose decision, journal, metrics and guards it lacks.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::header::{CONNECTION, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Uri, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// What this program is started with to be this proxy.
pub(crate) const ARGUMENT: &str = "baseline";

/// A proxy that runs until it is dropped.
pub(crate) struct Baseline {
    pub(crate) address: SocketAddr,
    _child: Child,
}

/// Starts this program anew as the proxy.
pub(crate) async fn start(upstream: SocketAddr) -> Result<Baseline> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).arg(upstream.to_string()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let told = child.stdout.take().context("it has standard output")?;
    let line = BufReader::new(told).lines().next_line().await?.context("the plain proxy did not start")?;
    Ok(Baseline { address: line.parse()?, _child: child })
}

/// Is the proxy.
pub(crate) async fn serve(upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(256)
        .set_host(false)
        .build(connector);
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(15));
    let http = std::sync::Arc::new(http);
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, http) = (client.clone(), std::sync::Arc::clone(&http));
        tokio::spawn(async move {
            let service = service_fn(move |request| forward(client.clone(), upstream, peer, request));
            // A client that goes away is no news.
            let _ = http.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

async fn forward(
    client: Client<HttpConnector, Incoming>,
    upstream: SocketAddr,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>> {
    end_to_end(request.headers_mut());
    let hop = HeaderValue::from_str(&peer.ip().to_string())?;
    request.headers_mut().insert("x-forwarded-for", hop);
    request.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static("http"));
    if let Some(host) = request.headers().get("host").cloned() {
        request.headers_mut().insert("x-forwarded-host", host);
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = format!("http://{upstream}{target}").parse::<Uri>()?;
    *request.version_mut() = Version::HTTP_11;
    let mut response = client.request(request).await?;
    end_to_end(response.headers_mut());
    Ok(response)
}

/// RFC 9110 section 7.6.1.
fn end_to_end(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    headers.remove(CONNECTION);
    for name in named.iter().chain(&[TE, TRANSFER_ENCODING, UPGRADE]) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}
