//! The part of a policy that concerns some services: coming to it by deltas is building it, it decides for these services as
//! the whole does, and it holds nothing of others.
//!
//! `PROPTEST_CASES` sets how many; 256 unless it does.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::answer::Details;
use portcullis_model::credential::Kind;
use portcullis_model::id::Id;
use portcullis_model::policy::{build, build_delta};
use portcullis_model::source::{Credential, Delta, Projected, Projection, Replaced, Source};
use portcullis_model::time::UnixTime;
use portcullis_model::verdict::Verdict;
use portcullis_tests::random::{self, Choices};
use proptest::prelude::*;

type Numbers = Vec<Vec<u16>>;
type Answered = (Verdict, Vec<u8>);

/// The tenant of which nothing is kept, in the place of `system`.
const APART: &str = "initech";
const TENANTS: [&str; 3] = ["acme", "globex", APART];

fn numbers(lists: std::ops::Range<usize>, each: usize) -> impl Strategy<Value = Numbers> {
    prop::collection::vec(prop::collection::vec(any::<u16>(), each / 2..=each), lists)
}

fn history(policies: &Numbers) -> Result<Vec<Source>> {
    let documents = policies.iter().zip(1..);
    documents.map(|(list, revision)| random::document(&mut Choices::new(list), revision)).collect()
}

fn projection(services: &[&str]) -> Result<Projection> {
    let services: Result<BTreeSet<Id>, _> = services.iter().map(|id| id.parse()).collect();
    Ok(Projection::new(services?, APART.parse()?))
}

fn decide(gate: &Gate, (head, now): &(Vec<u8>, UnixTime)) -> Answered {
    let mut details = Vec::new();
    let verdict = gate.decide(Input { head, now: *now, body_digest: None, replay: None }, &mut Silent, &mut details);
    (verdict, details)
}

fn loaded(source: &Source) -> Result<Gate> {
    let mut gate = Gate::default();
    gate.load(build(source)?)?;
    gate.confirm(random::confirmed());
    Ok(gate)
}

/// The credentials of `old` that are not the same in `new`.
fn replaced(old: &Source, new: &Source) -> Vec<Credential> {
    old.credentials.iter().filter(|credential| !new.credentials.contains(credential)).cloned().collect()
}

/// No text and no digest of what is not in `kept` stands in `bytes`, which are made of `whole` or of what leads to it.
fn holds_nothing_else(bytes: &[u8], whole: &[&Source], kept: &[&Source]) -> Result<()> {
    let has = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    let digests = |of: &[&Source]| -> BTreeSet<[u8; 32]> {
        let secrets = of.iter().flat_map(|source| &source.credentials).flat_map(|held| &held.secrets);
        secrets.map(|secret| *secret.sha256.as_bytes()).collect()
    };
    for foreign in digests(whole).difference(&digests(kept)) {
        ensure!(!has(foreign), "the digest of a credential that is not kept is there");
    }
    let is_kept = |tenant: &str| kept.iter().any(|source| source.tenants.iter().any(|of| of.id.as_str() == tenant));
    for foreign in TENANTS.iter().filter(|tenant| !is_kept(tenant)) {
        ensure!(!has(foreign.as_bytes()), "the tenant `{foreign}` is there");
    }
    for service in ["one", "two"] {
        let is_kept = kept.iter().any(|source| source.services.iter().any(|of| of.id.as_str() == service));
        ensure!(is_kept || !has(format!("{service}/e").as_bytes()), "an endpoint of `{service}` is there");
    }
    let hosts = |of: &[&Source]| -> BTreeSet<String> {
        let hosts = of.iter().flat_map(|source| &source.services).flat_map(|service| &service.hosts);
        hosts.map(|host| host.as_str().to_owned()).collect()
    };
    let kept = hosts(kept);
    // A host may be the end of one that is kept.
    let foreign = hosts(whole).into_iter().filter(|host| !kept.iter().any(|kept| kept.ends_with(host)));
    for foreign in foreign {
        ensure!(!has(foreign.as_bytes()), "the host `{foreign}` is there");
    }
    Ok(())
}

fn deltas_lead_where_building_does(
    documents: &[Source],
    requests: &[(Vec<u8>, UnixTime)],
    projection: &Projection,
) -> Result<()> {
    let first = documents.first().context("a history has a document")?;
    let base = projection.source(first.clone());
    holds_nothing_else(&build(&base)?, &[first], &[&base])?;
    let mut moved = loaded(&base)?;
    for [old, new] in documents.array_windows() {
        let (before, after) = (projection.source(old.clone()), projection.source(new.clone()));
        let built = loaded(&after)?;
        let was = Replaced { services: &old.services, credentials: &replaced(old, new) };
        match projection.delta(&Delta::between(old, new), &was) {
            Projected::NewBase => {
                ensure!(
                    projection.tenants(&old.services) != projection.tenants(&new.services),
                    "a new base although no pin moved"
                );
                moved = loaded(&after)?;
            }
            Projected::Delta(delta) => {
                let bytes = build_delta(&delta)?;
                holds_nothing_else(&bytes, &[old, new], &[&before, &after])?;
                let revision = moved.check_delta(bytes)?;
                moved.apply_delta(revision)?;
            }
        }
        for request in requests {
            let (moved, anew) = (decide(&moved, request), decide(&built, request));
            ensure!(moved == anew, "revision {}: moved {:?}, built {:?}", new.revision, moved.0, anew.0);
        }
    }
    Ok(())
}

/// What the whole allows in a kept service the part allows, with the same answer, and nothing else. Of keys that the part
/// does not keep it says another reason.
fn decides_as_the_whole(
    source: &Source,
    requests: &[(Vec<u8>, UnixTime)],
    services: &[&str],
    projection: &Projection,
) -> Result<()> {
    let (whole, part) = (loaded(source)?, loaded(&projection.source(source.clone()))?);
    let tenants = projection.tenants(&source.services);
    for request in requests {
        let ((of_whole, whole), (of_part, part)) = (decide(&whole, request), decide(&part, request));
        let facts = Details::unpack(&whole)?.facts;
        let is_kept = services.contains(&facts.service)
            && (facts.tenant.is_empty() || tenants.contains(&facts.tenant.parse()?))
            && facts.credential.as_ref().is_none_or(|held| held.kind != Kind::Management);
        // A credential that the part does not keep is unknown there; the whole may have another reason. To the caller both
        // are the same 401.
        let is_unproven = |verdict: &Verdict| matches!(verdict, Verdict::Deny(reason) if reason.status() == 401);
        if is_kept && of_whole != of_part && is_unproven(&of_whole) {
            ensure!(is_unproven(&of_part), "the whole says {of_whole:?}, the part {of_part:?}");
        } else if is_kept {
            ensure!((of_whole, &whole) == (of_part, &part), "the whole says {of_whole:?}, the part {of_part:?}");
        } else if of_part == Verdict::Allow {
            ensure!(of_whole == Verdict::Allow && services.contains(&facts.service), "the part allows {of_whole:?}");
        }
    }
    Ok(())
}

fn run(policies: &Numbers, asked: &Numbers) -> Result<()> {
    let documents = history(policies)?;
    let requests: Result<Vec<_>> = asked.iter().map(|list| random::request(&mut Choices::new(list))).collect();
    let requests = requests?;
    for services in [&["one"][..], &["two"], &["one", "two"], &["three"]] {
        let projection = projection(services)?;
        deltas_lead_where_building_does(&documents, &requests, &projection)?;
        for source in &documents {
            decides_as_the_whole(source, &requests, services, &projection)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_part_is_moved_by_its_deltas_and_holds_nothing_else(
        (policies, asked) in (numbers(1..5, 400), numbers(1..32, 48))
    ) {
        run(&policies, &asked).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
    }
}

/// A digest of which nobody knows whose it was could be that of a key that the part has.
#[test]
fn a_removal_of_an_unknown_digest_asks_for_a_new_base() -> Result<()> {
    let old = random::document(&mut Choices::new(&[]), 1)?;
    let new = Source { revision: portcullis_model::id::Revision(2), credentials: Vec::new(), ..old.clone() };
    let (delta, projection) = (Delta::between(&old, &new), projection(&["one"])?);
    let unknown = Replaced { services: &old.services, credentials: &[] };
    ensure!(projection.delta(&delta, &unknown) == Projected::NewBase);
    let known = Replaced { services: &old.services, credentials: &old.credentials };
    ensure!(matches!(projection.delta(&delta, &known), Projected::Delta(_)));
    Ok(())
}

/// The checkpoint of the audit names every tenant, so it is not for those who are to have some of them.
#[test]
fn a_pinned_part_has_no_checkpoint() -> Result<()> {
    let mut old = random::document(&mut Choices::new(&[]), 1)?;
    old.checkpoint = Some("of all tenants".to_owned());
    let new = Source {
        revision: portcullis_model::id::Revision(2),
        checkpoint: Some("a later one".to_owned()),
        ..old.clone()
    };
    for pin in [None, old.tenants.first().map(|tenant| tenant.id.clone())] {
        let pinned = |source: &Source| {
            let mut source = source.clone();
            source.services.iter_mut().for_each(|service| service.tenant.clone_from(&pin));
            source
        };
        let (old, new, projection) = (pinned(&old), pinned(&new), projection(&["one"])?);
        ensure!(projection.source(old.clone()).checkpoint.is_some() == pin.is_none());
        let was = Replaced { services: &old.services, credentials: &[] };
        let Projected::Delta(delta) = projection.delta(&Delta::between(&old, &new), &was) else {
            anyhow::bail!("a checkpoint asks for no new base");
        };
        ensure!(delta.checkpoint.is_some() == pin.is_none());
    }
    Ok(())
}
