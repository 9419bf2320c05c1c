//! Arguments that are more than a text.

use portcullis_control::{Idempotency, IdempotencyKeyError};
use portcullis_model::address::Cidr;
use portcullis_model::credential::Kind;
use portcullis_model::id::{EndpointRef, EndpointRefError};
use portcullis_model::method::{Method, Methods};
use portcullis_model::source::{HostPattern, HostPatternError, Permission, Presentation};
use serde::Serialize;

use crate::error::Error;
use crate::input::{Inputs, Origin};

/// The longest file of address ranges in bytes: what a body of the API can hold.
const MAX_RANGES_BYTES: u64 = 1 << 20;

/// `SERVICE/ENDPOINT`.
pub(super) fn endpoint(text: &str) -> Result<EndpointRef, EndpointRefError> {
    EndpointRef::try_from(text.to_owned())
}

/// What names a creation.
pub(super) fn idempotency_key(text: &str) -> Result<String, IdempotencyKeyError> {
    Idempotency::new(text.as_bytes(), &[]).map(|_| text.to_owned())
}

pub(super) fn host(text: &str) -> Result<HostPattern, HostPatternError> {
    HostPattern::try_from(text.to_owned())
}

pub(super) fn method(text: &str) -> Result<Method, String> {
    Method::from_name(text.to_ascii_uppercase().as_bytes())
        .ok_or_else(|| format!("use {}", Methods::ALL.to_string().replace(' ', ", ")))
}

/// The set of methods that were given.
pub(super) fn set(methods: &[Method]) -> Methods {
    methods.iter().fold(Methods::NONE, |set, method| set.with(*method))
}

/// `SERVICE/ENDPOINT`, or `SERVICE/ENDPOINT:GET,POST` for some of its methods.
pub(super) fn permission(text: &str) -> Result<Permission, String> {
    let (name, methods) = match text.split_once(':') {
        None => (text, Methods::ALL),
        Some((name, names)) => {
            let given: Result<Vec<Method>, String> = names.split(',').map(method).collect();
            (name, set(&given?))
        }
    };
    let endpoint = endpoint(name).map_err(|error| error.to_string())?;
    Ok(Permission { endpoint, methods })
}

/// `header:NAME=KIND,..`, or with `parameter`, `scheme` or `token` and a name, or with `signature` and a profile.
pub(super) fn presentation(text: &str) -> Result<Presentation, String> {
    let parts = text.split_once(':').and_then(|(place, rest)| Some((place, rest.split_once('=')?)));
    let Some((place, (name, kinds))) = parts else {
        return Err("write a place, a name and kinds, such as `header:X-API-Key=tenant`".to_owned());
    };
    let kinds = kinds.split(',').map(|kind| {
        let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
        known.ok_or_else(|| format!("there is no kind `{kind}`: use {}", Kind::ALL.map(Kind::as_str).join(", ")))
    });
    let given = || Some(name.to_owned());
    let bare = Presentation { kinds: kinds.collect::<Result<_, _>>()?, ..Presentation::default() };
    match place {
        "header" => Ok(Presentation { header: given(), ..bare }),
        "parameter" => Ok(Presentation { parameter: given(), ..bare }),
        "scheme" => Ok(Presentation { scheme: given(), ..bare }),
        "token" => Ok(Presentation { token: given(), ..bare }),
        "signature" => {
            let profile = name.parse().map_err(|error| format!("{error}"))?;
            Ok(Presentation { signature: Some(profile), ..bare })
        }
        _ => Err(format!("there is no place `{place}`: use header, parameter, scheme, signature or token")),
    }
}

/// A duration with its unit, in whole seconds.
pub(crate) fn seconds(text: &str) -> Result<u32, &'static str> {
    // A day is 24 hours here; elsewhere it may have 23 or 25, so the library asks for hours.
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return days.checked_mul(86_400).ok_or("that is too many days");
    }
    let duration = text.parse::<jiff::SignedDuration>().ok().filter(|duration| duration.subsec_nanos() == 0);
    duration
        .and_then(|duration| u32::try_from(duration.as_secs()).ok())
        .ok_or("write whole seconds, minutes, hours or days with the unit, such as `30s`, `5m`, `1h` or `7d`")
}

/// Address ranges: listed, or as the text of a file with one a line, which the server reads so that a fault has its line.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Ranges {
    Listed(Vec<Cidr>),
    Lines(String),
}

impl Ranges {
    /// What was given, if anything was: ranges, a file, or that there shall be none.
    pub(super) fn given(listed: &[Cidr], file: Option<&Origin>, none: bool) -> Result<Option<Ranges>, Error> {
        match file {
            Some(file) => Ranges::read(file).map(Some),
            None if listed.is_empty() && !none => Ok(None),
            None => Ok(Some(Ranges::Listed(listed.to_vec()))),
        }
    }

    fn read(file: &Origin) -> Result<Ranges, Error> {
        let bytes = Inputs::default().whole(file, MAX_RANGES_BYTES)?;
        String::from_utf8(bytes).map(Ranges::Lines).map_err(|_| Error::NoText { from: file.clone() })
    }
}

/// How a credential stands to its expiry.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Expiration {
    /// It does not end, or not soon
    Valid,
    /// It ends within the tenant's days
    ExpiringSoon,
    /// It has ended
    Expired,
}

impl Expiration {
    pub(super) fn name(self) -> &'static str {
        match self {
            Expiration::Valid => "valid",
            Expiration::ExpiringSoon => "expiring_soon",
            Expiration::Expired => "expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_names_an_endpoint_and_its_methods() {
        let shown = |text: &str| permission(text).map(|p| format!("{} {}", p.endpoint, p.methods));
        assert_eq!(shown("shop/events:GET,post").unwrap(), "shop/events GET POST");
        assert_eq!(permission("shop/events").unwrap().methods, Methods::ALL);
        for bad in ["shop", "shop/events:", "shop/events:FETCH", "shop/events:GET,", ""] {
            assert!(permission(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("1h 30m"), Ok(5400));
        for bad in ["30", "", "1.5s", "-5s", "200ms", "2000000h"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_presentation_has_a_place_a_name_and_kinds() {
        let shown = |text: &str| presentation(text).map(|given| serde_json::to_string(&given).unwrap());
        assert_eq!(
            shown("header:X-Key=tenant,workspace").unwrap(),
            r#"{"header":"X-Key","kinds":["tenant","workspace"]}"#
        );
        assert_eq!(shown("scheme:Key=management").unwrap(), r#"{"scheme":"Key","kinds":["management"]}"#);
        assert_eq!(shown("signature:antavo=workspace").unwrap(), r#"{"signature":"antavo","kinds":["workspace"]}"#);
        assert_eq!(shown("token:Bearer=client").unwrap(), r#"{"token":"Bearer","kinds":["client"]}"#);
        for bad in [
            "X-Key",
            "signature:=workspace",
            "client:Basic=client",
            "header:X-Key",
            "header:X-Key=",
            "cookie:key=tenant",
            "header:X-Key=all",
        ] {
            assert!(presentation(bad).is_err(), "{bad}");
        }
    }
}
