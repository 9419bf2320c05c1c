//! The real host and the real Envoy. Commands are given to the host's admin API, as an operator does.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_tests::process::{Process, command};
use portcullis_tests::wire::ask;
use serde_json::{Value, json};

use crate::world::{Edge, HOST, ask_for};

const TENANT_KEYS: &str = "/v1/tenants/acme/tenant-keys";
/// So many revocations are timed.
const REVOCATIONS: usize = 1000;
const WORKERS: u32 = 2;
/// The workers, and the main thread that their instances were copied from.
const INSTANCES: usize = 3;

/// A host that can be killed and started again at the same port.
struct Host {
    process: Process,
    program: PathBuf,
    folder: tempfile::TempDir,
    admin: SocketAddr,
    key: String,
}

impl Host {
    fn start() -> Result<Host> {
        let program = portcullis_tests::module::server()?;
        let folder = tempfile::tempdir()?;
        configure(&folder, "127.0.0.1:0".parse()?)?;
        let mut recover: Command = command(&program);
        let told = recover.arg("recover").arg("--config").arg(folder.path().join("portcullis.toml")).output()?;
        ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let key = String::from_utf8(told.stdout)?.trim().to_owned();
        let (process, admin) = serve(&program, &folder)?;
        configure(&folder, admin)?;
        let host = Host { process, program, folder, admin, key };
        host.furnish()?;
        Ok(host)
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    fn start_again(&mut self) -> Result<()> {
        let (process, admin) = serve(&self.program, &self.folder)?;
        self.process = process;
        ensure!(admin == self.admin, "it is at {admin}");
        Ok(())
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let authorization = format!("ManagementKey-v1 {}", self.key);
        let fields = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = ask(self.admin, method, path, &fields, &body)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!((200..300).contains(&answer.status), "{method} {path}: {} {text}", answer.status);
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    fn furnish(&self) -> Result<()> {
        self.call("POST", "/v1/tenants", &json!({ "id": "acme", "name": "Acme", "key_limit": 100_000 }))?;
        let service = json!({ "id": "shop", "hosts": [HOST], "upstream": "http://127.0.0.1:9" });
        self.call("POST", "/v1/services", &service)?;
        self.call("PUT", "/v1/services/shop/endpoints/events", &json!({ "paths": ["/events"] }))?;
        let group = json!({ "id": "all", "permissions": [{ "endpoint": "shop/events" }] });
        self.call("POST", "/v1/tenants/acme/groups", &group)?;
        self.call("POST", "/v1/feeds", &json!({ "id": "edge", "services": ["shop"] }))?;
        Ok(())
    }

    /// The id and the key of a new credential.
    fn new_key(&self) -> Result<(String, String)> {
        pair(&self.call("POST", TENANT_KEYS, &json!({ "name": "For a test", "group": "all" }))?)
    }

    /// A key that reads the feed and does nothing else.
    fn feed_key(&self) -> Result<String> {
        let body = json!({
            "name": "Edge", "expires": "2099-12-31", "endpoints": ["portcullis/feed", "portcullis/feed.read"],
            "applications": ["edge"], "creator_rule": "independent",
        });
        Ok(pair(&self.call("POST", "/v1/tenants/system/management-keys", &body)?)?.1)
    }

    /// Revokes a key; what is told once every live worker enforces it.
    fn revoke(&self, id: &str) -> Result<Value> {
        // As long as may be waited: the machine may be busy with others.
        let path = format!("{TENANT_KEYS}/{id}/revoke?wait=all&wait_timeout_s=60");
        self.call("POST", &path, &json!({ "confirm": true }))
    }

    fn edge(&self) -> Result<Edge> {
        Edge::with(portcullis_tests::module::filter()?, self.admin.port(), WORKERS, Vec::new(), &self.feed_key()?)
    }

    /// Waits until so many workers of proxies decide by the newest revision; gives the list.
    fn until_attached(&self, workers: usize) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let nodes = self.call("GET", "/v1/nodes", &Value::Null)?;
            let items = nodes["items"].as_array().context("items")?;
            let newest = items.iter().filter_map(|node| node["revision"].as_u64()).max();
            let live =
                |node: &&Value| node["feed"] == "edge" && node["live"] == true && node["revision"].as_u64() == newest;
            if items.iter().filter(live).count() >= workers {
                return Ok(nodes);
            }
            ensure!(begun.elapsed() < Duration::from_secs(60), "never {workers} workers: {nodes}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn pair(told: &Value) -> Result<(String, String)> {
    let text = |name: &str| Ok::<_, anyhow::Error>(told[name].as_str().with_context(|| format!("{told}"))?.to_owned());
    Ok((text("id")?, text("key")?))
}

fn configure(folder: &tempfile::TempDir, admin: SocketAddr) -> Result<()> {
    let text = format!("data = \"data\"\n[proxy]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"{admin}\"\n");
    Ok(fs::write(folder.path().join("portcullis.toml"), text)?)
}

fn serve(program: &PathBuf, folder: &tempfile::TempDir) -> Result<(Process, SocketAddr)> {
    let log = folder.path().join("log");
    let _ = fs::remove_file(&log);
    let mut command = command(program);
    command.arg("serve").arg("--config").arg(folder.path().join("portcullis.toml"));
    let mut process = Process::start(&mut command, &log)?;
    let admin = process.until("it serves", || {
        let words = fs::read_to_string(&log).ok()?;
        let line = words.lines().find(|line| line.contains("serving") && line.contains("admin"))?;
        let rest = line.split_once("admin")?.1.trim_start_matches(['=', '"', ':']);
        rest.split(['"', ' ']).next()?.parse().ok()
    })?;
    Ok((process, admin))
}

#[test]
fn a_policy_of_the_host_decides_in_envoy_and_a_revocation_is_dead_there_once_it_is_told() -> Result<()> {
    let host = Host::start()?;
    let (id, key) = host.new_key()?;
    let (_, other) = host.new_key()?;
    let edge = host.edge()?;
    edge.until(&key, 200, "")?;
    println!("{}", host.until_attached(INSTANCES)?);
    let told = host.revoke(&id)?;
    assert_eq!(told["receipts"]["complete"], true, "{told}");
    println!("{told}");
    // Each worker has a connection or two of these.
    for _ in 0..20 {
        assert_eq!(edge.ask(&key)?.0, 401);
        assert_eq!(edge.ask(&other)?.0, 200);
    }
    let (_, new) = host.new_key()?;
    edge.until(&new, 200, "")?;
    Ok(())
}

#[test]
fn a_path_of_a_service_that_the_feed_does_not_have_is_not_taken_for_one_of_its_own() -> Result<()> {
    let host = Host::start()?;
    // Were it routed to `shop`, the key might use it.
    host.call("PUT", "/v1/services/shop/endpoints/users", &json!({ "paths": ["/back/users"] }))?;
    let group = json!({ "id": "both", "permissions": [{ "endpoint": "shop/events" }, { "endpoint": "shop/users" }] });
    host.call("POST", "/v1/tenants/acme/groups", &group)?;
    let service = json!({ "id": "back", "hosts": [HOST], "prefix": "/back", "upstream": "http://127.0.0.1:9" });
    host.call("POST", "/v1/services", &service)?;
    let (_, key) = pair(&host.call("POST", TENANT_KEYS, &json!({ "name": "For a test", "group": "both" }))?)?;
    let edge = host.edge()?;
    edge.until(&key, 200, "")?;
    let address = edge.address()?;
    for path in ["/back/users", "/back/users?a=1", "/back"] {
        assert_eq!(ask_for(address, path, &key)?, (403, "no_such_endpoint".to_owned()), "{path}");
    }
    host.call("DELETE", "/v1/services/back?confirm=true", &Value::Null)?;
    let begun = Instant::now();
    while ask_for(address, "/back/users", &key)?.0 != 200 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "it is not `shop`'s without the other service either");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn a_thousand_revocations_are_in_force_when_their_receipts_say_so() -> Result<()> {
    let host = Host::start()?;
    let keys: Vec<_> = (0..REVOCATIONS).map(|_| host.new_key()).collect::<Result<_>>()?;
    let edge = host.edge()?;
    edge.until(&keys[0].1, 200, "")?;
    host.until_attached(INSTANCES)?;
    let address = edge.address()?;
    let (mut answered, mut enforced) = (Vec::new(), Vec::new());
    for (id, key) in &keys {
        let begun = Instant::now();
        let told = host.revoke(id)?;
        answered.push(u64::try_from(begun.elapsed().as_millis())?);
        let receipts = &told["receipts"];
        assert_eq!(receipts["complete"], true, "{told}");
        let nodes = receipts["nodes"].as_array().context("nodes")?;
        enforced.extend(nodes.iter().filter_map(|node| node["latency_ms"].as_u64()).max());
        assert_eq!(crate::world::ask(address, key)?.0, 401, "{told}");
    }
    for (what, mut times) in [("until answered", answered), ("until the last worker enforces", enforced)] {
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).or(times.last());
        println!("{REVOCATIONS} revocations, {what}, ms: p50 {:?} p99 {:?} most {:?}", at(50), at(99), times.last());
    }
    Ok(())
}

#[test]
fn a_host_that_dies_and_returns_leaves_traffic_alone_and_denials_too() -> Result<()> {
    let mut host = Host::start()?;
    let [good, bad, later] = [host.new_key()?, host.new_key()?, host.new_key()?];
    let edge = host.edge()?;
    edge.until(&good.1, 200, "")?;
    host.until_attached(INSTANCES)?;
    host.revoke(&bad.0)?;
    host.kill();
    for _ in 0..50 {
        assert_eq!(edge.ask(&good.1)?.0, 200);
        assert_eq!(edge.ask(&bad.1)?.0, 401);
    }
    host.start_again()?;
    host.until_attached(INSTANCES)?;
    host.revoke(&later.0)?;
    for _ in 0..20 {
        assert_eq!(edge.ask(&good.1)?.0, 200);
        assert_eq!(edge.ask(&bad.1)?.0, 401);
        assert_eq!(edge.ask(&later.1)?.0, 401);
    }
    // Killed once more, with a change that no worker could fetch.
    host.kill();
    host.start_again()?;
    host.call("POST", &format!("{TENANT_KEYS}/{}/revoke", good.0), &json!({ "confirm": true }))?;
    edge.until(&good.1, 401, "unauthorized")?;
    Ok(())
}

#[test]
fn decisions_of_envoy_are_in_the_hosts_records() -> Result<()> {
    let host = Host::start()?;
    let (_, key) = host.new_key()?;
    let edge = host.edge()?;
    edge.until(&key, 200, "")?;
    assert_eq!(edge.ask("another")?.0, 401);
    let begun = Instant::now();
    loop {
        let told = host.call("GET", "/v1/tenants/acme/decisions?limit=10", &Value::Null);
        if told.as_ref().is_ok_and(|told| told["items"].as_array().is_some_and(|items| !items.is_empty())) {
            println!("{}", told?["items"][0]);
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "never: {told:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
