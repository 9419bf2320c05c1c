//! The time of single decisions: half of them, and all but one in a hundred.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::Result;
use portcullis_benches::cases::Case;
use portcullis_benches::now;
use portcullis_engine::Request;
use portcullis_eval::{Input, Silent};
use portcullis_tests::minter::minter;

/// How many credentials there are.
const CREDENTIALS: usize = 1_000_000;
/// How many different requests.
const REQUESTS: usize = 16_384;
/// How many access tokens: all of them stay in the cache.
const TOKENS: usize = 512;

/// In nanoseconds, of single calls. The timer's own cost is taken off.
#[derive(Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// What was measured, with the name of each.
pub(crate) struct Latencies {
    /// The timer's own cost, and what it has at its worst: less than that cannot be told.
    pub(crate) timer: Latency,
    pub(crate) all: Vec<(&'static str, Latency)>,
}

/// Takes the median of that many rounds.
pub(crate) fn measure(rounds: usize) -> Result<Latencies> {
    let now = now()?;
    let nothing = vec![vec![0; 700]; REQUESTS];
    let timer = rounds_of(rounds, &nothing, |head| {
        black_box(head);
    });
    let eddsa = minter("EdDSA-1")?;
    let mut all = Vec::new();
    let names = [
        ["key, component", "key, native"],
        ["signed request, component", "signed request, native"],
        ["token seen before, component", "token seen before, native"],
    ];
    for ([component, native], kind) in names.into_iter().zip(0..) {
        println!("latency: {component}");
        let case = match kind {
            0 => Case::keys(CREDENTIALS, REQUESTS)?,
            1 => Case::signed(CREDENTIALS, REQUESTS)?,
            _ => Case::tokens(&eddsa, CREDENTIALS, TOKENS)?,
        };
        let engine = case.engine(NonZeroUsize::MIN)?;
        let latency = rounds_of(rounds, &case.heads, |head| {
            drop(black_box(engine.decide(Request::new(head, now))));
        });
        all.push((component, latency.without(timer)));
        drop(engine);
        let (gate, mut details) = (case.gate()?, Vec::new());
        let latency = rounds_of(rounds, &case.heads, |head| {
            let input = Input { head, now, body_digest: None, replay: None };
            black_box(gate.decide(input, &mut Silent, &mut details));
        });
        all.push((native, latency.without(timer)));
    }
    Ok(Latencies { timer, all })
}

impl Latency {
    fn without(self, timer: Latency) -> Latency {
        Latency { p50: self.p50 - timer.p50, p99: self.p99 - timer.p50 }
    }
}

/// Each round times every request by itself; the medians of the rounds' figures.
fn rounds_of(rounds: usize, heads: &[Vec<u8>], mut decide: impl FnMut(&[u8])) -> Latency {
    let mut buffer = Vec::new();
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut times: Vec<f64> = (0..REQUESTS)
            .zip(heads.iter().cycle())
            .map(|(_, head)| {
                // A head comes from the network, so it is in the cache.
                buffer.clear();
                buffer.extend_from_slice(head);
                let start = Instant::now();
                decide(black_box(&buffer));
                start.elapsed().as_nanos() as f64
            })
            .collect();
        p50.push(quantile(&mut times, 0.5));
        p99.push(quantile(&mut times, 0.99));
    }
    Latency { p50: quantile(&mut p50, 0.5), p99: quantile(&mut p99, 0.5) }
}

/// The value below which that part of the values lies.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part is between 0 and 1")]
    let at = (values.len().saturating_sub(1) as f64 * part).round() as usize;
    values.get(at).copied().unwrap_or_default()
}
