//! `portcullis key import`: keys of another system, by their digests.
//!
//! The file is read twice. First every line is checked, and nothing is sent where one of them is no key; then the keys are
//! sent in calls of as many as the server takes. No more of the file than one call is in memory.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read as _, Seek as _};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use portcullis_control::MAX_IMPORT;
use portcullis_model::address::Cidr;
use portcullis_model::credential::SecretDigest;
use portcullis_model::id::Id;
use portcullis_model::time::Expiry;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Session;
use crate::client::{Call, ClientError, path};
use crate::error::Error;
use crate::input::Origin;
use crate::output::Visible;

/// The most bytes of lines in one call. The server takes twice as much.
const MAX_CALL_BYTES: usize = 8 << 20;
/// The longest line in bytes: a key with ten thousand address ranges has less.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// The most bytes of standard input, which is put into a file of its own to be read twice: ten million keys with short names.
const MAX_SPOOL_BYTES: u64 = 4 << 30;
/// The most faults that are told.
const MAX_FAULTS: usize = 20;
/// The most keys in a file: the most that a tenant may have.
const MAX_KEYS: u64 = 10_000_000;

const HELP: &str = "\
FILE has a JSON object on each line:
  sha256        the SHA-256 of the key, 64 hex digits; never the key itself
  name          its display name, 2 to 200 characters
  description   what it is for
  group         the group whose permissions it has, instead of `--group`
  expires       a date, which ends in UTC, or a time such as 2026-12-31T18:00:00Z
  ip_allowlist  a list of addresses and ranges that it may be used from
  external_id   what the other system calls it; it stands in the audit
Only `sha256` and `name` must be there. The keys themselves must be 1 to 512 visible ASCII characters, and long and random, \
for a digest protects no password.

Every line is checked before anything is sent. Keys that the tenant has already stay as they are, so a command that broke \
off is simply given again. Each key has an entry of its own in the audit.

Examples:
  portcullis key import --tenant acme --group integration keys.jsonl
  portcullis key import --tenant acme --kind tenant --group integration keys.jsonl --dry-run
  printf %s \"$KEY\" | sha256sum";

/// Import the tenant keys of another system, by their SHA-256
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The file with the keys; `-` is standard input
    file: Origin,
    /// The tenant
    #[arg(long)]
    tenant: Id,
    /// The kind of key
    #[arg(long, default_value = "tenant")]
    kind: Kind,
    /// The group of keys that name none
    #[arg(long)]
    group: Option<Id>,
    /// Check the file, the groups and the limit, and import nothing
    #[arg(long)]
    dry_run: bool,
}

/// The kinds of keys that can be imported.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A group, an address list, an expiry
    Tenant,
}

/// A line of the file, and a key of the call.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    sha256: SecretDigest,
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    group: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Expiry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ip_allowlist: Vec<Cidr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Where a line is no key, or the server could not be called or refused.
pub(super) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let Kind::Tenant = args.kind;
    let mut file = open(&args.file)?;
    let (keys, groups) = check(args, &mut file)?;
    if args.dry_run {
        return dry_run(session, args, keys, groups);
    }
    file.rewind().map_err(|source| Error::Read { from: args.file.clone(), source })?;
    let bar = bar(session, keys);
    let mut import = Import { session, args, bar, call: Batch::default(), done: Done::default() };
    let sent = import.all(&mut file);
    import.bar.finish_and_clear();
    let Done { imported, already_there, revision } = import.done;
    if let Err(error) = sent {
        // Faults that the server found have the count in them.
        let is_told = imported == 0 || matches!(error, Error::Lines { .. });
        return Err(if is_told { error } else { Error::ImportStopped { imported, source: Box::new(error) } });
    }
    let answer = json!({ "imported": imported, "already_there": already_there, "revision": revision });
    session.say(&answer, || {
        let there = if already_there == 0 { String::new() } else { format!(", {already_there} were already there") };
        format!("imported {imported} keys into tenant `{}`{there}\n", args.tenant)
    })
}

/// The file, as one that can be read twice.
fn open(from: &Origin) -> Result<File, Error> {
    let failed = |source| Error::Read { from: from.clone(), source };
    let Origin::File(path) = from else {
        let mut spool = tempfile::tempfile().map_err(failed)?;
        let spooled = io::copy(&mut io::stdin().lock().take(MAX_SPOOL_BYTES + 1), &mut spool).map_err(failed)?;
        if spooled > MAX_SPOOL_BYTES {
            return Err(Error::TooLong { from: from.clone(), limit: MAX_SPOOL_BYTES });
        }
        spool.rewind().map_err(failed)?;
        return Ok(spool);
    };
    File::open(path).map_err(failed)
}

/// Goes through the lines of a file that are not empty, each with its number.
fn lines(from: &Origin, file: &mut File, mut each: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut reader).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line);
        let read = read.map_err(|source| Error::Read { from: from.clone(), source })?;
        if read == 0 {
            break;
        }
        if read as u64 > MAX_LINE_BYTES {
            let faults = vec![(number, format!("it is longer than {MAX_LINE_BYTES} bytes"))];
            return Err(Error::Lines { from: from.clone(), count: 1, faults, imported: 0 });
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            each(number, text)?;
        }
    }
    Ok(())
}

/// Reads every line, and leads to how many keys there are and which groups they name.
fn check(args: &Args, file: &mut File) -> Result<(u64, HashSet<Id>), Error> {
    let (mut keys, mut count, mut faults) = (0_u64, 0, Vec::new());
    let (mut seen, mut groups) = (HashSet::new(), HashSet::new());
    lines(&args.file, file, |number, text| {
        match parse(args, text) {
            Ok(key) if !seen.insert(*key.sha256.as_bytes()) => {
                count += 1;
                faults
                    .push((number, "its digest stands on an earlier line too: a key can be imported once".to_owned()));
            }
            Ok(key) => {
                keys += 1;
                groups.extend(key.group);
            }
            Err(what) => {
                count += 1;
                faults.push((number, what));
            }
        }
        faults.truncate(MAX_FAULTS);
        if keys > MAX_KEYS {
            return Err(Error::TooMany { limit: usize::try_from(MAX_KEYS).unwrap_or(usize::MAX) });
        }
        Ok(())
    })?;
    if count > 0 {
        return Err(Error::Lines { from: args.file.clone(), count, faults, imported: 0 });
    }
    if keys == 0 {
        return Err(Error::NoLines { from: args.file.clone() });
    }
    Ok((keys, groups))
}

fn parse(args: &Args, text: &[u8]) -> Result<Key, String> {
    // serde would take a list for an object.
    if text.first() != Some(&b'{') {
        return Err("it is no JSON object: write `{\"sha256\": .., \"name\": ..}`".to_owned());
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut key: Key = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let what = Visible(&without_place(&error.inner().to_string())).to_string();
        match error.path().to_string().as_str() {
            "." | "?" => what,
            field => format!("{}: {what}", Visible(field)),
        }
    })?;
    json.end().map_err(|_| "something follows the object".to_owned())?;
    key.group = key.group.or_else(|| args.group.clone());
    if key.group.is_none() {
        return Err("group: it has none: name one here, or give `--group`".to_owned());
    }
    Ok(key)
}

/// What the parser said, without the line: to it every object is on line 1.
fn without_place(text: &str) -> String {
    text.rsplit_once(" at line ").map_or(text, |(what, _)| what).to_owned()
}

/// Asks the server for what can be known without importing.
fn dry_run(session: &Session, args: &Args, keys: u64, groups: HashSet<Id>) -> Result<(), Error> {
    let tenant = session.send(&Call::get(path(&["tenants", args.tenant.as_str()])))?.body;
    let number = |name: &str| tenant.get(name).and_then(Value::as_u64).unwrap_or(0);
    let room = number("key_limit").saturating_sub(number("keys_in_use"));
    for group in &groups {
        session.send(&Call::get(path(&["tenants", args.tenant.as_str(), "groups", group.as_str()])))?;
    }
    if keys > room {
        return Err(Error::NoRoom { tenant: args.tenant.clone(), keys, room });
    }
    session.say(&json!({ "keys": keys, "imported": 0 }), || {
        format!("{keys} keys can be imported into tenant `{}`; nothing was imported\n", args.tenant)
    })
}

/// Shown where somebody looks.
fn bar(session: &Session, keys: u64) -> ProgressBar {
    if session.json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(keys);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} keys, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

#[derive(Default)]
struct Done {
    imported: u64,
    already_there: u64,
    revision: u64,
}

/// Keys that wait to be sent, with their lines.
#[derive(Default)]
struct Batch {
    keys: Vec<Key>,
    lines: Vec<u64>,
    bytes: usize,
}

struct Import<'s> {
    session: &'s Session,
    args: &'s Args,
    bar: ProgressBar,
    call: Batch,
    done: Done,
}

impl Import<'_> {
    fn all(&mut self, file: &mut File) -> Result<(), Error> {
        lines(&self.args.file, file, |number, text| {
            // It was read before; a file that changes meanwhile is told as it is now.
            let key = parse(self.args, text).map_err(|what| self.faulty(vec![(number, what)]))?;
            if self.call.keys.len() == MAX_IMPORT || self.call.bytes + text.len() > MAX_CALL_BYTES {
                self.send()?;
            }
            self.call.keys.push(key);
            self.call.lines.push(number);
            self.call.bytes += text.len();
            Ok(())
        })?;
        self.send()
    }

    fn send(&mut self) -> Result<(), Error> {
        let Batch { keys, lines, .. } = std::mem::take(&mut self.call);
        if keys.is_empty() {
            return Ok(());
        }
        let call = Call::post(
            path(&["tenants", self.args.tenant.as_str(), "tenant-keys", "import"]),
            &json!({ "keys": keys, "skip_existing": true }),
        );
        let answer = match self.session.client.send(&call) {
            Ok(answer) => answer.body,
            Err(ClientError::Refused(problem)) => {
                let faults: Option<Vec<(u64, String)>> =
                    problem.faults().map(|(field, what)| Some((line(&lines, field)?, told(field, what)))).collect();
                return Err(match faults {
                    Some(faults) if !faults.is_empty() => self.faulty(faults),
                    Some(_) | None => ClientError::Refused(problem).into(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.done.imported += number("imported");
        self.done.already_there += number("already_there");
        self.done.revision = number("revision");
        self.bar.inc(keys.len() as u64);
        Ok(())
    }

    fn faulty(&self, faults: Vec<(u64, String)>) -> Error {
        let imported = self.done.imported;
        Error::Lines { from: self.args.file.clone(), count: faults.len(), faults, imported }
    }
}

/// The line of `keys[7].group`.
fn line(lines: &[u64], field: &str) -> Option<u64> {
    let index: usize = field.strip_prefix("keys[")?.split_once(']')?.0.parse().ok()?;
    lines.get(index).copied()
}

/// The fault without the place in the call.
fn told(field: &str, what: &str) -> String {
    let name = field.split_once("].").map_or(field, |(_, name)| name);
    format!("{}: {}", Visible(name), Visible(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_call_is_told_by_its_line() {
        assert_eq!(line(&[4, 9], "keys[1].group"), Some(9));
        assert_eq!(line(&[4, 9], "keys[2].group"), None);
        assert_eq!(line(&[4, 9], "keys"), None);
        assert_eq!(told("keys[1].ip_allowlist[3]", "no range"), "ip_allowlist[3]: no range");
    }
}
