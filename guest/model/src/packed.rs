//! Reading and writing little-endian packed buffers front to back. Every read is checked; nothing panics.

use crate::sweep;

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

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything has been read.
    pub(crate) fn end(self) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable) }
    }
}

/// Texts that stand one behind the other, at the end of a buffer. That they are UTF-8 is found for all of them at once.
pub(crate) struct Texts<'a> {
    rest: &'a str,
}

impl<'a> Texts<'a> {
    /// All that a reader has not read.
    pub(crate) fn read(reader: Reader<'a>) -> Result<Self, Unreadable> {
        str::from_utf8(reader.rest).map(|rest| Texts { rest }).map_err(|_| Unreadable)
    }

    /// The next text.
    pub(crate) fn next(&mut self, length: u16) -> Result<&'a str, Unreadable> {
        let (text, rest) = self.rest.split_at_checked(usize::from(length)).ok_or(Unreadable)?;
        self.rest = rest;
        Ok(text)
    }

    /// Every text has been read.
    pub(crate) fn end(self) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable) }
    }
}

/// Writes a buffer front to back.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Writes about that many bytes in place of what `out` holds.
    #[inline(always)]
    pub(crate) fn new(out: &'a mut Vec<u8>, length: usize) -> Self {
        out.clear();
        out.reserve(length + sweep::LANES);
        Writer { out }
    }

    #[inline(always)]
    pub(crate) fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.out.extend_from_slice(bytes);
    }

    /// The lengths of texts.
    #[inline(always)]
    pub(crate) fn lengths<const N: usize>(&mut self, texts: &[&[u8]; N]) {
        // Every text is bounded far below: by the head of a request, or by its own length in a policy.
        let lengths = texts.map(|text| u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.out.extend_from_slice(lengths.as_flattened());
    }

    /// Texts one behind the other, to the end of the buffer.
    #[inline(always)]
    pub(crate) fn texts(self, texts: &[&[u8]]) -> Result<(), Unreadable> {
        let start = self.out.len();
        for text in texts {
            sweep::append(self.out, text);
        }
        let is_ascii = !sweep::any(self.out.get(start..).unwrap_or_default(), |lanes| !sweep::up_to(lanes, 0x7f));
        if is_ascii || texts.iter().all(|text| str::from_utf8(text).is_ok()) { Ok(()) } else { Err(Unreadable) }
    }
}

/// Appends a text behind its length in two bytes.
///
/// A text longer than that is cut at a character's end: every caller is bounded far below it.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let cut = text.get(..text.floor_char_boundary(usize::from(u16::MAX))).unwrap_or_default();
    // At most u16::MAX, so the two low bytes are all of it.
    let [low, high, ..] = cut.len().to_le_bytes();
    out.extend_from_slice(&[low, high]);
    out.extend_from_slice(cut.as_bytes());
}
