//! How often memory is allocated for one decision: by the host around the component, and by the gate itself.
//!
//! ```sh
//! cargo run --release -p portcullis-benches --example allocations
//! ```
//!
//! The allocations of the gate are those of its native build, whose buffer for the details is kept. In the sandbox the head
//! is copied into one more, and the answer comes out of the same buffer.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::hint::black_box;
use std::num::NonZeroUsize;

use allocation_counter::{AllocationInfo, measure};
use anyhow::Result;
use portcullis_benches::cases::Case;
use portcullis_benches::now;
use portcullis_engine::Request;
use portcullis_eval::{Input, Silent};
use portcullis_tests::minter::minter;

const CREDENTIALS: usize = 1_000;
/// Different requests, so that none is special.
const REQUESTS: u32 = 10;

fn main() -> Result<()> {
    let requests = usize::try_from(REQUESTS)?;
    let now = now()?;
    let cases = [
        ("key", Case::keys(CREDENTIALS, requests)?),
        ("signed request", Case::signed(CREDENTIALS, requests)?),
        ("token seen before", Case::tokens(&minter("EdDSA-1")?, CREDENTIALS, requests)?),
    ];
    println!("| allocations of one decision | host | bytes | gate, native | bytes | |\n|---|---|---|---|---|---|");
    for (name, case) in &cases {
        let (engine, gate) = (case.engine(NonZeroUsize::MIN)?, case.gate()?);
        let host = measure(|| {
            for head in &case.heads {
                drop(black_box(engine.decide(Request::new(head, now))));
            }
        });
        // The buffer grows once.
        let mut details = Vec::with_capacity(1 << 16);
        let native = measure(|| {
            for head in &case.heads {
                let input = Input { head, now, body_digest: None, replay: None };
                black_box(gate.decide(input, &mut Silent, &mut details));
            }
        });
        let cells = |info: AllocationInfo| {
            let each = |sum: u64| sum as f64 / f64::from(REQUESTS);
            format!("{:.1} | {:.0}", each(info.count_total), each(info.bytes_total))
        };
        let is_met = if host.count_total + native.count_total == 0 { "met" } else { "**missed**" };
        println!("| {name} | {} | {} | {is_met} |", cells(host), cells(native));
    }
    Ok(())
}
