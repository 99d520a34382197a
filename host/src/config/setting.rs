//! What can stand behind a key: how a type is read, what to say if it cannot be, how it is shown.

use std::net::{SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use tidegate_wire::{NAME_BYTES_MAX, Name, is_name};

use super::error::{ConfigError, Place, nearest};
use super::value::{Node, Value};

/// A type that a key can have.
pub(crate) trait Setting: Sized {
    /// What would be right, for "expected …".
    const WANTED: &'static str;
    /// A value in TOML, shown where the default is "not set".
    const EXAMPLE: &'static str;

    /// Reads the value; the error's message does not name the key.
    fn read(node: Node, range: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError>;

    /// The value in TOML; none if it is not set.
    fn show(&self) -> Option<String>;
}

/// "expected …, found …", with the kind of value but not the value, which may be secret.
pub(crate) fn unexpected<T: Setting>(node: &Node) -> ConfigError {
    let found = node.value.kind();
    ConfigError::new(
        &node.place,
        format!("expected {}, found {found}", T::WANTED),
    )
}

/// The text of a value and its place.
pub(crate) fn text<T: Setting>(node: Node) -> Result<(String, Place), ConfigError> {
    match node.value {
        Value::Text(text) | Value::Words(text) => Ok((text, node.place)),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::List(_)
        | Value::Table(_) => Err(unexpected::<T>(&node)),
    }
}

/// Reads a type that is written as text.
pub(crate) fn parsed<T: Setting>(
    node: Node,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    let (text, place) = text::<T>(node)?;
    parse(&text).map_err(|message| ConfigError::new(&place, message))
}

/// A text in TOML's quotes.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// "`…` is not …", for texts that are no secret.
pub(crate) fn is_not(text: &str, wanted: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("`{short}` is not {wanted}")
}

impl Setting for bool {
    const WANTED: &'static str = "true or false";
    const EXAMPLE: &'static str = "true";

    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        match &node.value {
            Value::Flag(flag) => Ok(*flag),
            Value::Words(words) if words == "true" => Ok(true),
            Value::Words(words) if words == "false" => Ok(false),
            Value::Words(words) => Err(ConfigError::new(&node.place, is_not(words, Self::WANTED))),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Date(_)
            | Value::List(_)
            | Value::Table(_) => Err(unexpected::<Self>(&node)),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

fn number(node: &Node) -> Option<i128> {
    match &node.value {
        Value::Integer(integer) => Some(i128::from(*integer)),
        Value::Words(words) => words.trim().replace('_', "").parse().ok(),
        Value::Text(_)
        | Value::Float(_)
        | Value::Flag(_)
        | Value::Date(_)
        | Value::List(_)
        | Value::Table(_) => None,
    }
}

/// Digits in groups of three, as TOML allows.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

macro_rules! whole_numbers {
    ($($type:ty)*) => { $(
        impl Setting for $type {
            const WANTED: &'static str = "a whole number";
            const EXAMPLE: &'static str = "1000";

            fn read(node: Node, range: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
                let Some(number) = number(&node) else {
                    return Err(match &node.value {
                        Value::Words(words) => {
                            ConfigError::new(&node.place, is_not(words, Self::WANTED))
                        }
                        Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Flag(_)
                        | Value::Date(_) | Value::List(_) | Value::Table(_) => {
                            unexpected::<Self>(&node)
                        }
                    });
                };
                let all = 0..=u64::try_from(<$type>::MAX).unwrap_or(u64::MAX);
                let range = range.unwrap_or(&all);
                let inside = u64::try_from(number).is_ok_and(|number| range.contains(&number));
                match <$type>::try_from(number) {
                    Ok(number) if inside => Ok(number),
                    Ok(_) | Err(_) => {
                        let (low, high) = (grouped(*range.start()), grouped(*range.end()));
                        let message = format!("{number} is out of range, {low} to {high} is right");
                        Err(ConfigError::new(&node.place, message))
                    }
                }
            }

            fn show(&self) -> Option<String> {
                Some(grouped(u64::try_from(*self).unwrap_or(u64::MAX)))
            }
        }
    )* };
}
whole_numbers!(u8 u16 u32 u64 usize);

impl Setting for String {
    const WANTED: &'static str = "text";
    const EXAMPLE: &'static str = "\"/\"";

    fn read(node: Node, range: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        parsed(node, |text| match range {
            Some(range) if !range.contains(&(text.len() as u64)) => Err(format!(
                "it has {} bytes, {} to {} are right",
                text.len(),
                range.start(),
                range.end()
            )),
            Some(_) | None => Ok(text.to_owned()),
        })
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for Name {
    const WANTED: &'static str = "a name of 1 to 255 bytes";
    const EXAMPLE: &'static str = "\"default\"";

    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        parsed(node, |text| match is_name(text) {
            true => Ok(text.into()),
            false => Err(format!(
                "a name has 1 to {NAME_BYTES_MAX} bytes, this one has {}",
                text.len()
            )),
        })
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

macro_rules! addresses {
    ($($type:ty: $wanted:literal, $example:literal;)*) => { $(
        impl Setting for $type {
            const WANTED: &'static str = $wanted;
            const EXAMPLE: &'static str = $example;

            fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
                parsed(node, |text| text.parse().map_err(|_| is_not(text, Self::WANTED)))
            }

            fn show(&self) -> Option<String> {
                Some(quoted(&self.to_string()))
            }
        }
    )* };
}
addresses! {
    SocketAddr: "an IP address with a port, like 127.0.0.1:7280", "\"127.0.0.1:7280\"";
    SocketAddrV4: "an IPv4 address with a port, like 127.0.0.1:2000", "\"127.0.0.1:2000\"";
}

impl Setting for PathBuf {
    const WANTED: &'static str = "a path";
    const EXAMPLE: &'static str = "\"path\"";

    /// A relative path of the file starts at the file's folder, any other at the current folder.
    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        let (text, place) = text::<Self>(node)?;
        if text.is_empty() {
            return Err(ConfigError::new(&place, "an empty path leads nowhere"));
        }
        Ok(match &place {
            Place::File { file, .. } => Path::new(&**file)
                .parent()
                .unwrap_or(Path::new(""))
                .join(text),
            Place::Nowhere | Place::Variable(_) | Place::Flag(_) => Self::from(text),
        })
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl<T: Setting> Setting for Option<T> {
    const WANTED: &'static str = T::WANTED;
    const EXAMPLE: &'static str = T::EXAMPLE;

    fn read(node: Node, range: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        // An empty variable means "not set".
        if matches!(&node.value, Value::Words(words) if words.is_empty()) {
            return Ok(None);
        }
        T::read(node, range).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(Setting::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const WANTED: &'static str = "a list";
    const EXAMPLE: &'static str = "[]";

    fn read(node: Node, range: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        let place = node.place.clone();
        match node.value {
            Value::List(items) => items.into_iter().map(|item| T::read(item, range)).collect(),
            Value::Words(words) => words
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(|word| Node {
                    place: place.clone(),
                    value: Value::Words(word.to_owned()),
                })
                .map(|item| T::read(item, range))
                .collect(),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Flag(_)
            | Value::Date(_)
            | Value::Table(_) => Err(unexpected::<Self>(&node)),
        }
    }

    fn show(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(Setting::show).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// Reads one word of a closed list.
pub(crate) fn one_of<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*choice);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let wanted = format!("one of `{}`", words.join("`, `"));
    let meant =
        nearest(text, words).map_or(String::new(), |word| format!(", did you mean `{word}`?"));
    Err(format!("{}{meant}", is_not(text, &wanted)))
}
