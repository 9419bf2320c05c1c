//! How the policy comes from a host, and decisions go back: what [`Puller`] and [`Sender`] say is carried out by calls of the proxy.

mod base;
mod pace;
mod puller;
mod sender;

use std::time::{Duration, Instant};

use portcullis_model::feed::{
    CURSOR_HEADER, ENFORCED_HEADER, MAX_NODE_BYTES, MODULE_HEADER, NODE_HEADER, NOW_HEADER, WORKER_HEADER, is_node_name,
};
use portcullis_model::id::Revision;
use proxy_wasm::types::LogLevel;

use crate::config::{ConfigError, FeedConfig, value};
use crate::feed::puller::{Puller, Reply};
use crate::feed::sender::{Sender, Sent};
use crate::host;
use crate::worker::{Source, Worker, module_digest};

/// How often the worker looks at what is to be done.
pub const TICK: Duration = Duration::from_millis(100);
/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// How long the host may take to store a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// An answer that is so late will not come: the proxy gives up before.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// Where a feed stands.
pub struct Feed {
    config: FeedConfig,
    /// The value of `authorization`. It is in no log and no error.
    authorization: String,
    node: String,
    worker: String,
    module: Option<String>,
    started: Instant,
    puller: Puller,
    sender: Sender,
    pulling: Option<Flight>,
    sending: Option<Flight>,
}

/// A call that is on its way.
struct Flight {
    token: u32,
    /// The worker in whose name it was made: the proxy drops its answer together with that.
    owner: usize,
    until_ms: u64,
    /// The longest body that is read.
    max_bytes: usize,
}

impl Feed {
    /// A feed of which nothing was asked yet.
    ///
    /// # Errors
    /// Where its key is not in the environment, or the node has no name.
    pub fn start(config: FeedConfig, node: Option<&str>) -> Result<Feed, ConfigError> {
        let key = host::variable(&config.key_env).ok_or_else(|| {
            let what = format!(
                "names the environment variable {}, which is not set: put the key of the feed there, and the variable into \
                 `vm_config.environment_variables.host_env_keys`",
                config.key_env
            );
            value("feed.key_env", what)
        })?;
        if !is_key(&key) {
            let what = format!(
                "names the environment variable {}, which has no key: 1 to {MAX_KEY_BYTES} visible characters",
                config.key_env
            );
            return Err(value("feed.key_env", what));
        }
        let node = node.map_or_else(|| host::node().map(|id| node_name(&id)), |node| Some(node.to_owned()));
        let node = node.filter(|node| is_node_name(node));
        let node = node.ok_or_else(|| value("node", "is needed, since the proxy has no `node.id`"))?;
        Ok(Feed {
            authorization: format!("ManagementKey-v1 {key}"),
            node,
            worker: format!("{:016x}", host::random()),
            module: module_digest(),
            started: Instant::now(),
            puller: Puller::new(config.name.clone(), host::random()),
            sender: Sender::new(host::random()),
            pulling: None,
            sending: None,
            config,
        })
    }

    /// What it was told.
    #[must_use]
    pub fn config(&self) -> &FeedConfig {
        &self.config
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Calls the host as the worker at `owner`.
    fn call(&self, call: &Call<'_>, enforced: Option<Revision>, owner: usize) -> Option<Flight> {
        let now = (host::unix_ms() / 1000).to_string();
        let enforced = enforced.map(|revision| revision.0.to_string());
        let mut headers = vec![
            (":method", call.method),
            (":path", call.path),
            (":authority", self.config.authority.as_str()),
            ("authorization", self.authorization.as_str()),
            (NODE_HEADER, self.node.as_str()),
            (WORKER_HEADER, self.worker.as_str()),
            (NOW_HEADER, now.as_str()),
        ];
        headers.extend(self.module.as_deref().map(|module| (MODULE_HEADER, module)));
        headers.extend(enforced.as_deref().map(|revision| (ENFORCED_HEADER, revision)));
        if call.body.is_some() {
            headers.push(("content-type", "application/octet-stream"));
        }
        let token = host::call(&self.config.cluster, headers, call.body, call.timeout)?;
        let most = u64::try_from((call.timeout + LOST_AFTER).as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.now_ms().saturating_add(most);
        Some(Flight { token, owner, until_ms, max_bytes: call.max_bytes })
    }

    /// Makes the calls that are due.
    fn go_on(&mut self, worker: &Worker) {
        let source = &worker.source;
        let owner = owner(worker);
        let enforced = enforced(source);
        let now_ms = self.now_ms();
        if let Some(get) = self.puller.ask(now_ms) {
            let call = Call {
                method: "GET",
                path: &get.path(&self.config.name),
                body: None,
                timeout: Duration::from_millis(get.timeout_ms()),
                max_bytes: get.max_bytes(),
            };
            self.pulling = self.call(&call, enforced, owner);
            if self.pulling.is_none() {
                self.puller.answered(Reply::default(), now_ms, &mut source.gate.borrow_mut());
            }
        }
        let batch = self.sender.next(now_ms, &mut source.journal.borrow_mut()).map(<[u8]>::to_vec);
        if let Some(batch) = batch {
            let call = Call {
                method: "POST",
                path: &format!("/v1/feeds/{}/decisions", self.config.name),
                body: Some(&batch),
                timeout: SEND_TIMEOUT,
                max_bytes: 0,
            };
            self.sending = self.call(&call, enforced, owner);
            if self.sending.is_none() {
                self.sender.answered(None, now_ms, &mut source.journal.borrow_mut());
            }
        }
        self.tell();
    }

    fn pulled(&mut self, source: &Source, reply: Reply<'_>) {
        self.pulling = None;
        let now_ms = self.now_ms();
        self.puller.answered(reply, now_ms, &mut source.gate.borrow_mut());
    }

    fn sent(&mut self, source: &Source, status: Option<u32>) {
        self.sending = None;
        let now_ms = self.now_ms();
        let sent = self.sender.answered(status, now_ms, &mut source.journal.borrow_mut());
        if let Sent::Refused(count) = sent {
            let text =
                format!("feed `{}`: the host refuses a batch of {count} decisions: they are lost", self.config.name);
            host::log(LogLevel::Error, &text);
        }
    }

    fn tell(&mut self) {
        for note in self.puller.notes() {
            host::log(note.level, &note.text);
        }
    }
}

struct Call<'a> {
    method: &'a str,
    path: &'a str,
    body: Option<&'a [u8]>,
    timeout: Duration,
    max_bytes: usize,
}

/// What tells one worker from another of the same feed.
fn owner(worker: &Worker) -> usize {
    std::ptr::from_ref(worker).addr()
}

/// The revision by which requests are decided.
fn enforced(source: &Source) -> Option<Revision> {
    let described = source.gate.borrow().describe();
    described.revision.filter(|_| described.confirmed.is_some())
}

fn is_key(text: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A name for a node whose own has characters that no name has.
fn node_name(id: &str) -> String {
    let fit = |character: char| if is_node_name(character.encode_utf8(&mut [0; 4])) { character } else { '-' };
    id.chars().map(fit).take(MAX_NODE_BYTES).collect()
}

/// The time for something has come.
pub fn on_tick(worker: &Worker) {
    let Some(feed) = &worker.source.feed else { return };
    let mut feed = feed.borrow_mut();
    let now_ms = feed.now_ms();
    let is_lost = |flight: &Option<Flight>| flight.as_ref().is_some_and(|flight| flight.until_ms < now_ms);
    if is_lost(&feed.pulling) {
        feed.pulled(&worker.source, Reply::default());
    }
    if is_lost(&feed.sending) {
        feed.sent(&worker.source, None);
    }
    feed.go_on(worker);
}

/// A call was answered, or failed: the status is then missing.
pub fn on_response(worker: &Worker, token: u32, body_size: usize) {
    let Some(feed) = &worker.source.feed else { return };
    let mut feed = feed.borrow_mut();
    let is = |flight: &Option<Flight>| flight.as_ref().is_some_and(|flight| flight.token == token);
    let status = host::answer_header(":status").and_then(|status| status.parse().ok());
    if is(&feed.pulling) {
        let most = feed.pulling.as_ref().map_or(0, |flight| flight.max_bytes);
        let body = if status == Some(200) && body_size <= most { host::answer_body(body_size) } else { None };
        let cursor = host::answer_header(CURSOR_HEADER);
        let reply = Reply { status, cursor: cursor.as_deref(), body: body.as_deref() };
        feed.pulled(&worker.source, reply);
    } else if is(&feed.sending) {
        feed.sent(&worker.source, status);
    }
    feed.go_on(worker);
}

/// A worker ends, and with it the calls that were made in its name. Another one of the same feed makes them again.
pub fn on_gone(worker: &Worker) {
    let Some(feed) = &worker.source.feed else { return };
    let mut feed = feed.borrow_mut();
    let gone = owner(worker);
    let is_gone = |flight: &Option<Flight>| flight.as_ref().is_some_and(|flight| flight.owner == gone);
    if is_gone(&feed.pulling) {
        feed.pulling = None;
        feed.puller.lost();
    }
    if is_gone(&feed.sending) {
        feed.sending = None;
        feed.sender.lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_bounded_and_visible() {
        assert!(is_key("k") && is_key(&"k".repeat(MAX_KEY_BYTES)));
        for bad in ["", "a b", "a\n", "ä", &"k".repeat(MAX_KEY_BYTES + 1)] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_node_of_any_id_has_a_name() {
        assert_eq!(node_name("sidecar~10.0.0.1~pod"), "sidecar-10.0.0.1-pod");
        assert_eq!(node_name("edge-1"), "edge-1");
        assert_eq!(node_name(&"ä".repeat(MAX_NODE_BYTES + 1)), "-".repeat(MAX_NODE_BYTES));
        assert!(!is_node_name(&node_name("")));
    }
}
