//! The day keys as feeds hand them out: which have changed since a worker asked, and whose each of them is.

use std::collections::BTreeMap;

use portcullis_model::id::Id;
use portcullis_model::key_sheet::{DAY_KEY_BYTES, Day, DayKey, MAX_DAYS, encode};
use portcullis_model::source::KeptTenants;

/// The slots that are sent together when one of them changes: 4 KiB.
const RUN: usize = 64;

const FREE: DayKey = DayKey([0; DAY_KEY_BYTES]);

/// The sheets of the days that count now, as the gate has them.
#[derive(Default)]
pub(super) struct Keys {
    days: BTreeMap<Day, Sheet>,
    /// The tenant of each slot that is taken. A slot without one is zero in every feed.
    owners: BTreeMap<u32, Id>,
    /// Counts the changes.
    last: u64,
}

#[derive(Default)]
struct Sheet {
    keys: Vec<DayKey>,
    runs: Vec<Run>,
}

/// When a run of slots changed.
#[derive(Clone, Copy, Default)]
struct Run {
    changed: u64,
    /// When a key in it went.
    freed: u64,
}

/// Parts of sheets for a worker.
pub(super) struct Parts {
    pub(super) parts: Vec<Vec<u8>>,
    /// The count of changes that it has with them.
    pub(super) seen: u64,
    /// Whether that is all of them.
    pub(super) complete: bool,
}

impl Keys {
    /// Takes note whose a slot is, before its keys come.
    pub(super) fn own(&mut self, slot: u32, tenant: Id) {
        self.owners.insert(slot, tenant);
    }

    /// Nobody has the slot any more.
    pub(super) fn release(&mut self, slot: u32) {
        self.owners.remove(&slot);
    }

    /// Takes the keys of slots from `first` on. A day later than those there are takes the place of the earliest, as in the
    /// gate.
    pub(super) fn put(&mut self, day: Day, first: u32, keys: &[DayKey]) {
        if !self.days.contains_key(&day) && self.days.len() >= MAX_DAYS {
            match self.days.first_key_value() {
                Some((earliest, _)) if *earliest < day => drop(self.days.pop_first()),
                Some(_) | None => return,
            }
        }
        let Ok(first) = usize::try_from(first) else { return };
        let last = &mut self.last;
        let sheet = self.days.entry(day).or_insert_with(|| {
            *last += 1;
            // That the day has come is told even where nobody signs.
            Sheet { keys: vec![FREE], runs: vec![Run { changed: *last, freed: 0 }] }
        });
        let end = first.saturating_add(keys.len());
        if sheet.keys.len() < end {
            sheet.keys.resize(end, FREE);
            sheet.runs.resize(end.div_ceil(RUN), Run::default());
        }
        for (slot, key) in (first..).zip(keys) {
            let (Some(place), Some(run)) = (sheet.keys.get_mut(slot), sheet.runs.get_mut(slot / RUN)) else { continue };
            if place != key {
                *last += 1;
                run.changed = *last;
                if *key == FREE {
                    run.freed = *last;
                }
                *place = *key;
            }
        }
    }

    /// What has changed after the first `seen` changes, of the signers of these tenants; of the others there are zeros. At
    /// most `room` bytes of it, the earliest change first.
    pub(super) fn after(&self, seen: u64, tenants: &KeptTenants, room: usize) -> Parts {
        let mut parts = Parts { parts: Vec::new(), seen: self.last, complete: true };
        if seen >= self.last {
            return parts;
        }
        let runs = self.days.iter().flat_map(|(day, sheet)| {
            let runs = sheet.runs.iter().zip(sheet.keys.chunks(RUN)).enumerate();
            runs.map(move |(number, (run, keys))| (run.changed, run.freed, *day, number, keys))
        });
        let mut changed: Vec<_> = runs.filter(|(changed, ..)| *changed > seen).collect();
        changed.sort_unstable_by_key(|(changed, ..)| *changed);
        let (mut used, mut told) = (0, seen);
        for (changed, freed, day, number, keys) in changed {
            let kept = self.kept(number * RUN, keys, tenants);
            // A run of strangers' slots says nothing, but one of which a key went has to be sent to who may have that key.
            let is_needed = number == 0 || kept.iter().any(|key| *key != FREE) || (seen > 0 && freed > seen);
            if let (true, Ok(first)) = (is_needed, u32::try_from(number * RUN)) {
                // Slots were taken from what was encoded once.
                let Ok(part) = encode(day, first, &kept) else { continue };
                if used + part.len() > room {
                    return Parts { seen: told, complete: false, ..parts };
                }
                used += part.len();
                parts.parts.push(part);
            }
            told = changed;
        }
        parts
    }

    fn kept(&self, first: usize, keys: &[DayKey], tenants: &KeptTenants) -> Vec<DayKey> {
        let is_kept = |slot: usize| {
            let owner = u32::try_from(slot).ok().and_then(|slot| self.owners.get(&slot));
            owner.is_some_and(|tenant| tenants.contains(tenant))
        };
        (first..).zip(keys).map(|(slot, key)| if is_kept(slot) { *key } else { FREE }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use portcullis_model::key_sheet::KeySheets;

    use super::*;

    const DAY: Day = Day(20_000);

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    fn key(byte: u8) -> DayKey {
        DayKey([byte; DAY_KEY_BYTES])
    }

    fn everybody() -> KeptTenants {
        KeptTenants::AllBut(Some(id("system")))
    }

    fn keys() -> Keys {
        let mut keys = Keys::default();
        for (slot, tenant) in [(0, "acme"), (1, "globex"), (70, "acme"), (130, "globex")] {
            keys.own(slot, id(tenant));
            keys.put(DAY, slot, &[key(1 + u8::try_from(slot).unwrap())]);
        }
        keys
    }

    fn loaded(parts: &Parts, sheets: &mut KeySheets) {
        for part in &parts.parts {
            sheets.load(part).unwrap();
        }
    }

    #[test]
    fn strangers_keys_are_zero_and_their_runs_are_left_out() {
        let mut sheets = KeySheets::default();
        let acme = KeptTenants::Only(BTreeSet::from([id("acme")]));
        let parts = keys().after(0, &acme, usize::MAX);
        assert!(parts.complete && parts.parts.len() == 2, "the run of slot 130 is not there");
        loaded(&parts, &mut sheets);
        let of = |slot| sheets.key(DAY, slot).copied();
        assert_eq!((of(0), of(1), of(70), of(130)), (Some(key(1)), None, Some(key(71)), None));
        assert!(!parts.parts.concat().windows(8).any(|window| window == [2; 8] || window == [131; 8]));
    }

    #[test]
    fn what_changed_is_sent_once_and_a_key_that_went_is_cleared() {
        let (mut keys, mut sheets) = (keys(), KeySheets::default());
        let first = keys.after(0, &everybody(), usize::MAX);
        loaded(&first, &mut sheets);
        assert!(keys.after(first.seen, &everybody(), usize::MAX).parts.is_empty());
        keys.put(DAY, 130, &[key(131)]);
        assert!(keys.after(first.seen, &everybody(), usize::MAX).parts.is_empty(), "it has not changed");
        keys.put(DAY, 130, &[FREE]);
        keys.release(130);
        let second = keys.after(first.seen, &everybody(), usize::MAX);
        assert_eq!(second.parts.len(), 1);
        loaded(&second, &mut sheets);
        assert_eq!(sheets.key(DAY, 130), None);
        // Who begins now never had it.
        assert_eq!(keys.after(0, &everybody(), usize::MAX).parts.len(), 2);
    }

    #[test]
    fn little_room_takes_several_answers() {
        let (keys, mut sheets) = (keys(), KeySheets::default());
        let one = keys.after(0, &everybody(), usize::MAX).parts.iter().map(Vec::len).max().unwrap();
        assert!(!keys.after(0, &everybody(), one - 1).complete);
        let (mut seen, mut answers) = (0, 0);
        loop {
            let parts = keys.after(seen, &everybody(), one);
            loaded(&parts, &mut sheets);
            (seen, answers) = (parts.seen, answers + 1);
            if parts.complete {
                break;
            }
        }
        assert_eq!(answers, 3);
        for slot in [0, 1, 70, 130] {
            assert!(sheets.key(DAY, slot).is_some(), "{slot}");
        }
    }

    #[test]
    fn a_day_is_told_where_nobody_signs_and_the_earliest_goes() {
        let mut keys = Keys::default();
        let mut sheets = KeySheets::default();
        for day in 0..5 {
            keys.put(Day(day), 0, &[FREE]);
        }
        loaded(&keys.after(0, &everybody(), usize::MAX), &mut sheets);
        assert_eq!(sheets.days().collect::<Vec<_>>(), [Day(1), Day(2), Day(3), Day(4)]);
    }
}
