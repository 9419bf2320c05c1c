//! The other end of a connection.

use std::net::IpAddr;

use http::HeaderValue;

use crate::listen::Connection;

/// The other end of a connection.
pub(super) struct Peer {
    pub(super) connection: Connection,
    /// IPv4-mapped addresses are the IPv4 address.
    pub(super) address: IpAddr,
    /// The address as `X-Forwarded-For` has it.
    pub(super) text: HeaderValue,
}

impl Peer {
    pub(super) fn of(connection: Connection) -> Self {
        let address = connection.peer.ip().to_canonical();
        let unknown = HeaderValue::from_static("unknown");
        let text = HeaderValue::try_from(address.to_string()).unwrap_or(unknown);
        Peer { connection, address, text }
    }
}

impl From<&Peer> for portcullis_tower::head::Peer {
    fn from(peer: &Peer) -> Self {
        portcullis_tower::head::Peer { address: peer.address, secure: peer.connection.secure }
    }
}
