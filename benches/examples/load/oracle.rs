//! What each secret may do, known apart from the server: from when on something holds is when its change was answered, and
//! until then, from when it was asked for, either may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How many changes of one thing are remembered: far more than are made of it while a request takes.
const REMEMBERED: usize = 16;

/// Something that holds or does not, and how that has changed.
pub(crate) struct History(Mutex<Vec<Fact>>);

struct Fact {
    asked: Instant,
    answered: Option<Instant>,
    holds: bool,
}

impl History {
    pub(crate) fn of(holds: bool) -> History {
        let now = Instant::now();
        History(Mutex::new(vec![Fact { asked: now, answered: Some(now), holds }]))
    }

    /// A change is about to be asked for.
    pub(crate) fn ask(&self, holds: bool) {
        let mut facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if facts.len() >= REMEMBERED {
            facts.remove(0);
        }
        facts.push(Fact { asked: Instant::now(), answered: None, holds });
    }

    /// The change that was asked for last has been answered.
    pub(crate) fn answered(&self) {
        let mut facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = facts.last_mut() {
            last.answered = Some(Instant::now());
        }
    }

    /// Whether it may have held, and whether it may not have held, at some time between the two.
    fn between(&self, from: Instant, until: Instant) -> (bool, bool) {
        let facts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut may = (false, false);
        let mut over = facts.iter().skip(1).map(|next| next.answered);
        for fact in facts.iter() {
            let is_over = over.next().flatten().is_some_and(|answered| answered < from);
            if fact.asked <= until && !is_over {
                if fact.holds { may.0 = true } else { may.1 = true }
            }
        }
        may
    }
}

/// A secret that was given out.
pub(crate) struct Secret {
    pub(crate) text: String,
    /// Whether it stands in the Authorization header.
    pub(crate) is_management: bool,
    pub(crate) lives: History,
    pub(crate) rules: Arc<Rules>,
}

/// What lets a live key pass, each for itself.
pub(crate) struct Rules {
    /// The key's own allowlist.
    pub(crate) listed: History,
    /// Its group.
    pub(crate) permitted: Arc<History>,
    /// Its tenant's filter on the endpoint.
    pub(crate) open: Arc<History>,
}

impl Secret {
    /// The answers that a request between the two may have.
    pub(crate) fn expected(&self, from: Instant, until: Instant) -> Vec<u16> {
        let (lives, dead) = self.lives.between(from, until);
        let rules = [&self.rules.listed, &*self.rules.permitted, &*self.rules.open];
        let rules = rules.map(|rule| rule.between(from, until));
        let mut expected = Vec::new();
        if dead {
            expected.push(401);
        }
        if lives && rules.iter().any(|(_, fails)| *fails) {
            expected.push(403);
        }
        if lives && rules.iter().all(|(holds, _)| *holds) {
            expected.push(200);
        }
        expected
    }
}
