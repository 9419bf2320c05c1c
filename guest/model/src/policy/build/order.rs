//! What comes a million at a time, in order.

use crate::source::Credential;

/// Credentials in order of their ids, as they stand in the bytes.
pub(super) struct InOrder<'s> {
    sorted: Vec<&'s Credential>,
    /// Whether no two have one id.
    pub(super) ids_differ: bool,
    /// Whether no two secrets have one digest.
    pub(super) digests_differ: bool,
}

impl<'s> InOrder<'s> {
    pub(super) fn of(credentials: &'s [Credential]) -> InOrder<'s> {
        let secrets = credentials.iter().flat_map(|credential| &credential.secrets);
        let (_, digests_differ) = sorted(secrets, |secret| secret.sha256.as_bytes());
        let (sorted, ids_differ) = sorted(credentials.iter(), |credential| credential.id.as_str().as_bytes());
        InOrder { sorted: sorted.into_iter().map(|(_, credential)| credential).collect(), ids_differ, digests_differ }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'s Credential> {
        self.sorted.iter().copied()
    }
}

/// Things in order of a key without NUL at its end, each with the beginning of its key; and whether no two have the same.
///
/// The beginnings are compared side by side in memory; the rest, which lies all over it, only where they are equal.
fn sorted<'t, T>(things: impl Iterator<Item = &'t T>, key: impl Fn(&'t T) -> &'t [u8]) -> (Vec<(u64, &'t T)>, bool) {
    let beginning = |thing| {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(key(thing)).for_each(|(byte, of_key)| *byte = *of_key);
        u64::from_be_bytes(bytes)
    };
    let mut sorted: Vec<(u64, &T)> = things.map(|thing| (beginning(thing), thing)).collect();
    sorted.sort_unstable_by(|(a, one), (b, other)| a.cmp(b).then_with(|| key(one).cmp(key(other))));
    let is_twice = |pair: &[(u64, &'t T)]| match pair {
        [(a, one), (b, other)] => a == b && key(one) == key(other),
        _ => false,
    };
    let differ = !sorted.windows(2).any(is_twice);
    (sorted, differ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_whatever_they_begin_with() {
        let order = |keys: &[&'static str]| {
            let (sorted, differ) = sorted(keys.iter(), |key| key.as_bytes());
            (sorted.into_iter().map(|(_, key)| *key).collect::<Vec<_>>(), differ)
        };
        let (sorted, differ) = order(&["b", "abcdefgh-2", "abcdefgh", "abcdefgh-10", "a", "abcdefg"]);
        assert_eq!(sorted, ["a", "abcdefg", "abcdefgh", "abcdefgh-10", "abcdefgh-2", "b"]);
        assert!(differ);
        for twice in ["a", "abcdefgh", "abcdefgh-2"] {
            assert!(!order(&[twice, "abcdefgh-1", twice]).1, "{twice}");
        }
    }
}
