//! Sets of addresses: sorted, disjoint ranges.
//!
//! Overlapping and neighbouring ranges are merged when the set is made, so membership is one binary search however the
//! list was written, and the answer is that of a longest-prefix search: an address is in the set or it is not. IPv4 and IPv6
//! are kept apart, IPv4 in 8 bytes a range.
//!
//! ```text
//! u32 number of IPv4 ranges, u32 number of IPv6 ranges,
//! (u32 first, u32 last) per IPv4 range, ([16] first, [16] last) per IPv6 range, big-endian as on the wire
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Unreadable;
use super::format::{Fragment, word};
use crate::address::Cidr;

/// A set of addresses in a policy.
#[derive(Clone, Copy)]
pub struct Ranges<'p> {
    v4: &'p [[u8; 8]],
    v6: &'p [[u8; 32]],
}

impl<'p> Ranges<'p> {
    /// The set at an offset, or nothing at 0: no restriction.
    #[inline]
    pub(crate) fn open(fragment: &'p Fragment, offset: u32) -> Result<Option<Ranges<'p>>, Unreadable> {
        if offset == 0 {
            return Ok(None);
        }
        let bytes = fragment.at(offset)?;
        let (v4, v6) = (word(bytes, 0)? as usize, word(bytes, 4)? as usize);
        let v4_end = v4.checked_mul(8).and_then(|size| size.checked_add(8)).ok_or(Unreadable)?;
        let v6_end = v6.checked_mul(32).and_then(|size| size.checked_add(v4_end)).ok_or(Unreadable)?;
        let (v4, _) = bytes.get(8..v4_end).ok_or(Unreadable)?.as_chunks();
        let (v6, _) = bytes.get(v4_end..v6_end).ok_or(Unreadable)?.as_chunks();
        Ok(Some(Ranges { v4, v6 }))
    }

    /// Whether the address is in the set. An IPv4-mapped IPv6 address is the IPv4 address.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => contains(self.v4, v4.octets(), |entry: &[u8; 8]| halves(entry)),
            IpAddr::V6(v6) => contains(self.v6, v6.octets(), |entry: &[u8; 32]| halves(entry)),
        }
    }

    /// The ranges as they stand, each from its first to its last address.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + 'p {
        let v4 = self.v4.iter().map(|entry| {
            let (first, last) = halves::<4, 8>(entry);
            (IpAddr::from(Ipv4Addr::from(first)), IpAddr::from(Ipv4Addr::from(last)))
        });
        let v6 = self.v6.iter().map(|entry| {
            let (first, last) = halves::<16, 32>(entry);
            (IpAddr::from(Ipv6Addr::from(first)), IpAddr::from(Ipv6Addr::from(last)))
        });
        v4.chain(v6)
    }
}

#[inline]
fn contains<const N: usize, const M: usize>(
    ranges: &[[u8; M]],
    address: [u8; N],
    halves: impl Fn(&[u8; M]) -> ([u8; N], [u8; N]),
) -> bool {
    // Big-endian octets compare as the addresses do.
    let after = ranges.partition_point(|range| halves(range).0 <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| address <= halves(range).1)
}

#[inline]
fn halves<const N: usize, const M: usize>(range: &[u8; M]) -> ([u8; N], [u8; N]) {
    let (first, last) = (range.first_chunk(), range.last_chunk());
    (first.copied().unwrap_or([0; N]), last.copied().unwrap_or([0; N]))
}

/// The bytes of the set of all addresses in `cidrs`.
pub(crate) fn encode(cidrs: &[Cidr]) -> Vec<u8> {
    let mut v4: Vec<(u32, u32)> = Vec::new();
    let mut v6: Vec<(u128, u128)> = Vec::new();
    for cidr in cidrs {
        match cidr.bounds() {
            (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
            (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits())),
            // INVARIANT (one-family): both ends of a range are of one family.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }
    let v4 = merged(v4, |last| last.checked_add(1));
    let v6 = merged(v6, |last| last.checked_add(1));
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = [count(v4.len()), count(v6.len())].concat();
    for (first, last) in v4 {
        bytes.extend_from_slice(&first.to_be_bytes());
        bytes.extend_from_slice(&last.to_be_bytes());
    }
    for (first, last) in v6 {
        bytes.extend_from_slice(&first.to_be_bytes());
        bytes.extend_from_slice(&last.to_be_bytes());
    }
    bytes
}

fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            // Nothing comes after the very last address, so whatever follows in order is already in the range.
            Some(open) if after(open.1).is_none_or(|next| first <= next) => open.1 = open.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}
