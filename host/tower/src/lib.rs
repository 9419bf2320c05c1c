//! The gate around HTTP services: a layer of `tower` for axum, tonic and hyper, and the parts that any other server around the
//! gate is made of.
//!
//! | module | holds |
//! |---|---|
//! | [`layer`], [`gated`] | the gate in front of a service, and bodies on their way through it |
//! | [`enforce`] | the one place where a decision becomes a permit or a denial |
//! | [`replays`] | signed requests that are accepted once |
//! | [`head`] | a request's head, as the gate takes it |
//! | [`body`] | bodies that a signature is over, read whole |
//! | [`edit`] | what an allow changes in a head |
//! | [`answer`] | what a caller is told of a denial |
//! | [`journal`] | where decisions are recorded |
//! | [`clock`] | the time |
//!
//! The engine has the policy. Whoever embeds this loads it, changes it by deltas, brings the keys of each day where requests
//! are signed, and confirms that it is the newest, all while requests are decided. A policy that was not confirmed for longer
//! than its `max_staleness_s` denies everything.
//!
//! ```
//! use std::sync::Arc;
//!
//! use portcullis_engine::{Config, Engine};
//! use portcullis_model::credential::Seed;
//! use portcullis_model::id::Revision;
//! use portcullis_model::key_sheet::{Day, DayKey, encode};
//! use portcullis_model::policy::{build, build_delta};
//! use portcullis_model::source::{Delta, Source};
//! use portcullis_tower::{GateLayer, clock};
//! use tower::{Layer, service_fn};
//!
//! let engine = Arc::new(Engine::new(&Config::default())?);
//! engine.load(build(&Source::empty(Revision(1), Seed([0; 16])))?.into())?;
//! engine.confirm(clock::now());
//! let gate = GateLayer::new(Arc::clone(&engine)).service("shop");
//! let guarded = gate.layer(service_fn(async |_: http::Request<()>| Ok::<_, ()>(http::Response::new(()))));
//! # drop(guarded);
//!
//! // Later, beside the requests: a change, the keys of a day, and that there is nothing newer.
//! engine.apply(&build_delta(&Delta::empty(Revision(1), Revision(2), Seed([0; 16])))?)?;
//! engine.load_keys(&encode(Day::of(clock::now()), 0, &[DayKey([0; 64])])?)?;
//! engine.confirm(clock::now());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

pub mod answer;
pub mod body;
pub mod clock;
pub mod edit;
pub mod enforce;
pub mod gated;
pub mod head;
pub mod journal;
pub mod layer;
pub mod replays;

pub use layer::{Caller, GateLayer, Gated};
