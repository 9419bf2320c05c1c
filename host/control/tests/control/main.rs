//! What control promises. A real engine decides, a real file remembers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]

mod bases;
mod feed;
mod feeds;
mod house;
mod orders;
mod signers;
mod tokens;
