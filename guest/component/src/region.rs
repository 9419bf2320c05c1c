//! The place in this memory where a base lies.

use std::alloc::{Layout, alloc, dealloc};
use std::{ptr, slice};

use bytes::Bytes;

/// A page of WebAssembly. A place begins on one and has whole ones to itself, so that an embedder can map a file there.
const PAGE_BYTES: usize = 64 << 10;
/// The bytes at the start of a base by which it is told from anything else.
const START_BYTES: usize = 16;

/// Memory for a base, which is written here or put here by the embedder.
pub(crate) struct Region {
    /// Exposed to the embedder, who may write there between calls.
    address: usize,
    layout: Layout,
    size: usize,
    written: usize,
}

impl Region {
    /// Memory for that many bytes; nothing where it cannot be had.
    pub(crate) fn reserve(size: usize) -> Option<Region> {
        let pages = size.max(1).checked_next_multiple_of(PAGE_BYTES)?;
        let layout = Layout::from_size_align(pages, PAGE_BYTES).ok()?;
        #[expect(unsafe_code, reason = "a `Vec` has no alignment, and one of zeros would touch each page")]
        // SAFETY: the layout has at least a page.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            return None;
        }
        #[expect(unsafe_code, reason = "the start is wiped: a base that lay here before must not load again by itself")]
        // SAFETY: the allocation has at least a page.
        unsafe {
            start.write_bytes(0, START_BYTES);
        }
        Some(Region { address: start.expose_provenance(), layout, size, written: 0 })
    }

    /// Where the bytes will lie.
    pub(crate) fn address(&self) -> u64 {
        self.address as u64
    }

    /// Appends bytes; false where there is no more room.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> bool {
        if chunk.len() > self.size - self.written {
            return false;
        }
        let to = ptr::with_exposed_provenance_mut::<u8>(self.address + self.written);
        #[expect(unsafe_code, reason = "the memory is not a `Vec`")]
        // SAFETY: the room was checked; the chunk is another allocation.
        unsafe {
            ptr::copy_nonoverlapping(chunk.as_ptr(), to, chunk.len());
        }
        self.written += chunk.len();
        true
    }

    /// What was written; if nothing was, what the embedder put there.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        let length = if self.written == 0 { self.size } else { self.written };
        #[expect(unsafe_code, reason = "the memory is not a `Vec`")]
        // SAFETY: the allocation has as many bytes, and whoever holds the region alone writes to it. The embedder wrote them
        // by the contract, through the address that was exposed to it, before it asked for a commit.
        unsafe {
            slice::from_raw_parts(ptr::with_exposed_provenance(self.address), length)
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the memory is not a `Vec`")]
        // SAFETY: it was allocated with this layout.
        unsafe {
            dealloc(ptr::with_exposed_provenance_mut(self.address), self.layout);
        }
    }
}
