//! The lane: one change at a time, from a command to a policy that every instance decides by.
//!
//! authorize -> plan -> compile the delta and check it, no transaction open -> one transaction: rows, audit entry, revision ->
//! apply on every instance in rotation -> answer. What is refused is an audit entry too.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_engine::LoadError;
use portcullis_model::credential::Kind;
use portcullis_model::id::{Id, Revision};
use portcullis_model::policy;
use portcullis_model::source::{Installation, Service};
use portcullis_model::time::UnixTime;
use portcullis_store::{
    Actor, Change, CredentialRecord, Entry, Outcome, Remember, ServiceRecord, Store, StoreError, Stored, Write,
};
use secrecy::SecretString;
use serde_json::Value;

use crate::command::{Command, Needs, NewTenant, Order};
use crate::compile::{self, Catalogue};
use crate::error::{CommandError, Failed, Refused};
use crate::error_log::ErrorLogRules;
use crate::feed::{self, InForce};
use crate::import::Imported;
use crate::signers::Signers;
use crate::{Control, Deliveries, idempotency, plan};

/// What the lane knows and whoever holds it may change.
pub(crate) struct Lane {
    pub(crate) revision: Revision,
    pub(crate) catalogue: Catalogue,
    pub(crate) deliveries: Deliveries,
    /// The profiles of the Antavo API's clients.
    antavo_profiles: BTreeSet<Id>,
    /// Who signs requests.
    pub(crate) signers: Signers,
    /// The number of the newest checkpoint of the audit that a revision has carried.
    pub(crate) carried: u64,
}

impl Lane {
    /// The lane as the store has it.
    pub(crate) async fn read(store: &Store) -> Result<Lane, StoreError> {
        // The revision first: should the rest be newer, the next change is refused rather than made from too little.
        let revision = store.revision().await?;
        let services = store.services().await?;
        let delivery =
            |stored: &Stored<ServiceRecord>| (stored.record.service.id.clone(), stored.record.delivery.clone());
        let mut lane = Lane {
            revision,
            antavo_profiles: antavo_profiles(&store.installation().await?.record),
            carried: 0,
            signers: Signers::read(store).await?,
            deliveries: Deliveries { services: services.iter().map(delivery).collect(), antavo: BTreeSet::new() },
            catalogue: Catalogue::new(services.into_iter().map(|Stored { record, .. }| {
                let ServiceRecord { service, delivery, .. } = record;
                (service, delivery.reserved_prefix)
            })),
        };
        lane.deliveries.antavo = lane.antavo();
        Ok(lane)
    }

    /// The services that accept signatures of the Antavo API's clients.
    fn antavo(&self) -> BTreeSet<Id> {
        let is_theirs = |service: &&Service| {
            service
                .accept
                .iter()
                .filter_map(|given| given.signature.as_ref())
                .any(|id| self.antavo_profiles.contains(id))
        };
        self.catalogue.services().filter(is_theirs).map(|service| service.id.clone()).collect()
    }

    /// The revision that the next change leads to.
    pub(crate) fn next(&self) -> Revision {
        Revision(self.revision.0 + 1)
    }

    /// Takes over what was written. Whether requests go elsewhere from now on.
    fn advance(&mut self, to: Revision, writes: &[Write]) -> bool {
        self.revision = to;
        let mut elsewhere = false;
        for write in writes {
            if let Write::PutService(record) = write {
                self.deliveries.services.insert(record.service.id.clone(), record.delivery.clone());
                elsewhere = true;
            }
            if let Write::RemoveService(id) = write {
                self.deliveries.services.remove(id);
                elsewhere = true;
            }
        }
        if elsewhere {
            self.catalogue = self.catalogue.after(writes).into_owned();
        }
        for write in writes {
            if let Write::PutInstallation(installation) = write {
                self.antavo_profiles = antavo_profiles(installation);
                elsewhere = true;
            }
        }
        if elsewhere {
            self.deliveries.antavo = self.antavo();
        }
        elsewhere
    }
}

fn antavo_profiles(installation: &Installation) -> BTreeSet<Id> {
    let theirs = installation.signature_profiles.iter().filter(|profile| profile.vendor_key == "Antavo");
    theirs.map(|profile| profile.id.clone()).collect()
}

/// A command that was authorized, and by whom. Only [`authorize`] makes one, so that nothing is planned for a caller that
/// nobody looked at.
pub(crate) struct Authorized<'o> {
    pub(crate) order: &'o Order,
    pub(crate) actor: Actor,
    /// The credential that gives the command: what may be granted is bounded by it.
    pub(crate) by: CredentialRecord,
}

/// What a command comes to: the rows, what the audit says of them, and what only the caller gets.
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    /// The id of the record, where the command did not have it.
    pub(crate) object: Option<Id>,
    pub(crate) details: Value,
    pub(crate) issued: Option<Issued>,
    /// What the audit says of each record, where the command is about many: an entry for each instead of one.
    pub(crate) items: Vec<Item>,
    /// Imported keys, in the order of the command.
    pub(crate) imported: Vec<Imported>,
}

/// One record of many that a command is about.
pub(crate) struct Item {
    pub(crate) object: Id,
    pub(crate) details: Value,
}

impl Plan {
    pub(crate) fn new(writes: Vec<Write>, details: Value) -> Plan {
        Plan { writes, object: None, details, issued: None, items: Vec::new(), imported: Vec::new() }
    }
}

/// Secrets that were just made. This is their only way out.
#[derive(Debug)]
pub struct Issued {
    /// The key.
    pub key: SecretString,
    /// Workspace keys: the secret to sign requests with.
    pub signing_secret: Option<SecretString>,
    /// The credential as this change made it. Read again it may already be another's.
    pub record: Stored<CredentialRecord>,
}

/// What was done.
#[derive(Debug)]
pub struct Done {
    /// In force from this revision on.
    pub revision: Revision,
    /// The record.
    pub object: String,
    /// Secrets that came of it.
    pub issued: Option<Issued>,
    /// Whether it was done now, or before under the same `Idempotency-Key`. Secrets do not come a second time.
    pub repetition: Repetition,
    /// What became of each key of an import.
    pub imported: Vec<Imported>,
}

/// Whether something was done just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repetition {
    /// Now.
    First,
    /// Before; nothing has changed.
    Replayed,
}

impl Control {
    /// Does what an order asks for, and answers once every instance in rotation decides by it.
    ///
    /// The change goes on where the caller does not wait for its end.
    ///
    /// # Errors
    /// [`CommandError::Refused`] where it may not or cannot be done, [`CommandError::Failed`] where something broke. Nothing
    /// has changed then, except with [`Failed::NotEnforced`].
    pub async fn execute(self: &Arc<Self>, order: Order) -> Result<Done, CommandError> {
        let control = Arc::clone(self);
        let change = self.runtime.spawn(async move {
            let Ok(_place) = control.waiting.try_acquire() else { return Err(Failed::Busy.into()) };
            let Some(_turn) = control.in_progress.enter(&order) else {
                return control.refused(&order, (control.clock)(), None, Refused::IdempotencyInProgress).await;
            };
            control.change(&order).await
        });
        change.await.map_err(|_| CommandError::Failed(Failed::Interrupted))?
    }

    async fn change(&self, order: &Order) -> Result<Done, CommandError> {
        let mut lane = self.lane.lock().await;
        let now = (self.clock)();
        let authorized = match self.authorize(order).await {
            Err(CommandError::Refused(refused)) => return self.refused(order, now, None, refused).await,
            other => other?,
        };
        match self.replay(order, now).await {
            Err(CommandError::Refused(refused)) => {
                return self.refused(order, now, Some(authorized.actor), refused).await;
            }
            Err(failed) => return Err(failed),
            Ok(Some(done)) => return Ok(done),
            Ok(None) => {}
        }
        let planned = match plan::plan(self, &lane, &authorized, now).await {
            Err(CommandError::Refused(refused)) => {
                return self.refused(order, now, Some(authorized.actor), refused).await;
            }
            other => other?,
        };
        let (object, issued) = (planned.object, planned.issued);
        // All keys of an import were there already: nothing changes, and there is nothing to tell the audit.
        if planned.writes.is_empty() && !planned.imported.is_empty() {
            return Ok(Done {
                revision: lane.revision,
                object: String::new(),
                issued,
                repetition: Repetition::First,
                imported: planned.imported,
            });
        }
        let (action, object_kind) = order.command.title();
        let object = object.map_or_else(|| order.command.object(), |id| id.to_string());
        let to = lane.next();
        let entry = Entry {
            at: now,
            tenant: chain(order),
            actor: authorized.actor.clone(),
            origin: order.caller.origin,
            action,
            object_kind,
            object: object.clone(),
            outcome: Outcome::Done { revision: to },
            details: planned.details.to_string(),
        };
        let remember = idempotency::remember(order, &object, now);
        let of_each = |Item { object, details }: Item| Entry {
            object: object.to_string(),
            details: details.to_string(),
            ..entry.clone()
        };
        let audit =
            if planned.items.is_empty() { vec![entry] } else { planned.items.into_iter().map(of_each).collect() };
        match self.put_in_force(&mut lane, to, now, planned.writes, audit, remember).await {
            Err(CommandError::Refused(refused)) => self.refused(order, now, Some(authorized.actor), refused).await,
            Err(failed) => Err(failed),
            Ok(()) => {
                Ok(Done { revision: to, object, issued, repetition: Repetition::First, imported: planned.imported })
            }
        }
    }

    /// Writes a change down and puts it in force.
    pub(crate) async fn put_in_force(
        &self,
        lane: &mut Lane,
        to: Revision,
        at: UnixTime,
        writes: Vec<Write>,
        audit: Vec<Entry>,
        remember: Option<Remember>,
    ) -> Result<(), CommandError> {
        let from = lane.revision;
        let mut delta = compile::delta(&self.store, &lane.catalogue, (from, to), &writes, &self.tokens.issuer).await?;
        let carried = self.witness.for_delta(lane.carried).map(|(number, checkpoint)| {
            delta.checkpoint = Some(checkpoint);
            number
        });
        let bytes = match policy::build_delta(&delta) {
            Ok(bytes) => bytes,
            Err(policy::BuildError::Faults(faults)) => {
                let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
                return Err(Refused::field("", text.join("; ")).into());
            }
            Err(error) => return Err(Failed::Build(error).into()),
        };
        match self.engine.check(&bytes) {
            Ok(_) => {}
            Err(LoadError::OverlayFull) => self.make_room(&bytes).await?,
            Err(LoadError::Dangling(what)) => {
                return Err(Refused::field("", format!("it names the {what}, which is not there")).into());
            }
            Err(LoadError::Invalid(what)) => return Err(Refused::field("", what).into()),
            Err(error) => return Err(Failed::Gate(error).into()),
        }
        let replaced = self.replaced_by(&delta, &writes).await?;
        // INVARIANT (keys-before-names): the gate has the day keys of a signer before the policy names it.
        let added = self.add_signers(&lane.signers.new_in(&writes)).await?;
        let change = Change { from, to, at, writes, audit, remember };
        if let Err(error) = self.store.commit(&change).await
            && !self.is_written(lane, to, &error).await
        {
            self.take_back(added);
            return Err(error.into());
        }
        // INVARIANT (written-then-enforced): from here on the change stands, whatever happens to this process.
        let goes_elsewhere = lane.advance(to, &change.writes);
        lane.carried = carried.unwrap_or(lane.carried);
        let freed = lane.signers.advance(&change.writes);
        if let Err(error) = self.engine.apply(&bytes) {
            // A compaction that read the store after the commit has brought it in force already.
            let is_in_force = matches!(error, LoadError::WrongRevision { at } if at >= to);
            if !is_in_force && self.load().await.is_err() {
                self.stop("a change that is written down could not be put in force");
                return Err(Failed::NotEnforced.into());
            }
        }
        self.remove_signers(&freed, added).await;
        let in_force = InForce { delta, replaced, bytes: bytes.len() };
        self.feeds.hub.push(in_force, &change.writes, || lane.catalogue.in_force().collect());
        if goes_elsewhere {
            (self.deliver)(&lane.deliveries);
        }
        self.tokens.take(&change.writes, &self.sealer);
        let rules = self.error_log.borrow().after(&change.writes, &lane.catalogue);
        if let Some(rules) = rules {
            self.error_log.send_replace(rules);
        }
        self.enforced.send_replace(to.0);
        Ok(())
    }

    /// Gives the engine a new base, so that a delta finds room.
    async fn make_room(&self, delta: &[u8]) -> Result<(), Failed> {
        let mut loading = self.loading.lock().await;
        // A compaction that was under way may have made room.
        if self.engine.check(delta).is_err() {
            self.load_alone(&mut loading).await?;
            self.engine.check(delta)?;
        }
        Ok(())
    }

    /// Whether a change is in the store although writing it down failed: COMMIT may fail in what it says and not in what it
    /// does. Where the store has moved on in another way, the lane takes over what is there.
    async fn is_written(&self, lane: &mut Lane, to: Revision, error: &StoreError) -> bool {
        // Where the store cannot be read either, the next change finds out.
        let Ok(at) = self.store.revision().await else { return false };
        if at == lane.revision {
            return false;
        }
        // A conflict is an older commit that was in doubt; any other error concerns this one, for the lane writes alone.
        if at == to && !matches!(error, StoreError::Conflict { .. }) {
            return true;
        }
        tracing::error!(%error, stored = %at, lane = %lane.revision, "the store is ahead of what is in force");
        if self.take_over(lane).await.is_err() {
            self.stop("what is written down could not be put in force");
        }
        false
    }

    /// Makes the lane and the engine what the store is.
    async fn take_over(&self, lane: &mut Lane) -> Result<(), Failed> {
        *lane = Lane::read(&self.store).await?;
        self.tokens.read(&self.store, &self.sealer).await?;
        self.error_log.send_replace(ErrorLogRules::read(&self.store, &lane.catalogue).await?);
        self.load().await?;
        feed::reset(&self.feeds.hub, &self.store, lane).await?;
        (self.deliver)(&lane.deliveries);
        self.enforced.send_replace(lane.revision.0);
        Ok(())
    }

    /// Looks at who gives the order.
    async fn authorize<'o>(&self, order: &'o Order) -> Result<Authorized<'o>, CommandError> {
        let caller = &order.caller;
        let by = self.store.credential(&caller.credential).await?;
        // The gate has proven the credential; that it is gone since is a revocation that came between.
        let Some(by) = by.map(|stored| stored.record).filter(|by| by.credential.tenant == caller.tenant) else {
            return Err(Refused::Forbidden("the key that gave this command is no longer there".to_owned()).into());
        };
        let actor = Actor {
            tenant: caller.tenant.clone(),
            credential: Some(caller.credential.clone()),
            user: by.credential.creator.clone(),
        };
        match order.command.needs() {
            Needs::Superuser if !caller.is_superuser() => {
                let what = "this is for keys of the system tenant: ask whoever operates this installation";
                Err(Refused::Forbidden(what.to_owned()).into())
            }
            // To a caller of one tenant the others are not there.
            Needs::Tenant(tenant) if !caller.is_superuser() && tenant != caller.tenant => {
                Err(Refused::NotFound { kind: "tenant", id: tenant.to_string() }.into())
            }
            Needs::Tenant(tenant) if self.store.tenant(&tenant).await?.is_none() => {
                Err(Refused::NotFound { kind: "tenant", id: tenant.to_string() }.into())
            }
            // The gate keeps sessions to their endpoints; what they may not reach is kept from them here as well.
            Needs::Superuser | Needs::Tenant(_) if by.credential.kind == Kind::Session => {
                Err(Refused::Forbidden("a session is for its person's own matters".to_owned()).into())
            }
            Needs::Session if by.credential.kind != Kind::Session => {
                Err(Refused::Forbidden("this is for a person who has signed in, not for keys".to_owned()).into())
            }
            Needs::Superuser | Needs::Tenant(_) | Needs::Session => Ok(Authorized { order, actor, by }),
        }
    }

    /// Writes a refusal down and gives it back.
    async fn refused<T>(
        &self,
        order: &Order,
        at: UnixTime,
        actor: Option<Actor>,
        refused: Refused,
    ) -> Result<T, CommandError> {
        let (action, object_kind) = order.command.title();
        let caller = &order.caller;
        let actor = actor.unwrap_or_else(|| Actor {
            tenant: caller.tenant.clone(),
            credential: Some(caller.credential.clone()),
            user: None,
        });
        // What a foreign caller was refused stands in its own chain: the other tenant's is not its to write to.
        let about = chain(order);
        let is_there = caller.is_superuser() && self.store.tenant(&about).await?.is_some();
        let entry = Entry {
            at,
            tenant: if is_there { about } else { caller.tenant.clone() },
            actor,
            origin: caller.origin,
            action,
            object_kind,
            object: order.command.object(),
            outcome: Outcome::Refused { code: refused.code() },
            details: "{}".to_owned(),
        };
        self.store.append_audit(&[entry]).await?;
        Err(refused.into())
    }
}

/// The chain that an order's entry stands in.
fn chain(order: &Order) -> Id {
    if let Command::CreateTenant(NewTenant { id, .. }) | Command::EditTenant(id, _) = &order.command {
        return id.clone();
    }
    match order.command.needs() {
        Needs::Tenant(tenant) => tenant,
        Needs::Superuser => crate::system_tenant(),
        Needs::Session => order.caller.tenant.clone(),
    }
}
