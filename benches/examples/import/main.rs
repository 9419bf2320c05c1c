//! Keys of another system, a hundred thousand and a million of them: how long they take, what a page of them costs, how long
//! a start takes with them, and how much memory all of that needs.
//!
//! ```sh
//! cargo build --release -p portcullis && cargo run --release -p portcullis-benches --example import
//! cargo run --release -p portcullis-benches --example import -- 20000 50000   # keys at first, keys at last
//! ```
//!
//! The real server, set up with the real command line. It needs about a kilobyte of disk for each key.

mod server;

use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::server::{Server, Site};

/// How many keys are imported first, and how many there are at last, where nothing is said.
const USUAL: [u64; 2] = [100_000, 1_000_000];
/// How often each page is asked for.
const ROUNDS: u32 = 40;
/// The records on a page: the most there can be.
const PAGE: u64 = 200;

fn main() -> Result<()> {
    let mut numbers = USUAL;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.len() > numbers.len() {
        bail!("give at most how many keys at first, and how many at last");
    }
    for (number, argument) in numbers.iter_mut().zip(&arguments) {
        *number = argument.parse().with_context(|| format!("`{argument}` is no number"))?;
    }
    let [first, all] = numbers;
    let site = Site::new()?;
    let mut server = site.start()?;
    println!("resident before: {} MB", server.memory_mb("VmRSS")?);
    furnish(&site, &server)?;

    import(&site, &server, 0..first)?;
    println!("  peak of memory: {} MB", server.memory_mb("VmHWM")?);
    import(&site, &server, first..all.max(first))?;
    println!("  peak of memory: {} MB", server.memory_mb("VmHWM")?);
    let count = all.max(first);
    pages(&server, count)?;
    creation(&server)?;
    decided(&server, count)?;
    audit(&server, count)?;

    server.stop()?;
    let began = Instant::now();
    let mut server = site.start()?;
    println!("started with {count} keys: {:.1?}, peak of memory {} MB", began.elapsed(), server.memory_mb("VmHWM")?);
    decided(&server, count)?;
    server.stop()
}

fn furnish(site: &Site, server: &Server) -> Result<()> {
    for arguments in [
        "tenant create acme --name Acme --key-limit 10000000",
        "service create shop --host api.shop.example --upstream http://127.0.0.1:9",
        "endpoint put shop/events --path /events",
        "group create acme all --permit shop/events",
    ] {
        site.run(server, &arguments.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

fn key(number: u64) -> String {
    format!("another-system-{number:010}")
}

fn import(site: &Site, server: &Server, numbers: std::ops::Range<u64>) -> Result<()> {
    let count = numbers.end - numbers.start;
    if count == 0 {
        return Ok(());
    }
    let path = site.path("keys.jsonl");
    write(&path, numbers)?;
    let began = Instant::now();
    let file = path.to_str().context("a path of text")?;
    site.run(server, &["key", "import", "--tenant", "acme", "--kind", "tenant", "--group", "all", file])?;
    let took = began.elapsed();
    println!("imported {count} keys: {took:.1?}, {:.0} a second", count as f64 / took.as_secs_f64());
    Ok(())
}

fn write(path: &Path, numbers: std::ops::Range<u64>) -> Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    for number in numbers {
        let digest = Sha256::digest(key(number).as_bytes());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(file, r#"{{"sha256":"{hex}","name":"Key number {number}","external_id":"{number}"}}"#)?;
    }
    Ok(file.flush()?)
}

/// Pages from all over the list, each on a connection of its own.
fn pages(server: &Server, count: u64) -> Result<()> {
    for state in ["", "&state=active"] {
        let mut took: Vec<Duration> = Vec::new();
        for round in 0..u64::from(ROUNDS) {
            let after = count.saturating_sub(PAGE) * round / u64::from(ROUNDS - 1);
            let began = Instant::now();
            let page = server.get(&format!("/v1/tenants/acme/tenant-keys?after={after}&limit={PAGE}{state}"))?;
            took.push(began.elapsed());
            let items = page.get("items").and_then(Value::as_array).context("a list")?;
            ensure!(items.len() as u64 == PAGE.min(count), "the page has {} keys", items.len());
        }
        took.sort_unstable();
        let median = took.get(took.len() / 2).context("rounds")?;
        let longest = took.last().context("rounds")?;
        println!("page of {PAGE} among {count}{state}: median {median:.1?}, longest {longest:.1?}");
    }
    Ok(())
}

fn creation(server: &Server) -> Result<()> {
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        server.post("/v1/tenants/acme/tenant-keys", r#"{"name":"One more","group":"all"}"#)?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("one key made among them: median {:.1?}", took.get(took.len() / 2).context("rounds")?);
    Ok(())
}

/// The first and the last key pass the gate, an unknown one does not. There is no upstream, so who passes gets a 502.
fn decided(server: &Server, count: u64) -> Result<()> {
    for (number, status) in [(0, 502), (count - 1, 502), (count, 401)] {
        let found = server.events(&key(number))?;
        ensure!(found == status, "key {number} got {found}");
    }
    Ok(())
}

fn audit(server: &Server, count: u64) -> Result<()> {
    let began = Instant::now();
    let report = server.get("/v1/audit/verification")?;
    ensure!(report.get("intact") == Some(&Value::Bool(true)), "{report}");
    let chains = report.get("chains").and_then(Value::as_array).context("chains")?;
    let rows = chains.iter().find(|chain| chain.get("tenant").is_some_and(|tenant| tenant == "acme"));
    let rows = rows.and_then(|chain| chain.get("rows")?.as_u64()).context("the tenant's chain")?;
    ensure!(rows > count, "{rows} entries for {count} keys");
    println!("{rows} entries of the audit verified: {:.1?}", began.elapsed());
    Ok(())
}
