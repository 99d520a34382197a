//! What differs between two configurations, for people: keys by their tables, and tables that came
//! or went. Nothing that is kept secret is shown.

use tidegate_wire::Name;

use super::section::Change;
use super::setting::Setting;
use super::{
    ApiToken, Codec, Command, Config, Listener, Plugin, RouterComponent, Schedule, Secret, Tenant,
};

/// The header of the tables of tokens.
pub const API_TOKEN: &str = "[[api-token]]";

/// One key, or one table of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The header of its table; empty at the top.
    pub table: &'static str,
    /// What is where, and what was there.
    pub text: String,
}

/// All that differs. Tables of a list are the same if they are of the same tenant, name or address.
#[must_use]
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    found.keys("", "", secrets(old, new));
    found.keys("[log]", "", old.log.changes(&new.log));
    found.keys("[watchdog]", "", old.watchdog.changes(&new.watchdog));
    found.keys("[admin]", "", old.admin.changes(&new.admin));
    found.keys("[api]", "", old.api.changes(&new.api));
    found.tables(
        API_TOKEN,
        (&old.api_tokens, &new.api_tokens),
        |it| format!("tenant {:?}, name {:?}", it.tenant, it.name),
        ApiToken::changes,
    );
    found.keys("[deploy]", "", old.deploy.changes(&new.deploy));
    found.keys("[register]", "", old.register.changes(&new.register));
    found.keys("[link]", "", old.link.changes(&new.link));
    found.keys("[gateway]", "", old.gateway.changes(&new.gateway));
    found.tables(
        "[[gateway.listener]]",
        (&old.listeners, &new.listeners),
        |it| it.listen.show().unwrap_or_default(),
        Listener::changes,
    );
    let of_tenant = |tenant: &Name| format!("tenant {tenant:?}");
    found.tables(
        "[[tenant]]",
        (&old.tenants, &new.tenants),
        |it| format!("name {:?}", it.name),
        Tenant::changes,
    );
    found.keys("[worker]", "", old.worker.changes(&new.worker));
    found.tables(
        "[[plugin]]",
        (&old.plugins, &new.plugins),
        |it| of_tenant(&it.tenant),
        Plugin::changes,
    );
    found.tables(
        "[[command]]",
        (&old.commands, &new.commands),
        |it| of_tenant(&it.tenant),
        Command::changes,
    );
    found.tables(
        "[[schedule]]",
        (&old.schedules, &new.schedules),
        |it| {
            format!(
                "tenant {:?}, name {:?}",
                it.tenant,
                it.name.as_deref().unwrap_or_default()
            )
        },
        Schedule::changes,
    );
    found.tables(
        "[[codec]]",
        (&old.codecs, &new.codecs),
        |it| format!("name {:?}", it.name),
        Codec::changes,
    );
    found.tables(
        "[[router]]",
        (&old.routers, &new.routers),
        |it| of_tenant(&it.tenant),
        RouterComponent::changes,
    );
    found.0
}

fn secrets(old: &Config, new: &Config) -> Vec<Change> {
    let change = |key: &str, was: &Secret, is: &Secret| {
        // One that nobody gave was made up.
        let given = old.is_given(key) || new.is_given(key);
        (given && was != is).then(|| Change {
            key: key.to_owned(),
            was: was.show().filter(|_| old.is_given(key)),
            is: is.show().filter(|_| new.is_given(key)),
        })
    };
    let secret = change("secret", &old.secret, &new.secret);
    let also = change("also-secret", &old.also_secret, &new.also_secret);
    secret.into_iter().chain(also).collect()
}

struct Found(Vec<Difference>);

impl Found {
    fn say(&mut self, table: &'static str, which: &str, what: &str) {
        let parts = [table, which, what];
        let parts: Vec<&str> = parts.into_iter().filter(|it| !it.is_empty()).collect();
        let text = parts.join(" ");
        self.0.push(Difference { table, text });
    }

    fn keys(&mut self, table: &'static str, which: &str, changes: Vec<Change>) {
        for Change { key, was, is } in changes {
            let what = match (was, is) {
                (Some(was), Some(is)) if was == is => format!("{key} is another one"),
                (Some(was), Some(is)) => format!("{key} = {is} (was {was})"),
                (Some(was), None) => format!("{key} is not set (was {was})"),
                (None, Some(is)) => format!("{key} = {is} (was not set)"),
                (None, None) => format!("{key} is another one"),
            };
            self.say(table, which, &what);
        }
    }

    fn tables<T: PartialEq>(
        &mut self,
        table: &'static str,
        (old, new): (&[T], &[T]),
        name: impl Fn(&T) -> String,
        changes: impl Fn(&T, &T) -> Vec<Change>,
    ) {
        let mut gone: Vec<&T> = old.iter().collect();
        let mut came = Vec::new();
        for it in new {
            match gone.iter().position(|old| *old == it) {
                Some(at) => {
                    gone.remove(at);
                }
                None => came.push(it),
            }
        }
        for it in came {
            let which = format!("({})", name(it));
            match gone.iter().position(|old| name(old) == name(it)) {
                Some(at) => self.keys(table, &which, changes(gone.remove(at), it)),
                None => self.say(table, &which, "is new"),
            }
        }
        for it in gone {
            self.say(table, &format!("({})", name(it)), "is gone");
        }
    }
}
