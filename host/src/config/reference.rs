//! The configuration for people: the file of all defaults, the file of what is in force, and the
//! tables of `docs/configuration.md`, all from the one list of keys.

use std::fmt::Write;

use super::section::Key;
use super::setting::{Setting, grouped};
use super::{
    Admin, Api, ApiToken, Codec, Command, Config, Deploy, Gateway, Link, Listener, Log, Plugin,
    Register, RouterComponent, Schedule, Tenant, Watchdog, Worker,
};

/// One table, for people.
struct ReferenceTable {
    header: &'static str,
    about: &'static [&'static str],
    keys: Vec<Key>,
    /// Whether it is there without anybody giving it.
    always: bool,
}

const SECRET: &[&str] = &[
    " What all nodes of a cluster know. Better not in this file: set TIDEGATE_SECRET.",
    " `tidegate serve` without links to other nodes needs none.",
];

const ALSO_SECRET: &[&str] = &[
    " While the secret is changed: another one that is taken from nodes that connect here. Better as",
    " TIDEGATE_ALSO_SECRET.",
];

fn secrets(values: [Option<String>; 2]) -> Vec<Key> {
    let keys = [("secret", SECRET), ("also-secret", ALSO_SECRET)];
    let keys = keys.into_iter().zip(values);
    let key = |((key, about), value): ((&str, _), _)| Key {
        key: key.to_owned(),
        about,
        value,
        example: "\"what `openssl rand -hex 32` prints\"",
        range: None,
    };
    keys.map(key).collect()
}

fn table(header: &'static str, about: &'static [&'static str], keys: Vec<Key>) -> ReferenceTable {
    ReferenceTable {
        header,
        about,
        keys,
        always: !header.starts_with("[["),
    }
}

fn example() -> Plugin {
    Plugin {
        file: Some("chat.wasm".into()),
        ..Plugin::default()
    }
}

fn router_example() -> RouterComponent {
    RouterComponent {
        file: "router.wasm".into(),
        ..RouterComponent::default()
    }
}

fn command_example() -> Command {
    Command {
        file: "commands.wasm".into(),
        ..Command::default()
    }
}

fn schedule_example() -> Schedule {
    Schedule {
        name: Some("hourly".into()),
        ..Schedule::default()
    }
}

fn codec_example() -> Codec {
    Codec {
        name: "tracker".into(),
        file: "tracker.wasm".into(),
        ..Codec::default()
    }
}

fn defaults() -> Vec<ReferenceTable> {
    vec![
        table("", &[], secrets([None, None])),
        table("[log]", Log::ABOUT, Log::default().keys()),
        table("[watchdog]", Watchdog::ABOUT, Watchdog::default().keys()),
        table("[admin]", Admin::ABOUT, Admin::default().keys()),
        table("[api]", Api::ABOUT, Api::default().keys()),
        table("[[api-token]]", ApiToken::ABOUT, ApiToken::default().keys()),
        table("[deploy]", Deploy::ABOUT, Deploy::default().keys()),
        table("[register]", Register::ABOUT, Register::default().keys()),
        table("[link]", Link::ABOUT, Link::default().keys()),
        table("[gateway]", Gateway::ABOUT, Gateway::default().keys()),
        table(
            "[[gateway.listener]]",
            Listener::ABOUT,
            Listener::default().keys(),
        ),
        table("[[tenant]]", Tenant::ABOUT, Tenant::default().keys()),
        table("[worker]", Worker::ABOUT, Worker::default().keys()),
        table("[[plugin]]", Plugin::ABOUT, example().keys()),
        table("[[command]]", Command::ABOUT, command_example().keys()),
        table("[[schedule]]", Schedule::ABOUT, schedule_example().keys()),
        table("[[codec]]", Codec::ABOUT, codec_example().keys()),
        table(
            "[[router]]",
            RouterComponent::ABOUT,
            router_example().keys(),
        ),
    ]
}

/// The range of a number; how long a text may be goes without saying.
fn limits(key: &Key) -> Option<String> {
    let range = key.range.as_ref()?;
    let is_number = key.example.chars().all(|c| c.is_ascii_digit());
    is_number.then(|| format!("{} to {}", grouped(*range.start()), grouped(*range.end())))
}

fn comment(out: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(out, "#{line}");
    }
}

/// The file of all defaults, with comments. Reading it gives the defaults.
#[must_use]
pub fn default_file() -> String {
    let mut out = String::from(
        "# Every key of Tidegate's configuration with its default. A line that begins with # and\n\
         # no space is a key that is not set.\n",
    );
    for table in defaults() {
        out.push('\n');
        comment(&mut out, table.about);
        let mark = if table.always { "" } else { "#" };
        if !table.header.is_empty() {
            let _ = writeln!(out, "{mark}{}", table.header);
        }
        for key in table.keys {
            comment(&mut out, key.about);
            let _ = match &key.value {
                Some(value) => match limits(&key) {
                    Some(limits) => writeln!(out, "{mark}{} = {value} # {limits}", key.key),
                    None => writeln!(out, "{mark}{} = {value}", key.key),
                },
                None => writeln!(out, "#{} = {}", key.key, key.example),
            };
        }
    }
    out
}

/// What is in force, without the secret and without the plugins' own configuration.
#[must_use]
pub fn effective_file(config: &Config) -> String {
    let mut tables = vec![
        table(
            "",
            &[],
            secrets([config.secret.show(), config.also_secret.show()]),
        ),
        table("[log]", &[], config.log.keys()),
        table("[watchdog]", &[], config.watchdog.keys()),
        table("[admin]", &[], config.admin.keys()),
        table("[api]", &[], config.api.keys()),
    ];
    let tokens = config.api_tokens.iter().map(ApiToken::keys);
    tables.extend(tokens.map(|keys| table("[[api-token]]", &[], keys)));
    tables.extend([
        table("[deploy]", &[], config.deploy.keys()),
        table("[register]", &[], config.register.keys()),
        table("[link]", &[], config.link.keys()),
        table("[gateway]", &[], config.gateway.keys()),
    ]);
    let listeners = config.listeners.iter().map(Listener::keys);
    tables.extend(listeners.map(|keys| table("[[gateway.listener]]", &[], keys)));
    let tenants = config.tenants.iter().map(Tenant::keys);
    tables.extend(tenants.map(|keys| table("[[tenant]]", &[], keys)));
    tables.push(table("[worker]", &[], config.worker.keys()));
    let plugins = config.plugins.iter().map(Plugin::keys);
    tables.extend(plugins.map(|keys| table("[[plugin]]", &[], keys)));
    let commands = config.commands.iter().map(Command::keys);
    tables.extend(commands.map(|keys| table("[[command]]", &[], keys)));
    let schedules = config.schedules.iter().map(Schedule::keys);
    tables.extend(schedules.map(|keys| table("[[schedule]]", &[], keys)));
    let codecs = config.codecs.iter().map(Codec::keys);
    tables.extend(codecs.map(|keys| table("[[codec]]", &[], keys)));
    let routers = config.routers.iter().map(RouterComponent::keys);
    tables.extend(routers.map(|keys| table("[[router]]", &[], keys)));
    let mut out = String::new();
    for table in tables {
        let header = if table.header.is_empty() { "" } else { "\n" };
        let _ = writeln!(out, "{header}{}", table.header);
        for key in table.keys {
            if let Some(value) = key.value {
                let _ = writeln!(out, "{} = {value}", key.key);
            }
        }
    }
    out.trim_start().to_owned()
}

/// The reference's tables in Markdown.
#[cfg(test)]
pub(super) fn markdown() -> String {
    let mut out = String::new();
    for table in defaults() {
        let title = match table.header {
            "" => "Top level".to_owned(),
            header => format!("`{header}`"),
        };
        let _ = writeln!(out, "### {title}\n");
        if !table.about.is_empty() {
            let _ = writeln!(out, "{}\n", sentence(table.about));
        }
        out.push_str("| key | default | meaning |\n|---|---|---|\n");
        for key in table.keys {
            let value = match (&key.value, key.key.as_str()) {
                (_, "file") if ["[[command]]", "[[codec]]"].contains(&table.header) => {
                    "must be given".to_owned()
                }
                (_, "name") if table.header == "[[codec]]" => "must be given".to_owned(),
                (_, "name" | "cron") if table.header == "[[schedule]]" => {
                    "must be given".to_owned()
                }
                (_, "file") => "not set".to_owned(),
                (Some(value), _) => format!("`{value}`"),
                (None, _) => "not set".to_owned(),
            };
            let range = limits(&key).map_or(String::new(), |limits| format!(" {limits}."));
            let about = sentence(key.about);
            let _ = writeln!(out, "| `{}` | {value} | {about}{range} |", key.key);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
fn sentence(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}
