//! The filter in the real Envoy, beyond single requests: bodies in pieces, several workers, configurations that come and go, and
//! faults.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "proxies/listeners.rs"]
mod listeners;

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64ct::{Base64, Encoding as _};
use portcullis_tests::clock::Clock;
use portcullis_tests::corpus::{Case, Corpus};
use portcullis_tests::envoy::{Config, Envoy};
use portcullis_tests::module;
use portcullis_tests::wire::{Answer, Upstream, connect, exchange};
use serde_json::{Value, json};

use crate::listeners::{cluster, configuration, message};

const KEY: &str = "ptc_tkAcme01_2QDM4q6fFuV4VikgcpcPavCAp0IgQxGo54Otfsw";

fn sample() -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/server/sample/policy.json");
    Ok(json!({ "service": "shop", "policy": serde_json::from_slice::<Value>(&fs::read(path)?)? }))
}

/// The filter with that configuration of the plugin.
fn filter(plugin: &Value) -> Result<Value> {
    of_module(&module::filter()?, plugin)
}

fn of_module(module: &Path, plugin: &Value) -> Result<Value> {
    let config = json!({
        "name": "portcullis",
        "failure_policy": "FAIL_RELOAD",
        "allow_on_headers_stop_iteration": true,
        "vm_config": {
            "vm_id": "portcullis",
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module } },
        },
        "configuration": { "@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string() },
    });
    Ok(
        json!({ "name": "portcullis", "typed_config": message("filters.http.wasm.v3.Wasm", json!({ "config": config })) }),
    )
}

/// A listener as users have it: no PROXY protocol.
fn listener(name: &str, filter: Value) -> Value {
    let mut listener = listeners::listener(name, vec![filter]);
    listener["listener_filters"] = json!([]);
    *manager(&mut listener) = {
        let mut manager = manager(&mut listener).clone();
        manager["http_protocol_options"]["enable_trailers"] = true.into();
        manager
    };
    listener
}

fn manager(listener: &mut Value) -> &mut Value {
    &mut listener["filter_chains"][0]["filters"][0]["typed_config"]
}

fn start(listeners: &[Value], upstream: &Upstream, workers: u32, environment: Vec<(String, String)>) -> Result<Envoy> {
    let clusters = [cluster("upstream", upstream.address().port()), cluster("portcullis", 1)];
    Envoy::start(Config { text: configuration(listeners, &clusters), workers, environment })
}

fn get(to: SocketAddr, fields: &str) -> Result<Answer> {
    let request = format!("GET /v1/events HTTP/1.1\r\nHost: api.shop.example\r\n{fields}\r\n");
    exchange(&mut connect(to)?, request.as_bytes(), false)
}

/// A case of the corpus, its policy in the configuration, and the time of the case.
struct Signed {
    case: Case,
    plugin: Value,
    clock: Clock,
}

impl Signed {
    fn of(name: &str) -> Result<Signed> {
        let corpus = Corpus::load()?;
        let at = corpus.cases.iter().position(|case| case.name == name).context("there is no such case")?;
        let built = corpus.setting(&corpus.cases[at]).build()?;
        let sheets: Vec<String> = built.sheets.iter().map(|sheet| Base64::encode_string(sheet)).collect();
        let policy = Base64::encode_string(&built.base.context("the case has no policy")?);
        let plugin = json!({ "policy_base64": policy, "key_sheets_base64": sheets });
        let case = corpus.cases.into_iter().nth(at).context("it was there")?;
        let clock = Clock::new(case.at)?;
        Ok(Signed { case, plugin, clock })
    }

    /// The head with these fields more.
    fn head(&self, more: &str) -> Vec<u8> {
        let request = &self.case.request;
        let mut head = [&request.method[..], b" ", &request.target, b" HTTP/1.1\r\n"].concat();
        for (name, value) in &request.headers {
            head.extend([name, &b": "[..], value, b"\r\n"].concat());
        }
        head.extend([more.as_bytes(), b"\r\n"].concat());
        head
    }

    fn body(&self) -> &[u8] {
        self.case.request.body.as_deref().unwrap_or_default()
    }

    fn envoy(&self, listeners: &[Value], upstream: &Upstream, workers: u32) -> Result<Envoy> {
        start(listeners, upstream, workers, self.clock.environment())
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[test]
fn an_allow_goes_on_with_its_edits_and_a_denial_tells_its_code() -> Result<()> {
    let upstream = Upstream::start()?;
    let envoy = start(&[listener("in", filter(&sample()?)?)], &upstream, 1, Vec::new())?;
    let to = envoy.listener("in")?;
    let forged = "X-Portcullis-Tenant: forged\r\nx-portcullis-tenant: again\r\nx-portcullis-else: forged\r\n";
    let answer = get(to, &format!("X-API-Key: {KEY}\r\n{forged}"))?;
    ensure!(answer.status == 200, "{answer:?}");
    let received = upstream.take();
    ensure!(received.len() == 1, "{received:?}");
    let ours: Vec<_> = received[0].fields.iter().filter(|(name, _)| name.starts_with("x-portcullis-")).collect();
    let told = |name: &str| received[0].field(name);
    ensure!(ours.len() == 4 && told("x-portcullis-tenant") == Some("acme"), "{ours:?}");
    ensure!(told("x-portcullis-endpoint") == Some("shop/events") && told("x-api-key").is_none(), "{}", received[0]);

    let answer = get(to, forged)?;
    ensure!((answer.status, answer.code().as_deref()) == (401, Some("unauthorized")), "{answer:?}");
    ensure!(answer.field("cache-control") == Some("no-store") && answer.field("www-authenticate").is_some());
    ensure!(answer.field("x-portcullis-decision").is_some_and(|id| id.len() == 13), "{answer:?}");
    // Envoy makes one field of two; what the gate gets is no credential.
    for doubled in ["Authorization: ManagementKey-v1 a\r\n".repeat(2), format!("Authorization: {KEY}\r\n").repeat(2)] {
        let answer = get(to, &doubled)?;
        ensure!(matches!(answer.status, 400 | 401) && answer.code().is_some(), "{answer:?}");
    }
    ensure!(upstream.take().is_empty(), "something was let through");
    Ok(())
}

#[test]
fn a_signed_body_comes_in_pieces_and_goes_on_whole() -> Result<()> {
    let (signed, upstream) = (Signed::of("a signature over a body")?, Upstream::start()?);
    let envoy = signed.envoy(&[listener("in", filter(&signed.plugin)?)], &upstream, 1)?;
    let to = envoy.listener("in")?;
    let send = |head: &[u8], pieces: &[Vec<u8>]| -> Result<Answer> {
        let mut stream = connect(to)?;
        stream.write_all(head)?;
        for piece in pieces {
            stream.write_all(piece)?;
            stream.flush()?;
            // So that they are not read as one; what is shown does not depend on it.
            std::thread::yield_now();
        }
        exchange(&mut stream, b"", false)
    };
    let body = signed.body();
    let bytes: Vec<Vec<u8>> = body.iter().map(|byte| vec![*byte]).collect();
    let answer = send(&signed.head(&format!("Content-Length: {}\r\n", body.len())), &bytes)?;
    ensure!(answer.status == 200, "{answer:?}\n{}", envoy.last_words());
    let mut chunks: Vec<Vec<u8>> = bytes.iter().map(|byte| chunk(byte)).collect();
    chunks.push(chunk(b""));
    let answer = send(&signed.head("Transfer-Encoding: chunked\r\n"), &chunks)?;
    ensure!(answer.status == 200, "{answer:?}");
    let received = upstream.take();
    ensure!(received.len() == 2 && received.iter().all(|received| received.body == body), "{received:?}");

    let mut other = chunks.clone();
    other[3] = chunk(b"~");
    let mut trailed = chunks.clone();
    *trailed.last_mut().context("the last chunk")? = b"0\r\nX-Trailer: 1\r\n\r\n".to_vec();
    for (what, chunks, status, code) in
        [("another body", other, 401, "unauthorized"), ("trailers", trailed, 400, "bad_body")]
    {
        let answer = send(&signed.head("Transfer-Encoding: chunked\r\n"), &chunks)?;
        ensure!((answer.status, answer.code().as_deref()) == (status, Some(code)), "{what}: {answer:?}");
    }
    let answer = send(&signed.head("Transfer-Encoding: chunked\r\n"), &[chunk(b"")])?;
    ensure!(answer.status == 401, "no body: {answer:?}");
    ensure!(upstream.take().is_empty(), "something was let through");
    Ok(())
}

#[test]
fn a_signed_body_that_is_too_long_is_not_let_through() -> Result<()> {
    /// What the signature profiles of the corpus allow is more.
    const BUFFER_BYTES: usize = 16 * 1024;
    let (signed, upstream) = (Signed::of("a signature over a body")?, Upstream::start()?);
    let mut small = listener("small", filter(&signed.plugin)?);
    small["per_connection_buffer_limit_bytes"] = BUFFER_BYTES.into();
    let envoy = signed.envoy(&[listener("in", filter(&signed.plugin)?), small], &upstream, 1)?;
    let send = |to: SocketAddr, announced: usize, body: &[u8]| {
        let head = signed.head(&format!("Content-Length: {announced}\r\n"));
        exchange(&mut connect(to)?, &[&head[..], body].concat(), false)
    };
    // Longer than any profile allows: the gate's cap, by what is announced.
    let answer = send(envoy.listener("in")?, 1 << 40, b"")?;
    ensure!((answer.status, answer.code().as_deref()) == (413, Some("body_too_large")), "{answer:?}");
    ensure!(answer.field("x-portcullis-decision").is_some());
    // Longer than Envoy holds: Envoy's own answer.
    let body = vec![b'x'; 8 * BUFFER_BYTES];
    let answer = send(envoy.listener("small")?, body.len(), &body)?;
    ensure!(answer.status == 413 && answer.code().is_none(), "{answer:?}");
    ensure!(upstream.take().is_empty(), "something was let through");
    Ok(())
}

#[test]
fn a_request_that_comes_once_passes_once_whichever_worker_gets_it() -> Result<()> {
    const TIMES: usize = 24;
    let (signed, upstream) = (Signed::of("a signed request once")?, Upstream::start()?);
    let envoy = signed.envoy(&[listener("in", filter(&signed.plugin)?)], &upstream, 2)?;
    let to = envoy.listener("in")?;
    let length =
        if signed.body().is_empty() { String::new() } else { format!("Content-Length: {}\r\n", signed.body().len()) };
    let request = [&signed.head(&length)[..], signed.body()].concat();
    // All are open before the first is used, so that both workers have some.
    let mut streams: Vec<TcpStream> = (0..TIMES).map(|_| connect(to)).collect::<Result<_>>()?;
    for stream in &mut streams {
        stream.write_all(&request)?;
    }
    let answers: Vec<Answer> = streams.iter_mut().map(|stream| exchange(stream, b"", false)).collect::<Result<_>>()?;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    ensure!((count(200), count(401)) == (1, TIMES - 1), "{answers:?}");
    ensure!(upstream.take().len() == 1);
    Ok(())
}

#[test]
fn nothing_passes_before_there_is_a_policy() -> Result<()> {
    let upstream = Upstream::start()?;
    let plugin = json!({ "feed": {
        "name": "edge", "cluster": "portcullis", "authority": "portcullis.internal", "key_env": "PORTCULLIS_FEED_KEY"
    } });
    let mut with_key = filter(&plugin)?;
    with_key["typed_config"]["config"]["vm_config"]["environment_variables"] =
        json!({ "host_env_keys": ["PORTCULLIS_FEED_KEY"] });
    let environment = vec![("PORTCULLIS_FEED_KEY".to_owned(), KEY.to_owned())];
    let envoy = start(&[listener("in", with_key)], &upstream, 1, environment)?;
    let answer = get(envoy.listener("in")?, &format!("X-API-Key: {KEY}\r\n"))?;
    ensure!((answer.status, answer.code().as_deref()) == (503, Some("unavailable")), "{answer:?}");
    ensure!(upstream.take().is_empty() && !envoy.get("/config_dump")?.contains(KEY) && !envoy.log().contains(KEY));
    Ok(())
}

#[test]
fn a_bad_configuration_of_the_plugin_is_refused_with_the_field() -> Result<()> {
    let upstream = Upstream::start()?;
    let mut misspelt = sample()?;
    misspelt["servce"] = "shop".into();
    let Err(error) = start(&[listener("in", filter(&misspelt)?)], &upstream, 1, Vec::new()) else {
        panic!("Envoy takes it")
    };
    ensure!(format!("{error:#}").contains("servce"), "{error:#}");
    Ok(())
}

/// It waits for Envoy's patience and is then refused: the proxy holds the whole request where only its head should stop.
#[test]
fn without_the_setting_for_bodies_a_signed_request_does_not_pass() -> Result<()> {
    let (signed, upstream) = (Signed::of("a signature over a body")?, Upstream::start()?);
    let mut without = filter(&signed.plugin)?;
    without["typed_config"]["config"]["allow_on_headers_stop_iteration"] = false.into();
    let mut listener = listener("in", without);
    manager(&mut listener)["stream_idle_timeout"] = "1s".into();
    let envoy = signed.envoy(&[listener], &upstream, 1)?;
    let head = signed.head(&format!("Content-Length: {}\r\n", signed.body().len()));
    let answer = exchange(&mut connect(envoy.listener("in")?)?, &[&head[..], signed.body()].concat(), false);
    ensure!(answer.as_ref().map_or(true, |answer| answer.status >= 400), "{answer:?}");
    ensure!(upstream.take().is_empty(), "an unsigned body was let through: {answer:?}");
    Ok(())
}

/// Where Envoy watches for listeners.
fn lds(folder: &Path) -> std::path::PathBuf {
    folder.join("lds.json")
}

/// An update of the listeners by a file, as Envoy takes it: moved to its place whole.
fn put(folder: &Path, mut listener: Value, version: usize) -> Result<()> {
    listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
    let next = folder.join("next.json");
    fs::write(&next, json!({ "version_info": version.to_string(), "resources": [listener] }).to_string())?;
    Ok(fs::rename(next, lds(folder))?)
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < Duration::from_secs(60), "it was waited for in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn twenty_updates_of_the_configuration_leave_no_memory_behind() -> Result<()> {
    const UPDATES: usize = 20;
    /// What V8 and the allocator may keep for later, in all.
    const ROOM_BYTES: u64 = 48 << 20;
    let upstream = Upstream::start()?;
    let folder = tempfile::tempdir()?;
    let text = json!({
        "node": { "id": "tests", "cluster": "tests" },
        "dynamic_resources": { "lds_config": { "path_config_source": { "path": lds(folder.path()) } } },
        "static_resources": { "clusters": [cluster("upstream", upstream.address().port())] },
    });
    let listener_of = |version: usize| -> Result<Value> {
        let mut plugin = sample()?;
        plugin["node"] = format!("edge-{version}").into();
        let mut listener = listener("in", filter(&plugin)?);
        listener["address"]["socket_address"]["port_value"] = 0.into();
        Ok(listener)
    };
    fs::write(lds(folder.path()), json!({ "resources": [] }).to_string())?;
    let envoy = Envoy::start(Config { text: text.to_string(), workers: 1, environment: Vec::new() })?;
    let move_to = |version: usize| -> Result<()> {
        put(folder.path(), listener_of(version)?, version)?;
        until("the update", || {
            Ok(envoy.get("/config_dump?resource=dynamic_listeners")?.contains(&format!("edge-{version}"))
                && envoy.stat("listener_manager.total_listeners_warming")? == 0
                && envoy.stat("listener_manager.total_listeners_active")? == 1)
        })?;
        let to = envoy.listener("in")?;
        ensure!(get(to, &format!("X-API-Key: {KEY}\r\n"))?.status == 200);
        ensure!(get(to, "")?.status == 401);
        Ok(())
    };
    for version in 0..5 {
        move_to(version)?;
    }
    let before = envoy.resident_bytes()?;
    for version in 5..5 + UPDATES {
        move_to(version)?;
    }
    let after = envoy.resident_bytes()?;
    eprintln!("resident: {before} bytes after 5 updates, {after} after {} ", 5 + UPDATES);
    ensure!(after < before + ROOM_BYTES, "{before} bytes became {after}");

    // A bad one is refused, and the last good one goes on.
    let mut bad = listener_of(99)?;
    let plugin =
        &mut bad["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]["config"];
    plugin["configuration"]["value"] = "{}".into();
    put(folder.path(), bad, 99)?;
    until("the refusal", || Ok(envoy.stat("listener_manager.lds.update_rejected")? > 0))?;
    ensure!(get(envoy.listener("in")?, &format!("X-API-Key: {KEY}\r\n"))?.status == 200);
    ensure!(get(envoy.listener("in")?, "")?.status == 401);
    Ok(())
}

#[test]
fn the_ready_configuration_is_one_that_envoy_takes() -> Result<()> {
    let upstream = Upstream::start()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/server/deploy/envoy-filter.yaml");
    let text = fs::read_to_string(path)?
        .replace("/etc/envoy/portcullis-envoy.wasm", &module::filter()?.display().to_string())
        .replace("port_value: 8080", "port_value: 0")
        .replace("port_value: 8081", &format!("port_value: {}", upstream.address().port()))
        .replace("port_value: 9180", "port_value: 1");
    let environment = vec![("PORTCULLIS_FEED_KEY".to_owned(), KEY.to_owned())];
    let envoy = Envoy::start(Config { text, workers: 1, environment })?;
    let mut to = envoy.listener("api")?;
    to.set_ip([127, 0, 0, 1].into());
    let answer = get(to, &format!("X-API-Key: {KEY}\r\n"))?;
    ensure!((answer.status, answer.code().as_deref()) == (503, Some("unavailable")), "{answer:?}");
    ensure!(upstream.take().is_empty());
    Ok(())
}

#[test]
fn a_filter_that_stops_lets_nothing_through() -> Result<()> {
    let (upstream, folder) = (Upstream::start()?, tempfile::tempdir()?);
    let envoy =
        start(&[listener("in", of_module(&module::trapping(folder.path())?, &sample()?)?)], &upstream, 1, Vec::new())?;
    let to = envoy.listener("in")?;
    for _ in 0..5 {
        let answer = get(to, &format!("X-API-Key: {KEY}\r\n"));
        ensure!(answer.as_ref().map_or(true, |answer| answer.status >= 500), "{answer:?}");
    }
    ensure!(envoy.log().contains("unreachable"), "it did not stop: {}", envoy.last_words());
    ensure!(upstream.take().is_empty(), "something was let through");
    Ok(())
}
