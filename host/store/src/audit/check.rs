//! Following a chain from its beginning, or from what is left of it, to its end: in a database as in an exported file.

use std::fmt;

use portcullis_model::id::Id;

use super::{AuditRow, Canonical, Checkpoint, ORIGIN, RowHash, Stub};

/// What was found in the chains that were looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditReport {
    /// One for each tenant with rows, a head, or a place in the checkpoint.
    pub chains: Vec<ChainReport>,
    /// The newest checkpoint, with which they were compared; its signature was not looked at.
    pub checkpoint: Option<Checkpoint>,
}

impl AuditReport {
    /// Whether no chain has a fault.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.chains.iter().all(|chain| chain.fault.is_none())
    }
}

/// What was found in one chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainReport {
    /// The tenant.
    pub tenant: Id,
    /// Up to which row everything is as it was written.
    pub rows: u64,
    /// How many of these were removed when they were old, and are vouched for by their hash alone.
    pub removed: u64,
    /// The hash of the last of these; zeros where there is none.
    pub newest: RowHash,
    /// What is wrong with the row after them, or with the head.
    pub fault: Option<AuditFault>,
}

/// How a chain is not as it was written. Numbers count rows in their chain, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuditFault {
    /// A row, or the order of what is in it, was edited.
    #[error("row {number} is not as it was written")]
    Edited {
        /// The row.
        number: u64,
    },
    /// A row is gone.
    #[error("row {number} is missing")]
    Missing {
        /// The row.
        number: u64,
    },
    /// A row is there, in the wrong place.
    #[error("row {number} is not in its place")]
    Reordered {
        /// The row that belongs here.
        number: u64,
    },
    /// The newest rows are gone.
    #[error("the chain ends with row {rows}, its head says {head}")]
    Truncated {
        /// How many rows there are.
        rows: u64,
        /// How many there were.
        head: u64,
    },
    /// The newest rows are gone, and the head with them.
    #[error("the chain ends with row {rows}, {against} has row {number}")]
    Cut {
        /// How many rows there are.
        rows: u64,
        /// How many there were at least.
        number: u64,
        /// Who says so.
        against: Against,
    },
    /// The rows hang together and are not those that there were.
    #[error("row {number} is another one than {against} has: the chain was made anew")]
    Recomputed {
        /// The row.
        number: u64,
        /// Who says so.
        against: Against,
    },
    /// The oldest rows are gone, and no checkpoint says so.
    #[error("the rows up to {number} were removed, and the signed checkpoint does not say so")]
    Removed {
        /// The newest of them.
        number: u64,
    },
    /// The rows hang together and the head is missing or says something else.
    #[error("the head of the chain does not belong to its newest row")]
    Head,
}

/// What a chain is compared with besides its own hashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Against {
    /// The newest checkpoint.
    Checkpoint,
    /// What somebody else has kept.
    Witness,
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Against::Checkpoint => "the signed checkpoint",
            Against::Witness => "the witness",
        })
    }
}

/// A row that a chain must have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Anchor {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: RowHash,
    /// Who says so.
    pub against: Against,
}

/// One chain, as it is followed row by row.
#[derive(Clone, Debug)]
pub struct ChainCheck {
    report: ChainReport,
    /// Those that were not passed yet, the next one last.
    anchors: Vec<Anchor>,
    /// Looked for among the rows that follow: whether it is missing or out of its place.
    sought: Option<u64>,
}

impl ChainCheck {
    /// Begins with the first row, or behind what was removed. `vouched` is what the signed checkpoint says was removed.
    #[must_use]
    pub fn new(tenant: &Id, stub: Option<Stub>, vouched: Option<Stub>, mut anchors: Vec<Anchor>) -> ChainCheck {
        let (number, hash) = stub.or(vouched).map_or((0, ORIGIN), |stub| (stub.number, stub.hash));
        let fault = (stub.is_some() && stub != vouched).then_some(AuditFault::Removed { number });
        // What lies among the removed rows can be compared no more.
        anchors.retain(|anchor| anchor.number >= number && anchor.number > 0);
        anchors.sort_by(|a, b| b.cmp(a));
        let report = ChainReport { tenant: tenant.clone(), rows: number, removed: number, newest: hash, fault };
        let mut check = ChainCheck { report, anchors, sought: None };
        check.pass();
        check
    }

    /// Takes the next row, or one that cannot be read. Whether a further one may tell more.
    pub fn follow(&mut self, row: Option<&AuditRow>) -> bool {
        if let Some(sought) = self.sought {
            if row.is_some_and(|row| row.number == sought) {
                self.report.fault = Some(AuditFault::Reordered { number: sought });
                self.sought = None;
            }
            return self.sought.is_some();
        }
        if self.report.fault.is_some() {
            return false;
        }
        let number = self.report.rows + 1;
        self.report.fault = match row {
            // A row that cannot be read was not written so.
            None => Some(AuditFault::Edited { number }),
            Some(row) if row.number != number => {
                self.sought = Some(number);
                Some(AuditFault::Missing { number })
            }
            Some(row) if Canonical::of_row(row).hash(&self.report.newest) != row.hash => {
                Some(AuditFault::Edited { number })
            }
            Some(row) => {
                self.report.rows = number;
                self.report.newest = row.hash;
                self.pass();
                return self.report.fault.is_none();
            }
        };
        self.sought.is_some()
    }

    /// Compares where the chain has come to with what it must have there.
    fn pass(&mut self) {
        let number = self.report.rows;
        while let Some(anchor) = self.anchors.pop_if(|anchor| anchor.number <= number) {
            if anchor.hash != self.report.newest && self.report.fault.is_none() {
                self.report.fault = Some(AuditFault::Recomputed { number, against: anchor.against });
            }
        }
    }

    /// What was found, where nothing but the rows is known.
    #[must_use]
    pub fn end(mut self) -> ChainReport {
        if self.report.fault.is_none()
            && let Some(anchor) = self.anchors.first()
        {
            let (rows, number, against) = (self.report.rows, anchor.number, anchor.against);
            self.report.fault = Some(AuditFault::Cut { rows, number, against });
        }
        self.report
    }

    /// What was found, where the head of the chain is known: number and hash of its newest row.
    #[must_use]
    pub fn end_at(mut self, head: Option<(u64, RowHash)>) -> ChainReport {
        let rows = self.report.rows;
        if self.report.fault.is_none() {
            self.report.fault = match head {
                None if rows == 0 => None,
                None => Some(AuditFault::Head),
                Some((count, _)) if count > rows => Some(AuditFault::Truncated { rows, head: count }),
                Some((count, hash)) if count < rows || hash != self.report.newest => Some(AuditFault::Head),
                Some(_) => None,
            };
        }
        self.end()
    }
}
