//! Where clients connect and where nodes are: listener URLs, hosts with ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use tidegate_wire::event::Transport;

use super::error::ConfigError;
use super::setting::{Setting, is_not, one_of, parsed, quoted};
use super::value::Node;

/// Where clients connect: a transport and an address, written as a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// How clients speak.
    pub transport: Transport,
    /// What is bound; port 0 takes any free one.
    pub address: SocketAddr,
}

impl ListenUrl {
    /// The URL's scheme.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        match self.transport {
            Transport::WebSocket => "ws",
            Transport::Tcp => "tcp",
            Transport::TextLines => "text",
            Transport::LengthPrefixed => "frame",
        }
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.address)
    }
}

impl std::str::FromStr for ListenUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WANTED: &str = "a listener, like ws://127.0.0.1:7272";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(match local(text) {
                Some(address) => format!(
                    "`{text}` does not say how clients speak: `ws://{address}` for WebSocket, or \
                     tcp://, text:// or frame:// before it"
                ),
                None => is_not(text, WANTED),
            });
        };
        let transport = match scheme {
            "websocket" => return Err(format!("`{scheme}` is written `ws`: ws://{rest}")),
            "wss" | "ssl" | "tls" => {
                return Err(format!(
                    "`{scheme}` is not there yet: let a proxy end TLS and forward to ws://, \
                     tcp://, text:// or frame://"
                ));
            }
            _ => one_of(
                scheme,
                &[
                    ("ws", Transport::WebSocket),
                    ("tcp", Transport::Tcp),
                    ("text", Transport::TextLines),
                    ("frame", Transport::LengthPrefixed),
                ],
            )?,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('/') {
            return Err(format!(
                "`{text}` has a path: which path may upgrade is the listener's key `path`"
            ));
        }
        let address = local(authority).ok_or_else(|| is_not(text, WANTED))?;
        Ok(Self { transport, address })
    }
}

/// An address to bind. A name would have to be looked up; only `localhost` is known without.
fn local(authority: &str) -> Option<SocketAddr> {
    match authority.strip_prefix("localhost:") {
        Some(port) => port
            .parse()
            .ok()
            .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => authority.parse().ok(),
    }
}

impl Setting for ListenUrl {
    const WANTED: &'static str = "a listener, like \"ws://127.0.0.1:7272\"";
    const EXAMPLE: &'static str = "\"ws://127.0.0.1:7272\"";

    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        parsed(node, str::parse)
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

/// Where another node is: host and port. The host may be a name; it is looked up at each dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(String);

impl Authority {
    /// `host:port`, as tokio's and std's connect take it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Authority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |host: &str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        let named = text.rsplit_once(':').is_some_and(|(host, port)| {
            name(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        let numbered = text.parse::<SocketAddr>().is_ok_and(|it| it.port() > 0);
        match named || numbered {
            true => Ok(Self(text.to_owned())),
            false => Err(is_not(text, Self::WANTED)),
        }
    }
}

impl Setting for Authority {
    const WANTED: &'static str = "a host with a port, like 127.0.0.1:1236";
    const EXAMPLE: &'static str = "\"127.0.0.1:1236\"";

    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        parsed(node, str::parse)
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}
