//! A file as the policy, delta or source that it holds.

use portcullis_model::policy::{BuildError, Compiled, build, build_delta};
use portcullis_model::source::{Delta, SOURCE_FORMAT, Source};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::Error;
use crate::input::{Inputs, Origin};

/// What a file holds, told by how it begins.
pub(crate) enum Document {
    /// A JSON source of a whole policy.
    Source(Box<Source>),
    /// The JSON of a delta.
    Delta(Box<Delta>),
    /// A compiled policy or delta.
    Compiled(Box<Compiled>),
}

impl Document {
    /// Reads a file and everything in it.
    ///
    /// # Errors
    /// Where it cannot be read, is no such document, is damaged, or is of a newer format.
    pub(crate) fn read(from: &Origin, inputs: &mut Inputs) -> Result<Document, Error> {
        let bytes = inputs.document(from)?;
        if Compiled::is_likely(&bytes) {
            return opened(from, bytes).map(|compiled| Document::Compiled(Box::new(compiled)));
        }
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Error::Unrecognised { from: from.clone() });
        }
        let outline: Outline = parsed(from, &bytes)?;
        // Said before anything else: the fields of another format are not this one's.
        if let Some(found) = outline.format.as_ref().and_then(serde_json::Value::as_u64)
            && found != u64::from(SOURCE_FORMAT)
        {
            return Err(Error::SourceFormat { from: from.clone(), found });
        }
        if outline.from.is_some() {
            return parsed(from, &bytes).map(|delta| Document::Delta(Box::new(delta)));
        }
        parsed(from, &bytes).map(|source| Document::Source(Box::new(source)))
    }

    /// The compiled form; a JSON document is built.
    ///
    /// # Errors
    /// Where the document has faults.
    pub(crate) fn compile(self, from: &Origin) -> Result<Compiled, Error> {
        match self {
            Document::Compiled(compiled) => Ok(*compiled),
            Document::Source(source) => compile(from, build(&source)),
            Document::Delta(delta) => compile(from, build_delta(&delta)),
        }
    }
}

/// Reads a whole policy in its compiled form, built where the file is a source.
///
/// # Errors
/// As [`Document::read`], where the source has faults, and for a delta.
pub(crate) fn base(from: &Origin, inputs: &mut Inputs) -> Result<Compiled, Error> {
    let compiled = Document::read(from, inputs)?.compile(from)?;
    match compiled.applies_to() {
        None => Ok(compiled),
        Some(_) => Err(Error::IsDelta { from: from.clone() }),
    }
}

/// Reads a delta in its compiled form, built where the file is JSON.
///
/// # Errors
/// As [`Document::read`], where the delta has faults, and for a whole policy.
pub(crate) fn delta(from: &Origin, inputs: &mut Inputs) -> Result<Compiled, Error> {
    match Document::read(from, inputs)? {
        Document::Source(_) => Err(Error::IsWhole { from: from.clone() }),
        document @ (Document::Delta(_) | Document::Compiled(_)) => {
            let compiled = document.compile(from)?;
            if compiled.applies_to().is_none() {
                return Err(Error::IsWhole { from: from.clone() });
            }
            Ok(compiled)
        }
    }
}

/// Reads a JSON source.
///
/// # Errors
/// As [`Document::read`], and for anything but a source.
pub(crate) fn source(from: &Origin, inputs: &mut Inputs) -> Result<Source, Error> {
    match Document::read(from, inputs)? {
        Document::Source(source) => Ok(*source),
        Document::Delta(_) => Err(Error::IsDelta { from: from.clone() }),
        Document::Compiled(_) => Err(Error::IsCompiled { from: from.clone() }),
    }
}

/// Opens what a builder made, so that its counts are those of the bytes.
///
/// # Errors
/// The builder's faults.
pub(crate) fn compile(from: &Origin, built: Result<Vec<u8>, BuildError>) -> Result<Compiled, Error> {
    built.map_err(|source| Error::Build { from: from.clone(), source }).and_then(|bytes| opened(from, bytes))
}

fn opened(from: &Origin, bytes: Vec<u8>) -> Result<Compiled, Error> {
    Compiled::open(bytes).map_err(|source| Error::Load { from: from.clone(), source })
}

/// As much of a document as tells which it is: only a delta has `from`.
#[derive(Deserialize)]
struct Outline {
    format: Option<serde_json::Value>,
    from: Option<IgnoredAny>,
}

fn parsed<T: DeserializeOwned>(from: &Origin, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| json(from, &error))
}

fn json(from: &Origin, error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    let what = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    Error::Json { from: from.clone(), line, column, what }
}
