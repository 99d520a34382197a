//! The types that keys have besides numbers, texts and addresses: closed lists of words, the
//! secret, the cache folder, a plugin's own configuration.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::Map;
use tidegate_runtime::Watching;
use tidegate_wire::{Name, is_name};

use super::error::ConfigError;
use super::setting::{Setting, is_not, one_of, parsed, quoted, unexpected};
use super::value::{Node, Value};

/// Defines a closed list of words.
macro_rules! words {
    (
        $(#[doc = $about:literal])*
        pub enum $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $word:literal, )* }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $doc])* $variant, )* }

        impl Setting for $name {
            const WANTED: &'static str = concat!("one of", $(" `", $word, "`",)*);
            const EXAMPLE: &'static str = [$(concat!("\"", $word, "\"")),*][0];

            fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
                parsed(node, |text| one_of(text, &[$(($word, Self::$variant)),*]))
            }

            fn show(&self) -> Option<String> {
                Some(quoted(match self { $( Self::$variant => $word, )* }))
            }
        }
    };
}

words! {
    /// How log lines are written.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// For programs.
        Json = "json",
    }
}

words! {
    /// How a gateway chooses the worker for an event.
    pub enum Router {
        /// A client stays with its worker.
        Bind = "bind",
        /// Every event may go to another worker.
        Rand = "rand",
        /// Clients with the same key have the same worker.
        Hash = "hash",
    }
}

/// What of a client `hash` goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouterKey {
    /// Its uid.
    #[default]
    Uid,
    /// A key of its session.
    Session(Name),
}

/// What stands before the key of a session.
const OF_SESSION: &str = "session:";

impl Setting for RouterKey {
    const WANTED: &'static str = "`uid` or `session:KEY`, like `session:room`";
    const EXAMPLE: &'static str = "\"uid\"";

    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        parsed(node, |text| match text.strip_prefix(OF_SESSION) {
            Some(key) if is_name(key) => Ok(Self::Session(key.into())),
            None if text == "uid" => Ok(Self::Uid),
            Some(_) | None => Err(is_not(text, Self::WANTED)),
        })
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Uid => quoted("uid"),
            Self::Session(key) => quoted(&format!("{OF_SESSION}{key}")),
        })
    }
}

words! {
    /// How `bind` chooses a worker for a new client.
    pub enum Choice {
        /// The less loaded of two.
        Load = "load",
        /// Any.
        Random = "random",
    }
}

words! {
    /// What happens to messages while no worker is there.
    pub enum NoWorker {
        /// They wait, up to the limits; then sockets are not read.
        Hold = "hold",
        /// They are dropped and counted.
        Drop = "drop",
        /// Their clients are closed.
        Close = "close",
    }
}

words! {
    /// What happens when a client does not read what it is sent.
    pub enum QueuePolicy {
        /// The client is closed.
        Close = "close",
        /// The new message is dropped.
        DropNew = "drop-new",
        /// The oldest messages are dropped.
        DropOld = "drop-old",
    }
}

words! {
    /// What happens to times of a schedule at which no task could begin.
    pub enum Missed {
        /// They are left out.
        Skip = "skip",
        /// The newest one begins late.
        Once = "once",
        /// All begin, one after the other.
        All = "all",
    }
}

words! {
    /// Whether the handler is asked who may become a client, and what happens if it cannot be.
    pub enum SignIn {
        /// It is not asked.
        Off = "off",
        /// Then nobody may.
        Reject = "reject",
        /// Then everybody may.
        Accept = "accept",
    }
}

words! {
    /// What happens to a message with a newline in it on a listener of lines.
    pub enum Newlines {
        /// It is not sent.
        Refuse = "refuse",
        /// It becomes several messages.
        Split = "split",
        /// It is written so that it is one line.
        Escape = "escape",
    }
}

/// How a new version of a plugin file is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The system tells; where it cannot, by looking.
    Auto,
    /// By looking alone.
    Poll,
    /// Only when the process is asked to look, by a signal.
    Off,
}

impl Watch {
    /// As the runtime has it.
    #[must_use]
    pub const fn watching(self) -> Watching {
        match self {
            Self::Auto => Watching::Told,
            Self::Poll => Watching::Polled,
            Self::Off => Watching::Asked,
        }
    }
}

impl Setting for Watch {
    const WANTED: &'static str = "`auto`, `poll`, `off`, true or false";
    const EXAMPLE: &'static str = "\"auto\"";

    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        match &node.value {
            Value::Flag(flag) => Ok(if *flag { Self::Auto } else { Self::Off }),
            Value::Text(text) | Value::Words(text) => match text.as_str() {
                "auto" | "true" => Ok(Self::Auto),
                "poll" => Ok(Self::Poll),
                "off" | "false" => Ok(Self::Off),
                _ => Err(ConfigError::new(&node.place, is_not(text, Self::WANTED))),
            },
            Value::Integer(_)
            | Value::Float(_)
            | Value::Date(_)
            | Value::List(_)
            | Value::Table(_) => Err(unexpected::<Self>(&node)),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(match self {
            Self::Auto => "auto",
            Self::Poll => "poll",
            Self::Off => "off",
        }))
    }
}

/// The cluster secret. Its debug form does not show it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the proof of a link and nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Setting for Secret {
    const WANTED: &'static str = "text";
    const EXAMPLE: &'static str = "\"…\"";

    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        parsed(node, |text| Ok(Self(text.to_owned())))
    }

    fn show(&self) -> Option<String> {
        // As long as a secret must be, so that what is in force can be read again.
        (!self.is_empty()).then(|| quoted("<secret-not-shown>"))
    }
}

/// Where compiled plugins are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheDir {
    /// In the folder that the platform has for it.
    Platform,
    /// Nowhere.
    Off,
    /// Here.
    At(PathBuf),
}

impl CacheDir {
    /// The folder, if there is to be one.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        match self {
            Self::Off => None,
            Self::At(folder) => Some(folder.clone()),
            Self::Platform => {
                let base = match set("XDG_CACHE_HOME") {
                    Some(folder) => PathBuf::from(folder),
                    None if cfg!(target_os = "macos") => {
                        PathBuf::from(set("HOME")?).join("Library/Caches")
                    }
                    None => PathBuf::from(set("HOME")?).join(".cache"),
                };
                Some(base.join("tidegate"))
            }
        }
    }
}

impl Setting for CacheDir {
    const WANTED: &'static str = "`platform`, `off` or a path";
    const EXAMPLE: &'static str = "\"platform\"";

    fn read(node: Node, range: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        match &node.value {
            Value::Text(text) | Value::Words(text) if text == "platform" => Ok(Self::Platform),
            Value::Text(text) | Value::Words(text) if text == "off" => Ok(Self::Off),
            Value::Text(_) | Value::Words(_) => PathBuf::read(node, range).map(Self::At),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Flag(_)
            | Value::Date(_)
            | Value::List(_)
            | Value::Table(_) => Err(unexpected::<Self>(&node)),
        }
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Platform => Some(quoted("platform")),
            Self::Off => Some(quoted("off")),
            Self::At(path) => path.show(),
        }
    }
}

/// What a plugin is given at its start: any table, as JSON.
pub type PluginConfig = Map<String, serde_json::Value>;

impl Setting for PluginConfig {
    const WANTED: &'static str = "a table";
    const EXAMPLE: &'static str = "{}";

    fn read(node: Node, _: Option<&RangeInclusive<u64>>) -> Result<Self, ConfigError> {
        match node.value {
            Value::Table(table) => Ok(table
                .entries
                .into_iter()
                .map(|entry| (entry.key, json(entry.node.value)))
                .collect()),
            Value::Words(words) => serde_json::from_str(&words)
                .map_err(|_| ConfigError::new(&node.place, is_not(&words, "a JSON object"))),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Flag(_)
            | Value::Date(_)
            | Value::List(_) => Err(unexpected::<Self>(&node)),
        }
    }

    fn show(&self) -> Option<String> {
        // A plugin's configuration may hold keys and passwords of its own.
        Some(match self.is_empty() {
            true => "{}".to_owned(),
            false => format!("{{}} # {} keys, not shown", self.len()),
        })
    }
}

fn json(value: Value) -> serde_json::Value {
    match value {
        Value::Text(text) | Value::Words(text) | Value::Date(text) => text.into(),
        Value::Integer(integer) => integer.into(),
        Value::Float(float) => float.into(),
        Value::Flag(flag) => flag.into(),
        Value::List(items) => items.into_iter().map(|item| json(item.value)).collect(),
        Value::Table(table) => table
            .entries
            .into_iter()
            .map(|entry| (entry.key, json(entry.node.value)))
            .collect(),
    }
}
