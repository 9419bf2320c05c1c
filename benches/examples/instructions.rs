//! Holds the instructions of a decision to what is written down in `benches/instructions.json`.
//!
//! ```sh
//! cargo run --release -p portcullis-benches --example instructions             # fails where one takes more
//! cargo run --release -p portcullis-benches --example instructions -- --bless  # writes down what they take now
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use portcullis_benches::cases::Case;
use portcullis_benches::instructions::{self, count};
use portcullis_tests::minter::minter;

/// How much more than what is written down passes, in percent. Counts repeat; other processors and patch releases of what we
/// link differ a little.
const MARGIN_PERCENT: u64 = 3;
/// How many credentials the policy has.
const CREDENTIALS: usize = 1_000;
const BLESS: &str = "cargo run --release -p portcullis-benches --example instructions -- --bless";

fn cases() -> Result<Vec<(&'static str, Case)>> {
    Ok(vec![
        ("key", Case::keys(CREDENTIALS, 1)?),
        ("signed request", Case::signed(CREDENTIALS, 1)?),
        ("token seen before", Case::tokens(&minter("EdDSA-1")?, CREDENTIALS, 1)?),
    ])
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == instructions::ARGUMENT).is_some() {
        return instructions::decide(arguments);
    }
    let bless = match arguments.next().as_deref() {
        None => false,
        Some("--bless") => true,
        Some(other) => bail!("`{other}` is not known; there is `--bless` alone"),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    let counted = cases()?.into_iter().map(|(name, case)| Ok((name.to_owned(), count(&case)?)));
    let counted = counted.collect::<Result<BTreeMap<String, u64>>>()?;
    if bless {
        fs::write(&path, serde_json::to_string_pretty(&counted)? + "\n")?;
        println!("{counted:#?}");
        return Ok(());
    }
    let text = fs::read(&path).with_context(|| format!("nothing is written down; do so with `{BLESS}`"))?;
    let expected: BTreeMap<String, u64> = serde_json::from_slice(&text)?;
    println!("| instructions of a native decision | written down | now | |\n|---|---|---|---|");
    let mut failed = !counted.keys().eq(expected.keys());
    for (name, now) in &counted {
        let was = expected.get(name).copied().unwrap_or_default();
        let too_many = now * 100 > was * (100 + MARGIN_PERCENT);
        let far_fewer = now * (100 + MARGIN_PERCENT) < was * 100;
        let remark = match (too_many, far_fewer) {
            (true, _) => "too many",
            (false, true) => "fewer: write it down",
            (false, false) => "",
        };
        failed |= too_many;
        println!("| {name} | {was} | {now} | {remark} |");
    }
    if failed {
        bail!("more than {MARGIN_PERCENT}% above what is written down; where that is meant, run `{BLESS}`");
    }
    Ok(())
}
