//! Decides the same request a number of times and ends: something to run under a profiler or to count instructions of.
//!
//! ```sh
//! cargo build --release -p portcullis-benches --example decide
//! valgrind --tool=callgrind target/release/examples/decide component 10000
//! ```

use std::hint::black_box;
use std::num::NonZeroUsize;

use anyhow::{Context as _, Result, bail};
use portcullis_benches::{key, now, request, source};
use portcullis_engine::{Config, Engine, Request};
use portcullis_eval::{Gate, Input, Silent};
use portcullis_model::policy::build;

/// How many credentials the policy has.
const CREDENTIALS: usize = 1_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let build_of_gate = arguments.next().context("give `component` or `native`")?;
    let times: u64 = arguments.next().context("give a number of decisions")?.parse()?;
    let base = build(&source(CREDENTIALS)?)?;
    let (head, _) = request(&key(7))?;
    let now = now()?;
    match build_of_gate.as_str() {
        "component" => {
            let engine = Engine::new(&Config { workers: NonZeroUsize::MIN, ..Config::default() })?;
            engine.load(base.into())?;
            engine.confirm(now);
            for _ in 0..times {
                black_box(engine.decide(Request::new(black_box(&head), now))?);
            }
        }
        "native" => {
            let mut gate = Gate::default();
            gate.load(base)?;
            gate.confirm(now);
            let mut details = Vec::new();
            for _ in 0..times {
                let input = Input { head: black_box(&head), now, body_digest: None, replay: None };
                black_box(gate.decide(input, &mut Silent, &mut details));
            }
        }
        other => bail!("`{other}` is neither `component` nor `native`"),
    }
    Ok(())
}
