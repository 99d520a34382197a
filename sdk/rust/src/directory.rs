//! Asking: about clients, uids, groups and sessions of the tenant, all over the cluster. A question
//! sees what this event has asked for so far; others see it only after the event.
//!
//! An answer may be partial: `missing` then names the gateways that gave nothing in time. Nothing
//! here waits longer than its deadline, and a refusal is an error like any other. What concerns
//! one client is also a method of [`Client`].
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Gateway;
//!
//! #[derive(Default)]
//! struct Rooms;
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Rooms {
//!     fn on_message(&mut self, client: Client, message: Message) -> Result {
//!         let room = message.text()?;
//!         client.join(room)?;
//!         // The join above counts already; if this callback fails, it never happened.
//!         let there = directory::in_group(room).count()?;
//!         let about = if there.is_whole() { "" } else { "at least " };
//!         client.send(format!("{about}{} in {room}", there.value))?;
//!         for other in directory::in_group(room).clients() {
//!             client.send(other?.as_str())?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result {
//! let mut gateway = Gateway::<Rooms>::start()?;
//! let ann = gateway.connect()?;
//! gateway.send(ann, "kitchen")?;
//! assert_eq!(gateway.received(ann), [Message::from("1 in kitchen"), ann.as_str().into()]);
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::directory as backend;
use crate::client::Client;
use crate::error::{Refused, Result};
use crate::session;

mod info;
mod list;
mod selection;

pub use info::{ClientAddress, ClientInfo, Fields, GroupInfo};
pub use list::{Answer, Count, Items, List, Page};
pub use selection::{
    Selection, Selector, everyone, in_all_groups, in_group, in_groups, of_clients, with_uid,
    with_uids,
};

/// Whether a client is connected. False when its gateway is gone; the error
/// [`Timeout`](Refused::Timeout) when its gateway does not answer.
pub fn is_online(client: &Client) -> Result<bool> {
    Ok(backend::is_online(client)?)
}

/// For each uid whether it has a client, in the order asked.
pub fn are_uids_online(uids: &[&str]) -> Result<Answer<Vec<bool>>> {
    Ok(backend::are_uids_online(uids)?)
}

/// One client; none if it is not connected.
pub fn info(client: &Client, fields: Fields) -> Result<Option<ClientInfo>> {
    Ok(backend::info(client, fields)?)
}

/// For each uid its clients, in the order asked. Refused when they are more than 10,000: then
/// use [`with_uids`] and its pages.
pub fn clients_of_uids(uids: &[&str]) -> Result<Answer<Vec<Vec<Client>>>> {
    Ok(backend::clients_of_uids(uids)?)
}

/// About how many distinct uids the tenant has: one round trip, with a standard error below 2 %.
/// Exactly: `everyone().uid_count()`.
pub fn uid_count_estimate() -> Result<Count> {
    Ok(backend::uid_count_estimate()?)
}

/// Groups that have members, in order.
pub fn groups() -> List<String> {
    List::new(backend::groups)
}

/// Groups that have members with their exact counts, in order.
pub fn group_infos() -> List<GroupInfo> {
    List::new(backend::group_infos)
}

/// Members of each of these groups, in the order asked.
pub fn client_counts_of_groups(groups: &[&str]) -> Result<Answer<Vec<u64>>> {
    Ok(backend::client_counts_of_groups(groups)?)
}

/// Every pair of a group and a member, ordered by group, then by member.
pub fn group_clients() -> List<(String, Client)> {
    List::new(backend::group_clients)
}

/// Every pair of a group and a distinct uid of its members, ordered by group, then by uid.
pub fn group_uids() -> List<(String, String)> {
    List::new(backend::group_uids)
}

/// The session of a client as keys and JSON texts, ordered by key; none if it is not connected.
/// As a type of yours: [`Client::session`].
pub fn session_of(client: &Client) -> Result<Option<Vec<(String, String)>>> {
    Ok(backend::session_of(client)?)
}

pub(crate) fn typed_session<T: DeserializeOwned>(client: &Client) -> Result<Option<T>> {
    let entries = session_of(client)?;
    entries
        .map(|entries| session::from_entries(&entries))
        .transpose()
}

/// Sets one session key if its value is still the expected one; as `expected` none means that it
/// is absent, as `new` that it is removed. It acts at once and stays if the callback fails.
/// [`Refused::Conflict`]: it has another value. With serde: [`Client::compare_and_set`].
pub fn compare_and_set_json(
    client: &Client,
    key: &str,
    expected: Option<&str>,
    new: Option<&str>,
) -> Result {
    Ok(backend::compare_and_set(client, key, expected, new)?)
}

pub(crate) fn compare_and_set<T: Serialize + ?Sized, U: Serialize + ?Sized>(
    client: &Client,
    key: &str,
    expected: Option<&T>,
    new: Option<&U>,
) -> Result {
    let expected = expected.map(serde_json::to_string).transpose()?;
    let new = new.map(serde_json::to_string).transpose()?;
    compare_and_set_json(client, key, expected.as_deref(), new.as_deref())
}

/// What the command of each gateway gave, ordered by address.
pub type CommandAnswers = Vec<(String, Result<Vec<u8>, Refused>)>;

/// Runs a custom command beside the hub of these gateways (`None`: all) and waits for at most
/// `within`. One answer or refusal for each gateway. It acts at once and may repeat.
/// [`gateway::command`](crate::gateway::command) does not wait.
pub fn command(
    gateways: Option<&[&str]>,
    name: &str,
    payload: &[u8],
    within: Duration,
) -> Result<CommandAnswers> {
    let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    Ok(backend::command(gateways, name, payload, within_ms)?)
}

/// The announced addresses of the live gateways, in order.
pub fn gateways() -> Result<Vec<String>> {
    Ok(backend::gateways()?)
}

/// Where a client is connected; no look-up.
pub fn address_of(client: &Client) -> Result<ClientAddress> {
    Ok(backend::address_of(client)?)
}

/// The client of an address; no look-up.
pub fn client_at(address: &ClientAddress) -> Result<Client> {
    Ok(backend::client_at(address)?)
}
