//! Tokens whose signature held before: bounded, and never trusted with a verdict.
//!
//! An entry says that these very bytes were signed by this very key, which stays true for ever. Everything else (whether
//! that key is still the policy's, the time, the client, the audience) is asked anew each time. So the cache may lose or
//! keep any entry and no verdict changes.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::claims::Claims;
use super::key::Key;

/// The most tokens that are kept.
const MAX_ENTRIES: usize = 4096;
/// Entries of a set; a token has its place in one of them.
const WAYS: usize = 8;
const SETS: usize = MAX_ENTRIES / WAYS;
/// The most bytes that all of them take, with their claims.
const MAX_BYTES: usize = 6 << 20;
/// What an entry takes besides its token and claims.
const ENTRY_BYTES: usize = 96;
/// The bits that choose a set are in the 8 characters that begin this far from the end: within the signature of every
/// algorithm, the shortest of which has 86 characters, and clear of its last ones, which are not evenly spread.
const BITS_FROM_END: usize = 64;

#[derive(Default)]
pub(super) struct Cache {
    /// Empty until the first token comes.
    sets: Vec<[Option<Entry>; WAYS]>,
    bytes: usize,
    /// Counts the uses, to tell which entry was used last.
    clock: u64,
    /// The set that gives way next where all of them take too much.
    hand: usize,
}

struct Entry {
    /// The bits of the signature by which it is found.
    bits: u64,
    token: Box<[u8]>,
    key: Arc<Key>,
    claims: Arc<Claims>,
    used: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.token.len() + self.claims.bytes()
    }
}

impl Cache {
    /// What is known of a token: the key that it was verified with, and its claims.
    pub(super) fn find(&mut self, token: &[u8]) -> Option<(Arc<Key>, Arc<Claims>)> {
        self.clock += 1;
        let bits = bits(token)?;
        let set = self.sets.get_mut(place(bits)?)?;
        let entry = set.iter_mut().flatten().find(|entry| entry.bits == bits && same(&entry.token, token))?;
        entry.used = self.clock;
        Some((Arc::clone(&entry.key), Arc::clone(&entry.claims)))
    }

    /// Keeps a token that has been verified.
    pub(super) fn keep(&mut self, token: &[u8], key: Arc<Key>, claims: Arc<Claims>) {
        let Some((bits, at)) = bits(token).and_then(|bits| Some((bits, place(bits)?))) else { return };
        if self.sets.is_empty() {
            self.sets.resize_with(SETS, Default::default);
        }
        let entry = Entry { bits, token: token.into(), key, claims, used: self.clock };
        let Some(set) = self.sets.get_mut(at) else { return };
        // The same token anew, a free place, or the one that was used longest ago.
        let rank = |place: &Option<Entry>| match place {
            Some(known) if same(&known.token, token) => (0, 0),
            None => (1, 0),
            Some(known) => (2, known.used),
        };
        let Some(place) = set.iter_mut().min_by_key(|place| rank(place)) else { return };
        self.bytes += entry.bytes();
        if let Some(gone) = place.replace(entry) {
            self.bytes = self.bytes.saturating_sub(gone.bytes());
        }
        for _ in 0..SETS {
            if self.bytes <= MAX_BYTES {
                return;
            }
            self.hand = (self.hand + 1) % SETS;
            if self.hand != at {
                self.empty(self.hand);
            }
        }
    }

    fn empty(&mut self, at: usize) {
        let Some(set) = self.sets.get_mut(at) else { return };
        let gone: usize = set.iter_mut().filter_map(Option::take).map(|entry| entry.bytes()).sum();
        self.bytes = self.bytes.saturating_sub(gone);
    }

    /// How many tokens it keeps, and how many bytes they take.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let entries = self.sets.iter().flatten().flatten();
        let size = entries.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.bytes()));
        assert_eq!(size.1, self.bytes);
        size
    }
}

/// Bits of a token's signature. Only what was verified gets a place, so nobody but the issuer chooses them.
fn bits(token: &[u8]) -> Option<u64> {
    let start = token.len().checked_sub(BITS_FROM_END)?;
    Some(u64::from_le_bytes(*token.get(start..)?.first_chunk()?))
}

/// The set of these bits.
fn place(bits: u64) -> Option<usize> {
    // Each character has six bits; the product gathers those of all of them at its top (Fibonacci hashing).
    usize::try_from(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SETS.ilog2())).ok()
}

/// Compares two tokens, whole and in constant time: one that is nearly right must not be told from one that is not. By
/// words, they take an eighth of the steps of their bytes.
fn same(known: &[u8], token: &[u8]) -> bool {
    if known.len() != token.len() {
        return false;
    }
    let ((known, known_rest), (token, token_rest)) = (known.as_chunks::<8>(), token.as_chunks::<8>());
    let words = known
        .iter()
        .zip(token)
        .fold(0, |differs, (one, other)| differs | (u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other)));
    let rest = known_rest.iter().zip(token_rest).fold(0, |differs, (one, other)| differs | (one ^ other));
    (words | u64::from(rest)).ct_eq(&0).into()
}

#[cfg(test)]
mod tests {
    use portcullis_model::policy::TokenKeyBytes;

    use super::*;

    fn key() -> Arc<Key> {
        // The base point of the curve.
        let mut bytes = [0x66; 32];
        bytes[0] = 0x58;
        Arc::new(Key::read(&TokenKeyBytes::EdDsa(&bytes)).unwrap())
    }

    fn claims(scope_bytes: usize) -> Arc<Claims> {
        let scope = "s".repeat(scope_bytes);
        let json = format!(
            r#"{{"iss":"i","sub":"c","client_id":"c","aud":"a","scope":"{scope}","iat":1,"exp":2,"jti":"j","secret_version":1}}"#
        );
        Arc::new(Claims::read(json.as_bytes(), "k".to_owned()).unwrap())
    }

    fn token(number: usize, bytes: usize) -> Vec<u8> {
        let digits = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        format!("{digits:039}").bytes().cycle().take(bytes).collect()
    }

    #[test]
    fn a_token_is_found_whole_or_not_at_all() {
        let mut cache = Cache::default();
        let good = token(7, 403);
        cache.keep(&good, key(), claims(0));
        assert!(cache.find(&good).is_some());
        for at in 0..good.len() {
            let mut other = good.clone();
            other[at] ^= 1;
            assert!(cache.find(&other).is_none(), "{at}");
        }
        assert!(cache.find(&good[1..]).is_none() && cache.find(&good[..402]).is_none());
        assert!(cache.find(&[good.as_slice(), b"0"].concat()).is_none());
        assert!(cache.find(b"").is_none() && cache.find(&[b'0'; BITS_FROM_END - 1]).is_none());
    }

    #[test]
    fn a_token_that_is_kept_twice_takes_one_place() {
        let mut cache = Cache::default();
        for _ in 0..10 {
            cache.keep(&token(7, 200), key(), claims(0));
        }
        assert_eq!(cache.size().0, 1);
    }

    #[test]
    fn a_flood_of_tokens_stays_within_the_limit_of_entries() {
        let (mut cache, key, claims) = (Cache::default(), key(), claims(0));
        for number in 0..MAX_ENTRIES * 4 {
            cache.keep(&token(number, 200), Arc::clone(&key), Arc::clone(&claims));
        }
        let (entries, bytes) = cache.size();
        assert!(entries <= MAX_ENTRIES && entries > MAX_ENTRIES * 3 / 4, "{entries}");
        assert!(bytes <= MAX_BYTES);
        assert!(cache.find(&token(MAX_ENTRIES * 4 - 1, 200)).is_some());
    }

    #[test]
    fn a_flood_of_long_tokens_stays_within_the_limit_of_bytes() {
        let (mut cache, key, claims) = (Cache::default(), key(), claims(2000));
        for number in 0..MAX_ENTRIES {
            cache.keep(&token(number, 4096), Arc::clone(&key), Arc::clone(&claims));
            assert!(cache.bytes <= MAX_BYTES);
            assert!(cache.find(&token(number, 4096)).is_some(), "the newest is there");
        }
        assert!(cache.size().1 > MAX_BYTES / 2);
    }

    #[test]
    fn of_a_full_set_the_one_used_longest_ago_gives_way() {
        let mut cache = Cache::default();
        let mut tokens = (0..MAX_ENTRIES * 8)
            .map(|number| token(number, 200))
            .filter(|token| bits(token).and_then(place) == Some(5));
        let first: Vec<_> = tokens.by_ref().take(WAYS).collect();
        for token in &first {
            cache.keep(token, key(), claims(0));
            cache.find(token);
        }
        cache.find(&first[0]);
        cache.keep(&tokens.next().unwrap(), key(), claims(0));
        assert!(cache.find(&first[0]).is_some() && cache.find(&first[1]).is_none());
    }
}
