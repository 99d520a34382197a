//! The command line: what is typed, and how it is laid over the configuration. It decides nothing
//! else.

pub mod client;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Override, Overrides, Purpose};

/// The version, and the commit that it was built from where that is known.
const BUILD: &str = env!("TIDEGATE_BUILD");

const EXAMPLES: &str = "\
Examples:
  # A whole server in one process, at ws://127.0.0.1:7272
  tidegate serve chat.wasm

  # The same where you say, with a page beside it
  tidegate serve --listen ws://127.0.0.1:7272 --static web chat.wasm

  # The same, spread over processes
  export TIDEGATE_SECRET=$(openssl rand -hex 32)
  tidegate register --listen 127.0.0.1:1236
  tidegate gateway --register 127.0.0.1:1236 --lan 127.0.0.1:2000 --listen ws://127.0.0.1:7272
  tidegate worker --register 127.0.0.1:1236 chat.wasm

  # Ask and act from outside, with a token of `[[api-token]]` and `api.listen` in the configuration
  export TIDEGATE_TOKEN=...
  tidegate send --group lobby \"hello\"

  # Every setting, with its meaning and its default
  tidegate config --default > tidegate.toml";

const SERVE_HELP: &str = "\
Example: tidegate serve --listen ws://127.0.0.1:7272 chat.wasm

With the Client API, which needs a token:
  TIDEGATE_API_TOKEN__0__TOKEN=$(openssl rand -hex 32) \\
    tidegate serve --listen ws://127.0.0.1:7272 --api 127.0.0.1:7280 chat.wasm";

const ENVIRONMENT: &str = "\
TIDEGATE_SECRET is the cluster's secret. Every setting of the file may also come from the
environment, as TIDEGATE_<SECTION>__<KEY>, like TIDEGATE_GATEWAY__LAN.

Exit codes: 0 fine, 1 failed while running, 2 wrong usage or configuration; of the commands that ask
a gateway also 3 the answer is partial, 4 no such client.";

/// Realtime gateways whose business logic is sandboxed WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version = BUILD, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{ENVIRONMENT}"))]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run register, gateway and worker in one process
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Run a register, which tells nodes about each other
    #[command(after_help = "Example: tidegate register --listen 127.0.0.1:1236")]
    Register(RegisterArgs),
    /// Run a gateway, which owns the clients' connections
    #[command(
        after_help = "Example: tidegate gateway --register 127.0.0.1:1236 --lan 127.0.0.1:2000 \
                      --listen ws://127.0.0.1:7272 --listen text://127.0.0.1:7273"
    )]
    Gateway(GatewayArgs),
    /// Run a worker, which runs a plugin
    #[command(after_help = "Example: tidegate worker --register 127.0.0.1:1236 chat.wasm")]
    Worker(WorkerArgs),
    /// Check configuration and plugins without starting anything
    #[command(after_help = "Example: tidegate check --config tidegate.toml chat.wasm")]
    Check(CheckArgs),
    /// Print the configuration that is in force, or the default one with comments
    #[command(after_help = "Example: tidegate config --default > tidegate.toml")]
    Config(ConfigArgs),
    /// Ask a running gateway
    #[command(flatten)]
    Client(client::ClientCommand),
}

/// Settings that every command takes.
#[derive(Args, Debug)]
pub struct Common {
    /// The configuration file; else the one that TIDEGATE_CONFIG names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets any key of the configuration, like gateway.router=rand; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

impl Common {
    /// The configuration file: what the line says wins over the variable `TIDEGATE_CONFIG`, and an
    /// empty variable names none.
    #[must_use]
    pub fn config_file(&self, variable: Option<OsString>) -> Option<PathBuf> {
        let named = variable.filter(|name| !name.is_empty());
        self.config.clone().or_else(|| named.map(PathBuf::from))
    }
}

/// `tidegate serve`
#[derive(Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    common: Common,
    /// Where clients connect: ws://, tcp://, text:// or frame://; may be repeated. Without any:
    /// ws://127.0.0.1:7272
    #[arg(long, value_name = "URL")]
    listen: Vec<String>,
    /// A folder of files to serve over HTTP beside ws://
    #[arg(long = "static", value_name = "DIR")]
    static_dir: Option<String>,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where the Client API is served; who may call says `[[api-token]]`
    #[arg(long, value_name = "ADDR")]
    api: Option<String>,
    /// Instances of the plugin; 0 is one per core
    #[arg(long, value_name = "N")]
    instances: Option<String>,
    /// Does not take up new versions when the plugin's or the commands' file changes
    #[arg(long)]
    no_watch: bool,
    /// The custom commands, a component file, for the tenant `default`
    #[arg(long, value_name = "FILE")]
    command: Option<String>,
    /// The plugin, a component file, for the tenant `default`
    #[arg(value_name = "PLUGIN")]
    plugin: Option<String>,
}

/// `tidegate register`
#[derive(Args, Debug)]
pub struct RegisterArgs {
    #[command(flatten)]
    common: Common,
    /// Where nodes connect
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
}

/// `tidegate gateway`
#[derive(Args, Debug)]
pub struct GatewayArgs {
    #[command(flatten)]
    common: Common,
    /// A register; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    register: Vec<String>,
    /// The address that is announced to other nodes
    #[arg(long, value_name = "ADDR")]
    lan: Option<String>,
    /// The address that is bound instead of the announced one
    #[arg(long, value_name = "ADDR")]
    lan_bind: Option<String>,
    /// Where clients connect: ws://, tcp://, text:// or frame://; may be repeated. Without any:
    /// ws://127.0.0.1:7272
    #[arg(long, value_name = "URL")]
    listen: Vec<String>,
    /// A folder of files to serve over HTTP beside ws://
    #[arg(long = "static", value_name = "DIR")]
    static_dir: Option<String>,
    /// How a worker is chosen, for all tenants that have no `router` of their own
    #[arg(long)]
    router: Option<RouterName>,
    /// The gateway's name
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// Threads that own connections; 0 is one per core
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// The custom commands, a component file, for the tenant `default`
    #[arg(long, value_name = "FILE")]
    command: Option<String>,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where the Client API is served; who may call says `[[api-token]]`
    #[arg(long, value_name = "ADDR")]
    api: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RouterName {
    /// A client stays with its worker
    Bind,
    /// Every event may go to another worker
    Rand,
    /// Clients with the same uid have the same worker
    Hash,
}

/// `tidegate worker`
#[derive(Args, Debug)]
pub struct WorkerArgs {
    #[command(flatten)]
    common: Common,
    /// A register; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    register: Vec<String>,
    /// The worker's name
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// A tag of the worker; may be repeated
    #[arg(long, value_name = "T")]
    tag: Vec<String>,
    /// Instances of the plugin; 0 is one per core
    #[arg(long, value_name = "N")]
    instances: Option<String>,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Does not take up new versions when the plugin's file changes
    #[arg(long)]
    no_watch: bool,
    /// The plugin, a component file, for the tenant `default`
    #[arg(value_name = "PLUGIN")]
    plugin: Option<String>,
}

/// `tidegate check`
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    common: Common,
    /// Plugins and command components to check besides those of the configuration
    #[arg(value_name = "PLUGIN")]
    pub plugins: Vec<PathBuf>,
}

/// `tidegate config`
#[derive(Args, Debug)]
pub struct ConfigArgs {
    #[command(flatten)]
    common: Common,
    /// Prints every key with its default and its meaning
    #[arg(long)]
    pub default: bool,
}

impl Command {
    /// The settings that every command with a configuration takes.
    #[must_use]
    pub const fn common(&self) -> Option<&Common> {
        match self {
            Self::Serve(it) => Some(&it.common),
            Self::Register(it) => Some(&it.common),
            Self::Gateway(it) => Some(&it.common),
            Self::Worker(it) => Some(&it.common),
            Self::Check(it) => Some(&it.common),
            Self::Config(it) => Some(&it.common),
            Self::Client(_) => None,
        }
    }

    /// What the flags say about the configuration.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let mut flags = Flags(Vec::new());
        let purpose = match self {
            Self::Serve(it) => {
                flags.listeners(&it.listen, it.static_dir.as_ref());
                flags.value("--admin", "admin.listen", it.admin.as_ref());
                flags.value("--api", "api.listen", it.api.as_ref());
                flags.value("--instances", "worker.instances", it.instances.as_ref());
                flags.command(it.command.as_ref());
                flags.plugin(it.plugin.as_ref(), it.no_watch);
                Purpose::Serve
            }
            Self::Register(it) => {
                flags.value("--listen", "register.listen", it.listen.as_ref());
                flags.value("--admin", "admin.listen", it.admin.as_ref());
                Purpose::Register
            }
            Self::Gateway(it) => {
                flags.gateway(it);
                Purpose::Gateway
            }
            Self::Worker(it) => {
                flags.list("--register", "worker.registers", &it.register);
                flags.value("--name", "worker.name", it.name.as_ref());
                flags.list("--tag", "worker.tags", &it.tag);
                flags.value("--instances", "worker.instances", it.instances.as_ref());
                flags.value("--admin", "admin.listen", it.admin.as_ref());
                flags.plugin(it.plugin.as_ref(), it.no_watch);
                Purpose::Worker
            }
            Self::Check(_) | Self::Config(_) | Self::Client(_) => Purpose::Check,
        };
        let set = self.common().into_iter().flat_map(|common| &common.set);
        flags.0.extend(set.cloned().map(Override::Set));
        Overrides {
            purpose,
            flags: flags.0,
        }
    }
}

struct Flags(Vec<Override>);

impl Flags {
    fn value(&mut self, flag: &str, path: &str, words: Option<&String>) {
        self.0.extend(words.map(|words| Override::Value {
            flag: flag.to_owned(),
            path: path.to_owned(),
            words: words.clone(),
        }));
    }

    fn list(&mut self, flag: &str, path: &str, items: &[String]) {
        if !items.is_empty() {
            self.0.push(Override::List {
                flag: flag.to_owned(),
                path: path.to_owned(),
                items: items.to_vec(),
            });
        }
    }

    fn listeners(&mut self, urls: &[String], static_dir: Option<&String>) {
        if !urls.is_empty() {
            self.0.push(Override::Listeners(urls.to_vec()));
        }
        self.0.extend(static_dir.cloned().map(Override::Static));
    }

    fn plugin(&mut self, file: Option<&String>, no_watch: bool) {
        self.0.extend(file.cloned().map(Override::Plugin));
        self.0.extend(no_watch.then_some(Override::NoWatch));
    }

    fn command(&mut self, file: Option<&String>) {
        self.0.extend(file.cloned().map(Override::Command));
    }

    fn gateway(&mut self, it: &GatewayArgs) {
        self.command(it.command.as_ref());
        self.list("--register", "gateway.registers", &it.register);
        self.value("--lan", "gateway.lan", it.lan.as_ref());
        self.value("--lan-bind", "gateway.lan-bind", it.lan_bind.as_ref());
        self.listeners(&it.listen, it.static_dir.as_ref());
        let router = it.router.map(|router| match router {
            RouterName::Bind => "bind".to_owned(),
            RouterName::Rand => "rand".to_owned(),
            RouterName::Hash => "hash".to_owned(),
        });
        self.value("--router", "gateway.router", router.as_ref());
        self.value("--name", "gateway.name", it.name.as_ref());
        self.value("--shards", "gateway.shards", it.shards.as_ref());
        self.value("--admin", "admin.listen", it.admin.as_ref());
        self.value("--api", "api.listen", it.api.as_ref());
    }
}

#[cfg(test)]
mod tests;
