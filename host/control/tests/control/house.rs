//! An installation, its clock, and whoever may do anything in it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_control::store::{Channel, Delivery, Origin};
use portcullis_control::{Caller, Command, CommandError, Control, Done, NewService, NewTenant, Order, OtherKeys};
use portcullis_engine::{Config, Engine};
use portcullis_model::id::Id;
use portcullis_model::source::{HostPattern, Module, Presentation};
use portcullis_model::time::{Expiry, UnixTime};

/// When every test begins: eight in the morning, UTC.
pub(crate) const START: u64 = 1_800_000_000;

thread_local! {
    // A test runs on one thread; control's clock is a plain function.
    static NOW: AtomicU64 = const { AtomicU64::new(START) };
}

pub(crate) fn now() -> UnixTime {
    UnixTime::from_secs(NOW.with(|now| now.load(Ordering::Relaxed))).unwrap()
}

pub(crate) fn set(seconds: u64) {
    NOW.with(|now| now.store(seconds, Ordering::Relaxed));
}

pub(crate) fn later(seconds: u64) {
    NOW.with(|now| now.fetch_add(seconds, Ordering::Relaxed));
}

pub(crate) fn id(text: &str) -> Id {
    text.parse().unwrap()
}

pub(crate) fn caller(tenant: &str, credential: &str) -> Caller {
    let origin = Origin { channel: Channel::Api, address: Some("192.0.2.7".parse().unwrap()) };
    Caller { tenant: id(tenant), credential: id(credential), origin }
}

pub(crate) fn tenant(name: &str, modules: &[Module]) -> Command {
    Command::CreateTenant(NewTenant {
        id: id(name),
        name: String::new(),
        modules: modules.to_vec(),
        key_limit: 3,
        rules: Default::default(),
    })
}

/// A service at `NAME.example`.
pub(crate) fn service(name: &str) -> NewService {
    NewService {
        id: id(name),
        name: String::new(),
        hosts: vec![HostPattern::try_from(format!("{name}.example")).unwrap()],
        prefix: "/".to_owned(),
        tenant: None,
        accept: Presentation::usual(),
        delivery: Delivery {
            upstream: "http://127.0.0.1:9".to_owned(),
            preserve_host: true,
            response_timeout_s: 30,
            reserved_prefix: None,
            preflight: None,
        },
        preset: None,
    }
}

/// An installation with a superuser's key, and nothing else.
pub(crate) struct House {
    pub(crate) control: Arc<Control>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) root: Caller,
    pub(crate) folder: tempfile::TempDir,
}

async fn open(folder: &Path) -> (Arc<Control>, Arc<Engine>) {
    let workers = NonZeroUsize::new(2).unwrap();
    let engine = Arc::new(Engine::new(&Config { workers, ..Config::default() }).unwrap());
    let control = Control::open(folder, Arc::clone(&engine), now, Box::new(|_| {})).await.unwrap();
    (control, engine)
}

impl House {
    pub(crate) async fn bare() -> House {
        House::in_folder(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn in_folder(folder: tempfile::TempDir) -> House {
        let (control, engine) = open(folder.path()).await;
        let expires = Expiry::at(UnixTime::from_secs(now().as_secs() + 86_400 * 30).unwrap());
        let made = control.recover("root", expires, OtherKeys::Keep).await.unwrap();
        House { control, engine, root: caller("system", &made.object), folder }
    }

    /// The same after a restart.
    pub(crate) async fn again(self) -> House {
        let House { control, engine, root, folder } = self;
        control.close().await;
        drop((control, engine));
        let (control, engine) = open(folder.path()).await;
        House { control, engine, root, folder }
    }

    pub(crate) async fn by(&self, caller: &Caller, command: Command) -> Result<Done, CommandError> {
        self.control.execute(Order { caller: caller.clone(), if_match: None, idempotency: None, command }).await
    }

    pub(crate) async fn order(&self, command: Command) -> Result<Done, CommandError> {
        self.by(&self.root, command).await
    }

    pub(crate) async fn done(&self, command: Command) -> Done {
        self.order(command).await.unwrap()
    }
}
