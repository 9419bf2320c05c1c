//! A server that stands in for the admin API: it records what it is asked and answers what it was told to.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::command::{Files, Ran, run_in};

/// The management key that commands are given with. It opens nothing.
pub(crate) const ADMIN_KEY: &str = "ptc_adm1n000_7Yw2LkQ9vZx4RtBn8MsPd3JfHg6CcUeTa1WoVi5";

/// What the server was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} is doubled");
        first
    }

    /// The method, the target and the JSON of the body, if there is one.
    pub(crate) fn line(&self) -> String {
        let line = format!("{} {}", self.method, self.target);
        match self.header("content-type") {
            None => {
                assert!(self.body.is_empty(), "{self:?}");
                line
            }
            Some(media) => {
                assert_eq!(media, "application/json");
                format!("{line} {}", serde_json::from_slice::<Value>(&self.body).unwrap())
            }
        }
    }
}

/// An answer: status, further header fields, and a body.
pub(crate) type Answer = (u16, &'static str, String);

/// A 200 with JSON.
pub(crate) fn ok(body: &Value) -> Answer {
    (200, "", body.to_string())
}

/// A problem of the admin API.
pub(crate) fn problem(status: u16, code: &str, detail: &str) -> Answer {
    let body = json!({"type": "about:blank", "title": "-", "status": status, "code": code, "detail": detail});
    (status, "content-type: application/problem+json\r\n", body.to_string())
}

/// What the API says to a call that has to be confirmed.
pub(crate) fn unconfirmed() -> Answer {
    problem(409, "confirmation_required", "`k1` is dead at once and for good: confirm it with `\"confirm\": true`")
}

pub(crate) fn no_content() -> Answer {
    (204, "", String::new())
}

/// A server on a port of this machine, and a key file to call it with.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) files: Files,
    key_file: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Answers one request after the other with these, each on a connection of its own; then it is gone.
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (record, mut answers) = (Arc::clone(&asked), answers.into_iter().collect::<VecDeque<_>>());
        thread::spawn(move || {
            while let Some(answer) = answers.pop_front() {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let request = receive(&mut stream);
                // What was asked is known before it is answered, so it is there when the command has ended.
                record.lock().unwrap().push(request);
                respond(&mut stream, &answer);
            }
        });
        let files = Files::new();
        let key_file = private(&files, "admin.key", ADMIN_KEY);
        Fake { url, files, key_file, asked }
    }

    /// Runs a command against it, with the key in a file and nobody at a terminal. The key is never shown.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with_stdin(args, b"")
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Ran {
        let vars = [("PORTCULLIS_SERVER", self.url.as_str()), ("PORTCULLIS_KEY_FILE", &self.key_file)];
        let ran = run_in(&vars, args, stdin);
        shows_no_admin_key(&ran);
        ran
    }

    /// Everything that was asked, each as [`Asked::line`], all with the key, by this program, and for JSON.
    pub(crate) fn lines(&self) -> Vec<String> {
        let asked = self.requests();
        for request in &asked {
            assert_eq!(request.header("authorization"), Some(format!("ManagementKey-v1 {ADMIN_KEY}").as_str()));
            let agent = concat!("portcullis-cli/", env!("CARGO_PKG_VERSION"));
            assert_eq!(request.header("user-agent"), Some(agent));
            assert_eq!(request.header("accept"), Some("application/json"));
            assert_eq!(request.header("host"), self.url.strip_prefix("http://"));
        }
        asked.iter().map(Asked::line).collect()
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Makes a file that nobody but its owner can read.
pub(crate) fn private(files: &Files, name: &str, text: &str) -> String {
    let path = files.put(name, format!("{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

pub(crate) fn shows_no_admin_key(ran: &Ran) {
    let output = format!("{}{}", ran.text(), ran.stderr);
    for part in ADMIN_KEY.as_bytes().windows(12) {
        let part = std::str::from_utf8(part).unwrap();
        assert!(!output.contains(part), "`{part}` is in the output:\n{output}");
    }
}

/// Reads one request with its body, whose length is always given.
fn receive(stream: &mut TcpStream) -> Asked {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        if let httparse::Status::Complete(length) = request.parse(&bytes).unwrap() {
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            let headers: Vec<_> =
                request.headers.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
            let given = headers.iter().find(|(name, _)| name == "content-length");
            let end = length + given.map_or(0, |(_, value)| value.parse::<usize>().unwrap());
            if bytes.len() >= end {
                let (method, target) = (request.method.unwrap().to_owned(), request.path.unwrap().to_owned());
                return Asked { method, target, headers, body: bytes[length..end].to_vec() };
            }
        }
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the request is cut off");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

fn respond(stream: &mut TcpStream, (status, fields, body): &Answer) {
    let length = if *status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("HTTP/1.1 {status} -\r\n{fields}{length}connection: close\r\n\r\n");
    // A client that has seen enough may be gone.
    drop(stream.write_all(format!("{head}{body}").as_bytes()));
}
