//! What is laid over the file: the environment, then the command line.

use super::error::{ConfigError, Place};
use super::value::{Node, Table, Value};

/// What all variables begin with.
const PREFIX: &str = "TIDEGATE_";

/// Something that the command line says, with the flag that says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Override {
    /// The value of one key, as text.
    Value {
        /// The flag.
        flag: String,
        /// The key's path, like `gateway.router`.
        path: String,
        /// Its value.
        words: String,
    },
    /// The items of a list.
    List {
        /// The flag.
        flag: String,
        /// The key's path.
        path: String,
        /// The items.
        items: Vec<String>,
    },
    /// These listeners instead of those of the file.
    Listeners(Vec<String>),
    /// A folder for every WebSocket listener.
    Static(String),
    /// The plugin of the tenant `default`.
    Plugin(String),
    /// The command component of the tenant `default`.
    Command(String),
    /// No plugin, no command component and no codec is watched.
    NoWatch,
    /// `--set PATH=VALUE`, as it was written.
    Set(String),
}

/// Lays the variables over `table`: `TIDEGATE_SECRET`, `TIDEGATE_ALSO_SECRET` and
/// `TIDEGATE_<SECTION>__<KEY>`. Variables of other names are not ours: Kubernetes, for one, makes a `TIDEGATE_PORT` for a service.
pub(crate) fn environment(
    table: &mut Table,
    variables: impl Iterator<Item = (String, String)>,
    errors: &mut Vec<ConfigError>,
) {
    let mut given: Vec<(Vec<String>, Node)> = Vec::new();
    for (name, words) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if !matches!(rest, "SECRET" | "ALSO_SECRET") && !rest.contains("__") {
            continue;
        }
        let path = rest
            .split("__")
            .map(|part| part.to_lowercase().replace('_', "-"))
            .collect();
        let place = Place::Variable(name);
        let value = Value::Words(words);
        given.push((path, Node { place, value }));
    }
    // The environment has no order, but the items of a list have.
    given.sort_by_cached_key(|(path, _)| {
        path.iter()
            .map(|part| (part.parse::<usize>().unwrap_or(0), part.clone()))
            .collect::<Vec<_>>()
    });
    for (path, node) in given {
        lay(table, &path, node, errors);
    }
}

/// A service for clients that is told of no listener has one with its defaults. It stands below the
/// command line, which may replace or change it.
pub(crate) fn default_listener(table: &mut Table, errors: &mut Vec<ConfigError>) {
    let nowhere = |value| Node {
        place: Place::Nowhere,
        value,
    };
    let is_given = |table: &Table| {
        let Some(Value::Table(gateway)) = table.get("gateway").map(|node| &node.value) else {
            return false;
        };
        gateway.get("listener").is_some()
    };
    if !is_given(table) {
        let listener = nowhere(Value::Table(Table::default()));
        let list = nowhere(Value::List(vec![listener]));
        lay(table, &parts("gateway.listener"), list, errors);
    }
}

/// Lays what the command line says over `table`, in order.
pub(crate) fn command_line(
    table: &mut Table,
    overrides: &[Override],
    errors: &mut Vec<ConfigError>,
) {
    for one in overrides {
        match one {
            Override::Value { flag, path, words } => {
                lay(table, &parts(path), words_of(flag, words), errors);
            }
            Override::List { flag, path, items } => {
                let items = items.iter().map(|item| words_of(flag, item)).collect();
                let node = node(flag, Value::List(items));
                lay(table, &parts(path), node, errors);
            }
            Override::Listeners(urls) => listeners(table, urls, errors),
            Override::Static(folder) => static_folder(table, folder, errors),
            Override::Plugin(file) => run(table, "plugin", words_of("PLUGIN", file)),
            Override::Command(file) => run(table, "command", words_of("--command", file)),
            Override::NoWatch => {
                for key in ["plugin", "command", "codec"] {
                    each(table, &[key], |it| {
                        it.set("watch", node("--no-watch", Value::Flag(false)));
                    });
                }
            }
            Override::Set(text) => set(table, text, errors),
        }
    }
}

fn node(flag: &str, value: Value) -> Node {
    Node {
        place: Place::Flag(flag.to_owned()),
        value,
    }
}

fn words_of(flag: &str, words: &str) -> Node {
    node(flag, Value::Words(words.to_owned()))
}

fn parts(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

fn set(table: &mut Table, text: &str, errors: &mut Vec<ConfigError>) {
    let place = Place::Flag("--set".to_owned());
    match text.split_once('=') {
        Some((key @ ("secret" | "also-secret"), _)) => {
            let variable = if key == "secret" {
                "TIDEGATE_SECRET"
            } else {
                "TIDEGATE_ALSO_SECRET"
            };
            let message = format!(
                "the secret is not given on the command line, where every user of the machine can \
                 read it: set {variable}"
            );
            errors.push(ConfigError::new(&place, message));
        }
        Some((path, _)) if path.starts_with("api-token.") && path.ends_with(".token") => {
            let message = "a token is not given on the command line, where every user of the \
                           machine can read it: give `token-file`, or set \
                           TIDEGATE_API_TOKEN__0__TOKEN";
            errors.push(ConfigError::new(&place, message));
        }
        Some((path, words)) => {
            let place = Place::Flag(format!("--set {path}"));
            let value = Value::Words(words.to_owned());
            lay(table, &parts(path), Node { place, value }, errors);
        }
        None => {
            let message =
                format!("`{text}` has no value, PATH=VALUE is right, like gateway.router=rand");
            errors.push(ConfigError::new(&place, message));
        }
    }
}

/// Puts a node at a path; a number in a path is an item of a list of tables.
fn lay(table: &mut Table, path: &[String], node: Node, errors: &mut Vec<ConfigError>) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        table.set(first, node);
        return;
    }
    let place = node.place.clone();
    let is_item = rest
        .first()
        .is_some_and(|next| next.parse::<usize>().is_ok());
    let empty = match is_item {
        true => Value::List(Vec::new()),
        false => Value::Table(Table::default()),
    };
    let Some(inner) = table.entry(first, &place, empty) else {
        return;
    };
    match (&mut inner.value, rest) {
        (Value::Table(inner), rest) => lay(inner, rest, node, errors),
        (Value::List(items), [index, rest @ ..]) if is_item && !rest.is_empty() => {
            lay_item(items, first, index, rest, node, errors);
        }
        (other, _) => {
            let message = format!(
                "`{first}` is {}, it has no key `{}`",
                other.kind(),
                rest.join(".")
            );
            errors.push(ConfigError::new(&place, message));
        }
    }
}

fn lay_item(
    items: &mut Vec<Node>,
    list: &str,
    index: &str,
    rest: &[String],
    node: Node,
    errors: &mut Vec<ConfigError>,
) {
    let at = index.parse().unwrap_or(usize::MAX);
    if at == items.len() {
        items.push(Node {
            place: node.place.clone(),
            value: Value::Table(Table::default()),
        });
    }
    match items.get_mut(at) {
        Some(Node {
            value: Value::Table(inner),
            ..
        }) => lay(inner, rest, node, errors),
        Some(_) | None => {
            let message = format!(
                "there is no {list} {index}, the next new one is {}",
                items.len()
            );
            errors.push(ConfigError::new(&node.place, message));
        }
    }
}

fn listeners(table: &mut Table, urls: &[String], errors: &mut Vec<ConfigError>) {
    let items = urls.iter().map(|url| {
        let mut listener = Table::default();
        listener.set("listen", words_of("--listen", url));
        node("--listen", Value::Table(listener))
    });
    let list = node("--listen", Value::List(items.collect()));
    lay(table, &parts("gateway.listener"), list, errors);
}

fn static_folder(table: &mut Table, folder: &str, errors: &mut Vec<ConfigError>) {
    let mut any = false;
    each(table, &["gateway", "listener"], |listener| {
        let is_ws = match listener.get("listen").map(|node| &node.value) {
            Some(Value::Text(url) | Value::Words(url)) => url.starts_with("ws:"),
            Some(_) | None => true,
        };
        if is_ws {
            any = true;
            listener.set("static", words_of("--static", folder));
        }
    });
    if !any {
        let place = Place::Flag("--static".to_owned());
        let message = "no listener can serve files: give a --listen ws://…";
        errors.push(ConfigError::new(&place, message));
    }
}

/// The plugin (or, with that `key`, the command component) of the command line takes the place of
/// the file's for the tenant `default`, whose other settings stay.
fn run(table: &mut Table, key: &str, given: Node) {
    let mut found = false;
    each(table, &[key], |plugin| {
        let is_default = match plugin.get("tenant").map(|node| &node.value) {
            Some(Value::Text(tenant) | Value::Words(tenant)) => tenant == "default",
            Some(_) => false,
            None => true,
        };
        if is_default && !found {
            found = true;
            plugin.set("file", given.clone());
        }
    });
    if found {
        return;
    }
    let place = given.place.clone();
    let mut plugin = Table::default();
    plugin.set("file", given);
    let item = Node {
        place: place.clone(),
        value: Value::Table(plugin),
    };
    if let Some(Node {
        value: Value::List(plugins),
        ..
    }) = table.entry(key, &place, Value::List(Vec::new()))
    {
        plugins.push(item);
    }
}

/// Calls `change` for each table of the list at `path`.
fn each(table: &mut Table, path: &[&str], mut change: impl FnMut(&mut Table)) {
    let [first, rest @ ..] = path else { return };
    let entry = table.entries.iter_mut().find(|entry| entry.key == *first);
    match entry.map(|entry| &mut entry.node.value) {
        Some(Value::Table(inner)) => each(inner, rest, change),
        Some(Value::List(items)) if rest.is_empty() => {
            for item in items {
                if let Value::Table(inner) = &mut item.value {
                    change(inner);
                }
            }
        }
        Some(_) | None => {}
    }
}
