//! A request's head, packed into one buffer.
//!
//! The guest reads the head in place, and the boundary copies it once. A record of strings would cost one allocation for
//! each field, which is more than the whole decision.
//!
//! Layout, little-endian, without padding:
//!
//! ```text
//! 0   u8       format, 1
//! 1   u8       flags: bit 0 the connection is TLS, bit 1 an authority is given, bit 2 no body follows; the others zero
//! 2   u16      number of headers
//! 4   [16]     peer address as IPv6; an IPv4 peer is ::ffff:a.b.c.d
//! 20  u16 x 3  lengths of method, authority, target
//! 26  u16      length of all header names together
//! 28  u32      length of all header values together
//! 32  (u16, u16) per header: lengths of its name and value
//! ..  method, authority, target, all names, all values
//! ```
//!
//! Names stand together and values stand together so that either can be checked in one sweep.

use std::net::IpAddr;

use crate::packed::{Reader, Unreadable};

/// The most bytes of a packed head. A head of this size is read, one byte more is refused.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most header fields of a request.
pub const MAX_HEADERS: usize = 128;
/// The longest request target (path and query) in bytes.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Names that CGI and its descendants take for the fields that frame a body. A request that has one is refused before the gate
/// sees it, as [`Reason::HeaderUnderscore`](crate::verdict::Reason::HeaderUnderscore).
pub const DISGUISED_FRAMING: [&str; 2] = ["content_length", "transfer_encoding"];

const FORMAT: u8 = 1;
const FLAG_SECURE: u8 = 1;
const FLAG_AUTHORITY: u8 = 2;
const FLAG_BODILESS: u8 = 4;

/// A request's head, not yet packed: what a host knows of a request before it reads the body.
///
/// All texts are as they came over the wire; a host that changes any of them breaks signatures and, worse, decides a
/// request that its upstream never sees.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The request came over TLS.
    pub secure: bool,
    /// The request is known to have no body: a signature over it can be checked at once.
    pub bodiless: bool,
    /// The address of the connection's other end.
    pub peer: IpAddr,
    /// The method, case preserved.
    pub method: &'a [u8],
    /// `:authority` of HTTP/2 and later, or the authority of an absolute-form target (RFC 9112 section 3.2.2).
    pub authority: Option<&'a [u8]>,
    /// The target in origin-form: path and query.
    pub target: &'a [u8],
    /// Every header field in order of arrival, repeated ones too.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

impl RequestHead<'_> {
    /// Packs the head for the guest.
    ///
    /// # Errors
    /// When a limit of this module is exceeded. The request is then to be refused, not shortened.
    pub fn pack(&self) -> Result<Vec<u8>, HeadTooLarge> {
        let mut out = Vec::with_capacity(1024);
        self.pack_into(&mut out)?;
        Ok(out)
    }

    /// Packs the head into `out`, whose contents are replaced. Saves an allocation where buffers are kept.
    ///
    /// # Errors
    /// As [`RequestHead::pack`]; `out` is then empty.
    pub fn pack_into(&self, out: &mut Vec<u8>) -> Result<(), HeadTooLarge> {
        out.clear();
        let authority = self.authority.unwrap_or_default();
        let names: usize = self.headers.iter().map(|(name, _)| name.len()).sum();
        let values: usize = self.headers.iter().map(|(_, value)| value.len()).sum();
        let texts = self.method.len() + authority.len() + self.target.len() + names + values;
        if self.headers.len() > MAX_HEADERS {
            return Err(HeadTooLarge::Headers);
        }
        if self.target.len() > MAX_TARGET_BYTES {
            return Err(HeadTooLarge::Target);
        }
        if Packed::TEXTS_AT + 4 * self.headers.len() + texts > MAX_HEAD_BYTES {
            return Err(HeadTooLarge::Bytes);
        }
        let length = |text: &[u8]| u16::try_from(text.len()).map(u16::to_le_bytes).map_err(|_| HeadTooLarge::Bytes);
        let secure = if self.secure { FLAG_SECURE } else { 0 };
        let has_authority = if self.authority.is_some() { FLAG_AUTHORITY } else { 0 };
        let peer = match self.peer {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let count = u16::try_from(self.headers.len()).map_err(|_| HeadTooLarge::Headers)?;
        let names = u16::try_from(names).map_err(|_| HeadTooLarge::Bytes)?;
        let values = u32::try_from(values).map_err(|_| HeadTooLarge::Bytes)?;

        let bodiless = if self.bodiless { FLAG_BODILESS } else { 0 };
        out.extend_from_slice(&[FORMAT, secure | has_authority | bodiless]);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&peer.octets());
        for text in [self.method, authority, self.target] {
            out.extend_from_slice(&length(text)?);
        }
        out.extend_from_slice(&names.to_le_bytes());
        out.extend_from_slice(&values.to_le_bytes());
        for (name, value) in self.headers {
            out.extend_from_slice(&length(name)?);
            out.extend_from_slice(&length(value)?);
        }
        for text in [self.method, authority, self.target] {
            out.extend_from_slice(text);
        }
        for (name, _) in self.headers {
            out.extend_from_slice(name);
        }
        for (_, value) in self.headers {
            out.extend_from_slice(value);
        }
        Ok(())
    }
}

/// A head that exceeds a limit, named by what exceeds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadTooLarge {
    /// More than [`MAX_HEADERS`] fields.
    #[error("the request has more than {MAX_HEADERS} header fields")]
    Headers,
    /// A target of more than [`MAX_TARGET_BYTES`].
    #[error("the request target is longer than {MAX_TARGET_BYTES} bytes")]
    Target,
    /// More than [`MAX_HEAD_BYTES`] in all.
    #[error("the request head is longer than {MAX_HEAD_BYTES} bytes")]
    Bytes,
}

/// A packed head, opened. Nothing in it has been judged yet; only the lengths are known to add up.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    /// The request came over TLS.
    pub secure: bool,
    /// No body follows.
    pub bodiless: bool,
    /// The connection's other end; an IPv4-mapped address is given as IPv4.
    pub peer: IpAddr,
    /// The method as received.
    pub method: &'a [u8],
    /// The authority that came beside the Host header, if one did.
    pub authority: Option<&'a [u8]>,
    /// Path and query as received.
    pub target: &'a [u8],
    /// All header names, one after the other.
    pub names: &'a [u8],
    /// All header values, one after the other.
    pub values: &'a [u8],
    lengths: &'a [[u8; 4]],
}

impl<'a> Packed<'a> {
    const TEXTS_AT: usize = 32;

    /// Opens a packed head.
    ///
    /// # Errors
    /// [`HeadFault::TooLarge`] where a limit is exceeded, [`HeadFault::Malformed`] where the buffer is not a packed head.
    #[inline(never)]
    pub fn open(bytes: &'a [u8]) -> Result<Self, HeadFault> {
        if bytes.len() > MAX_HEAD_BYTES {
            return Err(HeadFault::TooLarge(HeadTooLarge::Bytes));
        }
        let head = Self::read(bytes).map_err(|Unreadable| HeadFault::Malformed)?;
        if head.lengths.len() > MAX_HEADERS {
            return Err(HeadFault::TooLarge(HeadTooLarge::Headers));
        }
        if head.target.len() > MAX_TARGET_BYTES {
            return Err(HeadFault::TooLarge(HeadTooLarge::Target));
        }
        Ok(head)
    }

    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let [format, flags] = reader.array()?;
        if format != FORMAT || flags & !(FLAG_SECURE | FLAG_AUTHORITY | FLAG_BODILESS) != 0 {
            return Err(Unreadable);
        }
        let count = usize::from(reader.u16()?);
        let peer = crate::address::from_bits(u128::from_be_bytes(reader.array()?));
        let method = usize::from(reader.u16()?);
        let authority = usize::from(reader.u16()?);
        let target = usize::from(reader.u16()?);
        let names = usize::from(reader.u16()?);
        let values = usize::try_from(reader.u32()?).map_err(|_| Unreadable)?;
        let (lengths, rest) = reader.bytes(4 * count)?.as_chunks();
        if !rest.is_empty() {
            return Err(Unreadable);
        }
        // At most 65,535 fields of at most 65,535 bytes: the sums fit.
        let (sum_of_names, sum_of_values) = lengths.iter().fold((0, 0), |(names, values), quad| {
            let both = u32::from_le_bytes(*quad);
            (names + (both & 0xffff), values + (both >> 16))
        });
        if sum_of_names as usize != names || sum_of_values as usize != values {
            return Err(Unreadable);
        }
        let method = reader.bytes(method)?;
        let authority = reader.bytes(authority)?;
        if flags & FLAG_AUTHORITY == 0 && !authority.is_empty() {
            return Err(Unreadable);
        }
        let head = Packed {
            secure: flags & FLAG_SECURE != 0,
            bodiless: flags & FLAG_BODILESS != 0,
            peer,
            method,
            authority: (flags & FLAG_AUTHORITY != 0).then_some(authority),
            target: reader.bytes(target)?,
            names: reader.bytes(names)?,
            values: reader.bytes(values)?,
            lengths,
        };
        reader.end()?;
        Ok(head)
    }

    /// The header fields in order of arrival, name and value.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers_of(u64::MAX)
    }

    /// The header fields whose names have one of these lengths, in order of arrival.
    #[inline]
    #[must_use]
    pub fn headers_of(&self, lengths: u64) -> Headers<'a> {
        Headers { wanted: lengths, lengths: self.lengths, names: self.names, values: self.values }
    }
}

/// The bit that stands for a name's length; the last one for all that are longer.
#[inline]
#[must_use]
pub fn length_bit(name: &[u8]) -> u64 {
    bit(name.len())
}

#[inline(always)]
fn bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// The header fields of a [`Packed`] head.
#[derive(Clone)]
pub struct Headers<'a> {
    wanted: u64,
    lengths: &'a [[u8; 4]],
    names: &'a [u8],
    values: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        // Where this field's texts begin, behind those that are passed over.
        let (mut name, mut value) = (0, 0);
        let mut lengths = self.lengths.iter();
        for quad in lengths.by_ref() {
            let both = u32::from_le_bytes(*quad);
            let (of_name, of_value) = ((both & 0xffff) as usize, (both >> 16) as usize);
            if self.wanted & bit(of_name) != 0 {
                // The sums were checked when the head was opened, so both are there.
                let (names, values) = (self.names.get(name..)?, self.values.get(value..)?);
                let found = (names.split_at_checked(of_name)?, values.split_at_checked(of_value)?);
                let ((name, names), (value, values)) = found;
                *self = Headers { wanted: self.wanted, lengths: lengths.as_slice(), names, values };
                return Some((name, value));
            }
            name += of_name;
            value += of_value;
        }
        self.lengths = &[];
        None
    }
}

/// Why a buffer could not be opened as a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// The request exceeds a limit.
    #[error(transparent)]
    TooLarge(#[from] HeadTooLarge),
    /// The buffer is not a packed head; the fault is the host's, not the caller's.
    #[error("the buffer is not a packed request head")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn head<'a>(target: &'a [u8], headers: &'a [(&'a [u8], &'a [u8])]) -> RequestHead<'a> {
        RequestHead {
            secure: true,
            bodiless: false,
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            method: b"GET",
            authority: None,
            target,
            headers,
        }
    }

    #[test]
    fn a_head_survives_the_boundary() {
        let headers: [(&[u8], &[u8]); 3] = [(b"host", b"a.example"), (b"x", b""), (b"x", b"2")];
        let bytes = head(b"/v1?q=1", &headers).pack().unwrap();
        let opened = Packed::open(&bytes).unwrap();
        assert!(opened.secure);
        assert_eq!(opened.peer, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!((opened.method, opened.target, opened.authority), (&b"GET"[..], &b"/v1?q=1"[..], None));
        assert!(opened.headers().eq(headers));
    }

    #[test]
    fn limits_hold_at_n_and_n_plus_1() {
        let field: (&[u8], &[u8]) = (b"n", b"v");
        assert!(head(b"/", &[field; MAX_HEADERS]).pack().is_ok());
        assert_eq!(head(b"/", &[field; MAX_HEADERS + 1]).pack(), Err(HeadTooLarge::Headers));

        let target = vec![b'a'; MAX_TARGET_BYTES + 1];
        assert!(head(&target[1..], &[]).pack().is_ok());
        assert_eq!(head(&target, &[]).pack(), Err(HeadTooLarge::Target));

        let room = MAX_HEAD_BYTES - head(b"/", &[(b"", b"")]).pack().unwrap().len();
        let value = vec![b'v'; room + 1];
        let full = head(b"/", &[(b"", &value[1..])]).pack().unwrap();
        assert_eq!(full.len(), MAX_HEAD_BYTES);
        assert!(Packed::open(&full).is_ok());
        assert_eq!(head(b"/", &[(b"", &value)]).pack(), Err(HeadTooLarge::Bytes));
        assert_eq!(Packed::open(&vec![1; MAX_HEAD_BYTES + 1]).err(), Some(HeadFault::TooLarge(HeadTooLarge::Bytes)));
    }

    #[test]
    fn every_cut_of_a_head_is_malformed() {
        let bytes = head(b"/v1", &[(b"host", b"a.example")]).pack().unwrap();
        for end in 0..bytes.len() {
            assert_eq!(Packed::open(&bytes[..end]).err(), Some(HeadFault::Malformed), "{end}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert_eq!(Packed::open(&longer).err(), Some(HeadFault::Malformed));
    }
}
