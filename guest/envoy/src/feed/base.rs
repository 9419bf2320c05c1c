//! A base on its way: what the host said of it, and the parts that came.

use portcullis_model::feed::is_cursor;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The longest base, in bytes: a new one is fetched while the old one decides, and a proxy gives a VM 1 GiB at most.
pub(crate) const MAX_BASE_BYTES: usize = 448 << 20;
/// The longest part, in bytes; Envoy takes no answer to a filter that is longer than 32 MiB.
pub(crate) const MAX_PART_BYTES: usize = 16 << 20;
/// How often a part may come damaged until the base is asked for anew.
pub(crate) const MAX_DAMAGED: u32 = 3;

/// What the host says of a base. What a newer host adds is passed over.
#[derive(Deserialize)]
struct Manifest {
    base: String,
    revision: u64,
    bytes: usize,
    part_bytes: usize,
    sha256: Vec<String>,
}

/// Why a base cannot be fetched.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadManifest {
    /// It is not the JSON that is expected.
    #[error("what the host says of its base cannot be read: {0}")]
    Json(String),
    /// It contradicts itself.
    #[error("what the host says of its base does not hold together")]
    Inconsistent,
    /// It is longer than [`MAX_BASE_BYTES`], or than what is left.
    #[error("there is no room for a base of {0} bytes")]
    TooLarge(usize),
}

/// A base of which some parts are there.
pub(crate) struct Download {
    base: String,
    revision: u64,
    bytes: usize,
    part_bytes: usize,
    digests: Vec<[u8; 32]>,
    /// INVARIANT (checked-parts): every byte in here is of a part whose digest was right.
    came: Vec<u8>,
    damaged: u32,
}

/// What became of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// It was the last one.
    Complete,
    /// The next one is to be fetched.
    More,
    /// It is not what the host said it would be: the same is to be fetched again.
    Damaged,
    /// It was damaged so often that the base has to be asked for anew.
    Hopeless,
}

impl Download {
    /// Reads what the host says, and reserves the memory, once.
    ///
    /// # Errors
    /// Any [`BadManifest`].
    pub(crate) fn begin(manifest: &[u8]) -> Result<Download, BadManifest> {
        let manifest: Manifest =
            serde_json::from_slice(manifest).map_err(|error| BadManifest::Json(error.to_string()))?;
        let Manifest { base, revision, bytes, part_bytes, sha256 } = manifest;
        let fits = is_cursor(&base)
            && bytes > 0
            && (1..=MAX_PART_BYTES).contains(&part_bytes)
            && bytes.div_ceil(part_bytes) == sha256.len();
        if !fits {
            return Err(BadManifest::Inconsistent);
        }
        if bytes > MAX_BASE_BYTES {
            return Err(BadManifest::TooLarge(bytes));
        }
        let digests = sha256.iter().map(|hex| digest(hex)).collect::<Option<_>>().ok_or(BadManifest::Inconsistent)?;
        let mut came = Vec::new();
        came.try_reserve_exact(bytes).map_err(|_| BadManifest::TooLarge(bytes))?;
        Ok(Download { base, revision, bytes, part_bytes, digests, came, damaged: 0 })
    }

    /// The base's name.
    #[must_use]
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The revision that it is said to have.
    #[must_use]
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The number of the part that is to be fetched.
    #[must_use]
    pub(crate) fn next_part(&self) -> usize {
        self.came.len().checked_div(self.part_bytes).unwrap_or(0)
    }

    /// How long the part is that is to be fetched.
    #[must_use]
    pub(crate) fn next_bytes(&self) -> usize {
        self.part_bytes.min(self.bytes - self.came.len())
    }

    /// Takes a part that came.
    pub(crate) fn take(&mut self, part: &[u8]) -> Part {
        let expected = self.digests.get(self.next_part());
        let is_right = part.len() == self.next_bytes() && expected == Some(&Sha256::digest(part).into());
        if !is_right {
            self.damaged += 1;
            return if self.damaged >= MAX_DAMAGED { Part::Hopeless } else { Part::Damaged };
        }
        self.damaged = 0;
        self.came.extend_from_slice(part);
        if self.came.len() == self.bytes { Part::Complete } else { Part::More }
    }

    /// The bytes that came.
    #[must_use]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.came
    }
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let decoded = base16ct::mixed::decode(hex, &mut digest).ok()?;
    (decoded.len() == 32).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn manifest(bytes: &[u8], part_bytes: usize) -> Value {
        let sums: Vec<String> =
            bytes.chunks(part_bytes).map(|part| base16ct::lower::encode_string(&Sha256::digest(part))).collect();
        json!({ "base": "b1", "revision": 7, "bytes": bytes.len(), "part_bytes": part_bytes, "sha256": sums })
    }

    fn begin(manifest: &Value) -> Result<Download, BadManifest> {
        Download::begin(manifest.to_string().as_bytes())
    }

    #[test]
    fn parts_come_one_after_the_other() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for part_bytes in [1, 300, 999, 1000, 1001] {
            let mut download = begin(&manifest(&bytes, part_bytes)).unwrap();
            let room = download.came.capacity();
            for (number, part) in bytes.chunks(part_bytes).enumerate() {
                assert_eq!((download.next_part(), download.next_bytes()), (number, part.len()));
                let is_last = number + 1 == download.digests.len();
                assert_eq!(download.take(part), if is_last { Part::Complete } else { Part::More });
            }
            assert_eq!(download.came.capacity(), room, "reserved once");
            assert_eq!(download.into_bytes(), bytes);
        }
    }

    #[test]
    fn a_part_that_is_damaged_short_or_long_is_not_kept() {
        let bytes = [7; 100];
        let mut download = begin(&manifest(&bytes, 60)).unwrap();
        for bad in [&[8; 60][..], &[7; 59]] {
            assert_eq!(download.take(bad), Part::Damaged);
        }
        assert_eq!(download.take(&bytes[..60]), Part::More, "the third time it is good");
        for expected in [Part::Damaged, Part::Damaged, Part::Hopeless] {
            assert_eq!(download.take(&bytes[..41]), expected);
        }
        assert_eq!(download.came, bytes[..60]);
    }

    #[test]
    fn a_manifest_that_does_not_hold_together_is_refused() {
        let good = manifest(&[7; 100], 60);
        let with = |field: &str, value: Value| {
            let mut bad = good.clone();
            bad[field] = value;
            begin(&bad).err()
        };
        for (field, value) in [
            ("base", json!("")),
            ("base", json!("a/../b")),
            ("base", json!("b".repeat(129))),
            ("bytes", json!(0)),
            ("bytes", json!(121)),
            ("bytes", json!(60)),
            ("part_bytes", json!(0)),
            ("part_bytes", json!(MAX_PART_BYTES + 1)),
            ("sha256", json!([])),
            ("sha256", json!(["00".repeat(31), "00".repeat(32)])),
            ("sha256", json!(["zz".repeat(32), "00".repeat(32)])),
        ] {
            assert_eq!(with(field, value.clone()), Some(BadManifest::Inconsistent), "{field}: {value}");
        }
        assert_eq!(with("base", json!("b".repeat(128))), None);
        for value in [json!(-1), json!("7"), json!(null)] {
            assert!(matches!(with("revision", value), Some(BadManifest::Json(_))));
        }
        assert!(matches!(Download::begin(b"<html>"), Err(BadManifest::Json(_))));
        assert_eq!(with("new", json!(true)), None, "a newer host may say more");
    }

    #[test]
    fn a_base_is_bounded() {
        let of = |bytes: usize| {
            let sums = vec!["00".repeat(32); bytes.div_ceil(MAX_PART_BYTES)];
            begin(&json!({ "base": "b", "revision": 1, "bytes": bytes, "part_bytes": MAX_PART_BYTES, "sha256": sums }))
        };
        assert!(of(MAX_BASE_BYTES).is_ok());
        assert_eq!(of(MAX_BASE_BYTES + 1).err(), Some(BadManifest::TooLarge(MAX_BASE_BYTES + 1)));
    }
}
