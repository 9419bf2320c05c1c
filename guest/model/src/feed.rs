//! What a worker of a proxy and the host that feeds it say to each other: frames of policy on the way out, batches of decisions
//! on the way back. Both ends are here, so that neither can misread the other.

use crate::packed::{Reader, Unreadable};
use crate::time::UnixTime;

/// The field of an answer that says where the next poll goes on.
pub const CURSOR_HEADER: &str = "x-portcullis-cursor";
/// The name of the node that a worker belongs to.
pub const NODE_HEADER: &str = "x-portcullis-node";
/// What tells the workers of a node apart: [`WORKER_HEX_DIGITS`] hex digits, drawn by each.
pub const WORKER_HEADER: &str = "x-portcullis-worker";
/// The SHA-256 of the module that a worker runs, in hex.
pub const MODULE_HEADER: &str = "x-portcullis-module";
/// The revision that a worker decides by.
pub const ENFORCED_HEADER: &str = "x-portcullis-enforced";
/// The time that a worker has, in seconds since 1970.
pub const NOW_HEADER: &str = "x-portcullis-now";

/// The digits of a worker's name.
pub const WORKER_HEX_DIGITS: usize = 16;
/// The longest name of a node.
pub const MAX_NODE_BYTES: usize = 64;
/// The longest cursor.
pub const MAX_CURSOR_BYTES: usize = 128;
/// The bytes of a part of a base; the last one may be shorter.
pub const PART_BYTES: usize = 1 << 20;
/// The most bytes of frames in one answer.
pub const MAX_CHANGES_BYTES: usize = 8 << 20;
/// The longest time that a poll waits, in seconds.
pub const MAX_WAIT_S: u32 = 30;
/// The most decisions of a batch.
pub const MAX_BATCH_RECORDS: usize = 512;
/// The most bytes of a batch.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// The bits of a decision's id that count within a millisecond: above them stands the time in milliseconds.
pub const ID_COUNT_BITS: u32 = 20;
/// The low bits of an id that count the decisions of one worker; the bits above them, up to [`ID_COUNT_BITS`], are the worker's.
pub const ID_WORKER_SHIFT: u32 = 8;

/// The reason's number that stands for decisions that were lost.
const GAP: u16 = u16::MAX;
const FRAME_HEAD_BYTES: usize = 5;
const RECORD_HEAD_BYTES: usize = 14;

/// One step from what a worker has to what it is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// A delta.
    Delta(&'a [u8]),
    /// A part of a day's key sheet.
    Keys(&'a [u8]),
    /// All of it was known to be current at that time.
    Confirmed(UnixTime),
    /// There is no way on from the cursor: take a new base.
    Rebase,
}

impl Frame<'_> {
    /// How long it is once it is written.
    #[must_use]
    pub fn packed_len(&self) -> usize {
        FRAME_HEAD_BYTES
            + match self {
                Frame::Delta(bytes) | Frame::Keys(bytes) => bytes.len(),
                Frame::Confirmed(_) => 8,
                Frame::Rebase => 0,
            }
    }

    /// Appends the frame. Layout, little-endian: u8 kind (1 delta, 2 keys, 3 confirmed, 4 rebase), u32 length, the bytes; those of
    /// a confirmation are the time as u64.
    pub fn pack(&self, out: &mut Vec<u8>) {
        let time;
        let (kind, bytes): (u8, &[u8]) = match self {
            Frame::Delta(bytes) => (1, bytes),
            Frame::Keys(bytes) => (2, bytes),
            Frame::Confirmed(at) => {
                time = at.as_secs().to_le_bytes();
                (3, &time)
            }
            Frame::Rebase => (4, &[]),
        };
        out.push(kind);
        // No policy is that long, and a part of keys is far from it.
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

/// What is not frames, or no batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the bytes are cut off, or of a kind that is not known here")]
pub struct FeedMalformed;

impl From<Unreadable> for FeedMalformed {
    fn from(Unreadable: Unreadable) -> FeedMalformed {
        FeedMalformed
    }
}

/// Reads frames.
///
/// # Errors
/// Where any of them is cut off or of an unknown kind, or there are more than [`MAX_CHANGES_BYTES`]: nothing of them is to be
/// applied then.
pub fn frames(bytes: &[u8]) -> Result<Vec<Frame<'_>>, FeedMalformed> {
    if bytes.len() > MAX_CHANGES_BYTES {
        return Err(FeedMalformed);
    }
    let mut reader = Reader::new(bytes);
    let mut frames = Vec::new();
    while !reader.is_at_end() {
        let (kind, length) = (reader.u8()?, reader.u32()?);
        let bytes = reader.bytes(usize::try_from(length).map_err(|_| FeedMalformed)?)?;
        frames.push(match (kind, bytes) {
            (1, delta) => Frame::Delta(delta),
            (2, part) => Frame::Keys(part),
            (3, time) => {
                let secs = u64::from_le_bytes(time.try_into().map_err(|_| FeedMalformed)?);
                Frame::Confirmed(UnixTime::from_secs(secs).ok_or(FeedMalformed)?)
            }
            (4, []) => Frame::Rebase,
            _ => return Err(FeedMalformed),
        });
    }
    Ok(frames)
}

/// What a worker tells of its decisions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told<'a> {
    /// One decision.
    Decision {
        /// Its id.
        id: u64,
        /// The number of the reason, 0 for an allow.
        reason: u16,
        /// The packed details of the answer.
        details: &'a [u8],
    },
    /// Decisions that were lost.
    Gap {
        /// How many.
        count: u64,
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
}

impl Told<'_> {
    /// How long it is once it is written.
    #[must_use]
    pub fn packed_len(&self) -> usize {
        RECORD_HEAD_BYTES
            + match self {
                Told::Decision { details, .. } => details.len(),
                Told::Gap { .. } => 24,
            }
    }

    /// Appends it. Layout, little-endian: u64 id, u16 reason, u32 length, the details; of a gap the reason is 0xFFFF and the
    /// bytes are count, first and last id as u64.
    pub fn pack(&self, out: &mut Vec<u8>) {
        let gap;
        let (id, reason, bytes): (u64, u16, &[u8]) = match self {
            Told::Decision { id, reason, details } => (*id, *reason, details),
            Told::Gap { count, first, last } => {
                gap = [count.to_le_bytes(), first.to_le_bytes(), last.to_le_bytes()].concat();
                (*last, GAP, &gap)
            }
        };
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&reason.to_le_bytes());
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

/// Reads a batch.
///
/// # Errors
/// Where anything of it is cut off, or it exceeds [`MAX_BATCH_RECORDS`] or [`MAX_BATCH_BYTES`].
pub fn batch(bytes: &[u8]) -> Result<Vec<Told<'_>>, FeedMalformed> {
    if bytes.len() > MAX_BATCH_BYTES {
        return Err(FeedMalformed);
    }
    let mut reader = Reader::new(bytes);
    let mut batch = Vec::new();
    while !reader.is_at_end() {
        if batch.len() >= MAX_BATCH_RECORDS {
            return Err(FeedMalformed);
        }
        let (id, reason, length) = (reader.u64()?, reader.u16()?, reader.u32()?);
        let details = reader.bytes(usize::try_from(length).map_err(|_| FeedMalformed)?)?;
        batch.push(if reason == GAP {
            let mut gap = Reader::new(details);
            let told = Told::Gap { count: gap.u64()?, first: gap.u64()?, last: gap.u64()? };
            gap.end()?;
            told
        } else {
            Told::Decision { id, reason, details }
        });
    }
    Ok(batch)
}

/// Whether a text can name a node.
#[must_use]
pub fn is_node_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    (1..=MAX_NODE_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether a text can be a cursor.
#[must_use]
pub fn is_cursor(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    (1..=MAX_CURSOR_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(frames: &[Frame<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| frame.pack(&mut out));
        assert_eq!(out.len(), frames.iter().map(Frame::packed_len).sum::<usize>());
        out
    }

    #[test]
    fn frames_survive_packing_and_no_cut_does() {
        let at = UnixTime::from_secs(1_800_000_000).unwrap();
        let all =
            [Frame::Keys(b"keys"), Frame::Delta(b""), Frame::Delta(b"delta"), Frame::Confirmed(at), Frame::Rebase];
        let bytes = packed(&all);
        assert_eq!(frames(&bytes).as_deref(), Ok(&all[..]));
        let ends: Vec<usize> = (0..=all.len()).map(|count| packed(&all[..count]).len()).collect();
        for end in 0..bytes.len() {
            assert_eq!(frames(&bytes[..end]).is_ok(), ends.contains(&end), "cut at {end}");
        }
        assert_eq!(frames(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [
            &[0, 0, 0, 0, 0][..],
            &[5, 0, 0, 0, 0],
            &[4, 1, 0, 0, 0, 9],
            &[3, 7, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7],
            &[3, 8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
            &[1, 255, 255, 255, 255, 1],
        ] {
            assert_eq!(frames(bytes), Err(FeedMalformed), "{bytes:?}");
        }
        let longest = packed(&[Frame::Delta(&vec![7; MAX_CHANGES_BYTES - FRAME_HEAD_BYTES])]);
        assert!(longest.len() == MAX_CHANGES_BYTES && frames(&longest).is_ok());
        assert_eq!(frames(&[longest, vec![4, 0, 0, 0, 0]].concat()), Err(FeedMalformed));
    }

    #[test]
    fn a_batch_survives_packing_and_no_cut_does() {
        let all = [
            Told::Decision { id: 7, reason: 0, details: b"details" },
            Told::Decision { id: 8, reason: 63, details: b"" },
            Told::Gap { count: 3, first: 9, last: 12 },
        ];
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for told in &all {
            told.pack(&mut bytes);
            ends.push(bytes.len());
        }
        assert_eq!(batch(&bytes).as_deref(), Ok(&all[..]));
        for end in 0..bytes.len() {
            assert_eq!(batch(&bytes[..end]).is_ok(), ends.contains(&end), "cut at {end}");
        }
    }

    #[test]
    fn a_batch_is_bounded() {
        let of = |count: usize| {
            let mut bytes = Vec::new();
            (0..count).for_each(|_| Told::Decision { id: 1, reason: 0, details: b"" }.pack(&mut bytes));
            bytes
        };
        assert!(batch(&of(MAX_BATCH_RECORDS)).is_ok());
        assert_eq!(batch(&of(MAX_BATCH_RECORDS + 1)), Err(FeedMalformed));
        let mut long = Vec::new();
        Told::Decision { id: 1, reason: 0, details: &vec![0; MAX_BATCH_BYTES - RECORD_HEAD_BYTES] }.pack(&mut long);
        assert!(batch(&long).is_ok());
        long.push(0);
        assert_eq!(batch(&long), Err(FeedMalformed));
        let mut short_gap = 1_u64.to_le_bytes().to_vec();
        short_gap.extend_from_slice(&[255, 255, 23, 0, 0, 0]);
        short_gap.extend_from_slice(&[0; 23]);
        assert_eq!(batch(&short_gap), Err(FeedMalformed));
    }

    #[test]
    fn names_and_cursors_are_bounded() {
        assert!(is_node_name("edge-1.eu_west:2") && is_node_name(&"n".repeat(MAX_NODE_BYTES)));
        assert!(!is_node_name("") && !is_node_name(&"n".repeat(MAX_NODE_BYTES + 1)) && !is_node_name("a b"));
        assert!(is_cursor("r7") && is_cursor(&"c".repeat(MAX_CURSOR_BYTES)));
        assert!(!is_cursor("") && !is_cursor(&"c".repeat(MAX_CURSOR_BYTES + 1)) && !is_cursor("a&b"));
    }
}
