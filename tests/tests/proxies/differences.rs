//! The reviewed list of what proxies do to requests before the gate sees them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::CORPUS;
use crate::outcome::Outcome;

/// The ways that the list may speak of.
pub(crate) const WAYS: [&str; 5] = ["envoy-filter", "envoy-inline", "envoy-grpc", "envoy-http", "nginx"];

/// Several cases to which the same happens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The ways on which it happens.
    ways: Vec<String>,
    /// What the proxy does, and why nothing is let through by it.
    does: String,
    /// What comes of it.
    expect: Outcome,
    cases: Vec<String>,
}

/// The differences on one way: by the name of the case, what comes of it.
pub(crate) fn on(way: &str) -> Result<BTreeMap<String, Outcome>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/proxies.json");
    let written: Vec<Written> = serde_json::from_slice(&fs::read(path)?).context("conformance/proxies.json")?;
    let mut found = BTreeMap::new();
    for Written { ways, does, expect, cases } in written {
        ensure!(does.ends_with('.') && does.len() > 20, "`{does}` does not say why");
        ensure!(!cases.is_empty(), "`{does}` has no cases");
        for named in &ways {
            ensure!(WAYS.contains(&named.as_str()), "there is no way `{named}`");
        }
        if !ways.iter().any(|named| named == way) {
            continue;
        }
        for case in cases {
            ensure!(CORPUS.cases.iter().any(|known| known.name == case), "there is no case `{case}`");
            let twice = found.insert(case.clone(), expect.clone()).is_some();
            ensure!(!twice, "`{case}` is listed twice for {way}");
        }
    }
    Ok(found)
}
