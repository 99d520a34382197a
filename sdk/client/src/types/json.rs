//! JSON values of sessions, as they were written: numbers keep every digit.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A JSON value as its text, so that no number is rounded to what a machine's number can hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// A value that serializes into JSON.
    ///
    /// # Errors
    /// When it does not: a map whose keys are no texts, for one.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        to_raw_value(value).map(Self)
    }

    /// This JSON text.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The value, as the caller's type holds it.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        // A value is JSON already.
        Self(to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

/// Texts are compared, not what they mean.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_every_digit_on_its_way_in_and_out() {
        for number in ["123456789012345678901234567890", "1e400", "1.00"] {
            let json: Json = serde_json::from_str(&format!(" {number} ")).unwrap();
            assert_eq!(json.text(), number);
            assert_eq!(serde_json::to_string(&json).unwrap(), number);
        }
        assert_eq!(Json::from(Value::Null).text(), "null");
        assert_eq!(Json::of("a").unwrap().read::<String>().unwrap(), "a");
        assert!(Json::parse("a=1".to_owned()).is_err());
    }
}
