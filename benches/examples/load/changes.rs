//! Administrators who change what they have, at a rate: keys made, edited, rotated, revoked and deleted, groups and filters.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::guarded::{Calls, Guarded, allowlist, filter, permissions, tenant};
use crate::oracle::{History, Rules, Secret};

/// Administrators at work at once; each has a connection and a tenant.
const ADMINISTRATORS: u64 = 8;
/// Keys of each of them that live at a time. The last few are management keys.
const KEYS: usize = 24;
const MANAGEMENT_KEYS: usize = 4;
/// Secrets that are dead and still tried.
const DEAD: usize = 256;

/// What all of them have made.
pub(crate) struct World {
    slots: Vec<Mutex<Arc<Secret>>>,
    dead: Mutex<VecDeque<Arc<Secret>>>,
    pub(crate) done: AtomicU64,
    /// The longest that a change took, in microseconds.
    pub(crate) longest_us: AtomicU64,
}

impl World {
    /// One of the secrets that live, or did until lately.
    pub(crate) fn secret(&self, dice: &mut Dice) -> Option<Arc<Secret>> {
        if dice.below(8) == 0 {
            let dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
            if !dead.is_empty() {
                return dead.get(dice.below(dead.len())).cloned();
            }
        }
        let slot = self.slots.get(dice.below(self.slots.len()))?;
        Some(Arc::clone(&slot.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn bury(&self, secret: Arc<Secret>) {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.truncate(DEAD - 1);
        dead.push_front(secret);
    }
}

/// Choices without order (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit.max(1) as u64).unwrap_or(0)
    }
}

/// The administrators, before they begin.
pub(crate) struct Administrators {
    pub(crate) world: Arc<World>,
    all: Vec<Administrator>,
}

struct Administrator {
    calls: Calls,
    tenant: String,
    /// The ids of its keys that are not at their end, and the place of the first in the world.
    keys: Vec<Option<String>>,
    first: usize,
    permitted: Arc<History>,
    open: Arc<History>,
    dice: Dice,
}

impl Administrators {
    pub(crate) async fn begin(guarded: &Guarded) -> Result<Administrators> {
        let (mut all, mut slots) = (Vec::new(), Vec::new());
        for number in 0..ADMINISTRATORS {
            let mut one = Administrator {
                calls: guarded.admin.connect().await?,
                tenant: format!("busy-{number}"),
                keys: Vec::new(),
                first: slots.len(),
                permitted: Arc::new(History::of(true)),
                open: Arc::new(History::of(true)),
                dice: Dice(number),
            };
            tenant(&mut one.calls, &one.tenant).await?;
            for slot in 0..KEYS {
                let (id, secret) = one.made(slot).await?;
                one.keys.push(Some(id));
                slots.push(Mutex::new(secret));
            }
            all.push(one);
        }
        let (done, longest_us) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Administrators { world: Arc::new(World { slots, dead: Mutex::default(), done, longest_us }), all })
    }

    /// Makes so many changes a second, or as many as can be, until told to stop.
    pub(crate) async fn work(&mut self, per_second: u64, stop: &Arc<AtomicBool>) -> Result<()> {
        let period = Duration::from_secs_f64(ADMINISTRATORS as f64 / per_second as f64);
        let mut tasks = JoinSet::new();
        for mut one in self.all.drain(..) {
            let (world, stop) = (Arc::clone(&self.world), Arc::clone(stop));
            tasks.spawn(async move {
                let mut ticks = tokio::time::interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let began = Instant::now();
                    one.change(&world).await?;
                    world.done.fetch_add(1, Ordering::Relaxed);
                    let took = u64::try_from(began.elapsed().as_micros())?;
                    world.longest_us.fetch_max(took, Ordering::Relaxed);
                }
                anyhow::Ok(one)
            });
        }
        while let Some(one) = tasks.join_next().await {
            self.all.push(one??);
        }
        Ok(())
    }
}

impl Administrator {
    async fn change(&mut self, world: &World) -> Result<()> {
        let slot = self.dice.below(KEYS);
        let Some(id) = self.keys.get(slot).context("a key")?.clone() else { return self.make(world, slot).await };
        let path = format!("{}/{id}", self.path(slot));
        match self.dice.below(100) {
            0..5 => self.set_filter().await,
            5..20 => self.set_group().await,
            20..60 if !is_management(slot) => self.set_list(world, slot, &path).await,
            60..80 => self.rotate(world, slot, &path).await,
            _ => self.end(world, slot, &path).await,
        }
    }

    async fn made(&mut self, slot: usize) -> Result<(String, Arc<Secret>)> {
        let body = if is_management(slot) {
            json!({
                "name": "Busy", "expires": "2099-12-31", "endpoints": ["store/events"], "creator_rule": "independent",
            })
        } else {
            let mut body = allowlist(true);
            if let Some(fields) = body.as_object_mut() {
                fields.insert("name".to_owned(), "Busy".into());
                fields.insert("group".to_owned(), "all".into());
            }
            body
        };
        let told = self.calls.ask("POST", &self.path(slot), &body).await?;
        let permitted = if is_management(slot) { Arc::new(History::of(true)) } else { Arc::clone(&self.permitted) };
        let rules = Arc::new(Rules { listed: History::of(true), permitted, open: Arc::clone(&self.open) });
        Ok((text(&told, "id")?, secret(&told, slot, rules)?))
    }

    /// Three times out of four clients pass, so that all answers are common.
    fn passes(&mut self) -> bool {
        self.dice.below(4) > 0
    }

    async fn set_filter(&mut self) -> Result<()> {
        let open = self.passes();
        self.open.ask(open);
        self.calls.ask("PUT", &format!("/v1/tenants/{}/settings/store/events", self.tenant), &filter(open)).await?;
        self.open.answered();
        Ok(())
    }

    async fn set_group(&mut self) -> Result<()> {
        let permitted = self.passes();
        self.permitted.ask(permitted);
        let body = json!({ "permissions": permissions(permitted) });
        self.calls.ask("PATCH", &format!("/v1/tenants/{}/groups/all", self.tenant), &body).await?;
        self.permitted.answered();
        Ok(())
    }

    async fn set_list(&mut self, world: &World, slot: usize, path: &str) -> Result<()> {
        let (listed, secret) = (self.passes(), self.at(world, slot)?);
        secret.rules.listed.ask(listed);
        self.calls.ask("PATCH", path, &allowlist(listed)).await?;
        secret.rules.listed.answered();
        Ok(())
    }

    async fn rotate(&mut self, world: &World, slot: usize, path: &str) -> Result<()> {
        let old = self.at(world, slot)?;
        old.lives.ask(false);
        let told = self.calls.ask("POST", &format!("{path}/rotate"), &json!({ "confirm": true })).await?;
        old.lives.answered();
        self.exchange(world, slot, secret(&told, slot, Arc::clone(&old.rules))?)
    }

    async fn end(&mut self, world: &World, slot: usize, path: &str) -> Result<()> {
        let old = self.at(world, slot)?;
        old.lives.ask(false);
        if is_management(slot) {
            self.calls.ask("DELETE", &format!("{path}?confirm=true"), &Value::Null).await?;
        } else {
            self.calls.ask("POST", &format!("{path}/revoke"), &json!({ "confirm": true })).await?;
        }
        old.lives.answered();
        *self.keys.get_mut(slot).context("a key")? = None;
        Ok(())
    }

    async fn make(&mut self, world: &World, slot: usize) -> Result<()> {
        let (id, new) = self.made(slot).await?;
        *self.keys.get_mut(slot).context("a key")? = Some(id);
        self.exchange(world, slot, new)
    }

    fn exchange(&self, world: &World, slot: usize, new: Arc<Secret>) -> Result<()> {
        let place = world.slots.get(self.first + slot).context("a place")?;
        let old = std::mem::replace(&mut *place.lock().unwrap_or_else(PoisonError::into_inner), new);
        world.bury(old);
        Ok(())
    }

    fn at(&self, world: &World, slot: usize) -> Result<Arc<Secret>> {
        let place = world.slots.get(self.first + slot).context("a place")?;
        Ok(Arc::clone(&place.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn path(&self, slot: usize) -> String {
        let kind = if is_management(slot) { "management-keys" } else { "tenant-keys" };
        format!("/v1/tenants/{}/{kind}", self.tenant)
    }
}

fn is_management(slot: usize) -> bool {
    slot >= KEYS - MANAGEMENT_KEYS
}

fn secret(told: &Value, slot: usize, rules: Arc<Rules>) -> Result<Arc<Secret>> {
    let (text, is_management) = (text(told, "key")?, is_management(slot));
    Ok(Arc::new(Secret { text, is_management, lives: History::of(true), rules }))
}

fn text(told: &Value, name: &str) -> Result<String> {
    Ok(told.get(name).and_then(Value::as_str).with_context(|| format!("the answer has `{name}`"))?.to_owned())
}
