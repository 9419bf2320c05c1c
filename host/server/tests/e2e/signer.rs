//! A signer of the tests' own: Escher's protocol for requests whose canonical form is as they are written, and clients that
//! others wrote.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::http::Call;
use crate::world::{HOST, Key, WORKSPACE_KEYS, World};

/// The profile of Escher's libraries as they are.
pub(crate) fn escher() -> Value {
    json!({
        "algorithm_prefix": "ESR", "vendor_key": "Escher", "hash": "sha256", "auth_header": "X-Escher-Auth",
        "date_header": "X-Escher-Date", "credential_scope": "eu/shop/escher_request", "canonical_form": "escher",
    })
}

/// The profile of the Antavo API's clients.
pub(crate) fn antavo() -> Value {
    json!({
        "algorithm_prefix": "ANTAVO", "vendor_key": "Antavo", "hash": "sha256", "auth_header": "Authorization",
        "date_header": "Date", "credential_scope": "eu/api/antavo_request", "canonical_form": "antavo",
    })
}

/// AWS Signature Version 4.
pub(crate) fn aws() -> Value {
    json!({
        "algorithm_prefix": "AWS4", "vendor_key": "Amz", "hash": "sha256", "auth_header": "Authorization",
        "date_header": "X-Amz-Date", "credential_scope": "eu-west-1/execute-api/aws4_request", "canonical_form": "aws",
    })
}

/// A pair, and the profile by which it signs.
pub(crate) struct Signer {
    pub(crate) profile: Value,
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) secret: String,
}

impl World {
    /// Has the service accept signatures by a profile beside plain keys.
    pub(crate) fn accept_signatures(&self, id: &str, profile: &Value) {
        let admin = self.admin();
        admin.put(&format!("/v1/signature-profiles/{id}"), profile.clone()).expect(200);
        let accept = json!([
            { "header": "X-API-Key", "kinds": ["tenant"] },
            { "header": "X-Workspace-Key", "kinds": ["workspace"] },
            { "parameter": "api_key", "kinds": ["workspace"] },
            { "signature": id, "kinds": ["workspace"] },
        ]);
        admin.patch("/v1/services/shop", json!({ "accept": accept, "hosts": [HOST, "127.0.0.1"] })).expect(200);
    }

    /// A new pair that signs by the profile `ours`, which is made.
    pub(crate) fn signer(&self, profile: Value) -> Signer {
        self.accept_signatures("ours", &profile);
        self.new_pair(profile)
    }

    /// A new pair that signs by the only profile there is.
    pub(crate) fn new_pair(&self, profile: Value) -> Signer {
        let made = self.admin().post(WORKSPACE_KEYS, json!({ "name": "Pair", "confirm": true })).expect(201);
        let Key { id, key } = Key::of(&made);
        assert_eq!(made.json()["signature_profile"], "ours", "the only profile there is");
        Signer { profile, id, key, secret: made.json()["signing_secret"].as_str().unwrap().to_owned() }
    }

    /// Sets what holds for signatures at the events.
    pub(crate) fn signatures(&self, signature: &str, replay: &str) {
        let settings = json!({ "signature": signature, "replay": replay });
        self.admin().put("/v1/tenants/acme/settings/shop/events", settings).expect(200);
    }
}

/// Now, as dates of signatures are written.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

impl Signer {
    /// A signed request for a target whose canonical form is itself, with more fields, all of them signed.
    pub(crate) fn call(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Call {
        let date = now();
        let date_header = self.profile["date_header"].as_str().unwrap();
        let mut signed = vec![("host", HOST), (date_header, date.as_str())];
        signed.extend_from_slice(fields);
        let authorization = self.authorization(method, target, &signed, body, &date);
        let auth_header = self.profile["auth_header"].as_str().unwrap();
        signed.push((auth_header, &authorization));
        signed.iter().fold(Call::new(method, target), |call, (name, value)| call.field(name, value))
    }

    fn authorization(&self, method: &str, target: &str, signed: &[(&str, &str)], body: &str, date: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut fields: Vec<(String, &str)> =
            signed.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
        fields.sort();
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let lines: String = fields.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{}", hex(&Sha256::digest(body)));
        let text = |field: &str| self.profile[field].as_str().unwrap();
        let (prefix, scope) = (text("algorithm_prefix"), text("credential_scope"));
        let day = &date[..8];
        let hashed = hex(&Sha256::digest(canonical));
        let to_sign = format!("{prefix}-HMAC-SHA256\n{date}\n{day}/{scope}\n{hashed}");
        let secret = format!("{prefix}{}", self.secret);
        let key = [day]
            .into_iter()
            .chain(scope.split('/'))
            .fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes()).to_vec());
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        format!(
            "{prefix}-HMAC-SHA256 Credential={}/{day}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.key
        )
    }
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    let hashed = Sha256::digest(key);
    let key = if key.len() > 64 { hashed.as_slice() } else { key };
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client that others wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Foreign {
    /// PyPI `escherauth`.
    Escherauth,
    /// npm `escher-auth`.
    EscherAuthJs,
    /// PyPI `botocore`.
    Botocore,
}

/// Where `tests/independent/install` has put them; nothing where nobody did, which is told, and fails in CI.
pub(crate) fn installed() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("independent");
    if folder.join("stamp").exists() {
        return Some(folder);
    }
    let install = format!("tests/independent/install {}", folder.display());
    assert!(std::env::var_os("CI").is_none(), "the clients that others wrote are not installed: run `{install}`");
    eprintln!("NOT TESTED: the clients that others wrote are not installed: run `{install}`");
    None
}

impl Foreign {
    /// What the client prints for a request that it is asked to sign or to send.
    pub(crate) fn ask(self, folder: &Path, ask: &Value) -> Value {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/independent");
        let mut ask = ask.clone();
        let mut command = match self {
            Foreign::EscherAuthJs => {
                let mut command = Command::new("node");
                command.arg(scripts.join("sign.js")).arg(folder);
                command
            }
            Foreign::Escherauth | Foreign::Botocore => {
                ask["client"] = if self == Foreign::Botocore { "botocore" } else { "escherauth" }.into();
                let mut command = Command::new(folder.join("python/bin/python"));
                command.arg(scripts.join("sign.py"));
                command
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(ask.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{self:?} {ask}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
