//! One table of the configuration with types: which keys it has, their defaults and what they
//! mean, written once with `section!`. The reader, the default file and the reference come from
//! that one list.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::error::{ConfigError, Place, nearest};
use super::setting::Setting;
use super::value::{Entry, Table, Value};

/// Where each key was given, by its path (`gateway.listener.0.listen`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places(BTreeMap<String, Place>);

impl Places {
    /// Whether nobody gave anything.
    pub(crate) fn is_empty(&self) -> bool {
        !self.0.values().any(Place::is_given)
    }

    /// Where the key at `path` was given, if anybody gave it.
    pub(crate) fn of(&self, path: &str) -> Place {
        self.0.get(path).cloned().unwrap_or_default()
    }
}

impl Places {
    /// Where the key at `path` was given, else the table that it belongs to, or the one round that.
    pub(crate) fn near(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            let place = self.of(path);
            match path.rsplit_once('.') {
                Some((table, _)) if !place.is_given() => path = table,
                Some(_) | None => return place,
            }
        }
    }
}

/// What reading finds besides the values.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) places: Places,
}

/// One key, for people.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) key: String,
    /// What it means, line by line.
    pub(crate) about: &'static [&'static str],
    /// Its value in TOML; none if it is not set.
    pub(crate) value: Option<String>,
    pub(crate) example: &'static str,
    pub(crate) range: Option<RangeInclusive<u64>>,
}

/// A key whose value is another one: in TOML, none if it is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: String,
    pub(crate) was: Option<String>,
    pub(crate) is: Option<String>,
}

/// A table that is being read.
pub(crate) struct Section<'a> {
    pub(crate) path: String,
    header: String,
    table: Table,
    known: Vec<String>,
    reading: &'a mut Reading,
}

impl<'a> Section<'a> {
    /// The table at the top.
    pub(crate) fn top(table: Table, reading: &'a mut Reading) -> Self {
        Self {
            path: String::new(),
            header: "the top level".to_owned(),
            table,
            known: Vec::new(),
            reading,
        }
    }

    fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn entry(&mut self, key: &str) -> Option<Entry> {
        self.known.push(key.to_owned());
        let entry = self.table.take(key)?;
        let path = self.path_of(key);
        let place = entry.node.place.clone();
        self.reading.places.0.insert(path, place);
        Some(entry)
    }

    fn refuse(&mut self, key: &str, error: ConfigError) {
        let message = format!("`{key}` in {}: {}", self.header, error.message);
        self.reading.errors.push(ConfigError { message, ..error });
    }

    /// The value of a key; its default if it is not given or wrong.
    pub(crate) fn take<T: Setting>(
        &mut self,
        key: &str,
        default: T,
        range: Option<&RangeInclusive<u64>>,
    ) -> T {
        let Some(entry) = self.entry(key) else {
            return default;
        };
        T::read(entry.node, range).unwrap_or_else(|error| {
            self.refuse(key, error);
            default
        })
    }

    /// Reads the table at a key; an empty one if it is not given.
    pub(crate) fn table<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let path = self.path_of(key);
        let header = format!("[{path}]");
        let table = match self.entry(key) {
            None => Table::default(),
            Some(entry) => match entry.node.value.into_table() {
                Ok(table) => table,
                Err(found) => {
                    let message = format!("expected the table {header}, found {found}");
                    self.refuse(key, ConfigError::new(&entry.node.place, message));
                    Table::default()
                }
            },
        };
        self.inner(path, header, table, read)
    }

    /// Reads every table of the list of tables at a key.
    pub(crate) fn tables<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        let path = self.path_of(key);
        let header = format!("[[{path}]]");
        let Some(entry) = self.entry(key) else {
            return Vec::new();
        };
        let expected = |found| format!("expected tables {header}, found {found}");
        let Value::List(items) = entry.node.value else {
            let message = expected(entry.node.value.kind());
            self.refuse(key, ConfigError::new(&entry.place, message));
            return Vec::new();
        };
        let mut out = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let path = format!("{path}.{at}");
            self.reading
                .places
                .0
                .insert(path.clone(), item.place.clone());
            match item.value.into_table() {
                Ok(table) => out.push(self.inner(path, header.clone(), table, &mut read)),
                Err(found) => {
                    let message = expected(found);
                    self.refuse(key, ConfigError::new(&item.place, message));
                }
            }
        }
        out
    }

    fn inner<T>(
        &mut self,
        path: String,
        header: String,
        table: Table,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let mut section = Section {
            path,
            header,
            table,
            known: Vec::new(),
            reading: self.reading,
        };
        let value = read(&mut section);
        section.finish();
        value
    }

    /// Refuses the keys that nobody asked for.
    pub(crate) fn finish(self) {
        for entry in &self.table.entries {
            let meant = nearest(&entry.key, self.known.iter().map(String::as_str));
            let hint = match meant {
                Some(key) => format!("did you mean `{key}`?"),
                None => format!("its keys are `{}`", self.known.join("`, `")),
            };
            let message = format!("unknown key `{}` in {}, {hint}", entry.key, self.header);
            self.reading
                .errors
                .push(ConfigError::new(&entry.place, message));
        }
    }
}

/// The key of a field: kebab-case, unless it has a name of its own.
pub(crate) fn key_of(field: &str, own: Option<&str>) -> String {
    own.map_or_else(|| field.replace('_', "-"), str::to_owned)
}

/// Defines a table: a struct whose fields are its keys, with default, range and meaning.
macro_rules! section {
    (
        $(#[doc = $table_about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $about:literal])*
                $field:ident $(as $own:literal)? : $type:ty = $default:expr $(=> $range:expr)?;
            )*
        }
    ) => {
        $(#[doc = $table_about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $about])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $name {
            /// What the table is for.
            pub(crate) const ABOUT: &'static [&'static str] = &[$($table_about),*];

            /// Reads the table.
            pub(crate) fn read(section: &mut $crate::config::section::Section<'_>) -> Self {
                let default = Self::default();
                Self { $(
                    $field: section.take(
                        &$crate::config::section::key_of(stringify!($field), None $(.or(Some($own)))?),
                        default.$field,
                        None $(.or(Some(&$range)))?,
                    ),
                )* }
            }

            /// The keys whose values are others in `new`.
            pub(crate) fn changes(&self, new: &Self) -> Vec<$crate::config::section::Change> {
                let mut changes = Vec::new();
                $( if self.$field != new.$field {
                    changes.push($crate::config::section::Change {
                        key: $crate::config::section::key_of(stringify!($field), None $(.or(Some($own)))?),
                        was: $crate::config::setting::Setting::show(&self.$field),
                        is: $crate::config::setting::Setting::show(&new.$field),
                    });
                } )*
                changes
            }

            /// Its keys with their values.
            pub(crate) fn keys(&self) -> Vec<$crate::config::section::Key> {
                vec![ $( $crate::config::section::Key {
                    key: $crate::config::section::key_of(stringify!($field), None $(.or(Some($own)))?),
                    about: &[$($about),*],
                    value: $crate::config::setting::Setting::show(&self.$field),
                    example: <$type as $crate::config::setting::Setting>::EXAMPLE,
                    range: None $(.or(Some($range)))?,
                }, )* ]
            }
        }
    };
}
pub(crate) use section;
