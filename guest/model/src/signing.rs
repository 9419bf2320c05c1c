//! Request signatures: Escher's protocol, a descendant of AWS Signature Version 4, in the profiles that its users chose.
//!
//! One canonicaliser serves whoever signs and whoever verifies. Everything is a pure function over bytes.
//!
//! | module | holds |
//! |---|---|
//! | [`canonical`] | how a request is written before it is signed |
//! | [`date`] | the two spellings of a request's date |
//! | [`presets`] | the profiles that are in use |
//! | [`signer`] | what a client does: header fields, presigned URLs |

pub mod canonical;
pub mod date;
pub mod presets;
pub mod signer;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::digest::FixedOutput as _;
use sha2::digest::common::hazmat::{SerializableState as _, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

use crate::key_sheet::{DAY_KEY_BYTES, Day, DayKey};
use crate::source::{CanonicalForm, SignatureHash, SignatureProfile};
use crate::time::UnixTime;

/// What stands for the body of a presigned URL in Escher.
pub const UNSIGNED_PAYLOAD: &[u8] = b"UNSIGNED-PAYLOAD";

/// The SHA-256 of nothing.
const EMPTY_SHA256: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// A digest or an HMAC of either hash.
#[derive(Clone, Copy)]
pub struct Output {
    bytes: [u8; 64],
    length: usize,
}

impl Output {
    /// What somebody else has computed: of a longer one the first 64 bytes count.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Output {
        Output::new(bytes)
    }

    fn new(of: &[u8]) -> Output {
        let mut bytes = [0; 64];
        bytes.iter_mut().zip(of).for_each(|(place, byte)| *place = *byte);
        Output { bytes, length: of.len().min(64) }
    }

    /// The bytes: 32 or 64.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Appends the bytes in lower-case hex.
    pub fn write_hex(&self, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or_default();
        out.extend(self.as_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]));
    }

    /// The bytes in lower-case hex.
    #[must_use]
    pub fn to_hex(&self) -> String {
        base16ct::lower::encode_string(self.as_bytes())
    }
}

impl SignatureHash {
    /// Its name in an algorithm: `SHA256` of `AWS4-HMAC-SHA256`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SignatureHash::Sha256 => "SHA256",
            SignatureHash::Sha512 => "SHA512",
        }
    }

    /// How many bytes its digests have.
    #[must_use]
    pub fn output_bytes(self) -> usize {
        match self {
            SignatureHash::Sha256 => 32,
            SignatureHash::Sha512 => 64,
        }
    }

    /// The digest of some bytes.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Output {
        match self {
            // Most signed requests have no body, and hashing nothing takes a block as well.
            SignatureHash::Sha256 if bytes.is_empty() => Output::new(&EMPTY_SHA256),
            SignatureHash::Sha256 => Output::new(&Sha256::digest(bytes)),
            SignatureHash::Sha512 => Output::new(&Sha512::digest(bytes)),
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Output {
        // An HMAC takes keys of any length, so there is no error to come of one.
        match self {
            SignatureHash::Sha256 => Hmac::<Sha256>::new_from_slice(key).map_or(Output::new(&[]), |mut mac| {
                mac.update(message);
                Output::new(&mac.finalize_fixed())
            }),
            SignatureHash::Sha512 => Hmac::<Sha512>::new_from_slice(key).map_or(Output::new(&[]), |mut mac| {
                mac.update(message);
                Output::new(&mac.finalize_fixed())
            }),
        }
    }
}

/// Derives the key of a day: `k = PREFIX + secret`, then `k = HMAC(k, part)` for the day and each part of the scope.
#[must_use]
pub fn day_key(profile: &SignatureProfile, secret: &[u8], day: Day) -> DayKey {
    let hash = profile.hash;
    let mut first = zeroize::Zeroizing::new(Vec::with_capacity(profile.algorithm_prefix.len() + secret.len()));
    first.extend_from_slice(profile.algorithm_prefix.as_bytes());
    first.extend_from_slice(secret);
    let mut key = hash.hmac(&first, &short_date(day));
    for part in profile.credential_scope.split('/') {
        key = hash.hmac(key.as_bytes(), part.as_bytes());
    }
    let mut bytes = [0; DAY_KEY_BYTES];
    bytes.iter_mut().zip(key.as_bytes()).for_each(|(place, byte)| *place = *byte);
    DayKey(bytes)
}

/// The signature of a string to sign under a day's key. Signatures are written in lower-case hex.
#[must_use]
pub fn signature(hash: SignatureHash, key: &DayKey, string_to_sign: &[u8]) -> Output {
    // The zeros behind a SHA-256 key are those that HMAC puts there itself (RFC 2104 section 2).
    hash.hmac(&key.0, string_to_sign)
}

/// A day's key, ready for many signatures. HMAC begins each of its two hashes with a block that the key alone decides; of a key of
/// SHA-256 this is the state behind either block, and of one of SHA-512 the key itself. Whoever has it can sign, as with the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReadyKey([u8; DAY_KEY_BYTES]);

impl std::fmt::Debug for ReadyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadyKey")
    }
}

impl From<DayKey> for ReadyKey {
    fn from(DayKey(key): DayKey) -> ReadyKey {
        // A key of SHA-512 ends in so many zeros once in 2^256 times. A free slot stays free.
        let is_free = key == [0; DAY_KEY_BYTES];
        if is_free || !key.ends_with(&[0; 32]) {
            return ReadyKey(key);
        }
        // RFC 2104 section 2: the inner and the outer pad.
        let [inner, outer] = [0x36, 0x5c].map(|pad| Begun::with(&key.map(|byte| byte ^ pad)).0);
        let mut ready = [0; DAY_KEY_BYTES];
        ready.iter_mut().zip([inner, outer].as_flattened()).for_each(|(place, byte)| *place = *byte);
        ReadyKey(ready)
    }
}

impl ReadyKey {
    /// Nobody's: what a signature is compared with that no signer can have made.
    pub const NOBODYS: ReadyKey = ReadyKey([0x5a; DAY_KEY_BYTES]);

    /// The signature of a string to sign, as [`signature`] makes it of the key.
    #[must_use]
    pub fn signature(&self, hash: SignatureHash, string_to_sign: &[u8]) -> Output {
        let (halves, _) = self.0.as_chunks();
        let (SignatureHash::Sha256, [inner, outer]) = (hash, halves) else {
            return hash.hmac(&self.0, string_to_sign);
        };
        let digest = Begun(*inner).and(string_to_sign);
        Begun(*outer).and(digest.as_bytes())
    }
}

/// The state of SHA-256 behind one block.
struct Begun([u8; 32]);

impl Begun {
    fn with(block: &[u8; 64]) -> Begun {
        let serialized = Sha256::new().chain_update(block).serialize();
        Begun(serialized.first_chunk().copied().unwrap_or_default())
    }

    /// The digest of the block and what follows it.
    fn and(&self, rest: &[u8]) -> Output {
        let mut serialized = SerializedState::<Sha256>::default();
        // The state, then how many blocks it has seen as a u64, little-endian; behind them nothing waits to be hashed.
        if let Some((state, [seen, ..])) = serialized.split_first_chunk_mut() {
            (*state, *seen) = (self.0, 1);
        }
        // What `serialize` has written can be read. An answer that is none would equal no signature.
        Sha256::deserialize(&serialized)
            .map_or(Output::new(&[]), |hash| Output::new(&hash.chain_update(rest).finalize()))
    }
}

/// Writes the string to sign.
pub fn write_string_to_sign(
    out: &mut Vec<u8>,
    (prefix, hash, scope): (&str, SignatureHash, &str),
    at: UnixTime,
    canonical_request: &[u8],
) {
    let digest = hash.digest(canonical_request);
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(b"-HMAC-");
    out.extend_from_slice(hash.as_str().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&date::long_date(at));
    out.push(b'\n');
    out.extend_from_slice(&short_date(Day::of(at)));
    out.push(b'/');
    out.extend_from_slice(scope.as_bytes());
    out.push(b'\n');
    digest.write_hex(out);
}

/// The name of a presigned URL's parameter: `X-Escher-Credentials`. AWS has that one in the singular.
#[must_use]
pub fn presigned_name(form: CanonicalForm, vendor_key: &str, ending: &str) -> String {
    let ending = match (form, ending) {
        (CanonicalForm::Aws, "Credentials") => "Credential",
        (CanonicalForm::Aws | CanonicalForm::Escher | CanonicalForm::Antavo, ending) => ending,
    };
    ["X-", vendor_key, "-", ending].concat()
}

/// A day as `YYYYMMDD`.
#[must_use]
pub fn short_date(day: Day) -> [u8; 8] {
    date::short(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of key derivation in AWS's documentation of Signature Version 4.
    #[test]
    fn a_key_is_derived_as_aws_documents_it() {
        let profile = SignatureProfile {
            credential_scope: "us-east-1/iam/aws4_request".to_owned(),
            ..presets::aws("us-east-1", "iam")
        };
        assert_eq!(profile.canonical_form, CanonicalForm::Aws);
        let day = Day::of("2015-08-30T00:00:00Z".parse().unwrap());
        let key = day_key(&profile, b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", day);
        let expected = "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9";
        assert_eq!(base16ct::lower::encode_string(&key.0[..32]), expected);
        assert_eq!(key.0[32..], [0; 32]);
    }

    #[test]
    fn a_ready_key_signs_as_the_key_does() {
        for hash in [SignatureHash::Sha256, SignatureHash::Sha512] {
            let profile = SignatureProfile { hash, ..presets::antavo("eu") };
            let key = day_key(&profile, b"secret", Day(20_000));
            let ready = ReadyKey::from(key);
            for length in 0..300 {
                let message = vec![b'm'; length];
                let [mine, theirs] = [ready.signature(hash, &message), signature(hash, &key, &message)];
                assert_eq!(mine.as_bytes(), theirs.as_bytes(), "{hash:?}, {length} bytes");
                assert_eq!(mine.as_bytes().len(), hash.output_bytes());
            }
            assert_eq!(format!("{ready:?}"), "ReadyKey");
        }
        let free = DayKey([0; DAY_KEY_BYTES]);
        assert_eq!(ReadyKey::from(free).0, free.0);
    }

    #[test]
    fn the_digest_of_nothing_is_that_of_the_hash() {
        assert_eq!(Sha256::digest([])[..], EMPTY_SHA256);
        assert_eq!(SignatureHash::Sha512.digest(&[]).as_bytes(), &Sha512::digest([])[..]);
    }

    #[test]
    fn a_long_key_is_one_of_sha_512() {
        let profile = SignatureProfile { hash: SignatureHash::Sha512, ..presets::antavo("eu") };
        let key = day_key(&profile, b"secret", Day(20_000));
        assert!(key.0[32..].iter().any(|byte| *byte != 0));
        assert_eq!(signature(SignatureHash::Sha512, &key, b"x").as_bytes().len(), 64);
    }
}
