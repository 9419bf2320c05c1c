//! The table and the plot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use plotters::prelude::*;

use crate::SIZES;
use crate::gates::Gate;
use crate::load::{CONNECTIONS, Round};

/// Everything that was measured, by gate and number of credentials.
#[derive(Default)]
pub(crate) struct Results {
    rounds: BTreeMap<(Gate, usize), Vec<Round>>,
    memory: BTreeMap<(Gate, usize), u64>,
}

impl Results {
    pub(crate) fn add(&mut self, gate: Gate, size: usize, round: Round) {
        self.rounds.entry((gate, size)).or_default().push(round);
    }

    pub(crate) fn add_memory(&mut self, gate: Gate, size: usize, bytes: u64) {
        self.memory.insert((gate, size), bytes);
    }

    fn median(&self, gate: Gate, size: usize, of: impl Fn(&Round) -> f64) -> f64 {
        quantile(self.rounds.get(&(gate, size)).into_iter().flatten().map(of).collect(), 2)
    }

    /// The ratio of throughput of two gates in the same round: median and the middle half of the rounds.
    fn ratio(&self, gate: Gate, to: Gate, size: usize) -> Option<[f64; 3]> {
        let [ours, theirs] = [gate, to].map(|gate| self.rounds.get(&(gate, size)));
        let ratios: Vec<f64> = ours?.iter().zip(theirs?).map(|(ours, theirs)| ours.rate / theirs.rate).collect();
        Some([1, 2, 3].map(|at| quantile(ratios.clone(), at)))
    }

    /// Prints the table, and writes it and the plot into `benches/edge`.
    pub(crate) fn write(&self, rounds: u64, length: Duration) -> Result<()> {
        let table = self.table(rounds, length)?;
        println!("\n{table}");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("edge");
        fs::write(folder.join("results.md"), table)?;
        self.plot(&folder.join("results.svg"))
    }

    fn table(&self, rounds: u64, length: Duration) -> Result<String> {
        let mut out = String::from("# A gate in Envoy\n\n");
        writeln!(
            out,
            "Envoy 1.40, one worker, a direct response of 100 bytes; {CONNECTIONS} connections of wrk; requests of 12 header fields. Medians of \
             {rounds} interleaved\nrounds of {} s. Written by `cargo run --release -p portcullis-benches --example edge`.\n",
            length.as_secs()
        )?;
        Self::rows(&mut out, "requests a second (p50, p99 in us)", |gate, size| {
            let [rate, p50, p99] = [
                self.median(gate, size, |round| round.rate),
                self.median(gate, size, |round| round.p50_us),
                self.median(gate, size, |round| round.p99_us),
            ];
            format!("{} ({}, {})", grouped(rate), grouped(p50), grouped(p99))
        })?;
        Self::rows(&mut out, "CPU time of a request in us", |gate, size| {
            format!("{:.1}", self.median(gate, size, |round| round.cpu_us))
        })?;
        Self::rows(&mut out, "throughput beside the Wasm filter that hashes one header", |gate, size| {
            let ratio = self.ratio(gate, Gate::Hash, size);
            ratio.map(|[low, middle, high]| format!("{middle:.2} ({low:.2} to {high:.2})")).unwrap_or_default()
        })?;
        Self::rows(&mut out, "resident memory of Envoy in MiB", |gate, size| {
            let bytes = self.memory.get(&(gate, size)).copied().unwrap_or_default();
            format!("{}", bytes >> 20)
        })?;
        Ok(out)
    }

    /// One table: a row for each gate, a column for each number of credentials.
    fn rows(out: &mut String, of: &str, cell: impl Fn(Gate, usize) -> String) -> Result<()> {
        write!(out, "| {of} |")?;
        for size in SIZES {
            write!(out, " {} |", grouped(size as f64))?;
        }
        writeln!(out, "\n|---|{}", "---|".repeat(SIZES.len()))?;
        for gate in Gate::ALL {
            let cells = SIZES.map(|size| cell(gate, size));
            writeln!(out, "| {} | {} |", gate.name(), cells.join(" | "))?;
        }
        writeln!(out)?;
        Ok(())
    }

    fn plot(&self, path: &Path) -> Result<()> {
        let most = self.rounds.values().flatten().map(|round| round.rate).fold(0.0, f64::max);
        let area = SVGBackend::new(path, (900, 520)).into_drawing_area();
        area.fill(&WHITE)?;
        let first = SIZES.first().copied().context("there are sizes")? as f64;
        let last = SIZES.last().copied().context("there are sizes")? as f64;
        let mut chart = ChartBuilder::on(&area)
            .caption("Requests a second through Envoy, one worker", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(70)
            .build_cartesian_2d((first..last).log_scale(), 0.0..most * 1.1)?;
        chart
            .configure_mesh()
            .x_desc("credentials")
            .y_desc("requests a second (median of rounds)")
            .x_label_formatter(&|size| grouped(*size))
            .y_label_formatter(&|rate| grouped(*rate))
            .draw()?;
        for (number, gate) in Gate::ALL.into_iter().enumerate() {
            let colour = Palette99::pick(number).stroke_width(2);
            let points = SIZES.map(|size| (size as f64, self.median(gate, size, |round| round.rate)));
            let line = chart.draw_series(LineSeries::new(points, colour).point_size(3))?;
            line.label(gate.name()).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// The value below which so many quarters of the values lie.
fn quantile(mut values: Vec<f64>, quarters: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = values.len().saturating_sub(1) * quarters;
    let value = |at: usize| values.get(at).or(values.last()).copied().unwrap_or_default();
    let (low, high) = (value(place / 4), value(place / 4 + 1));
    low + (high - low) * ((place % 4) as f64 / 4.0)
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
