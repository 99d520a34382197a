//! The plugin's configuration, as the operator wrote it: as a whole when an instance starts, and
//! value by value at any time.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::backend;
use crate::error::{Error, Result};

/// The configuration given to [`Handler::on_start`](crate::Handler::on_start): one JSON object.
///
/// ```
/// use serde::Deserialize;
/// use tidegate_sdk::Config;
///
/// #[derive(Deserialize)]
/// struct Settings {
///     greeting: String,
/// }
///
/// let config = Config::from_json(r#"{"greeting":"hi","limit":3}"#).unwrap();
/// assert_eq!(config.parse::<Settings>().unwrap().greeting, "hi");
/// assert_eq!(config.get::<u32>("limit").unwrap(), Some(3));
/// assert_eq!(config.get::<u32>("absent").unwrap(), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config(serde_json::Map<String, Value>);

impl Config {
    /// Reads a JSON object.
    pub fn from_json(json: &str) -> Result<Self> {
        let object = serde_json::from_str(json);
        object
            .map(Self)
            .map_err(|e| Error::msg(format_args!("the configuration is no JSON object: {e}")))
    }

    /// The whole configuration as a type of yours.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_value(Value::Object(self.0.clone()))?)
    }

    /// One value, if its key is there.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        T::deserialize(value)
            .map(Some)
            .map_err(|e| Error::msg(format_args!("configuration key {key:?}: {e}")))
    }
}

/// One value of the configuration as text, at any time (`wasi:config`).
pub fn get(key: &str) -> Result<Option<String>> {
    Ok(backend::config_get(key)?)
}

/// Every key and value of the configuration as text, at any time (`wasi:config`).
pub fn entries() -> Result<Vec<(String, String)>> {
    Ok(backend::config_entries()?)
}
