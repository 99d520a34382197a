//! A configuration before it has types: tables, lists and values, each with its place.
//!
//! The file is read into this tree, then the environment and the command line are laid over it.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeInteger, DeTable, DeValue};

use super::error::{ConfigError, Place};

/// A value and where it was given.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    Date(String),
    List(Vec<Node>),
    Table(Table),
    /// From the environment or the command line, where everything is text: the key that reads it
    /// knows its type.
    Words(String),
}

impl Value {
    /// What kind of value it is, for "found …"; never the value itself.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Words(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Flag(_) => "a true or false",
            Self::Date(_) => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// The table that it is, or else what kind of value it is.
    pub(crate) fn into_table(self) -> Result<Table, &'static str> {
        let kind = self.kind();
        match self {
            Self::Table(table) => Ok(table),
            Self::Text(_)
            | Self::Integer(_)
            | Self::Float(_)
            | Self::Flag(_)
            | Self::Date(_)
            | Self::List(_)
            | Self::Words(_) => Err(kind),
        }
    }
}

/// A key, where it stands, and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

/// Entries in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

impl Table {
    pub(crate) fn take(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.node)
    }

    pub(crate) fn set(&mut self, key: &str, node: Node) {
        self.take(key);
        self.entries.push(Entry {
            key: key.to_owned(),
            place: node.place.clone(),
            node,
        });
    }

    /// The value at `key`, put there first if there is none.
    pub(crate) fn entry(&mut self, key: &str, place: &Place, empty: Value) -> Option<&mut Node> {
        if self.get(key).is_none() {
            let place = place.clone();
            self.set(
                key,
                Node {
                    place,
                    value: empty,
                },
            );
        }
        self.entries
            .iter_mut()
            .find(|entry| entry.key == key)
            .map(|entry| &mut entry.node)
    }
}

/// Reads TOML; every syntax error is added to `errors` with its place.
pub(crate) fn parse(file: &str, text: &str, errors: &mut Vec<ConfigError>) -> Table {
    let source = Toml {
        file: file.into(),
        text,
    };
    let (root, found) = DeTable::parse_recoverable(text);
    errors.extend(found.iter().map(|error| {
        let place = source.place(error.span().unwrap_or(0..0));
        ConfigError::new(&place, error.message().trim().replace('\n', ", "))
    }));
    source.table(root.get_ref())
}

struct Toml<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Toml<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place::File {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entries = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                place: self.place(key.span()),
                node: self.node(value.get_ref(), value.span()),
            })
            .collect();
        Table { entries }
    }

    fn node(&self, value: &DeValue<'_>, span: Range<usize>) -> Node {
        let place = self.place(span);
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => whole(integer),
            DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| self.node(item.get_ref(), item.span()))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { place, value }
    }
}

/// A number of more than 64 bits stays text: the key that reads it says which are right.
fn whole(integer: &DeInteger<'_>) -> Value {
    match i64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(integer) => Value::Integer(integer),
        Err(_) => Value::Words(integer.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_knows_its_line_and_its_column_in_characters() {
        let mut errors = Vec::new();
        let table = parse("f", "a = 1\n[b]\n\"ü\" = [\n  true]\n", &mut errors);
        assert!(errors.is_empty());
        let Value::Table(b) = &table.get("b").unwrap().value else {
            panic!("b is a table");
        };
        let entry = b.entries.first().unwrap();
        assert_eq!(entry.place.to_string(), "f:3:1");
        assert_eq!(entry.node.place.to_string(), "f:3:7");
        let Value::List(items) = &entry.node.value else {
            panic!("a list");
        };
        assert_eq!(items[0].place.to_string(), "f:4:3");
    }
}
