//! What is wrong with a configuration, and where: file with line and column, variable or flag.
//!
//! Messages are made where the mistake is found; here they get their place and their order.

use std::fmt;
use std::sync::Arc;

use strsim::osa_distance;

/// Where a value was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nobody gave it: a default, or something that is missing altogether.
    #[default]
    Nowhere,
    /// In the file.
    File {
        /// The file's path, as it was given.
        file: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// In this environment variable.
    Variable(String),
    /// On the command line, with this flag.
    Flag(String),
}

impl Place {
    /// Whether somebody gave the value.
    #[must_use]
    pub fn is_given(&self) -> bool {
        *self != Self::Nowhere
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Where it is.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.is_given() {
            true => write!(f, "{}: {}", self.place, self.message),
            false => f.write_str(&self.message),
        }
    }
}

impl ConfigError {
    /// A mistake at a place. Control characters of the file are told, not sent to the terminal.
    pub(crate) fn new(place: &Place, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            message: printable(message.into()),
        }
    }
}

fn printable(message: String) -> String {
    let is_sent = |c: char| c == '\n' || !c.is_control();
    if message.chars().all(is_sent) {
        return message;
    }
    let told = message.chars().map(|c| match is_sent(c) {
        true => c.to_string(),
        false => c.escape_default().to_string(),
    });
    told.collect()
}

/// Every mistake that was found, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts the mistakes and drops repetitions; none if there are none.
    pub(crate) fn of(mut errors: Vec<ConfigError>) -> Option<Self> {
        errors.sort();
        errors.dedup();
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The candidate that `given` was probably meant to be: few edits away, units aside. Two letters that
/// changed places are one edit.
pub(crate) fn nearest<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let given: String = given.to_lowercase().replace('_', "-");
    let allowed = (given.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| {
            let whole = osa_distance(&given, candidate);
            let bare = osa_distance(&given, without_unit(candidate));
            (whole.min(bare), whole, candidate)
        })
        .min()
        .filter(|(edits, _, _)| *edits <= allowed)
        .map(|(_, _, candidate)| candidate)
}

fn without_unit(key: &str) -> &str {
    let bare = key.trim_end_matches("-max").trim_end_matches("-min");
    ["-ms", "-bytes", "-mib"]
        .iter()
        .find_map(|unit| bare.strip_suffix(unit))
        .unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_file_are_told_and_not_sent_to_the_terminal() {
        let error = ConfigError::new(&Place::Nowhere, "a key `\u{1b}[2J\0ü`\nand more");
        let told = "a key `\\u{1b}[2J\\u{0}ü`\nand more";
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn nearest_forgives_typos_and_missing_units_but_not_other_words() {
        let keys = ["ping-interval-ms", "ping-data", "path", "message-bytes-max"];
        for (given, meant) in [
            ("pin-interval", Some("ping-interval-ms")),
            ("ping_interval_ms", Some("ping-interval-ms")),
            ("message-max", None),
            ("message", Some("message-bytes-max")),
            ("paht", Some("path")),
            ("pat", Some("path")),
            ("colour", None),
        ] {
            assert_eq!(nearest(given, keys), meant, "{given}");
        }
    }
}
