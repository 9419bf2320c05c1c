//! The plots.

use std::path::Path;

use anyhow::{Context as _, Result};
use plotters::prelude::*;
use portcullis_benches::sweeps::Sweep;

use crate::estimates::Estimates;
use crate::tables::{GATES, PEER_SIZES, grouped};

/// A line: its name, and its points.
type Line = (&'static str, Vec<(f64, f64)>);

/// A decision in the component where there is more of one thing.
pub(crate) fn sweeps(estimates: &Estimates, path: &Path) -> Result<()> {
    let line = |sweep: Sweep| -> Line {
        let points =
            sweep.sizes().filter_map(|size| Some((size as f64, estimates.quiet("sweep", sweep.name(), size)? / 1e3)));
        (sweep.name(), points.collect())
    };
    let lines = Sweep::ALL.map(line);
    let most = lines.iter().flat_map(|(_, points): &Line| points.iter()).map(|(_, us)| *us).fold(0.0, f64::max);
    let area = SVGBackend::new(path, (900, 520)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("A decision by a key, component, quiet", ("sans-serif", 20))
        .margin(12)
        .margin_right(44)
        .x_label_area_size(42)
        .y_label_area_size(70)
        .build_cartesian_2d((1.0..1e6).log_scale(), 0.0..most * 1.3)?;
    chart.configure_mesh().x_desc("how many").y_desc("us").x_label_formatter(&|size| many(*size)).draw()?;
    for (number, (name, points)) in lines.into_iter().enumerate() {
        let colour = Palette99::pick(number).stroke_width(2);
        let drawn = chart.draw_series(LineSeries::new(points, colour).point_size(3))?;
        drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(area.present()?)
}

/// A decision by each gate, by the number of credentials.
pub(crate) fn peers(estimates: &Estimates, path: &Path) -> Result<()> {
    let lines: Vec<Line> = GATES
        .iter()
        .map(|gate| {
            let points =
                PEER_SIZES.iter().filter_map(|size| Some((*size as f64, estimates.quiet("peers", gate, *size)? / 1e3)));
            (*gate, points.collect())
        })
        .collect();
    let all = || lines.iter().flat_map(|(_, points): &Line| points.iter()).map(|(_, us)| *us);
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let first = PEER_SIZES.first().copied().context("there are sizes")? as f64;
    let last = PEER_SIZES.last().copied().context("there are sizes")? as f64;
    let area = SVGBackend::new(path, (900, 520)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("The same decisions, quiet", ("sans-serif", 20))
        .margin(12)
        .margin_right(44)
        .x_label_area_size(42)
        .y_label_area_size(70)
        .build_cartesian_2d((first..last).log_scale(), (least / 2.0..most * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("credentials")
        .y_desc("us of a decision")
        .x_label_formatter(&|size| many(*size))
        .y_label_formatter(&|us| many(*us))
        .draw()?;
    for (number, (name, points)) in lines.into_iter().enumerate() {
        let colour = Palette99::pick(number).stroke_width(2);
        let drawn = chart.draw_series(LineSeries::new(points, colour).point_size(3))?;
        drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).draw()?;
    Ok(area.present()?)
}

/// A number of an axis.
fn many(number: f64) -> String {
    if number < 1.0 {
        return number.to_string();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "axes have powers of ten alone")]
    let number = number as usize;
    grouped(number)
}
