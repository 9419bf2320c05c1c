//! Those who call, and the upstream that answers.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::guarded::HOST;

/// A request of 12 fields, as browsers and libraries send them.
const FIELDS: [(&str, &str); 10] = [
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-GB,en;q=0.9"),
    ("cache-control", "no-cache"),
    ("cookie", "session=0123456789abcdef0123456789abcdef"),
    ("origin", "https://www.shop.example"),
    ("referer", "https://www.shop.example/account/rewards"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("x-request-id", "7b0f6c1e-2f0d-4a57-9d0c-5f6f0b1f8a11"),
];

/// Where requests go, and with which key.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

/// What came of some connections within some time.
pub(crate) struct Measured {
    /// One for each request in microseconds.
    pub(crate) latencies_us: Vec<u32>,
    /// Requests a second.
    pub(crate) rate: f64,
}

/// Sends requests over that many connections. Every answer but 200 is an error.
pub(crate) async fn run(target: &Target, connections: u64, warm_up: Duration, length: Duration) -> Result<Measured> {
    let from = Instant::now() + warm_up;
    let until = from + length;
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let client = Client::connect(target.address).await?;
        tasks.push(tokio::spawn(send(client, target.key.clone(), from, until)));
    }
    let mut latencies_us = Vec::new();
    for task in tasks {
        latencies_us.append(&mut task.await??);
    }
    let rate = latencies_us.len() as f64 / length.as_secs_f64();
    Ok(Measured { latencies_us, rate })
}

async fn send(mut client: Client, key: String, from: Instant, until: Instant) -> Result<Vec<u32>> {
    let mut latencies_us = Vec::new();
    loop {
        let began = Instant::now();
        let status = client.ask("x-api-key", &key).await?;
        ensure!(status == 200, "the answer is {status}");
        let ended = Instant::now();
        if ended >= until {
            return Ok(latencies_us);
        }
        // Counted are those that end within the window.
        if ended >= from {
            latencies_us.push(u32::try_from(ended.duration_since(began).as_micros())?);
        }
    }
}

/// A connection on which requests are sent.
pub(crate) struct Client {
    sender: SendRequest<Empty<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client { sender })
    }

    /// Sends a request with a credential in that field. Leads to the status, once the answer is there as a whole.
    pub(crate) async fn ask(&mut self, field: &str, credential: &str) -> Result<u16> {
        let mut request = Request::get("/events/42?limit=20").header("host", HOST).header(field, credential);
        for (name, value) in FIELDS {
            request = request.header(name, value);
        }
        // Each connection has one request at a time; a server may still be taking back its readiness.
        self.sender.ready().await.context("a connection was closed")?;
        let response = self.sender.send_request(request.body(Empty::new())?).await.context("a request failed")?;
        let status = response.status().as_u16();
        response.into_body().collect().await.context("an answer broke off")?;
        Ok(status)
    }
}

/// Starts an upstream that answers at once, with 100 bytes.
pub(crate) async fn upstream() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Small answers go at once. A proxy that goes away is no news.
                let _ = stream.set_nodelay(true);
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    Ok(address)
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from(Bytes::from_static(&[b'x'; 100]))))
}
