//! The session of the client whose event is being handled: keys with JSON values. As one type of
//! yours ([`load`], [`store`]) or key by key ([`get`], [`set`]). It came with the event; changes
//! go back key by key with the event's effects, so that writers of different keys both win.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess};
use serde_json::value::RawValue;

use crate::backend;
use crate::error::{Error, Result};

/// The whole session as a type of yours: one field a key. Give the fields defaults, since a
/// session starts out empty.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::testing::Gateway;
///
/// #[derive(Default, Serialize, Deserialize)]
/// #[serde(default)]
/// struct Visits {
///     messages: u64,
/// }
///
/// #[derive(Default)]
/// struct Counter;
///
/// #[tidegate_sdk::handler]
/// impl Handler for Counter {
///     fn on_message(&mut self, client: Client, _: Message) -> Result {
///         let mut visits: Visits = session::load()?;
///         visits.messages += 1;
///         session::store(&visits)?;
///         client.send(visits.messages.to_string())
///     }
/// }
///
/// # fn main() -> Result {
/// let mut gateway = Gateway::<Counter>::start()?;
/// let client = gateway.connect()?;
/// gateway.send(client, "a")?;
/// gateway.send(client, "b")?;
/// assert_eq!(gateway.received(client), [Message::from("1"), Message::from("2")]);
/// # Ok(())
/// # }
/// ```
pub fn load<T: DeserializeOwned>() -> Result<T> {
    from_entries(&backend::session_entries()?)
}

/// Entries as one value.
pub(crate) fn from_entries<T: DeserializeOwned>(entries: &[(String, String)]) -> Result<T> {
    T::deserialize(MapAccessDeserializer::new(Entries {
        rest: entries.iter(),
        value: "",
    }))
    .map_err(|e| Error::msg(format_args!("the session does not fit its type: {e}")))
}

/// Sets one key for each field of `value` that differs from the session, so that a field you did
/// not touch cannot undo what another client's handler wrote. Other keys stay.
pub fn store<T: Serialize + ?Sized>(value: &T) -> Result {
    let now = backend::session_entries()?;
    for (key, json) in to_entries(value)? {
        let same = now.iter().any(|(k, v)| *k == key && *v == json);
        if !same {
            backend::session_set(&key, &json)?;
        }
    }
    Ok(())
}

/// The value of a key, with this event's own changes.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    let Some(json) = backend::session_get(key)? else {
        return Ok(None);
    };
    serde_json::from_str(&json)
        .map(Some)
        .map_err(|e| Error::msg(format_args!("session key {key:?}: {e}")))
}

/// Sets a key.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result {
    Ok(backend::session_set(key, &serde_json::to_string(value)?)?)
}

/// The JSON text of a key.
pub fn get_json(key: &str) -> Result<Option<String>> {
    Ok(backend::session_get(key)?)
}

/// Sets a key to a JSON text.
pub fn set_json(key: &str, json: &str) -> Result {
    Ok(backend::session_set(key, json)?)
}

/// Removes a key, if it is there.
pub fn remove(key: &str) -> Result {
    Ok(backend::session_remove(key)?)
}

/// All keys and JSON texts, ordered by key.
pub fn entries() -> Result<Vec<(String, String)>> {
    Ok(backend::session_entries()?)
}

/// Removes every key.
pub fn clear() -> Result {
    Ok(backend::session_clear()?)
}

/// One key and JSON text per field.
pub(crate) fn to_entries<T: Serialize + ?Sized>(value: &T) -> Result<Vec<(String, String)>> {
    // The texts as they are: a number keeps every digit.
    let json = serde_json::to_string(value)?;
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&json)
        .map_err(|_| Error::msg("a session must be a struct or a map: its fields are the keys"))?;
    Ok(fields
        .into_iter()
        .map(|(key, value)| (key, value.get().to_owned()))
        .collect())
}

pub(crate) fn borrow(entries: &[(String, String)]) -> Vec<(&str, &str)> {
    entries
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

/// Reads the entries as one JSON object without first gluing them together.
struct Entries<'de> {
    rest: std::slice::Iter<'de, (String, String)>,
    value: &'de str,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, serde_json::Error> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = value;
        seed.deserialize(BorrowedStrDeserializer::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, serde_json::Error> {
        seed.deserialize(&mut serde_json::Deserializer::from_str(self.value))
    }
}
