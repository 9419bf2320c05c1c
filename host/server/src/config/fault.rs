//! What is wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used. Nothing has been opened or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`: {source}: check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is longer than any configuration.
    #[error("`{}` is longer than {limit} bytes: give the configuration that was meant", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// It says things that cannot be; at least one fault, in the order of the file.
    #[error("{}", Lines(.0))]
    Faults(Vec<Fault>),
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    file: PathBuf,
    /// From 1; nothing where something is left out.
    place: Option<(usize, usize)>,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, " line {line} column {column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

struct Lines<'a>(&'a [Fault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl ConfigError {
    /// A fault that the parser found: it stops at the first.
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let message = error.message();
        let fix =
            if message.starts_with("unknown field") { "remove it or correct its name" } else { "correct it there" };
        let what = format!("{}: {fix}", message.replace('\n', " "));
        let place = error.span().map(|span| place(text, span.start));
        ConfigError::Faults(vec![Fault { file: path.to_owned(), place, what }])
    }
}

/// The faults of one file.
pub(super) struct Faults<'a> {
    path: &'a Path,
    text: &'a str,
    found: Vec<Fault>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Faults { path, text, found: Vec::new() }
    }

    /// Something that the file says cannot be.
    pub(super) fn add(&mut self, key: &str, at: Option<Range<usize>>, what: String, fix: &str) {
        let place = at.map(|span| place(self.text, span.start));
        self.found.push(Fault { file: self.path.to_owned(), place, what: format!("`{key}`: {what}: {fix}") });
    }

    /// Something is left out.
    pub(super) fn missing(&mut self, key: &str, fix: &str) {
        self.add(key, None, "it is left out".to_owned(), fix);
    }

    pub(super) fn none_or<T>(mut self, good: T) -> Result<T, ConfigError> {
        if self.found.is_empty() {
            return Ok(good);
        }
        self.found.sort_by_key(|fault| fault.place);
        Err(ConfigError::Faults(self.found))
    }
}

/// Line and column from 1; columns count characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}
