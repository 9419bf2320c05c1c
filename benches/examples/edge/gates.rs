//! What is compared, and how each is set up in Envoy.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use base64ct::{Base64, Encoding as _};
use portcullis_benches::{key, source};
use portcullis_model::policy::build;
use portcullis_model::source::{Source, TokenAlgorithm, TokenKeyMaterial};
use portcullis_tests::envoy::{Config, Envoy, cpu_time};
use portcullis_tests::minter::Minter;
use portcullis_tests::module;
use serde_json::{Value, json};

use crate::service::Service;

/// How many different credentials are asked with, at most.
const ASKED: usize = 10_000;
/// Every client here comes from loopback.
const LOOPBACK: &str = "127.0.0.0/8";

/// What stands between a client and the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Gate {
    /// Nothing.
    None,
    /// Envoy's `api_key_auth`: a key is known.
    ApiKeyAuth,
    /// Envoy's `rbac` with the address list of the endpoint alone.
    Rbac,
    /// Envoy's `rbac` with each key and its address list.
    RbacOfKeys,
    /// Envoy's `jwt_authn`, one key of an issuer, tokens that were seen before cached.
    JwtAuthn,
    /// A Wasm filter that hashes the key and does nothing with it.
    Hash,
    /// Our filter: a key is known, in force, and may call this endpoint from this address.
    Filter,
    /// Our authorization service, over gRPC.
    Service,
}

impl Gate {
    /// All, in the order of a round.
    pub(crate) const ALL: [Gate; 8] = [
        Gate::None,
        Gate::ApiKeyAuth,
        Gate::Rbac,
        Gate::RbacOfKeys,
        Gate::JwtAuthn,
        Gate::Hash,
        Gate::Filter,
        Gate::Service,
    ];

    /// What people read.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Gate::None => "no filter",
            Gate::ApiKeyAuth => "api_key_auth",
            Gate::Rbac => "rbac, the endpoint's addresses",
            Gate::RbacOfKeys => "rbac, each key's addresses",
            Gate::JwtAuthn => "jwt_authn, cached",
            Gate::Hash => "Wasm: hashes one header",
            Gate::Filter => "Wasm: Portcullis",
            Gate::Service => "ext_authz, gRPC: Portcullis",
        }
    }
}

/// As many credentials, and what asks with them.
pub(crate) struct Installation {
    source: Source,
    keys: Vec<String>,
    minter: Minter,
}

/// An Envoy with a gate.
pub(crate) struct Running {
    envoy: Envoy,
    service: Option<(Service, tempfile::NamedTempFile)>,
    requests: PathBuf,
}

impl Running {
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.envoy.listener("edge")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.envoy.folder()
    }

    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let service = self.service.as_ref().map_or(Ok(Duration::ZERO), |(service, _)| cpu_time(service.id()))?;
        Ok(self.envoy.cpu_time()? + service)
    }

    /// The memory of Envoy, after all rounds.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.envoy.resident_bytes()
    }

    /// The file with the field that differs from request to request.
    pub(crate) fn requests(&self) -> &Path {
        &self.requests
    }
}

impl Installation {
    pub(crate) fn new(credentials: usize) -> Result<Self> {
        let mut source = source(credentials)?;
        let loopback = LOOPBACK.parse()?;
        for credential in &mut source.credentials {
            credential.expires = None;
            credential.ip_allowlist.push(loopback);
        }
        for settings in source.tenants.iter_mut().flat_map(|tenant| &mut tenant.endpoints) {
            settings.ip_ranges.push(loopback);
        }
        let keys = (0..credentials).map(key).collect();
        Ok(Installation { source, keys, minter: Minter::new("edge", TokenAlgorithm::Es256, 1)? })
    }

    /// Starts an Envoy with one worker and that gate.
    pub(crate) fn start(&self, gate: Gate) -> Result<Running> {
        let mut service = None;
        let filter = match gate {
            Gate::None => None,
            Gate::ApiKeyAuth => Some(self.api_key_auth()),
            Gate::Rbac => {
                let settings = self.source.tenants.first().and_then(|tenant| tenant.endpoints.first());
                let ranges = settings.map(|settings| settings.ip_ranges.as_slice()).unwrap_or_default();
                Some(rbac(json!({ "edge": allow(addresses(ranges)) })))
            }
            Gate::RbacOfKeys => Some(self.rbac_of_keys()),
            Gate::JwtAuthn => Some(self.jwt_authn()?),
            Gate::Hash => Some(wasm(&hash_module()?, "")),
            Gate::Filter => {
                let policy = Base64::encode_string(&build(&self.source)?);
                Some(wasm(&module::filter()?, &json!({ "policy_base64": policy }).to_string()))
            }
            Gate::Service => {
                let mut policy = tempfile::NamedTempFile::new()?;
                policy.write_all(&build(&self.source)?)?;
                service = Some((Service::start(policy.path())?, policy));
                Some(ext_authz())
            }
        };
        let clusters = service.iter().map(|(service, _)| cluster(service.address)).collect();
        let text = configuration(filter.into_iter().collect(), clusters);
        let envoy = Envoy::start(Config { text, workers: 1, environment: Vec::new() })?;
        let step = self.keys.len().div_ceil(ASKED);
        let asked = self.keys.iter().enumerate().step_by(step);
        let fields: Vec<String> = match gate {
            Gate::JwtAuthn => {
                asked.map(|(number, _)| format!("Authorization: Bearer {}", self.token(number))).collect()
            }
            Gate::None
            | Gate::ApiKeyAuth
            | Gate::Rbac
            | Gate::RbacOfKeys
            | Gate::Hash
            | Gate::Filter
            | Gate::Service => asked.map(|(_, key)| format!("X-API-Key: {key}")).collect(),
        };
        let requests = envoy.folder().join("requests");
        fs::write(&requests, fields.join("\n"))?;
        Ok(Running { envoy, service, requests })
    }

    fn api_key_auth(&self) -> Value {
        let named = self.source.credentials.iter().zip(&self.keys);
        let credentials: Vec<Value> =
            named.map(|(credential, key)| json!({ "key": key, "client": credential.id.as_str() })).collect();
        let config = json!({ "credentials": credentials, "key_sources": [{ "header": "x-api-key" }] });
        filter("filters.http.api_key_auth.v3.ApiKeyAuth", config)
    }

    fn rbac_of_keys(&self) -> Value {
        let named = self.source.credentials.iter().zip(&self.keys);
        let policies = named.map(|(credential, key)| {
            let is_key = json!({ "header": { "name": "x-api-key", "string_match": { "exact": key } } });
            let both = json!({ "and_ids": { "ids": [is_key, addresses(&credential.ip_allowlist)] } });
            (credential.id.as_str().to_owned(), allow(both))
        });
        rbac(Value::Object(policies.collect()))
    }

    fn jwt_authn(&self) -> Result<Value> {
        let TokenKeyMaterial::Es256 { x, y } = self.minter.public().material else {
            anyhow::bail!("the key is of P-256")
        };
        let set = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "edge", "x": x, "y": y }] });
        let provider = json!({
            "issuer": "https://api.shop.example",
            "local_jwks": { "inline_string": set.to_string() },
            "jwt_cache_config": { "jwt_cache_size": ASKED },
        });
        let rules = json!([{ "match": { "prefix": "/" }, "requires": { "provider_name": "edge" } }]);
        let config = json!({ "providers": { "edge": provider }, "rules": rules });
        Ok(filter("filters.http.jwt_authn.v3.JwtAuthentication", config))
    }

    fn token(&self, number: usize) -> String {
        self.minter.token(&json!({
            "iss": "https://api.shop.example", "sub": format!("k{number:07}"), "client_id": format!("k{number:07}"),
            "scope": "orders.read", "exp": 4_000_000_000_u64, "iat": 1_795_251_600, "jti": format!("t-{number}"),
        }))
    }
}

fn addresses(ranges: &[portcullis_model::address::Cidr]) -> Value {
    let ids: Vec<Value> = ranges
        .iter()
        .map(|range| {
            let text = range.to_string();
            let (address, length) = text.split_once('/').unwrap_or((&text, "32"));
            let length: u32 = length.parse().unwrap_or(32);
            json!({ "direct_remote_ip": { "address_prefix": address, "prefix_len": length } })
        })
        .collect();
    json!({ "or_ids": { "ids": ids } })
}

fn allow(principal: Value) -> Value {
    json!({ "permissions": [{ "any": true }], "principals": [principal] })
}

fn rbac(policies: Value) -> Value {
    filter("filters.http.rbac.v3.RBAC", json!({ "rules": { "action": "ALLOW", "policies": policies } }))
}

fn wasm(module: &Path, configuration: &str) -> Value {
    let config = json!({ "config": {
        "configuration": { "@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration },
        "vm_config": { "runtime": "envoy.wasm.runtime.v8", "code": { "local": { "filename": module } } },
        "failure_policy": "FAIL_CLOSED",
        "allow_on_headers_stop_iteration": true,
    } });
    filter("filters.http.wasm.v3.Wasm", config)
}

fn ext_authz() -> Value {
    let config = json!({
        "transport_api_version": "V3",
        "grpc_service": { "envoy_grpc": { "cluster_name": "service" }, "timeout": "5s" },
        "encode_raw_headers": true,
    });
    filter("filters.http.ext_authz.v3.ExtAuthz", config)
}

fn cluster(address: SocketAddr) -> Value {
    let address = json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
    json!({
        "name": "service",
        "type": "STATIC",
        "load_assignment": { "cluster_name": "service", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        } },
    })
}

fn filter(kind: &str, mut config: Value) -> Value {
    if let Some(fields) = config.as_object_mut() {
        fields.insert("@type".to_owned(), format!("type.googleapis.com/envoy.extensions.{kind}").into());
    }
    json!({ "name": "gate", "typed_config": config })
}

fn configuration(mut filters: Vec<Value>, clusters: Vec<Value>) -> String {
    filters.push(filter("filters.http.router.v3.Router", json!({})));
    let body = "x".repeat(100);
    let route =
        json!({ "match": { "prefix": "/" }, "direct_response": { "status": 200, "body": { "inline_string": body } } });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "use_remote_address": true,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
        "http_filters": filters,
    });
    let listener = json!({
        "name": "edge",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    });
    let resources = json!({ "listeners": [listener], "clusters": clusters });
    json!({ "node": { "id": "edge", "cluster": "edge" }, "static_resources": resources }).to_string()
}

/// The filter that only hashes, built as ours is.
fn hash_module() -> Result<PathBuf> {
    module::build(&["--release"], "benches/edge/hash/Cargo.toml", "edge-hash", "release/portcullis_hash.wasm")
}
