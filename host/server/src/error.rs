//! Everything that can go wrong, each with its remedy: `<fault>: <fix>`.
//!
//! No message repeats a header value, a query or a URL.

use std::io;
use std::path::PathBuf;

use portcullis_engine::{DecideError, EngineError, LoadError as ApplyError};
use portcullis_model::id::{Id, Revision};
use portcullis_model::policy::{BuildError, LoadError};
use portcullis_model::source::SOURCE_FORMAT;

use crate::client::ClientError;
use crate::input::Origin;
use crate::output::{Destination, Visible};

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file cannot be read.
    #[error("cannot read {from}: {source}: check the path and its permissions")]
    Read {
        /// The file.
        from: Origin,
        /// What the system said.
        source: io::Error,
    },
    /// A file is longer than anything that could be in it.
    #[error("{from} is longer than {limit} bytes: give the file that was meant")]
    TooLong {
        /// The file.
        from: Origin,
        /// The limit.
        limit: u64,
    },
    /// Standard input was named twice.
    #[error("`-` is given twice, but standard input can be read only once: put one of the two into a file")]
    StdinTwice,
    /// Nothing that this program reads.
    #[error("{from} is neither a JSON document nor a compiled policy: give what `portcullis policy --help` describes")]
    Unrecognised {
        /// The file.
        from: Origin,
    },
    /// Not the JSON that a source or delta is.
    #[error("{from} line {line} column {column}: {what}: correct it there")]
    Json {
        /// The file.
        from: Origin,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser said.
        what: String,
    },
    /// A document of another format.
    #[error("{from} has source format {found}, this build reads {SOURCE_FORMAT}: {}", format_fix(*found))]
    SourceFormat {
        /// The file.
        from: Origin,
        /// What it says.
        found: u64,
    },
    /// A delta where a whole policy is needed.
    #[error("{from} is a delta, but a whole policy is needed here: give the policy, and this with `check --delta`")]
    IsDelta {
        /// The file.
        from: Origin,
    },
    /// A whole policy where a delta is needed.
    #[error("{from} is a whole policy, but a delta is needed here: make one with `portcullis policy diff -o`")]
    IsWhole {
        /// The file.
        from: Origin,
    },
    /// Compiled bytes where a source is needed.
    #[error("{from} is compiled, but a JSON source is needed here: give the document that it was built from")]
    IsCompiled {
        /// The file.
        from: Origin,
    },
    /// A document whose records do not fit together.
    #[error("{}", build_faults(from, source))]
    Build {
        /// The file.
        from: Origin,
        /// The faults.
        source: BuildError,
    },
    /// Compiled bytes that are damaged, foreign or newer.
    #[error("{from}: {source}{}", load_fix(source))]
    Load {
        /// The file.
        from: Origin,
        /// What is wrong.
        source: LoadError,
    },
    /// A delta for another revision.
    #[error("{from} applies to revision {applies_to}, the policy is at revision {at}: {}", order_fix(*applies_to, *at))]
    WrongRevision {
        /// The file.
        from: Origin,
        /// The revision that it applies to.
        applies_to: Revision,
        /// The revision there is.
        at: Revision,
    },
    /// The sandbox did not take a policy or delta.
    #[error("{from} was not accepted: {source}: build it again from its source")]
    Refused {
        /// The file.
        from: Origin,
        /// What the sandbox said.
        source: ApplyError,
    },

    /// The request given by arguments is none.
    #[error("{what}: {fix}")]
    Request {
        /// The fault.
        what: &'static str,
        /// The remedy.
        fix: &'static str,
    },
    /// A header field without a colon.
    #[error("{place} has no colon: write it as `Name: value`, in quotes on the command line")]
    HeaderWithoutColon {
        /// Which one; never its text.
        place: String,
    },
    /// Bytes that end before the head does.
    #[error("{from} ends within the request's head: it must go on to the empty line after the last header field")]
    RawIncomplete {
        /// The file.
        from: Origin,
    },
    /// Bytes that are no HTTP/1.1 request.
    #[error("{from} line {line}: {}", raw_fault(*source))]
    RawMalformed {
        /// The file.
        from: Origin,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        source: httparse::Error,
    },

    /// No sandbox.
    #[error("{0}: check the memory and threads that this process may have")]
    Engine(#[from] EngineError),
    /// No verdict.
    #[error("{0}, so there is no verdict and the request would be denied: report it with the policy and the request")]
    Decide(#[from] DecideError),

    /// The server did not start, or had to stop.
    #[error(transparent)]
    Serve(#[from] crate::serve::ServeError),
    /// No key was made.
    #[error("{0}")]
    Recover(Box<crate::recover::RecoverError>),
    /// The master key is as it was.
    #[error("{0}")]
    Secrets(Box<crate::secrets::SecretsError>),
    /// A file with a part of the audit cannot be looked at.
    #[error(transparent)]
    Evidence(#[from] crate::evidence::EvidenceError),
    /// What a server answered is no part of the audit.
    #[error("the server's answer is no part of an audit: check that the server and this program are of one version")]
    NoEvidence,
    /// Old entries were removed while others were read.
    #[error("the server removed old entries while they were read: do it once more")]
    Moved,

    /// The output cannot be written.
    #[error("cannot write {to}: {source}: check the folder, its permissions and its free space")]
    Write {
        /// Where to.
        to: Destination,
        /// What the system said.
        source: io::Error,
    },
    /// Compiled bytes would go to a terminal.
    #[error("the output is a terminal and a compiled policy is no text: redirect it, or give `-o FILE`")]
    Terminal,
    /// Two things would go to standard output.
    #[error("`--json` and `-o -` both go to standard output: give `-o` a file")]
    TwoOutputs,
    /// The module that the program carries is not as it is built.
    #[error(
        "the module that this program carries has no slot for its digest: it was not built by its own build script"
    )]
    ModuleSlot,
    /// No name for the output.
    #[error("a source from standard input gives the output no name: give `-o FILE`, or `-o -` for standard output")]
    NoOutputName,
    /// The output is the input.
    #[error("the output would replace the source {from}: give `-o` another file")]
    OutputIsSource {
        /// The source.
        from: Origin,
    },

    /// Two sources of different installations.
    #[error("{old} and {new} have different seeds, so they are of different installations: a delta keeps the seed")]
    SeedsDiffer {
        /// The older source.
        old: Origin,
        /// The newer source.
        new: Origin,
    },
    /// The newer source is not newer.
    #[error("{new} has revision {to}, which is not after {from} of {old}: give it a higher `revision`")]
    RevisionNotAfter {
        /// The older source.
        old: Origin,
        /// The newer source.
        new: Origin,
        /// The older revision.
        from: Revision,
        /// The newer revision.
        to: Revision,
    },

    /// A server was not called, or did not do what was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What a server answered is no list.
    #[error("the server's answer has no list in it: check that the server and this program are of one version")]
    NoList,
    /// What a server answered is no explanation.
    #[error("the server's answer is no explanation: check that the server and this program are of one version")]
    NoExplanation,
    /// A list of more records than are gathered.
    #[error(
        "there are more than {limit} records, or their list has no end: go through it with `--limit` and `--after`"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A key that is among those of no kind.
    #[error("tenant `{tenant}` has no key `{id}`: `portcullis key list {tenant}` lists those it has")]
    NoSuchKey {
        /// The tenant.
        tenant: Id,
        /// The id.
        id: Id,
    },
    /// Not the TOML that a declared service or tenant is.
    #[error("{from} line {line} column {column}: {what}: correct it there, nothing was changed")]
    Toml {
        /// The file.
        from: Origin,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser said.
        what: String,
    },
    /// A file of another format.
    #[error("{from} has format {found}, this build reads {known}: use the portcullis that it was written for")]
    FileFormat {
        /// The file.
        from: Origin,
        /// What it says.
        found: u32,
        /// What this build reads.
        known: u32,
    },
    /// A file that is about nothing, or about two things.
    #[error("{from} has neither `[service]` nor `[tenant]`, or both: give it one of them")]
    FileSubject {
        /// The file.
        from: Origin,
    },
    /// A record twice in a list.
    #[error("{from}: `{list}` has `{id}` twice: take one of them out, nothing was changed")]
    FileTwice {
        /// The file.
        from: Origin,
        /// The list.
        list: &'static str,
        /// The record.
        id: String,
    },
    /// A record that has no form in the file.
    #[error("what the server has cannot be written as TOML: {what}: report it")]
    Unwritable {
        /// What the writer said.
        what: String,
    },
    /// What a server answered is no such record.
    #[error("the server's answer is no record of this version: {what}: use the portcullis of the server's version")]
    NoRecord {
        /// What the parser said.
        what: String,
    },
    /// Nothing of that name.
    #[error("there is no {what}, or none that this key may see")]
    NothingToExport {
        /// What was asked for.
        what: String,
    },
    /// The plan is another one by now.
    #[error(
        "the plan is `{now}` by now, not `{asked}`: something was changed since, so look at `portcullis plan` again; nothing was changed"
    )]
    OtherPlan {
        /// The plan that was asked for.
        asked: String,
        /// The plan there is.
        now: String,
    },
    /// A file that asks for what cannot be done.
    #[error("the file cannot be applied, nothing was changed{}", each_line(what))]
    CannotApply {
        /// What cannot be done.
        what: Vec<String>,
    },
    /// A step that was not taken.
    #[error("{step}: {source}; {}", steps_done(done))]
    ApplyStopped {
        /// The step.
        step: String,
        /// What was done before.
        done: Vec<String>,
        /// Why it ended.
        source: Box<Error>,
    },
    /// Lines that are no keys.
    #[error("{from} has {}: correct them, {}{}", line_count(*count), import_stood(*imported), line_faults(faults, *count))]
    Lines {
        /// The file.
        from: Origin,
        /// How many there are.
        count: usize,
        /// The first of them, by their number.
        faults: Vec<(u64, String)>,
        /// How many keys had been imported before.
        imported: u64,
    },
    /// A file that is no pair. What is in it may be a secret, so it is not told.
    #[error(
        "{from} is not a pair: write a JSON object with the texts `key_id` and `secret` and nothing else, nothing was imported"
    )]
    NoPair {
        /// The file.
        from: Origin,
    },
    /// A file that is no signature profile.
    #[error("{from} is not a signature profile: {what}")]
    NoProfile {
        /// The file.
        from: Origin,
        /// What is wrong with it.
        what: String,
    },
    /// A file with nothing in it.
    #[error("{from} has no keys: give a file with one JSON object a line, nothing was imported")]
    NoLines {
        /// The file.
        from: Origin,
    },
    /// An import that ended before its end.
    #[error("{source}; {imported} keys were imported before, in whole calls: run the same command again to go on")]
    ImportStopped {
        /// How many keys had been imported.
        imported: u64,
        /// Why it ended.
        source: Box<Error>,
    },
    /// More keys than the tenant has room for.
    #[error("{keys} keys are in the file and the limit of tenant `{tenant}` leaves room for {room}: have it raised")]
    NoRoom {
        /// The tenant.
        tenant: Id,
        /// How many keys there are.
        keys: u64,
        /// How many more there may be.
        room: u64,
    },
    /// Options that do not go together.
    #[error("{what}: {fix}")]
    Options {
        /// The fault.
        what: &'static str,
        /// The remedy.
        fix: &'static str,
    },
    /// An option of another kind of key.
    #[error("`{option}` is for {of} keys, and this is a {kind} key: leave it out")]
    NotOfKind {
        /// The option.
        option: &'static str,
        /// The kind it is for.
        of: &'static str,
        /// The kind that is made.
        kind: &'static str,
    },
    /// A file that should be text.
    #[error("{from} is no text: give a file with one entry a line, in UTF-8")]
    NoText {
        /// The file.
        from: Origin,
    },
    /// Something that cannot be undone, and nobody to ask.
    #[error("{consequence}: give `--yes` to confirm it, nothing was changed")]
    Unconfirmed {
        /// What would happen.
        consequence: String,
    },
    /// Somebody was asked and did not say yes.
    #[error("not confirmed, nothing was changed")]
    Declined,
    /// The file for a key is there already.
    #[error("`{}` is there already: give the key a new file, nothing was changed", path.display())]
    KeyFileExists {
        /// The file.
        path: PathBuf,
    },
    /// The file for a key cannot be made.
    #[error("cannot make `{}`: {source}: check the folder and its permissions, nothing was changed", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key was made and could not be written.
    #[error(
        "the key was made, but `{}` cannot be written and it is lost: {source}: make room, and rotate or revoke the key",
        path.display()
    )]
    KeyLost {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Whether a server has understood what was asked and refused it.
    pub(crate) fn is_refusal(&self) -> bool {
        if let Error::Client(error) = self {
            return error.is_refusal();
        }
        if let Error::ImportStopped { source, .. } | Error::ApplyStopped { source, .. } = self {
            return source.is_refusal();
        }
        matches!(
            self,
            Error::NoSuchKey { .. }
                | Error::NoRoom { .. }
                | Error::NothingToExport { .. }
                | Error::OtherPlan { .. }
                | Error::CannotApply { .. }
        )
    }
}

impl From<crate::recover::RecoverError> for Error {
    fn from(error: crate::recover::RecoverError) -> Self {
        Error::Recover(Box::new(error))
    }
}

impl From<crate::secrets::SecretsError> for Error {
    fn from(error: crate::secrets::SecretsError) -> Self {
        Error::Secrets(Box::new(error))
    }
}

fn each_line(what: &[String]) -> String {
    what.iter().map(|line| format!("\n  {}", Visible(line))).collect()
}

fn steps_done(done: &[String]) -> String {
    match done {
        [] => "nothing was changed".to_owned(),
        done => format!("the steps before it are done:{}", each_line(done)),
    }
}

fn line_count(count: usize) -> String {
    if count == 1 { "a line that is no key".to_owned() } else { format!("{count} lines that are no keys") }
}

fn import_stood(imported: u64) -> String {
    if imported == 0 { "nothing was imported".to_owned() } else { format!("{imported} keys were imported before") }
}

fn line_faults(faults: &[(u64, String)], count: usize) -> String {
    let mut text: String = faults.iter().map(|(line, what)| format!("\n  line {line}: {what}")).collect();
    if count > faults.len() {
        text.push_str("\n  ...");
    }
    text
}

fn format_fix(found: u64) -> &'static str {
    if found > u64::from(SOURCE_FORMAT) { "use a newer portcullis" } else { "write the document anew in that format" }
}

fn build_faults(from: &Origin, error: &BuildError) -> String {
    match error {
        BuildError::Faults(faults) => {
            let (count, them) = match faults.len() {
                1 => ("a fault".to_owned(), "it"),
                more => (format!("{more} faults"), "them"),
            };
            let lines: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            format!("{from} has {count}: correct {them}, nothing was built{lines}")
        }
        BuildError::IndexFull { .. } => format!("{from}: {error}: take that credential out and find who chose it"),
        BuildError::TooLarge => format!("{from}: {error}: split the installation"),
        _ => format!("{from}: {error}"),
    }
}

/// The remedy, where the message does not have it already.
fn load_fix(error: &LoadError) -> &'static str {
    match error {
        LoadError::Length { .. } | LoadError::Checksum | LoadError::Damaged => {
            ": copy it again, or build it again from its source"
        }
        LoadError::TooLarge => ": split the installation",
        LoadError::WrongKind { .. } => ": give the other file",
        LoadError::Dangling { .. } | LoadError::ForeignInstallation => {
            ": make it again with `portcullis policy diff` from the policy in use"
        }
        LoadError::OutOfMemory => ": give the process more memory",
        LoadError::NotAPolicy
        | LoadError::NewerFormat { .. }
        | LoadError::WrongRevision { .. }
        | LoadError::OverlayFull
        | LoadError::NotPrepared { .. }
        | LoadError::NoBase => "",
        _ => "",
    }
}

fn order_fix(applies_to: Revision, at: Revision) -> String {
    if applies_to > at {
        format!("give the deltas that lead to revision {applies_to} before it")
    } else {
        format!("make it again with `portcullis policy diff` from revision {at}")
    }
}

fn raw_fault(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::Version => "not HTTP/1.0 or HTTP/1.1: capture the request as HTTP/1.1 text",
        httparse::Error::HeaderName => {
            "not a header field: write `Name: value`, without spaces in or after the name and without folded lines"
        }
        httparse::Error::HeaderValue => "a header value has a control character: remove it",
        httparse::Error::NewLine => "the line does not end in CRLF or LF: end it so",
        httparse::Error::Token => "not a request line: write `METHOD TARGET HTTP/1.1`, with one space between each",
        httparse::Error::TooManyHeaders => "too many header fields: send fewer",
        httparse::Error::Status => "not a request: a response was given",
    }
}
