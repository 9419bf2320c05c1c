//! Which cases can share a listener: those of one policy that is confirmed at one time, or always at the time of the request.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use portcullis_model::facts::ReplayAnswer;
use portcullis_model::time::UnixTime;
use portcullis_tests::corpus::{Case, Setting};

use crate::CORPUS;

/// Policy, what it is moved to, when it was confirmed where that is not the time of the request, and what a cache must know of
/// the request.
type Key<'c> = (Option<&'c str>, &'c [String], Option<Option<UnixTime>>, Option<bool>);

/// The places that the corpus needs, numbered.
pub(crate) struct Places<'c> {
    places: BTreeMap<Key<'c>, (usize, Setting<'c>)>,
}

fn key(case: &Case) -> Key<'_> {
    let fixed = (case.confirmed != Some(case.at)).then_some(case.confirmed);
    (case.policy.as_deref(), &case.deltas, fixed, case.replay.map(|replay| replay == ReplayAnswer::Seen))
}

impl Places<'static> {
    pub(crate) fn of_the_corpus() -> Self {
        let mut places = BTreeMap::new();
        for case in &CORPUS.cases {
            let number = places.len();
            places.entry(key(case)).or_insert_with(|| (number, CORPUS.setting(case)));
        }
        Places { places }
    }
}

impl<'c> Places<'c> {
    /// The name of each, what has to be loaded, and whether it is confirmed at the time of each request.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, Setting<'c>, bool)> {
        self.places.iter().map(|((_, _, fixed, _), (number, setting))| (name(*number), *setting, fixed.is_none()))
    }

    /// The name of the one that a case belongs to.
    pub(crate) fn name(&self, case: &Case) -> Result<String> {
        let (number, _) = self.places.get(&key(case)).context("every case has a place")?;
        Ok(name(*number))
    }
}

fn name(number: usize) -> String {
    format!("place-{number}")
}
