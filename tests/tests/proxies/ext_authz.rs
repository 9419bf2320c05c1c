//! The authorization service beside the real Envoy, over gRPC and over HTTP.

use anyhow::{Context as _, Result};
use portcullis_authz::Dialect;
use portcullis_model::time::UnixTime;
use portcullis_tests::envoy::{Config, Envoy};
use portcullis_tests::wire::{Upstream, connect, exchange};
use serde_json::{Value, json};

use crate::CORPUS;
use crate::authz::{BODY_LIMIT, PATH_PREFIX, Services};
use crate::listeners::{cluster, configuration, listener, message};
use crate::places::Places;
use crate::run::each_case;

/// As `host/server/deploy/envoy-ext-authz-grpc.yaml` has it.
fn over_grpc(cluster: &str) -> Vec<Value> {
    let config = json!({
        "transport_api_version": "V3",
        "grpc_service": { "envoy_grpc": { "cluster_name": cluster }, "timeout": "5s" },
        "failure_mode_allow": false,
        "status_on_error": { "code": "ServiceUnavailable" },
        "encode_raw_headers": true,
        "with_request_body": { "max_request_bytes": BODY_LIMIT, "allow_partial_message": true, "pack_as_bytes": true },
    });
    vec![json!({ "name": "portcullis", "typed_config": message("filters.http.ext_authz.v3.ExtAuthz", config) })]
}

/// As `host/server/deploy/envoy-ext-authz-http.yaml` has it: the filter, and what sets the target without a credential.
fn over_http(cluster: &str) -> Vec<Value> {
    let exact = |names: &[&str]| {
        let patterns: Vec<Value> = names.iter().map(|name| json!({ "exact": name })).collect();
        json!({ "patterns": patterns })
    };
    let upstream = ["tenant", "credential", "kind", "endpoint", "target"].map(|name| format!("x-portcullis-{name}"));
    let config = json!({
        "transport_api_version": "V3",
        "failure_mode_allow": false,
        "status_on_error": { "code": "ServiceUnavailable" },
        "allowed_headers": { "patterns": [{ "safe_regex": { "regex": ".*" } }] },
        "disallowed_headers": exact(&["transfer-encoding", "x-portcullis-peer", "x-portcullis-proxy-secret"]),
        "with_request_body": { "max_request_bytes": BODY_LIMIT, "allow_partial_message": false, "pack_as_bytes": true },
        "http_service": {
            "server_uri": { "uri": "http://portcullis.internal", "cluster": cluster, "timeout": "5s" },
            "path_prefix": PATH_PREFIX,
            "authorization_request": { "headers_to_add": [
                { "key": "x-portcullis-peer", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" },
            ] },
            "authorization_response": {
                "allowed_upstream_headers": exact(&upstream.each_ref().map(String::as_str)),
                "allowed_client_headers":
                    exact(&["content-type", "cache-control", "www-authenticate", "x-portcullis-decision"]),
            },
        },
    });
    let script = r#"function envoy_on_request(handle)
        local headers = handle:headers()
        local target = headers:get("x-portcullis-target")
        if target == nil then
            handle:respond({[":status"] = "503"}, "")
            return
        end
        headers:replace(":path", target)
        headers:remove("x-portcullis-target")
    end"#;
    let lua = json!({ "default_source_code": { "inline_string": script } });
    vec![
        json!({ "name": "portcullis", "typed_config": message("filters.http.ext_authz.v3.ExtAuthz", config) }),
        json!({ "name": "target", "typed_config": message("filters.http.lua.v3.Lua", lua) }),
    ]
}

fn http2(mut cluster: Value) -> Value {
    let options = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    });
    cluster["typed_extension_protocol_options"] =
        json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options });
    cluster
}

fn check(
    way: &str,
    dialect: Dialect,
    filters: impl Fn(&str) -> Vec<Value>,
    adapt: impl Fn(Value) -> Value,
) -> Result<()> {
    let (upstream, places) = (Upstream::start()?, Places::of_the_corpus());
    let services = Services::start(dialect, &places)?;
    let mut clusters = vec![cluster("upstream", upstream.address().port())];
    let mut listeners = Vec::new();
    for (place, port) in services.ports() {
        let name = format!("authz-{place}");
        clusters.push(adapt(cluster(&name, port)));
        listeners.push(listener(place, filters(&name)));
    }
    let text = configuration(&listeners, &clusters);
    let envoy = Envoy::start(Config { text, workers: 1, environment: Vec::new() })?;
    let addresses = envoy.listeners()?;
    let mut now: Option<UnixTime> = None;
    each_case(way, CORPUS.cases.iter().collect(), &upstream, |case, bytes| {
        if now != Some(case.at) {
            now = Some(case.at);
            services.set(case.at);
        }
        let place = places.name(case)?;
        let address = *addresses.get(&place).with_context(|| format!("there is no listener `{place}`"))?;
        exchange(&mut connect(address)?, bytes, case.request.method == b"HEAD")
    })
    .with_context(|| envoy.last_words())
}

#[test]
fn every_case_is_answered_over_grpc_as_everywhere() -> Result<()> {
    check("envoy-grpc", Dialect::EnvoyGrpc, over_grpc, http2)
}

#[test]
fn every_case_is_answered_over_http_as_everywhere() -> Result<()> {
    check("envoy-http", Dialect::EnvoyHttp, over_http, |cluster| cluster)
}
