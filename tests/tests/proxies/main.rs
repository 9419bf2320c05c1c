//! One corpus everywhere: every case is sent as a real request through real proxies, and what comes back is what the case
//! expects: status and public code of a denial, and of an allow what the upstream got.
//!
//! Where a proxy rewrites or refuses a request before the gate sees it, the case is in `tests/conformance/proxies.json`, with
//! what the proxy does, why, and what is expected instead. An entry that is not true any more fails.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod auth_request;
mod authz;
mod differences;
mod ext_authz;
mod filter;
mod listeners;
mod outcome;
mod places;
mod run;

use std::sync::LazyLock;

use portcullis_tests::corpus::Corpus;

static CORPUS: LazyLock<Corpus> =
    LazyLock::new(|| Corpus::load().unwrap_or_else(|error| panic!("the corpus cannot be read: {error:#}")));
