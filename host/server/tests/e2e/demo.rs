//! The first minute: `serve --demo`, as the quick start has it.

use std::net::SocketAddr;
use std::path::Path;

use crate::http::{Call, Message};
use crate::server::{Server, portcullis};
use crate::world::Admin;

fn start(data: &Path) -> Server {
    let mut command = portcullis();
    command.args(["serve", "--demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"]).arg(data);
    Server::start(&mut command, |server| {
        let printed = server.stdout();
        // The last line, so that everything before it is there.
        printed.contains("portcullis key list").then_some(())?;
        let address = |name: &str| -> Option<SocketAddr> {
            let line = printed.lines().find(|line| line.trim_start().starts_with(name))?;
            line.split_once("http://")?.1.trim().parse().ok()
        };
        Some((address("proxy")?, address("admin API")?))
    })
    .ready()
}

/// The printed commands, sent as curl would.
fn printed_calls(server: &Server) -> Vec<Message> {
    let printed = server.stdout();
    let commands: Vec<&str> = printed.lines().map(str::trim).filter(|line| line.starts_with("curl -i ")).collect();
    let send = |command: &&str| {
        let url = command.rsplit(' ').next().unwrap().strip_prefix("http://").unwrap();
        let (authority, path) = url.split_once('/').unwrap();
        let mut call = Call::new("GET", &format!("/{path}")).field("host", authority);
        if let Some((_, header)) = command.split_once("-H '") {
            let (name, value) = header.split_once('\'').unwrap().0.split_once(": ").unwrap();
            call = call.field(name, value);
        }
        call.send(authority.parse().unwrap())
    };
    commands.iter().map(send).collect()
}

/// Everything that was printed and is a key.
fn keys(server: &Server) -> Vec<String> {
    let printed = server.stdout();
    let words = printed.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ptc_")).map(str::to_owned).collect()
}

#[test]
fn the_printed_commands_do_what_stands_above_them_and_go_on_doing_it_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let mut server = start(&data);
    let statuses = |answers: &[Message]| answers.iter().map(Message::status).collect::<Vec<_>>();
    let answers = printed_calls(&server);
    assert_eq!(statuses(&answers), [200, 401, 403]);
    let echoed = answers[0].json();
    assert_eq!((&echoed["target"], &echoed["headers"]["x-portcullis-tenant"]), (&"/events".into(), &"acme".into()));
    assert_eq!(echoed["headers"]["x-api-key"], serde_json::Value::Null, "the key stays here");
    let told = server.stdout();
    assert!(told.contains(&*data.canonicalize().unwrap().to_string_lossy()), "the folder is named: {told}");

    let first = keys(&server);
    assert_eq!(first.len(), 3, "{told}");
    let admin = Admin { address: server.admin, key: first[0].clone() };
    assert_eq!(admin.get("/v1/self").expect(200).json()["superuser"], true);
    assert_eq!(admin.get("/v1/tenants/acme/tenant-keys").expect(200).json()["items"].as_array().unwrap().len(), 2);

    server.kill();
    let mut server = start(&data);
    assert_eq!(statuses(&printed_calls(&server)), [200, 401, 403], "with the keys of this start");
    let admin = Admin { address: server.admin, key: keys(&server)[0].clone() };
    assert_eq!(admin.get("/v1/tenants/acme/tenant-keys").expect(200).json()["items"].as_array().unwrap().len(), 2);
    admin.assert_audit_is_intact();
    Admin { address: server.admin, key: first[0].clone() }.get("/v1/self").expect(401);
    for old in &first[1..] {
        let host = server.proxy.to_string();
        Call::new("GET", "/events").field("host", &host).field("x-api-key", old).send(server.proxy).expect(401);
    }
    server.stop();
}

#[test]
fn a_taken_port_does_not_stop_the_demo() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = portcullis();
    let address = taken.local_addr().unwrap().to_string();
    command.args(["serve", "--demo", "--listen", &address, "--admin-listen", &address, "--data"]);
    let mut server = Server::start(command.arg(folder.path().join("demo")), |server| {
        server
            .stdout()
            .contains("portcullis key list")
            .then_some((taken.local_addr().unwrap(), taken.local_addr().unwrap()))
    });
    assert_eq!(printed_calls(&server).iter().map(Message::status).collect::<Vec<_>>(), [200, 401, 403]);
    server.stop();
}
