//! The configuration of all services: one TOML file, the environment over it, the command line
//! over both. Every key has a default. What is wrong is refused with its place and with what
//! would be right, all mistakes together, before any port is bound.

mod address;
mod check;
mod difference;
mod error;
mod files;
#[cfg(test)]
mod fuzz;
mod layers;
mod listener;
mod origin;
mod plugin;
mod reference;
mod schedule;
mod section;
mod services;
mod setting;
mod tokens;
mod types;
mod value;

use std::path::Path;

pub use address::{Authority, ListenUrl};
pub use difference::{API_TOKEN, Difference, differences};
pub use error::{ConfigError, ConfigErrors, Place};
pub use layers::Override;
pub use listener::{Listener, Tenant};
pub use plugin::{Codec, Command, Plugin, RouterComponent};
pub use reference::{default_file, effective_file};
pub use schedule::{Expression, Schedule, ZoneName};
pub use services::{Admin, Api, ApiToken, Deploy, Gateway, Link, Log, Register, Watchdog, Worker};
pub use tokens::read as read_tokens;
pub use types::{
    CacheDir, Choice, LogFormat, Missed, Newlines, NoWorker, PluginConfig, QueuePolicy, Router,
    RouterKey, Secret, SignIn, Watch,
};

use section::{Places, Reading, Section};
use value::Table;

/// A larger file is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which command a configuration is for; it decides what must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// All services in one process.
    Serve,
    /// A register.
    Register,
    /// A gateway.
    Gateway,
    /// A worker.
    Worker,
    /// Nothing is started.
    Check,
}

/// What the command line says about the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// The command.
    pub purpose: Purpose,
    /// Its flags, in the order in which they are laid over the file.
    pub flags: Vec<Override>,
}

/// The whole configuration, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which command it is for.
    pub purpose: Purpose,
    /// What all nodes of a cluster know.
    pub secret: Secret,
    /// What nodes may know instead, while the secret is changed.
    pub also_secret: Secret,
    /// `[log]`
    pub log: Log,
    /// `[watchdog]`
    pub watchdog: Watchdog,
    /// `[admin]`
    pub admin: Admin,
    /// `[api]`
    pub api: Api,
    /// `[[api-token]]`
    pub api_tokens: Vec<ApiToken>,
    /// `[deploy]`
    pub deploy: Deploy,
    /// `[register]`
    pub register: Register,
    /// `[link]`
    pub link: Link,
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[[gateway.listener]]`
    pub listeners: Vec<Listener>,
    /// `[[tenant]]`
    pub tenants: Vec<Tenant>,
    /// `[worker]`
    pub worker: Worker,
    /// `[[plugin]]`
    pub plugins: Vec<Plugin>,
    /// `[[command]]`
    pub commands: Vec<Command>,
    /// `[[schedule]]`
    pub schedules: Vec<Schedule>,
    /// `[[codec]]`
    pub codecs: Vec<Codec>,
    /// `[[router]]`
    pub routers: Vec<RouterComponent>,
    /// Where each key was given.
    places: Places,
}

impl Config {
    /// Reads the file, if there is one, lays `env` and `overrides` over it and checks the whole.
    ///
    /// # Errors
    /// Every mistake that was found, each with its place.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut text = String::new();
        let name = path.map_or_else(String::new, |path| path.display().to_string());
        if let Some(path) = path {
            match read(path) {
                Ok(found) => text = found,
                Err(message) => errors.push(ConfigError::new(
                    &Place::Flag("--config".to_owned()),
                    format!("`{name}` {message}"),
                )),
            }
        }
        let (config, mut errors) = Self::assemble(&name, &text, env, overrides, errors);
        if !errors.is_empty() {
            // All that is wrong is told at once.
            errors.extend(files::errors(&config));
        }
        config.unless(errors)
    }

    /// The same for a file that has been read: no I/O.
    #[cfg(test)]
    fn of_text(
        file: &str,
        text: &str,
        env: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
        errors: Vec<ConfigError>,
    ) -> Result<Self, ConfigErrors> {
        let (config, errors) = Self::assemble(file, text, env, overrides, errors);
        config.unless(errors)
    }

    fn unless(mut self, errors: Vec<ConfigError>) -> Result<Self, ConfigErrors> {
        if let Some(errors) = ConfigErrors::of(errors) {
            return Err(errors);
        }
        if self.secret.is_empty() && self.purpose == Purpose::Serve {
            self.secret = Secret::new(format!("{:032x}", rand::random::<u128>()));
        }
        Ok(self)
    }

    /// Lays everything together; what is wrong stands beside it, and has its default in it.
    fn assemble(
        file: &str,
        text: &str,
        env: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
        mut errors: Vec<ConfigError>,
    ) -> (Self, Vec<ConfigError>) {
        let purpose = overrides.purpose;
        let mut table = value::parse(file, text, &mut errors);
        layers::environment(&mut table, env, &mut errors);
        if matches!(purpose, Purpose::Serve | Purpose::Gateway) {
            layers::default_listener(&mut table, &mut errors);
        }
        layers::command_line(&mut table, &overrides.flags, &mut errors);
        let (mut config, found) = Self::read(table, purpose);
        errors.extend(found);
        tokens::settle(&mut config);
        errors.extend(check::errors(&config, &errors));
        (config, errors)
    }

    fn read(table: Table, purpose: Purpose) -> (Self, Vec<ConfigError>) {
        let mut reading = Reading::default();
        let mut top = Section::top(table, &mut reading);
        let mut listeners = Vec::new();
        let mut config = Self {
            purpose,
            secret: top.take("secret", Secret::default(), None),
            also_secret: top.take("also-secret", Secret::default(), None),
            log: top.table("log", Log::read),
            admin: top.table("admin", Admin::read),
            api: top.table("api", Api::read),
            api_tokens: top.tables("api-token", ApiToken::read),
            watchdog: top.table("watchdog", Watchdog::read),
            deploy: top.table("deploy", Deploy::read),
            register: top.table("register", Register::read),
            link: top.table("link", Link::read),
            gateway: top.table("gateway", |section| {
                let gateway = Gateway::read(section);
                listeners = section.tables("listener", Listener::read);
                gateway
            }),
            listeners: Vec::new(),
            tenants: top.tables("tenant", Tenant::read),
            worker: top.table("worker", Worker::read),
            plugins: top.tables("plugin", Plugin::read),
            commands: top.tables("command", Command::read),
            schedules: top.tables("schedule", Schedule::read),
            codecs: top.tables("codec", Codec::read),
            routers: top.tables("router", RouterComponent::read),
            places: Places::default(),
        };
        top.finish();
        config.listeners = listeners;
        config.places = reading.places;
        (config, reading.errors)
    }

    /// Whether this process has links to other processes, and so needs the secret. `serve` has
    /// them only if it is told where nodes are to connect.
    #[must_use]
    pub fn links(&self) -> bool {
        match self.purpose {
            Purpose::Register | Purpose::Gateway | Purpose::Worker => true,
            Purpose::Serve => ["register.listen", "gateway.lan", "gateway.lan-bind"]
                .iter()
                .any(|key| self.places.of(key).is_given()),
            Purpose::Check => false,
        }
    }

    /// Whether this process serves the Client API.
    #[must_use]
    pub fn serves_api(&self) -> bool {
        matches!(self.purpose, Purpose::Serve | Purpose::Gateway) && self.api.listen.is_some()
    }

    /// Whether somebody can deploy handlers of this tenant through this process alone: with a token
    /// of its Client API, or as a member of a cluster.
    #[must_use]
    pub fn is_deployable(&self, tenant: &str) -> bool {
        let by_token = |it: &ApiToken| it.deploy && *it.tenant == *tenant;
        match self.purpose {
            Purpose::Serve => {
                self.links() || (self.serves_api() && self.api_tokens.iter().any(by_token))
            }
            Purpose::Worker | Purpose::Register | Purpose::Gateway | Purpose::Check => true,
        }
    }

    /// What is allowed but hardly meant, for the log.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }

    /// Looks for the files and folders that are named.
    ///
    /// # Errors
    /// Those that are not there or cannot be read.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        match ConfigErrors::of(files::errors(self)) {
            Some(errors) => Err(errors),
            None => Ok(()),
        }
    }

    /// Whether nothing was given at all.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a key, like `register.listen`, was given by the file, the environment or a flag.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.places.of(key).is_given()
    }
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!(
            "has {length} bytes, a configuration has at most {FILE_BYTES_MAX}"
        ));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8 text at byte {at}")
    })
}

#[cfg(test)]
mod tests;
