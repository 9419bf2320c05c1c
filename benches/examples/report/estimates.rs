//! What criterion measured, and what the benchmark of the peers noted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::latency::quantile;

/// Figures by group, function and parameter.
pub(crate) struct Estimates {
    figures: Figures,
    /// What loading took, by `gate/size`.
    loads: BTreeMap<String, Load>,
}

type Figures = BTreeMap<(String, String, String), Figure>;

/// In nanoseconds.
#[derive(Clone, Copy)]
struct Figure {
    median: f64,
    /// Below it is a tenth of the samples: what the machine does while neighbours leave it alone.
    quiet: f64,
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
        let mut figures = Figures::new();
        walk(&target.join("criterion"), &mut figures)?;
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
        Ok(Estimates { figures, loads })
    }

    /// A median in nanoseconds.
    pub(crate) fn median(&self, group: &str, function: &str, parameter: usize) -> Option<f64> {
        Some(self.figure(group, function, parameter)?.median)
    }

    /// What a tenth of the samples are below, in nanoseconds.
    pub(crate) fn quiet(&self, group: &str, function: &str, parameter: usize) -> Option<f64> {
        Some(self.figure(group, function, parameter)?.quiet)
    }

    fn figure(&self, group: &str, function: &str, parameter: usize) -> Option<&Figure> {
        self.figures.get(&(group.to_owned(), function.to_owned(), parameter.to_string()))
    }

    pub(crate) fn load(&self, gate: &str, size: usize) -> Option<&Load> {
        self.loads.get(&format!("{gate}/{size}"))
    }
}

/// Takes every benchmark below a folder.
fn walk(folder: &Path, figures: &mut Figures) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("criterion left nothing in {}", folder.display()))? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path.join(name))?)?) };
        if !path.ends_with("new") {
            walk(&path, figures)?;
            continue;
        }
        let (names, estimates) = (read("benchmark.json")?, read("estimates.json")?);
        let text = |name: &str| names.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let median = estimates.pointer("/median/point_estimate").and_then(Value::as_f64).context("a median")?;
        let sample = read("sample.json")?;
        let list =
            |name: &str| sample.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64);
        let mut each: Vec<f64> = list("times").zip(list("iters")).map(|(time, iterations)| time / iterations).collect();
        let figure = Figure { median, quiet: quantile(&mut each, 0.1) };
        figures.insert((text("group_id"), text("function_id"), text("value_str")), figure);
    }
    Ok(())
}
