//! Who is who: gateways, clients, processes, events.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One life of a process: random bits drawn at its start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The close of one client, whoever tells it: its home, or a custodian once the home is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CloseId {
    /// The life of the gateway that owned the client.
    pub home: Incarnation,
    /// The client.
    pub client: ClientId,
}

/// One client connection, cluster-wide: the gateway's announced IPv4 address and port and the
/// connection number. Prints as 20 lower-case hex digits. The shard stands in the low bits of the
/// connection number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientId {
    /// IPv4 address that the gateway announces.
    pub ip: u32,
    /// Port that the gateway announces.
    pub port: u16,
    /// Number of the connection on that gateway.
    pub connection: u32,
}

impl ClientId {
    /// The id of connection `connection` on the gateway announced as `gateway`.
    #[must_use]
    pub fn new(gateway: SocketAddrV4, connection: u32) -> Self {
        Self {
            ip: u32::from(*gateway.ip()),
            port: gateway.port(),
            connection,
        }
    }

    /// The announced address of the gateway that owns the connection; no look-up.
    #[must_use]
    pub fn gateway(self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(self.ip), self.port)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:04x}{:08x}", self.ip, self.port, self.connection)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a client id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a client id: 20 lower-case hex digits are expected")]
pub struct ClientIdError(pub String);

impl FromStr for ClientId {
    type Err = ClientIdError;

    fn from_str(text: &str) -> Result<Self, ClientIdError> {
        let error = || ClientIdError(text.chars().take(40).collect());
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 20 || !text.bytes().all(lower_hex) {
            return Err(error());
        }
        let part = |range| {
            text.get(range)
                .and_then(|part| u32::from_str_radix(part, 16).ok())
        };
        let (Some(ip), Some(port), Some(connection)) = (part(0..8), part(8..12), part(12..20))
        else {
            return Err(error());
        };
        let port = u16::try_from(port).map_err(|_| error())?;
        Ok(Self {
            ip,
            port,
            connection,
        })
    }
}

/// One event, cluster-wide: the home's process, its shard and the shard's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId {
    /// The life of the gateway that numbered the event.
    pub gateway: Incarnation,
    /// The shard of that gateway.
    pub shard: u16,
    /// The shard's count of events.
    pub sequence: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.gateway, self.shard, self.sequence)
    }
}
