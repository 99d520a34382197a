//! Questions that do not fit into a URL, and their answers. A list has at most 1000 entries.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Field, Json, Selector};

/// Which clients, and what of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ClientsQuery {
    /// The union of these; an empty list is nobody.
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub of: Vec<Selector>,
    /// What is wanted of each; nothing but the id by default.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// Where the list goes on: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1000, by default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub limit: Option<u32>,
}

impl ClientsQuery {
    /// Of these clients, these fields; pages of 1000.
    pub fn new(of: impl Into<Vec<Selector>>, fields: impl Into<Vec<Field>>) -> Self {
        Self {
            of: of.into(),
            fields: fields.into(),
            after: None,
            limit: Some(1000),
        }
    }
}

/// Which clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CountQuery {
    /// The union of these; an empty list is nobody.
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub of: Vec<Selector>,
}

/// A list of uids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Uids {
    /// Names of 1 to 255 bytes.
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub uids: Vec<String>,
}

/// Which of the uids have a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Online {
    /// Each uid that was asked for.
    pub online: BTreeMap<String, bool>,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
}

/// The clients of uids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientsOfUids {
    /// Each uid that was asked for, with the ids of its clients in order.
    pub clients: BTreeMap<String, Vec<String>>,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
}

/// A list of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Names of 1 to 255 bytes.
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub groups: Vec<String>,
}

/// How many clients each of the groups has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupCounts {
    /// Each group that was asked for.
    pub clients: BTreeMap<String, u64>,
    /// Gateways that gave nothing in time.
    pub missing: Vec<String>,
}

/// Sets one session key if its value is the expected one. An absent member means an absent key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CompareAndSet {
    /// Which key.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub key: String,
    /// The JSON value that it must have; absent: there must be no such key.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub expected: Option<Json>,
    /// The JSON value that it gets; absent: it is removed.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub new: Option<Json>,
}

/// So that `null` is a value, and only an absent member is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn null_is_a_value_and_an_absent_member_is_none() {
        let it: CompareAndSet = serde_json::from_str(r#"{"key":"k","expected":null}"#).unwrap();
        assert_eq!(
            (it.expected.clone(), it.new.clone()),
            (Some(Json::from(Value::Null)), None)
        );
        let text = serde_json::to_string(&it).unwrap();
        assert_eq!(text, r#"{"key":"k","expected":null}"#);
    }
}
