//! What a command says, and the files that it makes.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs::{self, Permissions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::Error;

/// Where bytes go to: a file, or standard output, written `-`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    /// Standard output.
    Stdout,
    /// The file of that path.
    File(PathBuf),
}

impl From<OsString> for Destination {
    fn from(text: OsString) -> Destination {
        if text == "-" { Destination::Stdout } else { Destination::File(PathBuf::from(text)) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Stdout => f.write_str("standard output"),
            Destination::File(path) => write!(f, "`{}`", path.display()),
        }
    }
}

/// Writes text to standard output, with colour where it is a terminal. A reader that has gone away, as `head` does, is no
/// failure: the exit code still tells the verdict.
///
/// # Errors
/// Where the text cannot be written.
pub(crate) fn say(text: &str) -> Result<(), Error> {
    said(&mut anstream::stdout().lock(), text)
}

/// Writes text to standard error, where standard output has something else.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_aside(text: &str) -> Result<(), Error> {
    said(&mut anstream::stderr().lock(), text)
}

/// Writes a value to standard output as JSON.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| unwritable(error.into()))?;
    say(&format!("{text}\n"))
}

fn said(to: &mut impl Write, text: &str) -> Result<(), Error> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unwritable(source: io::Error) -> Error {
    Error::Write { to: Destination::Stdout, source }
}

/// Writes compiled bytes: into a file at once and whole, or to standard output where that is no terminal.
///
/// # Errors
/// Where they cannot be written; a file that was there before is then as it was.
pub(crate) fn write_bytes(to: &Destination, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write { to: to.clone(), source };
    match to {
        Destination::Stdout => {
            let mut stdout = io::stdout().lock();
            if stdout.is_terminal() {
                return Err(Error::Terminal);
            }
            stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(failed)
        }
        Destination::File(path) => {
            // A link stays a link; what it leads to is replaced.
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            // A pipe or a device is written to, where renaming would put a file in its place; a folder fails here.
            if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
                let mut device = fs::OpenOptions::new().write(true).open(&path).map_err(failed)?;
                return if device.is_terminal() {
                    Err(Error::Terminal)
                } else {
                    device.write_all(bytes).map_err(failed)
                };
            }
            replace(&path, bytes).map_err(failed)
        }
    }
}

/// Writes what `write` writes, as it comes: into a file that is there whole or not at all, or to standard output.
///
/// # Errors
/// What `write` says, or where it cannot be written; a file that was there before is then as it was.
pub(crate) fn stream(
    to: &Destination,
    write: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| Error::Write { to: to.clone(), source };
    let Destination::File(path) = to else {
        let mut stdout = io::stdout().lock();
        write(&mut |bytes| stdout.write_all(bytes).map_err(failed))?;
        return stdout.flush().map_err(failed);
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What the audit says of people is for its owner's eyes.
    let permissions = Permissions::from_mode(0o600);
    let made = tempfile::Builder::new().prefix(".portcullis-").permissions(permissions).tempfile_in(folder);
    let mut file = io::BufWriter::new(made.map_err(failed)?);
    write(&mut |bytes| file.write_all(bytes).map_err(failed))?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Puts a file in the place of `path` that has all the bytes, or leaves what is there.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What the umask leaves of it, as for any file that a program makes.
    let permissions = Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().prefix(".portcullis-").permissions(permissions).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Text of which a terminal sees no control character, wherever it came from.
pub(crate) struct Visible<'a>(pub(crate) &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_reaches_a_terminal() {
        assert_eq!(Visible("a\u{1b}[31m\nb\u{9b}").to_string(), "a\u{fffd}[31m\u{fffd}b\u{fffd}");
    }
}
