//! `[[authz]]`: listeners for proxies that ask before they forward.

use std::net::SocketAddr;

use portcullis_authz::{Dialect, Secret};
use serde::Deserialize;
use toml::Spanned;

use super::{Check, MAX_SIGNED_BODY_BYTES, Setting, TlsFile, USUAL_SIGNED_BODY_BYTES};
use crate::tls::{ClientAuthorities, Identity};

/// The most such listeners.
pub(super) const MAX_LISTENERS: usize = 64;
/// The longest name of a service.
const MAX_SERVICE_CHARS: usize = 64;
/// The longest `path_prefix`.
const MAX_PREFIX_CHARS: usize = 256;
/// The longest file of a secret in bytes: the secret and what ends its line.
const MAX_SECRET_FILE_BYTES: u64 = 1024;

/// One listener.
#[derive(Debug)]
pub(crate) struct AuthzConfig {
    /// In what it is asked.
    pub(crate) dialect: Dialect,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The one service that may be asked about.
    pub(crate) service: Option<String>,
    /// The certificate, where it speaks TLS.
    pub(crate) tls: Option<AuthzTls>,
    /// What a proxy has to show.
    pub(crate) secret: Option<Secret>,
    /// Envoy's `path_prefix`.
    pub(crate) path_prefix: String,
    /// The proxy sends the whole body of every request that has one.
    pub(crate) whole_bodies: bool,
    /// The longest body that is taken for a signature.
    pub(crate) signed_body_limit: usize,
}

/// How it speaks TLS.
#[derive(Debug)]
pub(crate) struct AuthzTls {
    /// Its certificate.
    pub(crate) identity: Identity,
    /// The authorities of the certificates that clients have to show.
    pub(crate) clients: Option<ClientAuthorities>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthzFile {
    dialect: Setting,
    listen: Setting,
    service: Setting,
    tls: Option<Spanned<TlsFile>>,
    client_ca: Setting,
    secret_file: Setting,
    allow_plaintext: Setting,
    path_prefix: Setting,
    whole_bodies: Setting,
    signed_body_limit: Setting,
}

impl Check<'_> {
    pub(super) fn authz(&mut self, files: Vec<Spanned<AuthzFile>>) -> Vec<AuthzConfig> {
        if let Some(first) = files.get(MAX_LISTENERS) {
            let what = format!("these are more than {MAX_LISTENERS} listeners");
            self.faults.add("authz", Some(first.span()), what, "have proxies share them");
        }
        files.into_iter().filter_map(|file| self.authz_listener(file)).collect()
    }

    fn authz_listener(&mut self, file: Spanned<AuthzFile>) -> Option<AuthzConfig> {
        let at = file.span();
        let file = file.into_inner();
        for (key, is_missing, fix) in [
            ("authz.dialect", file.dialect.is_none(), "write `dialect = \"envoy-grpc\"`, or another dialect"),
            (
                "authz.listen",
                file.listen.is_none(),
                "write an address of its own, such as `listen = \"127.0.0.1:9191\"`",
            ),
        ] {
            if is_missing {
                self.faults.add(key, Some(at.clone()), "it is left out".to_owned(), fix);
            }
        }
        let listen_at = file.listen.as_ref().map(Spanned::span);
        let listen = self.address("authz.listen", file.listen, SocketAddr::from(([127, 0, 0, 1], 9191)));
        let has_tls = file.tls.is_some();
        let clients_at = file.client_ca.as_ref().map(Spanned::span);
        let secret_at = file.secret_file.as_ref().map(Spanned::span);
        let allow_plaintext = self.switch("authz.allow_plaintext", file.allow_plaintext);
        if !listen.ip().to_canonical().is_loopback() {
            if clients_at.is_none() && secret_at.is_none() {
                let what = format!("`{listen}` is no loopback address, and anybody there could ask about any key");
                let fix = "give `client_ca` (mutual TLS) or `secret_file`, or listen on `127.0.0.1`";
                self.faults.add("authz.listen", listen_at.clone(), what, fix);
            }
            if !has_tls && !allow_plaintext {
                let what = format!("`{listen}` is no loopback address, and keys would cross the network in plain text");
                let fix =
                    "give `tls`, listen on `127.0.0.1`, or set `allow_plaintext = true` where the network encrypts";
                self.faults.add("authz.listen", listen_at, what, fix);
            }
        }
        if clients_at.is_some() && !has_tls {
            let what = "certificates of clients are shown over TLS alone".to_owned();
            self.faults.add("authz.client_ca", clients_at.clone(), what, "give `tls` too");
        }
        let clients = self.path("authz.client_ca", file.client_ca).and_then(|path| {
            let loaded = ClientAuthorities::load(&path);
            loaded.map_err(|error| self.faults.add("authz.client_ca", clients_at, error.to_string(), error.fix())).ok()
        });
        let identity = self.identity("authz.tls", file.tls);
        let secret = self.authz_secret(file.secret_file);
        let dialect = self.one_of("authz.dialect", file.dialect, &Dialect::ALL);
        let path_prefix = self.path_prefix(file.path_prefix, dialect);
        let whole_at = file.whole_bodies.as_ref().map(Spanned::span);
        let whole_bodies = self.switch("authz.whole_bodies", file.whole_bodies);
        if whole_bodies && dialect == Some(Dialect::Nginx) {
            let what = "`auth_request` sends no bodies".to_owned();
            self.faults.add("authz.whole_bodies", whole_at, what, "leave it out");
        }
        Some(AuthzConfig {
            service: self.authz_service(file.service),
            signed_body_limit: self.authz_body_limit(file.signed_body_limit),
            dialect: dialect?,
            listen,
            tls: identity.map(|identity| AuthzTls { identity, clients }),
            secret,
            path_prefix,
            whole_bodies,
        })
    }

    fn authz_service(&mut self, setting: Setting) -> Option<String> {
        let fix = "write the id of a service, such as `\"shop\"`";
        let text = self.text("authz.service", setting, fix)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=MAX_SERVICE_CHARS).contains(&text.get_ref().len()) || !text.get_ref().bytes().all(fits) {
            let what = format!("`{}` is no id of a service", text.get_ref());
            self.faults.add("authz.service", Some(text.span()), what, fix);
        }
        Some(text.into_inner())
    }

    fn authz_body_limit(&mut self, setting: Setting) -> usize {
        let at = setting.as_ref().map(Spanned::span);
        let limit = self.size("authz.signed_body_limit", setting).unwrap_or(USUAL_SIGNED_BODY_BYTES);
        if limit > MAX_SIGNED_BODY_BYTES {
            let what = format!("{limit} bytes are more than are held for one signature");
            self.faults.add("authz.signed_body_limit", at, what, "write at most `\"16MiB\"`");
        }
        usize::try_from(limit.min(MAX_SIGNED_BODY_BYTES)).unwrap_or(usize::MAX)
    }

    fn path_prefix(&mut self, setting: Setting, dialect: Option<Dialect>) -> String {
        let fix = "write the `path_prefix` of Envoy's HTTP service, such as `\"/check\"`";
        let Some(text) = self.text("authz.path_prefix", setting, fix) else { return String::new() };
        let prefix = text.get_ref();
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"?#%".contains(&byte);
        let what = if dialect.is_some_and(|dialect| dialect != Dialect::EnvoyHttp) {
            "only `envoy-http` has one".to_owned()
        } else if !prefix.starts_with('/') || prefix.len() > MAX_PREFIX_CHARS || !prefix.bytes().all(fits) {
            format!("`{prefix}` is no path")
        } else {
            return text.into_inner();
        };
        self.faults.add("authz.path_prefix", Some(text.span()), what, fix);
        String::new()
    }

    /// The secret in a file, without what ends its line. No fault shows anything of it.
    fn authz_secret(&mut self, setting: Setting) -> Option<Secret> {
        let at = setting.as_ref().map(Spanned::span);
        let path = self.path("authz.secret_file", setting)?;
        let long = std::fs::metadata(&path).is_ok_and(|file| file.len() > MAX_SECRET_FILE_BYTES);
        let read = if long { Ok(Vec::new()) } else { std::fs::read(&path) };
        let (what, fix) = match read {
            Ok(text) => match Secret::new(text.trim_ascii_end()) {
                Ok(secret) => return Some(secret),
                Err(error) => (format!("`{}`: {error}", path.display()), "make one with `openssl rand -hex 32`"),
            },
            Err(error) => (format!("cannot read `{}`: {error}", path.display()), "check the path and its permissions"),
        };
        self.faults.add("authz.secret_file", at, what, fix);
        None
    }
}
