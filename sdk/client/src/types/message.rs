//! Messages: `{"text": "…"}` or `{"binary": "<base64>"}`, alone or spread among other members.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// What a client sends and receives: text, or any bytes as base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Spread", into = "Spread")]
pub enum Message {
    /// UTF-8 text.
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// Text if these bytes are UTF-8, else binary.
    #[must_use]
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Binary(error.into_bytes()),
        }
    }

    /// The bytes of either kind.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

/// The members as they stand in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spread {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binary: Option<String>,
}

/// A message, or an empty text where there is nothing to say.
pub(super) fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Message, D::Error> {
    match Spread::deserialize(deserializer)? {
        Spread {
            text: None,
            binary: None,
        } => Ok(Message::Text(String::new())),
        spread => spread.try_into().map_err(D::Error::custom),
    }
}

impl TryFrom<Spread> for Message {
    type Error = String;

    fn try_from(spread: Spread) -> Result<Self, String> {
        match (spread.text, spread.binary) {
            (Some(text), None) => Ok(Self::Text(text)),
            (None, Some(binary)) => match STANDARD.decode(binary) {
                Ok(bytes) => Ok(Self::Binary(bytes)),
                Err(error) => Err(format!(
                    "`binary` is not base64 of the standard alphabet with padding: {error}"
                )),
            },
            (None, None) => Err("either `text` or `binary` must be there".to_owned()),
            (Some(_), Some(_)) => Err("either `text` or `binary` is right, not both".to_owned()),
        }
    }
}

impl From<Message> for Spread {
    fn from(message: Message) -> Self {
        let (text, binary) = match message {
            Message::Text(text) => (Some(text), None),
            Message::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        Self { text, binary }
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use std::borrow::Cow;

    use utoipa::openapi::schema::{AdditionalProperties, Object, ObjectBuilder, OneOfBuilder};
    use utoipa::openapi::{KnownFormat, RefOr, Schema, SchemaFormat, Type};
    use utoipa::{PartialSchema, ToSchema};

    use super::Message;

    fn one(member: &str, value: ObjectBuilder) -> Object {
        ObjectBuilder::new()
            .property(member, value.schema_type(Type::String))
            .required(member)
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .build()
    }

    impl PartialSchema for Message {
        fn schema() -> RefOr<Schema> {
            let base64 = SchemaFormat::KnownFormat(KnownFormat::Byte);
            OneOfBuilder::new()
                .description(Some("Text, or any bytes as base64."))
                .item(one("text", ObjectBuilder::new()))
                .item(one("binary", ObjectBuilder::new().format(Some(base64))))
                .into()
        }
    }

    impl ToSchema for Message {
        fn name() -> Cow<'static, str> {
            "Message".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_text_or_base64_and_nothing_else() {
        let text = Message::from("né");
        assert_eq!(serde_json::to_string(&text).unwrap(), r#"{"text":"né"}"#);
        let binary = Message::from(vec![0, 255]);
        let json = serde_json::to_string(&binary).unwrap();
        assert_eq!(json, r#"{"binary":"AP8="}"#);
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), binary);
        for wrong in [
            "{}",
            r#"{"binary":"AP8"}"#,
            r#"{"text":"a","binary":""}"#,
            r#"{"text":"a","more":1}"#,
            r#"{"text":7}"#,
        ] {
            assert!(serde_json::from_str::<Message>(wrong).is_err(), "{wrong}");
        }
    }
}
