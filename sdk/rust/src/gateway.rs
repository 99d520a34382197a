//! Doing: sends, closes, uids, groups and sessions of any client. Every call is checked at once
//! and collected; all of them take effect together when the callback returns ok, or not at all.
//! What concerns one client is also a method of [`Client`].

use serde::Serialize;

use crate::backend;
use crate::client::Client;
use crate::error::{Refused, Result};
use crate::event::CloseFrame;
use crate::message::{Message, Outgoing};

/// Whom a send is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To<'a> {
    Client(Client),
    Clients(&'a [Client]),
    Uid(&'a str),
    Uids(&'a [&'a str]),
    Group(&'a str),
    Groups(&'a [&'a str]),
    All,
}

/// A send whose recipients are chosen. It reaches the clients that are there when the event's
/// effects are applied; a client that is offline is skipped without an error, and none gets one
/// send twice.
///
/// ```
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::testing::Gateway;
///
/// #[derive(Default)]
/// struct Echo;
///
/// #[tidegate_sdk::handler]
/// impl Handler for Echo {
///     fn on_message(&mut self, client: Client, message: Message) -> Result {
///         gateway::to_all().except(&client).send(&message)
///     }
/// }
///
/// # fn main() -> Result {
/// let mut gateway = Gateway::<Echo>::start()?;
/// let (alice, bob) = (gateway.connect()?, gateway.connect()?);
/// gateway.send(alice, "hi")?;
/// assert_eq!(gateway.received(bob), [Message::from("hi")]);
/// assert!(gateway.received(alice).is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send`, `send_json` or `send_raw`"]
pub struct Sending<'a> {
    to: To<'a>,
    except: Vec<Client>,
}

impl<'a> Sending<'a> {
    /// What is sent is worth something only until the next one comes under the same key (1 to 255
    /// bytes): a position, a price, a cursor. In each client's queue it takes the place of what still
    /// waits there under it, so that who reads slowly skips to the newest instead of being closed. Who
    /// reads in time gets each of them; of several in one event only the last.
    ///
    /// ```
    /// # use tidegate_sdk::prelude::*;
    /// # fn moved(player: &str, x: f64, y: f64) -> Result {
    /// gateway::to_group("arena").latest(player).send_json(&(player, x, y))
    /// # }
    /// ```
    pub const fn latest(self, key: &'a str) -> Latest<'a> {
        Latest { sending: self, key }
    }
}

impl Sending<'_> {
    const fn new(to: To<'_>) -> Sending<'_> {
        Sending {
            to,
            except: Vec::new(),
        }
    }

    /// Leaves this client out; may be called more than once.
    pub fn except(mut self, client: &Client) -> Self {
        self.except.push(*client);
        self
    }

    /// Leaves these clients out.
    pub fn except_all(mut self, clients: &[Client]) -> Self {
        self.except.extend_from_slice(clients);
        self
    }

    /// Sends text (`&str`, `String`), bytes, or a [`Message`] in its own kind.
    pub fn send<'m>(self, message: impl Into<Outgoing<'m>>) -> Result {
        Ok(backend::send(self.to, &message.into(), &self.except)?)
    }

    /// Sends a value as JSON text.
    pub fn send_json<T: Serialize + ?Sized>(self, value: &T) -> Result {
        self.send(serde_json::to_string(value)?)
    }

    /// Sends bytes as they are, without the listener's framing: for a WebSocket they must be
    /// whole frames.
    pub fn send_raw(self, bytes: &[u8]) -> Result {
        Ok(backend::send_raw(self.to, bytes, &self.except)?)
    }
}

/// A send that takes the place of what still waits for a client under the same key.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send` or `send_json`"]
pub struct Latest<'a> {
    sending: Sending<'a>,
    key: &'a str,
}

impl Latest<'_> {
    /// Sends text (`&str`, `String`), bytes, or a [`Message`] in its own kind.
    pub fn send<'m>(self, message: impl Into<Outgoing<'m>>) -> Result {
        let Sending { to, except } = self.sending;
        done(backend::send_latest(to, self.key, &message.into(), &except))
    }

    /// Sends a value as JSON text.
    pub fn send_json<T: Serialize + ?Sized>(self, value: &T) -> Result {
        self.send(serde_json::to_string(value)?)
    }
}

/// A close that is being described.
#[derive(Clone, Debug)]
#[must_use = "nobody is closed before `close`"]
pub struct Closing<'a> {
    whom: Whom<'a>,
    frame: Option<CloseFrame>,
    farewell: Option<Message>,
}

/// Whom a close is for.
#[derive(Clone, Copy, Debug)]
enum Whom<'a> {
    Client(Client),
    Uid(&'a str),
}

impl Closing<'_> {
    const fn new(whom: Whom<'_>) -> Closing<'_> {
        Closing {
            whom,
            frame: None,
            farewell: None,
        }
    }

    /// What ends a WebSocket; without it 1000 and no reason. The code is 1000 or one of 3000 to 4999,
    /// the reason has at most 123 bytes. The other transports leave it out.
    pub fn code(mut self, code: u16, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        self.frame = Some(CloseFrame { code, reason });
        self
    }

    /// A last message.
    pub fn farewell<'m>(mut self, message: impl Into<Outgoing<'m>>) -> Self {
        self.farewell = Some(message.into().into());
        self
    }

    /// Sends the farewell, flushes what is queued, then closes.
    pub fn close(self) -> Result {
        let farewell = self.farewell.as_ref().map(Outgoing::from);
        let (frame, farewell) = (self.frame.as_ref(), farewell.as_ref());
        done(match self.whom {
            Whom::Client(client) => backend::close_client(&client, frame, farewell),
            Whom::Uid(uid) => backend::close_uid(uid, frame, farewell),
        })
    }
}

/// A close of one client.
pub const fn closing(client: &Client) -> Closing<'static> {
    Closing::new(Whom::Client(*client))
}

/// A close of all clients of a uid.
pub const fn closing_uid(uid: &str) -> Closing<'_> {
    Closing::new(Whom::Uid(uid))
}

/// A send to one client. Only as a start: [`Client::send`] says the same in one call.
pub fn to_client(client: &Client) -> Sending<'static> {
    Sending::new(To::Client(*client))
}

/// A send to each of these clients.
pub const fn to_clients(clients: &[Client]) -> Sending<'_> {
    Sending::new(To::Clients(clients))
}

/// A send to all clients of a uid.
pub const fn to_uid(uid: &str) -> Sending<'_> {
    Sending::new(To::Uid(uid))
}

/// A send to all clients of each uid.
pub const fn to_uids<'a>(uids: &'a [&'a str]) -> Sending<'a> {
    Sending::new(To::Uids(uids))
}

/// A send to all members of a group.
pub const fn to_group(group: &str) -> Sending<'_> {
    Sending::new(To::Group(group))
}

/// A send to all members of each group.
pub const fn to_groups<'a>(groups: &'a [&'a str]) -> Sending<'a> {
    Sending::new(To::Groups(groups))
}

/// A send to all clients of the tenant.
pub const fn to_all() -> Sending<'static> {
    Sending::new(To::All)
}

/// Sends the farewell, if any, flushes what is queued, then closes the client.
pub fn close_client(client: &Client, farewell: Option<Outgoing<'_>>) -> Result {
    done(backend::close_client(client, None, farewell.as_ref()))
}

/// The same for all clients of a uid.
pub fn close_uid(uid: &str, farewell: Option<Outgoing<'_>>) -> Result {
    done(backend::close_uid(uid, None, farewell.as_ref()))
}

/// Closes a client at once and drops what is queued.
pub fn destroy_client(client: &Client) -> Result {
    done(backend::destroy_client(client))
}

/// Gives a client this uid; replaces an earlier one.
pub fn bind_uid(client: &Client, uid: &str) -> Result {
    done(backend::bind_uid(client, uid))
}

/// Takes a client's uid away, if it has one.
pub fn unbind_uid(client: &Client) -> Result {
    done(backend::unbind_uid(client))
}

/// Adds a client to a group; once is enough.
pub fn join_group(client: &Client, group: &str) -> Result {
    done(backend::join_group(client, group))
}

/// Takes a client out of a group, if it is in it.
pub fn leave_group(client: &Client, group: &str) -> Result {
    done(backend::leave_group(client, group))
}

/// Removes every member of a group; their connections stay.
pub fn ungroup(group: &str) -> Result {
    done(backend::ungroup(group))
}

/// Replaces the whole session of a client by these keys and JSON texts. With serde:
/// [`Client::set_session`].
pub fn set_session(client: &Client, entries: &[(&str, &str)]) -> Result {
    done(backend::set_session(client, entries))
}

/// Sets these session keys of a client to JSON texts and leaves the others. With `deep`, JSON
/// objects are merged key by key. With serde: [`Client::update_session`] and
/// [`Client::merge_session`].
pub fn update_session(client: &Client, entries: &[(&str, &str)], deep: bool) -> Result {
    done(backend::update_session(client, entries, deep))
}

/// Removes every key of a client's session.
pub fn delete_session(client: &Client) -> Result {
    done(backend::delete_session(client))
}

/// Starts a custom command beside the hub of these gateways (`None`: all), when the callback
/// returns ok, and does not wait for an answer; [`directory::command`](fn@crate::directory::command)
/// does.
pub fn command(gateways: Option<&[&str]>, name: &str, payload: &[u8]) -> Result {
    done(backend::command(gateways, name, payload))
}

fn done(result: Result<(), Refused>) -> Result {
    Ok(result?)
}
