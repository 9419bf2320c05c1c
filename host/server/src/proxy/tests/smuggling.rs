//! Requests that two servers might read in two ways. What the upstream receives is one clean request, or nothing.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{Choice, OK, PERMITTED, Raw, World, field};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: api.example\r\nx-api-key: k\r\n\r\n";

async fn world() -> (World, Raw) {
    let upstream = Raw::answering(OK).await;
    (Choice::of(&upstream.origin).start(), upstream)
}

/// Sends it, and expects a refusal and a closed connection.
async fn refused(world: &World, upstream: &mut Raw, what: &str, request: &str, status: &str) {
    let answer = world.exchange(request).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: the connection ends: {answer}");
    assert!(upstream.is_empty(), "{what}");
}

#[tokio::test]
async fn a_body_whose_end_can_be_told_in_two_ways_is_refused() {
    let (world, mut upstream) = world().await;
    for framing in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 5\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: \r\n",
        "content-length: 18446744073709551616\r\n",
        "content_length: 5\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer_encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: \u{b}chunked\r\n",
    ] {
        let head = PERMITTED.replace("GET", "POST");
        refused(&world, &mut upstream, framing, &format!("{head}{framing}\r\n0\r\n\r\n{SMUGGLED}"), "400").await;
    }
    let old = format!(
        "POST /events HTTP/1.0\r\nhost: api.example\r\nx-api-key: k\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
    );
    refused(&world, &mut upstream, "HTTP/1.0", &old, "400").await;
}

/// hyper takes Transfer-Encoding and drops Content-Length, as RFC 9112 section 6.3 permits, before anybody can see that both
/// were there. Then it closes the connection, and what goes upstream is framed once.
#[tokio::test]
async fn content_length_beside_chunked_goes_no_further_and_ends_the_connection() {
    let (world, mut upstream) = world().await;
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\ncontent-length: 7\r\n",
    ] {
        let head = PERMITTED.replace("GET", "POST");
        let answer = world.exchange(format!("{head}{framing}\r\n2\r\nab\r\n0\r\n\r\n{SMUGGLED}")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{framing}: {answer}");
        let received = upstream.request().await;
        assert_eq!(field(&received, "content-length"), None, "{received}");
        assert_eq!(field(&received, "transfer-encoding"), Some("chunked"));
        assert!(received.ends_with("\r\n\r\n2\r\nab\r\n0\r\n\r\n"), "{received}");
        assert!(upstream.is_empty(), "{framing}");
    }
}

#[tokio::test]
async fn the_same_length_twice_is_sent_once() {
    let (world, mut upstream) = world().await;
    let head = PERMITTED.replace("GET", "POST");
    let lengths = "content-length: 2\r\ncontent-length: 2\r\nconnection: close\r\n";
    assert!(world.exchange(format!("{head}{lengths}\r\nab")).await.starts_with("HTTP/1.1 200 OK"));
    let received = upstream.request().await;
    assert_eq!(field(&received, "content-length"), Some("2"));
}

#[tokio::test]
async fn a_head_that_is_no_http_is_refused() {
    let (world, mut upstream) = world().await;
    for (what, request) in [
        ("a folded field", format!("{PERMITTED}x-a: b\r\n c: d\r\n\r\n")),
        ("a space before the colon", format!("{PERMITTED}x-a : b\r\n\r\n")),
        ("a bare CR", format!("{PERMITTED}x-a: b\rx-c: d\r\n\r\n")),
        ("a NUL", format!("{PERMITTED}x-a: b\0c\r\n\r\n")),
        ("a line without a colon", format!("{PERMITTED}nonsense\r\n\r\n")),
        ("an empty name", format!("{PERMITTED}: b\r\n\r\n")),
        ("a name that is no token", format!("{PERMITTED}x(a): b\r\n\r\n")),
        ("a space in the target", PERMITTED.replace("/events", "/events x") + "\r\n"),
        ("a tab behind the method", PERMITTED.replace("GET ", "GET\t") + "\r\n"),
        ("two spaces", PERMITTED.replace("GET ", "GET  ") + "\r\n"),
        ("another version", PERMITTED.replace("HTTP/1.1", "HTTP/1.2") + "\r\n"),
        ("a method in lower case", PERMITTED.replace("GET", "get") + "connection: close\r\n\r\n"),
        ("CONNECT", PERMITTED.replace("GET /events", "CONNECT api.example:80") + "connection: close\r\n\r\n"),
        ("TRACE", PERMITTED.replace("GET", "TRACE") + "connection: close\r\n\r\n"),
        ("an asterisk", PERMITTED.replace("GET /events", "OPTIONS *") + "connection: close\r\n\r\n"),
        ("another scheme", PERMITTED.replace("/events", "ftp://api.example/events") + "connection: close\r\n\r\n"),
        ("two hosts", format!("{PERMITTED}host: api.example\r\nconnection: close\r\n\r\n")),
        (
            "another host in the target",
            PERMITTED.replace("/events", "http://b.example/events") + "connection: close\r\n\r\n",
        ),
        (
            "a user in the target",
            PERMITTED.replace("/events", "http://u@api.example/events") + "connection: close\r\n\r\n",
        ),
        ("a key that Connection takes away", format!("{PERMITTED}connection: close, x-api-key\r\n\r\n")),
        ("a forged tenant in disguise", format!("{PERMITTED}x_portcullis_tenant: b\r\nconnection: close\r\n\r\n")),
    ] {
        refused(&world, &mut upstream, what, &request, "400").await;
    }
    let huge = "v".repeat(200 * 1024);
    for (what, request, status) in [
        ("a huge field", format!("{PERMITTED}x-a: {huge}\r\n\r\n"), "431"),
        ("200 fields", format!("{PERMITTED}{}\r\n", "x-a: b\r\n".repeat(200)), "431"),
        (
            "fields beyond the gate's limit",
            format!("{PERMITTED}x-a: {}\r\nconnection: close\r\n\r\n", "v".repeat(66_000)),
            "431",
        ),
        (
            "a long target",
            PERMITTED.replace("/events", &format!("/{}", "a".repeat(9_000))) + "connection: close\r\n\r\n",
            "414",
        ),
    ] {
        let answer = world.exchange(&request).await;
        // A client that is still writing may get a reset instead of the answer.
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(upstream.is_empty(), "{what}");
    }
}

/// A lone LF ends a line (RFC 9112 section 2.2 permits it). What goes upstream is written anew, with CRLF.
#[tokio::test]
async fn lines_that_end_in_lf_are_written_anew() {
    let (world, mut upstream) = world().await;
    let answer = world.exchange(format!("{PERMITTED}x-a: b\nconnection: close\n\n").replace("\r\n", "\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let received = upstream.request().await;
    assert!(received.contains("\r\nx-a: b\r\n"), "{received}");
    assert_eq!(received.matches('\n').count(), received.matches("\r\n").count());
}

#[tokio::test]
async fn a_fragment_is_neither_decided_nor_forwarded() {
    let (world, mut upstream) = world().await;
    let answer = world.exchange(PERMITTED.replace("/events", "/events#/../admin") + "connection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(upstream.request().await.starts_with("GET /events HTTP/1.1\r\n"));
}

#[tokio::test]
async fn each_request_on_a_connection_is_decided_on_its_own() {
    let (mut world, mut upstream) = world().await;
    let keyless = "GET /events HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n\r\n";
    let body = "POST /events HTTP/1.1\r\nhost: api.example\r\nx-api-key: k\r\ncontent-length: 4\r\n\r\nGET ";
    let answer = world.exchange(format!("{PERMITTED}\r\n{body}{keyless}{SMUGGLED}")).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).filter_map(|part| part.get(..3)).collect();
    assert_eq!(statuses, ["200", "200", "401"]);
    assert_eq!(world.reasons().await, [0, 0, 70]);
    assert!(upstream.request().await.starts_with("GET /events "));
    assert!(upstream.request().await.ends_with("\r\n\r\nGET "));
    assert!(upstream.is_empty());
}

#[tokio::test]
async fn an_absolute_target_with_its_own_host_goes_upstream_in_origin_form() {
    let (world, mut upstream) = world().await;
    let request = PERMITTED.replace("/events", "http://api.example/events?a=1") + "connection: close\r\n\r\n";
    assert!(world.exchange(request).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let received = upstream.request().await;
    assert!(received.starts_with("GET /events?a=1 HTTP/1.1\r\n"), "{received}");
    assert_eq!(field(&received, "host"), Some("api.example"));
}

#[tokio::test]
async fn chunks_that_are_none_break_the_request_off() {
    let (world, mut upstream) = world().await;
    for (what, chunks) in [
        ("a line feed in an extension", "1;a\n=b\r\nx\r\n0\r\n\r\n".to_owned()),
        ("a length beyond 64 bits", "fffffffffffffffff\r\nx\r\n0\r\n\r\n".to_owned()),
        ("a sign", "+1\r\nx\r\n0\r\n\r\n".to_owned()),
        ("a prefix", "0x1\r\nx\r\n0\r\n\r\n".to_owned()),
        ("a chunk longer than it says", "1\r\nxy\r\n0\r\n\r\n".to_owned()),
        ("endless extensions", format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(100_000))),
    ] {
        let head = PERMITTED.replace("GET", "POST");
        let request = format!("{head}transfer-encoding: chunked\r\n\r\n1\r\na\r\n{chunks}{SMUGGLED}");
        let answer = world.exchange(request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
        assert!(!answer.contains("200 OK"), "{what}: {answer}");
        let received = upstream.request().await;
        assert!(received.starts_with("CUT ") && !received.contains("smuggled"), "{what}: {received}");
    }
    let head = PERMITTED.replace("GET", "POST");
    let extended = format!("{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n");
    assert!(world.exchange(extended).await.starts_with("HTTP/1.1 200 OK"));
    assert!(upstream.request().await.ends_with("\r\n\r\n1\r\nx\r\n0\r\n\r\n"), "extensions end here");
}

/// A HEADERS frame with literal fields, which end both the fields and the stream.
fn headers_frame(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // RFC 7541 section 6.2.2: a literal without indexing, its name new, neither in Huffman code.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[1, 0x5, 0, 0, 0, 1]);
    frame.extend_from_slice(&block);
    frame
}

/// What an HTTP/2 request comes to: the type of the first frame on its stream, or of the end of the connection.
async fn http2(world: &World, fields: &[(&str, &str)]) -> u8 {
    let mut stream = world.connect().await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&headers_frame(fields));
    stream.write_all(&bytes).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            0 | 1 | 3 | 7 => return head[3],
            _ => {}
        }
    }
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

#[tokio::test]
async fn http2_requests_that_would_be_others_in_http1_are_refused() {
    let (world, mut upstream) = world().await;
    let good = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/events"),
        (":authority", "api.example"),
        ("x-api-key", "k"),
    ];
    assert_eq!(http2(&world, &good).await, HEADERS);
    assert!(upstream.request().await.starts_with("GET /events HTTP/1.1\r\n"));
    let with = |more: (&'static str, &'static str)| [&good[..], &[more]].concat();
    for (what, fields) in [
        ("connection", with(("connection", "close"))),
        ("transfer-encoding", with(("transfer-encoding", "chunked"))),
        ("upgrade", with(("upgrade", "websocket"))),
        ("te", with(("te", "gzip"))),
        ("a field in upper case", with(("X-A", "b"))),
        ("a line feed", with(("x-a", "b\r\nx-c: d"))),
        ("a pseudo-field behind fields", with((":path", "/other"))),
        ("an unknown pseudo-field", [&[(":host", "b")], &good[..]].concat()),
        ("no path", [&good[..2], &good[3..]].concat()),
        ("a path twice", [&[(":path", "/other")], &good[..]].concat()),
        ("a space in the path", [&[(":path", "/events HTTP/1.1")], &good[..2], &good[3..]].concat()),
    ] {
        let answer = http2(&world, &fields).await;
        assert!(answer == RST_STREAM || answer == GOAWAY, "{what}: {answer}");
        assert!(upstream.is_empty(), "{what}");
    }
    // These the gate refuses, with an answer.
    for (what, fields) in [
        ("another Host", with(("host", "b.example"))),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "api.example"), ("x-api-key", "k")]),
    ] {
        assert_eq!(http2(&world, &fields).await, HEADERS, "{what}");
        assert!(upstream.is_empty(), "{what}");
    }
}
