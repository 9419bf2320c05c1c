//! The engine of one command: one instance, and its compiled code kept for the next command.

use std::env;
use std::fs::{self, DirBuilder};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use portcullis_engine::{Config, Engine, EngineError, LoadError};
use portcullis_model::policy::Compiled;
use portcullis_model::time::UnixTime;

use crate::error::Error;
use crate::input::Origin;

/// An engine with a policy and the deltas since, confirmed at a time.
///
/// # Errors
/// Where there is no engine, or it does not accept the policy or a delta.
pub(crate) fn engine(
    (policy_from, policy): &(Origin, Compiled),
    deltas: &[(Origin, Compiled)],
    confirmed: UnixTime,
) -> Result<Engine, Error> {
    let engine = start()?;
    let refused = |from: &Origin, source| Error::Refused { from: from.clone(), source };
    let mut at = engine.load(policy.bytes().into()).map_err(|source| refused(policy_from, source))?;
    for (from, delta) in deltas {
        at = engine.apply(delta.bytes()).map_err(|source| match (source, delta.applies_to()) {
            (LoadError::WrongRevision { .. }, Some(applies_to)) => {
                Error::WrongRevision { from: from.clone(), applies_to, at }
            }
            (source, _) => refused(from, source),
        })?;
    }
    engine.confirm(confirmed);
    Ok(engine)
}

/// Compiling takes a part of a second, so the code is kept where that is safe. A cache that cannot be used is no reason to
/// fail, and nothing that anybody has to know of.
fn start() -> Result<Engine, EngineError> {
    let config = Config { workers: NonZeroUsize::MIN, ..Config::default() };
    match cache_folder().map(|folder| Engine::new(&Config { cache: Some(folder), ..config.clone() })) {
        Some(Ok(engine)) => Ok(engine),
        Some(Err(_)) | None => Engine::new(&config),
    }
}

/// `portcullis` in the user's cache folder, made where it is missing.
///
/// What lies there is run as machine code, so nobody else may be able to put anything there: neither into the folder nor,
/// by moving it away, in its place.
fn cache_folder() -> Option<PathBuf> {
    let given = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = given("XDG_CACHE_HOME").or_else(|| Some(given("HOME")?.join(".cache")))?.join("portcullis");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    let folder = fs::canonicalize(folder).ok()?;
    is_own(&folder).then_some(folder)
}

/// Whether only this user and root can change what lies at a path.
fn is_own(folder: &Path) -> bool {
    // The owner of a file made now is the user that this process acts as.
    let made = tempfile::tempfile_in(folder).and_then(|file| file.metadata());
    let Ok(user) = made.map(|metadata| metadata.uid()) else { return false };
    folder.ancestors().all(|part| {
        fs::metadata(part).is_ok_and(|found| {
            let owned = found.uid() == user || (found.uid() == 0 && part != folder);
            let sticky = found.mode() & 0o1000 != 0;
            owned && (sticky || found.mode() & 0o022 == 0)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_others_can_write_to_is_not_ones_own() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().canonicalize().unwrap().join("inner");
        fs::create_dir(&inner).unwrap();
        let with_modes = |outer_mode, inner_mode| {
            fs::set_permissions(outer.path(), Permissions::from_mode(outer_mode)).unwrap();
            fs::set_permissions(&inner, Permissions::from_mode(inner_mode)).unwrap();
            is_own(&inner)
        };
        assert!(with_modes(0o755, 0o700));
        assert!(!with_modes(0o755, 0o770));
        assert!(!with_modes(0o777, 0o700));
        assert!(with_modes(0o1777, 0o700));
    }
}
