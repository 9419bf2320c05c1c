//! The store as its callers see it, over real files.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "these are tests")]

mod audit;
mod bulk;
mod changes;
mod decisions;
mod error_log;
mod evidence;
mod idempotency;
mod lists;
mod opening;
mod random;
mod sample;
mod usage;
