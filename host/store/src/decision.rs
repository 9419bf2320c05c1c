//! Records of decisions: facts only, kept in blocks, bounded by size.

use portcullis_model::answer::Details;

/// One decision, as the proxy accepted it before it acted on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecisionRecord {
    /// Its id: milliseconds since 1970 times 2^20 plus a count, so that ids sort by time.
    pub id: u64,
    /// The reason's number; 0 for an allow.
    pub reason: u16,
    /// The packed details of the answer (see `portcullis_model::answer::Details`). They hold no secret. Empty where the
    /// gate gave no answer.
    pub details: Box<[u8]>,
}

/// Decisions that were made while the queue was full and of which nothing else is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// How many.
    pub count: u64,
    /// The id of the first.
    pub first: u64,
    /// The id of the last.
    pub last: u64,
}

/// Which decisions are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecisionFilter {
    /// Of what kind.
    pub which: Which,
    /// Only those with a smaller id: the `next` of the page before.
    pub before: Option<u64>,
}

/// Decisions of what kind are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// All.
    All,
    /// Those that are no allow.
    Denied,
    /// Those with one of these reasons; 0 is an allow.
    Reasons(Vec<u16>),
    /// Those of which something was observed that would have been a denial if it were enforced.
    Observed,
}

impl Which {
    pub(crate) fn admits(&self, record: &DecisionRecord) -> bool {
        match self {
            Which::All => true,
            Which::Denied => record.reason != 0,
            Which::Reasons(reasons) => reasons.contains(&record.reason),
            Which::Observed => Details::unpack(&record.details).is_ok_and(|details| !details.observed.is_empty()),
        }
    }

    /// Whether an allow is certainly not asked for.
    pub(crate) fn is_without_allows(&self) -> bool {
        match self {
            Which::All | Which::Observed => false,
            Which::Denied => true,
            Which::Reasons(reasons) => !reasons.contains(&0),
        }
    }
}

/// One line of the list of decisions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecisionItem {
    /// A decision.
    Record(DecisionRecord),
    /// A gap, which may hide decisions of any kind.
    Gap(Gap),
}
