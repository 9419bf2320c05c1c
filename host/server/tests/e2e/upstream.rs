//! Upstreams: one that tells what it received, and one that the test plays itself.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::http::Message;
use crate::server::LONG;

/// Answers every request with 200, and keeps what it received.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Message>>>,
}

impl Echo {
    pub(crate) fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let echo = Echo { address: listener.local_addr().unwrap(), received: Arc::default() };
        let received = Arc::clone(&echo.received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let received = Arc::clone(&received);
                std::thread::spawn(move || answer(stream.unwrap(), &received));
            }
        });
        echo
    }

    /// How many requests came through.
    pub(crate) fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// The request that came last.
    pub(crate) fn last(&self) -> Message {
        self.received.lock().unwrap().last().cloned().unwrap()
    }
}

fn answer(stream: TcpStream, received: &Mutex<Vec<Message>>) {
    // The answer follows the request at once, whatever the system thinks of small packets.
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    // A proxy that was killed breaks off.
    while let Ok(Some(request)) = Message::request(&mut stream) {
        received.lock().unwrap().push(request);
        if stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").is_err() {
            return;
        }
    }
}

/// An upstream whose part the test plays.
pub(crate) struct Played(TcpListener);

impl Played {
    pub(crate) fn new() -> Played {
        Played(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next connection and the request on it.
    pub(crate) fn accept(&self) -> (BufReader<TcpStream>, Message) {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut stream = BufReader::new(stream);
        let request = Message::request(&mut stream).unwrap().unwrap();
        (stream, request)
    }
}
