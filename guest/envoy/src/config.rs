//! The plugin's configuration: one JSON object, unknown fields are faults, and so is whatever cannot be carried out.

use base64ct::{Base64, Encoding as _};
use portcullis_model::feed::is_node_name;
use portcullis_model::id::Id;
use portcullis_model::policy::{BuildError, LoadError, build};
use portcullis_model::source::{SOURCE_FORMAT, Source};
use serde::Deserialize;

/// The most decision records that wait to be sent, where the configuration does not say.
pub const DEFAULT_QUEUE: usize = 8192;
/// The most that it may say.
pub const MAX_QUEUE: usize = 1 << 20;
/// The longest name of a cluster, an authority or an environment variable, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// A configuration that was read and found good.
#[derive(Debug)]
pub struct Config {
    /// The only service whose requests may pass; every one that the policy has, where none is named.
    pub service: Option<Id>,
    /// The name of the node that the worker belongs to; the proxy's own where none is given.
    pub node: Option<String>,
    /// Where the policy comes from.
    pub origin: Origin,
    /// The most decision records that wait to be sent.
    pub queue: usize,
}

/// Where the policy comes from.
#[derive(Debug)]
pub enum Origin {
    /// A host that is asked for it.
    Feed(FeedConfig),
    /// The configuration itself.
    Inline(Inline),
}

/// The host that is asked.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// The feed's name.
    pub name: Id,
    /// The proxy's cluster in which the host is.
    pub cluster: String,
    /// The `:authority` of the calls.
    pub authority: String,
    /// The environment variable that has the key.
    pub key_env: String,
}

/// A policy that stands in the configuration, compiled.
#[derive(Default, Debug)]
pub struct Inline {
    /// The compiled policy.
    pub policy: Vec<u8>,
    /// Parts of key sheets.
    pub key_sheets: Vec<Vec<u8>>,
}

impl Config {
    /// The feed, where the policy comes from one.
    #[must_use]
    pub fn feed(&self) -> Option<&FeedConfig> {
        match &self.origin {
            Origin::Feed(feed) => Some(feed),
            Origin::Inline(_) => None,
        }
    }
}

/// The object as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    service: Option<Id>,
    node: Option<String>,
    feed: Option<FeedConfig>,
    policy: Option<Box<Source>>,
    policy_base64: Option<String>,
    #[serde(default)]
    key_sheets_base64: Vec<String>,
    #[serde(default)]
    decisions: Decisions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Decisions {
    queue: usize,
}

impl Default for Decisions {
    fn default() -> Self {
        Decisions { queue: DEFAULT_QUEUE }
    }
}

/// Why a configuration is refused. No text repeats a value, which may be a key put in the wrong place.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not the JSON that is asked for.
    #[error("`{field}`: {error}")]
    Json {
        /// Where in the object.
        field: String,
        /// What is wrong there.
        error: serde_json::Error,
    },
    /// Not exactly one of the fields that say where the policy comes from.
    #[error("exactly one of `feed`, `policy` and `policy_base64` is needed, {found} are given")]
    Origins {
        /// How many there are.
        found: usize,
    },
    /// A field has a value that it cannot have.
    #[error("`{field}` {what}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The policy's source has faults.
    #[error("`policy`: {0}")]
    Build(#[from] BuildError),
    /// The policy cannot be loaded.
    #[error("the policy: {0}")]
    Load(#[from] LoadError),
}

/// Reads a configuration.
///
/// # Errors
/// The first fault, with the field that has it.
pub fn parse(json: &[u8]) -> Result<Config, ConfigError> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let written: Written = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| ConfigError::Json { field: error.path().to_string(), error: error.into_inner() })?;
    json.end().map_err(|error| ConfigError::Json { field: ".".to_owned(), error })?;
    if written.node.as_deref().is_some_and(|node| !is_node_name(node)) {
        return Err(value("node", "has at most 64 letters, digits and any of `.`, `_`, `:` and `-`"));
    }
    if !(1..=MAX_QUEUE).contains(&written.decisions.queue) {
        return Err(value("decisions.queue", format!("is from 1 to {MAX_QUEUE}")));
    }
    let Written { service, node, decisions: Decisions { queue }, .. } = written;
    let origin = match (written.feed, written.policy, written.policy_base64) {
        (Some(feed), None, None) => {
            checked(&feed)?;
            if !written.key_sheets_base64.is_empty() {
                return Err(value(
                    "key_sheets_base64",
                    "goes with a policy in the configuration; a feed brings its own",
                ));
            }
            Origin::Feed(feed)
        }
        (None, Some(source), None) => inline(compiled(&source)?, &written.key_sheets_base64)?,
        (None, None, Some(base64)) => inline(decoded("policy_base64", &base64)?, &written.key_sheets_base64)?,
        (feed, policy, base64) => {
            let found = [feed.is_some(), policy.is_some(), base64.is_some()].into_iter().filter(|given| *given).count();
            return Err(ConfigError::Origins { found });
        }
    };
    Ok(Config { service, node, origin, queue })
}

fn checked(feed: &FeedConfig) -> Result<(), ConfigError> {
    let fits =
        |text: &str| (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    for (field, text) in
        [("feed.cluster", &feed.cluster), ("feed.authority", &feed.authority), ("feed.key_env", &feed.key_env)]
    {
        if !fits(text) {
            return Err(value(field, format!("is 1 to {MAX_NAME_BYTES} visible ASCII characters")));
        }
    }
    Ok(())
}

fn compiled(source: &Source) -> Result<Vec<u8>, ConfigError> {
    if source.format != SOURCE_FORMAT {
        return Err(value("policy.format", format!("is {SOURCE_FORMAT}")));
    }
    Ok(build(source)?)
}

fn inline(policy: Vec<u8>, key_sheets: &[String]) -> Result<Origin, ConfigError> {
    let key_sheets = key_sheets.iter().map(|sheet| decoded("key_sheets_base64", sheet)).collect::<Result<_, _>>()?;
    Ok(Origin::Inline(Inline { policy, key_sheets }))
}

fn decoded(field: &'static str, base64: &str) -> Result<Vec<u8>, ConfigError> {
    Base64::decode_vec(base64).map_err(|_| value(field, "is not base64 (RFC 4648 section 4, padded)"))
}

pub(crate) fn value(field: &'static str, what: impl Into<String>) -> ConfigError {
    ConfigError::Value { field, what: what.into() }
}

#[cfg(test)]
mod tests {
    use portcullis_model::credential::Seed;
    use portcullis_model::id::Revision;
    use serde_json::{Value, json};

    use super::*;

    fn feed() -> Value {
        json!({
            "service": "shop",
            "node": "edge-1",
            "feed": {"name": "edge", "cluster": "portcullis", "authority": "portcullis.internal", "key_env": "KEY"},
            "decisions": {"queue": 10}
        })
    }

    fn of(value: &Value) -> Result<Config, String> {
        parse(value.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_feed_is_read() {
        let config = of(&feed()).unwrap();
        assert_eq!(config.service.as_ref().map(Id::as_str), Some("shop"));
        assert_eq!((config.node.as_deref(), config.queue), (Some("edge-1"), 10));
        assert_eq!(config.feed().unwrap().cluster, "portcullis");
    }

    #[test]
    fn a_policy_is_read_as_source_and_compiled() {
        let source = Source::empty(Revision(3), Seed([7; 16]));
        let compiled = build(&source).unwrap();
        let base64 = Base64::encode_string(&compiled);
        for written in [json!({"policy": source}), json!({"policy_base64": base64})] {
            let config = of(&written).unwrap();
            let Origin::Inline(inline) = config.origin else { panic!("{written}") };
            assert_eq!((inline.policy, config.queue), (compiled.clone(), DEFAULT_QUEUE));
        }
    }

    #[test]
    fn a_bad_configuration_names_the_field() {
        let with = |path: &str, value: Value| {
            let mut whole = feed();
            match path.split_once('.') {
                Some((outer, inner)) => whole[outer][inner] = value,
                None => whole[path] = value,
            }
            whole
        };
        for (written, named) in [
            (with("servce", json!("shop")), "servce"),
            (with("service", json!("no id")), "service"),
            (with("service", json!(7)), "service"),
            (with("node", json!("a b")), "node"),
            (with("node", json!("n".repeat(65))), "node"),
            (with("feed.name", json!("")), "feed.name"),
            (with("feed.nmae", json!("x")), "feed"),
            (with("feed.cluster", json!("")), "feed.cluster"),
            (with("feed.cluster", json!("c".repeat(MAX_NAME_BYTES + 1))), "feed.cluster"),
            (with("feed.authority", json!("a b")), "feed.authority"),
            (with("feed.key_env", json!("\n")), "feed.key_env"),
            (with("feed.key_env", json!(null)), "feed.key_env"),
            (with("decisions.queue", json!(0)), "decisions.queue"),
            (with("decisions.queue", json!(MAX_QUEUE + 1)), "decisions.queue"),
            (with("decisions.queue", json!("many")), "decisions.queue"),
            (with("policy_base64", json!("")), "exactly one of `feed`"),
            (with("key_sheets_base64", json!([""])), "key_sheets_base64"),
            (json!({}), "exactly one of `feed`"),
            (json!({"policy_base64": "%"}), "policy_base64"),
            (json!({"policy": {"format": 1}}), "policy"),
            (json!({"policy_base64": "", "key_sheets_base64": ["%"]}), "key_sheets_base64"),
            (json!([]), "."),
        ] {
            let error = of(&written).unwrap_err();
            assert!(error.contains(named), "{written}: {error}");
        }
        let mut source = serde_json::to_value(Source::empty(Revision(1), Seed([7; 16]))).unwrap();
        source["format"] = json!(SOURCE_FORMAT + 1);
        assert!(of(&json!({"policy": source})).unwrap_err().contains("policy.format"));
        for text in ["", "{", "{} {}"] {
            assert!(matches!(parse(text.as_bytes()), Err(ConfigError::Json { .. })), "{text}");
        }
    }

    #[test]
    fn limits_hold_at_n() {
        let mut whole = feed();
        whole["node"] = json!("n".repeat(64));
        whole["feed"]["cluster"] = json!("c".repeat(MAX_NAME_BYTES));
        whole["decisions"]["queue"] = json!(MAX_QUEUE);
        assert!(of(&whole).is_ok());
    }

    #[test]
    fn no_error_repeats_a_value() {
        let key = "ptc_k3J9aQ2x_secret";
        let mut whole = feed();
        whole["feed"]["key_env"] = json!(format!("{key} "));
        assert!(!of(&whole).unwrap_err().contains(key));
        assert!(!of(&json!({"policy_base64": format!("%{key}")})).unwrap_err().contains(key));
    }
}
