//! What the checks cost whoever calls through the proxy: the real server against a plain hyper proxy, side by side.
//!
//! ```sh
//! cargo build --release -p portcullis && cargo run --release -p portcullis-benches --example load
//! cargo run --release -p portcullis-benches --example load -- 64 20 2   # connections, rounds, seconds each
//! ```
//!
//! Closed loop: every connection sends its next request when it has the answer to the last. Rounds are short and alternate,
//! because machines are noisy, and each round's ratio is of two halves that ran side by side in time. The upstream and the
//! clients are in this process, either proxy is a process of its own.

mod baseline;
mod clients;
mod guarded;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clients::{Measured, Target};

/// How many connections, rounds and seconds for each half of a round where nothing is said.
const USUAL: [u64; 3] = [32, 15, 2];
/// How much of each half is not counted, so that connections, pools and caches are as they stay.
const WARM_UP: Duration = Duration::from_millis(400);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [name, upstream] = arguments.as_slice()
        && name == baseline::ARGUMENT
    {
        return runtime.block_on(baseline::serve(upstream.parse()?));
    }
    let mut numbers = USUAL;
    if arguments.len() > numbers.len() {
        bail!("give at most the numbers of connections, rounds and seconds");
    }
    for (number, argument) in numbers.iter_mut().zip(&arguments) {
        *number = argument.parse().with_context(|| format!("`{argument}` is no number"))?;
    }
    let [connections, rounds, seconds] = numbers;
    runtime.block_on(compare(connections, rounds, Duration::from_secs(seconds)))
}

/// One of the two proxies over all rounds.
struct Side {
    name: &'static str,
    target: Target,
    latencies_us: Vec<u32>,
    rates: Vec<f64>,
}

impl Side {
    fn new(name: &'static str, address: SocketAddr, key: &str) -> Side {
        Side { name, target: Target { address, key: key.to_owned() }, latencies_us: Vec::new(), rates: Vec::new() }
    }

    /// One half of a round. Leads to its rate.
    async fn run(&mut self, connections: u64, length: Duration) -> Result<f64> {
        let Measured { mut latencies_us, rate } = clients::run(&self.target, connections, WARM_UP, length).await?;
        self.latencies_us.append(&mut latencies_us);
        self.rates.push(rate);
        Ok(rate)
    }

    fn report(&mut self) {
        self.latencies_us.sort_unstable();
        let at = |share: f64| f64::from(quantile(&self.latencies_us, share).unwrap_or(0)) / 1000.0;
        let rate = median(&mut self.rates);
        println!("{:<10} {rate:>8.0} requests/s   p50 {:.2} ms   p99 {:.2} ms", self.name, at(0.5), at(0.99));
    }
}

async fn compare(connections: u64, rounds: u64, length: Duration) -> Result<()> {
    let upstream = clients::upstream().await?;
    let baseline = baseline::start(upstream).await?;
    let guarded = guarded::start(upstream).await?;
    let mut sides =
        [Side::new("plain", baseline.address, &guarded.key), Side::new("portcullis", guarded.address, &guarded.key)];
    let [plain, ours] = &mut sides;
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (without, with) = if round % 2 == 0 {
            let without = plain.run(connections, length).await?;
            (without, ours.run(connections, length).await?)
        } else {
            let with = ours.run(connections, length).await?;
            (plain.run(connections, length).await?, with)
        };
        ratios.push(with / without);
        eprintln!("round {:>2}: plain {without:.0}/s, portcullis {with:.0}/s, ratio {:.3}", round + 1, with / without);
    }
    println!("{connections} connections, {rounds} rounds of {} s each", length.as_secs());
    sides.iter_mut().for_each(Side::report);
    let ratio = median(&mut ratios);
    let (low, high) = (quantile(&ratios, 0.25).unwrap_or(ratio), quantile(&ratios, 0.75).unwrap_or(ratio));
    println!("ratio of throughput: median {ratio:.3}, middle half {low:.3} to {high:.3}");
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    quantile(values, 0.5).unwrap_or(0.0)
}

/// The value that this share of sorted values does not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}
