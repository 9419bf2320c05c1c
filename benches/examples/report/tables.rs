//! The page of tables: every figure, its budget, and whether it is met.

use std::fmt::Write as _;

use anyhow::Result;
use portcullis_benches::sweeps::Sweep;

use crate::cores::Scale;
use crate::estimates::{Estimates, Load};
use crate::latency::Latencies;
use crate::ten_million::TenMillion;

/// Everything that was measured.
pub(crate) struct Measured {
    pub(crate) estimates: Estimates,
    pub(crate) latency: Latencies,
    pub(crate) cores: Vec<Scale>,
    /// The length of a base of a million credentials.
    pub(crate) base_bytes: usize,
    pub(crate) allocations: String,
    pub(crate) instructions: Vec<Ends>,
    pub(crate) ten_million: Option<TenMillion>,
    pub(crate) machine: String,
    pub(crate) short: bool,
}

/// Instructions of a decision at both ends of a sweep, each with its size.
pub(crate) struct Ends {
    pub(crate) sweep: Sweep,
    pub(crate) least: (usize, u64),
    pub(crate) most: (usize, u64),
}

/// The numbers of credentials in most tables.
const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
/// The numbers of credentials that peers are asked with.
pub(crate) const PEER_SIZES: [usize; 4] = [10, 1_000, 100_000, 1_000_000];
/// The gates of the benchmark `peers`.
pub(crate) const GATES: [&str; 6] = [
    "portcullis, component",
    "portcullis, native",
    "cedar-policy",
    "regorus, interpreter",
    "regorus, machine",
    "casbin",
];
/// A decision in the component takes at most so many times what it takes native.
const NATIVE_TIMES: f64 = 3.0;
/// A decision at its 99th percentile takes at most so many times its median, on a quiet machine.
const P99_TIMES: f64 = 2.0;
/// Two threads decide at least so many times as often as one.
const TWO_THREADS: f64 = 1.9;

/// The bytes of a credential's digest.
const DIGEST_BYTES: f64 = 32.0;
/// A credential takes at most so many bytes of a base besides.
const MOST_BYTES: f64 = 64.0;

/// A kind of decision: its name, its benchmark's group and what that calls it, and its budget at a million in microseconds.
const KINDS: [(&str, &str, &str, f64); 8] = [
    ("key", "key", "", 0.8),
    ("signed, no body", "signed", "", 5.0),
    ("token seen before, EdDSA", "token", ", seen EdDSA", 1.2),
    ("token seen before, ES256", "token", ", seen ES256", 1.2),
    ("token seen before, RS256", "token", ", seen RS256", 1.2),
    ("new token, EdDSA", "token", ", new EdDSA", 70.0),
    ("new token, ES256", "token", ", new ES256", 300.0),
    ("new token, RS256", "token", ", new RS256", 250.0),
];

/// All of it.
pub(crate) fn write(measured: &Measured) -> Result<String> {
    let mut out = String::from("# What is owed, and what was measured\n\n");
    let rough = if measured.short { ", in its short form: rougher" } else { "" };
    writeln!(
        out,
        "{}.\nWritten by `cargo run --release -p portcullis-benches --example report`{rough}. Medians. A request has 12 header fields; each\n\
         decision is asked with another credential from all over the table. Wall time differs from run to run where other\n\
         machines share the processor; ratios differ less. *Quiet* is what a tenth of the samples are below: the machine left alone.\n\
         A dash is what this run did not measure.\n",
        measured.machine
    )?;
    decisions(&mut out, &measured.estimates)?;
    policy(&mut out, &measured.estimates, measured.base_bytes)?;
    single(&mut out, &measured.latency)?;
    writeln!(
        out,
        "## Allocations\n\nOwed: none beyond the buffer of the request, which is its caller's and not counted.\n\n{}",
        measured.allocations
    )?;
    threads(&mut out, &measured.cores)?;
    sweeps(&mut out, &measured.estimates, &measured.instructions)?;
    peers(&mut out, &measured.estimates)?;
    ten_million(&mut out, measured.ten_million.as_ref())?;
    Ok(out.trim_end().to_owned() + "\n")
}

fn decisions(out: &mut String, estimates: &Estimates) -> Result<()> {
    let million = 1_000_000;
    writeln!(
        out,
        "## A decision\n\nMicroseconds at the engine's call boundary; budgets are for 1,000,000 credentials.\n"
    )?;
    writeln!(out, "| in the component | {} | owed | | quiet |", SIZES.map(grouped).join(" | "))?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for (name, group, suffix, budget) in KINDS {
        let of = |size| estimates.median(group, &format!("component{suffix}"), size);
        let cells = SIZES.map(|size| micros(of(size))).join(" | ");
        let verdict = verdict(of(million).map(|ns| ns / 1e3), budget);
        let quiet = micros(estimates.quiet(group, &format!("component{suffix}"), million));
        writeln!(out, "| {name} | {cells} | {budget} | {verdict} | {quiet} |")?;
    }
    writeln!(
        out,
        "\n| native, at 1,000,000 | us | component / native | owed | | quiet | ratio of quiet |\n|---|---|---|---|---|---|---|"
    )?;
    for (name, group, suffix, _) in KINDS {
        let builds = ["component", "native"].map(|build| format!("{build}{suffix}"));
        let medians = builds.each_ref().map(|build| estimates.median(group, build, million));
        let quiet = builds.each_ref().map(|build| estimates.quiet(group, build, million));
        let ratio = |[component, native]: [Option<f64>; 2]| Some(component? / native?);
        let [of_medians, of_quiet] =
            [medians, quiet].map(|both| ratio(both).map_or("-".to_owned(), |times| format!("{times:.2}")));
        let [us, quiet] = [medians, quiet].map(|[_, native]| micros(native));
        let verdict = verdict(ratio(medians), NATIVE_TIMES);
        writeln!(out, "| {name} | {us} | {of_medians} | {NATIVE_TIMES} | {verdict} | {quiet} | {of_quiet} |")?;
    }
    writeln!(out)?;
    Ok(())
}

fn policy(out: &mut String, estimates: &Estimates, base_bytes: usize) -> Result<()> {
    writeln!(out, "## The policy\n\nAn engine with one worker and its spare: two instances.\n")?;
    writeln!(out, "| | {} | owed | |\n|---|---|---|---|---|---|", SIZES.map(grouped).join(" | "))?;
    for (name, group, function, budget) in [
        ("delta of one credential, applied and in force, ms", "delta", "component, two instances", Some(1.0)),
        ("load of a base, both instances, ms", "load", "component, two instances", Some(400.0)),
        ("build from records, ms", "load", "build from records", None),
    ] {
        let of = |size| estimates.median(group, function, size).map(|ns| ns / 1e6);
        let cells = SIZES.map(|size| of(size).map_or("-".to_owned(), |ms| format!("{ms:.3}"))).join(" | ");
        let (owed, verdict) = match budget {
            Some(budget) => (budget.to_string(), verdict(of(1_000_000), budget)),
            None => (String::new(), String::new()),
        };
        writeln!(out, "| {name} | {cells} | {owed} | {verdict} |")?;
    }
    let each = base_bytes as f64 / 1e6 - DIGEST_BYTES;
    let verdict = verdict(Some(each), MOST_BYTES);
    writeln!(out, "| bytes for each credential beyond its digest | | | {each:.1} | {MOST_BYTES} | {verdict} |")?;
    writeln!(out, "\nA base is owed in 200 ms for each instance.\n")?;
    Ok(())
}

fn single(out: &mut String, latency: &Latencies) -> Result<()> {
    writeln!(out, "## Single decisions at 1,000,000 credentials\n")?;
    writeln!(
        out,
        "Each timed by itself; the timer's own {:.0} ns are taken off. With nothing to time it shows {:.0} ns at its 99th\n\
         percentile.\n",
        latency.timer.p50, latency.timer.p99
    )?;
    writeln!(out, "| ns | p50 | p99 | p99 / p50 | owed | |\n|---|---|---|---|---|---|")?;
    for (name, of) in &latency.all {
        let times = of.p99 / of.p50;
        let verdict = verdict(Some(times), P99_TIMES);
        writeln!(out, "| {name} | {:.0} | {:.0} | {times:.2} | {P99_TIMES} | {verdict} |", of.p50, of.p99)?;
    }
    writeln!(out)?;
    Ok(())
}

fn threads(out: &mut String, all: &[Scale]) -> Result<()> {
    writeln!(
        out,
        "## Two threads\n\nBy turns with one, at 1,000,000 credentials; millions a second, and in brackets the middle half of the ratios. By the clock\n\
         neighbours on the machine count too, as the last row shows, whose threads share nothing; by processor time they do not.\n"
    )?;
    writeln!(
        out,
        "| | one thread | two threads | ratio | owed | | ratio by processor time |\n|---|---|---|---|---|---|---|"
    )?;
    for Scale { name, is_owed, one, two, ratio, ratio_of_processor } in all {
        let [ratio_text, of_processor] =
            [ratio, ratio_of_processor].map(|[low, middle, high]| format!("{middle:.2} ({low:.2} to {high:.2})"));
        let owed = match (is_owed, ratio[1] >= TWO_THREADS) {
            (true, true) => format!("{TWO_THREADS} | met"),
            (true, false) => format!("{TWO_THREADS} | **missed**"),
            (false, _) => "| ".to_owned(),
        };
        writeln!(out, "| {name} | {one:.3} | {two:.3} | {ratio_text} | {owed} | {of_processor} |")?;
    }
    writeln!(out)?;
    Ok(())
}

fn sweeps(out: &mut String, estimates: &Estimates, instructions: &[Ends]) -> Result<()> {
    writeln!(
        out,
        "## Where there is more of one thing\n\nMicroseconds of a decision by a key in the component, quiet.\n\n![](results-sweeps.svg)\n"
    )?;
    let sizes: Vec<usize> = std::iter::successors(Some(1), |size| Some(size * 10)).take(7).collect();
    let heads: Vec<_> = sizes.iter().map(|size| grouped(*size)).collect();
    writeln!(out, "| | {} | most / least |\n|---|{}---|", heads.join(" | "), "---|".repeat(sizes.len()))?;
    for sweep in Sweep::ALL {
        let all: Vec<_> = sizes.iter().map(|size| estimates.quiet("sweep", sweep.name(), *size)).collect();
        let cells: Vec<_> = all.iter().map(|ns| ns.map_or(String::new(), |ns| micros(Some(ns)))).collect();
        let known = || all.iter().flatten().copied();
        let times = known().fold(0.0, f64::max) / known().fold(f64::INFINITY, f64::min);
        writeln!(out, "| {} | {} | {times:.2} |", sweep.name(), cells.join(" | "))?;
    }
    writeln!(
        out,
        "\nInstructions of one native decision under callgrind, at the ends: what is no more instructions and more time is\nmisses of the caches.\n"
    )?;
    writeln!(out, "| | least | instructions | most | instructions | ratio |\n|---|---|---|---|---|---|")?;
    for Ends { sweep, least: (least, few), most: (most, many) } in instructions {
        let ratio = *many as f64 / *few as f64;
        let [least, most] = [*least, *most].map(grouped);
        writeln!(out, "| {} | {least} | {few} | {most} | {many} | {ratio:.3} |", sweep.name())?;
    }
    writeln!(out)?;
    Ok(())
}

fn peers(out: &mut String, estimates: &Estimates) -> Result<()> {
    writeln!(
        out,
        "## Beside others\n\nThe same tenants, groups, address ranges, expiries and decisions in each one's own idiom (`benches/benches/peers`); that all\n\
         answer alike is asserted first. Portcullis parses the head of the HTTP request, routes it, and finds and hashes the key; the\n\
         others are told the key's id, the endpoint and the address in the form that they take. Microseconds of a decision; quiet in\n\
         brackets, and in the plot.\n\n\
         ![](results-peers.svg)\n"
    )?;
    let heads = PEER_SIZES.map(grouped).join(" | ");
    writeln!(out, "| | {heads} |\n|---|---|---|---|---|")?;
    for gate in GATES {
        let cells = PEER_SIZES.map(|size| match estimates.load(gate, size) {
            Some(Load::Failed(why)) => format!("cannot load: {why}"),
            Some(Load::Done { .. }) | None => {
                let [median, quiet] =
                    [estimates.median("peers", gate, size), estimates.quiet("peers", gate, size)].map(micros);
                format!("{median} ({quiet})")
            }
        });
        writeln!(out, "| {gate} | {} |", cells.join(" | "))?;
    }
    writeln!(
        out,
        "\nLoading, from records to the first decision, in a process of its own: seconds, and MiB at its peak beyond the records.\nThe component is compiled for it, and has a spare.\n"
    )?;
    writeln!(out, "| | {heads} |\n|---|---|---|---|---|")?;
    for gate in GATES {
        let cells = PEER_SIZES.map(|size| match estimates.load(gate, size) {
            Some(Load::Done { seconds, bytes }) => {
                format!("{seconds:.2} s, {}", grouped((bytes >> 20).try_into().unwrap_or_default()))
            }
            Some(Load::Failed(why)) => why.clone(),
            None => "-".to_owned(),
        });
        writeln!(out, "| {gate} | {} |", cells.join(" | "))?;
    }
    writeln!(out)?;
    Ok(())
}

fn ten_million(out: &mut String, measured: Option<&TenMillion>) -> Result<()> {
    writeln!(out, "## 10,000,000 credentials\n")?;
    let Some(found) = measured else {
        writeln!(out, "Not measured in this run: `-- --ten-million`.")?;
        return Ok(());
    };
    let mib = |bytes: u64| grouped((bytes >> 20).try_into().unwrap_or_default());
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(out, "| build from records | {:.1} s |", found.build_s)?;
    writeln!(out, "| the base | {} MiB |", mib(u64::try_from(found.base_bytes)?))?;
    writeln!(out, "| memory at the peak, records included | {} MiB |", mib(found.peak_bytes))?;
    writeln!(out, "| load, native | {:.2} s |", found.load_native_s)?;
    writeln!(out, "| load, two instances of the component | {:.2} s |", found.load_component_s)?;
    writeln!(out, "| a decision by a key, native | {} us |", micros(Some(found.native_ns)))?;
    writeln!(out, "| a decision by a key, component | {} us |", micros(Some(found.component_ns)))?;
    Ok(())
}

fn verdict(measured: Option<f64>, most: f64) -> String {
    match measured {
        Some(measured) if measured <= most => "met".to_owned(),
        Some(measured) => format!("**missed** by {:.2}", measured / most),
        None => "-".to_owned(),
    }
}

fn micros(ns: Option<f64>) -> String {
    match ns {
        Some(ns) if ns < 100_000.0 => format!("{:.2}", ns / 1e3),
        Some(ns) => format!("{:.0}", ns / 1e3),
        None => "-".to_owned(),
    }
}

/// A number with commas.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
