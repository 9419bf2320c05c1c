//! Key sheets: the keys of one UTC day, derived from secrets that the gate never sees.
//!
//! A signer's key of a day is `HMAC(..HMAC(PREFIX + secret, day).., part of the scope)`, which the host derives. Its place is
//! the signer's slot. A sheet comes in parts of consecutive slots, so a new signer is a part of one. It is no part of the
//! policy's bytes: the same policy gives the same bytes whatever the day, and midnight rebuilds nothing. Whoever takes a
//! sheet can sign until its day, the longest presigned URL and the clock skew are over, and not a day longer.
//!
//! ```text
//! 0    [8]      "PTCLKEY\n"
//! 8    u64      XXH3-64 of everything from offset 16
//! 16   u32      format, 1
//! 20   u32      day: whole days since 1970-01-01
//! 24   u32      the first slot
//! 28   u32      number of keys, at most 4095
//! 32   [64]     for each slot its key, padded with zeros; all zeros where the slot is free
//! ```

use std::collections::BTreeMap;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::packed::{Reader, Unreadable};
use crate::time::UnixTime;

/// The bytes of a key: a SHA-512 key, or a SHA-256 key padded with zeros, which HMAC does anyway (RFC 2104 section 2).
pub const DAY_KEY_BYTES: usize = 64;
/// The most keys of one part. Whoever takes it to verify makes each key ready, all of them in about a millisecond, and decides
/// nothing meanwhile.
pub const MAX_PART_KEYS: usize = 4_095;
/// The most slots of a sheet: 256 MiB.
pub const MAX_SLOTS: u32 = 1 << 22;
/// The most days of which sheets are kept: tomorrow, today, and the two before for presigned URLs and clock skew.
pub const MAX_DAYS: usize = 4;

const MAGIC: [u8; 8] = *b"PTCLKEY\n";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 32;
const DAY_S: u64 = 86_400;

/// A UTC day: whole days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(pub u32);

impl Day {
    /// The day of a point in time.
    #[must_use]
    pub fn of(time: UnixTime) -> Day {
        // Times end in the year 9999.
        Day(u32::try_from(time.as_secs() / DAY_S).unwrap_or(u32::MAX))
    }
}

/// A signer's key of one day.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DayKey(pub [u8; DAY_KEY_BYTES]);

impl fmt::Debug for DayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DayKey")
    }
}

/// Writes a part of a sheet. `keys` are those of the slots from `first` on, at most [`MAX_PART_KEYS`].
///
/// # Errors
/// More keys than that, or slots beyond [`MAX_SLOTS`].
pub fn encode(day: Day, first: u32, keys: &[DayKey]) -> Result<Vec<u8>, SheetError> {
    let count = u32::try_from(keys.len()).map_err(|_| SheetError::TooLarge)?;
    if keys.len() > MAX_PART_KEYS || first.checked_add(count).is_none_or(|end| end > MAX_SLOTS) {
        return Err(SheetError::TooLarge);
    }
    let mut out = Vec::with_capacity(HEAD_BYTES + keys.len() * DAY_KEY_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 8]);
    for word in [FORMAT, day.0, first, count] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    keys.iter().for_each(|key| out.extend_from_slice(&key.0));
    let sum = xxh3_64(out.get(16..).unwrap_or_default()).to_le_bytes();
    if let Some(place) = out.get_mut(8..16) {
        place.copy_from_slice(&sum);
    }
    Ok(out)
}

/// The sheets of the days that count now, each key as `K`: as it came, or made ready to verify with.
#[derive(Clone)]
pub struct KeySheets<K = DayKey> {
    days: BTreeMap<Day, Vec<K>>,
}

impl<K> Default for KeySheets<K> {
    fn default() -> Self {
        KeySheets { days: BTreeMap::new() }
    }
}

impl<K: Copy + PartialEq + From<DayKey>> KeySheets<K> {
    /// Takes a part of a sheet. A day later than those there are takes the place of the earliest, once there are
    /// [`MAX_DAYS`]; a day before all of them is not kept.
    ///
    /// # Errors
    /// Where the bytes are no part of a sheet, or memory cannot be had. Nothing has changed then.
    pub fn load(&mut self, part: &[u8]) -> Result<Day, SheetError> {
        let (day, first, keys) = decode(part)?;
        if !self.days.contains_key(&day) && self.days.len() >= MAX_DAYS {
            match self.days.first_key_value() {
                Some((earliest, _)) if *earliest < day => drop(self.days.pop_first()),
                Some(_) | None => return Ok(day),
            }
        }
        let sheet = self.days.entry(day).or_default();
        let end = first + keys.len();
        if end > sheet.len() {
            sheet.try_reserve(end - sheet.len()).map_err(|_| SheetError::OutOfMemory)?;
            sheet.resize(end, K::from(FREE));
        }
        if let Some(places) = sheet.get_mut(first..end) {
            places.iter_mut().zip(keys).for_each(|(place, key)| *place = K::from(DayKey(*key)));
        }
        Ok(day)
    }

    /// The key of a slot on a day, or nothing where it has not been loaded or the slot is free.
    #[must_use]
    pub fn key(&self, day: Day, slot: u32) -> Option<&K> {
        self.days.get(&day)?.get(usize::try_from(slot).ok()?).filter(|key| **key != K::from(FREE))
    }

    /// The days of which there are sheets.
    pub fn days(&self) -> impl Iterator<Item = Day> + '_ {
        self.days.keys().copied()
    }
}

impl KeySheets {
    /// Everything there is, as parts: what another instance is given to become like this one.
    pub fn parts(&self) -> impl Iterator<Item = Result<Vec<u8>, SheetError>> + '_ {
        self.days.iter().flat_map(|(day, keys)| {
            let parts = (0u32..).zip(keys.chunks(MAX_PART_KEYS));
            parts.map(|(number, part)| {
                let first = u32::try_from(MAX_PART_KEYS).ok().and_then(|keys| number.checked_mul(keys));
                encode(*day, first.ok_or(SheetError::TooLarge)?, part)
            })
        })
    }
}

impl<K> fmt::Debug for KeySheets<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.days.keys()).finish()
    }
}

const FREE: DayKey = DayKey([0; DAY_KEY_BYTES]);

type Part<'p> = (Day, usize, &'p [[u8; DAY_KEY_BYTES]]);

fn decode(part: &[u8]) -> Result<Part<'_>, SheetError> {
    let rest = part.strip_prefix(&MAGIC).ok_or(SheetError::NotASheet)?;
    let mut reader = Reader::new(rest);
    let malformed = |Unreadable| SheetError::Damaged;
    if reader.u64().map_err(malformed)? != xxh3_64(part.get(16..).unwrap_or_default()) {
        return Err(SheetError::Damaged);
    }
    let mut word = || reader.u32().map_err(malformed);
    let (format, day, first, count) = (word()?, word()?, word()?, word()?);
    if format != FORMAT {
        return Err(SheetError::NewerFormat { found: format });
    }
    let (keys, rest) = part.get(HEAD_BYTES..).unwrap_or_default().as_chunks();
    let is_whole = rest.is_empty() && u32::try_from(keys.len()) == Ok(count);
    if !is_whole || keys.len() > MAX_PART_KEYS || first.checked_add(count).is_none_or(|end| end > MAX_SLOTS) {
        return Err(SheetError::Damaged);
    }
    Ok((Day(day), usize::try_from(first).map_err(|_| SheetError::Damaged)?, keys))
}

/// Why bytes were not accepted as a part of a key sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SheetError {
    /// They do not begin as one does.
    #[error("these bytes are no key sheet")]
    NotASheet,
    /// They are of a format from after this build.
    #[error("the key sheet has format {found}, this build reads format {FORMAT}")]
    NewerFormat {
        /// The format they say.
        found: u32,
    },
    /// They changed since they were made.
    #[error("the key sheet is damaged")]
    Damaged,
    /// There are too many keys, or slots too high.
    #[error("a part of a key sheet has at most {MAX_PART_KEYS} keys, in slots below {MAX_SLOTS}")]
    TooLarge,
    /// There is no memory for it.
    #[error("not enough memory for the key sheet")]
    OutOfMemory,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(first: u8, count: usize) -> Vec<DayKey> {
        (0..count).map(|n| DayKey([first.wrapping_add(u8::try_from(n % 200).unwrap()); DAY_KEY_BYTES])).collect()
    }

    #[test]
    fn a_part_goes_to_its_slots_and_leaves_the_others() {
        let mut sheets: KeySheets = KeySheets::default();
        let day = Day(20_000);
        assert_eq!(sheets.load(&encode(day, 0, &keys(1, 3)).unwrap()), Ok(day));
        assert_eq!(sheets.load(&encode(day, 5, &keys(9, 1)).unwrap()), Ok(day));
        assert_eq!(sheets.key(day, 2), Some(&keys(3, 1)[0]));
        assert_eq!(sheets.key(day, 5), Some(&keys(9, 1)[0]));
        for (day, slot) in [(day, 3), (day, 6), (day, u32::MAX), (Day(20_001), 0)] {
            assert_eq!(sheets.key(day, slot), None, "{day:?} {slot}");
        }
        // A signer that is gone leaves a free slot.
        sheets.load(&encode(day, 5, &[FREE]).unwrap()).unwrap();
        assert_eq!(sheets.key(day, 5), None);
    }

    #[test]
    fn a_later_day_takes_the_place_of_the_earliest() {
        let mut sheets: KeySheets = KeySheets::default();
        for day in [3, 1, 2, 4, 5] {
            sheets.load(&encode(Day(day), 0, &keys(1, 1)).unwrap()).unwrap();
        }
        sheets.load(&encode(Day(1), 0, &keys(1, 1)).unwrap()).unwrap();
        assert_eq!(sheets.days().collect::<Vec<_>>(), [Day(2), Day(3), Day(4), Day(5)]);
    }

    #[test]
    fn another_instance_becomes_like_this_one() {
        let mut sheets: KeySheets = KeySheets::default();
        for (day, first, count) in [(7, 0, MAX_PART_KEYS), (7, 4_095, 5), (8, 3, 2)] {
            sheets.load(&encode(Day(day), first, &keys(1, count)).unwrap()).unwrap();
        }
        let mut other: KeySheets = KeySheets::default();
        for part in sheets.parts() {
            other.load(&part.unwrap()).unwrap();
        }
        assert_eq!(other.days, sheets.days);
    }

    #[test]
    fn limits_hold_and_damage_is_refused() {
        assert!(encode(Day(1), 0, &keys(1, MAX_PART_KEYS)).unwrap().len() <= 1 << 20);
        assert_eq!(encode(Day(1), 0, &keys(1, MAX_PART_KEYS + 1)), Err(SheetError::TooLarge));
        assert!(encode(Day(1), MAX_SLOTS - 1, &keys(1, 1)).is_ok());
        assert_eq!(encode(Day(1), MAX_SLOTS, &keys(1, 1)), Err(SheetError::TooLarge));
        let part = encode(Day(1), 0, &keys(1, 2)).unwrap();
        let mut sheets: KeySheets = KeySheets::default();
        for end in 0..part.len() {
            assert!(sheets.load(&part[..end]).is_err(), "{end}");
        }
        for at in 0..part.len() {
            let mut changed = part.clone();
            changed[at] ^= 0x10;
            assert!(sheets.load(&changed).is_err(), "byte {at}");
        }
        assert_eq!(sheets.days().count(), 0);
    }

    #[test]
    fn no_key_is_shown() {
        let mut sheets: KeySheets = KeySheets::default();
        sheets.load(&encode(Day(1), 0, &keys(77, 1)).unwrap()).unwrap();
        assert!(!format!("{sheets:?} {:?}", keys(77, 1)).contains("77"));
    }
}
