//! A log followed from its checkpoint to its end, and what a witness adds to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use portcullis_control::store::{Against, Anchor, ChainCheck, ChainReport, Checkpoint};
use portcullis_control::{PublicKey, has_signed};
use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;

use super::findings::{Findings, WitnessView};
use super::{CheckpointLine, EntryLine, FORMAT, Line};

/// The longest line in bytes: a checkpoint has 250 bytes for each tenant.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Why a file cannot be looked at at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error("cannot read `{}`: {source}: check the path and its permissions", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{from} line {line} is no line of an exported audit: give what `portcullis audit export` or `audit checkpoint` wrote"
    )]
    NoLine { from: String, line: u64 },
    #[error("{from} is of format {found}, this build reads {FORMAT}: use a newer portcullis")]
    Newer { from: String, found: u32 },
    #[error(
        "{from} has no checkpoint at its beginning: give what `portcullis audit export` or `audit checkpoint` wrote"
    )]
    NoCheckpoint { from: String },
    #[error("the witness `{}` is not intact itself: {what}: give one that is", path.display())]
    Witness { path: PathBuf, what: String },
    #[error("`{}` has no entries, only a checkpoint: give it with `--witness`, and a log with `--export`", path.display())]
    NoLog { path: PathBuf },
}

/// What somebody has kept of the audit: up to where it was what it must still be.
pub(crate) struct Witness {
    key: PublicKey,
    checkpoint: u64,
    at: UnixTime,
    heads: BTreeMap<Id, Vec<Anchor>>,
}

impl Witness {
    /// Reads a log or a checkpoint, which must be intact itself.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Witness, EvidenceError> {
        let mut log = Log::read(path, None)?;
        let key = log.key;
        let mut heads: BTreeMap<Id, Vec<Anchor>> = BTreeMap::new();
        for mark in &log.checkpoint.chains {
            let anchor = Anchor { number: mark.count, hash: mark.hash, against: Against::Witness };
            heads.entry(mark.tenant.clone()).or_default().push(anchor);
        }
        let is_log = log.is_export;
        let (checkpoint, at) = (log.checkpoint.number, log.checkpoint.at);
        let broken = |what: String| EvidenceError::Witness { path: path.to_owned(), what };
        if !has_signed(&key, &log.checkpoint) {
            return Err(broken("the signature of its checkpoint does not hold".to_owned()));
        }
        if is_log {
            for chain in log.reports() {
                if let Some(fault) = chain.fault {
                    return Err(broken(format!("tenant `{}`: {fault}", chain.tenant)));
                }
                let anchor = Anchor { number: chain.rows, hash: chain.newest, against: Against::Witness };
                heads.entry(chain.tenant).or_default().push(anchor);
            }
        }
        Ok(Witness { key, checkpoint, at, heads })
    }

    /// Whether all that it has of a chain was removed since, so that nothing of it can be compared.
    fn is_before(&self, chain: &ChainReport) -> bool {
        let newest = self.heads.get(&chain.tenant).into_iter().flatten().map(|anchor| anchor.number).max();
        newest.is_some_and(|newest| newest < chain.removed)
    }

    fn anchors(&self, tenant: &Id) -> Vec<Anchor> {
        self.heads.get(tenant).cloned().unwrap_or_default()
    }
}

/// A log as it is checked, line by line; it holds little more than its checkpoint.
pub(crate) struct Log<'w> {
    key: PublicKey,
    checkpoint: Checkpoint,
    only: Option<Id>,
    witness: Option<&'w Witness>,
    chains: BTreeMap<Id, ChainCheck>,
    /// Whether entries follow: a checkpoint by itself has none.
    is_export: bool,
}

impl<'w> Log<'w> {
    /// Begins with a checkpoint.
    pub(crate) fn new(line: &CheckpointLine, only: Option<Id>, witness: Option<&'w Witness>) -> Option<Log<'w>> {
        let (checkpoint, key) = line.read()?;
        let mut log = Log { key, checkpoint, only, witness, chains: BTreeMap::new(), is_export: true };
        let marked = log.checkpoint.chains.iter().map(|mark| mark.tenant.clone());
        let witnessed = witness.into_iter().flat_map(|witness| witness.heads.keys().cloned());
        for tenant in marked.chain(witnessed).collect::<Vec<_>>() {
            if log.only.as_ref().is_none_or(|only| *only == tenant) {
                log.chain(tenant);
            }
        }
        Some(log)
    }

    /// Reads and checks a file.
    fn read(path: &Path, witness: Option<&'w Witness>) -> Result<Log<'w>, EvidenceError> {
        let failed = |source| EvidenceError::Read { path: path.to_owned(), source };
        let from = || format!("`{}`", path.display());
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let (mut export, mut log, mut number) = (None::<Option<Id>>, None::<Log<'w>>, 0_u64);
        let mut text = Vec::new();
        loop {
            text.clear();
            number += 1;
            let length = (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut text).map_err(failed)?;
            if length == 0 {
                return log.ok_or_else(|| EvidenceError::NoCheckpoint { from: from() });
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let no_line = || EvidenceError::NoLine { from: from(), line: number };
            let line: Line = serde_json::from_slice(&text).map_err(|_| no_line())?;
            match (line, &mut log) {
                (Line::Export(line), None) if export.is_none() => {
                    readable(line.format, from)?;
                    export = Some(line.tenant);
                }
                (Line::Checkpoint(line), None) => {
                    readable(line.format(), from)?;
                    let is_export = export.is_some();
                    let begun = Log::new(&line, export.take().flatten(), witness).ok_or_else(no_line)?;
                    log = Some(Log { is_export, ..begun });
                }
                (Line::Entry(entry), Some(log)) => log.entry(*entry).ok_or_else(no_line)?,
                (Line::Entry(_), None) => return Err(EvidenceError::NoCheckpoint { from: from() }),
                (Line::Export(_) | Line::Checkpoint(_), _) => return Err(no_line()),
            }
        }
    }

    /// Checks an exported log.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub(crate) fn verify(path: &Path, witness: Option<&'w Witness>) -> Result<Findings, EvidenceError> {
        let log = Log::read(path, witness)?;
        if !log.is_export {
            return Err(EvidenceError::NoLog { path: path.to_owned() });
        }
        Ok(log.end())
    }

    fn reports(&mut self) -> Vec<ChainReport> {
        std::mem::take(&mut self.chains).into_values().map(ChainCheck::end).collect()
    }

    /// Takes the next entry; nothing where its tenant is no id, so that it is in no chain.
    pub(crate) fn entry(&mut self, line: EntryLine) -> Option<()> {
        let tenant: Id = line.tenant.parse().ok()?;
        let row = line.read();
        self.chain(tenant).follow(row.as_ref());
        Some(())
    }

    fn chain(&mut self, tenant: Id) -> &mut ChainCheck {
        let (checkpoint, witness) = (&self.checkpoint, self.witness);
        self.chains.entry(tenant).or_insert_with_key(|tenant| {
            let mark = checkpoint.mark(tenant);
            let mut anchors = witness.map(|witness| witness.anchors(tenant)).unwrap_or_default();
            if let Some(mark) = mark {
                anchors.push(Anchor { number: mark.count, hash: mark.hash, against: Against::Checkpoint });
            }
            let stub = mark.and_then(|mark| mark.stub);
            ChainCheck::new(tenant, stub, stub, anchors)
        })
    }

    /// What was found.
    pub(crate) fn end(mut self) -> Findings {
        let chains = self.reports();
        let signed = |tenant: &Id| self.checkpoint.mark(tenant).map_or(0, |mark| mark.count);
        let unsigned = chains.iter().map(|chain| chain.rows.saturating_sub(signed(&chain.tenant))).sum();
        let state = if has_signed(&self.key, &self.checkpoint) { "signed" } else { "forged" };
        let witnessed = self.witness.map(|witness| WitnessView {
            checkpoint: witness.checkpoint,
            at: witness.at.to_string(),
            same_key: witness.key == self.key,
            beyond: chains.iter().filter(|chain| witness.is_before(chain)).count(),
        });
        Findings::new(&self.checkpoint, state, self.key, chains, unsigned, witnessed)
    }
}

fn readable(format: u32, from: impl Fn() -> String) -> Result<(), EvidenceError> {
    if format == FORMAT { Ok(()) } else { Err(EvidenceError::Newer { from: from(), found: format }) }
}
