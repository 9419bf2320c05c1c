//! `portcullis serve --demo`: a guarded API on a machine that has nothing, in one command.
//!
//! The demo is a real installation in a folder of its own, made by the same orders that the admin API gives: a service with
//! the Antavo catalogue in front of an echo, a tenant, a key that passes and a key that an address filter stops. Each start
//! makes new secrets, because those of the last start are nowhere to be found.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use portcullis_control::store::{Channel, Delivery, GroupKind, Origin, Paging};
use portcullis_control::{
    Caller, Command, CommandError, Confirmation, Control, Issued, KeyFilter, KeyRef, NewGroup, NewService, NewTenant,
    NewTenantKey, Order, OtherKeys, Preset, Rotation, RulesEdit, SYSTEM_TENANT, ServiceEdit,
};
use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::method::Methods;
use portcullis_model::source::{HostPattern, Module, Permission, Presentation};
use portcullis_model::time::{Expiry, UnixTime};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;

/// How long the demo's admin key lives, in seconds: a month.
const ADMIN_KEY_LIFE_S: u64 = 30 * 86_400;
/// The longest body that the echo tells of.
const MAX_ECHO_BYTES: usize = 64 * 1024;

const SERVICE: &str = "demo";
const TENANT: &str = "acme";
const GROUP: &str = "everything";
/// The names of the two keys, by which a later start finds them.
const PASSING_KEY: &str = "Passes";
const FILTERED_KEY: &str = "Stopped by its address filter";
/// Addresses for documentation (RFC 5737): no client has one.
const NOWHERE: &str = "203.0.113.0/24";

/// What a newcomer needs to try it.
pub(crate) struct Demo {
    pub(crate) admin_key: SecretString,
    pub(crate) passing_key: SecretString,
    pub(crate) filtered_key: SecretString,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A command did nothing.
    #[error("the demo could not be set up: {0}: give `--data` another folder")]
    Command(#[from] CommandError),
    /// A name in this file is none.
    #[error("the demo could not be set up: `{0}` is not what it should be")]
    Name(&'static str),
    /// The echo has no port.
    #[error("the demo's echo could not be started: {0}")]
    Echo(#[from] std::io::Error),
}

/// Starts the echo and makes the records, or mends those of an earlier start.
pub(crate) async fn set_up(control: &Arc<Control>, now: UnixTime) -> Result<Demo, DemoError> {
    let upstream = echo().await?;
    let expires = UnixTime::from_secs(now.as_secs() + ADMIN_KEY_LIFE_S).ok_or(DemoError::Name("now"))?;
    let admin = control.recover("Demo admin", Expiry::at(expires), OtherKeys::Revoke).await?;
    let caller = Caller {
        tenant: id(SYSTEM_TENANT)?,
        credential: admin.object.parse().map_err(|_| DemoError::Name("the admin key's id"))?,
        origin: Origin { channel: Channel::System, address: None },
    };
    let set_up = SetUp { control, caller };
    set_up.records(upstream).await?;
    Ok(Demo {
        admin_key: key(admin.issued)?,
        passing_key: set_up.key(PASSING_KEY, &[]).await?,
        filtered_key: set_up.key(FILTERED_KEY, &[NOWHERE]).await?,
    })
}

struct SetUp<'c> {
    control: &'c Arc<Control>,
    caller: Caller,
}

impl SetUp<'_> {
    async fn order(&self, command: Command) -> Result<Option<Issued>, DemoError> {
        let order = Order { caller: self.caller.clone(), if_match: None, idempotency: None, command };
        Ok(self.control.execute(order).await?.issued)
    }

    /// The service, the tenant and its group, where they are missing; the service leads to the echo of this start.
    async fn records(&self, upstream: SocketAddr) -> Result<(), DemoError> {
        let delivery = Delivery {
            upstream: format!("http://{upstream}"),
            preserve_host: true,
            response_timeout_s: 30,
            reserved_prefix: None,
            preflight: None,
        };
        let service = id(SERVICE)?;
        let view = self.control.system_view(&self.caller).map_err(CommandError::Refused)?;
        if view.service(&service).await.is_ok() {
            let edit = ServiceEdit { delivery: Some(delivery), ..ServiceEdit::default() };
            self.order(Command::EditService(service, edit)).await?;
            return Ok(());
        }
        let tenant = id(TENANT)?;
        self.order(Command::CreateTenant(NewTenant {
            id: tenant.clone(),
            name: "Acme".to_owned(),
            modules: vec![Module::IpFilter],
            key_limit: 10,
            rules: RulesEdit::default(),
        }))
        .await?;
        let hosts = ["localhost", "127.0.0.1", "[::1]"].map(|host| HostPattern::try_from(host.to_owned()));
        let hosts: Result<Vec<HostPattern>, _> = hosts.into_iter().collect();
        let endpoints = Preset::Antavo.endpoints("/");
        self.order(Command::CreateService(NewService {
            id: service.clone(),
            name: "Demo".to_owned(),
            hosts: hosts.map_err(|_| DemoError::Name("a host"))?,
            prefix: "/".to_owned(),
            tenant: None,
            accept: Presentation::usual(),
            delivery,
            preset: Some(Preset::Antavo),
        }))
        .await?;
        let permissions = endpoints.into_iter().map(|endpoint| Permission {
            endpoint: EndpointRef { service: service.clone(), endpoint: endpoint.id },
            methods: Methods::default(),
        });
        let group = NewGroup {
            id: id(GROUP)?,
            name: "Every endpoint".to_owned(),
            kind: GroupKind::TenantKey,
            permissions: permissions.collect(),
        };
        self.order(Command::CreateGroup(tenant, group)).await?;
        Ok(())
    }

    /// The key of that name with a new secret.
    async fn key(&self, name: &str, allowlist: &[&'static str]) -> Result<SecretString, DemoError> {
        let tenant = id(TENANT)?;
        let view = self.control.tenant_view(&self.caller, &tenant).await?;
        let state = Some(portcullis_model::source::CredentialState::Active);
        let filter = KeyFilter { kind: Kind::Tenant, state, expiration: None };
        let keys = view.keys(filter, Paging { after: None, limit: 200 }).await?.items;
        if let Some(stored) = keys.into_iter().find(|stored| stored.record.name == name) {
            let key = KeyRef { tenant, kind: Kind::Tenant, id: stored.record.credential.id };
            let rotation = Rotation { expires: None, overlap_s: 0, confirmation: Confirmation::Confirmed };
            return self::key(self.order(Command::RotateKey(key, rotation)).await?);
        }
        let ranges: Result<Vec<Cidr>, DemoError> =
            allowlist.iter().map(|&range| range.parse().map_err(|_| DemoError::Name(range))).collect();
        let new = NewTenantKey {
            name: name.to_owned(),
            description: "Made by the demo".to_owned(),
            group: id(GROUP)?,
            expires: None,
            ip_allowlist: ranges?,
        };
        self::key(self.order(Command::CreateTenantKey(tenant, new)).await?)
    }
}

impl Demo {
    /// What is printed, once.
    pub(crate) fn introduction(&self, proxy: SocketAddr, admin: SocketAddr, data: &std::path::Path) -> String {
        let passing = self.passing_key.expose_secret();
        let filtered = self.filtered_key.expose_secret();
        format!(
            "Portcullis guards an echo service. Stop it with Ctrl-C.\n\n\
             \x20 proxy      http://{proxy}\n\
             \x20 admin API  http://{admin}\n\
             \x20 data       {data}\n\n\
             Admin key, shown this once:\n\n\
             \x20 export PORTCULLIS_SERVER=http://{admin} PORTCULLIS_KEY={admin_key}\n\n\
             Allowed (200):\n\n\
             \x20 curl -i -H 'X-API-Key: {passing}' http://{proxy}/events\n\n\
             No key (401):\n\n\
             \x20 curl -i http://{proxy}/events\n\n\
             A key with an address filter (403):\n\n\
             \x20 curl -i -H 'X-API-Key: {filtered}' http://{proxy}/events\n\n\
             With the admin key, in another terminal:\n\n\
             \x20 portcullis key list {TENANT}\n\n",
            data = data.display(),
            admin_key = self.admin_key.expose_secret(),
        )
    }
}

fn id(text: &'static str) -> Result<Id, DemoError> {
    text.parse().map_err(|_| DemoError::Name(text))
}

fn key(issued: Option<Issued>) -> Result<SecretString, DemoError> {
    issued.map(|issued| issued.key).ok_or(DemoError::Name("the answer without a key"))
}

/// A service that answers with what it was asked, on a loopback port of its own.
async fn echo() -> Result<SocketAddr, std::io::Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Too many open files, for example: the next attempt finds some closed.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            tokio::spawn(async move {
                // A client that goes away in the middle is no news.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(told))
                    .await;
            });
        }
    });
    Ok(address)
}

async fn told(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let headers: serde_json::Map<String, serde_json::Value> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let body = Limited::new(body, MAX_ECHO_BYTES).collect().await.map_or(0, |body| body.to_bytes().len());
    let told = serde_json::json!({
        "method": head.method.as_str(),
        "target": head.uri.path_and_query().map(http::uri::PathAndQuery::as_str),
        "headers": headers,
        "body_bytes": body,
    });
    let text = serde_json::to_string_pretty(&told).unwrap_or_default() + "\n";
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
