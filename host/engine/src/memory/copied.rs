//! Where memories cannot share a base, each has a copy of it.

use std::io;

use wasmtime::Store;

use crate::bindings::{self, Portcullis};
use crate::error::LoadError;
use crate::instance::Ruined;

/// The most bytes that one call writes (wit/policy.wit, `write`).
const CHUNK_BYTES: usize = 1 << 20;

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

/// The memory of an instance, which nobody here reaches.
pub(crate) struct Memory;

impl Memory {
    pub(crate) fn of<T>(instantiate: impl FnOnce() -> wasmtime::Result<T>) -> wasmtime::Result<(T, Memory)> {
        Ok((instantiate()?, Memory))
    }

    /// Has the guest write a base down.
    pub(crate) fn put<T>(
        &mut self,
        (store, exports): (&mut Store<T>, &Portcullis),
        _: u64,
        base: &Base,
    ) -> Result<(), LoadError> {
        for chunk in base.0.chunks(CHUNK_BYTES) {
            let call = exports.portcullis_policy_policy().call_write(&mut *store, chunk);
            call.map_err(Ruined::from)?.map_err(bindings::load_error)?;
        }
        Ok(())
    }
}
