//! The filter in the real Envoy. Each policy has a listener of its own.

use std::path::Path;

use anyhow::{Context as _, Result};
use base64ct::{Base64, Encoding as _};
use portcullis_model::time::UnixTime;
use portcullis_tests::clock::Clock;
use portcullis_tests::corpus::{Built, Case};
use portcullis_tests::envoy::{Config, Envoy};
use portcullis_tests::feed::Feeds;
use portcullis_tests::module;
use portcullis_tests::wire::{Upstream, connect, exchange};
use serde_json::{Value, json};

use crate::CORPUS;
use crate::listeners::{cluster, configuration, listener, message};
use crate::places::Places;
use crate::run::each_case;

/// The worker, and the main thread that its instance was copied from.
const INSTANCES: usize = 2;
/// The time at which Envoy starts: earlier than every case but one at 0, when Envoy aborts.
const START_S: u64 = 1;
const KEY_VARIABLE: &str = "PORTCULLIS_FEED_KEY";

/// The filter with that configuration, in a virtual machine of that name.
fn filter(module: &Path, name: &str, plugin: &Value) -> Value {
    let config = json!({
        "name": name,
        "configuration": { "@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string() },
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module } },
            "environment_variables": { "host_env_keys": [KEY_VARIABLE] },
        },
        "failure_policy": "FAIL_CLOSED",
        "allow_on_headers_stop_iteration": true,
    });
    json!({ "name": "portcullis", "typed_config": message("filters.http.wasm.v3.Wasm", json!({ "config": config })) })
}

/// Deltas, key sheets and confirmations come by a feed, as from a host.
#[test]
fn every_case_is_answered_in_the_filter_as_everywhere() -> Result<()> {
    let module = module::filter()?;
    let (upstream, feeds, places) = (Upstream::start()?, Feeds::start()?, Places::of_the_corpus());
    let first = UnixTime::from_secs(START_S).context("a time")?;
    let clock = Clock::new(first)?;
    let mut listeners = Vec::new();
    for (name, setting, follows) in places.all() {
        let confirmed = if follows { Some(first) } else { setting.confirmed };
        feeds.put(&name, setting.build()?, confirmed)?;
        let feed = json!({
            "name": name, "cluster": "portcullis", "authority": "portcullis.internal", "key_env": KEY_VARIABLE,
        });
        listeners.push(listener(&name, vec![filter(&module, &name, &json!({ "node": "tests", "feed": feed }))]));
    }
    let clusters = [cluster("upstream", upstream.address().port()), cluster("portcullis", feeds.port())];
    let mut environment = clock.environment();
    environment.push((KEY_VARIABLE.to_owned(), Feeds::KEY.to_owned()));
    let envoy = Envoy::start(Config { text: configuration(&listeners, &clusters), workers: 1, environment })?;
    let addresses = envoy.listeners()?;

    let followed = |time: Option<UnixTime>| {
        for (name, setting, follows) in places.all() {
            if let (Some(time), true) = (time, follows) {
                feeds.confirm(&name, time)?;
            }
            // A worker takes no base that its host does not confirm, and goes on asking for one.
            if setting.policy.is_some() && setting.confirmed.is_some() {
                feeds.until_followed(&name, INSTANCES)?;
            }
        }
        Ok::<(), anyhow::Error>(())
    };
    followed(None).with_context(|| envoy.last_words())?;
    let mut now = first;
    let cases = CORPUS.cases.iter().collect();
    each_case("envoy-filter", cases, &upstream, |case, bytes| {
        if case.at != now {
            now = case.at;
            clock.set(now)?;
            followed(Some(now))?;
        }
        let place = places.name(case)?;
        let address = *addresses.get(&place).with_context(|| format!("there is no listener `{place}`"))?;
        exchange(&mut connect(address)?, bytes, case.request.method == b"HEAD")
    })
    .with_context(|| envoy.last_words())
}

/// A policy in the configuration is always confirmed, and no delta comes after it: the cases that are about one or the other
/// are asked with a feed alone.
#[test]
fn every_case_of_a_policy_in_the_configuration_is_answered_as_everywhere() -> Result<()> {
    let module = module::filter()?;
    let (upstream, places) = (Upstream::start()?, Places::of_the_corpus());
    let clock = Clock::new(UnixTime::from_secs(START_S).context("a time")?)?;
    let mut listeners = Vec::new();
    for (name, setting, _) in places.all() {
        let Built { base: Some(base), sheets, .. } = setting.build()? else { continue };
        let sheets: Vec<String> = sheets.iter().map(|sheet| Base64::encode_string(sheet)).collect();
        let plugin =
            json!({ "node": "tests", "policy_base64": Base64::encode_string(&base), "key_sheets_base64": sheets });
        listeners.push(listener(&name, vec![filter(&module, &name, &plugin)]));
    }
    let clusters = [cluster("upstream", upstream.address().port())];
    let environment = clock.environment();
    let envoy = Envoy::start(Config { text: configuration(&listeners, &clusters), workers: 1, environment })?;
    let addresses = envoy.listeners()?;
    let is_inline = |case: &&Case| case.policy.is_some() && case.deltas.is_empty() && case.confirmed == Some(case.at);
    let cases = CORPUS.cases.iter().filter(is_inline).collect();
    each_case("envoy-inline", cases, &upstream, |case, bytes| {
        clock.set(case.at)?;
        let place = places.name(case)?;
        let address = *addresses.get(&place).with_context(|| format!("there is no listener `{place}`"))?;
        exchange(&mut connect(address)?, bytes, case.request.method == b"HEAD")
    })
    .with_context(|| envoy.last_words())
}
