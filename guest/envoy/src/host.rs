//! What the proxy is asked for, where the SDK would stop the module instead of saying that something is not there. A module that
//! stops denies, and all of its worker with it: nothing that a caller sends may bring that about.

use std::time::{SystemTime, UNIX_EPOCH};

pub use proxy_wasm::types::LogLevel;

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

#[cfg(target_arch = "wasm32")]
pub use wasm::*;

#[cfg(target_arch = "wasm32")]
mod wasm {
    //! The calls, which only the module has.

    use std::ptr::null_mut;
    use std::time::Duration;

    use proxy_wasm::hostcalls;
    use proxy_wasm::types::{BufferType, LogLevel, MapType};

    use crate::replays::Map;

    /// Writes a line to the proxy's log.
    pub fn log(level: LogLevel, text: &str) {
        // Nothing is left to do where the proxy does not take it.
        let _ = hostcalls::log(level, text);
    }

    /// A property; nothing where the proxy does not have it.
    #[must_use]
    pub fn property(path: &[&str]) -> Option<Vec<u8>> {
        hostcalls::get_property(path.to_vec()).ok().flatten()
    }

    /// Notes something of the request for the proxy's access log: the filter state `wasm.NAME`.
    pub fn note(name: &str, value: &[u8]) {
        let _ = hostcalls::set_property(vec![name], Some(value));
    }

    /// All fields of the request as the proxy packs them.
    #[must_use]
    pub fn request_headers() -> Option<Vec<u8>> {
        #[expect(unsafe_code, reason = "as below")]
        #[link(wasm_import_module = "env")]
        unsafe extern "C" {
            fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        }
        let (mut data, mut size) = (null_mut(), 0);
        #[expect(
            unsafe_code,
            reason = "the SDK stops the module at a name that is not UTF-8, and copies each field twice"
        )]
        // SAFETY: both places live through the call, and where it is answered with 0 the proxy has put `size` bytes at `data`,
        // which it got from this module's `proxy_on_memory_allocate`: they are a `Vec` of that capacity, as in the SDK.
        unsafe {
            let status = proxy_get_header_map_pairs(MapType::HttpRequestHeaders as u32, &raw mut data, &raw mut size);
            (status == 0 && !data.is_null()).then(|| Vec::from_raw_parts(data, size, size))
        }
    }

    /// So much of the request's body, from there on.
    #[must_use]
    pub fn request_body(start: usize, most: usize) -> Option<Vec<u8>> {
        hostcalls::get_buffer(BufferType::HttpRequestBody, start, most).ok().flatten()
    }

    /// The proxy's `node.id`; nothing where it has none.
    #[must_use]
    pub fn node() -> Option<String> {
        // The second is what older proxies call it.
        let id = property(&["xds", "node", "id"]).or_else(|| property(&["node", "id"]))?;
        String::from_utf8(id).ok().filter(|id| !id.is_empty())
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

    /// The map that all workers share.
    pub struct SharedData;

    impl Map for SharedData {
        fn get(&mut self, set: u16) -> Option<(Vec<u8>, u32)> {
            let (value, version) = hostcalls::get_shared_data(&key(set)).ok()?;
            version.map(|version| (value.unwrap_or_default(), version))
        }

        fn set(&mut self, set: u16, value: &[u8], version: u32) -> bool {
            hostcalls::set_shared_data(&key(set), Some(value), Some(version)).is_ok()
        }
    }

    fn key(set: u16) -> String {
        format!("portcullis.once.{set}")
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use native::*;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    //! What there is where no proxy is, as in a test.

    use std::time::Duration;

    use super::LogLevel;

    /// Writes a line.
    pub fn log(_level: LogLevel, text: &str) {
        eprintln!("{text}");
    }

    /// No proxy has no id.
    #[must_use]
    pub fn node() -> Option<String> {
        None
    }

    /// Nobody is called.
    #[must_use]
    pub fn call(_cluster: &str, _headers: Vec<(&str, &str)>, _body: Option<&[u8]>, _timeout: Duration) -> Option<u32> {
        None
    }

    /// Nobody answered.
    #[must_use]
    pub fn answer_header(_name: &str) -> Option<String> {
        None
    }

    /// Nobody answered.
    #[must_use]
    pub fn answer_body(_bytes: usize) -> Option<Vec<u8>> {
        None
    }
}
