//! Public keys and the signatures made with their other half.

use ed25519_dalek::{Signature as EdDsaSignature, VerifyingKey as EdDsaKey};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature as Es256Signature, VerifyingKey as Es256Key};
use portcullis_model::policy::TokenKeyBytes;
use portcullis_model::source::TokenAlgorithm;
use rsa::pkcs1v15::{Signature as Rs256Signature, VerifyingKey as Rs256Key};
use rsa::{BoxedUint, PublicKey as RsaKey};
use sha2::Sha256;

/// The sizes of an RSA modulus in bits (RFC 7518 section 3.3 asks for the least; verifying with the largest takes four
/// times as long).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The least exponent of an RSA key: with 1 every text is its own signature.
const MIN_RSA_EXPONENT: u64 = 3;

/// A public key that has been read, and the bytes that it was read from.
pub(super) struct Key {
    material: Material,
    parsed: Parsed,
}

/// A key's bytes, kept: another key under the same id is another key.
struct Material {
    algorithm: TokenAlgorithm,
    parts: [Box<[u8]>; 2],
}

enum Parsed {
    EdDsa(Box<EdDsaKey>),
    Es256(Box<Es256Key>),
    Rs256(Box<Rs256Key<Sha256>>),
}

impl Key {
    /// Reads a key; nothing where the bytes are none, such as a point that is not on the curve.
    pub(super) fn read(bytes: &TokenKeyBytes<'_>) -> Option<Key> {
        let parsed = match *bytes {
            TokenKeyBytes::EdDsa(key) => Parsed::EdDsa(Box::new(EdDsaKey::from_bytes(key.try_into().ok()?).ok()?)),
            TokenKeyBytes::Es256 { x, y } => {
                let (x, y): (&[u8; 32], &[u8; 32]) = (x.try_into().ok()?, y.try_into().ok()?);
                // An uncompressed point (SEC 1 section 2.3.3).
                let point = [&[4], x.as_slice(), y].concat();
                Parsed::Es256(Box::new(Es256Key::from_sec1_bytes(&point).ok()?))
            }
            TokenKeyBytes::Rs256 { n, e } => Parsed::Rs256(Box::new(rsa_key(n, e)?)),
        };
        let (algorithm, parts) = parts(bytes);
        Some(Key { material: Material { algorithm, parts: parts.map(Box::from) }, parsed })
    }

    /// Whether it was read from these very bytes. Public keys are no secret, so this takes the time it takes.
    pub(super) fn is_of(&self, bytes: &TokenKeyBytes<'_>) -> bool {
        let (algorithm, [first, second]) = parts(bytes);
        let Material { algorithm: own, parts: [own_first, own_second] } = &self.material;
        *own == algorithm && **own_first == *first && **own_second == *second
    }

    /// Whether the signature is that of the text by this key and its algorithm, whatever a header says.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.parsed {
            // Also refuses points of small order, with which one signature fits many texts (RFC 8032 section 8.4).
            Parsed::EdDsa(key) => EdDsaSignature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(signed, &signature).is_ok()),
            // Two numbers of 32 bytes and no DER (RFC 7518 section 3.4).
            Parsed::Es256(key) => {
                Es256Signature::from_slice(signature).is_ok_and(|signature| key.verify(signed, &signature).is_ok())
            }
            Parsed::Rs256(key) => {
                Rs256Signature::try_from(signature).is_ok_and(|signature| key.verify(signed, &signature).is_ok())
            }
        }
    }
}

/// The algorithm that a key is bound to.
pub(super) fn algorithm(bytes: &TokenKeyBytes<'_>) -> TokenAlgorithm {
    parts(bytes).0
}

fn parts<'p>(bytes: &TokenKeyBytes<'p>) -> (TokenAlgorithm, [&'p [u8]; 2]) {
    match *bytes {
        TokenKeyBytes::EdDsa(key) => (TokenAlgorithm::EdDsa, [key, &[]]),
        TokenKeyBytes::Es256 { x, y } => (TokenAlgorithm::Es256, [x, y]),
        TokenKeyBytes::Rs256 { n, e } => (TokenAlgorithm::Rs256, [n, e]),
    }
}

fn rsa_key(n: &[u8], e: &[u8]) -> Option<Rs256Key<Sha256>> {
    // INVARIANT (bounded-keys): read before the numbers are, which take time by their length.
    if n.len() * 8 > *RSA_BITS.end() || e.len() > size_of::<u64>() {
        return None;
    }
    let exponent = e.iter().fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
    if exponent < MIN_RSA_EXPONENT || exponent % 2 == 0 {
        return None;
    }
    let n = BoxedUint::from_be_slice_vartime(n);
    let key = RsaKey::new_with_size_limits(n, BoxedUint::from(exponent), RSA_BITS).ok()?;
    Some(Rs256Key::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa(n: &[u8], e: &[u8]) -> bool {
        Key::read(&TokenKeyBytes::Rs256 { n, e }).is_some()
    }

    fn odd(bits: usize) -> Vec<u8> {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= (8 - bits % 8) % 8;
        n
    }

    #[test]
    fn a_modulus_has_2048_to_4096_bits() {
        for (bits, expected) in
            [(2047, false), (2048, true), (3072, true), (4096, true), (4097, false), (16_384, false)]
        {
            assert_eq!(rsa(&odd(bits), &[1, 0, 1]), expected, "{bits}");
        }
        // Its bits are counted, not its bytes.
        assert!(!rsa(&[vec![0; 128], odd(1024)].concat(), &[1, 0, 1]));
        let mut even = odd(2048);
        even[255] = 0xfe;
        assert!(!rsa(&even, &[1, 0, 1]));
    }

    #[test]
    fn an_exponent_is_odd_and_3_or_more() {
        let n = odd(2048);
        for (e, expected) in [
            (&[][..], false),
            (&[0], false),
            (&[1], false),
            (&[2], false),
            (&[3], true),
            (&[4], false),
            (&[1, 0, 1], true),
            (&[0, 0, 0, 1, 0, 1], true),
            (&[1, 0, 0], false),
            (&[1, 0xff, 0xff, 0xff, 0xff], true),
            // Beyond 33 bits it only costs time.
            (&[2, 0, 0, 0, 1], false),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 1], false),
        ] {
            assert_eq!(rsa(&n, e), expected, "{e:?}");
        }
    }

    #[test]
    fn a_point_is_on_its_curve() {
        let (x, y) = ([0x6b; 32], [0x4f; 32]);
        assert!(Key::read(&TokenKeyBytes::Es256 { x: &x, y: &y }).is_none());
        assert!(Key::read(&TokenKeyBytes::Es256 { x: &[], y: &[] }).is_none());
        assert!(Key::read(&TokenKeyBytes::Es256 { x: &[0; 32], y: &[0; 32] }).is_none());
        assert!(Key::read(&TokenKeyBytes::EdDsa(&[2; 32])).is_none());
        assert!(Key::read(&TokenKeyBytes::EdDsa(&[0; 31])).is_none());
    }
}
