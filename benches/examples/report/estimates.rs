//! What criterion measured, and what the benchmark of the peers noted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Medians by group, function and parameter; a function without a parameter has none.
pub(crate) struct Estimates {
    medians: BTreeMap<(String, String, String), f64>,
    /// What loading took, by `gate/size`.
    loads: BTreeMap<String, Load>,
}

/// How a gate loaded an installation.
#[derive(Clone)]
pub(crate) enum Load {
    /// It did.
    Done {
        /// The time it took.
        seconds: f64,
        /// The memory at its peak, beyond that of the records.
        bytes: u64,
    },
    /// It did not, and why.
    Failed(String),
}

impl Estimates {
    /// Reads both out of the folder that things are built in.
    pub(crate) fn read(target: &Path) -> Result<Estimates> {
        let mut medians = BTreeMap::new();
        walk(&target.join("criterion"), &mut medians)?;
        let noted = target.join("tmp").join("peers.json");
        let noted: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(noted).context("no peer has loaded")?)?;
        let load = |said: &Value| match said.get("failed") {
            Some(why) => Load::Failed(why.as_str().unwrap_or_default().to_owned()),
            None => Load::Done {
                seconds: said.get("seconds").and_then(Value::as_f64).unwrap_or_default(),
                bytes: said.get("bytes").and_then(Value::as_u64).unwrap_or_default(),
            },
        };
        let loads = noted.iter().map(|(name, said)| (name.clone(), load(said))).collect();
        Ok(Estimates { medians, loads })
    }

    /// A median in nanoseconds.
    pub(crate) fn median(&self, group: &str, function: &str, parameter: usize) -> Option<f64> {
        self.medians.get(&(group.to_owned(), function.to_owned(), parameter.to_string())).copied()
    }

    pub(crate) fn load(&self, gate: &str, size: usize) -> Option<&Load> {
        self.loads.get(&format!("{gate}/{size}"))
    }
}

/// Takes every benchmark below a folder.
fn walk(folder: &Path, medians: &mut BTreeMap<(String, String, String), f64>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("criterion left nothing in {}", folder.display()))? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path.join(name))?)?) };
        if !path.ends_with("new") {
            walk(&path, medians)?;
            continue;
        }
        let (names, estimates) = (read("benchmark.json")?, read("estimates.json")?);
        let text = |name: &str| names.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let median = estimates.pointer("/median/point_estimate").and_then(Value::as_f64).context("a median")?;
        medians.insert((text("group_id"), text("function_id"), text("value_str")), median);
    }
    Ok(())
}
