//! What has to be loaded before a case can be asked.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context as _, Result};
use portcullis_engine::{Config, Engine};
use portcullis_eval::Gate;
use portcullis_model::key_sheet::{self, Day};
use portcullis_model::policy::{build, build_delta};
use portcullis_model::signing::day_key;
use portcullis_model::source::{Delta, Source};
use portcullis_model::time::UnixTime;
use serde::Deserialize;

use super::{Case, Corpus};

/// A policy, what it was moved to, and when it was confirmed. Cases of one setting can be asked of one gate.
#[derive(Clone, Copy)]
pub struct Setting<'c> {
    corpus: &'c Corpus,
    /// The stem of the document that is loaded.
    pub policy: Option<&'c str>,
    /// The documents it is moved to.
    pub deltas: &'c [String],
    /// When it was confirmed.
    pub confirmed: Option<UnixTime>,
}

/// The bytes that bring a gate into a setting.
pub struct Built {
    /// The base, unless no policy is loaded.
    pub base: Option<Vec<u8>>,
    /// The deltas after it.
    pub deltas: Vec<Vec<u8>>,
    /// The key sheets, in parts.
    pub sheets: Vec<Vec<u8>>,
}

/// Who signs, and with what. Such secrets are in no policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The profile.
    pub profile: String,
    /// The secret.
    pub secret: String,
}

/// The days whose key sheets are loaded: those around 2026-11-21, the day of most cases.
const SHEET_DAYS: std::ops::RangeInclusive<u32> = 20_776..=20_779;

impl<'c> Setting<'c> {
    pub(super) fn of(corpus: &'c Corpus, case: &'c Case) -> Self {
        Setting { corpus, policy: case.policy.as_deref(), deltas: &case.deltas, confirmed: case.confirmed }
    }

    /// The document that is loaded, and those it is moved to.
    fn documents(&self) -> Result<Vec<&'c Source>> {
        let stems = self.policy.into_iter().chain(self.deltas.iter().map(String::as_str));
        stems
            .map(|stem| self.corpus.policies.get(stem).with_context(|| format!("there is no policy `{stem}`")))
            .collect()
    }

    /// Builds the base and the deltas.
    ///
    /// # Errors
    /// Where a document cannot be built.
    pub fn build(&self) -> Result<Built> {
        let documents = self.documents()?;
        let base = documents.first().map(|source| build(source)).transpose()?;
        let deltas = documents.array_windows().map(|[old, new]| Ok(build_delta(&Delta::between(old, new))?));
        Ok(Built { base, deltas: deltas.collect::<Result<_>>()?, sheets: self.sheets()? })
    }

    fn sheets(&self) -> Result<Vec<Vec<u8>>> {
        let (Some(stem), Some(source)) = (self.policy, self.documents()?.first().copied()) else {
            return Ok(Vec::new());
        };
        let mut sheets = Vec::new();
        for (slot, signer) in self.corpus.signers.get(stem).into_iter().flatten() {
            let profiles = &source.installation.signature_profiles;
            let profile = profiles.iter().find(|profile| profile.id.as_str() == signer.profile);
            let profile = profile.with_context(|| format!("`{stem}` has no profile `{}`", signer.profile))?;
            for day in SHEET_DAYS.map(Day) {
                sheets.push(key_sheet::encode(day, *slot, &[day_key(profile, signer.secret.as_bytes(), day)])?);
            }
        }
        Ok(sheets)
    }

    /// A native gate in this setting.
    ///
    /// # Errors
    /// Where something cannot be built or loaded.
    pub fn gate(&self) -> Result<Gate> {
        let mut gate = Gate::default();
        let Built { base, deltas, sheets } = self.build()?;
        if let Some(base) = base {
            gate.load(base)?;
        }
        for sheet in sheets {
            gate.load_keys(&sheet)?;
        }
        for delta in deltas {
            let revision = gate.check_delta(delta)?;
            gate.apply_delta(revision)?;
        }
        if let Some(confirmed) = self.confirmed {
            gate.confirm(confirmed);
        }
        Ok(gate)
    }

    /// A native gate with the last document as its base, or nothing where that document is one that no base can be built
    /// from: a delta may leave references behind.
    ///
    /// # Errors
    /// Where a built base cannot be loaded.
    pub fn gate_from_scratch(&self) -> Result<Option<Gate>> {
        let documents = self.documents()?;
        let Some(base) = documents.last().and_then(|source| build(source).ok()) else { return Ok(None) };
        let mut gate = Gate::default();
        gate.load(base)?;
        for sheet in self.sheets()? {
            gate.load_keys(&sheet)?;
        }
        if let Some(confirmed) = self.confirmed {
            gate.confirm(confirmed);
        }
        Ok(Some(gate))
    }

    /// The component in this setting. Compiled code is kept in `cache`.
    ///
    /// # Errors
    /// Where something cannot be built or loaded.
    pub fn engine(&self, cache: &Path) -> Result<Engine> {
        let engine = engine(cache)?;
        let Built { base, deltas, sheets } = self.build()?;
        if let Some(base) = base {
            engine.load(base.into())?;
        }
        for sheet in sheets {
            engine.load_keys(&sheet)?;
        }
        for delta in deltas {
            engine.apply(&delta)?;
        }
        if let Some(confirmed) = self.confirmed {
            engine.confirm(confirmed);
        }
        Ok(engine)
    }

    fn key(&self) -> (Option<&'c str>, &'c [String], Option<UnixTime>) {
        (self.policy, self.deltas, self.confirmed)
    }
}

/// An engine with one worker and without a policy. Compiled code is kept in `cache`.
///
/// # Errors
/// Where the engine cannot be made.
pub fn engine(cache: &Path) -> Result<Engine> {
    let config = Config { workers: NonZeroUsize::MIN, cache: Some(cache.to_owned()), ..Config::default() };
    Ok(Engine::new(&config)?)
}

impl PartialEq for Setting<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Setting<'_> {}

impl PartialOrd for Setting<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Setting<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::fmt::Display for Setting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.policy.unwrap_or("no policy"))?;
        self.deltas.iter().try_for_each(|delta| write!(f, " -> {delta}"))
    }
}
