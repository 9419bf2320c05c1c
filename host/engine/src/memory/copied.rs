//! Where memories cannot share a base, each has a copy of it.

use std::io;

use wasmtime::{Memory, Store};

use crate::error::LoadError;

/// A base that nobody can change any more.
pub(crate) struct Base(Box<[u8]>);

impl Base {
    pub(crate) fn new(bytes: &[u8]) -> io::Result<Base> {
        Ok(Base(bytes.into()))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Leaves wasmtime its own linear memories.
pub(crate) fn set(_: &mut wasmtime::Config) {}

/// Copies a base to the address that the guest has set aside for it.
///
/// # Errors
/// [`LoadError::Sandbox`] where the guest named a place that it does not have.
pub(crate) fn put<T>(store: &mut Store<T>, memory: Memory, address: u64, base: &Base) -> Result<(), LoadError> {
    let at = usize::try_from(address).map_err(|_| LoadError::Sandbox)?;
    memory.write(store, at, &base.0).map_err(|_| LoadError::Sandbox)
}
