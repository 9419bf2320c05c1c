//! The filter in the real Envoy. Each policy has a listener and a feed of its own; deltas, key sheets and confirmations come by
//! the feed, as from a host.

use std::path::Path;

use anyhow::{Context as _, Result};
use portcullis_model::time::UnixTime;
use portcullis_tests::clock::Clock;
use portcullis_tests::envoy::{Config, Envoy};
use portcullis_tests::feed::Feeds;
use portcullis_tests::wire::{Upstream, connect, exchange};
use serde_json::{Value, json};

use crate::listeners::{cluster, configuration, listener, message};
use crate::places::Places;
use crate::run::every_case;

/// The worker, and the main thread that its instance was copied from.
const INSTANCES: usize = 2;
/// The time at which Envoy starts: earlier than every case but one at 0, when Envoy aborts.
const START_S: u64 = 1;
const KEY_VARIABLE: &str = "PORTCULLIS_FEED_KEY";

/// The filter with the feed of that name.
fn filter(module: &Path, feed: &str) -> Value {
    let plugin = json!({
        "node": "tests",
        "feed": { "name": feed, "cluster": "portcullis", "authority": "portcullis.internal", "key_env": KEY_VARIABLE },
    });
    let config = json!({
        "name": feed,
        "root_id": "",
        "configuration": { "@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string() },
        "vm_config": {
            "vm_id": feed,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module } },
            "environment_variables": { "host_env_keys": [KEY_VARIABLE] },
        },
        "failure_policy": "FAIL_CLOSED",
        "allow_on_headers_stop_iteration": true,
    });
    json!({ "name": "portcullis", "typed_config": message("filters.http.wasm.v3.Wasm", json!({ "config": config })) })
}

#[test]
fn every_case_is_answered_in_the_filter_as_everywhere() -> Result<()> {
    let module = portcullis_tests::module::filter()?;
    let (upstream, feeds, places) = (Upstream::start()?, Feeds::start()?, Places::of_the_corpus());
    let first = UnixTime::from_secs(START_S).context("a time")?;
    let clock = Clock::new(first)?;
    let mut listeners = Vec::new();
    for (name, setting, follows) in places.all() {
        let confirmed = if follows { Some(first) } else { setting.confirmed };
        feeds.put(&name, setting.build()?, confirmed)?;
        listeners.push(listener(&name, vec![filter(&module, &name)]));
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
            if setting.policy.is_some() {
                feeds.until_followed(&name, INSTANCES)?;
            }
        }
        Ok::<(), anyhow::Error>(())
    };
    followed(None)?;
    let mut now = first;
    every_case("envoy-filter", &upstream, |case, bytes| {
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
