//! Every case on one way: sent, compared, and the list of differences held to be true.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use portcullis_eval::Gate;
use portcullis_tests::corpus::{Case, Setting};
use portcullis_tests::wire::{Answer, Upstream, proxy_line};

use crate::outcome::{Outcome, check_edits};
use crate::{CORPUS, differences};

/// Sends every case in the order of time and compares what comes of it. `ask` sends the bytes of one.
pub(crate) fn every_case(
    way: &str,
    upstream: &Upstream,
    mut ask: impl FnMut(&Setting<'_>, &Case, &[u8]) -> Result<Answer>,
) -> Result<()> {
    let listed = differences::on(way)?;
    let gates: BTreeMap<Setting<'_>, Gate> = CORPUS
        .by_setting()
        .into_keys()
        .map(|setting| Ok((setting, setting.gate().with_context(|| setting.to_string())?)))
        .collect::<Result<_>>()?;
    let mut cases: Vec<&Case> = CORPUS.cases.iter().collect();
    cases.sort_by_key(|case| case.at);
    let mut failed = Vec::new();
    for case in &cases {
        let setting = CORPUS.setting(case);
        let bytes = [proxy_line(case.request.peer), case.request.http1()].concat();
        // What went through on behalf of an earlier one is not this one's.
        upstream.take();
        let answer = ask(&setting, case, &bytes);
        let received = upstream.take();
        let expected = Outcome::expected(&case.expect);
        let told = listed.get(&case.name);
        let checked = Outcome::of(answer, &received).and_then(|outcome| {
            match told {
                Some(told) if outcome == expected && *told != expected => {
                    bail!("it is listed and does what every other case does; take it from the list")
                }
                Some(told) => ensure!(outcome == *told, "listed as {told:?}, found {outcome:?}"),
                None => ensure!(outcome == expected, "expected {expected:?}, found {outcome:?}"),
            }
            match (&outcome, received.first(), gates.get(&setting)) {
                (Outcome::Allowed, Some(received), Some(gate)) if told.is_none() => check_edits(gate, case, received),
                _ => Ok(()),
            }
        });
        if let Err(error) = checked {
            failed.push(format!("{setting}: `{}`: {error:#}", case.name));
        }
    }
    let same = cases.len() - listed.len();
    println!("{way}: {} cases, {same} as everywhere, {} listed as different", cases.len(), listed.len());
    ensure!(failed.is_empty(), "{} of {} cases failed on {way}:\n{}", failed.len(), cases.len(), failed.join("\n"));
    Ok(())
}
