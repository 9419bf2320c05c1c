//! How a module that runs in a proxy knows what it is.
//!
//! Its bytes have a slot, [`MARK`] and 32 zeros behind it. Whoever hands the module out puts the digest of the bytes as they
//! are, zeros and all, into the slot. So a worker can report which module it runs, and everybody can check that the report is
//! of those bytes.

use sha2::{Digest as _, Sha256};

/// What stands before the slot, and nowhere else in the module.
pub const MARK: [u8; 32] = *b"portcullis module digest sha256:";
/// The bytes of a digest.
pub const DIGEST_BYTES: usize = 32;

/// The mark and an empty slot, for a module to have.
pub const EMPTY: [u8; MARK.len() + DIGEST_BYTES] = {
    let mut bytes = [0; MARK.len() + DIGEST_BYTES];
    let (mark, _) = bytes.split_at_mut(MARK.len());
    mark.copy_from_slice(&MARK);
    bytes
};

/// What a module's own slot says; nothing where nobody filled it.
#[must_use]
pub fn read(slot: &[u8; MARK.len() + DIGEST_BYTES]) -> Option<[u8; DIGEST_BYTES]> {
    slot.last_chunk().copied().filter(|digest| *digest != [0; DIGEST_BYTES])
}

/// Fills the slot of a module, and gives the digest.
///
/// # Errors
/// Where there is not exactly one empty slot.
pub fn fill(module: &mut [u8]) -> Result<[u8; DIGEST_BYTES], NoSlot> {
    let digest: [u8; DIGEST_BYTES] = Sha256::digest(&*module).into();
    let mut found = module.windows(EMPTY.len()).enumerate().filter(|(_, window)| *window == EMPTY);
    let ((at, _), None) = (found.next().ok_or(NoSlot)?, found.next()) else { return Err(NoSlot) };
    let slot = module.get_mut(at + MARK.len()..at + EMPTY.len()).ok_or(NoSlot)?;
    slot.copy_from_slice(&digest);
    Ok(digest)
}

/// A module without a slot, or with one that is filled already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the module does not have exactly one empty slot for its digest")]
pub struct NoSlot;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_filled_once() {
        let empty = [b"before".as_slice(), &EMPTY, b"after"].concat();
        let mut module = empty.clone();
        let digest = fill(&mut module).unwrap();
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&empty)));
        let slot: [u8; 64] = module[6..70].try_into().unwrap();
        assert_eq!((read(&slot), read(&EMPTY)), (Some(digest), None));
        assert_eq!(fill(&mut module), Err(NoSlot), "it is full");
        assert_eq!(fill(&mut [0; 100]), Err(NoSlot), "there is none");
        assert_eq!(fill(&mut [EMPTY, EMPTY].concat()), Err(NoSlot), "there are two");
    }
}
