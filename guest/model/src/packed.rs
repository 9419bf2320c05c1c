//! Reading little-endian packed buffers front to back. Every read is checked; nothing panics.

/// The buffer ended early or held something that does not fit its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Unreadable)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Unreadable)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Unreadable> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Unreadable> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text behind its length in two bytes.
    pub(crate) fn text(&mut self) -> Result<&'a str, Unreadable> {
        let length = self.u16()?;
        let bytes = self.bytes(usize::from(length))?;
        std::str::from_utf8(bytes).map_err(|_| Unreadable)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything has been read.
    pub(crate) fn end(self) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable) }
    }
}

/// Appends a text behind its length in two bytes.
///
/// A text longer than that is cut at a character's end: every caller is bounded far below it.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let cut = text.get(..text.floor_char_boundary(usize::from(u16::MAX))).unwrap_or_default();
    // At most u16::MAX, so the two low bytes are all of it.
    let [low, high, ..] = cut.len().to_le_bytes();
    out.reserve(2 + cut.len());
    out.extend_from_slice(&[low, high]);
    // Pieces of constant size are single stores. A copy of unknown length is a call out of the sandbox, and dearer than
    // the few bytes of a usual text.
    let (eights, rest) = cut.as_bytes().as_chunks::<8>();
    let (twos, rest) = rest.as_chunks::<2>();
    eights.iter().for_each(|piece| out.extend_from_slice(piece));
    twos.iter().for_each(|piece| out.extend_from_slice(piece));
    rest.iter().for_each(|byte| out.push(*byte));
}
