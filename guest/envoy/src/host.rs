//! What the proxy is asked for, where the SDK would stop the module instead of saying that something is not there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType};

/// Writes a line to the proxy's log.
pub fn log(level: LogLevel, text: &str) {
    // Nothing is left to do where the proxy does not take it.
    let _ = hostcalls::log(level, text);
}

/// The time in milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A random number.
#[must_use]
pub fn random() -> u64 {
    // A proxy that gives no random bytes still gives the time; what is drawn tells workers apart and is no secret.
    getrandom::u64().unwrap_or_else(|_| unix_ms().wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A variable of the environment that the proxy gives to the module.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The proxy's `node.id`; nothing where it has none.
#[must_use]
pub fn node() -> Option<String> {
    let id = hostcalls::get_property(vec!["node", "id"]).ok().flatten()?;
    String::from_utf8(id).ok().filter(|id| !id.is_empty())
}

/// The SHA-256 of this module, where the proxy was told it: a module cannot see its own bytes.
#[must_use]
pub fn module_digest() -> Option<String> {
    None
}

/// Calls a cluster of the proxy. Gives the token of the answer; nothing where the call cannot be made.
#[must_use]
pub fn call(cluster: &str, headers: Vec<(&str, &str)>, body: Option<&[u8]>, timeout: Duration) -> Option<u32> {
    hostcalls::dispatch_http_call(cluster, headers, body, Vec::new(), timeout).ok()
}

/// A header of the answer to a call.
#[must_use]
pub fn answer_header(name: &str) -> Option<String> {
    let value = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, name).ok().flatten()?;
    String::from_utf8(value).ok()
}

/// The body of the answer to a call.
#[must_use]
pub fn answer_body(bytes: usize) -> Option<Vec<u8>> {
    if bytes == 0 {
        return Some(Vec::new());
    }
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, bytes).ok().flatten()
}
