//! The gate as a proxy-wasm module, for Envoy and other proxies: glue between the proxy and `portcullis-eval`. Nothing is
//! decided here.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the plugin's configuration |
//! | [`worker`] | what one worker of the proxy holds: the gate, the configuration, the journal |
//! | [`decide`] | from the proxy's fields to a ruling |
//! | `filter` | one request in the proxy: its fields to the gate, and the ruling back |
//! | [`feed`] | how the policy comes from a host |
//! | [`journal`] | ids of decisions, and their records on the way back |
//! | [`replays`] | signed requests that are accepted once |
//! | [`host`] | what the proxy is asked for |

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")
)]

pub mod config;
pub mod decide;
pub mod feed;
#[cfg(target_arch = "wasm32")]
pub mod filter;
pub mod host;
pub mod journal;
pub mod replays;
#[cfg(target_arch = "wasm32")]
mod root;
pub mod worker;
