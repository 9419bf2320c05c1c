//! The master key: where it comes from, and the file that it is made in.
//!
//! It is never in the database. It may be in a file, by default `master.key` in the data folder, or be given, which is how
//! the environment brings it. The key in a file is changed by way of a second file beside it, `.next`: that one is written
//! before the secrets are sealed anew, and takes the place of the first one after. Wherever that was cut off, one of the two
//! opens what is in the database, and [`MasterKey::in_place_of`] finds out which.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rand::Rng as _;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

/// The length of a master key in bytes.
pub(crate) const KEY_BYTES: usize = 32;
/// The longest file that is read for a key, in bytes: 64 digits and what an editor may put behind them.
const MAX_FILE_BYTES: usize = 1024;

/// Where the master key comes from.
#[derive(Clone)]
pub enum MasterKeySource {
    /// A file with mode 0600, made where nothing is sealed yet.
    File(PathBuf),
    /// It is given.
    Given {
        /// 64 hex digits.
        key: SecretString,
        /// By what, for messages: the name of a variable.
        by: &'static str,
    },
}

impl fmt::Debug for MasterKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKeySource(")?;
        fmt::Display::fmt(self, f)?;
        f.write_str(")")
    }
}

impl fmt::Display for MasterKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MasterKeySource::File(path) => write!(f, "`{}`", path.display()),
            MasterKeySource::Given { by, .. } => write!(f, "`{by}`"),
        }
    }
}

/// A master key. It is wiped when it is dropped, and `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// A new one.
    pub(crate) fn random() -> MasterKey {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        rand::rng().fill_bytes(key.as_mut_slice());
        MasterKey(key)
    }

    /// The key of a source, made in its file where `may_make` says so and there is none.
    pub(crate) fn of(source: &MasterKeySource, may_make: bool) -> Result<MasterKey, MasterKeyError> {
        match source {
            MasterKeySource::Given { key, by } => MasterKey::given(key, by),
            MasterKeySource::File(path) => match MasterKey::read(path) {
                Err(MasterKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    if !may_make {
                        return Err(MasterKeyError::Missing { path: path.clone() });
                    }
                    MasterKey::make(path)
                }
                read => read,
            },
        }
    }

    /// A key that is given as text.
    pub(crate) fn given(key: &SecretString, by: &'static str) -> Result<MasterKey, MasterKeyError> {
        MasterKey::parse(key.expose_secret()).ok_or(MasterKeyError::Unreadable { by })
    }

    fn parse(text: &str) -> Option<MasterKey> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let decoded = base16ct::mixed::decode(text.trim(), key.as_mut_slice()).map(<[u8]>::len);
        (decoded == Ok(KEY_BYTES)).then_some(MasterKey(key))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn read(path: &Path) -> Result<MasterKey, MasterKeyError> {
        let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
        let malformed = || MasterKeyError::Malformed { path: path.to_owned() };
        let mut file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(MasterKeyError::Exposed { path: path.to_owned() });
        }
        // One buffer of fixed size: a vector that grows leaves copies behind.
        let mut buffer = Zeroizing::new([0; MAX_FILE_BYTES]);
        let mut length = 0;
        while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read(rest).map_err(failed)? {
                0 => break,
                more => length += more,
            }
        }
        let text = buffer.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or_else(malformed)?;
        MasterKey::parse(text).ok_or_else(malformed)
    }

    /// Makes a key where there is none: written whole under another name first, so that a crash leaves no half of one.
    fn make(path: &Path) -> Result<MasterKey, MasterKeyError> {
        let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
        let key = MasterKey::random();
        let beside = beside(path, "new");
        key.write(&beside)?;
        // A link fails where another process was faster; its key stands then.
        fs::hard_link(&beside, path).map_err(failed)?;
        fs::remove_file(&beside).map_err(failed)?;
        sync_folder(path)?;
        Ok(key)
    }

    fn write(&self, path: &Path) -> Result<(), MasterKeyError> {
        let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
        let text = Zeroizing::new(base16ct::lower::encode_string(self.bytes()));
        // Whatever mode a file of that name had, this one is new.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        sync_folder(path)
    }

    /// Writes the key down that is about to take the place of the one in `path`.
    pub(crate) fn prepare(&self, path: &Path) -> Result<(), MasterKeyError> {
        self.write(&beside(path, "next"))
    }

    /// The key that was about to take the place of the one in `path`, where that was cut off.
    pub(crate) fn in_place_of(path: &Path) -> Option<MasterKey> {
        MasterKey::read(&beside(path, "next")).ok()
    }

    /// Lets it take the place.
    pub(crate) fn replace(path: &Path) -> Result<(), MasterKeyError> {
        let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
        fs::rename(beside(path, "next"), path).map_err(failed)?;
        sync_folder(path)
    }
}

/// A file beside another, with a word at the end of its name.
fn beside(path: &Path, word: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(word);
    PathBuf::from(name)
}

fn sync_folder(path: &Path) -> Result<(), MasterKeyError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let failed = |source| MasterKeyError::Io { path: path.to_owned(), source };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// The file cannot be read or made.
    #[error("cannot use the master key `{}`: {source}: check the path and its permissions", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("the master key `{}` can be read by others: chmod it to 600", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It holds no key.
    #[error("the master key `{}` is not 64 hex digits: restore the file that this installation was made with", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// What was given is no key.
    #[error("`{by}` is not 64 hex digits: give the master key that this installation was made with")]
    Unreadable {
        /// By what.
        by: &'static str,
    },
    /// The file is gone, and secrets are sealed under the key that was in it.
    #[error("there is no master key `{}`, and secrets of this installation are sealed under one: restore the file, or name the one that it is in with `master_key_file`", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is the key of something else.
    #[error(
        "the master key in {from} is not the one that this installation's secrets are sealed under: restore that one, from where it is kept apart from the database"
    )]
    Wrong {
        /// Where it came from.
        from: String,
    },
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_master_key_is_closed_to_others_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let source = MasterKeySource::File(path.clone());
        assert!(matches!(MasterKey::of(&source, false), Err(MasterKeyError::Missing { .. })));
        let made = MasterKey::of(&source, true).unwrap();
        assert_eq!(MasterKey::of(&source, false).unwrap(), made, "another process, the same key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(MasterKey::of(&source, true), Err(MasterKeyError::Exposed { .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for text in ["short".to_owned(), "0".repeat(63), "0".repeat(65), "g".repeat(64), "0".repeat(2000)] {
            fs::write(&path, text).unwrap();
            assert!(matches!(MasterKey::of(&source, true), Err(MasterKeyError::Malformed { .. })));
        }
        fs::write(&path, format!("{}\n", "aB".repeat(32))).unwrap();
        assert_eq!(MasterKey::of(&source, true).unwrap().bytes(), [0xab; 32]);
    }

    #[test]
    fn a_given_key_is_64_hex_digits_and_nobody_prints_it() {
        let given = |text: &str| MasterKeySource::Given { key: text.into(), by: "VARIABLE" };
        assert_eq!(MasterKey::of(&given(&"0f".repeat(32)), false).unwrap().bytes(), [15; 32]);
        let error = MasterKey::of(&given("abc"), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`VARIABLE` is not 64 hex digits: give the master key that this installation was made with"
        );
        assert_eq!(format!("{:?}", given("abc")), "MasterKeySource(`VARIABLE`)");
        assert_eq!(format!("{:?}", MasterKey::random()), "MasterKey");
    }

    #[test]
    fn the_next_key_takes_the_place_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let source = MasterKeySource::File(path.clone());
        let first = MasterKey::of(&source, true).unwrap();
        assert!(MasterKey::in_place_of(&path).is_none());
        for _ in 0..2 {
            let next = MasterKey::random();
            next.prepare(&path).unwrap();
            assert_eq!(MasterKey::of(&source, false).unwrap(), first);
            assert_eq!(MasterKey::in_place_of(&path).unwrap(), next);
        }
        let next = MasterKey::in_place_of(&path).unwrap();
        MasterKey::replace(&path).unwrap();
        assert_eq!(MasterKey::of(&source, false).unwrap(), next);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
