//! What it was measured on, and with.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

/// One sentence: processor, cores, memory, compiler, and the versions of what is compared.
pub(crate) fn describe() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let sha = if processors.contains(" sha_ni") { "with SHA-NI" } else { "without SHA-NI" };
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("a size of memory")?;
    let memory: u64 = memory.trim().trim_end_matches(" kB").parse()?;
    let cores = std::thread::available_parallelism()?;
    let compiler = Command::new("rustc").arg("--version").output()?;
    let compiler = String::from_utf8(compiler.stdout)?;
    let compiler = compiler.split(' ').nth(1).unwrap_or_default();
    let lock = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let versions: Vec<_> = lock
            .split("\n[[package]]\n")
            .filter_map(|package| {
                let rest = package.strip_prefix(&format!("name = \"{name}\"\nversion = \""))?;
                Some(rest.split('"').next().unwrap_or_default())
            })
            .collect();
        format!("{name} {}", versions.join(" and "))
    };
    let versions = ["wasmtime", "cedar-policy", "regorus", "casbin", "criterion"].map(version).join(", ");
    Ok(format!(
        "{cores} cores of an {model} {sha}, {} GiB of memory; Rust {compiler}, {versions}",
        memory.div_ceil(1 << 20)
    ))
}
