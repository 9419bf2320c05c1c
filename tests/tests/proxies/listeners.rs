//! The configuration of an Envoy with one listener for each policy that cases are asked of.

use serde_json::{Value, json};

/// The most header kilobytes and fields that Envoy takes: more than the gate, so that the gate says what is too much.
const MAX_HEAD_KIB: u32 = 96;
const MAX_FIELDS: u32 = 200;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A message of one of Envoy's extensions.
pub(crate) fn message(name: &str, mut fields: Value) -> Value {
    fields["@type"] = format!("{TYPES}.{name}").into();
    fields
}

/// A listener that takes the PROXY protocol, runs these filters, and forwards everything to the cluster `upstream`.
pub(crate) fn listener(name: &str, mut filters: Vec<Value>) -> Value {
    filters.push(json!({ "name": "router", "typed_config": message("filters.http.router.v3.Router", json!({})) }));
    let manager = json!({
        "stat_prefix": name,
        "use_remote_address": true,
        // Cases say themselves what was forwarded for whom.
        "skip_xff_append": true,
        "http_protocol_options": { "accept_http_10": true },
        "max_request_headers_kb": MAX_HEAD_KIB,
        "common_http_protocol_options": { "max_headers_count": MAX_FIELDS },
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }],
        }] },
        "http_filters": filters,
    });
    let manager = message("filters.network.http_connection_manager.v3.HttpConnectionManager", manager);
    json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "listener_filters": [{
            "name": "proxy",
            "typed_config": message("filters.listener.proxy_protocol.v3.ProxyProtocol", json!({})),
        }],
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}

/// A cluster of one address.
pub(crate) fn cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } } },
        }] }] },
    })
}

/// The whole configuration.
pub(crate) fn configuration(listeners: &[Value], clusters: &[Value]) -> String {
    json!({
        "node": { "id": "tests", "cluster": "tests" },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
    .to_string()
}
