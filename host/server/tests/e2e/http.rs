//! HTTP/1.1 as the tests speak it, on either end: blocking, and strict about where a message ends.

use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::server::LONG;

/// A request or a response, received as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) start: String,
    /// Names are in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Reads a request, or nothing where the other end has no more.
    pub(crate) fn request(from: &mut impl BufRead) -> io::Result<Option<Message>> {
        let Some(mut message) = Message::head(from)? else { return Ok(None) };
        let is_framed = message.field("content-length").is_some() || message.field("transfer-encoding").is_some();
        if is_framed {
            message.body = message.read_body(from)?;
        }
        Ok(Some(message))
    }

    /// Reads a response to a request with that method. One that breaks off before its end is an error.
    pub(crate) fn response(from: &mut impl BufRead, method: &str) -> io::Result<Message> {
        let mut message = Message::head(from)?.ok_or_else(cut)?;
        let has_body = method != "HEAD" && !matches!(message.status(), 101 | 204 | 304);
        if has_body {
            message.body = message.read_body(from)?;
        }
        Ok(message)
    }

    fn head(from: &mut impl BufRead) -> io::Result<Option<Message>> {
        let start = line(from)?;
        if start.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let text = line(from)?;
            match text.trim_end() {
                "" if text.is_empty() => return Err(cut()),
                "" => break,
                field => {
                    let (name, value) = field.split_once(':').ok_or_else(cut)?;
                    fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
            }
        }
        Ok(Some(Message { start: start.trim_end().to_owned(), fields, body: Vec::new() }))
    }

    fn read_body(&self, from: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.field("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(line(from)?.trim(), 16).map_err(|_| cut())?;
                let mut chunk = vec![0; size + 2];
                from.read_exact(&mut chunk)?;
                if size == 0 {
                    return Ok(body);
                }
                body.extend_from_slice(&chunk[..size]);
            }
        }
        match self.field("content-length") {
            Some(length) => {
                body.resize(length.parse().map_err(|_| cut())?, 0);
                from.read_exact(&mut body)?;
            }
            None => drop(from.read_to_end(&mut body)?),
        }
        Ok(body)
    }

    /// The value of a field that is there once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is given twice: {self:?}");
        value
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.start, self.text()))
    }

    /// The same message, if it has that status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Message {
        assert_eq!(self.status(), status, "{} {}", self.start, self.text());
        self
    }

    /// Asserts that it is a problem with that status and code, and gives what it says.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        let told = self.expect(status).json();
        assert_eq!(told["code"], code, "{told}");
        told
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    from.read_line(&mut text)?;
    Ok(text)
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the message breaks off")
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: String,
    head: String,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: &str, target: &str) -> Call {
        Call { method: method.to_owned(), head: format!("{method} {target} HTTP/1.1\r\n"), body: Vec::new() }
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Call {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Call {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.field("content-length", &length)
    }

    pub(crate) fn json(self, body: &Value) -> Call {
        self.field("content-type", "application/json").body(body.to_string())
    }

    /// The head, ended, and the body.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// Sends it on a connection of its own.
    pub(crate) fn try_send(&self, to: SocketAddr) -> io::Result<Message> {
        Connection::open(to)?.send(&self.clone().field("connection", "close"))
    }

    #[track_caller]
    pub(crate) fn send(&self, to: SocketAddr) -> Message {
        self.try_send(to).unwrap_or_else(|error| panic!("{error}: {}", self.head))
    }
}

/// A connection that is kept.
pub(crate) struct Connection(pub(crate) BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(to: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::new(stream)))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    pub(crate) fn send(&mut self, call: &Call) -> io::Result<Message> {
        // The server may answer and close before it took all of a large body.
        let written = self.write(&call.bytes());
        Message::response(&mut self.0, &call.method).map_err(|error| written.err().unwrap_or(error))
    }
}
