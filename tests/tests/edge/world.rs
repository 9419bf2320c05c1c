//! An Envoy whose filter is fed.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use portcullis_model::source::{Credential, Source};
use portcullis_tests::envoy::{Config, Envoy};
use portcullis_tests::wire::{connect, exchange};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::host::{KEY, PATIENCE};

/// The host of the service that is guarded.
pub(crate) const HOST: &str = "shop.example";
pub(crate) const KEY_VARIABLE: &str = "PORTCULLIS_FEED_KEY";
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A key of the tenant.
pub(crate) fn key(number: usize) -> String {
    format!("a-key-of-the-tests-{number:024}")
}

/// The key's credential.
pub(crate) fn credential(number: usize, state: &str) -> Credential {
    let sha256 = base16ct::lower::encode_string(&Sha256::digest(key(number)));
    serde_json::from_value(json!({
        "id": format!("k{number}"), "tenant": "acme", "kind": "tenant", "group": "all", "state": state,
        "secrets": [{ "version": 1, "sha256": sha256 }],
    }))
    .expect("a credential")
}

/// A policy with so many keys at a revision.
pub(crate) fn source(revision: u64, keys: usize, max_staleness_s: u64) -> Source {
    let mut source: Source = serde_json::from_value(json!({
        "format": 1,
        "revision": revision,
        "seed": "000102030405060708090a0b0c0d0e0f",
        "installation": { "clock_skew_s": 300, "max_staleness_s": max_staleness_s },
        "services": [{
            "id": "shop", "hosts": [HOST], "prefix": "/",
            "accept": [{ "header": "X-API-Key", "kinds": ["tenant"] }],
            "endpoints": [{ "id": "events", "paths": ["/events"] }],
        }],
        "tenants": [{ "id": "acme" }],
        "groups": [{ "id": "all", "tenant": "acme", "permissions": [{ "endpoint": "shop/events" }] }],
    }))
    .expect("a source");
    source.credentials = (0..keys).map(|number| credential(number, "active")).collect();
    source
}

/// The plugin's configuration.
pub(crate) fn plugin(node: &str, authority: &str) -> Value {
    json!({
        "service": "shop",
        "node": node,
        "feed": { "name": "edge", "cluster": "portcullis", "authority": authority, "key_env": KEY_VARIABLE },
    })
}

fn message(name: &str, mut fields: Value) -> Value {
    fields["@type"] = format!("{TYPES}.{name}").into();
    fields
}

/// A listener that answers 200 to what the filter lets through.
pub(crate) fn listener(module: &Path, plugin: &Value) -> Value {
    let filter = message(
        "filters.http.wasm.v3.Wasm",
        json!({ "config": {
            "name": "portcullis",
            "configuration": { "@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string() },
            "vm_config": {
                "vm_id": "portcullis",
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": module } },
                "environment_variables": { "host_env_keys": [KEY_VARIABLE] },
            },
            "failure_policy": "FAIL_CLOSED",
            "allow_on_headers_stop_iteration": true,
        } }),
    );
    let router = message("filters.http.router.v3.Router", json!({}));
    let manager = message(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "edge",
            "use_remote_address": true,
            "http_filters": [
                { "name": "portcullis", "typed_config": filter },
                { "name": "router", "typed_config": router },
            ],
            "route_config": { "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }],
            }] },
        }),
    );
    json!({
        "name": "edge",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}

fn cluster(port: u16) -> Value {
    json!({
        "name": "portcullis",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": "portcullis", "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } } },
        }] }] },
    })
}

/// An Envoy that runs.
pub(crate) struct Edge {
    pub(crate) envoy: Envoy,
    folder: tempfile::TempDir,
    module: PathBuf,
}

impl Edge {
    /// Starts one with so many workers, fed from a port of loopback.
    pub(crate) fn start(port: u16, workers: u32) -> Result<Edge> {
        Edge::with(portcullis_tests::module::filter()?, port, workers, Vec::new(), KEY)
    }

    pub(crate) fn with(
        module: PathBuf,
        port: u16,
        workers: u32,
        mut environment: Vec<(String, String)>,
        key: &str,
    ) -> Result<Edge> {
        let folder = tempfile::tempdir()?;
        environment.push((KEY_VARIABLE.to_owned(), key.to_owned()));
        let listeners = folder.path().join("listeners.json");
        write_listeners(&listeners, &listener(&module, &plugin("edge-1", "localhost")))?;
        let text = json!({
            "node": { "id": "tests", "cluster": "tests" },
            "static_resources": { "clusters": [cluster(port)] },
            "dynamic_resources": { "lds_config": { "path_config_source": { "path": listeners } } },
        })
        .to_string();
        let envoy = Envoy::start(Config { text, workers, environment })?;
        Ok(Edge { envoy, folder, module })
    }

    /// Gives the plugin another configuration, as a control plane does.
    pub(crate) fn configure(&self, plugin: &Value) -> Result<()> {
        write_listeners(&self.folder.path().join("listeners.json"), &listener(&self.module, plugin))
    }

    /// Waits until Envoy has taken so many configurations after the first one.
    pub(crate) fn until_configured(&self, count: usize) -> Result<()> {
        let begun = Instant::now();
        let stats = ["listener_manager.listener_modified", "listener_manager.listener_in_place_updated"];
        loop {
            let taken = stats.iter().map(|stat| self.envoy.stat(stat)).sum::<Result<u64>>()?;
            let draining = self.envoy.stat("listener_manager.total_listeners_draining")?
                + self.envoy.stat("listener_manager.total_filter_chains_draining")?;
            if taken >= u64::try_from(count)? && draining == 0 {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("{taken} configurations of {count} are in force:\n{}", self.envoy.last_words());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.envoy.listener("edge")
    }

    /// What a request with a key is answered: the status, and the public code of a denial.
    pub(crate) fn ask(&self, key: &str) -> Result<(u16, String)> {
        ask(self.address()?, key)
    }

    /// Asks until it is answered so.
    pub(crate) fn until(&self, key: &str, status: u16, code: &str) -> Result<()> {
        let address = self.address()?;
        let begun = Instant::now();
        loop {
            let told = ask(address, key)?;
            if told == (status, code.to_owned()) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("never {status} {code}, but {told:?}:\n{}", self.envoy.last_words());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The lines of the log that have that text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.envoy.log().lines().filter(|line| line.contains(text)).count()
    }
}

pub(crate) fn ask(address: SocketAddr, key: &str) -> Result<(u16, String)> {
    ask_for(address, "/events", key)
}

/// What a request for a path is answered.
pub(crate) fn ask_for(address: SocketAddr, path: &str, key: &str) -> Result<(u16, String)> {
    let bytes = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n");
    let answer = exchange(&mut connect(address)?, bytes.as_bytes(), false)?;
    let code = answer.code().unwrap_or_default();
    Ok((answer.status, code))
}

/// Envoy looks at a file that is moved to its place.
fn write_listeners(path: &Path, listener: &Value) -> Result<()> {
    let mut listener = listener.clone();
    listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
    let new = path.with_extension("new");
    fs::write(&new, json!({ "resources": [listener] }).to_string())?;
    Ok(fs::rename(&new, path)?)
}
