//! Requests that the gate refused on the admin listener, as entries of the audit: few of them each, a flood counted.
//!
//! Of each minute, the first [`ROWS_A_MINUTE`] of one tenant, address and code are entries; the rest are one entry with their
//! number. A request that proved no credential names no tenant, so it stands in the chain of the system tenant. Noting takes
//! a look into a table of bounded size; the entries are written later, in batches.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_control::store::{Actor, Channel, Entry, Origin, Outcome};
use portcullis_control::{Counted, SYSTEM_TENANT};
use portcullis_model::answer::Details;
use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;
use serde_json::json;

use crate::journal::DecisionId;
use portcullis_tower::enforce::{Cause, Denial};

/// How many refusals of one tenant, address and code are entries of their own each minute (DESIGN.md, invariant 6).
const ROWS_A_MINUTE: u64 = 10;
/// How many tenants, addresses and codes are told apart each minute. What comes beside them is counted as one, so that an
/// attacker with many addresses writes at most this many times [`ROWS_A_MINUTE`] entries a minute.
const MAX_SOURCES: usize = 256;
/// The most entries that wait to be written: what two minutes may bring. While the store takes nothing the rest is counted.
const MAX_WAITING: usize = 2 * MAX_SOURCES * 11;
/// The length of a minute in seconds.
const MINUTE_S: u64 = 60;

/// What was refused, as the audit has it: an action, and the kind of its object.
type What = (&'static str, &'static str);
/// A request to the admin listener.
const CALLS: What = ("call", "admin-api");
/// A request for a token of a client that nobody knows.
const TOKENS: What = ("issue", "token");

/// What was refused and is not written yet.
pub(crate) struct Refusals {
    system: Option<Id>,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    /// The minute that is counted, in minutes since 1970.
    minute: u64,
    sources: HashMap<Source, Count>,
    /// How many came from sources beyond those, or found no room.
    others: u64,
    /// Entries that wait to be written.
    waiting: Vec<Pending>,
}

/// An entry that waits to be written.
pub(crate) struct Pending {
    pub(crate) entry: Entry,
    /// For how many refusals it stands.
    of: u64,
}

/// How many refusals a source had in the minute, and how many of them are entries of their own.
#[derive(Clone, Copy, Default)]
struct Count {
    all: u64,
    told: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Source {
    tenant: Id,
    address: IpAddr,
    code: &'static str,
    of: What,
}

impl Refusals {
    pub(crate) fn new() -> Refusals {
        Refusals { system: SYSTEM_TENANT.parse().ok(), noted: Mutex::default() }
    }

    /// Takes note of a request that the gate refused.
    pub(super) fn note(&self, denial: &Denial, decision: DecisionId, peer: IpAddr, at: UnixTime) {
        let Cause::Gate(reason) = denial.cause() else { return };
        let Some(system) = &self.system else { return };
        let details = Details::unpack(denial.packed()).ok();
        let facts = details.as_ref().map(|details| &details.facts);
        let address = facts.map(|facts| facts.client).filter(|client| !client.is_unspecified()).unwrap_or(peer);
        // Only what was proven names a tenant.
        let proven = facts.and_then(|facts| Some((facts.tenant.parse().ok()?, facts.credential?.id.parse().ok()?)));
        let (tenant, credential): (Id, Option<Id>) = match proven {
            Some((tenant, credential)) => (tenant, Some(credential)),
            None => (system.clone(), None),
        };
        let code = denial.code();
        let mut noted = self.noted();
        noted.turn(at, system);
        if !noted.count(Source { tenant: tenant.clone(), address, code, of: CALLS }) {
            return;
        }
        let entry = Entry {
            at,
            actor: Actor { tenant: tenant.clone(), credential, user: None },
            tenant,
            origin: Origin { channel: Channel::Api, address: Some(address) },
            action: CALLS.0,
            object_kind: CALLS.1,
            object: String::new(),
            outcome: Outcome::Refused { code },
            details: json!({ "reason": reason.name(), "decision": decision.to_string() }).to_string(),
        };
        noted.waiting.push(Pending { entry, of: 1 });
    }

    /// Takes note of a failed request for a token that is no row of its own.
    pub(crate) fn note_token(&self, counted: &Counted) {
        let Some(system) = &self.system else { return };
        let tenant = counted.tenant.clone().unwrap_or_else(|| system.clone());
        let mut noted = self.noted();
        noted.turn(counted.at, system);
        let source = Source { tenant: tenant.clone(), address: counted.address, code: "invalid_client", of: TOKENS };
        if !noted.count(source) {
            return;
        }
        let entry = Entry {
            at: counted.at,
            actor: Actor { tenant: tenant.clone(), credential: None, user: None },
            tenant,
            origin: Origin { channel: Channel::Api, address: Some(counted.address) },
            action: TOKENS.0,
            object_kind: TOKENS.1,
            object: counted.client.clone(),
            outcome: Outcome::Refused { code: "invalid_client" },
            details: json!({ "request": counted.request, "message": "the client is not known" }).to_string(),
        };
        noted.waiting.push(Pending { entry, of: 1 });
    }

    /// What there is to be written: the entries so far, and the numbers of minutes that are over.
    pub(crate) fn take(&self, now: UnixTime) -> Vec<Pending> {
        let mut noted = self.noted();
        if let Some(system) = &self.system {
            noted.turn(now, system);
        }
        std::mem::take(&mut noted.waiting)
    }

    /// Everything that there is to be written, the minute being over or not.
    pub(crate) fn end(&self) -> Vec<Pending> {
        let mut noted = self.noted();
        if let Some(system) = &self.system {
            noted.close(system);
        }
        std::mem::take(&mut noted.waiting)
    }

    /// Keeps entries that could not be written, for the next time.
    pub(crate) fn give_back(&self, mut entries: Vec<Pending>) {
        let mut noted = self.noted();
        let later = std::mem::take(&mut noted.waiting);
        entries.extend(later);
        let lost = entries.split_off(entries.len().min(MAX_WAITING));
        noted.others = lost.iter().fold(noted.others, |others, lost| others.saturating_add(lost.of));
        noted.waiting = entries;
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // Counts are whole after each statement, so a panic elsewhere leaves nothing half-done.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    /// Goes on to the minute of a time. A clock that is set back begins a minute too.
    fn turn(&mut self, at: UnixTime, system: &Id) {
        let minute = at.as_secs() / MINUTE_S;
        if minute != self.minute {
            self.close(system);
            self.minute = minute;
        }
    }

    /// Whether this refusal is an entry of its own.
    fn count(&mut self, source: Source) -> bool {
        let has_room = self.waiting.len() < MAX_WAITING;
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.others = self.others.saturating_add(1);
            return false;
        }
        let count = self.sources.entry(source).or_default();
        count.all = count.all.saturating_add(1);
        let is_told = has_room && count.told < ROWS_A_MINUTE;
        count.told += u64::from(is_told);
        is_told
    }

    /// Turns the numbers of the minute into entries.
    fn close(&mut self, system: &Id) {
        let minute_s = self.minute.saturating_mul(MINUTE_S);
        let at = UnixTime::from_secs(minute_s.saturating_add(MINUTE_S - 1)).unwrap_or_default();
        let counted = |tenant: Id, address, code, (action, object_kind), count: u64| Entry {
            at,
            actor: Actor { tenant: tenant.clone(), credential: None, user: None },
            tenant,
            origin: Origin { channel: Channel::Api, address },
            action,
            object_kind,
            object: String::new(),
            outcome: Outcome::Refused { code },
            details: json!({ "more": count, "minute": UnixTime::from_secs(minute_s).unwrap_or_default().to_string() })
                .to_string(),
        };
        for (Source { tenant, address, code, of: what }, count) in self.sources.drain() {
            let of = count.all - count.told;
            if of > 0 {
                self.waiting.push(Pending { entry: counted(tenant, Some(address), code, what, of), of });
            }
        }
        if self.others > 0 {
            let of = std::mem::take(&mut self.others);
            self.waiting.push(Pending { entry: counted(system.clone(), None, "several", CALLS, of), of });
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::verdict::Reason;

    use super::*;

    const START: u64 = 1_750_000_020;

    fn at(second: u64) -> UnixTime {
        UnixTime::from_secs(START + second).unwrap()
    }

    fn note(refusals: &Refusals, reason: Reason, peer: [u8; 4], second: u64) {
        refusals.note(&Denial::of(reason), DecisionId(1), peer.into(), at(second));
    }

    /// The entries as code, address and what is counted.
    fn told(entries: &[Pending]) -> Vec<(&'static str, Option<IpAddr>, Option<u64>)> {
        let told = entries.iter().map(|Pending { entry, .. }| {
            assert_eq!((entry.tenant.as_str(), entry.action, entry.object_kind), ("system", "call", "admin-api"));
            let Outcome::Refused { code } = entry.outcome else { panic!("{entry:?}") };
            let details: serde_json::Value = serde_json::from_str(&entry.details).unwrap();
            (code, entry.origin.address, details["more"].as_u64())
        });
        told.collect()
    }

    #[test]
    fn ten_a_minute_are_entries_and_the_rest_is_one() {
        let refusals = Refusals::new();
        let mine = Some([192, 0, 2, 1].into());
        for count in 0..10 {
            note(&refusals, Reason::CredentialUnknown, [192, 0, 2, 1], count);
        }
        assert_eq!(told(&refusals.take(at(10))), vec![("unauthorized", mine, None); 10]);
        assert!(refusals.take(at(60)).is_empty(), "ten are not a flood");
        for count in 0..11 {
            note(&refusals, Reason::CredentialUnknown, [192, 0, 2, 1], 60 + count);
        }
        // Another address and another code are others.
        note(&refusals, Reason::CredentialUnknown, [192, 0, 2, 2], 80);
        note(&refusals, Reason::PathDotSegment, [192, 0, 2, 1], 81);
        assert_eq!(refusals.take(at(82)).len(), 12);
        for _ in 0..1000 {
            note(&refusals, Reason::CredentialUnknown, [192, 0, 2, 1], 119);
        }
        assert!(refusals.take(at(119)).is_empty());
        let entries = refusals.take(at(120));
        assert_eq!(told(&entries), [("unauthorized", mine, Some(1001))]);
        assert_eq!(entries[0].entry.at, at(119), "it is of its minute");
    }

    #[test]
    fn sources_beyond_the_limit_are_one() {
        let refusals = Refusals::new();
        for source in 0..=255 {
            note(&refusals, Reason::CredentialUnknown, [10, 0, 0, source], 0);
        }
        assert_eq!(refusals.take(at(1)).len(), MAX_SOURCES);
        for source in 0..100 {
            note(&refusals, Reason::CredentialUnknown, [10, 0, 1, source], 1);
        }
        assert!(refusals.take(at(2)).is_empty());
        // One that is known goes on to be told apart.
        note(&refusals, Reason::CredentialUnknown, [10, 0, 0, 7], 3);
        assert_eq!(refusals.take(at(3)).len(), 1);
        assert_eq!(told(&refusals.end()), [("several", None, Some(100))]);
        assert!(refusals.end().is_empty());
    }

    #[test]
    fn what_could_not_be_written_waits_and_is_bounded() {
        let refusals = Refusals::new();
        for minute in 0..4 {
            for source in 0..=255 {
                for _ in 0..12 {
                    note(&refusals, Reason::CredentialUnknown, [10, 0, 0, source], minute * 60);
                }
            }
            let entries = refusals.take(at(minute * 60));
            refusals.give_back(entries);
        }
        let entries = refusals.end();
        assert!(entries.len() <= MAX_WAITING + MAX_SOURCES + 1, "{}", entries.len());
        let counts: Vec<_> = told(&entries).into_iter().filter_map(|(_, _, more)| more).collect();
        let rows = u64::try_from(entries.len() - counts.len()).unwrap();
        assert_eq!(rows + counts.iter().sum::<u64>(), 4 * 256 * 12, "nothing is lost but its details");
        assert_eq!(entries.iter().map(|pending| pending.of).sum::<u64>(), 4 * 256 * 12);
    }
}
