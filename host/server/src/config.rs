//! The configuration: one TOML file, checked whole before any port opens.
//!
//! A key that is not known here is refused, and so is a number where a unit belongs. What is wrong is told all at once, each
//! fault with its line, its column and what to write instead. Certificates are read here too.

mod authz;
mod fault;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_control::{AuditRetention, TokenSettings};
use portcullis_model::source::TokenAlgorithm;
use serde::Deserialize;
use toml::{Spanned, Value};

use self::authz::AuthzFile;
pub(crate) use self::authz::{AuthzConfig, AuthzTls};
pub(crate) use self::fault::ConfigError;
use self::fault::Faults;
use crate::tls::{Files, Identity};

/// The longest configuration file in bytes. One that sets everything has about 1 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The longest time that can be set: a day. Longer ones are typing errors.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);
/// The most connections or records that can be set; what the addresses of a machine allow.
const MAX_COUNT: usize = 1 << 24;
/// The longest body of a signed request in bytes where nobody says.
const USUAL_SIGNED_BODY_BYTES: u64 = 8 << 20;
/// The longest that can be set: what the gate asks for at most.
const MAX_SIGNED_BODY_BYTES: u64 = 16 << 20;
/// The most host names of the admin listener.
const MAX_HOSTS: usize = 64;

/// The whole configuration, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// The folder of everything that is kept: database, master key, compiled code.
    pub(crate) data: PathBuf,
    /// The file of the master key, where it is not the one in the data folder.
    pub(crate) master_key_file: Option<PathBuf>,
    /// The listener of guarded traffic.
    pub(crate) proxy: ProxyConfig,
    /// The listener of the admin API.
    pub(crate) admin: AdminConfig,
    /// The listener of workers alone, where there is one.
    pub(crate) feed: Option<FeedConfig>,
    /// The listeners for proxies that ask before they forward.
    pub(crate) authz: Vec<AuthzConfig>,
    /// How much is kept of decisions.
    pub(crate) decisions: DecisionsConfig,
    /// How much is kept of the audit.
    pub(crate) audit: AuditRetention,
    /// How access tokens are issued.
    pub(crate) tokens: TokenSettings,
    /// What is logged.
    pub(crate) log: LogConfig,
}

/// How guarded traffic is taken and passed on.
#[derive(Debug)]
pub(crate) struct ProxyConfig {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The certificate, where it speaks TLS.
    pub(crate) tls: Option<Identity>,
    /// The most connections at once; more wait unaccepted.
    pub(crate) max_connections: usize,
    /// How long a client may take for the head of a request, the first one counted from the connection's start.
    pub(crate) head_timeout: Duration,
    /// How long a body may stand still, in either direction.
    pub(crate) idle_timeout: Duration,
    /// The longest body of a request in bytes, where there is a limit.
    pub(crate) request_body_limit: Option<u64>,
    /// The longest body in bytes that is read whole because a signature is over it.
    pub(crate) signed_body_limit: u64,
    /// How long a shutdown waits for requests that have begun.
    pub(crate) drain_timeout: Duration,
    /// How long connecting to an upstream may take.
    pub(crate) upstream_connect_timeout: Duration,
    /// How many idle connections are kept to each upstream.
    pub(crate) upstream_idle_connections: usize,
    /// A PEM file of the authorities that upstreams' certificates are checked with, instead of the system's.
    pub(crate) upstream_ca: Option<PathBuf>,
}

/// How the admin API is offered.
#[derive(Debug)]
pub(crate) struct AdminConfig {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The certificate, where it speaks TLS.
    pub(crate) tls: Option<Identity>,
    /// Names that Host may have besides those of the loopback.
    pub(crate) hosts: Vec<String>,
}

/// How feeds are offered beside the admin API.
#[derive(Debug)]
pub(crate) struct FeedConfig {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The certificate, where it speaks TLS.
    pub(crate) tls: Option<Identity>,
}

/// How much is kept of decisions.
#[derive(Debug)]
pub(crate) struct DecisionsConfig {
    /// The most bytes that are kept; the oldest records go first.
    pub(crate) keep: u64,
    /// The most records that wait to be written.
    pub(crate) queue: usize,
}

/// What is logged, and how.
#[derive(Debug)]
pub(crate) struct LogConfig {
    /// Its form.
    pub(crate) format: LogFormat,
    /// The least severe level that is logged.
    pub(crate) level: tracing::Level,
}

/// The form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// Where the file cannot be read, is no TOML, has a key that is not known, or says something that cannot be.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
            return Err(ConfigError::TooLong { path: path.to_owned(), limit: MAX_FILE_BYTES });
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::parse(&text, path, folder)
    }

    /// Checks a configuration that is not in a file. `path` is what faults call it.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub(crate) fn parse(text: &str, path: &Path, folder: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::syntax(path, text, &error))?;
        let mut check = Check { faults: Faults::new(path, text), folder };
        let config = Config {
            data: check.data(file.data),
            master_key_file: check.path("master_key_file", file.master_key_file),
            proxy: check.proxy(file.proxy),
            admin: check.admin(file.admin),
            feed: file.feed.and_then(|feed| check.feed(feed)),
            authz: check.authz(file.authz),
            decisions: check.decisions(file.decisions),
            audit: check.audit(file.audit),
            tokens: check.tokens(file.tokens),
            log: check.log(file.log),
        };
        check.faults.none_or(config)
    }
}

type Setting = Option<Spanned<Value>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data: Setting,
    master_key_file: Setting,
    #[serde(default)]
    proxy: ProxyFile,
    #[serde(default)]
    admin: AdminFile,
    feed: Option<Spanned<FeedFile>>,
    #[serde(default)]
    authz: Vec<Spanned<AuthzFile>>,
    #[serde(default)]
    decisions: DecisionsFile,
    #[serde(default)]
    audit: AuditFile,
    #[serde(default)]
    tokens: TokensFile,
    #[serde(default)]
    log: LogFile,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ProxyFile {
    listen: Setting,
    tls: Option<Spanned<TlsFile>>,
    max_connections: Setting,
    head_timeout: Setting,
    idle_timeout: Setting,
    request_body_limit: Setting,
    signed_body_limit: Setting,
    drain_timeout: Setting,
    upstream_connect_timeout: Setting,
    upstream_idle_connections: Setting,
    upstream_ca: Setting,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct AdminFile {
    listen: Setting,
    tls: Option<Spanned<TlsFile>>,
    hosts: Setting,
    allow_plaintext: Setting,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedFile {
    listen: Setting,
    tls: Option<Spanned<TlsFile>>,
    allow_plaintext: Setting,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct DecisionsFile {
    keep: Setting,
    queue: Setting,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct AuditFile {
    retention_days: Setting,
    retention_entries: Setting,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    issuer: Setting,
    algorithm: Setting,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LogFile {
    format: Setting,
    level: Setting,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFile {
    certificate: Setting,
    key: Setting,
}

/// Turns what the file says into what is meant, and notes what cannot be.
struct Check<'a> {
    faults: Faults<'a>,
    folder: &'a Path,
}

impl Check<'_> {
    fn data(&mut self, setting: Setting) -> PathBuf {
        if setting.is_none() {
            self.faults
                .missing("data", "name the folder to keep everything in, such as `data = \"/var/lib/portcullis\"`");
        }
        self.path("data", setting).unwrap_or_default()
    }

    fn proxy(&mut self, file: ProxyFile) -> ProxyConfig {
        let ProxyFile { listen, tls, max_connections, head_timeout, idle_timeout, request_body_limit, .. } = file;
        ProxyConfig {
            listen: self.address("proxy.listen", listen, SocketAddr::from(([127, 0, 0, 1], 8080))),
            tls: self.identity("proxy.tls", tls),
            max_connections: self.count("proxy.max_connections", max_connections, 10_000),
            head_timeout: self.duration("proxy.head_timeout", head_timeout, 15),
            idle_timeout: self.duration("proxy.idle_timeout", idle_timeout, 60),
            request_body_limit: self.size("proxy.request_body_limit", request_body_limit),
            signed_body_limit: self.signed_body_limit(file.signed_body_limit),
            drain_timeout: self.duration("proxy.drain_timeout", file.drain_timeout, 30),
            upstream_connect_timeout: self.duration("proxy.upstream_connect_timeout", file.upstream_connect_timeout, 5),
            upstream_idle_connections: self.count(
                "proxy.upstream_idle_connections",
                file.upstream_idle_connections,
                256,
            ),
            upstream_ca: self.upstream_ca(file.upstream_ca),
        }
    }

    fn signed_body_limit(&mut self, setting: Setting) -> u64 {
        let span = setting.as_ref().map(Spanned::span);
        let limit = self.size("proxy.signed_body_limit", setting).unwrap_or(USUAL_SIGNED_BODY_BYTES);
        if limit > MAX_SIGNED_BODY_BYTES {
            let what = format!("{limit} bytes are more than are held for one signature");
            self.faults.add("proxy.signed_body_limit", span, what, "write at most `\"16MiB\"`");
        }
        limit
    }

    fn admin(&mut self, file: AdminFile) -> AdminConfig {
        let at = file.listen.as_ref().map(Spanned::span);
        let has_tls = file.tls.is_some();
        let listen = self.address("admin.listen", file.listen, SocketAddr::from(([127, 0, 0, 1], 9180)));
        let allow_plaintext = self.switch("admin.allow_plaintext", file.allow_plaintext);
        if !has_tls && !allow_plaintext {
            let fix = "give `admin.tls`, listen on `127.0.0.1:9180`, or set `allow_plaintext = true` behind a proxy of your own";
            self.loopback_alone("admin.listen", at, listen, fix);
        }
        AdminConfig { listen, tls: self.identity("admin.tls", file.tls), hosts: self.hosts("admin.hosts", file.hosts) }
    }

    fn feed(&mut self, file: Spanned<FeedFile>) -> Option<FeedConfig> {
        let span = file.span();
        let FeedFile { listen, tls, allow_plaintext } = file.into_inner();
        let at = listen.as_ref().map(Spanned::span);
        if listen.is_none() {
            let fix = "say where it listens, such as `listen = \"127.0.0.1:9181\"`, or leave the table out: `admin.listen` serves feeds too";
            self.faults.add("feed.listen", Some(span), "it is left out".to_owned(), fix);
            return None;
        }
        let listen = self.address("feed.listen", listen, SocketAddr::from(([127, 0, 0, 1], 9181)));
        let allow_plaintext = self.switch("feed.allow_plaintext", allow_plaintext);
        if tls.is_none() && !allow_plaintext {
            let fix = "give `feed.tls`, listen on `127.0.0.1:9181`, or set `allow_plaintext = true` behind a proxy of your own";
            self.loopback_alone("feed.listen", at, listen, fix);
        }
        Some(FeedConfig { listen, tls: self.identity("feed.tls", tls) })
    }

    fn loopback_alone(&mut self, key: &str, at: Option<std::ops::Range<usize>>, listen: SocketAddr, fix: &str) {
        if !listen.ip().to_canonical().is_loopback() {
            let what = format!("`{listen}` is no loopback address, and keys would cross the network in plain text");
            self.faults.add(key, at, what, fix);
        }
    }

    fn decisions(&mut self, file: DecisionsFile) -> DecisionsConfig {
        DecisionsConfig {
            keep: self.size("decisions.keep", file.keep).unwrap_or(256 << 20),
            queue: self.count("decisions.queue", file.queue, 65_536),
        }
    }

    fn audit(&mut self, file: AuditFile) -> AuditRetention {
        let AuditFile { retention_days, retention_entries } = file;
        AuditRetention {
            days: self.maybe_count("audit.retention_days", retention_days),
            entries: self.maybe_count("audit.retention_entries", retention_entries),
        }
    }

    fn tokens(&mut self, file: TokensFile) -> TokenSettings {
        let algorithms = TokenAlgorithm::ALL.map(|algorithm| (algorithm.as_str(), algorithm));
        let algorithm = self.one_of("tokens.algorithm", file.algorithm, &algorithms).unwrap_or_default();
        let fix = "write the address that clients know the issuer by, such as `\"https://login.example.com\"`";
        let issuer = self.text("tokens.issuer", file.issuer, fix).and_then(|text| {
            let is_one = portcullis_control::is_issuer_url(text.get_ref());
            if !is_one {
                let what = format!("`{}` is no address of an issuer", text.get_ref());
                self.faults.add("tokens.issuer", Some(text.span()), what, fix);
            }
            is_one.then(|| text.into_inner())
        });
        TokenSettings { issuer, algorithm: Some(algorithm) }
    }

    fn log(&mut self, file: LogFile) -> LogConfig {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let levels = [
            ("error", tracing::Level::ERROR),
            ("warn", tracing::Level::WARN),
            ("info", tracing::Level::INFO),
            ("debug", tracing::Level::DEBUG),
            ("trace", tracing::Level::TRACE),
        ];
        LogConfig {
            format: self.one_of("log.format", file.format, &formats).unwrap_or(LogFormat::Text),
            level: self.one_of("log.level", file.level, &levels).unwrap_or(tracing::Level::INFO),
        }
    }

    /// A text, or nothing where it is left out or something else.
    fn text(&mut self, key: &str, setting: Setting, fix: &str) -> Option<Spanned<String>> {
        let setting = setting?;
        let (span, kind) = (setting.span(), kind(setting.get_ref()));
        if let Value::String(text) = setting.into_inner() {
            return Some(Spanned::new(span, text));
        }
        self.faults.add(key, Some(span), format!("this is {kind}, not a text"), fix);
        None
    }

    fn path(&mut self, key: &str, setting: Setting) -> Option<PathBuf> {
        let text = self.text(key, setting, "write the path in quotes")?;
        if text.get_ref().is_empty() {
            self.faults.add(key, Some(text.span()), "the path is empty".to_owned(), "name a file or folder");
            return None;
        }
        Some(self.folder.join(text.into_inner()))
    }

    fn address(&mut self, key: &str, setting: Setting, default: SocketAddr) -> SocketAddr {
        let fix = "write an IP address and a port, such as `\"0.0.0.0:8443\"` or `\"[::]:8443\"`";
        let Some(text) = self.text(key, setting, fix) else { return default };
        text.get_ref().parse().unwrap_or_else(|_| {
            let what = format!("`{}` is no address to listen on", text.get_ref());
            self.faults.add(key, Some(text.span()), what, fix);
            default
        })
    }

    fn duration(&mut self, key: &str, setting: Setting, default_s: u64) -> Duration {
        let default = Duration::from_secs(default_s);
        let fix = "write a time with its unit, such as `\"30s\"`, `\"500ms\"` or `\"5m\"`";
        let Some(text) = self.text(key, setting, fix) else { return default };
        let parsed = text.get_ref().parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        let problem = match parsed {
            Some(duration) if !duration.is_zero() && duration <= MAX_DURATION => return duration,
            Some(_) => format!("`{}` is not between nothing and 24 hours", text.get_ref()),
            None => format!("`{}` is no time", text.get_ref()),
        };
        self.faults.add(key, Some(text.span()), problem, fix);
        default
    }

    fn size(&mut self, key: &str, setting: Setting) -> Option<u64> {
        let fix = "write a size with its unit, such as `\"64KiB\"` or `\"10MiB\"`";
        let text = self.text(key, setting, fix)?;
        let has_unit = text.get_ref().ends_with(|last: char| last.is_ascii_alphabetic());
        match text.get_ref().parse::<bytesize::ByteSize>() {
            Ok(size) if has_unit && size.as_u64() > 0 => Some(size.as_u64()),
            Ok(_) | Err(_) => {
                let what = if has_unit { "is no size above nothing" } else { "has no unit" };
                self.faults.add(key, Some(text.span()), format!("`{}` {what}", text.get_ref()), fix);
                None
            }
        }
    }

    fn maybe_count(&mut self, key: &str, setting: Setting) -> Option<u64> {
        setting.is_some().then(|| u64::try_from(self.count(key, setting, 1)).unwrap_or(u64::MAX))
    }

    fn count(&mut self, key: &str, setting: Setting, default: usize) -> usize {
        let Some(setting) = setting else { return default };
        let what = match setting.get_ref().as_integer() {
            Some(number) => match usize::try_from(number) {
                Ok(count) if (1..=MAX_COUNT).contains(&count) => return count,
                Ok(_) | Err(_) => format!("{number} is not between 1 and {MAX_COUNT}"),
            },
            None => format!("this is {}, not a number", kind(setting.get_ref())),
        };
        self.faults.add(key, Some(setting.span()), what, "write a whole number without quotes");
        default
    }

    fn switch(&mut self, key: &str, setting: Setting) -> bool {
        let Some(setting) = setting else { return false };
        if let Some(on) = setting.get_ref().as_bool() {
            return on;
        }
        let what = format!("this is {}", kind(setting.get_ref()));
        self.faults.add(key, Some(setting.span()), what, "write `true` or `false` without quotes");
        false
    }

    fn one_of<T: Copy>(&mut self, key: &str, setting: Setting, known: &[(&str, T)]) -> Option<T> {
        let names: Vec<String> = known.iter().map(|(name, _)| format!("`\"{name}\"`")).collect();
        let fix = format!("write one of {}", names.join(", "));
        let text = self.text(key, setting, &fix)?;
        let found = known.iter().find(|(name, _)| name == text.get_ref()).map(|(_, value)| *value);
        if found.is_none() {
            self.faults.add(key, Some(text.span()), format!("`{}` is not known", text.get_ref()), &fix);
        }
        found
    }

    fn hosts(&mut self, key: &str, setting: Setting) -> Vec<String> {
        let fix = "write a list of at most 64 host names without ports, such as `[\"portcullis.internal.example\"]`";
        let Some(setting) = setting else { return Vec::new() };
        let span = setting.span();
        let Value::Array(values) = setting.into_inner() else {
            self.faults.add(key, Some(span), "this is not a list".to_owned(), fix);
            return Vec::new();
        };
        let name = |value: &Value| value.as_str().filter(|name| is_host(name)).map(str::to_ascii_lowercase);
        let hosts: Vec<String> = values.iter().filter_map(name).collect();
        if hosts.len() != values.len() || hosts.len() > MAX_HOSTS {
            self.faults.add(key, Some(span), "not everything in it is a host name".to_owned(), fix);
        }
        hosts
    }

    fn identity(&mut self, key: &str, tls: Option<Spanned<TlsFile>>) -> Option<Identity> {
        let tls = tls?;
        let span = tls.span();
        let TlsFile { certificate, key: private } = tls.into_inner();
        let fix = "give both, as `{ certificate = \"server.pem\", key = \"server.key\" }`";
        if certificate.is_none() || private.is_none() {
            self.faults.add(key, Some(span), "the certificate or its key is left out".to_owned(), fix);
            return None;
        }
        let certificate = self.path(&format!("{key}.certificate"), certificate)?;
        let private = self.path(&format!("{key}.key"), private)?;
        match Identity::load(Files { certificate, key: private }) {
            Ok(identity) => Some(identity),
            Err(error) => {
                self.faults.add(key, Some(span), error.to_string(), error.fix());
                None
            }
        }
    }

    fn upstream_ca(&mut self, setting: Setting) -> Option<PathBuf> {
        let span = setting.as_ref().map(Spanned::span);
        let path = self.path("proxy.upstream_ca", setting)?;
        match crate::tls::authorities(&path) {
            Ok(_) => Some(path),
            Err(error) => {
                self.faults.add("proxy.upstream_ca", span, error.to_string(), error.fix());
                None
            }
        }
    }
}

/// What a value is, for people.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn is_host(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (1..=253).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('.') && !name.contains("..")
}

#[cfg(test)]
mod tests;
