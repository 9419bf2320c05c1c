//! A proxy with its ready configuration, in front of the echo and beside the server.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::envoy::{Config, Envoy};
use crate::http::Call;
use crate::nginx::Nginx;
use crate::server::{Settings, eventually};
use crate::wire::{self, Answer};
use crate::world::World;

/// What the ready configurations have in its place.
const PLACEHOLDER: &str = "REPLACE-THIS-SECRET-OF-32-OR-MORE-CHARACTERS";
pub(crate) const SECRET: &str = "4f6c0f3a8f5e4f0b9d1c2a7e6b5d4c3f";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    EnvoyGrpc,
    EnvoyHttp,
    Nginx,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::EnvoyGrpc, Kind::EnvoyHttp, Kind::Nginx];

    fn file(self) -> &'static str {
        match self {
            Kind::EnvoyGrpc => "envoy-ext-authz-grpc.yaml",
            Kind::EnvoyHttp => "envoy-ext-authz-http.yaml",
            Kind::Nginx => "nginx.conf",
        }
    }

    /// What the log calls it.
    fn dialect(self) -> &'static str {
        match self {
            Kind::EnvoyGrpc => "EnvoyGrpc",
            Kind::EnvoyHttp => "EnvoyHttp",
            Kind::Nginx => "Nginx",
        }
    }

    /// The ready configuration, and what its comment says of `[[authz]]`.
    fn ready(self) -> (String, String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(self.file());
        let text = std::fs::read_to_string(path).unwrap();
        let after = text.split_once("#   [[authz]]\n").unwrap().1;
        let lines = after.lines().map_while(|line| line.strip_prefix("#   "));
        let table = lines.fold("[[authz]]\n".to_owned(), |table, line| table + line + "\n");
        (text, table)
    }
}

/// The `[[authz]]` tables that the comments of all ready configurations have, on free ports.
fn tables() -> String {
    let tables: String = Kind::ALL.into_iter().map(|kind| kind.ready().1).collect();
    ["9191", "9192", "9193"].into_iter().fold(tables, |tables, port| {
        assert!(tables.contains(port), "{tables}");
        tables.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0")
    })
}

/// A world whose server listens for every kind.
pub(crate) fn world() -> World {
    let tables = tables();
    World::prepared(Settings { top: &tables, ..Settings::default() }, |site| {
        std::fs::write(site.path("proxy-secret"), format!("{SECRET}\n")).unwrap();
    })
}

/// Where the server listens for a kind.
pub(crate) fn listener(world: &World, kind: Kind) -> SocketAddr {
    let log = world.server.stderr();
    let line = log.lines().find(|line| line.contains("answering") && line.contains(kind.dialect()));
    let address = line.and_then(|line| line.split_once("authz=")).map(|(_, rest)| rest.split(' ').next().unwrap());
    address.unwrap_or_else(|| panic!("no listener is told of: {log}")).parse().unwrap()
}

/// A proxy that runs. It ends with its owner.
pub(crate) struct Front {
    pub(crate) kind: Kind,
    at: At,
}

enum At {
    Envoy(#[allow(dead_code, reason = "it ends when it is dropped")] Envoy, SocketAddr),
    Nginx(#[allow(dead_code, reason = "it ends when it is dropped")] Nginx, PathBuf),
}

impl Front {
    pub(crate) fn start(world: &World, kind: Kind) -> Front {
        Front::with(world, kind, SECRET, |text| text)
    }

    /// With that secret, and a change of the configuration.
    pub(crate) fn with(world: &World, kind: Kind, secret: &str, change: impl FnOnce(String) -> String) -> Front {
        let authz = listener(world, kind).port().to_string();
        let echo = world.echo.address.port().to_string();
        let replace = |text: String, from: &str, to: &str| {
            assert!(text.contains(from), "{from} is not in {}", kind.file());
            text.replace(from, to)
        };
        let text = replace(kind.ready().0, PLACEHOLDER, secret);
        let text = change(text);
        let at = match kind {
            Kind::EnvoyGrpc | Kind::EnvoyHttp => {
                let port = if kind == Kind::EnvoyGrpc { "9191" } else { "9192" };
                let text = replace(text, "address: 0.0.0.0, port_value: 8000", "address: 127.0.0.1, port_value: 0");
                let text = replace(text, &format!("port_value: {port}"), &format!("port_value: {authz}"));
                let text = replace(text, "port_value: 9000", &format!("port_value: {echo}"));
                let envoy = Envoy::start(Config { text, workers: 1, environment: Vec::new() }).unwrap();
                let address = envoy.listener("api").unwrap();
                At::Envoy(envoy, address)
            }
            Kind::Nginx => {
                let listen = "listen unix:@PREFIX@/api.sock proxy_protocol; set_real_ip_from unix:; real_ip_header proxy_protocol;";
                let text = replace(text, "listen 0.0.0.0:8000;", listen);
                let text = replace(text, "127.0.0.1:9193", &format!("127.0.0.1:{authz}"));
                let text = replace(text, "127.0.0.1:9000", &format!("127.0.0.1:{echo}"));
                let own = "http {\n access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n";
                let text = replace(text, "http {\n", own);
                let nginx = Nginx::start(&text, &["api.sock"]).unwrap();
                let socket = nginx.socket("api.sock");
                At::Nginx(nginx, socket)
            }
        };
        Front { kind, at }
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub(crate) fn send(&self, call: &Call) -> Answer {
        let bytes = call.clone().field("connection", "close").bytes();
        match &self.at {
            At::Envoy(_, address) => wire::exchange(&mut wire::connect(*address).unwrap(), &bytes, false).unwrap(),
            At::Nginx(_, socket) => {
                let bytes = [wire::proxy_line("127.0.0.1".parse().unwrap()), bytes].concat();
                wire::exchange(&mut UnixStream::connect(socket).unwrap(), &bytes, false).unwrap()
            }
        }
    }

    /// Asserts that it is answered so, and gives the decision's id.
    #[track_caller]
    pub(crate) fn problem(&self, call: &Call, status: u16, code: &str) -> String {
        let answer = self.send(call);
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, answer.code().as_deref()), (status, Some(code)), "{:?}: {told}", self.kind);
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{:?}", self.kind);
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{:?}", self.kind);
        let decision =
            answer.field("x-portcullis-decision").unwrap_or_else(|| panic!("no decision: {told}")).to_owned();
        assert!(told.contains(&decision), "{told}");
        decision
    }

    /// Asserts that it passes.
    #[track_caller]
    pub(crate) fn passes(&self, call: &Call) {
        let answer = self.send(call);
        assert_eq!(answer.status, 200, "{:?}: {}", self.kind, String::from_utf8_lossy(&answer.body));
    }
}

/// A counter of the server's.
pub(crate) fn metric(world: &World, name: &str) -> u64 {
    eventually("metrics are told", || {
        let text = world.admin().get("/metrics").expect(200).text();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    })
}
