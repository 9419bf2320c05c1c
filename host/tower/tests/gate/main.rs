//! The gate as a layer: what gets through to the service behind it, and what is answered in its place.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what went wrong by failing")]

mod admitted;
mod examples;
mod refused;
mod signed;
mod world;
