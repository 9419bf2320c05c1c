//! The file: TOML with a format, and a service or a tenant.

use portcullis_control::store::{GroupKind, Preflight};
use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, Id};
use portcullis_model::method::Methods;
use portcullis_model::source::{
    CreatorRule, CredentialState, EndpointSettings, HostPattern, Module, Presentation, Role, TenantState,
    TokenRevocation, UserState,
};
use portcullis_model::time::Expiry;
use serde::{Deserialize, Serialize};

use super::super::is_false;
use crate::error::Error;
use crate::input::{Inputs, Origin};

/// The version of the format that this build reads and writes.
const FORMAT: u32 = 1;
/// The longest file in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A file. It has a service or a tenant.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<Tenant>,
}

/// A guarded API product.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) id: Id,
    #[serde(default)]
    pub(super) name: String,
    pub(super) hosts: Vec<HostPattern>,
    #[serde(default = "root")]
    pub(super) prefix: String,
    /// The tenant it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<Id>,
    pub(super) upstream: String,
    #[serde(default = "yes")]
    pub(super) preserve_host: bool,
    #[serde(default = "thirty")]
    pub(super) response_timeout_s: u32,
    #[serde(default = "Presentation::usual")]
    pub(super) accept: Vec<Presentation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reserved_prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) preflight: Option<Preflight>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoints: Option<Vec<Endpoint>>,
}

fn root() -> String {
    "/".to_owned()
}

fn yes() -> bool {
    true
}

fn thirty() -> u32 {
    30
}

/// A named part of a service. What is as usual is left out.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    pub(super) id: Id,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, skip_serializing_if = "is_all")]
    methods: Methods,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    paths: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    per_application: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    legacy: bool,
    /// Left out it stays as it is: a renamed endpoint remembers its earlier name by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    formerly: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<Id>,
}

impl Endpoint {
    /// With the earlier name that the endpoint has where the file has none.
    pub(super) fn formerly_as(mut self, before: Option<&Endpoint>) -> Endpoint {
        self.formerly = self.formerly.or_else(|| before.and_then(|before| before.formerly.clone()));
        self
    }
}

/// One endpoint and the methods permitted on it; all that it has where they are left out.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Permission {
    endpoint: EndpointRef,
    #[serde(default, skip_serializing_if = "is_all")]
    methods: Methods,
}

fn is_all(methods: &Methods) -> bool {
    *methods == Methods::ALL
}

/// A customer. Lists that are left out are left alone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tenant {
    pub(super) id: Id,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) state: TenantState,
    #[serde(default)]
    pub(super) modules: Vec<Module>,
    #[serde(default = "hundred")]
    pub(super) key_limit: u32,
    #[serde(default = "seven")]
    pub(super) expiring_soon_days: u16,
    /// The issuer that the tenant has where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_issuer: Option<String>,
    #[serde(default = "hour")]
    pub(super) token_validity_s: u32,
    #[serde(default)]
    pub(super) token_revocation: TokenRevocation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) groups: Option<Vec<Group>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) applications: Option<Vec<Application>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) users: Option<Vec<User>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) settings: Option<Vec<EndpointSettings>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<Vec<Key>>,
}

fn hundred() -> u32 {
    100
}

fn seven() -> u16 {
    7
}

fn hour() -> u32 {
    3600
}

/// A set of permissions.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) id: Id,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default = "for_tenant_keys")]
    pub(super) r#type: GroupKind,
    #[serde(default)]
    pub(super) permissions: Vec<Permission>,
}

fn for_tenant_keys() -> GroupKind {
    GroupKind::TenantKey
}

/// A part of a tenant.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    pub(super) id: Id,
    #[serde(default)]
    pub(super) name: String,
}

/// A person. Without a name in the file the name is left alone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) id: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) role: Role,
    #[serde(default)]
    pub(super) state: UserState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<Id>,
}

/// A key without its secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) id: Id,
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) description: String,
    #[serde(default)]
    pub(super) state: CredentialState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Expiry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<Id>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ip_allowlist: Vec<Cidr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) endpoints: Vec<EndpointRef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) applications: Vec<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) creator: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) creator_rule: Option<CreatorRule>,
}

impl File {
    pub(super) fn of(service: Option<Service>, tenant: Option<Tenant>) -> File {
        File { format: FORMAT, service, tenant }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read or is no such file; the fault has its line.
    pub(super) fn read(from: &Origin, inputs: &mut Inputs) -> Result<File, Error> {
        let bytes = inputs.whole(from, MAX_FILE_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::NoText { from: from.clone() })?;
        // The format first: the fields of another one are not this one's.
        let format = toml::from_str::<Format>(&text).map_err(|error| fault(from, &text, &error))?.format;
        if format != FORMAT {
            return Err(Error::FileFormat { from: from.clone(), found: format, known: FORMAT });
        }
        let file: File = toml::from_str(&text).map_err(|error| fault(from, &text, &error))?;
        file.check(from)?;
        Ok(file)
    }

    fn check(&self, from: &Origin) -> Result<(), Error> {
        if self.service.is_some() == self.tenant.is_some() {
            return Err(Error::FileSubject { from: from.clone() });
        }
        let twice = |list: &'static str, ids: Vec<String>| {
            let mut seen = std::collections::BTreeSet::new();
            let double = ids.into_iter().find(|id| !seen.insert(id.clone()));
            double.map_or(Ok(()), |id| Err(Error::FileTwice { from: from.clone(), list, id }))
        };
        if let Some(service) = &self.service {
            twice("endpoints", ids(service.endpoints.as_ref(), |endpoint| endpoint.id.to_string()))?;
        }
        let Some(tenant) = &self.tenant else { return Ok(()) };
        twice("groups", ids(tenant.groups.as_ref(), |group| group.id.to_string()))?;
        twice("applications", ids(tenant.applications.as_ref(), |application| application.id.to_string()))?;
        twice("users", ids(tenant.users.as_ref(), |user| user.id.to_string()))?;
        twice("settings", ids(tenant.settings.as_ref(), |settings| settings.endpoint.to_string()))?;
        twice("keys", ids(tenant.keys.as_ref(), |key| key.id.to_string()))
    }

    /// The file's text.
    ///
    /// # Errors
    /// Where a value has no form in TOML, which is a fault of this program.
    pub(super) fn to_toml(&self, what: &str) -> Result<String, Error> {
        let text = toml::to_string_pretty(self).map_err(|error| Error::Unwritable { what: error.to_string() })?;
        Ok(format!("# The {what} of a Portcullis installation. It holds no secret.\n{text}"))
    }
}

fn ids<T>(list: Option<&Vec<T>>, id: fn(&T) -> String) -> Vec<String> {
    list.into_iter().flatten().map(id).collect()
}

/// The format alone, whatever else there is.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// A fault with its place, and without the text at that place.
fn fault(from: &Origin, text: &str, error: &toml::de::Error) -> Error {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Error::Toml { from: from.clone(), line, column, what: error.message().replace('\n', ", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<File, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, text).unwrap();
        let read = File::read(&Origin::File(path.clone()), &mut Inputs::default());
        read.map_err(|error| error.to_string().replace(&path.display().to_string(), "f"))
    }

    #[test]
    fn a_fault_has_its_line() {
        let of = |text: &str| read(text).err().unwrap();
        let unknown = of("format = 1\n[tenant]\nid = \"acme\"\nnaem = \"Acme\"\n");
        assert!(unknown.starts_with("`f` line 4 column 1: unknown field `naem`, expected"), "{unknown}");
        let range = of(
            "format = 1\n[tenant]\nid = \"a\"\n[[tenant.settings]]\nendpoint = \"s/e\"\nip_ranges = [\n  \"10.0.0.1\",\n  \"x\",\n]\n",
        );
        // Of a list the parser knows where it begins; the text names the entry.
        assert!(range.starts_with("`f` line 6 column 13: `x` is not an address range"), "{range}");
        assert!(of("format = 2\nfuture = 1\n").contains("has format 2"));
        assert!(of("[tenant]\nid = \"a\"\n").contains("missing field `format`"));
        assert!(of("format = 1\n").contains("neither"));
        let twice =
            of("format = 1\n[tenant]\nid = \"a\"\n[[tenant.groups]]\nid = \"g\"\n[[tenant.groups]]\nid = \"g\"\n");
        assert!(twice.contains("`groups` has `g` twice"), "{twice}");
    }

    #[test]
    fn what_is_written_is_read() {
        let text = "format = 1\n[service]\nid = \"shop\"\nhosts = [\"a.example\"]\nupstream = \"http://127.0.0.1:9\"\n\
                    [service.preflight]\norigins = [\"https://a.example\"]\n\
                    [[service.endpoints]]\nid = \"events\"\nmethods = [\"GET\"]\npaths = [\"/events/{id}\"]\n";
        let file = read(text).unwrap();
        let written = file.to_toml("service `shop`").unwrap();
        let again = read(&written).unwrap();
        assert_eq!(again.to_toml("service `shop`").unwrap(), written);
        let service = again.service.unwrap();
        assert_eq!((service.prefix.as_str(), service.endpoints.unwrap().len()), ("/", 1));
    }
}
