//! The secret that a proxy and its listener share.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The shortest secret in bytes: 32 characters of base 32 have 160 bits.
pub const MIN_SECRET_BYTES: usize = 32;
/// The longest secret in bytes; every proxy can send a field of that length.
pub const MAX_SECRET_BYTES: usize = 256;

/// The secret that a proxy sends with every check, in [`SECRET_HEADER`](crate::SECRET_HEADER).
pub struct Secret(Zeroizing<Vec<u8>>);

/// Text that is no such secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} visible ASCII characters")]
pub struct NoSecret;

impl Secret {
    /// Takes a secret.
    ///
    /// # Errors
    /// Where it is too short to be one, too long, or has characters that no field can have everywhere.
    pub fn new(text: &[u8]) -> Result<Secret, NoSecret> {
        let fits = (MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&text.len());
        if !fits || !text.iter().all(u8::is_ascii_graphic) {
            return Err(NoSecret);
        }
        Ok(Secret(Zeroizing::new(text.to_vec())))
    }

    /// Whether that is the secret. It takes as long for every text of one length.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        // Digests are of one length, so a comparison does not stop early.
        Sha256::digest(&*self.0).ct_eq(&Sha256::digest(given)).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_bounds() {
        for (length, fine) in [
            (MIN_SECRET_BYTES - 1, false),
            (MIN_SECRET_BYTES, true),
            (MAX_SECRET_BYTES, true),
            (MAX_SECRET_BYTES + 1, false),
        ] {
            assert_eq!(Secret::new(&vec![b'x'; length]).is_ok(), fine, "{length}");
        }
        for odd in [" ", "\n", "\u{e9}", "\0"] {
            assert_eq!(Secret::new(format!("{odd}{}", "x".repeat(40)).as_bytes()).err(), Some(NoSecret), "{odd:?}");
        }
    }

    #[test]
    fn only_the_secret_is_it_and_nothing_shows_it() {
        let text = "0123456789abcdef0123456789abcdef";
        let secret = Secret::new(text.as_bytes()).unwrap();
        assert!(secret.is(text.as_bytes()));
        for wrong in ["", "0", &text[1..], &format!("{text}0"), &text.to_uppercase()] {
            assert!(!secret.is(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
