//! Whom a call is about.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Clients of the tenant. Several members mean their union.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// All clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub everyone: Option<bool>,
    /// These clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, max_items = 1000))]
    pub clients: Option<Vec<String>>,
    /// All clients of each of these uids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, max_items = 1000))]
    pub uids: Option<Vec<String>>,
    /// All members of each of these groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, max_items = 1000))]
    pub groups: Option<Vec<String>>,
    /// Members of every one of these groups; not for sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, max_items = 1000))]
    pub all_of_groups: Option<Vec<String>>,
}

impl Selector {
    /// All clients.
    #[must_use]
    pub fn everyone() -> Self {
        Self {
            everyone: Some(true),
            ..Self::default()
        }
    }

    /// These clients.
    pub fn clients<T: Into<String>>(clients: impl IntoIterator<Item = T>) -> Self {
        Self {
            clients: Some(texts(clients)),
            ..Self::default()
        }
    }

    /// All clients of each of these uids.
    pub fn uids<T: Into<String>>(uids: impl IntoIterator<Item = T>) -> Self {
        Self {
            uids: Some(texts(uids)),
            ..Self::default()
        }
    }

    /// All members of each of these groups.
    pub fn groups<T: Into<String>>(groups: impl IntoIterator<Item = T>) -> Self {
        Self {
            groups: Some(texts(groups)),
            ..Self::default()
        }
    }

    /// Members of every one of these groups.
    pub fn all_of_groups<T: Into<String>>(groups: impl IntoIterator<Item = T>) -> Self {
        Self {
            all_of_groups: Some(texts(groups)),
            ..Self::default()
        }
    }
}

fn texts<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

/// One selector or a list of them: their union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients(pub Vec<Selector>);

impl From<Selector> for Recipients {
    fn from(selector: Selector) -> Self {
        Self(vec![selector])
    }
}

impl From<Vec<Selector>> for Recipients {
    fn from(selectors: Vec<Selector>) -> Self {
        Self(selectors)
    }
}

impl Serialize for Recipients {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Recipients {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Recipients;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a selector like {\"groups\":[\"lobby\"]} or a list of selectors")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Recipients, A::Error> {
                Selector::deserialize(MapAccessDeserializer::new(map)).map(Recipients::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Recipients, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Recipients)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use std::borrow::Cow;

    use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder, Ref};
    use utoipa::openapi::{RefOr, Schema};
    use utoipa::{PartialSchema, ToSchema};

    use super::{Recipients, Selector};

    impl PartialSchema for Recipients {
        fn schema() -> RefOr<Schema> {
            let selector = || Ref::from_schema_name("Selector");
            OneOfBuilder::new()
                .description(Some("One selector or a list of them: their union."))
                .item(selector())
                .item(ArrayBuilder::new().items(selector()).max_items(Some(1000)))
                .into()
        }
    }

    impl ToSchema for Recipients {
        fn name() -> Cow<'static, str> {
            "Recipients".into()
        }

        fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
            schemas.push((Selector::name().into(), Selector::schema()));
            Selector::schemas(schemas);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_one_selector_or_a_list() {
        let one: Recipients = serde_json::from_str(r#"{"groups":["a"],"uids":["0"]}"#).unwrap();
        assert_eq!(one.0.len(), 1);
        let two: Recipients =
            serde_json::from_str(r#"[{"everyone":true},{"clients":[]}]"#).unwrap();
        assert_eq!(two.0, [Selector::everyone(), Selector::clients([""; 0])]);
        let error = serde_json::from_str::<Recipients>("7").unwrap_err();
        assert!(error.to_string().contains("a selector like"), "{error}");
        assert!(serde_json::from_str::<Recipients>(r#"{"group":["a"]}"#).is_err());
    }
}
