//! Linear memories that share one base.
//!
//! A base is written once, into a file that lies in memory and is sealed: from then on nobody can change its bytes or their
//! number. Each instance maps it over the place that its guest set aside for it, so all see the same pages. The mapping is
//! private: a guest that wrote there would get a page of its own. To a guest it is as if it had written the bytes itself.
//!
//! This is the only file of the engine with unsafe code: nothing else can map a file.

use std::fs::File;
use std::io::{self, Write as _};
use std::ptr;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use wasmtime::{LinearMemory, Memory, MemoryCreator, MemoryType, Store};

use crate::error::LoadError;

/// A page of WebAssembly: a multiple of every page size that Linux has.
const PAGE_BYTES: usize = 64 << 10;

/// A base that nobody can change any more.
pub(crate) struct Base {
    file: File,
    bytes: usize,
}

impl Base {
    /// Copies a base into a sealed file without a name.
    pub(crate) fn new(bytes: &[u8]) -> io::Result<Base> {
        let mut file = File::from(memfd_create("portcullis-base", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(bytes)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Base { file, bytes: bytes.len() })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }
}

/// Lets wasmtime take its linear memories from here.
pub(crate) fn set(settings: &mut wasmtime::Config) {
    settings.with_host_memory(Arc::new(Memories));
    // wasmtime lays its image of the data segments over its own memories alone.
    settings.memory_init_cow(false);
}

/// Address space for a linear memory: a guard, `capacity` bytes of which the first are accessible, and a guard.
struct Reservation {
    /// The address of the first guard.
    start: usize,
    guard: usize,
    capacity: usize,
    accessible: usize,
}

impl Reservation {
    fn new(minimum: usize, capacity: usize, guard: usize) -> io::Result<Reservation> {
        let (access, flags) = (ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE);
        #[expect(unsafe_code, reason = "address space cannot be had otherwise")]
        // SAFETY: the kernel chooses where, so nothing that is mapped is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), capacity + 2 * guard, access, flags)? };
        let mut reservation = Reservation { start: start.expose_provenance(), guard, capacity, accessible: 0 };
        reservation.grow_to(minimum)?;
        Ok(reservation)
    }

    /// The place of a byte of the linear memory.
    fn at(&self, offset: usize) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start + self.guard + offset)
    }

    /// Makes the first `bytes` accessible. What is new is zero.
    fn grow_to(&mut self, bytes: usize) -> io::Result<()> {
        let old = self.accessible;
        if bytes > self.capacity {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if bytes > old {
            #[expect(unsafe_code, reason = "reserved addresses cannot be made accessible otherwise")]
            // SAFETY: the range lies within the capacity and behind what is accessible, so nothing is there yet.
            unsafe {
                mprotect(self.at(old).cast(), bytes - old, MprotectFlags::READ | MprotectFlags::WRITE)?;
            }
            self.accessible = bytes;
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let start = ptr::with_exposed_provenance_mut(self.start);
        #[expect(unsafe_code, reason = "address space has to be given back")]
        // SAFETY: it is all that `new` mapped, and nobody holds it any more.
        let unmapped = unsafe { munmap(start, self.capacity + 2 * self.guard) };
        debug_assert_eq!(unmapped, Ok(()), "a whole mapping can be given back");
    }
}

/// Makes linear memories.
struct Memories;

#[expect(unsafe_code, reason = "wasmtime relies on it")]
// SAFETY: a memory is zero at first, and has the addresses and the guard behind them that wasmtime asks for.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let capacity = reserved.ok_or("a memory that may move cannot be had")?;
        let reservation = Reservation::new(minimum, capacity, guard).map_err(|error| error.to_string())?;
        Ok(Box::new(Linear(reservation)))
    }
}

/// One of them.
struct Linear(Reservation);

#[expect(unsafe_code, reason = "wasmtime relies on it")]
// SAFETY: the first `byte_size` bytes stay accessible, where they are, for as long as this lives.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        self.0.accessible
    }

    fn byte_capacity(&self) -> usize {
        self.0.capacity
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        Ok(self.0.grow_to(bytes)?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.at(0)
    }
}

/// Puts a base at the address that the guest has set aside for it, in a memory that was made here.
///
/// # Errors
/// [`LoadError::Sandbox`] where the guest named a place that it does not have, or the file could not be mapped. The
/// instance is not to be called again then.
pub(crate) fn put<T>(store: &mut Store<T>, memory: Memory, address: u64, base: &Base) -> Result<(), LoadError> {
    // Borrowed alone, so the guest does not run and nobody else looks at its memory.
    let bytes = memory.data_mut(store);
    let at = usize::try_from(address).map_err(|_| LoadError::Sandbox)?;
    let place = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..base.bytes.next_multiple_of(PAGE_BYTES)));
    let place = place.filter(|_| at.is_multiple_of(PAGE_BYTES)).ok_or(LoadError::Sandbox)?;
    if base.bytes == 0 {
        // The guest says what is wrong with it.
        return Ok(());
    }
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    #[expect(unsafe_code, reason = "this is what shares the base")]
    // SAFETY: the pages that are replaced are all of this slice, which is borrowed mutably; they are of a `Reservation`, which
    // unmaps them with all others, and stay readable and writable. To the guest its memory has other content now, as after
    // any write. The file cannot shrink, so there is something behind each page.
    let mapped = unsafe { mmap(place.as_mut_ptr().cast(), base.bytes, access, flags, &base.file, 0) };
    mapped.map(drop).map_err(|_| LoadError::Sandbox)
}

#[cfg(test)]
mod tests {
    use wasmtime::{Config, Engine, Instance, Module};

    use super::*;
    use crate::abi::{self, Exports};

    fn instance() -> (Store<()>, Exports) {
        let mut settings = Config::new();
        settings.wasm_wide_arithmetic(true);
        set(&mut settings);
        let engine = Engine::new(&settings).unwrap();
        let module = Module::new(&engine, abi::core_module(crate::COMPONENT).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let exports = Exports::of(&instance, &mut store).unwrap();
        (store, exports)
    }

    #[test]
    fn nobody_changes_a_base() {
        let base = Base::new(b"a base").unwrap();
        assert!((&base.file).write_all(b"more").is_err());
        for length in [0, 5, 7] {
            assert!(base.file.set_len(length).is_err(), "{length}");
        }
    }

    #[test]
    fn a_base_is_put_where_the_guest_has_memory_and_nowhere_else() {
        let (mut store, exports) = instance();
        let base = Base::new(&[7; PAGE_BYTES + 1]).unwrap();
        let at = exports.reserve(&mut store, base.len() as u64).unwrap();
        let memory = exports.memory();
        let end = memory.data_size(&store) as u64;
        let page = PAGE_BYTES as u64;
        let mut put = |at| super::put(&mut store, memory, at, &base);
        assert_eq!(put(at), Ok(()));
        assert_eq!(put(end - 2 * page), Ok(()), "up to the last byte");
        for nowhere in [at + 1, at + page / 2, end - page, end, u64::MAX - page + 1, u64::MAX] {
            assert_eq!(put(nowhere), Err(LoadError::Sandbox), "{nowhere}");
        }
    }

    #[test]
    fn memory_is_zero_grows_in_place_and_ends_at_its_capacity() {
        let mut memory = Reservation::new(PAGE_BYTES, 3 * PAGE_BYTES, PAGE_BYTES).unwrap();
        let start = memory.at(0);
        memory.grow_to(3 * PAGE_BYTES).unwrap();
        assert!(memory.grow_to(4 * PAGE_BYTES).is_err());
        assert_eq!((memory.at(0), memory.accessible), (start, 3 * PAGE_BYTES));
        #[expect(unsafe_code, reason = "it is read as a guest reads it")]
        // SAFETY: these bytes are accessible, and nobody writes them.
        let bytes = unsafe { std::slice::from_raw_parts(start, 3 * PAGE_BYTES) };
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}
