//! Records of decisions: facts only, kept in blocks, bounded by size.

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
