//! One client connection and what can be done to it. A `Client` is a name, not a handle: it is
//! `Copy`, may be kept, stored in a session and compared, and names nobody once the client closed.
//!
//! The functions here tell of the client whose event is being handled, in each of its callbacks,
//! without a question. Outside of them they are refused
//! ([`NotPermitted`](crate::Refused::NotPermitted)).
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Gateway;
//!
//! #[derive(Default)]
//! struct Audit;
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Audit {
//!     fn on_close(&mut self, _: Client, _: Closed) -> Result {
//!         let said = client::closed_with()?.map(|frame| frame.code);
//!         let line = format!("{} left: {said:?}", client::peer()?.address);
//!         gateway::to_all().send(line)
//!     }
//! }
//!
//! # fn main() -> Result {
//! let mut gateway = Gateway::<Audit>::start()?;
//! let (ann, bob) = (gateway.connect()?, gateway.connect()?);
//! gateway.close_with(ann, 4001, "")?;
//! assert_eq!(gateway.received(bob), [Message::from("127.0.0.1:50000 left: Some(4001)")]);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::backend;
use crate::directory::{self, ClientAddress, ClientInfo, Fields};
use crate::error::Result;
use crate::event::{CloseFrame, Peer};
use crate::gateway::{self, Closing, Sending};
use crate::message::Outgoing;
use crate::session;

/// Length of a client id: hex digits of the gateway's address, its port and the connection.
const ID_BYTES: usize = 20;

/// The client whose event is being handled.
pub fn current() -> Result<Client> {
    backend::client_id()?.parse().map_err(Into::into)
}

/// Who is at its other end: address, listener, transport.
pub fn peer() -> Result<Peer> {
    Ok(backend::client_peer()?)
}

/// The announced address of the gateway that it is connected to, `10.0.0.1:2000`.
pub fn gateway() -> Result<String> {
    Ok(backend::client_gateway()?)
}

/// The WebSocket subprotocol that its listener and it agreed on.
pub fn subprotocol() -> Result<Option<String>> {
    Ok(backend::client_subprotocol()?)
}

/// When it connected, in milliseconds since 1970 by its gateway's clock.
pub fn connected_at_ms() -> Result<u64> {
    Ok(backend::client_connected_at_ms()?)
}

/// In `on_close`: what the client has closed its WebSocket with. None in other callbacks, if it has
/// left without a word, for the other transports, and where the gateway ended the connection first.
pub fn closed_with() -> Result<Option<CloseFrame>> {
    Ok(backend::client_closed_with()?)
}

/// One client connection, cluster-wide. Prints as 20 lower-case hex digits.
///
/// What is done here is an effect: it is checked at once, and takes effect when the callback
/// returns ok, or not at all. The questions at the end are those of [`directory`].
///
/// ```
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::testing::Gateway;
///
/// #[derive(Default)]
/// struct Greeter;
///
/// #[tidegate_sdk::handler]
/// impl Handler for Greeter {
///     fn on_connect(&mut self, client: Client, _: Peer, _: Option<HttpRequest>) -> Result {
///         client.join("lobby")?;
///         client.send("welcome")
///     }
/// }
///
/// # fn main() -> Result {
/// let mut gateway = Gateway::<Greeter>::start()?;
/// let client = gateway.connect()?;
/// assert_eq!(gateway.received(client), [Message::from("welcome")]);
/// assert_eq!(gateway.groups(client), ["lobby"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client([u8; ID_BYTES]);

/// A text that is not a client id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdError(String);

impl Client {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only hex digits ever get in, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Sends a message: a `&str` or `String` goes as text, bytes go as binary, and a
    /// [`Message`](crate::Message) in its own kind.
    pub fn send<'a>(&self, message: impl Into<Outgoing<'a>>) -> Result {
        gateway::to_client(self).send(message)
    }

    /// Sends a value as JSON text.
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result {
        gateway::to_client(self).send_json(value)
    }

    /// A send to this client, for what `send` has no argument for.
    pub fn to(&self) -> Sending<'static> {
        gateway::to_client(self)
    }

    /// Flushes what is queued, then closes the client.
    pub fn close(&self) -> Result {
        gateway::close_client(self, None)
    }

    /// Sends a last message, flushes what is queued, then closes the client.
    pub fn close_with<'a>(&self, farewell: impl Into<Outgoing<'a>>) -> Result {
        gateway::close_client(self, Some(farewell.into()))
    }

    /// A close of this client, for what `close` has no argument for: a WebSocket's close code.
    ///
    /// ```
    /// # use tidegate_sdk::prelude::*;
    /// # fn ban(client: Client) -> Result {
    /// client.closing().code(4003, "banned").farewell("bye").close()
    /// # }
    /// ```
    pub fn closing(&self) -> Closing<'static> {
        gateway::closing(self)
    }

    /// Closes the client at once and drops what is queued.
    pub fn destroy(&self) -> Result {
        gateway::destroy_client(self)
    }

    /// Gives the client this uid; replaces an earlier one. Many clients may share one.
    pub fn bind_uid(&self, uid: &str) -> Result {
        gateway::bind_uid(self, uid)
    }

    /// Takes the client's uid away, if it has one.
    pub fn unbind_uid(&self) -> Result {
        gateway::unbind_uid(self)
    }

    /// Adds the client to a group; once is enough.
    pub fn join(&self, group: &str) -> Result {
        gateway::join_group(self, group)
    }

    /// Takes the client out of a group, if it is in it.
    pub fn leave(&self, group: &str) -> Result {
        gateway::leave_group(self, group)
    }

    /// Replaces the client's whole session by the fields of `value`. For the client whose event
    /// is being handled, [`session`] is the better way: it changes key by key.
    pub fn set_session<T: Serialize + ?Sized>(&self, value: &T) -> Result {
        let entries = session::to_entries(value)?;
        gateway::set_session(self, &session::borrow(&entries))
    }

    /// Sets one session key per field of `value` and leaves the other keys.
    pub fn update_session<T: Serialize + ?Sized>(&self, value: &T) -> Result {
        let entries = session::to_entries(value)?;
        gateway::update_session(self, &session::borrow(&entries), false)
    }

    /// Like [`update_session`](Self::update_session), but JSON objects are merged key by key.
    pub fn merge_session<T: Serialize + ?Sized>(&self, value: &T) -> Result {
        let entries = session::to_entries(value)?;
        gateway::update_session(self, &session::borrow(&entries), true)
    }

    /// Removes every key of the client's session.
    pub fn delete_session(&self) -> Result {
        gateway::delete_session(self)
    }

    /// Whether the client is connected.
    pub fn is_online(&self) -> Result<bool> {
        directory::is_online(self)
    }

    /// What is known of the client; none if it is not connected.
    pub fn info(&self, fields: Fields) -> Result<Option<ClientInfo>> {
        directory::info(self, fields)
    }

    /// The client's whole session as a type of yours; none if it is not connected. For the client
    /// whose event is being handled, [`session::load`] asks nobody.
    pub fn session<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        directory::typed_session(self)
    }

    /// Sets one session key of the client if its value is still the expected one; as `expected`
    /// none means that it is absent, as `new` that it is removed. Unlike everything else that
    /// changes a client it acts at once and stays if the callback fails, and it compares with what
    /// is committed, without this event's own changes.
    /// [`Conflict`](crate::Refused::Conflict): somebody else was first; read it again.
    ///
    /// ```
    /// # use tidegate_sdk::prelude::*;
    /// # fn take(client: Client, seats: u32) -> Result {
    /// match client.compare_and_set("seats", Some(&seats), Some(&(seats - 1))) {
    ///     Ok(()) => client.send("yours"),
    ///     Err(error) if error.refused() == Some(&Refused::Conflict) => client.send("try again"),
    ///     Err(error) => Err(error),
    /// }
    /// # }
    /// ```
    pub fn compare_and_set<T, U>(&self, key: &str, expected: Option<&T>, new: Option<&U>) -> Result
    where
        T: Serialize + ?Sized,
        U: Serialize + ?Sized,
    {
        directory::compare_and_set(self, key, expected, new)
    }

    /// Where the client is connected.
    pub fn address(&self) -> Result<ClientAddress> {
        directory::address_of(self)
    }
}

impl FromStr for Client {
    type Err = ClientIdError;

    fn from_str(text: &str) -> std::result::Result<Self, ClientIdError> {
        let lower_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        <[u8; ID_BYTES]>::try_from(text.as_bytes())
            .ok()
            .filter(|id| id.iter().all(lower_hex))
            .map(Self)
            .ok_or_else(|| ClientIdError(text.chars().take(40).collect()))
    }
}

impl fmt::Display for ClientIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a client id: 20 lower-case hex digits are expected",
            self.0
        )
    }
}

impl std::error::Error for ClientIdError {}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for Client {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Client {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_twenty_lower_case_hex_digits_name_a_client() {
        let text = "7f0000010bb80000002a";
        let client: Client = text.parse().unwrap();
        assert_eq!(client.to_string(), text);
        for wrong in [
            "",
            "7f00",
            "7F0000010bb80000002a",
            "7f0000010bb80000002g",
            "é".repeat(10).as_str(),
        ] {
            assert!(wrong.parse::<Client>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_client_survives_json() {
        let client: Client = "7f0000010bb80000002a".parse().unwrap();
        let json = serde_json::to_string(&client).unwrap();
        assert_eq!(serde_json::from_str::<Client>(&json).unwrap(), client);
    }
}
