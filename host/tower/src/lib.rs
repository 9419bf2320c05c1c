//! The gate around HTTP services.
//!
//! | module | holds |
//! |---|---|
//! | [`enforce`] | the one place where a decision becomes a permit or a denial |
//! | [`replays`] | signed requests that are accepted once |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod enforce;
pub mod replays;
