//! Who may come: what [`Handler::on_handshake`](crate::Handler::on_handshake) and
//! [`Handler::on_sign_in`](crate::Handler::on_sign_in) answer.
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Gateway;
//!
//! #[derive(Default)]
//! struct Members;
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Members {
//!     fn on_handshake(&mut self, _: Peer, request: HttpRequest) -> Result<Verdict> {
//!         match request.query("token") {
//!             Some("ann's") => Accepted::new().uid("ann").group("members").into(),
//!             Some(_) => Rejected::new(403).body("this token is not known").into(),
//!             None => Rejected::new(401).into(),
//!         }
//!     }
//!
//!     fn on_connect(&mut self, client: Client, _: Peer, _: Option<HttpRequest>) -> Result {
//!         gateway::to_group("members").except(&client).send("one more")
//!     }
//! }
//!
//! # fn main() -> Result {
//! let mut gateway = Gateway::<Members>::start()?;
//! let ann = gateway.knock("/?token=ann's")?.map_err(|rejected| Error::msg(rejected.status))?;
//! assert_eq!(gateway.uid(ann).as_deref(), Some("ann"));
//! assert_eq!(gateway.knock("/")?.unwrap_err().status, 401);
//! # Ok(())
//! # }
//! ```

use serde::Serialize;

use crate::error::Result;

/// Whether somebody becomes a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Accepted(Accepted),
    /// It does not.
    Rejected(Rejected),
}

/// What somebody is who becomes a client, before its `on_connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Keys and JSON texts.
    pub session: Vec<(String, String)>,
    /// Its uid.
    pub uid: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// Of a WebSocket, one that the client has offered; none: the first of its listener's.
    pub subprotocol: Option<String>,
    /// More headers of the answer 101.
    pub headers: Vec<(String, String)>,
}

impl Accepted {
    /// A client without anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it this uid.
    #[must_use]
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.uid = Some(uid.into());
        self
    }

    /// Adds it to this group.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// Sets one key of its session.
    ///
    /// # Errors
    /// When the value is no JSON.
    pub fn session<T: Serialize + ?Sized>(
        mut self,
        key: impl Into<String>,
        value: &T,
    ) -> Result<Self> {
        self.session
            .push((key.into(), serde_json::to_string(value)?));
        Ok(self)
    }

    /// Agrees on this subprotocol, which the client must have offered.
    #[must_use]
    pub fn subprotocol(mut self, subprotocol: impl Into<String>) -> Self {
        self.subprotocol = Some(subprotocol.into());
        self
    }

    /// Adds a header to the answer, such as `set-cookie`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What somebody is told who does not become a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// 300 to 599: 401, 403 and 429 are usual. Over other transports than WebSocket nobody sees it.
    pub status: u16,
    /// Headers of the answer.
    pub headers: Vec<(String, String)>,
    /// Its body; over other transports the last message.
    pub body: Vec<u8>,
}

impl Rejected {
    /// With this status and nothing else.
    #[must_use]
    pub const fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header, such as `www-authenticate`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Says this.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

impl From<Accepted> for Verdict {
    fn from(accepted: Accepted) -> Self {
        Self::Accepted(accepted)
    }
}

impl From<Rejected> for Verdict {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

// So that a callback's last expression may be `Accepted::new().into()`.
impl From<Accepted> for Result<Verdict> {
    fn from(accepted: Accepted) -> Self {
        Ok(accepted.into())
    }
}

impl From<Rejected> for Result<Verdict> {
    fn from(rejected: Rejected) -> Self {
        Ok(rejected.into())
    }
}
