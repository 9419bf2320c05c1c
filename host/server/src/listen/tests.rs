use super::*;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LONG: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    Limits { max_connections: 100, head_timeout: LONG, idle_timeout: LONG }
}

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    metrics: Metrics,
}

/// A listener whose service answers with the peer's port, after `held` where the path is `/held`.
fn start(limits: Limits, held: Arc<Semaphore>) -> Running {
    let (shutdown, metrics) = (Shutdown::new(), Metrics::new());
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind("proxy.listen", at, None, limits, metrics.clone()).unwrap();
    let address = listener.address();
    let serving = listener.serve(shutdown.clone(), move |connection| {
        let held = Arc::clone(&held);
        service_fn(move |request: Request<Incoming>| {
            let (held, port) = (Arc::clone(&held), connection.peer.port());
            async move {
                if request.uri().path() == "/held" {
                    held.acquire().await.unwrap().forget();
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(port.to_string()))))
            }
        })
    });
    tokio::spawn(serving);
    Running { address, shutdown, metrics }
}

fn started(limits: Limits) -> Running {
    start(limits, Arc::new(Semaphore::new(0)))
}

/// Reads until the other end closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn requests_are_served_one_after_the_other() {
    let running = started(limits());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(answer.ends_with(&stream.local_addr().unwrap().port().to_string()));
}

#[tokio::test]
async fn a_connection_without_a_request_ends() {
    let running = started(Limits { head_timeout: Duration::from_millis(50), ..limits() });
    // Nothing, the beginning of a head, and the beginning of the preface by which HTTP/2 is told.
    for start in ["", "GET / HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        assert!(!rest(&mut stream).await.contains("200"), "{start}");
    }
    // An idle connection after a request.
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
    let refused = running.metrics.encode();
    assert!(!refused.contains("refused_heads_total 0"), "{refused}");
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let running = started(limits());
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nconnection: close\r\n{}\r\n", "n: v\r\n".repeat(count - 1));
    let value = |length: usize| format!("GET / HTTP/1.1\r\nconnection: close\r\nn: {}\r\n\r\n", "v".repeat(length));
    for (request, status) in [
        (fields(MAX_HEADERS), "200"),
        (fields(MAX_HEADERS + 1), "431"),
        (value(MAX_RAW_HEAD_BYTES / 2), "200"),
        (value(2 * MAX_RAW_HEAD_BYTES), "431"),
        (format!("GET /{} HTTP/1.1\r\nconnection: close\r\n\r\n", "a".repeat(65_600)), "414"),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        // The other end may close before it has taken all of it.
        let _ = stream.write_all(request.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{status} {answer}");
        assert!(status != "200" || !answer.is_empty());
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let running = started(Limits { max_connections: 1, ..limits() });
    let mut first = TcpStream::connect(running.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(running.metrics.encode().contains("portcullis_connections 1\n"));
    drop(first);
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_drain_lets_requests_finish_and_takes_no_more() {
    let held = Arc::new(Semaphore::new(0));
    let running = start(limits(), Arc::clone(&held));
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    wait_for(|| running.metrics.encode().contains("portcullis_connections 2\n")).await;

    let draining = tokio::spawn(running.shutdown.drain(LONG));
    // The idle one is closed without waiting, which shows that the drain has begun.
    rest(&mut idle).await;
    held.add_permits(1);
    assert!(rest(&mut busy).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(draining.await.unwrap(), 0);
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_finish() {
    let running = started(limits());
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    wait_for(|| running.metrics.encode().contains("portcullis_connections 1\n")).await;
    assert_eq!(running.shutdown.drain(Duration::from_millis(20)).await, 1);
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let running = started(limits());
    let error = Listener::bind("admin.listen", running.address, None, limits(), Metrics::new()).err().unwrap();
    let told = error.to_string();
    assert!(told.starts_with(&format!("cannot listen on `{}`, which `admin.listen` asks for: ", running.address)));
    assert!(told.ends_with("stop the program that has the port, or set another"), "{told}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let (ours, theirs) = tokio::io::duplex(16);
    let mut stream = TokioIo::new(Stalling::new(TokioIo::new(ours), Duration::from_millis(20)));
    let error = stream.write_all(&[0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(theirs);
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "it never came to that");
        tokio::task::yield_now().await;
    }
}
