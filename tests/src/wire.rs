//! HTTP/1.1 with exact bytes: a client that sends whatever it is told, and a server that keeps whatever it gets.
//!
//! A library would refuse, sort or repair a part of what the corpus sends.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// The most fields of a message that is read here.
const MAX_FIELDS: usize = 512;
/// Whoever says nothing for so long never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names in lower case, and values, in order.
pub type Fields = Vec<(String, Vec<u8>)>;

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The fields.
    pub fields: Fields,
    /// The body, put together where it came in chunks.
    pub body: Vec<u8>,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The target.
    pub target: Vec<u8>,
    /// The fields.
    pub fields: Fields,
    /// The body, put together where it came in chunks.
    pub body: Vec<u8>,
}

/// The values of every field of that name.
pub fn values<'f, 'n>(fields: &'f Fields, name: &'n str) -> impl Iterator<Item = &'f [u8]> + use<'f, 'n> {
    fields.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_slice())
}

impl Answer {
    /// An answer with a body.
    #[must_use]
    pub fn new(status: u16, body: Vec<u8>) -> Answer {
        Answer { status, fields: Vec::new(), body }
    }

    /// The value of the first field of that name, as text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        values(&self.fields, name).next().and_then(|value| str::from_utf8(value).ok())
    }

    /// The public code of a problem document; nothing where the answer is none.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let document: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(document.get("code")?.as_str()?.to_owned())
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target.escape_ascii())?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, " | {name}: {}", value.escape_ascii()))
    }
}

impl Received {
    /// The value of the first field of that name, as text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        values(&self.fields, name).next().and_then(|value| str::from_utf8(value).ok())
    }
}

/// Opens a connection that does not wait forever.
///
/// # Errors
/// Where there is none.
pub fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("no connection to {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The line by which a proxy in front tells whom it speaks for (PROXY protocol, version 1).
#[must_use]
pub fn proxy_line(peer: IpAddr) -> Vec<u8> {
    let (family, local) = match peer {
        IpAddr::V4(_) => ("TCP4", "127.0.0.1"),
        IpAddr::V6(_) => ("TCP6", "::1"),
    };
    format!("PROXY {family} {peer} {local} 40000 80\r\n").into_bytes()
}

/// Sends bytes and reads the answer that is not informational. To a HEAD there is no body, whatever the answer says.
///
/// # Errors
/// Where the connection breaks before, or what comes is no HTTP/1.1.
pub fn exchange(stream: &mut (impl Read + Write), bytes: &[u8], is_head: bool) -> Result<Answer> {
    // Whoever refuses a head may answer and hang up while the rest is sent; the answer counts.
    let sent = stream.write_all(bytes).and_then(|()| stream.flush());
    let mut reader = Reader { stream, buffer: Vec::new() };
    loop {
        let answer = match reader.answer(is_head) {
            Ok(answer) => answer,
            Err(error) => return Err(sent.err().map_or(error, anyhow::Error::from)),
        };
        if answer.status >= 200 || answer.status == 101 {
            return Ok(answer);
        }
    }
}

/// Sends one request on a connection of its own and reads the answer.
///
/// # Errors
/// As of [`exchange`].
pub fn ask(to: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let bytes = [head.as_bytes(), body].concat();
    exchange(&mut connect(to)?, &bytes, method == "HEAD")
}

struct Reader<'s, S> {
    stream: &'s mut S,
    buffer: Vec<u8>,
}

impl<S: Read> Reader<'_, S> {
    /// False at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        let read = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.extend(chunk.get(..read).unwrap_or_default());
        Ok(read > 0)
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < bytes {
            ensure!(self.more()?, "the body ends early");
        }
        Ok(self.buffer.drain(..bytes).collect())
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(line);
            }
            ensure!(self.more()?, "a line ends early");
        }
    }

    fn answer(&mut self, is_head: bool) -> Result<Answer> {
        loop {
            let mut fields = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut parsed = httparse::Response::new(&mut fields);
            let buffer = self.buffer.clone();
            if let httparse::Status::Complete(end) = parsed.parse(&buffer)? {
                let status = parsed.code.context("an answer has a status")?;
                let fields = owned(parsed.headers);
                self.buffer.drain(..end);
                let is_empty = is_head || status < 200 || status == 204 || status == 304;
                let body = if is_empty { Vec::new() } else { self.body(&fields, true)? };
                return Ok(Answer { status, fields, body });
            }
            ensure!(self.more()?, "the connection ends without an answer");
        }
    }

    /// Nothing at the end of the connection.
    fn request(&mut self) -> Result<Option<Received>> {
        loop {
            let mut fields = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut parsed = httparse::Request::new(&mut fields);
            let buffer = self.buffer.clone();
            if let httparse::Status::Complete(end) = parsed.parse(&buffer)? {
                let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
                    bail!("there is no request line")
                };
                let (method, target) = (method.to_owned(), target.as_bytes().to_vec());
                let fields = owned(parsed.headers);
                self.buffer.drain(..end);
                let body = self.body(&fields, false)?;
                return Ok(Some(Received { method, target, fields, body }));
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    fn body(&mut self, fields: &Fields, until_end: bool) -> Result<Vec<u8>> {
        if values(fields, "transfer-encoding").any(|value| value.eq_ignore_ascii_case(b"chunked")) {
            let mut body = Vec::new();
            loop {
                let line = String::from_utf8(self.line()?)?;
                let length = line.split(';').next().unwrap_or_default().trim();
                let length = usize::from_str_radix(length, 16).with_context(|| format!("`{line}` is no length"))?;
                if length == 0 {
                    while !self.line()?.is_empty() {}
                    return Ok(body);
                }
                body.extend(self.take(length)?);
                ensure!(self.line()?.is_empty(), "a chunk is longer than it says");
            }
        }
        if let Some(length) = values(fields, "content-length").next() {
            return self.take(str::from_utf8(length)?.trim().parse()?);
        }
        if until_end {
            while self.more()? {}
            return Ok(std::mem::take(&mut self.buffer));
        }
        Ok(Vec::new())
    }
}

fn owned(fields: &[httparse::Header<'_>]) -> Fields {
    fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect()
}

/// A server on a free port of loopback. Its threads end with the program.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts one that answers as `handle` says. Each connection has a thread, so it may wait.
    ///
    /// # Errors
    /// Where no port can be had.
    pub fn start(handle: impl Fn(Received) -> Answer + Send + Sync + 'static) -> Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let handle = Arc::new(handle);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let handle = Arc::clone(&handle);
                thread::spawn(move || {
                    if let Err(error) = serve(stream, handle.as_ref()) {
                        eprintln!("a connection to a server of the tests broke: {error:#}");
                    }
                });
            }
        });
        Ok(Server { address })
    }
}

fn serve(mut stream: TcpStream, handle: &(impl Fn(Received) -> Answer + ?Sized)) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let mut reader = Reader { stream: &mut stream, buffer: std::mem::take(&mut buffer) };
        // A proxy that ends takes its connections along.
        let Ok(Some(request)) = reader.request() else { return Ok(()) };
        buffer = std::mem::take(&mut reader.buffer);
        let is_head = request.method == "HEAD";
        let answer = handle(request);
        let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status).into_bytes();
        for (name, value) in &answer.fields {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if answer.status != 204 {
            head.extend(format!("content-length: {}\r\n", answer.body.len()).into_bytes());
        }
        head.extend(b"\r\n");
        let body = if is_head { &[][..] } else { &answer.body };
        if stream.write_all(&[head.as_slice(), body].concat()).is_err() {
            return Ok(());
        }
    }
}

/// An upstream that says 200 to everything and keeps what it got.
pub struct Upstream {
    server: Server,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Upstream {
    /// The field by which its answers are told from those of a proxy.
    pub const MARK: &'static str = "x-upstream-of-the-tests";

    /// Starts it.
    ///
    /// # Errors
    /// Where no port can be had.
    pub fn start() -> Result<Upstream> {
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let server = Server::start(move |request| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            Answer { fields: vec![(Upstream::MARK.to_owned(), b"yes".to_vec())], ..Answer::new(200, Vec::new()) }
        })?;
        Ok(Upstream { server, received })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What it got since it was asked last.
    #[must_use]
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
