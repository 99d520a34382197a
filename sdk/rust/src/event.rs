//! What callbacks are told about a client when it connects and when it closes.

/// How a client is connected: the scheme of its listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `ws`
    #[default]
    WebSocket,
    /// `tcp`: bytes as they come.
    Tcp,
    /// `text`: one line a message.
    TextLines,
    /// `frame`: u32 big-endian total length, then the message.
    LengthPrefixed,
}

/// Who is at the other end, as seen when it connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// IP address and port of the client, `1.2.3.4:5678` or `[::1]:5678`.
    pub address: String,
    /// How it is connected.
    pub transport: Transport,
    /// The listener's name in the configuration; its address if it has none.
    pub listener: String,
    /// Whether the connection to the gateway is encrypted.
    pub secure: bool,
}

/// The HTTP request that opened a WebSocket. Header names are lower case; query values and
/// cookies are percent-decoded.
///
/// ```
/// use tidegate_sdk::HttpRequest;
///
/// let request = HttpRequest {
///     path: "/chat".into(),
///     query: vec![("room".into(), "lobby".into())],
///     ..HttpRequest::default()
/// };
/// assert_eq!(request.query("room"), Some("lobby"));
/// assert_eq!(request.header("origin"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// The path.
    pub path: String,
    /// Query pairs, in order.
    pub query: Vec<(String, String)>,
    /// Headers, in order.
    pub headers: Vec<(String, String)>,
    /// Cookies, in order.
    pub cookies: Vec<(String, String)>,
}

impl HttpRequest {
    /// The first query value of this name.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }

    /// The first header of this name, in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// The first cookie of this name.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        first(&self.cookies, name)
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let pair = pairs.iter().find(|(key, _)| key == name);
    pair.map(|(_, value)| value.as_str())
}

/// What ends a WebSocket (RFC 6455, section 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code of section 7.4. A plugin may use 1000 and 3000 to 4999.
    pub code: u16,
    /// Why, for people; at most 123 bytes.
    pub reason: String,
}

/// Why a client closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client closed or vanished.
    Client,
    /// A handler or an operator closed it.
    Server,
    /// It was silent for too long, or did not answer pings.
    Idle,
    /// It did not read what it was sent.
    Slow,
    /// It broke the protocol or a limit.
    Protocol,
    /// Its gateway is going away.
    GoingAway,
    /// Its gateway was lost; told by a worker.
    GatewayLost,
}

impl CloseReason {
    /// The reason's name in the plugin contract, such as `going-away`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Protocol => "protocol",
            Self::GoingAway => "going-away",
            Self::GatewayLost => "gateway-lost",
        }
    }
}

/// What a client was when it closed; its id is offline from now on. Its last session can still
/// be read in [`session`](crate::session).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// Its uid, if it had one.
    pub uid: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
}
