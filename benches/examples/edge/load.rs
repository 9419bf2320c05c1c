//! One round of wrk.

use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::gates::Running;

/// Connections that wrk keeps busy.
pub(crate) const CONNECTIONS: u32 = 32;

/// Sends the requests of a file, one header field a line, in turn; 12 header fields each. At the end it tells the numbers.
const SCRIPT: &str = r#"
local requests, at = {}, 0
function init(arguments)
  for line in io.lines(arguments[1]) do
    local name, value = line:match("^(.-): (.*)$")
    local fields = {
      ["Host"] = "api.shop.example",
      ["Accept"] = "application/json",
      ["Accept-Encoding"] = "gzip, deflate, br",
      ["Accept-Language"] = "en-GB,en;q=0.9",
      ["Cache-Control"] = "no-cache",
      ["Cookie"] = "session=0123456789abcdef0123456789abcdef",
      ["Origin"] = "https://www.shop.example",
      ["Referer"] = "https://www.shop.example/account/rewards",
      ["Traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
      ["X-Request-Id"] = "7b0f6c1e-2f0d-4a57-9d0c-5f6f0b1f8a11",
    }
    fields[name] = value
    requests[#requests + 1] = wrk.format("GET", "/v1/endpoint-7/42?expand=lines", fields)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.status + e.connect + e.read + e.write + e.timeout))
end
"#;

/// What came of a round.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Half of the answers came within so many microseconds.
    pub(crate) p50_us: f64,
    /// All but one in a hundred.
    pub(crate) p99_us: f64,
    /// What Envoy, and who it asks, spent on processors for each. Neighbours on the machine change it least.
    pub(crate) cpu_us: f64,
}

impl Round {
    /// Sends requests for so long. Every answer but 200 is an error.
    pub(crate) fn run(running: &Running, length: Duration) -> Result<Round> {
        let script = running.folder().join("wrk.lua");
        fs::write(&script, SCRIPT)?;
        let mut wrk = Command::new("wrk");
        wrk.arg("--threads").arg("1").arg("--connections").arg(CONNECTIONS.to_string());
        wrk.arg("--duration").arg(format!("{}s", length.as_secs())).arg("--script").arg(&script);
        wrk.arg(format!("http://{}/", running.address()?)).arg("--").arg(running.requests());
        let before = running.cpu_time()?;
        let output =
            wrk.output().context("wrk is missing: install it, on Debian and Ubuntu with `apt-get install wrk`")?;
        let told = String::from_utf8(output.stdout)?;
        let result = told.lines().find_map(|line| line.strip_prefix("RESULT "));
        let result = result.with_context(|| format!("wrk says {told}{}", String::from_utf8_lossy(&output.stderr)))?;
        let numbers: Vec<f64> = result.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let &[requests, duration_us, p50_us, p99_us, errors] = numbers.as_slice() else {
            anyhow::bail!("wrk says {result}")
        };
        ensure!(errors == 0.0, "{errors} of {requests} requests failed: {told}");
        let cpu_us = (running.cpu_time()? - before).as_secs_f64() * 1e6 / requests;
        Ok(Round { rate: requests / duration_us * 1e6, p50_us, p99_us, cpu_us })
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:8.0} requests/s, p50 {:6.0} us, p99 {:6.0} us, {:5.1} us of CPU each",
            self.rate, self.p50_us, self.p99_us, self.cpu_us
        )
    }
}
