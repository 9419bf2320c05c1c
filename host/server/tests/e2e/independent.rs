//! Clients that others wrote sign requests, and the proxy lets them through as they are and in no other way.

use serde_json::{Value, json};

use crate::http::{Connection, Message};
use crate::signer::{Foreign, Signer, antavo, aws, escher, installed};
use crate::world::{HOST, World};

/// What is signed.
struct Case {
    client: Foreign,
    profile: Value,
    method: &'static str,
    target: &'static str,
    headers: Value,
    body: &'static str,
    /// Presigned for so many seconds.
    expires: Option<u32>,
}

fn cases() -> Vec<Case> {
    use Foreign::{Botocore, EscherAuthJs, Escherauth};
    let mut cases = Vec::new();
    for (client, profile) in [
        (Escherauth, escher()),
        (EscherAuthJs, escher()),
        (Escherauth, antavo()),
        (EscherAuthJs, antavo()),
        (Botocore, aws()),
    ] {
        let case = |method, target, headers, body, expires| Case {
            client,
            profile: profile.clone(),
            method,
            target,
            headers,
            body,
            expires,
        };
        cases.push(case("GET", "/events", json!([]), "", None));
        cases.push(case(
            "POST",
            "/events?b=2&a=x%20y&a=%C3%A9",
            json!([["X-Test", "one two"]]),
            "{\"points\": 10}",
            None,
        ));
        cases.push(case("GET", "/events/e1?limit=10", json!([]), "", Some(600)));
    }
    cases
}

impl Case {
    /// The signed request as bytes, by the client.
    fn signed(&self, folder: &std::path::Path, signer: &Signer) -> Wire {
        let ask = json!({
            "profile": self.profile, "key": signer.key, "secret": signer.secret, "method": self.method,
            "url": format!("http://{HOST}{}", self.target), "host": HOST, "headers": self.headers,
            "body": (!self.body.is_empty()).then_some(self.body), "expires": self.expires,
        });
        Wire::of(&self.client.ask(folder, &ask))
    }
}

/// A request as it goes over the wire, in parts.
struct Wire {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Wire {
    fn of(told: &Value) -> Wire {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let url = text(&told["url"]);
        let target = url.strip_prefix(&format!("http://{HOST}")).unwrap().to_owned();
        let fields = told["headers"].as_array().unwrap().iter().map(|pair| (text(&pair[0]), text(&pair[1])));
        // Their own framing goes; ours says the same.
        let mut fields: Vec<(String, String)> =
            fields.filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")).collect();
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            fields.push(("Host".to_owned(), HOST.to_owned()));
        }
        Wire { method: text(&told["method"]), target, fields, body: text(&told["body"]) }
    }

    /// The bytes, and which of them a signature is over: the method, the target, the values of the fields, the body.
    fn bytes(&self, is_signed: impl Fn(&str) -> bool) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut signed) = (Vec::new(), Vec::new());
        let mut put = |text: &str, is_signed: bool| {
            if is_signed {
                signed.extend(bytes.len()..bytes.len() + text.len());
            }
            bytes.extend_from_slice(text.as_bytes());
        };
        put(&self.method, true);
        put(" ", false);
        put(&self.target, true);
        put(" HTTP/1.1\r\n", false);
        for (name, value) in &self.fields {
            put(name, is_signed(name));
            put(": ", false);
            put(value, is_signed(name));
            put("\r\n", false);
        }
        put(&format!("connection: close\r\ncontent-length: {}\r\n\r\n", self.body.len()), false);
        put(&self.body, true);
        (bytes, signed)
    }
}

fn send(world: &World, bytes: &[u8]) -> Message {
    let mut connection = Connection::open(world.server.proxy).unwrap();
    connection.write(bytes).unwrap();
    Message::response(&mut connection.0, "GET").unwrap()
}

#[test]
fn requests_of_clients_that_others_wrote_pass_and_with_any_byte_changed_they_do_not() {
    let Some(folder) = installed() else { return };
    let world = World::new();
    let (mut signers, mut changed) = (Vec::<Signer>::new(), 0);
    for case in cases() {
        let signer = match signers.pop() {
            Some(signer) if signer.profile == case.profile => signer,
            before => {
                if let Some(before) = before {
                    let revoke = format!("{}/{}/revoke", crate::world::WORKSPACE_KEYS, before.id);
                    world.admin().post(&revoke, json!({ "confirm": true })).expect(200);
                }
                let signer = world.signer(case.profile.clone());
                world.signatures("enforced", "any");
                signer
            }
        };
        let wire = case.signed(&folder, &signer);
        let auth = case.profile["auth_header"].as_str().unwrap();
        let list =
            wire.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(auth)).map_or("host", |(_, value)| value);
        let names: Vec<String> = match list.split_once("SignedHeaders=") {
            Some((_, rest)) => rest.split(',').next().unwrap().split(';').map(str::to_owned).collect(),
            None => vec!["host".to_owned()],
        };
        let (bytes, signed) = wire.bytes(|name| {
            let name = name.to_ascii_lowercase();
            names.contains(&name) || name == auth.to_ascii_lowercase()
        });
        let what = || format!("{:?} {} {}", case.client, case.method, wire.target);
        let passed = send(&world, &bytes);
        assert_eq!(passed.status(), 200, "{}: {}", what(), passed.text());
        let received = world.echo.last();
        // What a URL is signed with goes no further, as other credentials do not.
        let forwarded = if case.expires.is_some() { case.target } else { wire.target.as_str() };
        assert_eq!((received.target(), received.body.as_slice()), (forwarded, wire.body.as_bytes()), "{}", what());
        let count = world.echo.count();
        for at in signed {
            let mut other = bytes.clone();
            // A byte that is another one however it is read: letters of either case are the same in names and in percent
            // signs.
            other[at] = if matches!(other[at], b'x' | b'X') { b'y' } else { b'x' };
            let answer = send(&world, &other);
            let text = String::from_utf8_lossy(&other).into_owned();
            assert!((400..500).contains(&answer.status()), "{}: byte {at} of {text}: {}", what(), answer.start);
            changed += 1;
        }
        assert_eq!(world.echo.count(), count, "{}: nothing that was changed reached the upstream", what());
        signers.push(signer);
    }
    println!("{changed} changed requests were denied");
}

#[test]
fn the_requests_integration_of_escherauth_and_botocore_call_through_the_proxy() {
    let Some(folder) = installed() else { return };
    for (client, profile) in
        [(Foreign::Escherauth, escher()), (Foreign::Escherauth, antavo()), (Foreign::Botocore, aws())]
    {
        let world = World::new();
        let signer = world.signer(profile.clone());
        world.signatures("enforced", "any");
        let proxy = world.server.proxy;
        for (method, target, body) in [
            ("GET", "/events?a=b", None),
            ("POST", "/events", Some("{\"points\": 10}")),
            ("POST", "/events/e1", Some("é")),
        ] {
            let ask = json!({
                "profile": profile, "key": signer.key, "secret": signer.secret, "method": method, "send": true,
                "url": format!("http://{proxy}{target}"), "host": proxy.to_string(), "headers": [], "body": body,
            });
            let answer = client.ask(&folder, &ask);
            assert_eq!(answer["status"], 200, "{client:?} {method} {target}: {answer}");
            assert_eq!(world.echo.last().body, body.unwrap_or_default().as_bytes());
        }
        let wrong = json!({
            "profile": profile, "key": signer.key, "secret": "x".repeat(43), "method": "GET", "send": true,
            "url": format!("http://{proxy}/events"), "host": proxy.to_string(), "headers": [],
        });
        assert_eq!(client.ask(&folder, &wrong)["status"], 401, "{client:?}");
    }
}
