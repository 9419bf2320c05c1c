//! The ready configurations for Envoy and nginx, with the real proxies and the real server: what passes, what does not, and
//! what the upstream gets. Names of tests are what is promised.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "../../../../tests/src/envoy.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod envoy;
#[path = "../e2e/http.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod http;
#[path = "../../../../tests/src/independent.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod independent;
#[path = "../../../../tests/src/nginx.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod nginx;
#[path = "../../../../tests/src/process.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod process;
#[path = "../e2e/server.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod server;
#[path = "../e2e/signer.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod signer;
#[path = "../e2e/upstream.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod upstream;
#[path = "../../../../tests/src/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod wire;
#[path = "../e2e/world.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod world;

mod front;
mod mutual;
mod passing;
