//! The conformance corpus: policies, captured requests and cases, read from `tests/conformance`.
//!
//! Every runner (native, component, proxies) goes over [`Corpus::cases`] and skips none.

mod case;
mod request;
mod setting;

pub use case::{Case, Expectation, Place};
pub use request::Request;
pub use setting::{Built, Setting, Signer, engine};

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use portcullis_model::source::Source;

/// Everything that is in the corpus.
pub struct Corpus {
    /// The source documents by the stem of their file.
    pub policies: BTreeMap<String, Source>,
    /// The secrets of signers, by the stem of the policy and then by slot.
    pub signers: BTreeMap<String, BTreeMap<u32, Signer>>,
    /// The names of the captured requests' files.
    pub captures: BTreeSet<String>,
    /// Every case of every file, by file and in order.
    pub cases: Vec<Case>,
    /// How many cases each file has.
    pub counts: BTreeMap<String, usize>,
}

impl Corpus {
    /// Reads the corpus of this repository.
    ///
    /// # Errors
    /// What is wrong with the first file or case that cannot be read, with its name.
    pub fn load() -> Result<Corpus> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
        let mut policies = BTreeMap::new();
        for path in files(&root.join("policies"), "json")? {
            let source = Source::from_json(&read(&path)?).with_context(|| shown(&path))?;
            policies.insert(stem(&path)?, source);
        }
        let signers = root.join("signers.json");
        let signers = serde_json::from_slice(&read(&signers)?).with_context(|| shown(&signers))?;
        let folder = root.join("captures");
        let captures = files(&folder, "http")?.iter().map(|path| file_name(path)).collect::<Result<_>>()?;
        let mut cases = Vec::new();
        let mut counts = BTreeMap::new();
        for path in files(&root.join("cases"), "json")? {
            let before = cases.len();
            let written: Vec<serde_json::Value> =
                serde_json::from_slice(&read(&path)?).with_context(|| shown(&path))?;
            for (number, value) in written.into_iter().enumerate() {
                let name = value.get("name").and_then(|name| name.as_str()).unwrap_or("without a name").to_owned();
                let case =
                    Case::read(value, &folder).with_context(|| format!("{}: case {number}, `{name}`", shown(&path)))?;
                for policy in case.policy.iter().chain(&case.deltas) {
                    ensure!(
                        policies.contains_key(policy),
                        "{}: case `{name}`: there is no policy `{policy}`",
                        shown(&path)
                    );
                }
                cases.push(case);
            }
            counts.insert(file_name(&path)?, cases.len() - before);
        }
        Ok(Corpus { policies, signers, captures, cases, counts })
    }

    /// What has to be loaded for a case.
    #[must_use]
    pub fn setting<'c>(&'c self, case: &'c Case) -> Setting<'c> {
        Setting::of(self, case)
    }

    /// The cases under each setting: those that can share a loaded policy.
    #[must_use]
    pub fn by_setting(&self) -> BTreeMap<Setting<'_>, Vec<&Case>> {
        let mut settings: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for case in &self.cases {
            settings.entry(self.setting(case)).or_default().push(case);
        }
        settings
    }

    /// Every word of a request that looks like a key or a part of a token, over all cases: none may come back from the gate.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for case in &self.cases {
            let values = case.request.headers.iter().map(|(_, value)| value);
            for text in values.chain([&case.request.target]) {
                let text = String::from_utf8_lossy(text);
                let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
                keys.extend(
                    words.filter(|word| word.starts_with("ptc_") || word.starts_with("eyJ")).map(ToOwned::to_owned),
                );
            }
        }
        keys
    }
}

/// The files of a folder with an extension, in order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| shown(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "{} has no .{extension} files", shown(folder));
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| shown(path))
}

/// The last two parts of a path: enough to find the file, and the same on every machine.
fn shown(path: &Path) -> String {
    let parts: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    Ok(stem.with_context(|| shown(path))?.to_owned())
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name.with_context(|| shown(path))?.to_owned())
}
