//! Answers for people and for programs. What strangers have named cannot move the cursor; a
//! partial answer says so on standard error and in the exit code.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Table, presets};
use serde::Serialize;
use tidegate_client::{Error, ErrorName};

/// Where answers go.
pub(super) struct Output {
    json: bool,
    /// Whether a person reads it.
    terminal: bool,
    partial: bool,
    /// Why it failed stands there already, as JSON.
    failure_told: Cell<bool>,
}

/// Why a command failed, for programs.
#[derive(Debug, Serialize)]
struct Failure {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    error: String,
    detail: String,
    /// Whether the same command may succeed later without anybody changing anything.
    retryable: bool,
}

impl Failure {
    fn of(error: &anyhow::Error) -> Self {
        let known = error.downcast_ref::<Error>();
        let (status, name, retryable) = match known {
            Some(Error::Refused(it)) => (Some(it.status), it.error, it.retryable),
            Some(Error::Setting(_)) => (None, ErrorName::InvalidArgument, false),
            Some(Error::Unreachable { .. }) => (None, ErrorName::Other, true),
            Some(Error::Deadline { .. }) => (None, ErrorName::Timeout, true),
            Some(Error::Answer(_)) | None => (None, ErrorName::Other, false),
        };
        let detail = match known {
            Some(Error::Refused(problem)) => problem.detail.clone(),
            Some(_) | None => format!("{error:#}"),
        };
        Self {
            event: "failed",
            status,
            error: name.to_string(),
            detail,
            retryable,
        }
    }
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: io::stdout().is_terminal(),
            partial: false,
            failure_told: Cell::new(false),
        }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    /// With JSON every outcome stands on standard output, also why there is none.
    pub(super) fn failure(&self, error: &anyhow::Error) -> anyhow::Result<()> {
        match self.json && !self.failure_told.get() {
            true => self.json(&Failure::of(error)),
            false => Ok(()),
        }
    }

    /// It was told as one of the things that happened.
    pub(super) fn failure_is_told(&self) {
        self.failure_told.set(true);
    }

    pub(super) const fn is_partial(&self) -> bool {
        self.partial
    }

    /// Says whom an answer is without.
    pub(super) fn without(&mut self, missing: &[String]) {
        if !missing.is_empty() {
            self.partial = true;
            let text = format!("partial: no answer from {}", missing.join(", "));
            self.warn(&text);
        }
    }

    /// Says that an answer may lack something, and what.
    pub(super) fn partial(&mut self, text: &str) {
        self.partial = true;
        self.warn(text);
    }

    /// A warning, beside the answer.
    #[expect(clippy::unused_self, reason = "what is said goes through one place")]
    pub(super) fn warn(&self, text: &str) {
        let _ = writeln!(io::stderr(), "warning: {}", shown(text));
    }

    /// A word to the person, beside the answer.
    #[expect(clippy::unused_self, reason = "what is said goes through one place")]
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "note: {}", shown(text));
    }

    /// Tells a person that a list is empty; a program sees that.
    pub(super) fn none(&self, what: &str) {
        if let Some(text) = self.of_none(what) {
            self.note(&text);
        }
    }

    fn of_none(&self, what: &str) -> Option<String> {
        (self.terminal && !self.json).then(|| format!("no {what}"))
    }

    /// JSON in one line.
    pub(super) fn json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        Ok(writeln!(io::stdout(), "{}", serde_json::to_string(value)?)?)
    }

    /// A line for people.
    pub(super) fn line(&self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(io::stdout(), "{}", shown(text))?)
    }

    /// Bytes as they are.
    pub(super) fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// Rows under a header.
    pub(super) fn table(&self, header: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
        Ok(writeln!(io::stdout(), "{}", table(header, rows))?)
    }
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| shown(cell)));
    }
    // A table pads its lines; nothing is gained by trailing spaces.
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().strip_prefix(' ').unwrap_or("").to_owned())
        .collect();
    lines.join("\n")
}

/// A text without control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().fold(String::new(), |mut shown, c| {
        match c.is_control() {
            // Writing to a string does not fail.
            true => drop(write!(shown, "{}", c.escape_default())),
            false => shown.push(c),
        }
        shown
    })
}

/// A JSON text, bounded for a table.
pub(super) fn brief(text: String) -> String {
    const LENGTH_MAX: usize = 60;
    match text.chars().count() > LENGTH_MAX {
        true => text.chars().take(LENGTH_MAX).chain(['…']).collect(),
        false => text,
    }
}

/// Milliseconds since 1970 as time since then, like `3h 12m`.
pub(super) fn ago(at_ms: u64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let seconds = now.saturating_sub(u128::from(at_ms)) / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_cannot_move_the_cursor() {
        let rows = vec![
            vec!["a\u{1b}[2J\n".to_owned(), "1".to_owned()],
            vec!["комната".to_owned(), "22".to_owned()],
        ];
        let table = table(&["GROUP", "CLIENTS"], rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert_eq!(lines[1], "a\\u{1b}[2J\\n  1");
        assert_eq!(lines[2], "комната       22");
    }

    #[test]
    fn an_empty_list_is_said_to_people_only() {
        let out = |json, terminal| Output {
            json,
            terminal,
            partial: false,
            failure_told: Cell::new(false),
        };
        assert_eq!(out(false, true).of_none("uids").as_deref(), Some("no uids"));
        for (json, terminal) in [(true, true), (false, false), (true, false)] {
            assert_eq!(out(json, terminal).of_none("uids"), None);
        }
    }

    #[test]
    fn long_values_are_cut_and_times_are_short() {
        assert_eq!(brief("x".repeat(100)).chars().count(), 61);
        assert!(ago(0).ends_with('h'));
    }
}
