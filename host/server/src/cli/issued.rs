//! Secrets that were just made: shown once, or written to files that nobody else can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Session;
use super::table::{self, Column, at};
use crate::error::Error;
use crate::output::Visible;

/// A new file for a secret. It is made before the secret is, so that a secret never has nowhere to go; it is taken away
/// again where there comes none.
pub(super) struct Reserved {
    path: PathBuf,
    file: Option<File>,
}

impl Reserved {
    /// Makes the file, which must not be there yet, for its owner's eyes alone.
    pub(super) fn at(path: &Path) -> Result<Reserved, Error> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made {
            Ok(file) => Ok(Reserved { path: path.to_owned(), file: Some(file) }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::KeyFileExists { path: path.to_owned() })
            }
            Err(source) => Err(Error::KeyFile { path: path.to_owned(), source }),
        }
    }

    fn fill(mut self, secret: &str) -> Result<(), Error> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written = file.write_all(format!("{secret}\n").as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| Error::KeyLost { path: self.path.clone(), source })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // It is empty: leaving it does no harm, so there is nothing to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The fields of answers that hold a secret; an answer has one of them.
const MAIN: [&str; 4] = ["key", "client_secret", "code", "session"];

/// Where the secrets of an answer go; to standard output where there is no file.
pub(super) struct Outlets {
    pub(super) key: Option<Reserved>,
    pub(super) signing_secret: Option<Reserved>,
}

/// Shows a key that was just made, with its secrets unless they go to files.
///
/// # Errors
/// Where a secret cannot be written; it is lost then, and the message says what to do.
pub(super) fn say(
    session: &Session,
    mut answer: Value,
    done: &str,
    columns: &[Column],
    outlets: Outlets,
) -> Result<(), Error> {
    let main = MAIN.into_iter().find(|field| answer.get(field).is_some()).unwrap_or("key");
    let written =
        [divert(&mut answer, main, outlets.key)?, divert(&mut answer, "signing_secret", outlets.signing_secret)?];
    session.say(&answer, || {
        let secrets: Vec<String> = MAIN
            .iter()
            .chain(&["signing_secret"])
            .flat_map(|field| at(&answer, &format!("/{field}")).into_iter().map(move |secret| (field, secret)))
            .map(|(field, secret)| format!("{:14}  {}\n", field.replace('_', " "), Visible(&secret)))
            .collect();
        let once = match secrets.len() {
            0 if answer.get("secret_already_shown").is_some() => {
                "This was done before under the same idempotency key, and its secret was shown then. Where nobody has it,\n\
                 rotate the key or, of a workspace, make a new pair.\n"
            }
            0 => "",
            1 => "It is shown once, it cannot be shown again.\n",
            _ => "They are shown once, they cannot be shown again.\n",
        };
        let files: String = written.iter().flatten().map(|line| format!("{line}\n")).collect();
        format!("{done}\n{}\n{}{once}{files}", table::page(columns, &answer), secrets.concat())
    })
}

/// Writes a secret to its file and takes it out of the answer.
fn divert(answer: &mut Value, field: &str, to: Option<Reserved>) -> Result<Option<String>, Error> {
    let Some(reserved) = to else { return Ok(None) };
    let secret = answer.as_object_mut().and_then(|fields| fields.remove(field));
    let Some(Value::String(secret)) = secret else { return Ok(None) };
    let line = format!("The {} is in `{}`.", field.replace('_', " "), reserved.path.display());
    reserved.fill(&secret).map(|()| Some(line))
}
