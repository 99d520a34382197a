//! The arguments of one step, read as the contract's values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidegate_sdk::directory::{Fields, Selection, Selector};
use tidegate_sdk::{Client, Message, Refused, Result};

/// Entries of a page if the step does not say.
const LIMIT: u32 = 100;

/// One step, and whose event it is.
pub(crate) struct Arguments<'a> {
    step: &'a Value,
    me: Option<Client>,
}

fn wrong<T>(why: String) -> Result<T> {
    Err(Refused::InvalidArgument(why).into())
}

impl<'a> Arguments<'a> {
    pub(crate) const fn new(step: &'a Value, me: Option<Client>) -> Self {
        Self { step, me }
    }

    /// An argument; none if it is absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.step.get(name)
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str> {
        match self.get(name).and_then(Value::as_str) {
            Some(text) => Ok(text),
            None => wrong(format!("{name}: a text is expected in {}", self.step)),
        }
    }

    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(name).map(Some),
        }
    }

    pub(crate) fn number(&self, name: &str, default: u32) -> Result<u32> {
        let Some(value) = self.get(name).filter(|value| !value.is_null()) else {
            return Ok(default);
        };
        match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => wrong(format!("{name}: a number is expected, not {value}")),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }

    /// A list of texts; empty if it is absent.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<&'a str>> {
        self.get(name).map_or_else(|| Ok(Vec::new()), texts)
    }

    /// A list of texts, or none.
    pub(crate) fn optional_texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let given = self.get(name).filter(|value| !value.is_null());
        given.map(texts).transpose()
    }

    pub(crate) fn client(&self) -> Result<Client> {
        self.client_of(self.text("client")?)
    }

    fn client_of(&self, id: &str) -> Result<Client> {
        match self.me {
            Some(me) if id == "me" => Ok(me),
            _ => Ok(id.parse()?),
        }
    }

    /// A list of clients; empty if it is absent.
    pub(crate) fn clients(&self, name: &str) -> Result<Vec<Client>> {
        let ids = self.texts(name)?;
        ids.into_iter().map(|id| self.client_of(id)).collect()
    }

    /// A text, or `{"binary": base64}`; none if it is absent.
    pub(crate) fn message(&self, name: &str) -> Result<Option<Message>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str().into())),
            Some(other) => match other.get("binary").and_then(Value::as_str) {
                Some(binary) => Ok(Some(STANDARD.decode(binary)?.into())),
                None => wrong(format!("{name}: a text or binary is expected, not {other}")),
            },
        }
    }

    pub(crate) fn needed_message(&self, name: &str) -> Result<Message> {
        match self.message(name)? {
            Some(message) => Ok(message),
            None => wrong(format!("{name}: a message is expected in {}", self.step)),
        }
    }

    /// The bytes of `text` or `binary`.
    pub(crate) fn payload(&self) -> Result<Vec<u8>> {
        match self.optional_text("binary")? {
            Some(binary) => Ok(STANDARD.decode(binary)?),
            None => Ok(self.optional_text("text")?.unwrap_or_default().into()),
        }
    }

    /// Keys and JSON texts of an object.
    pub(crate) fn entries(&self, name: &str) -> Result<Vec<(&'a str, String)>> {
        let Some(object) = self.get(name).and_then(Value::as_object) else {
            return wrong(format!("{name}: an object is expected in {}", self.step));
        };
        let entries = object.iter();
        Ok(entries
            .map(|(key, value)| (key.as_str(), value.to_string()))
            .collect())
    }

    /// A JSON value as its text; none if it is absent. `null` is a value.
    pub(crate) fn json(&self, name: &str) -> Option<String> {
        self.get(name).map(Value::to_string)
    }

    pub(crate) fn after(&self) -> Result<Option<String>> {
        Ok(self.optional_text("after")?.map(str::to_owned))
    }

    pub(crate) fn limit(&self) -> Result<u32> {
        self.number("limit", LIMIT)
    }

    /// The list of selectors.
    pub(crate) fn of(&self) -> Result<Selection> {
        let Some(Value::Array(selectors)) = self.get("of") else {
            return wrong(format!(
                "of: a list of selectors is expected in {}",
                self.step
            ));
        };
        let mut all = Vec::new();
        for selector in selectors {
            self.select(selector, &mut all)?;
        }
        Ok(all.into())
    }

    /// Selectors of one object; several members are their union.
    pub(crate) fn select(&self, selector: &'a Value, all: &mut Vec<Selector>) -> Result {
        let Some(members) = selector.as_object() else {
            return wrong(format!("a selector is an object, not {selector}"));
        };
        for (kind, names) in members {
            let owned = || -> Result<Vec<String>> {
                Ok(texts(names)?.into_iter().map(str::to_owned).collect())
            };
            all.push(match kind.as_str() {
                "everyone" => Selector::Everyone,
                "clients" => {
                    let ids = texts(names)?.into_iter();
                    Selector::Clients(ids.map(|id| self.client_of(id)).collect::<Result<_>>()?)
                }
                "uids" => Selector::Uids(owned()?),
                "groups" => Selector::Groups(owned()?),
                "all_of_groups" => Selector::AllOfGroups(owned()?),
                other => return wrong(format!("unknown selector {other:?}")),
            });
        }
        Ok(())
    }

    pub(crate) fn fields(&self) -> Result<Fields> {
        let mut fields = Fields::NONE;
        for name in self.texts("fields")? {
            let field = match name {
                "peer" => Fields::PEER,
                "uid" => Fields::UID,
                "groups" => Fields::GROUPS,
                "session" => Fields::SESSION,
                "times" => Fields::TIMES,
                "traffic" => Fields::TRAFFIC,
                other => return wrong(format!("unknown field {other:?}")),
            };
            fields = fields | field;
        }
        Ok(fields)
    }
}

fn texts(list: &Value) -> Result<Vec<&str>> {
    let texts = list
        .as_array()
        .and_then(|list| list.iter().map(Value::as_str).collect());
    match texts {
        Some(texts) => Ok(texts),
        None => wrong(format!("a list of texts is expected, not {list}")),
    }
}
