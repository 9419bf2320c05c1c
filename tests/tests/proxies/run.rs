//! Cases on one way: sent, compared, and the list of differences held to be true.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use portcullis_eval::Gate;
use portcullis_model::facts::ReplayAnswer;
use portcullis_tests::corpus::{Case, Setting};
use portcullis_tests::wire::{Answer, Upstream, proxy_line};

use crate::outcome::{Outcome, check_edits};
use crate::{CORPUS, differences};

/// Sends cases in the order of time and compares what comes of each. `ask` sends the bytes of one.
pub(crate) fn each_case(
    way: &str,
    mut cases: Vec<&Case>,
    upstream: &Upstream,
    mut ask: impl FnMut(&Case, &[u8]) -> Result<Answer>,
) -> Result<()> {
    let listed = differences::on(way)?;
    let gates: BTreeMap<Setting<'_>, Gate> = CORPUS
        .by_setting()
        .into_keys()
        .map(|setting| Ok((setting, setting.gate().with_context(|| setting.to_string())?)))
        .collect::<Result<_>>()?;
    cases.sort_by_key(|case| case.at);
    let mut failed = Vec::new();
    for case in &cases {
        let setting = CORPUS.setting(case);
        let bytes = [proxy_line(case.request.peer), case.request.http1()].concat();
        if case.replay == Some(ReplayAnswer::Seen) {
            ask(case, &bytes).with_context(|| format!("`{}` for the first time", case.name))?;
        }
        // What went through before is not this one's.
        drop(upstream.take());
        let answer = ask(case, &bytes);
        let received = upstream.take();
        let expected = Outcome::expected(&case.expect);
        let told = listed.get(&case.name);
        let checked = Outcome::of(case, answer, &received).and_then(|outcome| {
            let edited = match (&outcome, received.first(), gates.get(&setting)) {
                (Outcome::Allowed, Some(received), Some(gate)) if outcome == expected => {
                    check_edits(gate, case, received)
                }
                _ => Ok(()),
            };
            let found = if edited.is_err() { Outcome::AllowedOtherwise } else { outcome };
            match told {
                Some(told) if found == expected && *told != expected => {
                    bail!("it is listed and does what every other case does; take it from the list")
                }
                Some(told) => ensure!(found == *told, "listed as {told:?}, found {found:?}"),
                None => ensure!(found == expected, "expected {expected:?}, found {found:?}: {edited:?}"),
            }
            Ok(())
        });
        if let Err(error) = checked {
            let got: String = received.iter().map(|received| format!("; the upstream got {received}")).collect();
            failed.push(format!("{setting}: `{}`: {error:#}{got}", case.name));
        }
    }
    let different = cases.iter().filter(|case| listed.contains_key(&case.name)).count();
    let (asked, same, all) = (cases.len(), cases.len() - different, CORPUS.cases.len());
    println!("{way}: {asked} of {all} cases asked, {same} as everywhere, {different} listed as different");
    ensure!(failed.is_empty(), "{} of {} cases failed on {way}:\n{}", failed.len(), cases.len(), failed.join("\n"));
    Ok(())
}
