//! Random policies and requests: every way of coming to a decision comes to the same one.
//!
//! `PROPTEST_CASES` sets how many; 256 unless it does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use portcullis_engine::{Decision, Engine, Request};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::answer::Details;
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Delta, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::{Reason, Verdict};
use portcullis_tests::corpus::engine;
use portcullis_tests::random::{self, Choices};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// Numbers to choose documents and requests by.
type Numbers = Vec<Vec<u16>>;

fn numbers(lists: std::ops::Range<usize>, each: usize) -> impl Strategy<Value = Numbers> {
    prop::collection::vec(prop::collection::vec(any::<u16>(), each / 2..=each), lists)
}

/// One to four documents of rising revisions, and what is asked of them.
fn scenario() -> impl Strategy<Value = (Numbers, Numbers)> {
    (numbers(1..5, 400), numbers(1..32, 48))
}

fn documents(numbers: &Numbers) -> Result<Vec<Source>> {
    numbers.iter().zip(1..).map(|(list, revision)| random::document(&mut Choices::new(list), revision)).collect()
}

fn requests(numbers: &Numbers) -> Result<Vec<(Vec<u8>, UnixTime)>> {
    numbers.iter().map(|list| random::request(&mut Choices::new(list))).collect()
}

/// A verdict and its packed details.
type Answered = (Verdict, Vec<u8>);

fn decide(gate: &Gate, (head, now): &(Vec<u8>, UnixTime)) -> Answered {
    let mut details = Vec::new();
    let verdict = gate.decide(Input { head, now: *now, body_digest: None, replay: None }, &mut Silent, &mut details);
    (verdict, details)
}

/// What the gate says of the facts of an earlier answer.
fn judge(gate: &Gate, (_, answered): &Answered, now: UnixTime) -> Result<Answered> {
    let mut details = Vec::new();
    let verdict = gate.judge(&Details::unpack(answered)?.facts, now, &mut Silent, &mut details);
    Ok((verdict, details))
}

fn packed(decision: &Decision) -> Answered {
    let mut details = Vec::new();
    assert!(decision.details().pack(&mut details).is_ok(), "what was unpacked is text");
    (decision.verdict(), details)
}

fn loaded(source: &Source) -> Result<Gate> {
    let mut gate = Gate::default();
    gate.load(build(source)?)?;
    gate.confirm(random::confirmed());
    Ok(gate)
}

fn compiled() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

/// Asks both builds of the guest the same and compares byte by byte.
fn compare(gate: &Gate, engine: &Engine, requests: &[(Vec<u8>, UnixTime)]) -> Result<()> {
    for request in requests {
        let (head, now) = request;
        let native = decide(gate, request);
        let sandboxed = packed(&engine.decide(Request::new(head, *now))?);
        ensure!(native == sandboxed, "natively {:?}, in the component {:?}", native.0, sandboxed.0);

        let mut facts = Vec::new();
        Details::unpack(&native.1)?.facts.pack(&mut facts)?;
        let native = judge(gate, &native, *now)?;
        let sandboxed = packed(&engine.judge(&facts, *now)?);
        ensure!(native == sandboxed, "judged natively {:?}, in the component {:?}", native.0, sandboxed.0);
    }
    Ok(())
}

fn native_and_component_agree(documents: &[Source], requests: &[(Vec<u8>, UnixTime)]) -> Result<()> {
    let Some(first) = documents.first() else { return Ok(()) };
    let mut gate = loaded(first)?;
    let engine = engine(&compiled())?;
    engine.load(build(first)?.into())?;
    engine.confirm(random::confirmed());
    compare(&gate, &engine, requests)?;
    for [old, new] in documents.array_windows() {
        let delta = build_delta(&Delta::between(old, new))?;
        engine.apply(&delta)?;
        let revision = gate.check_delta(delta)?;
        gate.apply_delta(revision)?;
        compare(&gate, &engine, requests)?;
    }
    Ok(())
}

fn deltas_lead_where_building_does(documents: &[Source], requests: &[(Vec<u8>, UnixTime)]) -> Result<()> {
    let Some(first) = documents.first() else { return Ok(()) };
    let mut moved = loaded(first)?;
    for [old, new] in documents.array_windows() {
        let revision = moved.check_delta(build_delta(&Delta::between(old, new))?)?;
        moved.apply_delta(revision)?;
        let built = loaded(new)?;
        for request in requests {
            let (after, anew) = (decide(&moved, request), decide(&built, request));
            ensure!(after == anew, "revision {revision}: moved {:?}, built {:?}", after.0, anew.0);
            let (after, anew) = (judge(&moved, &anew, request.1)?, judge(&built, &anew, request.1)?);
            ensure!(after == anew, "revision {revision}: judged when moved {:?}, built {:?}", after.0, anew.0);
        }
    }
    Ok(())
}

fn config() -> ProptestConfig {
    // A failure becomes a case of the corpus, not a file of numbers.
    ProptestConfig { failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

fn failed(result: Result<()>) -> Result<(), TestCaseError> {
    result.map_err(|error| TestCaseError::fail(format!("{error:#}")))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_component_decides_as_native_code_does((policies, asked) in scenario()) {
        let run = || native_and_component_agree(&documents(&policies)?, &requests(&asked)?);
        failed(run())?;
    }

    #[test]
    fn moving_a_policy_by_deltas_is_building_the_last_one((policies, asked) in scenario()) {
        let run = || deltas_lead_where_building_does(&documents(&policies)?, &requests(&asked)?);
        failed(run())?;
    }
}

/// The properties above say something only if the random requests get somewhere.
#[test]
fn random_requests_reach_allows_and_most_reasons() -> Result<()> {
    let mut runner = TestRunner::deterministic();
    let (mut allowed, mut asked, mut reasons) = (0, 0, BTreeSet::new());
    for _ in 0..256 {
        let tree = scenario().new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let (policies, questions) = tree.current();
        for source in documents(&policies)? {
            let gate = loaded(&source)?;
            for request in requests(&questions)? {
                asked += 1;
                match decide(&gate, &request).0 {
                    Verdict::Allow => allowed += 1,
                    Verdict::Deny(reason) => drop(reasons.insert(reason)),
                    Verdict::NeedBody(_) => {}
                }
            }
        }
    }
    // Random requests are not signed; the corpus and the tests of signatures are.
    let of_signatures = |reason: &Reason| (Reason::SignatureFormsTwo..=Reason::SignatureKeysMissing).contains(reason);
    let missed: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !reasons.contains(reason) && !of_signatures(reason))
        .map(|reason| reason.name())
        .collect();
    ensure!(allowed * 20 > asked, "only {allowed} of {asked} were allowed");
    ensure!(missed.len() <= 20, "not reached: {missed:?}");
    Ok(())
}
