//! What the proxy is asked for, where the SDK would stop the module instead of saying that something is not there.

use std::time::{SystemTime, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::LogLevel;

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
