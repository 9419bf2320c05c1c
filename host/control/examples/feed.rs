//! Measures feeds on this machine: `cargo run --release -p portcullis-control --example feed -- 1000000`.
//!
//! The number is how many credentials there are, in ten tenants. To one of these the service of a second feed is pinned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use portcullis_control::store::{Channel, Delivery, GroupKind, Origin};
use portcullis_control::{
    Caller, Command, Confirmation, Control, Existing, ImportKeys, ImportedKey, KeyRef, MAX_IMPORT, NewFeed, NewGroup,
    NewService, NewTenant, Order, OtherKeys,
};
use portcullis_engine::{Config, Engine};
use portcullis_model::credential::{Kind, SecretDigest};
use portcullis_model::feed::{Frame, frames};
use portcullis_model::id::Id;
use portcullis_model::method::Methods;
use portcullis_model::source::{Endpoint, HostPattern, Permission, Presentation};
use portcullis_model::time::{Expiry, UnixTime};
use sha2::{Digest as _, Sha256};

/// The tenants among which the credentials are.
const TENANTS: usize = 10;
/// How many keys are revoked while a worker waits.
const ROUNDS: usize = 300;

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap_or_default()
}

struct Installation {
    control: Arc<Control>,
    root: Caller,
}

impl Installation {
    async fn done(&self, command: Command) -> anyhow::Result<portcullis_control::Done> {
        let order = Order { caller: self.root.clone(), if_match: None, idempotency: None, command };
        Ok(self.control.execute(order).await?)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let count: usize = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let engine = Arc::new(Engine::new(&Config::default())?);
    let control = Control::open(folder.path(), engine, now, Box::new(|_| {})).await?;
    let expires = Expiry::at(UnixTime::from_secs(now().as_secs() + 86_400).context("a day on there is a time")?);
    let made = control.recover("root", expires, OtherKeys::Keep).await?;
    let origin = Origin { channel: Channel::Api, address: None };
    let root = Caller { tenant: "system".parse()?, credential: made.object.parse()?, origin };
    let installation = Installation { control, root };
    furnish(&installation).await?;
    let keys = fill(&installation, count).await?;

    for feed in ["all", "pinned"] {
        let began = Instant::now();
        let base = installation.control.feed_base(&feed.parse()?).await?;
        let size = base.size();
        println!("feed {feed}: base of {size} bytes in {} parts, made in {:.0?}", base.sha256.len(), began.elapsed());
    }
    revoke(&installation, keys).await
}

async fn furnish(installation: &Installation) -> anyhow::Result<()> {
    for number in 0..TENANTS {
        let tenant = NewTenant {
            id: format!("tenant-{number}").parse()?,
            name: String::new(),
            modules: Vec::new(),
            key_limit: u32::MAX,
            rules: Default::default(),
        };
        installation.done(Command::CreateTenant(tenant)).await?;
    }
    for (name, tenant) in [("shop", None), ("wallet", Some("tenant-0".parse()?))] {
        let service = NewService {
            id: name.parse()?,
            name: String::new(),
            hosts: vec![HostPattern::try_from(format!("{name}.example"))?],
            prefix: "/".to_owned(),
            tenant,
            accept: Presentation::usual(),
            delivery: Delivery {
                upstream: "http://127.0.0.1:9".to_owned(),
                preserve_host: true,
                response_timeout_s: 30,
                reserved_prefix: None,
                preflight: None,
            },
            preset: None,
        };
        installation.done(Command::CreateService(service)).await?;
        let endpoint: Endpoint = serde_json::from_str(r#"{"id": "events", "paths": ["/events"]}"#)?;
        installation.done(Command::PutEndpoint(name.parse()?, Box::new(endpoint))).await?;
    }
    for number in 0..TENANTS {
        let permission = Permission { endpoint: "shop/events".to_owned().try_into()?, methods: Methods::default() };
        let group = NewGroup {
            id: "events".parse()?,
            name: String::new(),
            kind: GroupKind::TenantKey,
            permissions: vec![permission],
        };
        installation.done(Command::CreateGroup(format!("tenant-{number}").parse()?, group)).await?;
    }
    for (feed, service) in [("all", "shop"), ("pinned", "wallet")] {
        let feed = NewFeed { id: feed.parse()?, services: vec![service.parse()?] };
        installation.done(Command::CreateFeed(feed)).await?;
    }
    Ok(())
}

/// Imports the credentials, and leads to some of them.
async fn fill(installation: &Installation, count: usize) -> anyhow::Result<Vec<KeyRef>> {
    let began = Instant::now();
    let (mut made, mut some) = (0, Vec::new());
    while made < count {
        let number = made / MAX_IMPORT;
        let tenant: Id = format!("tenant-{}", number % TENANTS).parse()?;
        let batch = (count - made).min(MAX_IMPORT);
        let keys = (made..made + batch).map(|number| -> anyhow::Result<ImportedKey> {
            Ok(ImportedKey {
                sha256: SecretDigest::new(Sha256::digest(number.to_le_bytes()).into()),
                name: format!("Key {number}"),
                description: String::new(),
                group: "events".parse()?,
                expires: None,
                ip_allowlist: Vec::new(),
                external_id: None,
            })
        });
        let import = ImportKeys { keys: keys.collect::<Result<_, _>>()?, existing: Existing::Refuse };
        let done = installation.done(Command::ImportKeys(tenant.clone(), import)).await?;
        some.extend(done.imported.first().map(|key| KeyRef {
            tenant: tenant.clone(),
            kind: Kind::Tenant,
            id: key.id.clone(),
        }));
        if made == 0 {
            let rest = done.imported.iter().skip(1).take(ROUNDS);
            some.extend(rest.map(|key| KeyRef { tenant: tenant.clone(), kind: Kind::Tenant, id: key.id.clone() }));
        }
        made += batch;
    }
    println!("{count} keys imported in {:.0?}", began.elapsed());
    Ok(some)
}

/// Revokes keys while a worker waits: how long after the command was given, and after it was answered, the worker has the delta.
async fn revoke(installation: &Installation, keys: Vec<KeyRef>) -> anyhow::Result<()> {
    let feed: Id = "all".parse()?;
    let base = installation.control.feed_base(&feed).await?;
    let mut cursor = format!("r{}", base.revision);
    let control = Arc::clone(&installation.control);
    // What is there already, the sheets of keys among it.
    cursor = control.feed_changes(&feed, &cursor, Duration::ZERO).await?.cursor;
    let (mut after_order, mut after_answer) = (Vec::new(), Vec::new());
    for key in keys.into_iter().take(ROUNDS) {
        let waiting = tokio::spawn({
            let (control, feed, cursor) = (Arc::clone(&control), feed.clone(), cursor.clone());
            async move {
                let changes = control.feed_changes(&feed, &cursor, Duration::from_secs(30)).await;
                (changes, Instant::now())
            }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        let ordered = Instant::now();
        installation.done(Command::RevokeKey(key, Confirmation::Confirmed)).await?;
        let answered = Instant::now();
        let (changes, told) = waiting.await?;
        let changes = changes?;
        anyhow::ensure!(matches!(frames(&changes.frames)?[..], [Frame::Delta(_), Frame::Confirmed(_)]));
        cursor = changes.cursor;
        after_order.push(told.duration_since(ordered));
        after_answer.push(told.saturating_duration_since(answered));
    }
    for (what, times) in [("order", &mut after_order), ("answer", &mut after_answer)] {
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        println!("a worker that waits has the delta after the {what}: p50 {:.2?}, p99 {:.2?}", at(50), at(99));
    }
    Ok(())
}
