//! The gate around HTTP services: a layer of `tower` for axum, tonic and hyper, and the parts that any other server around the
//! gate is made of.
//!
//! | module | holds |
//! |---|---|
//! | [`layer`] | the gate in front of a service |
//! | [`enforce`] | the one place where a decision becomes a permit or a denial |
//! | [`replays`] | signed requests that are accepted once |
//! | [`head`] | a request's head, as the gate takes it |
//! | [`body`] | the digest of a body that a signature is over |
//! | [`edit`] | what an allow changes in a head |
//! | [`answer`] | what a caller is told of a denial |
//! | [`journal`] | where decisions are recorded |
//!
//! The engine has the policy: whoever embeds this loads, changes and confirms it with [`Engine`](portcullis_engine::Engine),
//! while requests are decided.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

pub mod answer;
pub mod body;
pub mod edit;
pub mod enforce;
pub mod head;
pub mod journal;
pub mod layer;
pub mod replays;

pub use layer::{Caller, GateLayer, Gated};
