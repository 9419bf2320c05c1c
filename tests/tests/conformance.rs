//! Every case of the corpus, natively and in the component.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use portcullis_engine::{Decision, Outcome as EngineOutcome, Request as EngineRequest};
use portcullis_eval::{Gate, Input, Outcome, Recorder, Silent, Step};
use portcullis_model::answer::Details;
use portcullis_model::verdict::{Reason, Verdict};
use portcullis_tests::corpus::{Case, Corpus, Setting, engine};

/// The fewest cases that the corpus may have, and the fewest different captures among them.
const MIN_CASES: usize = 750;
const MIN_CAPTURES: usize = 180;

static CORPUS: LazyLock<Corpus> =
    LazyLock::new(|| Corpus::load().unwrap_or_else(|error| panic!("the corpus cannot be read: {error:#}")));

/// What only damage in memory or a host's own bug can bring about; each has a test of its own below.
const NOT_BY_REQUEST: [Reason; 2] = [Reason::PolicyUnreadable, Reason::HeadMalformed];

fn compiled() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

/// Goes over every case with what its setting needs, and fails with all that failed.
fn each_case<S>(
    prepare: impl Fn(&Setting<'_>) -> Result<S>,
    mut check: impl FnMut(&S, &Case) -> Result<()>,
) -> Result<()> {
    let mut asked = 0;
    let mut failed = Vec::new();
    for (setting, cases) in CORPUS.by_setting() {
        let subject = prepare(&setting).with_context(|| setting.to_string())?;
        for case in cases {
            asked += 1;
            if let Err(error) = check(&subject, case) {
                failed.push(format!("{setting}: `{}`: {error:#}", case.name));
            }
        }
    }
    ensure!(failed.is_empty(), "{} of {asked} cases failed:\n{}", failed.len(), failed.join("\n"));
    ensure!(asked == CORPUS.cases.len(), "{asked} cases were asked of {}", CORPUS.cases.len());
    Ok(())
}

/// A native decision: the verdict and the packed details.
fn decide(gate: &Gate, head: &[u8], case: &Case) -> (Verdict, Vec<u8>) {
    let mut details = Vec::new();
    let verdict = gate.decide(input(head, case), &mut Silent, &mut details);
    (verdict, details)
}

fn input<'a>(head: &'a [u8], case: &'a Case) -> Input<'a> {
    Input { head, now: case.at, body_digest: case.request.body_digest.as_deref(), replay: case.replay }
}

fn asked<'a>(head: &'a [u8], case: &'a Case) -> EngineRequest<'a> {
    let Input { head, now, body_digest, replay } = input(head, case);
    EngineRequest { head, now, body_digest, replay }
}

fn packed(decision: &Decision) -> (Verdict, Vec<u8>) {
    let mut details = Vec::new();
    assert!(decision.details().pack(&mut details).is_ok(), "what was unpacked is text");
    (decision.verdict(), details)
}

#[test]
fn every_case_is_decided_as_expected_natively_and_in_the_component() -> Result<()> {
    let both = |setting: &Setting<'_>| Ok((setting.gate()?, setting.engine(&compiled())?));
    each_case(both, |(gate, engine), case| {
        let head = case.request.pack()?;
        let (verdict, details) = decide(gate, &head, case);
        case.expect.check(verdict, &Details::unpack(&details)?)?;
        let decision = engine.decide(asked(&head, case))?;
        ensure!(packed(&decision) == (verdict, details), "the component says {decision:?}");
        Ok(())
    })
}

#[test]
fn a_head_is_packed_as_the_contract_says() -> Result<()> {
    each_case(
        |_| Ok(()),
        |(), case| {
            let too_large = [Reason::HeadTooLarge, Reason::TargetTooLong].map(Verdict::Deny);
            match case.request.pack_within_limits() {
                Ok(head) => ensure!(head == case.request.pack()?, "the two packers differ"),
                Err(error) => ensure!(too_large.contains(&case.expect.verdict), "{error}"),
            }
            Ok(())
        },
    )
}

#[test]
fn every_reason_is_expected_by_some_case() {
    let expected: BTreeSet<_> = CORPUS
        .cases
        .iter()
        .filter_map(|case| match case.expect.verdict {
            Verdict::Deny(reason) => Some(reason),
            Verdict::Allow | Verdict::NeedBody(_) => None,
        })
        .collect();
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !expected.contains(reason) && !NOT_BY_REQUEST.contains(reason))
        .map(|reason| reason.name())
        .collect();
    assert!(missing.is_empty(), "no case expects {missing:?}");
    for reason in NOT_BY_REQUEST {
        assert!(!expected.contains(&reason), "{reason} has a case, so it needs no exception");
    }
}

#[test]
fn nothing_of_the_corpus_is_left_out() {
    let mut names = BTreeMap::new();
    for case in &CORPUS.cases {
        *names.entry(case.name.as_str()).or_insert(0) += 1;
    }
    let doubled: Vec<_> = names.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "names of more than one case: {doubled:?}");
    assert_eq!(CORPUS.counts.values().sum::<usize>(), CORPUS.cases.len());
    let empty: Vec<_> = CORPUS.counts.iter().filter(|(_, count)| **count == 0).collect();
    assert!(empty.is_empty(), "files without a case: {empty:?}");
    assert!(CORPUS.cases.len() >= MIN_CASES, "{} cases", CORPUS.cases.len());

    let used: BTreeSet<_> = CORPUS.cases.iter().flat_map(|case| case.policy.iter().chain(&case.deltas)).collect();
    let unused: Vec<_> = CORPUS.policies.keys().filter(|policy| !used.contains(policy)).collect();
    assert!(unused.is_empty(), "policies without a case: {unused:?}");

    let used: BTreeSet<_> = CORPUS.cases.iter().filter_map(|case| case.request.capture.as_ref()).collect();
    let unused: Vec<_> = CORPUS.captures.iter().filter(|capture| !used.contains(capture)).collect();
    assert!(unused.is_empty(), "captures without a case: {unused:?}");
    assert!(used.len() >= MIN_CAPTURES, "{} captures", used.len());
}

/// DESIGN.md, invariant 7: unknown, wrong, revoked and expired look the same.
#[test]
fn a_caller_cannot_tell_one_401_from_another() -> Result<()> {
    let mut looks: BTreeMap<_, BTreeSet<(&str, String)>> = BTreeMap::new();
    let mut reasons = BTreeSet::new();
    let with_name = |setting: &Setting<'_>| Ok((setting.to_string(), setting.gate()?));
    each_case(with_name, |(setting, gate), case| {
        let (verdict, details) = decide(gate, &case.request.pack()?, case);
        let details = Details::unpack(&details)?;
        let Verdict::Deny(reason) = verdict else { return Ok(()) };
        if reason.status() == 401 {
            ensure!(!details.challenge.is_empty(), "a 401 needs a challenge (RFC 9110 section 15.5.2)");
            ensure!(details.strip.is_none() && details.obligations.is_empty(), "a denial edits nothing");
            // Whoever presents a token is answered in its scheme (RFC 6750 section 3); every token alike.
            let is_bearer = |(name, value): &(Vec<u8>, Vec<u8>)| {
                name.eq_ignore_ascii_case(b"authorization")
                    && value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
            };
            let takes_tokens = details.challenge.contains("Bearer");
            let has_token = takes_tokens && case.request.headers.iter().any(is_bearer);
            let service = (setting.clone(), details.facts.service.to_owned(), has_token);
            looks.entry(service).or_default().insert((reason.public_code().as_str(), details.challenge.to_owned()));
            reasons.insert(reason);
        } else if reason == Reason::TokenLacksScope {
            ensure!(details.challenge.contains("error=\"insufficient_scope\""), "RFC 6750 section 3.1 names the error");
        } else {
            ensure!(details.challenge.is_empty(), "only a 401 and a scope that is lacking have a challenge");
        }
        Ok(())
    })?;
    for (service, looks) in &looks {
        assert_eq!(looks.len(), 1, "{service:?} answers 401 in more than one way: {looks:?}");
    }
    let all = Reason::ALL.iter().filter(|reason| reason.status() == 401).count();
    assert_eq!(reasons.len(), all, "every reason of a 401 was among them");
    Ok(())
}

/// What-if over recorded facts: nothing has changed, so nothing changes.
#[test]
fn the_facts_of_a_proven_request_are_judged_as_it_was() -> Result<()> {
    let both = |setting: &Setting<'_>| Ok((setting.gate()?, setting.engine(&compiled())?));
    each_case(both, |(gate, engine), case| {
        let (verdict, details) = decide(gate, &case.request.pack()?, case);
        let facts = Details::unpack(&details)?.facts;
        let mut judged = Vec::new();
        let judgement = gate.judge(&facts, case.at, &mut Silent, &mut judged);
        let mut bytes = Vec::new();
        facts.pack(&mut bytes).unwrap();
        let decision = engine.judge(&bytes, case.at)?;
        ensure!(packed(&decision) == (judgement, judged.clone()), "the component judges {decision:?}");
        // Whatever was denied after the proof is denied again, for the same reason.
        if facts.credential.is_some() {
            ensure!(judgement == verdict, "decided {verdict:?}, judged {judgement:?}");
            ensure!(Details::unpack(&judged)?.facts == facts, "judging gives other facts");
        }
        ensure!(verdict != Verdict::Allow || facts.credential.is_some(), "an allow without a credential");
        Ok(())
    })
}

#[test]
fn an_explanation_agrees_and_holds_no_key() -> Result<()> {
    let keys = CORPUS.keys();
    ensure!(keys.len() > 40, "keys are recognised: {}", keys.len());
    let both = |setting: &Setting<'_>| Ok((setting.gate()?, setting.engine(&compiled())?));
    each_case(both, |(gate, engine), case| {
        let head = case.request.pack()?;
        // An explanation is of a request that comes for the first time.
        let input = Input { replay: None, ..input(&head, case) };
        let mut decided = (Verdict::Allow, Vec::new());
        decided.0 = gate.decide(input, &mut Silent, &mut decided.1);
        let (mut recorder, mut details) = (Recorder::default(), Vec::new());
        let verdict = gate.decide(input, &mut recorder, &mut details);
        let steps = recorder.into_steps();
        ensure!((verdict, &details) == (decided.0, &decided.1), "explained it is {verdict:?}, decided {:?}", decided.0);
        let failed: Vec<_> = steps.iter().filter(|step| step.outcome == Outcome::Fail).collect();
        ensure!(failed.len() == usize::from(verdict != Verdict::Allow), "failed steps: {failed:?}");

        let explanation = engine.explain(asked(&head, case))?;
        ensure!(packed(&explanation.decision) == decided, "the component explains {:?}", explanation.decision);
        let theirs: Vec<_> = explanation.steps.iter().map(|step| (step.check.as_str(), step.outcome)).collect();
        let ours: Vec<_> = steps.iter().map(|step| (step.check.as_str(), outcome(step))).collect();
        ensure!(theirs == ours, "the component's steps are {theirs:?}, natively {ours:?}");
        for (step, native) in explanation.steps.iter().zip(&steps) {
            ensure!(step.detail == native.detail, "details differ: `{}` and `{}`", step.detail, native.detail);
        }

        let details = String::from_utf8_lossy(&details);
        let told = steps.iter().map(|step| step.detail.as_str()).chain([details.as_ref()]);
        for text in told {
            let leaked = keys.iter().find(|key| text.contains(key.as_str()));
            ensure!(leaked.is_none(), "a key is told: {leaked:?} in {text:?}");
        }
        Ok(())
    })
}

fn outcome(step: &Step) -> EngineOutcome {
    match step.outcome {
        Outcome::Pass => EngineOutcome::Pass,
        Outcome::Fail => EngineOutcome::Fail,
        Outcome::Observed => EngineOutcome::Observed,
        Outcome::Skip => EngineOutcome::Skip,
    }
}

#[test]
fn deltas_lead_to_what_the_last_document_says() -> Result<()> {
    let mut compared = 0;
    let both = |setting: &Setting<'_>| Ok((setting.gate()?, setting.gate_from_scratch()?));
    each_case(both, |(gate, from_scratch), case| {
        let Some(from_scratch) = from_scratch else { return Ok(()) };
        let head = case.request.pack()?;
        let (moved, built) = (decide(gate, &head, case), decide(from_scratch, &head, case));
        ensure!(moved == built, "after deltas {:?}, from scratch {:?}", moved.0, built.0);
        compared += usize::from(!case.deltas.is_empty());
        Ok(())
    })?;
    ensure!(compared > 40, "only {compared} cases with deltas have a document that can be built");
    Ok(())
}

#[test]
fn what_is_no_head_is_refused_and_nothing_breaks() -> Result<()> {
    let case = CORPUS.cases.iter().find(|case| case.expect.verdict == Verdict::Allow).context("no case allows")?;
    let setting = CORPUS.setting(case);
    let (gate, engine) = (setting.gate()?, setting.engine(&compiled())?);
    let head = case.request.pack()?;
    let cuts = (0..head.len()).map(|end| head.get(..end).unwrap_or_default().to_vec());
    let longer = [head.as_slice(), b"x"].concat();
    for bytes in cuts.chain([longer]) {
        let (verdict, details) = decide(&gate, &bytes, case);
        ensure!(verdict == Verdict::Deny(Reason::HeadMalformed), "{} bytes: {verdict:?}", bytes.len());
        let decision = engine.decide(asked(&bytes, case))?;
        ensure!(packed(&decision) == (verdict, details), "{} bytes: the component says {decision:?}", bytes.len());
    }
    ensure!(engine.decide(asked(&head, case))?.verdict() == Verdict::Allow, "it still decides");
    Ok(())
}

/// A policy whose checksum holds and whose insides do not: every single word of it turned round, one after the other.
#[test]
fn a_policy_that_cannot_be_read_denies() -> Result<()> {
    const HEADER_BYTES: usize = 160;
    const CHECKSUM: std::ops::Range<usize> = 8..16;
    let small = |case: &&Case| case.policy.as_deref() == Some("strict") && case.expect.verdict == Verdict::Allow;
    let case = CORPUS.cases.iter().find(small).context("no case of the smallest policy allows")?;
    let setting = CORPUS.setting(case);
    let base = setting.build()?.base.context("the setting has a policy")?;
    let head = case.request.pack()?;
    let mut unreadable = 0;
    for at in (HEADER_BYTES..base.len()).step_by(4) {
        let mut damaged = base.clone();
        damaged.iter_mut().skip(at).take(4).for_each(|byte| *byte = !*byte);
        let sum = xxhash_rust::xxh3::xxh3_64(damaged.get(16..).unwrap_or_default());
        damaged.get_mut(CHECKSUM).context("a policy has a checksum")?.copy_from_slice(&sum.to_le_bytes());
        let mut gate = Gate::default();
        if gate.load(damaged.clone()).is_err() {
            continue;
        }
        gate.confirm(case.at);
        let (verdict, details) = decide(&gate, &head, case);
        if verdict == Verdict::Deny(Reason::PolicyUnreadable) {
            unreadable += 1;
            // The component is slower to load, and one in a few shows that it says the same.
            if unreadable % 8 == 1 {
                let engine = engine(&compiled())?;
                engine.load(damaged.into())?;
                engine.confirm(case.at);
                let decision = engine.decide(asked(&head, case))?;
                ensure!(packed(&decision) == (verdict, details), "word {at}: the component says {decision:?}");
            }
        }
    }
    ensure!(unreadable > 0, "no damage was noticed");
    Ok(())
}
