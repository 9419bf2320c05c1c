//! The authorization service beside the real Envoy, over gRPC and over HTTP.

use anyhow::{Context as _, Result};
use portcullis_authz::Dialect;
use portcullis_model::time::UnixTime;
use portcullis_tests::envoy::{Config, Envoy};
use portcullis_tests::wire::{Upstream, connect, exchange};
use serde_json::{Value, json};

use crate::authz::{BODY_LIMIT, Services};
use crate::listeners::{cluster, configuration, listener, message};
use crate::places::Places;
use crate::run::every_case;

fn over_grpc(cluster: &str) -> Value {
    let config = json!({
        "transport_api_version": "V3",
        "grpc_service": { "envoy_grpc": { "cluster_name": cluster }, "timeout": "5s" },
        "failure_mode_allow": false,
        "status_on_error": { "code": "ServiceUnavailable" },
        "encode_raw_headers": true,
        "with_request_body": { "max_request_bytes": BODY_LIMIT, "allow_partial_message": true, "pack_as_bytes": true },
    });
    json!({ "name": "portcullis", "typed_config": message("filters.http.ext_authz.v3.ExtAuthz", config) })
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

fn check(way: &str, dialect: Dialect, filter: impl Fn(&str) -> Value, adapt: impl Fn(Value) -> Value) -> Result<()> {
    let (upstream, places) = (Upstream::start()?, Places::of_the_corpus());
    let services = Services::start(dialect, &places)?;
    let mut clusters = vec![cluster("upstream", upstream.address().port())];
    let mut listeners = Vec::new();
    for (place, port) in services.ports() {
        let name = format!("authz-{place}");
        clusters.push(adapt(cluster(&name, port)));
        listeners.push(listener(place, vec![filter(&name)]));
    }
    let text = configuration(&listeners, &clusters);
    let envoy = Envoy::start(Config { text, workers: 1, environment: Vec::new() })?;
    let addresses = envoy.listeners()?;
    let mut now: Option<UnixTime> = None;
    every_case(way, &upstream, |case, bytes| {
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
