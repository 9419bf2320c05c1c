//! The instances that decide, and how they change together.
//!
//! Decisions and changes share nothing but the instances: a decision locks one, for about a microsecond. Changes go through
//! one lane, one at a time, and visit every instance. A base is loaded into new instances beside the ones that decide,
//! which are then exchanged; so a load neither drops nor delays a request, and needs memory for both for that while.

use std::cell::Cell;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use portcullis_model::id::Revision;
use portcullis_model::key_sheet::{Day, KeySheets, SheetError};
use portcullis_model::policy::MAX_POLICY_BYTES;
use portcullis_model::time::UnixTime;
use wasmtime::{Cache, CacheConfig, Module};

use crate::abi;
use crate::decision::{Decision, Explanation, Request};
use crate::error::{DecideError, EngineError, LoadError};
use crate::instance::{Deadlines, Description, Instance, Ruined};
use crate::memory::{self, Base};
use crate::{COMPONENT, Config};

/// The length of a tick, by which deadlines are counted. A deadline is exceeded by at most one.
const TICK: Duration = Duration::from_millis(5);

/// The most deltas that are kept for instances to come, which start from the base. Each is at most as long as an overlay.
const MAX_DELTAS: usize = 65_536;

/// The gate: instances of the component that all hold the same policy.
///
/// It can be shared between threads; every method takes `&self`.
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    module: Module,
    memory_limit: usize,
    deadlines: Deadlines,
    /// INVARIANT (same-policy): all instances in rotation hold the same policy, except while a change visits them.
    rotation: Vec<Mutex<Option<Instance>>>,
    /// Loaded like the others, so that it can take the place of one at once.
    spare: Mutex<Option<Instance>>,
    lane: Mutex<Lane>,
}

/// What a new instance needs to become like the others. Whoever changes policies holds its lock.
#[derive(Default)]
struct Lane {
    base: Option<Arc<Base>>,
    base_revision: Revision,
    /// The deltas since the base, each with the revision it leads to.
    deltas: Vec<(Revision, Arc<[u8]>)>,
    delta_bytes: usize,
    confirmed: Option<UnixTime>,
    keys: KeySheets,
}

/// New instances that hold a base and wait to be exchanged for those that decide.
pub struct Prepared {
    instances: Vec<Instance>,
    base: Arc<Base>,
    base_revision: Revision,
}

impl Lane {
    fn revision(&self) -> Revision {
        self.deltas.last().map_or(self.base_revision, |(revision, _)| *revision)
    }
}

impl Engine {
    /// Compiles the component, or takes it from the cache, and makes the instances. They deny until a policy is loaded and
    /// confirmed.
    ///
    /// # Errors
    /// Where the cache folder cannot be made or belongs to somebody else, or memory for the instances cannot be had.
    pub fn new(config: &Config) -> Result<Engine, EngineError> {
        let mut settings = wasmtime::Config::new();
        settings.wasm_wide_arithmetic(true);
        settings.epoch_interruption(true);
        memory::set(&mut settings);
        if let Some(folder) = &config.cache {
            settings.cache(Some(cache(folder)?));
        }
        let engine = wasmtime::Engine::new(&settings).map_err(EngineError::new("wasmtime could not start"))?;
        let core = abi::core_module(COMPONENT).ok_or("it has no core module");
        let core = core.map_err(EngineError::new("the component does not fit the contract"))?;
        let module = Module::new(&engine, core).map_err(EngineError::new("the component could not be compiled"))?;
        let deadlines =
            Deadlines { decide_ticks: ticks(config.decide_deadline), load_ticks: ticks(config.load_deadline) };
        let new = || Instance::new(&module, config.memory_limit, deadlines);
        let instances: wasmtime::Result<Vec<_>> = (0..config.workers.get()).map(|_| new()).collect();
        let instances = instances.map_err(EngineError::new("an instance could not be made"))?;
        let spare = new().map_err(EngineError::new("an instance could not be made"))?;
        let shared = Arc::new(Shared {
            module,
            memory_limit: config.memory_limit,
            deadlines,
            rotation: instances.into_iter().map(|instance| Mutex::new(Some(instance))).collect(),
            spare: Mutex::new(Some(spare)),
            lane: Mutex::default(),
        });
        let ticking = Arc::downgrade(&shared);
        thread::Builder::new()
            .name("portcullis-ticks".to_owned())
            .spawn(move || tick(&ticking))
            .map_err(EngineError::new("the thread that keeps deadlines could not be started"))?;
        Ok(Engine { shared })
    }

    /// Decides one request.
    ///
    /// # Errors
    /// Where no verdict came back. The request is to be denied.
    #[inline]
    pub fn decide(&self, request: Request<'_>) -> Result<Decision, DecideError> {
        self.shared.with_instance(|instance| instance.decide(request))
    }

    /// Decides one request and tells each step. For people; slower.
    ///
    /// # Errors
    /// As [`Engine::decide`].
    pub fn explain(&self, request: Request<'_>) -> Result<Explanation, DecideError> {
        self.shared.with_instance(|instance| instance.explain(request))
    }

    /// Authorizes recorded facts as of `now`.
    ///
    /// # Errors
    /// As [`Engine::decide`], and [`DecideError::FactsMalformed`].
    pub fn judge(&self, facts: &[u8], now: UnixTime) -> Result<Decision, DecideError> {
        self.shared.with_instance(|instance| instance.judge(facts, now))?
    }

    /// Authorizes recorded facts as of `now` and tells each step. For people; slower.
    ///
    /// # Errors
    /// As [`Engine::judge`].
    pub fn explain_judged(&self, facts: &[u8], now: UnixTime) -> Result<Explanation, DecideError> {
        self.shared.with_instance(|instance| instance.explain_judged(facts, now))?
    }

    /// Loads a base and returns once every instance has it. Requests go on being decided on the old one until then.
    ///
    /// Deltas that were applied since the base's revision are kept: a base may be a compaction of what is in force.
    ///
    /// # Errors
    /// Any [`LoadError`]; a base from before the one in force is [`LoadError::WrongRevision`].
    pub fn load(&self, base: Arc<[u8]>) -> Result<Revision, LoadError> {
        self.exchange(self.prepare(base)?)
    }

    /// Loads a base into new instances beside those that decide: the long part of [`Engine::load`], under no lock. A thread
    /// of low priority may do this, and must not do the rest: whoever waited for its lock would have that priority.
    ///
    /// # Errors
    /// What is wrong with the base.
    pub fn prepare(&self, base: Arc<[u8]>) -> Result<Prepared, LoadError> {
        let shared = &self.shared;
        if base.len() > MAX_POLICY_BYTES {
            return Err(LoadError::OutOfMemory);
        }
        let sealed = Arc::new(Base::new(&base).map_err(|_| LoadError::OutOfMemory)?);
        // Nobody needs these bytes any more.
        drop(base);
        // One instance first: what is wrong with the base shows here, before memory is spent on the others.
        let mut instances = Vec::with_capacity(shared.rotation.len() + 1);
        let mut base_revision = Revision::default();
        for _ in 0..=shared.rotation.len() {
            let mut instance = shared.instance().map_err(|_| LoadError::Sandbox)?;
            base_revision = instance.load(&sealed)?;
            instances.push(instance);
        }
        Ok(Prepared { instances, base: sealed, base_revision })
    }

    /// Puts prepared instances in the place of those that decide: the short part of [`Engine::load`].
    ///
    /// # Errors
    /// Any [`LoadError`]; a base from before the one in force is [`LoadError::WrongRevision`].
    pub fn exchange(&self, prepared: Prepared) -> Result<Revision, LoadError> {
        let shared = &self.shared;
        let Prepared { instances: mut fresh, base, base_revision } = prepared;
        let mut lane = lock(&shared.lane);
        if base_revision < lane.base_revision {
            return Err(LoadError::WrongRevision { at: lane.revision() });
        }
        let kept: Vec<_> = lane.deltas.iter().filter(|(to, _)| *to > base_revision).cloned().collect();
        for instance in &mut fresh {
            catch_up(instance, &kept, &lane)?;
        }
        let keys = std::mem::take(&mut lane.keys);
        let delta_bytes = kept.iter().map(|(_, delta)| delta.len()).sum();
        *lane = Lane { base: Some(base), base_revision, deltas: kept, delta_bytes, confirmed: lane.confirmed, keys };
        let mut fresh = fresh.into_iter();
        for place in shared.rotation.iter().chain([&shared.spare]) {
            let old = std::mem::replace(&mut *lock(place), fresh.next());
            // Freeing a large memory takes a while; nobody waits for it under the lock.
            drop(old);
        }
        Ok(lane.revision())
    }

    /// Checks a delta against what is in force and leads to the revision that applying it would. Nothing changes for
    /// decisions, so a host can write the change down first and then apply it.
    ///
    /// # Errors
    /// Any [`LoadError`] that [`Engine::apply`] would give for this delta.
    pub fn check(&self, delta: &[u8]) -> Result<Revision, LoadError> {
        let shared = &self.shared;
        let lane = lock(&shared.lane);
        if lane.deltas.len() >= MAX_DELTAS {
            return Err(LoadError::OverlayFull);
        }
        for place in shared.places() {
            let mut instance = lock(place);
            let Some(ready) = instance.as_mut() else { continue };
            match ready.check_delta(delta) {
                // What is right or wrong with a delta is so for every instance; only a sandbox fails by itself.
                Err(LoadError::Sandbox | LoadError::OutOfMemory) => *instance = None,
                result => return result,
            }
        }
        drop(lane);
        shared.rebuild();
        Err(LoadError::Sandbox)
    }

    /// Applies a delta and returns once every instance in rotation decides by it.
    ///
    /// An instance that fails to is taken out of rotation and rebuilt, so that none decides by an older policy.
    ///
    /// # Errors
    /// Any [`LoadError`]; the delta is then in force nowhere.
    pub fn apply(&self, delta: &[u8]) -> Result<Revision, LoadError> {
        let shared = &self.shared;
        let mut lane = lock(&shared.lane);
        if lane.deltas.len() >= MAX_DELTAS {
            return Err(LoadError::OverlayFull);
        }
        let mut to = None;
        let mut failed = Vec::new();
        for place in shared.places() {
            let mut instance = lock(place);
            let Some(ready) = instance.as_mut() else { continue };
            match ready.check_delta(delta) {
                Ok(revision) => to = Some(revision),
                // What is wrong with a delta is wrong for every instance; only a sandbox fails by itself.
                Err(LoadError::Sandbox | LoadError::OutOfMemory) => failed.push(instance.take()),
                Err(error) => return Err(error),
            }
        }
        let Some(to) = to else {
            drop(lane);
            shared.rebuild();
            return Err(if failed.is_empty() { LoadError::NoBase } else { LoadError::Sandbox });
        };
        for place in shared.places() {
            let mut instance = lock(place);
            if instance.as_mut().is_some_and(|instance| instance.apply_delta(to).is_err()) {
                failed.push(instance.take());
            }
        }
        lane.deltas.push((to, delta.into()));
        lane.delta_bytes += delta.len();
        drop(lane);
        if !failed.is_empty() {
            shared.rebuild();
        }
        Ok(to)
    }

    /// Gives a part of a day's key sheet to every instance, and returns once each that is in rotation has it.
    ///
    /// An instance that fails to take it is taken out of rotation and rebuilt.
    ///
    /// # Errors
    /// [`LoadError::Invalid`] or [`LoadError::NewerFormat`] where it is no such part; no instance has it then.
    pub fn load_keys(&self, part: &[u8]) -> Result<Day, LoadError> {
        let shared = &self.shared;
        let mut lane = lock(&shared.lane);
        let day = lane.keys.load(part).map_err(|error| match error {
            SheetError::NewerFormat { found } => LoadError::NewerFormat(found),
            SheetError::OutOfMemory => LoadError::OutOfMemory,
            SheetError::NotASheet | SheetError::Damaged | SheetError::TooLarge => LoadError::Invalid(error.to_string()),
        })?;
        let mut failed = false;
        for place in shared.places() {
            let mut instance = lock(place);
            if instance.as_mut().is_some_and(|instance| instance.load_keys(part).is_err()) {
                *instance = None;
                failed = true;
            }
        }
        drop(lane);
        if failed {
            shared.rebuild();
        }
        Ok(day)
    }

    /// Tells every instance that the policy was known to be current at `at`.
    pub fn confirm(&self, at: UnixTime) {
        let shared = &self.shared;
        let mut lane = lock(&shared.lane);
        lane.confirmed = lane.confirmed.max(Some(at));
        let mut failed = false;
        for place in shared.places() {
            let mut instance = lock(place);
            if instance.as_mut().is_some_and(|instance| instance.confirm(at).is_err()) {
                *instance = None;
                failed = true;
            }
        }
        drop(lane);
        if failed {
            shared.rebuild();
        }
    }

    /// What an instance holds.
    ///
    /// # Errors
    /// As [`Engine::decide`].
    pub fn describe(&self) -> Result<Description, DecideError> {
        self.shared.with_instance(Instance::describe)
    }

    /// How many deltas are kept since the base for instances to come, those too that later ones have overtaken, and their
    /// bytes. A new base makes an end of them.
    #[must_use]
    pub fn kept_deltas(&self) -> (usize, usize) {
        let lane = lock(&self.shared.lane);
        (lane.deltas.len(), lane.delta_bytes)
    }

    /// How many instances are in rotation now. Fewer than the workers while one is rebuilt.
    #[must_use]
    pub fn in_rotation(&self) -> usize {
        self.shared.rotation.iter().filter(|place| lock(place).is_some()).count()
    }
}

impl Shared {
    fn instance(&self) -> wasmtime::Result<Instance> {
        Instance::new(&self.module, self.memory_limit, self.deadlines)
    }

    /// Every place an instance may be in.
    fn places(&self) -> impl Iterator<Item = &Mutex<Option<Instance>>> {
        self.rotation.iter().chain([&self.spare])
    }

    /// Calls an instance. One that is ruined by the call is replaced.
    #[inline]
    fn with_instance<T>(
        self: &Arc<Self>,
        call: impl FnOnce(&mut Instance) -> Result<T, Ruined>,
    ) -> Result<T, DecideError> {
        let mut place = self.free_place()?;
        let instance = place.as_mut().ok_or(DecideError::NoInstance)?;
        call(instance).map_err(|Ruined(error)| {
            // Dropped only after the lock is given back.
            let ruined = std::mem::replace(&mut *place, lock(&self.spare).take());
            drop(place);
            drop(ruined);
            self.rebuild();
            error
        })
    }

    /// A place with an instance in it: this thread's own where it is free, else any free one, else the wait for its own.
    #[inline]
    fn free_place(&self) -> Result<MutexGuard<'_, Option<Instance>>, DecideError> {
        thread_local! {
            static HOME: Cell<usize> = Cell::new(NEXT_HOME.fetch_add(1, Ordering::Relaxed));
        }
        static NEXT_HOME: AtomicUsize = AtomicUsize::new(0);

        let home = HOME.get() % self.rotation.len();
        let (after, before) = self.rotation.split_at(home);
        let in_order = || before.iter().chain(after);
        for place in in_order() {
            if let Ok(guard) = place.try_lock()
                && guard.is_some()
            {
                return Ok(guard);
            }
        }
        in_order().map(lock).find(|guard| guard.is_some()).ok_or(DecideError::NoInstance)
    }

    /// Fills empty places in the background.
    fn rebuild(self: &Arc<Self>) {
        let shared = Arc::downgrade(self);
        let builder = thread::Builder::new().name("portcullis-rebuild".to_owned());
        // Where no thread can be had the place stays empty; the next failure or change tries again.
        drop(builder.spawn(move || while shared.upgrade().is_some_and(|shared| shared.fill_one_place()) {}));
    }

    /// Makes one instance like the others and puts it into an empty place, those in rotation first. False where there is
    /// none, or where none can be made.
    fn fill_one_place(&self) -> bool {
        let is_empty = |place: &&Mutex<Option<Instance>>| lock(place).is_none();
        if self.places().find(is_empty).is_none() {
            return false;
        }
        let Ok(mut instance) = self.instance() else { return false };
        let base = lock(&self.lane).base.clone();
        if base.as_ref().is_some_and(|base| instance.load(base).is_err()) {
            return false;
        }
        let lane = lock(&self.lane);
        let same_base = match (&base, &lane.base) {
            (Some(mine), Some(newest)) => Arc::ptr_eq(mine, newest),
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
        };
        // A base that came meanwhile filled every place, or starts this over.
        if same_base {
            if catch_up(&mut instance, &lane.deltas, &lane).is_err() {
                return false;
            }
            if let Some(place) = self.places().find(is_empty) {
                *lock(place) = Some(instance);
            }
        }
        true
    }
}

/// Applies the deltas since an instance's base, the key sheets and the last confirmation.
fn catch_up(instance: &mut Instance, deltas: &[(Revision, Arc<[u8]>)], lane: &Lane) -> Result<(), LoadError> {
    for (to, delta) in deltas {
        instance.check_delta(delta)?;
        instance.apply_delta(*to)?;
    }
    for part in lane.keys.parts() {
        instance.load_keys(&part.map_err(|error| LoadError::Invalid(error.to_string()))?)?;
    }
    if let Some(at) = lane.confirmed {
        instance.confirm(at)?;
    }
    Ok(())
}

/// A panic of a thread that held the lock leaves an instance that the next caller finds ruined or sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ticks(deadline: Duration) -> u64 {
    // One more, because the current tick is already running.
    u64::try_from(deadline.as_micros().div_ceil(TICK.as_micros())).unwrap_or(u64::MAX / 2).saturating_add(1)
}

fn tick(shared: &Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        shared.module.engine().increment_epoch();
        drop(shared);
        thread::sleep(TICK);
    }
}

/// Compiled code is run as it is found, so the folder is closed to everybody else.
fn cache(folder: &Path) -> Result<Cache, EngineError> {
    let failed = "the cache folder cannot be used";
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(EngineError::new(failed))?;
    let metadata = std::fs::metadata(folder).map_err(EngineError::new(failed))?;
    if std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077 != 0 {
        let what = format!("{} must have mode 0700: others could put code there", folder.display());
        return Err(EngineError::new(failed)(what));
    }
    let mut settings = CacheConfig::new();
    settings.with_directory(folder);
    Cache::new(settings).map_err(EngineError::new(failed))
}
