//! What one worker of the proxy holds under one configuration.
//!
//! A worker is one thread with a VM of its own. A new configuration is a new [`Worker`] in the same VM; what came over a feed
//! is a [`Source`], which all of them share that name the same feed, so that a new configuration decides at once.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use portcullis_eval::Gate;
use portcullis_model::head::MAX_HEAD_BYTES;
use portcullis_model::module;
use portcullis_model::time::UnixTime;

use crate::config::{Config, ConfigError, FeedConfig, Inline, Origin, value};
use crate::feed::Feed;
use crate::host;
use crate::journal::Journal;

/// How many buffers are kept between requests: one for a head, one for an answer.
const MAX_KEPT_BUFFERS: usize = 2;

/// The plugin in one worker under one configuration.
pub struct Worker {
    /// The configuration; of an inline policy the bytes are in the gate.
    pub config: Config,
    /// What decides.
    pub source: Rc<Source>,
    buffers: RefCell<Vec<Vec<u8>>>,
}

/// A policy, and what belongs to it: the feed that keeps it current, and the records that go back over that.
pub struct Source {
    /// What decides. Never borrowed across a call of the proxy.
    pub gate: RefCell<Gate>,
    /// What was decided.
    pub journal: RefCell<Journal>,
    /// The feed's state; nothing where the policy is in the configuration.
    pub feed: Option<RefCell<Feed>>,
}

thread_local! {
    /// The feeds of this VM, for as long as a configuration has them.
    static FEEDS: RefCell<Vec<(FeedConfig, Weak<Source>)>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    /// A worker that can decide, or will be able to once its feed has brought a policy.
    ///
    /// # Errors
    /// Where the policy in the configuration cannot be loaded.
    pub fn start(mut config: Config) -> Result<Worker, ConfigError> {
        let source = match &mut config.origin {
            Origin::Feed(feed) => Source::of_feed(feed, config.node.as_deref(), config.queue)?,
            Origin::Inline(inline) => Rc::new(Source::inline(std::mem::take(inline), config.queue)?),
        };
        Ok(Worker { config, source, buffers: RefCell::default() })
    }

    /// An empty buffer, which may have been used before.
    #[must_use]
    pub fn take_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a buffer for the next request.
    pub fn keep_buffer(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < MAX_KEPT_BUFFERS && buffer.capacity() <= MAX_HEAD_BYTES {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// Whether the policy stands in the configuration. It is current for as long as the proxy has that.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.source.feed.is_none()
    }
}

impl Source {
    fn inline(inline: Inline, queue: usize) -> Result<Source, ConfigError> {
        let mut gate = Gate::default();
        gate.load(inline.policy)?;
        for sheet in inline.key_sheets {
            gate.load_keys(&sheet).map_err(|error| value("key_sheets_base64", error.to_string()))?;
        }
        let journal = RefCell::new(Journal::new(host::random(), queue));
        Ok(Source { gate: RefCell::new(gate), journal, feed: None })
    }

    /// The feed of that name, which another configuration of this VM may have begun.
    fn of_feed(config: &FeedConfig, node: Option<&str>, queue: usize) -> Result<Rc<Source>, ConfigError> {
        FEEDS.with_borrow_mut(|feeds| {
            feeds.retain(|(_, source)| source.strong_count() > 0);
            let known = feeds.iter().find(|(known, _)| known == config).and_then(|(_, source)| source.upgrade());
            if let Some(source) = known {
                source.journal.borrow_mut().set_capacity(queue);
                return Ok(source);
            }
            let feed = Feed::start(config.clone(), node)?;
            let source = Rc::new(Source {
                gate: RefCell::default(),
                journal: RefCell::new(Journal::new(host::random(), queue)),
                feed: Some(RefCell::new(feed)),
            });
            feeds.push((config.clone(), Rc::downgrade(&source)));
            Ok(source)
        })
    }
}

/// The slot that whoever hands the module out puts its digest into.
static SLOT: [u8; module::EMPTY.len()] = module::EMPTY;

/// The digest of this module, in hex; nothing where nobody put it in.
#[must_use]
pub fn module_digest() -> Option<String> {
    // The compiler must not know what is in the slot: it is filled once it is done.
    module::read(std::hint::black_box(&SLOT)).map(|digest| base16ct::lower::encode_string(&digest))
}

/// The time, of the proxy.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::from_secs(host::unix_ms() / 1000).unwrap_or(UnixTime::MAX)
}
