//! Looking at many bytes at once.
//!
//! A gate reads every byte of a request's head. One by one that is most of a decision; here sixteen lie side by side in the
//! vectors of `wide`, which every build of the guest has.

use wide::u8x16;

/// Sixteen bytes.
pub type Lanes = u8x16;

/// The most bytes that one mask tells of.
pub const BLOCK: usize = 64;

pub(crate) const LANES: usize = 16;

/// Where bytes are at most `highest`.
#[inline(always)]
#[must_use]
pub fn up_to(lanes: Lanes, highest: u8) -> Lanes {
    is(lanes.min(Lanes::splat(highest)), lanes)
}

/// Where bytes are from `lowest` to `highest`.
#[inline(always)]
#[must_use]
pub fn within(lanes: Lanes, lowest: u8, highest: u8) -> Lanes {
    // What is below wraps to the top.
    up_to(lanes - Lanes::splat(lowest), highest - lowest)
}

/// Where bytes are `byte`.
#[inline(always)]
#[must_use]
pub fn equal(lanes: Lanes, byte: u8) -> Lanes {
    is(lanes, Lanes::splat(byte))
}

#[inline(always)]
fn is(a: Lanes, b: Lanes) -> Lanes {
    a.simd_eq(b)
}

/// Whether `test` finds any byte of a text.
#[inline(always)]
#[must_use]
pub fn any(text: &[u8], test: impl Fn(Lanes) -> Lanes) -> bool {
    // The last sixteen overlap those before them.
    let Some(last) = text.last_chunk::<LANES>() else {
        let [found] = short(text, |lanes| [test(lanes)]);
        return found != 0;
    };
    let (fours, rest) = text.as_chunks::<{ 4 * LANES }>();
    let (ones, _) = rest.as_chunks::<LANES>();
    let mut found = test(Lanes::new(*last));
    for four in fours {
        let (lanes, _) = four.as_chunks::<LANES>();
        found = lanes.iter().fold(found, |found, lanes| found | test(Lanes::new(*lanes)));
    }
    ones.iter().fold(found, |found, lanes| found | test(Lanes::new(*lanes))).any()
}

/// Where a byte stands first.
#[inline]
#[must_use]
pub fn find(text: &[u8], byte: u8) -> Option<usize> {
    let (chunks, rest) = text.as_chunks::<LANES>();
    for (number, chunk) in chunks.iter().enumerate() {
        let found = equal(Lanes::new(*chunk), byte).to_bitmask();
        if found != 0 {
            return Some(number * LANES + found.trailing_zeros() as usize);
        }
    }
    let [found] = short(rest, |lanes| [equal(lanes, byte)]);
    (found != 0).then(|| text.len() - rest.len() + found.trailing_zeros() as usize)
}

/// For each test a mask: bit n says whether it finds byte n. Of a text longer than [`BLOCK`] only that much is read.
#[inline(always)]
#[must_use]
pub fn masks<const N: usize>(text: &[u8], tests: impl Fn(Lanes) -> [Lanes; N]) -> [u64; N] {
    let text = text.get(..BLOCK).unwrap_or(text);
    let mut masks = [0; N];
    let (chunks, rest) = text.as_chunks::<LANES>();
    let mut at = 0u32;
    for chunk in chunks {
        for (mask, found) in masks.iter_mut().zip(tests(Lanes::new(*chunk))) {
            *mask |= u64::from(found.to_bitmask()) << at;
        }
        at += 16;
    }
    if !rest.is_empty() {
        for (mask, found) in masks.iter_mut().zip(short(rest, tests)) {
            *mask |= u64::from(found) << at;
        }
    }
    masks
}

/// The masks of fewer than sixteen bytes.
#[inline(always)]
fn short<const N: usize>(text: &[u8], tests: impl Fn(Lanes) -> [Lanes; N]) -> [u32; N] {
    let [first, rest] = padded(text);
    let lanes = Lanes::new((u128::from(first) | (u128::from(rest) << 64)).to_le_bytes());
    let there = (1 << text.len().min(LANES)) - 1;
    tests(lanes).map(|found| found.to_bitmask() & there)
}

/// Fewer than sixteen bytes as two numbers, the first eight and the rest, with zeros above them. Two reads that overlap, for a
/// copy of unknown length is a call.
#[inline(always)]
fn padded(text: &[u8]) -> [u64; 2] {
    let bits = |length: usize| u32::try_from(8 * (text.len() - length)).unwrap_or(u32::MAX);
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        // Of exactly eight bytes there is no rest.
        let rest = u64::from_le_bytes(*last).checked_shr(64u32.saturating_sub(bits(8))).unwrap_or(0);
        return [u64::from_le_bytes(*first), rest];
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let [first, last] = [first, last].map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
        return [first | (last << bits(4)), 0];
    }
    [text.iter().rev().fold(0, |bits, byte| (bits << 8) | u64::from(*byte)), 0]
}

/// A text of fewer than sixteen bytes as two numbers, with zeros above it.
#[inline(always)]
#[must_use]
pub fn two_words(text: &[u8]) -> Option<[u64; 2]> {
    (text.len() < LANES).then(|| padded(text))
}

/// Whether two texts are the same. For short ones, where a call to compare them costs more than comparing.
#[inline(always)]
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (eights, _) = a.as_chunks::<8>();
    let (others, _) = b.as_chunks::<8>();
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    match (a.last_chunk(), b.last_chunk()) {
        (Some(last), Some(other)) if word(last) != word(other) => false,
        (Some(_), Some(_)) => eights.iter().zip(others).all(|(one, other)| word(one) == word(other)),
        _ => padded(a) == padded(b),
    }
}

/// Appends a text. For short ones: a copy of unknown length is a call out of the sandbox, and dearer than the few bytes of a
/// usual text.
#[inline(always)]
pub(crate) fn append(out: &mut Vec<u8>, text: &[u8]) {
    let (pieces, rest) = text.as_chunks::<LANES>();
    for piece in pieces {
        out.extend_from_slice(piece);
    }
    if !rest.is_empty() {
        let end = out.len() + rest.len();
        let [first, second] = padded(rest).map(u64::to_le_bytes);
        out.extend_from_slice([first, second].as_flattened());
        out.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> impl Iterator<Item = Vec<u8>> {
        let bytes = || (0..=u8::MAX).cycle().map(|at| at.wrapping_mul(37));
        (0..200).map(move |length| bytes().take(length).collect())
    }

    #[test]
    fn every_byte_is_found_in_texts_of_every_length() {
        for text in texts() {
            for byte in 0..=255u8 {
                assert_eq!(any(&text, |lanes| equal(lanes, byte)), text.contains(&byte), "{byte} in {text:?}");
                assert_eq!(find(&text, byte), text.iter().position(|other| *other == byte), "{byte} in {text:?}");
            }
        }
        assert!(!any(&[7; 100], |lanes| equal(lanes, 0)), "what is not there is not found");
    }

    #[test]
    fn a_mask_has_a_bit_for_each_byte_of_a_block() {
        for text in texts() {
            let [low, middle] = masks(&text, |lanes| [up_to(lanes, 99), within(lanes, 100, 200)]);
            for at in 0..BLOCK {
                let byte = text.get(at).copied();
                assert_eq!(low >> at & 1 == 1, byte.is_some_and(|byte| byte <= 99), "{at} of {}", text.len());
                assert_eq!(middle >> at & 1 == 1, byte.is_some_and(|byte| (100..=200).contains(&byte)));
            }
        }
    }

    #[test]
    fn texts_of_every_length_are_appended_whole() {
        for text in texts() {
            let mut copied = b"before".to_vec();
            append(&mut copied, &text);
            assert_eq!(copied.split_off(6), text);
        }
    }

    #[test]
    fn texts_that_differ_in_one_byte_are_not_the_same() {
        for text in texts() {
            assert!(same(&text, &text.clone()));
            assert!(!same(&text, &[text.as_slice(), b"\0"].concat()));
            for at in 0..text.len() {
                let mut other = text.clone();
                other[at] ^= 0x40;
                assert!(!same(&text, &other), "{at} of {}", text.len());
            }
        }
    }
}
