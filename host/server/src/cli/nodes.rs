//! `portcullis nodes`: who decides by which revision. And the receipts of a revocation.

use std::fmt::Write as _;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use super::table::{self, Column, at};
use super::{Common, Session};
use crate::Exit;
use crate::client::{Call, path};
use crate::error::Error;

const HELP: &str = "\
Every worker of a proxy that reads a feed, and this host itself: the revision by which each decides, how many revisions \
and how long it is behind, and whether it is live: a call of it is open, or was ten seconds ago or less. A worker without a \
revision has no policy and denies everything. One that has been silent for ten minutes is forgotten.

Examples:
  portcullis nodes
  portcullis nodes --json";

/// Nodes: the workers that are attached, and by which revision each decides
#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
}

/// How many hex digits of a module's digest a table shows: enough to tell two apart.
const MODULE_DIGITS: usize = 12;

const COLUMNS: &[Column] = &[
    Column("node", |node| at(node, "/node")),
    Column("worker", |node| at(node, "/worker")),
    Column("feed", |node| at(node, "/feed")),
    Column("address", |node| at(node, "/address")),
    Column("module", module),
    Column("revision", |node| at(node, "/revision")),
    Column("lag", |node| at(node, "/lag")),
    Column("behind", |node| milliseconds(node, "/behind_ms")),
    Column("clock", clock),
    Column("last seen", |node| at(node, "/last_seen")),
    Column("live", |node| at(node, "/live")),
];

const RECEIPTS: &[Column] = &[
    Column("node", |node| at(node, "/node")),
    Column("worker", |node| at(node, "/worker")),
    Column("feed", |node| at(node, "/feed")),
    Column("revision", |node| at(node, "/revision")),
    Column("latency", |node| milliseconds(node, "/latency_ms")),
    Column("enforced", enforced),
];

/// The beginning of the digest, and whose module it is.
fn module(node: &Value) -> Vec<String> {
    let short = |digest: String| digest.chars().take(MODULE_DIGITS).collect::<String>();
    let whose = match node.pointer("/same_module").and_then(Value::as_bool) {
        Some(true) => " (this host's)",
        Some(false) => " (another)",
        None => "",
    };
    at(node, "/module").into_iter().map(|digest| short(digest) + whose).collect()
}

fn milliseconds(node: &Value, pointer: &str) -> Vec<String> {
    let time = |ms: u64| if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1000) };
    node.pointer(pointer).and_then(Value::as_u64).map(time).into_iter().collect()
}

/// The difference of clocks, where there is one.
fn clock(node: &Value) -> Vec<String> {
    let seconds = node.pointer("/clock_difference_s").and_then(Value::as_i64).unwrap_or(0);
    vec![if seconds == 0 { "0 s".to_owned() } else { format!("{seconds:+} s") }]
}

fn enforced(node: &Value) -> Vec<String> {
    let is_gone = node.pointer("/gone").and_then(Value::as_bool).unwrap_or(false);
    let reached = node.pointer("/latency_ms").is_some_and(Value::is_u64);
    vec![
        if is_gone {
            "gone"
        } else if reached {
            "yes"
        } else {
            "not yet"
        }
        .to_owned(),
    ]
}

/// Runs the command.
///
/// # Errors
/// Where it could not be done, or the server refused.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    Session::open(&args.common)?.list(path(&["nodes"]), COLUMNS, "no nodes")
}

/// The longest that a server waits for receipts, in seconds.
const MAX_WAIT_S: u64 = 60;

/// Whom a revocation waits for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    /// Every live worker of a proxy
    All,
}

/// Waiting for receipts.
#[derive(clap::Args)]
pub(super) struct Waiting {
    /// Wait until every live worker of a proxy decides by it, and show when each did; exit 1 where one does not
    #[arg(long, value_name = "FOR")]
    wait: Option<WaitFor>,
    /// How long to wait for that, in seconds, 1 to 60 [default: 10]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    wait_timeout: Option<u32>,
}

impl Waiting {
    /// The call, which is answered once it was waited for.
    pub(super) fn on(&self, call: Call) -> Call {
        let Some(WaitFor::All) = self.wait else { return call };
        let call = call.with("wait", "all").longer(Duration::from_secs(MAX_WAIT_S));
        self.wait_timeout.into_iter().fold(call, |call, seconds| call.with("wait_timeout_s", seconds))
    }
}

/// What an answer says of receipts, for people; nothing where none were asked for.
pub(super) fn receipts(answer: &Value) -> String {
    let Some(receipts) = answer.pointer("/receipts") else { return String::new() };
    let nodes = receipts.pointer("/nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let revision = at(receipts, "/revision").concat();
    let mut text = String::new();
    let done = nodes.iter().filter(|node| enforced(node) == ["yes"]).count();
    // Writing to a string cannot fail.
    let _ = match (nodes.len(), exit(answer)) {
        (0, _) => writeln!(text, "\nno worker of a proxy is attached: this host alone decides, by revision {revision}"),
        (1, Exit::Success) => writeln!(text, "\nthe one worker that is attached decides by revision {revision}"),
        (all, Exit::Success) => writeln!(text, "\nall {all} workers decide by revision {revision}"),
        (all, _) => writeln!(
            text,
            "\n{done} of {all} workers decide by revision {revision}; it stands on this host, and the others deny by it as \
             soon as they hear of it"
        ),
    };
    if !nodes.is_empty() {
        text.push_str(&table::list(RECEIPTS, nodes));
    }
    text
}

/// How a command ends that has waited: not well where somebody does not decide by it.
pub(super) fn exit(answer: &Value) -> Exit {
    match answer.pointer("/receipts/complete") {
        None | Some(Value::Bool(true)) => Exit::Success,
        Some(_) => Exit::Refused,
    }
}
