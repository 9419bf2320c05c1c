//! Policies with requests that they allow, for both builds of the gate.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_engine::{Config, Engine, Request};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::key_sheet::{Day, MAX_PART_KEYS, encode};
use portcullis_model::policy::build;
use portcullis_model::signing::{day_key, presets};
use portcullis_model::verdict::Verdict;
use portcullis_tests::minter::Minter;

use crate::{
    NOW_S, bearer_request, clients, key, now, request, signed_request, signers, signers_among, signing_secret, source,
};

/// A step that shares no factor with any number of credentials: it visits the whole table out of order.
const STEP: usize = 7_919;

/// A deadline is wall time, and the machine may be busy with others.
const DEADLINE: Duration = Duration::from_secs(60);

/// A policy, and requests that it allows.
pub struct Case {
    /// The policy's base.
    pub base: Arc<[u8]>,
    /// The key sheets of the day, where requests are signed.
    pub sheets: Vec<Vec<u8>>,
    /// The packed heads of the requests.
    pub heads: Vec<Vec<u8>>,
}

impl Case {
    /// Requests with as many different keys from all over the table.
    pub fn keys(credentials: usize, requests: usize) -> Result<Case> {
        let heads = spread(credentials, requests).map(|number| Ok(request(&key(number))?.0));
        let heads = heads.collect::<Result<_>>()?;
        Ok(Case { base: build(&source(credentials)?)?.into(), sheets: Vec::new(), heads })
    }

    /// Requests without a body, signed by as many different signers from all over the table. One credential in a hundred
    /// signs, as a tenant has one that does.
    pub fn signed(credentials: usize, requests: usize) -> Result<Case> {
        let base = build(&signers(credentials)?)?.into();
        let signers = signers_among(credentials);
        let heads = spread(signers, requests).map(signed_request).collect::<Result<_>>()?;
        Ok(Case { base, sheets: sheets(signers)?, heads })
    }

    /// Requests with as many different access tokens by one key, of clients from all over the table.
    pub fn tokens(minter: &Minter, credentials: usize, requests: usize) -> Result<Case> {
        let mut source = clients(credentials)?;
        source.installation.token_keys = vec![minter.public()];
        let heads = spread(credentials, requests)
            .enumerate()
            .map(|(number, client)| bearer_request(&token(minter, client, number)));
        Ok(Case { base: build(&source)?.into(), sheets: Vec::new(), heads: heads.collect::<Result<_>>()? })
    }

    /// The component with this policy, which allows the requests.
    pub fn engine(&self, workers: NonZeroUsize) -> Result<Engine> {
        let engine = Engine::new(&Config { workers, decide_deadline: DEADLINE, ..Config::default() })?;
        engine.load(Arc::clone(&self.base))?;
        for sheet in &self.sheets {
            engine.load_keys(sheet)?;
        }
        let now = now()?;
        engine.confirm(now);
        for head in &self.heads {
            let verdict = engine.decide(Request::new(head, now))?.verdict();
            ensure!(verdict == Verdict::Allow, "a request that is to be measured is not allowed: {verdict:?}");
        }
        Ok(engine)
    }

    /// The same without the sandbox.
    pub fn gate(&self) -> Result<Gate> {
        let mut gate = Gate::default();
        gate.load(self.base.to_vec())?;
        for sheet in &self.sheets {
            gate.load_keys(sheet)?;
        }
        let now = now()?;
        gate.confirm(now);
        let mut details = Vec::new();
        for head in &self.heads {
            let input = Input { head, now, body_digest: None, replay: None };
            let verdict = gate.decide(input, &mut Silent, &mut details);
            ensure!(verdict == Verdict::Allow, "a request that is to be measured is not allowed: {verdict:?}");
        }
        Ok(gate)
    }

    /// The first request.
    pub fn head(&self) -> Result<&[u8]> {
        self.heads.first().map(Vec::as_slice).context("there are requests")
    }
}

/// So many numbers from all over a table of that size.
pub fn spread(size: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |number| number * STEP % size)
}

/// The parts of the day's key sheet of so many signers.
pub fn sheets(signers: usize) -> Result<Vec<Vec<u8>>> {
    let (profile, day) = (presets::antavo("eu"), Day::of(now()?));
    let numbers: Vec<usize> = (0..signers).collect();
    let parts = numbers.chunks(MAX_PART_KEYS).map(|part| {
        let keys: Vec<_> =
            part.iter().map(|number| day_key(&profile, signing_secret(*number).as_bytes(), day)).collect();
        let first = u32::try_from(part.first().copied().unwrap_or_default())?;
        Ok(encode(day, first, &keys)?)
    });
    parts.collect()
}

/// An access token of the client of that number, unlike those with another `jti`.
#[must_use]
pub fn token(minter: &Minter, client: usize, jti: usize) -> String {
    let client = format!("k{client:07}");
    minter.token(&serde_json::json!({
        "iss": "https://api.shop.example", "sub": client, "client_id": client, "aud": ["shop"], "scope": "orders.read",
        "iat": NOW_S - 60, "exp": NOW_S + 840, "jti": format!("{jti:022}"), "secret_version": 1,
    }))
}
