//! What is counted, for Prometheus.
//!
//! On the path of a request there are only counters that were made beforehand: no lock, no map, no allocation.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use portcullis_model::verdict::Reason;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use portcullis_tower::enforce::{Cause, HostFault};

type Labels = [(&'static str, &'static str); 1];

/// Every measure. Clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    decisions: Arc<Decisions>,
    decide: Histogram,
    responses: Arc<[Counter; CLASSES.len()]>,
    upstream_failures: Arc<[Counter; UpstreamFailure::ALL.len()]>,
    upstream_response: Histogram,
    refused_heads: Counter,
    connections: Gauge<i64, AtomicI64>,
    tunnels: Gauge<i64, AtomicI64>,
    cut_streams: Counter,
    journal_gaps: Counter,
    error_log_dropped: Counter,
    signed_bodies: Counter,
    signed_body_bytes: Gauge<i64, AtomicI64>,
    strangers_refused: Counter,
    replays_refused: Counter,
    replay_entries: Gauge<i64, AtomicI64>,
    nodes: Gauge<i64, AtomicI64>,
    nodes_lag: Gauge<i64, AtomicI64>,
    revision: Gauge<i64, AtomicI64>,
    confirmed: Gauge<i64, AtomicI64>,
}

/// The classes of a response's status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A decision takes microseconds: from 1 us, doubling, to 1 ms.
const DECIDE_BUCKETS: [f64; 11] = [1e-6, 2e-6, 4e-6, 8e-6, 1.6e-5, 3.2e-5, 6.4e-5, 1.28e-4, 2.56e-4, 5.12e-4, 1.024e-3];
/// An upstream takes milliseconds to seconds.
const UPSTREAM_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// One counter for each reason there is.
struct Decisions {
    allow: Counter,
    /// By the reason's number, where it is below [`FIRST_HOST_NUMBER`].
    gate: Vec<Counter>,
    host: Vec<Counter>,
}

/// How an upstream can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UpstreamFailure {
    /// No connection could be made.
    Connect,
    /// No connection, or no head of a response, came in time.
    Timeout,
    /// The connection broke, or what came was no HTTP.
    Broken,
    /// The response broke off or stood still after its head.
    Interrupted,
}

impl UpstreamFailure {
    const ALL: [UpstreamFailure; 4] =
        [UpstreamFailure::Connect, UpstreamFailure::Timeout, UpstreamFailure::Broken, UpstreamFailure::Interrupted];

    fn name(self) -> &'static str {
        match self {
            UpstreamFailure::Connect => "connect",
            UpstreamFailure::Timeout => "timeout",
            UpstreamFailure::Broken => "broken",
            UpstreamFailure::Interrupted => "interrupted",
        }
    }
}

impl Metrics {
    /// Makes and registers every measure.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::<i64, AtomicI64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let decisions = Decisions::new(&mut registry);
        let decide = Histogram::new(&DECIDE_BUCKETS);
        registry.register_with_unit("decide", "How long decisions took", Unit::Seconds, decide.clone());
        let responses = Family::<Labels, Counter>::default();
        registry.register("responses", "Responses sent to clients, by class of status", responses.clone());
        let failures = Family::<Labels, Counter>::default();
        registry.register("upstream_failures", "Requests that an upstream failed, by kind", failures.clone());
        let upstream_response = Histogram::new(&UPSTREAM_BUCKETS);
        let help = "How long upstreams took until the head of a response";
        registry.register_with_unit("upstream_response", help, Unit::Seconds, upstream_response.clone());
        let made = |family: &Family<Labels, Counter>, label, name| family.get_or_create_owned(&[(label, name)]);
        Metrics {
            decisions: Arc::new(decisions),
            decide,
            responses: Arc::new(CLASSES.map(|class| made(&responses, "class", class))),
            upstream_failures: Arc::new(UpstreamFailure::ALL.map(|kind| made(&failures, "kind", kind.name()))),
            upstream_response,
            refused_heads: counter(
                &mut registry,
                "refused_heads",
                "Connections ended because a head was no HTTP, too large or too slow",
            ),
            connections: gauge(&mut registry, "connections", "Connections of clients that are open"),
            tunnels: gauge(&mut registry, "tunnels", "Upgraded connections that are open"),
            cut_streams: counter(
                &mut registry,
                "cut_streams",
                "Upgraded connections and bodies ended because they are no longer allowed",
            ),
            journal_gaps: counter(
                &mut registry,
                "journal_gaps",
                "Decisions whose record was not kept because the queue was full",
            ),
            error_log_dropped: counter(
                &mut registry,
                "error_log_dropped",
                "Failed calls that the error log did not take because there were too many or the store failed",
            ),
            signed_bodies: counter(
                &mut registry,
                "signed_bodies",
                "Bodies of requests that were read whole because a signature is over them",
            ),
            signed_body_bytes: gauge(
                &mut registry,
                "signed_body_bytes",
                "Bytes of such bodies that are held at present",
            ),
            strangers_refused: counter(
                &mut registry,
                "authz_strangers_refused",
                "Checks of proxies that were refused because they did not have the shared secret",
            ),
            replays_refused: counter(
                &mut registry,
                "replays_refused",
                "Signed requests that were refused because they were accepted before",
            ),
            replay_entries: gauge(
                &mut registry,
                "replay_entries",
                "Signed requests that are remembered because they are accepted once",
            ),
            nodes: gauge(&mut registry, "nodes", "Workers of proxies that are attached to a feed and live"),
            nodes_lag: gauge(
                &mut registry,
                "nodes_lag_revisions",
                "How many revisions the live worker that is furthest behind is behind",
            ),
            revision: gauge(&mut registry, "policy_revision", "The revision of the policy in force"),
            confirmed: gauge(
                &mut registry,
                "policy_confirmed_timestamp_seconds",
                "When the policy was last known to be current",
            ),
            registry: Arc::new(registry),
        }
    }

    /// All measures in the text form of OpenMetrics.
    pub(crate) fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail, and no metric here refuses to be written.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    /// A request was allowed.
    pub(crate) fn allowed(&self) {
        self.decisions.allow.inc();
    }

    /// A request was denied.
    pub(crate) fn denied(&self, cause: Cause) {
        let counter = match cause {
            Cause::Gate(reason) => self.decisions.gate.get(usize::from(reason.number())),
            Cause::Host(fault) => {
                HostFault::ALL.iter().position(|known| *known == fault).and_then(|at| self.decisions.host.get(at))
            }
        };
        if let Some(counter) = counter {
            counter.inc();
        }
    }

    /// How long a decision took.
    pub(crate) fn decided(&self, since: Instant) {
        self.decided_in(since.elapsed());
    }

    /// How long a decision took.
    pub(crate) fn decided_in(&self, took: Duration) {
        self.decide.observe(took);
    }

    /// A check did not have the shared secret.
    pub(crate) fn stranger_refused(&self) {
        self.strangers_refused.inc();
    }

    /// A response goes to a client.
    pub(crate) fn responded(&self, status: StatusCode) {
        if let Some(counter) = self.responses.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }

    /// An upstream failed a request.
    pub(crate) fn upstream_failed(&self, kind: UpstreamFailure) {
        let at = UpstreamFailure::ALL.iter().position(|known| *known == kind);
        if let Some(counter) = at.and_then(|at| self.upstream_failures.get(at)) {
            counter.inc();
        }
    }

    /// An upstream answered.
    pub(crate) fn upstream_responded(&self, since: Instant) {
        self.upstream_response.observe(since.elapsed());
    }

    /// A connection ended because of its head.
    pub(crate) fn head_refused(&self) {
        self.refused_heads.inc();
    }

    /// An upgraded connection or a body was ended because it is no longer allowed.
    pub(crate) fn stream_cut(&self) {
        self.cut_streams.inc();
    }

    /// The record of a decision was not kept.
    pub(crate) fn journal_gap(&self) {
        self.journal_gaps.inc();
    }

    /// A failed call is not in the error log.
    pub(crate) fn failure_dropped(&self) {
        self.error_log_dropped.inc();
    }

    /// Failed calls are not in the error log.
    pub(crate) fn failures_dropped(&self, count: usize) {
        self.error_log_dropped.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A body was read whole for a signature.
    pub(crate) fn signed_body(&self) {
        self.signed_bodies.inc();
    }

    /// So many bytes of such bodies are held.
    pub(crate) fn signed_bodies_hold(&self, bytes: u64) {
        self.signed_body_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A request was refused because it was accepted before.
    pub(crate) fn replay_refused(&self) {
        self.replays_refused.inc();
    }

    /// So many signed requests are remembered.
    pub(crate) fn replays_are(&self, entries: usize) {
        self.replay_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// So many workers of proxies are live, and the furthest behind is so many revisions behind.
    pub(crate) fn nodes(&self, live: usize, lag: u64) {
        self.nodes.set(i64::try_from(live).unwrap_or(i64::MAX));
        self.nodes_lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    }

    /// Counts a connection until what is given back is dropped.
    pub(crate) fn connection(&self) -> Open {
        Open::new(&self.connections)
    }

    /// Counts an upgraded connection until what is given back is dropped.
    pub(crate) fn tunnel(&self) -> Open {
        Open::new(&self.tunnels)
    }

    /// The policy in force, and when it was last known to be current, in seconds since 1970.
    pub(crate) fn policy(&self, revision: u64, confirmed_s: u64) {
        self.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
        self.confirmed.set(i64::try_from(confirmed_s).unwrap_or(i64::MAX));
    }
}

/// One of a number of open things.
pub(crate) struct Open(Gauge<i64, AtomicI64>);

impl Open {
    fn new(gauge: &Gauge<i64, AtomicI64>) -> Self {
        gauge.inc();
        Open(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Decisions {
    fn new(registry: &mut Registry) -> Self {
        let family = Family::<[(&'static str, &'static str); 2], Counter>::default();
        registry.register("decisions", "Decisions, by verdict and reason", family.clone());
        let denied = |reason| family.get_or_create_owned(&[("verdict", "deny"), ("reason", reason)]);
        let highest = Reason::ALL.iter().map(|reason| reason.number()).max().unwrap_or_default();
        // Numbers between reasons have a counter that nobody sees.
        let gate =
            (0..=highest).map(|number| Reason::from_number(number).map(|r| denied(r.name())).unwrap_or_default());
        Decisions {
            allow: family.get_or_create_owned(&[("verdict", "allow"), ("reason", "")]),
            gate: gate.collect(),
            host: HostFault::ALL.iter().map(|fault| denied(fault.name())).collect(),
        }
    }
}

/// A histogram of durations without a lock: an observation may be seen in its bucket a moment before it is in the sum.
#[derive(Clone, Debug)]
struct Histogram {
    inner: Arc<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64; BUCKETS],
    /// One more for what is beyond the last bound.
    counts: [AtomicU64; BUCKETS + 1],
    sum_ns: AtomicU64,
}

const BUCKETS: usize = 11;

impl Histogram {
    fn new(bounds: &'static [f64; BUCKETS]) -> Self {
        let counts = array::from_fn(|_| AtomicU64::new(0));
        Histogram { inner: Arc::new(Buckets { bounds, counts, sum_ns: AtomicU64::new(0) }) }
    }

    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.inner.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS);
        if let Some(count) = self.inner.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.sum_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = self.inner.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.inner.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.inner.sum_ns.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told() {
        let metrics = Metrics::new();
        metrics.allowed();
        metrics.denied(Cause::Gate(Reason::CredentialRevoked));
        metrics.denied(Cause::Gate(Reason::ApplicationNotAllowed));
        metrics.denied(Cause::Host(HostFault::Obligation));
        metrics.responded(StatusCode::NO_CONTENT);
        metrics.responded(StatusCode::BAD_GATEWAY);
        metrics.upstream_failed(UpstreamFailure::Interrupted);
        metrics.policy(7, 1_800_000_000);
        let open = metrics.connection();
        let text = metrics.encode();
        for line in [
            "portcullis_decisions_total{verdict=\"allow\",reason=\"\"} 1",
            "portcullis_decisions_total{verdict=\"deny\",reason=\"credential-revoked\"} 1",
            "portcullis_decisions_total{verdict=\"deny\",reason=\"credential-unknown\"} 0",
            "portcullis_decisions_total{verdict=\"deny\",reason=\"application-not-allowed\"} 1",
            "portcullis_decisions_total{verdict=\"deny\",reason=\"host-obligation\"} 1",
            "portcullis_responses_total{class=\"2xx\"} 1",
            "portcullis_responses_total{class=\"5xx\"} 1",
            "portcullis_upstream_failures_total{kind=\"interrupted\"} 1",
            "portcullis_policy_revision 7",
            "portcullis_connections 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        drop(open);
        assert!(metrics.encode().contains("portcullis_connections 0\n"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_duration_is_counted_in_its_bucket() {
        let histogram = Histogram::new(&DECIDE_BUCKETS);
        histogram.observe(Duration::from_micros(1));
        histogram.observe(Duration::from_micros(3));
        histogram.observe(Duration::from_secs(1));
        let counts: Vec<u64> = histogram.inner.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let mut registry = Registry::default();
        registry.register("h", "help", histogram);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        for line in ["h_count 3", "h_bucket{le=\"+Inf\"} 3", "h_sum 1.000004", "h_bucket{le=\"0.000004\"} 2"] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
