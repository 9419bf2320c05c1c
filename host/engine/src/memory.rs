//! Linear memories that share one base.
//!
//! A base is written once, into a file that lies in memory and is sealed: from then on nobody can change its bytes or their
//! number. Each instance maps it over the place that its guest set aside for it, so all see the same pages. The mapping is
//! private: a guest that wrote there would get a page of its own. To a guest it is as if it had written the bytes itself.
//!
//! This is the only file of the engine with unsafe code: the memory of a component cannot be reached through wasmtime.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write as _};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, Store};

use crate::bindings::Portcullis;
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

/// Address space for a linear memory: a guard, `capacity` bytes of which the first are accessible, and a guard. It is given
/// back when both wasmtime and the instance have let go of it.
struct Reservation {
    /// The address of the first guard.
    start: usize,
    guard: usize,
    capacity: usize,
    accessible: AtomicUsize,
}

impl Reservation {
    fn new(minimum: usize, capacity: usize, guard: usize) -> io::Result<Reservation> {
        let (access, flags) = (ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE);
        #[expect(unsafe_code, reason = "address space cannot be had otherwise")]
        // SAFETY: the kernel chooses where, so nothing that is mapped is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), capacity + 2 * guard, access, flags)? };
        let accessible = AtomicUsize::new(0);
        let reservation = Reservation { start: start.expose_provenance(), guard, capacity, accessible };
        reservation.grow_to(minimum)?;
        Ok(reservation)
    }

    /// The place of a byte of the linear memory.
    fn at(&self, offset: usize) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start + self.guard + offset)
    }

    fn accessible(&self) -> usize {
        self.accessible.load(Ordering::Relaxed)
    }

    /// Makes the first `bytes` accessible. What is new is zero.
    fn grow_to(&self, bytes: usize) -> io::Result<()> {
        let old = self.accessible();
        if bytes > self.capacity {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if bytes > old {
            #[expect(unsafe_code, reason = "reserved addresses cannot be made accessible otherwise")]
            // SAFETY: the range lies within the capacity and behind what is accessible, so nothing is there yet.
            unsafe {
                mprotect(self.at(old).cast(), bytes - old, MprotectFlags::READ | MprotectFlags::WRITE)?;
            }
            self.accessible.store(bytes, Ordering::Relaxed);
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

thread_local! {
    /// The memories that this thread has made since somebody last looked.
    static MADE: Cell<Vec<Arc<Reservation>>> = const { Cell::new(Vec::new()) };
}

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
        let made = Arc::new(Reservation::new(minimum, capacity, guard).map_err(|error| error.to_string())?);
        let mut all = MADE.take();
        all.push(Arc::clone(&made));
        MADE.set(all);
        Ok(Box::new(Linear(made)))
    }
}

/// wasmtime's end of a memory.
struct Linear(Arc<Reservation>);

#[expect(unsafe_code, reason = "wasmtime relies on it")]
// SAFETY: the first `byte_size` bytes stay accessible, where they are, for as long as this lives.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        self.0.accessible()
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

/// Our end of the memory of an instance.
pub(crate) struct Memory(Arc<Reservation>);

impl Memory {
    /// Makes an instance and takes hold of its memory. It must have exactly one.
    pub(crate) fn of<T>(instantiate: impl FnOnce() -> wasmtime::Result<T>) -> wasmtime::Result<(T, Memory)> {
        drop(MADE.take());
        let instance = instantiate();
        // Taken in any case: what failed must not hold its memory.
        let made = MADE.take();
        match <[_; 1]>::try_from(made) {
            Ok([memory]) => Ok((instance?, Memory(memory))),
            Err(_) => instance.and(Err(wasmtime::format_err!("the component does not have exactly one memory"))),
        }
    }

    /// Puts a base at the address that the guest has set aside for it.
    ///
    /// # Errors
    /// [`LoadError::Sandbox`] where the guest named a place that it does not have, or the file could not be mapped. The
    /// instance is not to be called again then.
    pub(crate) fn put<T>(
        &mut self,
        // Held alone, so the guest does not run and nobody borrows from its memory.
        _: (&mut Store<T>, &Portcullis),
        address: u64,
        base: &Base,
    ) -> Result<(), LoadError> {
        let Memory(memory) = self;
        let at = usize::try_from(address).map_err(|_| LoadError::Sandbox)?;
        let end = at.checked_add(base.bytes.next_multiple_of(PAGE_BYTES)).ok_or(LoadError::Sandbox)?;
        if !at.is_multiple_of(PAGE_BYTES) || end > memory.accessible() {
            return Err(LoadError::Sandbox);
        }
        if base.bytes == 0 {
            // The guest says what is wrong with it.
            return Ok(());
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        #[expect(unsafe_code, reason = "this is what shares the base")]
        // SAFETY: the pages that are replaced lie in the accessible part of a memory whose guest does not run, and stay
        // readable and writable. To the guest its memory has other content now, as after any write. The file cannot shrink,
        // so there is something behind each page.
        let mapped = unsafe { mmap(memory.at(at).cast(), base.bytes, access, flags, &base.file, 0) };
        mapped.map(drop).map_err(|_| LoadError::Sandbox)
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Config, Engine};

    use super::*;

    fn instance() -> (Store<()>, Portcullis, Memory) {
        let mut settings = Config::new();
        settings.wasm_wide_arithmetic(true);
        set(&mut settings);
        let engine = Engine::new(&settings).unwrap();
        let component = Component::new(&engine, crate::COMPONENT).unwrap();
        let mut store = Store::new(&engine, ());
        let instantiate = || Portcullis::instantiate(&mut store, &component, &Linker::new(&engine));
        let (exports, memory) = Memory::of(instantiate).unwrap();
        (store, exports, memory)
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
        let (mut store, exports, mut memory) = instance();
        let base = Base::new(&[7; PAGE_BYTES + 1]).unwrap();
        let reserved = exports.portcullis_policy_policy().call_reserve(&mut store, base.len() as u64).unwrap();
        let at = reserved.unwrap();
        let end = memory.0.accessible() as u64;
        let page = PAGE_BYTES as u64;
        let mut put = |at| memory.put((&mut store, &exports), at, &base);
        assert_eq!(put(at), Ok(()));
        assert_eq!(put(end - 2 * page), Ok(()), "up to the last byte");
        for nowhere in [at + 1, at + page / 2, end - page, end, u64::MAX - page + 1, u64::MAX] {
            assert_eq!(put(nowhere), Err(LoadError::Sandbox), "{nowhere}");
        }
    }

    #[test]
    fn memory_is_zero_grows_in_place_and_ends_at_its_capacity() {
        let memory = Reservation::new(PAGE_BYTES, 3 * PAGE_BYTES, PAGE_BYTES).unwrap();
        let start = memory.at(0);
        memory.grow_to(3 * PAGE_BYTES).unwrap();
        assert!(memory.grow_to(4 * PAGE_BYTES).is_err());
        assert_eq!((memory.at(0), memory.accessible()), (start, 3 * PAGE_BYTES));
        #[expect(unsafe_code, reason = "it is read as a guest reads it")]
        // SAFETY: these bytes are accessible, and nobody writes them.
        let bytes = unsafe { std::slice::from_raw_parts(start, 3 * PAGE_BYTES) };
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}
