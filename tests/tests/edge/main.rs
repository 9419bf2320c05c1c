//! The filter in the real Envoy, fed by a host that does whatever a test needs of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod faults;
mod host;
mod memory;
mod real;
mod world;
