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

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(cidrs: &[&str]) -> Fragment {
        let cidrs: Vec<Cidr> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        Fragment::of([vec![0; 4], encode(&cidrs)].concat(), (0, 0))
    }

    fn shown(cidrs: &[&str]) -> Vec<String> {
        let fragment = fragment(cidrs);
        let ranges = Ranges::open(&fragment, 4).unwrap().unwrap();
        ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect()
    }

    fn holds(cidrs: &[&str], address: &str) -> bool {
        Ranges::open(&fragment(cidrs), 4).unwrap().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn overlapping_and_neighbouring_ranges_are_merged() {
        assert_eq!(shown(&["10.0.1.0/24", "10.0.0.0/24"]), ["10.0.0.0-10.0.1.255"]);
        assert_eq!(shown(&["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"]), ["10.0.0.0-10.255.255.255"]);
        assert_eq!(shown(&["10.0.0.0/24", "10.0.2.0/24"]), ["10.0.0.0-10.0.0.255", "10.0.2.0-10.0.2.255"]);
        assert_eq!(
            shown(&["2001:db8::/33", "2001:db8:8000::/33"]),
            ["2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"]
        );
        assert_eq!(shown(&["::1", "::2", "::4"]), ["::1-::2", "::4-::4"]);
    }

    #[test]
    fn the_neighbours_of_a_range_are_outside() {
        for (cidr, first, last, before, after) in [
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.6", "192.0.2.8"),
            ("2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db8:0:1::"),
        ] {
            assert!(holds(&[cidr], first) && holds(&[cidr], last), "{cidr}");
            assert!(!holds(&[cidr], before) && !holds(&[cidr], after), "{cidr}");
        }
    }

    #[test]
    fn the_ends_of_the_address_space_are_in_reach() {
        assert_eq!(shown(&["0.0.0.0/0"]), ["0.0.0.0-255.255.255.255"]);
        assert_eq!(shown(&["0.0.0.0/1", "128.0.0.0/1", "255.255.255.255"]), ["0.0.0.0-255.255.255.255"]);
        assert_eq!(shown(&["255.255.255.254/31", "255.255.255.255"]), ["255.255.255.254-255.255.255.255"]);
        for address in ["0.0.0.0", "255.255.255.255"] {
            assert!(holds(&["0.0.0.0/0"], address) && holds(&[address], address), "{address}");
        }
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert!(holds(&["::/0"], last) && holds(&[last], last) && !holds(&[last], "::"));
        assert_eq!(shown(&[last, "ffff::/16"]), [format!("ffff::-{last}")]);
    }

    #[test]
    fn families_are_apart_but_for_mapped_addresses() {
        assert!(!holds(&["0.0.0.0/0"], "::"));
        assert!(!holds(&["::/0"], "10.0.0.1"));
        assert!(holds(&["10.0.0.0/8"], "::ffff:10.0.0.1"));
        assert!(holds(&["::ffff:10.0.0.0/104"], "10.0.0.1"));
        assert!(!holds(&["::/0"], "::ffff:10.0.0.1"), "a mapped client is an IPv4 client");
    }

    #[test]
    fn nothing_is_set_at_offset_0_and_what_is_cut_off_is_unreadable() {
        let fragment = fragment(&["10.0.0.0/8", "2001:db8::/32"]);
        assert!(Ranges::open(&fragment, 0).unwrap().is_none());
        for offset in 5..u32::try_from(fragment.size()).unwrap() + 8 {
            // Whatever the bytes there say, they are read within bounds or not at all.
            if let Ok(Some(ranges)) = Ranges::open(&fragment, offset) {
                let _ = ranges.contains("10.0.0.1".parse().unwrap());
            }
        }
        let whole = [vec![0; 4], encode(&["10.0.0.0/8".parse().unwrap()])].concat();
        for end in 4..whole.len() {
            assert!(Ranges::open(&Fragment::of(whole[..end].to_vec(), (0, 0)), 4).is_err(), "{end}");
        }
        for counts in [[0xff; 8], [0, 0, 0, 0x20, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 8]] {
            let bytes = [vec![0; 4], counts.to_vec()].concat();
            assert!(Ranges::open(&Fragment::of(bytes, (0, 0)), 4).is_err(), "as many as overflow 32 bits");
        }
    }
}
