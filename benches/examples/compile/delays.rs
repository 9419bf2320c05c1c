//! Whether a compaction delays requests: one thread of them at a steady rate, with compactions beside it and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use portcullis_benches::{key, now, request};
use portcullis_control::Control;
use portcullis_engine::{Engine, Request};
use portcullis_model::id::Revision;
use portcullis_model::policy::build_delta;
use portcullis_model::source::{Delta, Source};

/// Between two requests.
const PERIOD: Duration = Duration::from_millis(1);
/// As many deltas as lead to a compaction.
const DELTAS: usize = 32_768;
const COMPACTIONS: usize = 3;
/// The most requests that are remembered.
const MOST: usize = 1 << 20;

/// Prints how late decisions end, counted from when they should have begun.
pub(crate) async fn measure(control: &Arc<Control>, engine: &Arc<Engine>, source: &Source) -> Result<()> {
    // Deltas that the store does not have: they stay, so one compaction can follow another.
    let first = *control.enforced().borrow();
    for (revision, credential) in (first..).zip(source.credentials.iter().cycle().take(DELTAS)) {
        let mut delta = Delta::empty(Revision(revision), Revision(revision + 1), source.seed);
        delta.credentials.push(credential.clone());
        engine.apply(&build_delta(&delta)?)?;
    }
    for name in ["without compaction", "with compaction", "without compaction", "with compaction"] {
        let stop = Arc::new(AtomicBool::new(false));
        let (asking, stopping) = (Arc::clone(engine), Arc::clone(&stop));
        let thread = std::thread::spawn(move || ask(&asking, &stopping));
        let began = Instant::now();
        if name.starts_with("without") {
            tokio::time::sleep(Duration::from_secs(15)).await;
        } else {
            for _ in 0..COMPACTIONS {
                control.compact().await?;
            }
        }
        let took = began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let mut late = thread.join().map_err(|_| anyhow::anyhow!("the thread of requests ended"))??;
        late.sort_unstable();
        let last = late.len().saturating_sub(1);
        let at =
            |per_mille: usize| late.get(last * per_mille / 1000).copied().unwrap_or_default().as_secs_f64() * 1000.0;
        println!(
            "{name:<18} {took:>5.1} s, {:>6} requests: p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, longest {:.3} ms",
            late.len(),
            at(500),
            at(990),
            at(999),
            at(1000)
        );
    }
    Ok(())
}

fn ask(engine: &Engine, stop: &AtomicBool) -> Result<Vec<Duration>> {
    let (packed, now) = (request(&key(7))?.0, now()?);
    // What this thread needs it has: asking the system for memory would wait for a base that is being given back to it.
    let mut late = vec![Duration::MAX; MOST];
    late.clear();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        due += PERIOD;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        engine.decide(Request::new(&packed, now))?;
        if late.len() < MOST {
            late.push(due.elapsed());
        }
    }
    Ok(late)
}
