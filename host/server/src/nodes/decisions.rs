//! Decisions that workers of a proxy give back: looked at one by one, and taken as a whole or not at all.

use std::collections::BTreeSet;

use portcullis_control::store::{DecisionRecord, Gap};
use portcullis_model::answer::{Details, MAX_DETAILS_BYTES};
use portcullis_model::feed::{self, ID_COUNT_BITS, ID_WORKER_SHIFT, Told};
use portcullis_model::id::Id;
use portcullis_tower::enforce::cause_name;

/// A batch that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<DecisionRecord>,
    pub(crate) gaps: Vec<Gap>,
}

/// Why nothing of a batch is taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadBatch {
    #[error(transparent)]
    Malformed(#[from] feed::FeedMalformed),
    #[error("record {0} has a reason that is not known here")]
    Reason(usize),
    #[error("record {0} has details that cannot be read")]
    Details(usize),
    #[error("record {0} names a service that is not in the feed")]
    Foreign(usize),
    #[error("record {0} has an id that no worker gives")]
    Id(usize),
    #[error("record {0} is from a time that has not come yet: set the clock of the node")]
    Future(usize),
    #[error("record {0} is a gap of nothing")]
    Gap(usize),
}

/// Reads a batch of a feed that has these services. Its policy has the place of others as well, whose requests share a host with
/// them: `placed` are all of these, and a denial may be of any. Ids may be as young as `latest_ms`, in milliseconds since 1970.
///
/// # Errors
/// [`BadBatch`] with the place of the first record that cannot be taken.
pub(crate) fn read(
    bytes: &[u8],
    services: &BTreeSet<Id>,
    placed: &BTreeSet<Id>,
    latest_ms: u64,
) -> Result<Batch, BadBatch> {
    let mut taken = Batch { records: Vec::new(), gaps: Vec::new() };
    for (place, told) in feed::batch(bytes)?.into_iter().enumerate() {
        match told {
            Told::Decision { id, reason, details } => {
                check_id(id, latest_ms, place)?;
                check(reason, details, (services, placed), place)?;
                taken.records.push(DecisionRecord { id, reason, details: details.into() });
            }
            Told::Gap { count, first, last } => {
                check_id(first, latest_ms, place)?;
                check_id(last, latest_ms, place)?;
                if count == 0 || first > last {
                    return Err(BadBatch::Gap(place));
                }
                taken.gaps.push(Gap { count, first, last });
            }
        }
    }
    Ok(taken)
}

/// Ids of workers are never among those of a host, so no worker can put a record in place of one of ours.
fn check_id(id: u64, latest_ms: u64, place: usize) -> Result<(), BadBatch> {
    let worker = (id >> ID_WORKER_SHIFT) & ((1 << (ID_COUNT_BITS - ID_WORKER_SHIFT)) - 1);
    if worker == 0 {
        return Err(BadBatch::Id(place));
    }
    if id >> ID_COUNT_BITS > latest_ms {
        return Err(BadBatch::Future(place));
    }
    Ok(())
}

fn check(
    reason: u16,
    details: &[u8],
    (services, placed): (&BTreeSet<Id>, &BTreeSet<Id>),
    place: usize,
) -> Result<(), BadBatch> {
    if reason != 0 && cause_name(reason).is_none() {
        return Err(BadBatch::Reason(place));
    }
    // A denial before the gate was asked has none.
    if reason != 0 && details.is_empty() {
        return Ok(());
    }
    if details.len() > MAX_DETAILS_BYTES {
        return Err(BadBatch::Details(place));
    }
    let service = Details::unpack(details).map_err(|_| BadBatch::Details(place))?.facts.service;
    let has = |all: &BTreeSet<Id>| all.iter().any(|id| id.as_str() == service);
    // A denial before a service was found names none; an allow names one.
    let is_ours = has(services) || (reason != 0 && (service.is_empty() || has(placed)));
    if is_ours { Ok(()) } else { Err(BadBatch::Foreign(place)) }
}

#[cfg(test)]
mod tests {
    use portcullis_model::facts::Facts;
    use portcullis_model::id::Revision;
    use portcullis_model::time::UnixTime;
    use portcullis_model::verdict::Reason;

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    /// An id of the worker 1.
    const ID: u64 = (NOW_MS << ID_COUNT_BITS) | (1 << ID_WORKER_SHIFT);

    fn details(service: &str) -> Vec<u8> {
        let now = UnixTime::from_secs(NOW_MS / 1000).unwrap();
        let facts = Facts { service, ..Facts::unknown(Revision(7), now, "192.0.2.1".parse().unwrap()) };
        let mut packed = Vec::new();
        Details::of(facts).pack(&mut packed).unwrap();
        packed
    }

    fn read(all: &[Told<'_>]) -> Result<Batch, BadBatch> {
        let mut bytes = Vec::new();
        all.iter().for_each(|told| told.pack(&mut bytes));
        let ids = |all: &[&str]| all.iter().map(|id| id.parse().unwrap()).collect();
        super::read(&bytes, &ids(&["shop", "wallet"]), &ids(&["shop", "wallet", "beside"]), NOW_MS)
    }

    #[test]
    fn a_batch_is_taken_with_its_gap() {
        let (shop, unknown, beside) = (details("shop"), details(""), details("beside"));
        let denied = Reason::ServiceUnknown.number();
        let batch = read(&[
            Told::Decision { id: ID, reason: 0, details: &shop },
            Told::Decision { id: ID, reason: denied, details: &beside },
            Told::Decision { id: ID + 1, reason: denied, details: &unknown },
            Told::Decision { id: ID + 2, reason: 1003, details: &[] },
            Told::Gap { count: 2, first: ID + 3, last: ID + 4 },
        ])
        .unwrap();
        assert_eq!(batch.records.iter().map(|record| record.reason).collect::<Vec<_>>(), [0, denied, denied, 1003]);
        assert_eq!(batch.gaps, [Gap { count: 2, first: ID + 3, last: ID + 4 }]);
        assert_eq!(read(&[]).unwrap(), Batch { records: Vec::new(), gaps: Vec::new() });
    }

    #[test]
    fn one_bad_record_spoils_the_batch() {
        let (shop, vault, unknown, beside) = (details("shop"), details("vault"), details(""), details("beside"));
        let denied = Reason::ServiceUnknown.number();
        let next_ms = ((NOW_MS + 1) << ID_COUNT_BITS) | (1 << ID_WORKER_SHIFT);
        let too_long = [shop.as_slice(), &vec![0; MAX_DETAILS_BYTES]].concat();
        for (bad, error) in [
            (Told::Decision { id: ID, reason: 0, details: &vault }, BadBatch::Foreign(1)),
            (Told::Decision { id: ID, reason: denied, details: &vault }, BadBatch::Foreign(1)),
            (Told::Decision { id: ID, reason: 0, details: &unknown }, BadBatch::Foreign(1)),
            (Told::Decision { id: ID, reason: 0, details: &beside }, BadBatch::Foreign(1)),
            (Told::Decision { id: ID, reason: 0, details: &[] }, BadBatch::Details(1)),
            (Told::Decision { id: ID, reason: denied, details: &shop[1..] }, BadBatch::Details(1)),
            (Told::Decision { id: ID, reason: 0, details: &too_long }, BadBatch::Details(1)),
            (Told::Decision { id: ID, reason: 999, details: &shop }, BadBatch::Reason(1)),
            (Told::Decision { id: NOW_MS << ID_COUNT_BITS, reason: 0, details: &shop }, BadBatch::Id(1)),
            (Told::Decision { id: next_ms, reason: 0, details: &shop }, BadBatch::Future(1)),
            (Told::Gap { count: 1, first: ID, last: next_ms }, BadBatch::Future(1)),
            (Told::Gap { count: 1, first: 0, last: ID }, BadBatch::Id(1)),
            (Told::Gap { count: 0, first: ID, last: ID }, BadBatch::Gap(1)),
            (Told::Gap { count: 1, first: ID + 1, last: ID }, BadBatch::Gap(1)),
        ] {
            let good = Told::Decision { id: ID - (1 << ID_COUNT_BITS), reason: 0, details: &shop };
            assert_eq!(read(&[good, bad, good]), Err(error), "{bad:?}");
        }
        let mut cut = Vec::new();
        Told::Decision { id: ID, reason: 0, details: &shop }.pack(&mut cut);
        cut.pop();
        assert!(matches!(super::read(&cut, &BTreeSet::new(), &BTreeSet::new(), NOW_MS), Err(BadBatch::Malformed(_))));
    }
}
