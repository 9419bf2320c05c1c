//! What a gate costs in Envoy: our filter and our authorization service beside Envoy's own filters, with one worker and a direct
//! response, in interleaved rounds.
//!
//! ```sh
//! cargo run --release -p portcullis-benches --example edge              # 10 rounds of 2 s: about twelve minutes
//! cargo run --release -p portcullis-benches --example edge -- 3 1       # 3 rounds of 1 s
//! ```
//!
//! Writes `benches/edge/results.md` and `benches/edge/results.svg`. Needs wrk, and what `tests/independent/install` installs.

#![allow(clippy::cast_precision_loss, clippy::print_stdout, reason = "a program for people")]

mod gates;
mod load;
mod report;
mod service;

use std::time::Duration;

use anyhow::{Context as _, Result};

use gates::{Gate, Installation};
use load::Round;
use report::Results;

/// The numbers of credentials.
const SIZES: [usize; 3] = [10, 1_000, 100_000];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == service::ARGUMENT).is_some() {
        return service::serve(arguments.next().context("the policy's file is named")?.as_ref());
    }
    let mut number = |usual: u64| arguments.next().map_or(Ok(usual), |text| text.parse());
    let (rounds, length) = (number(10)?, Duration::from_secs(number(2)?));
    let mut results = Results::default();
    for size in SIZES {
        println!("{size} credentials");
        let installation = Installation::new(size)?;
        let running: Vec<_> = Gate::ALL
            .into_iter()
            .map(|gate| Ok((gate, installation.start(gate).with_context(|| gate.name())?)))
            .collect::<Result<_>>()?;
        // The first round warms everything up and does not count.
        for round in 0..=rounds {
            for (gate, running) in &running {
                let measured = Round::run(running, length).with_context(|| gate.name())?;
                println!("  {round:2} {:30} {measured}", gate.name());
                if round > 0 {
                    results.add(*gate, size, measured);
                }
            }
        }
        for (gate, running) in &running {
            results.add_memory(*gate, size, running.resident_bytes()?);
        }
    }
    results.write(rounds, length)
}
