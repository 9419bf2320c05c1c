//! What a worker says of itself with every call, read out of the head.

use std::fmt;
use std::net::IpAddr;

use http::HeaderMap;
use portcullis_model::feed::{
    ENFORCED_HEADER as ENFORCED, MODULE_HEADER as MODULE, NODE_HEADER as NODE, NOW_HEADER as NOW,
    WORKER_HEADER as WORKER, is_node_name,
};
use portcullis_model::id::Id;
use portcullis_model::time::UnixTime;

use super::table::Key;
use crate::evidence::unhex;

/// SHA-256 of a module.
pub(crate) type ModuleDigest = [u8; 32];

/// A worker: drawn at random by each virtual machine of a proxy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WorkerId([u8; 8]);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a worker says of itself. All of it is claimed and nothing proven but the feed: it is for people, and for those who
/// wait for receipts of workers that mean well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NodeReport {
    /// The feed that it reads.
    pub(crate) feed: Id,
    /// The name of its proxy.
    pub(crate) node: String,
    pub(crate) worker: WorkerId,
    /// The module by which it decides, where it knows.
    pub(crate) module: Option<ModuleDigest>,
    /// The revision by which it decides; none where it has no policy.
    pub(crate) enforced: Option<u64>,
    /// Its clock.
    pub(crate) now: UnixTime,
    /// From where it calls.
    pub(crate) address: IpAddr,
}

/// A field of the head that is missing, doubled or not as it should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{field}` is {what}")]
pub(crate) struct BadReport {
    field: &'static str,
    what: &'static str,
}

impl NodeReport {
    /// Reads what a worker of a feed says.
    ///
    /// # Errors
    /// [`BadReport`] with the first field that is wrong.
    pub(crate) fn read(feed: Id, address: IpAddr, headers: &HeaderMap) -> Result<NodeReport, BadReport> {
        let bad = |field, what| BadReport { field, what };
        let node = one(headers, NODE)?.ok_or(bad(NODE, MISSING))?;
        let node =
            Some(node).filter(|text| is_node_name(text)).ok_or(bad(NODE, "no name of 1 to 64 of `0-9A-Za-z._:-`"))?;
        let worker = one(headers, WORKER)?.ok_or(bad(WORKER, MISSING))?;
        let worker = WorkerId(lower_hex(worker).ok_or(bad(WORKER, "not 16 hex digits"))?);
        let module = one(headers, MODULE)?.map(|text| lower_hex(text).ok_or(bad(MODULE, "not 64 hex digits")));
        let enforced = one(headers, ENFORCED)?.map(|text| number(text).ok_or(bad(ENFORCED, "no revision")));
        let now = one(headers, NOW)?.ok_or(bad(NOW, MISSING))?;
        let now = number(now).and_then(UnixTime::from_secs).ok_or(bad(NOW, "no time in seconds since 1970"))?;
        Ok(NodeReport {
            feed,
            node: node.to_owned(),
            worker,
            module: module.transpose()?,
            enforced: enforced.transpose()?,
            now,
            address: address.to_canonical(),
        })
    }

    pub(super) fn key(&self) -> Key {
        Key { feed: self.feed.clone(), worker: self.worker }
    }
}

const MISSING: &str = "missing: workers send it with every call";

/// The one field of that name.
fn one<'h>(headers: &'h HeaderMap, field: &'static str) -> Result<Option<&'h str>, BadReport> {
    let mut values = headers.get_all(field).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BadReport { field, what: "there more than once" });
    }
    value.to_str().map(Some).map_err(|_| BadReport { field, what: "no ASCII" })
}

/// One spelling of each worker and digest.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    unhex(text).filter(|_| !text.bytes().any(|byte| byte.is_ascii_uppercase()))
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use portcullis_model::feed::MAX_NODE_BYTES as MAX_NODE_CHARS;

    use super::*;

    const ADDRESS: &str = "::ffff:192.0.2.7";

    fn read(fields: &[(&'static str, &str)]) -> Result<NodeReport, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        NodeReport::read("edge".parse().unwrap(), ADDRESS.parse().unwrap(), &headers).map_err(|bad| bad.to_string())
    }

    const GOOD: [(&str, &str); 3] = [(NODE, "edge-1.eu:7"), (WORKER, "00112233445566aa"), (NOW, "1800000000")];

    fn with(field: &'static str, value: &str) -> Result<NodeReport, String> {
        let others = GOOD.iter().copied().filter(|(name, _)| *name != field);
        read(&others.chain([(field, value)]).collect::<Vec<_>>())
    }

    #[test]
    fn a_worker_says_who_it_is_and_by_what_it_decides() {
        let report = read(&GOOD).unwrap();
        assert_eq!((report.node.as_str(), report.worker.to_string().as_str()), ("edge-1.eu:7", "00112233445566aa"));
        assert_eq!((report.module, report.enforced), (None, None));
        assert_eq!((report.now.as_secs(), report.address), (1_800_000_000, "192.0.2.7".parse().unwrap()));
        assert_eq!(with(ENFORCED, "7").unwrap().enforced, Some(7));
        assert_eq!(with(MODULE, &"0f".repeat(32)).unwrap().module, Some([0x0f; 32]));
        assert!(with(NODE, &"n".repeat(MAX_NODE_CHARS)).is_ok());
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        for (field, values) in [
            (NODE, ["", "a b", "\u{e9}", "a/b", &"n".repeat(MAX_NODE_CHARS + 1)]),
            (WORKER, ["", "00112233445566a", "00112233445566aab", "00112233445566AA", "0x112233445566aa"]),
            (MODULE, ["", "00", &"0F".repeat(32), &"0f".repeat(33), "none"]),
            (ENFORCED, ["", "-1", "+1", "1.0", "18446744073709551616"]),
            (NOW, ["", "-1", "now", "1800000000.5", "18446744073709551615"]),
        ] {
            for value in values {
                let told = with(field, value).unwrap_err();
                assert!(told.starts_with(&format!("`{field}` is ")), "{field}: {value}: {told}");
            }
        }
        for field in [NODE, WORKER, NOW] {
            let others: Vec<_> = GOOD.iter().copied().filter(|(name, _)| *name != field).collect();
            assert!(read(&others).unwrap_err().contains("missing"), "{field}");
        }
        for field in GOOD {
            let doubled: Vec<_> = GOOD.iter().copied().chain([field]).collect();
            assert_eq!(read(&doubled).unwrap_err(), format!("`{}` is there more than once", field.0));
        }
    }
}
