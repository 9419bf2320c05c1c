//! The use cases of Portcullis: the life of credentials, and how a change becomes policy.
//!
//! A [`Control`] owns the store and feeds an engine. Every change is an [`Order`] that goes through one lane: authorized,
//! planned, checked by the gate, written down in one transaction with its audit entry and the next revision, applied on every
//! instance, answered. Reading goes through views, which prove that the caller may see what it asks for.
//!
//! | module | holds |
//! |---|---|
//! | [`command`] | every command, and who may give it |
//! | [`plan`] | what each command would write |
//! | [`change`] | the lane |
//! | [`compile`] | records to policy |
//! | [`base`] | the policy as a whole: at a start, and anew when deltas have gathered |
//! | [`view`] | reading |
//! | [`feed`] | the policy cut down to some services, as workers in proxies get it |
//! | [`error_log`], [`redact`] | failed calls: whose they are, and what is taken out of them |
//! | [`recorded`] | decisions and uses of keys, as a tenant sees them |
//! | [`import`] | keys of another system |
//! | [`idempotency`] | creations that may be repeated |
//! | [`catalogue`] | the admin API as a service, presets |
//! | [`token`] | access tokens: the keys that sign them, and their issue |
//! | [`secret`], [`seal`] | keys, and secrets at rest |
//! | [`signers`], [`sheets`] | who signs requests, and the keys of the day that are derived for them |
//! | [`master_key`], [`rekey`] | what secrets are sealed under |
//! | [`audit`] | the audit signed, checked, and kept short |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod audit;
mod base;
mod catalogue;
mod change;
mod command;
mod compile;
mod delivery;
mod error;
mod error_log;
mod feed;
mod idempotency;
mod import;
mod leaked;
mod master_key;
mod plan;
mod recorded;
mod recover;
mod redact;
mod rekey;
mod seal;
mod secret;
mod sheets;
mod signers;
mod token;
mod view;
mod witness;

pub use audit::{AuditRetention, AuditVerification, CheckpointState, PublicKey, has_signed};
pub use catalogue::{ADMIN_HOST, ADMIN_SERVICE, Preset, SYSTEM_TENANT, admin_endpoints, admin_service};
pub use change::{Done, Issued, Repetition};
pub use command::{
    Caller, Command, Confirmation, FeedEdit, GroupEdit, KeyRef, NewApplication, NewClient, NewFeed, NewGroup,
    NewManagementKey, NewService, NewTenant, NewTenantKey, NewUser, NewWorkspaceKey, Order, Rotation, RulesEdit,
    ServiceEdit, SettingsOf, Takeover, TenantEdit, TenantKeyEdit, UserEdit, key_name,
};
pub use error::{CommandError, Failed, FieldFault, Refused, StartError};
pub use error_log::ErrorLogRules;
pub use feed::{
    BASE_KEPT, Changes, FeedBase, FeedError, MAX_BASES_BYTES, MAX_BASES_OF_FEED, MAX_FEED_CALLS, MAX_FEED_DELTA_BYTES,
    MAX_FEED_DELTAS,
};
pub use idempotency::{Idempotency, IdempotencyKeyError, MAX_IDEMPOTENCY_KEY_BYTES, MAX_REMEMBERED, REMEMBERED_S};
pub use import::{Existing, ImportKeys, ImportPair, Imported, ImportedKey, ImportedSecret, MAX_IMPORT};
pub use master_key::{MasterKeyError, MasterKeySource};
pub use plan::feeds::MAX_FEEDS;
pub use plan::keys::MAX_OVERLAP_S;
pub use plan::own::{CODE_S, SESSION_S};
pub use plan::{KEY_NAME_CHARS, MAX_DESCRIPTION_CHARS, MAX_LIST, MAX_NAME_CHARS};
pub use portcullis_store as store;
pub use recorded::RecentClients;
pub use recover::OtherKeys;
pub use redact::{FailedCall, MAX_KEPT_BODY_BYTES, Redactor, WireBody, WireMessage};
pub use rekey::{RekeyError, Rekeyed, rekey};
pub use seal::SealError;
pub use token::{
    Asked, Claimed, Counted, IssuedToken, JWKS_MAX_AGE_S, JWKS_PATH, PUBLISHED_AHEAD_S, ProvenClient, TOKEN_PATH,
    TokenDesk, TokenError, TokenErrorCode, TokenKeyError, TokenKeyRole, TokenKeyView, TokenSettings, TokenWriter,
    Unanswered, is_issuer_url,
};

pub use view::{Expiration, KeyFilter, OwnView, SystemView, TenantView};
pub use witness::CheckpointLine;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use portcullis_engine::Engine;
use portcullis_model::credential::Seed;
use portcullis_model::id::Id;
use portcullis_model::source::Installation;
use portcullis_model::time::UnixTime;
use portcullis_store::{DecisionRecord, Delivery, Fresh, Gap, Store, StoreError};
use rand::Rng as _;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, watch};

use crate::audit::{Seal, Unlocked, unlock};
use crate::change::Lane;
use crate::feed::Feeds;
use crate::idempotency::InProgress;
use crate::seal::Sealer;
use crate::sheets::Sheets;
use crate::token::Tokens;
use crate::witness::Witness;

/// The database within the data folder.
pub const DATABASE: &str = "portcullis.db";
/// The master key within the data folder. Whoever backs up the database keeps it elsewhere.
pub const MASTER_KEY: &str = "master.key";

/// The most orders that wait for the lane at once. At a thousand changes a second the last of them waits a second.
const MAX_WAITING: usize = 1024;

/// Where each service's requests go.
#[derive(Default)]
pub struct Deliveries {
    /// The services with where their requests go.
    pub services: BTreeMap<Id, Delivery>,
    /// Those that accept signatures of the Antavo API's clients, which expect its form of errors.
    pub antavo: BTreeSet<Id>,
}

/// Takes note of where requests go, each time that changes and before the change is answered.
pub type Deliver = Box<dyn Fn(&Deliveries) + Send + Sync>;

/// The installation: what is stored, and the policy that is in force.
pub struct Control {
    store: Store,
    /// Whose threads may wait for the store: the one that this was opened on.
    runtime: Handle,
    engine: Arc<Engine>,
    sealer: Arc<Sealer>,
    /// Held while day keys are derived, and by changes of signers until they are in force.
    sheets: Mutex<Sheets>,
    seal: Seal,
    tokens: Tokens,
    feeds: Feeds,
    witness: Witness,
    clock: fn() -> UnixTime,
    lane: Mutex<Lane>,
    /// Held while a base is compiled: two at once would need the memory twice, and the older would be of no use.
    loading: Mutex<()>,
    enforced: watch::Sender<u64>,
    error_log: watch::Sender<Arc<ErrorLogRules>>,
    waiting: Semaphore,
    in_progress: InProgress,
    deliver: Deliver,
    stopped: watch::Sender<Option<&'static str>>,
}

impl Control {
    /// Opens the installation in `data`, made there where it is missing, with the master key in that folder, and brings its
    /// policy in force.
    ///
    /// # Errors
    /// Any [`StartError`]; nothing is in force then.
    pub async fn open(
        data: &Path,
        engine: Arc<Engine>,
        clock: fn() -> UnixTime,
        deliver: Deliver,
    ) -> Result<Arc<Control>, StartError> {
        let source = MasterKeySource::File(data.join(MASTER_KEY));
        Control::open_under(&source, data, engine, clock, deliver, TokenSettings::default()).await
    }

    /// The same, with the master key from elsewhere, and tokens as the configuration has them.
    ///
    /// # Errors
    /// Any [`StartError`]; nothing is in force then.
    pub async fn open_under(
        source: &MasterKeySource,
        data: &Path,
        engine: Arc<Engine>,
        clock: fn() -> UnixTime,
        deliver: Deliver,
        tokens: TokenSettings,
    ) -> Result<Arc<Control>, StartError> {
        let mut seed = [0; 16];
        rand::rng().fill_bytes(&mut seed);
        let fresh = Fresh { seed: Seed(seed), at: clock(), installation: Installation::default() };
        let store = Store::open(&data.join(DATABASE), &fresh).await?;
        // After the store, whose lock keeps a second process from making another key.
        let Unlocked { sealer, seal, .. } = unlock(&store, source).await?;
        let witness = Witness::default();
        if let Some(checkpoint) = store.checkpoint().await? {
            witness.take_note(&checkpoint, &seal.public);
        }
        let lane = Lane::read(&store).await?;
        deliver(&lane.deliveries);
        let error_log = watch::Sender::new(ErrorLogRules::read(&store, &lane.catalogue).await?);
        let tokens = Tokens::new(tokens, &store);
        let feeds = Feeds::new(feed::hub(&store, &lane).await?);
        let control = Arc::new(Control {
            store,
            runtime: Handle::current(),
            engine,
            sealer: Arc::new(sealer),
            sheets: Mutex::default(),
            seal,
            tokens,
            feeds,
            witness,
            clock,
            enforced: watch::Sender::new(lane.revision.0),
            error_log,
            lane: Mutex::new(lane),
            loading: Mutex::new(()),
            waiting: Semaphore::new(MAX_WAITING),
            in_progress: InProgress::default(),
            deliver,
            stopped: watch::Sender::new(None),
        });
        control.keep_sheets().await?;
        control.load().await?;
        let mut lane = control.lane.lock().await;
        control.found(&mut lane).await?;
        control.found_token_keys(&mut lane).await?;
        drop(lane);
        control.keep_checkpoint().await;
        Ok(control)
    }

    /// Asks the store for a task that must not wait for the disk: on a thread that may.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        asking: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.runtime.spawn(asking).await.map_err(|lost| StoreError::Database(Box::new(lost)))?
    }

    /// Tells the engine that the policy is current: this process alone writes to the store, and has applied all of it.
    pub fn confirm(&self) {
        self.engine.confirm((self.clock)());
        self.feeds.prune();
    }

    /// The revision that every instance decides by, as it changes.
    #[must_use]
    pub fn enforced(&self) -> watch::Receiver<u64> {
        self.enforced.subscribe()
    }

    /// Why this process must end, once it must: it could not bring in force what is written down.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<&'static str>> {
        self.stopped.subscribe()
    }

    /// Keeps decisions. Whoever asks may be on a thread that carries requests.
    ///
    /// # Errors
    /// Where the store does not take them; none of them is kept then.
    pub async fn keep_decisions(&self, records: &Arc<[DecisionRecord]>, gaps: &[Gap]) -> Result<(), StoreError> {
        let (store, records, gaps) = (self.store.clone(), Arc::clone(records), gaps.to_vec());
        self.aside(async move { store.append_decisions(&records, &gaps).await }).await
    }

    /// Removes the oldest decisions, down to a size.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn prune_decisions(&self, keep_bytes: u64) -> Result<(), StoreError> {
        self.store.prune_decisions(keep_bytes).await
    }

    /// Signs the audit a last time and closes the store. What is in force stays in force in the engine.
    pub async fn close(&self) {
        // No change may be half-way.
        let _lane = self.lane.lock().await;
        self.keep_checkpoint().await;
        self.store.clone().close().await;
    }

    fn stop(&self, why: &'static str) {
        tracing::error!(why, "stopping");
        self.stopped.send_replace(Some(why));
    }
}

/// The tenant whose keys administer the installation.
#[expect(clippy::expect_used, reason = "a constant that is an id; a test of the catalogue holds it to that")]
fn system_tenant() -> Id {
    SYSTEM_TENANT.parse().expect("the system tenant's name is an id")
}
