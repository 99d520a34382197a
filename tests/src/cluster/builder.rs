//! What a cluster shall be like, and the command line and configuration file of each node. The
//! command line says all that it can; a file is written only for what it cannot say.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Cluster;
use super::tenants::{self, Tenant};
use super::turn::Turn;
use crate::client::Transport;
use crate::node::Node;
use crate::plugins::Plugin;
use crate::ports;
use crate::tools::target_dir;

/// A cluster that is not started yet.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(super) gateways: usize,
    pub(super) workers: usize,
    plugin: Option<PathBuf>,
    secret: String,
    settings: String,
    listener_settings: String,
    web_socket_settings: String,
    plugin_settings: String,
    gateway_flags: Vec<OsString>,
    gateway_limits: Option<String>,
    worker_limits: Option<String>,
    worker_flags: Vec<OsString>,
    pin: Option<usize>,
    binary: Option<PathBuf>,
    register: Option<SocketAddrV4>,
    pub(super) bench: bool,
    tenants: Vec<Tenant>,
    waits: bool,
    deploys: bool,
    has_file: bool,
    worker_plugin_settings: Vec<(usize, String)>,
}

impl Builder {
    pub(super) fn new(gateways: usize, workers: usize) -> Self {
        Self {
            gateways,
            workers,
            plugin: None,
            secret: "the secret of a test cluster, long enough".to_owned(),
            settings: String::new(),
            listener_settings: String::new(),
            web_socket_settings: String::new(),
            plugin_settings: String::new(),
            gateway_flags: Vec::new(),
            gateway_limits: None,
            worker_limits: None,
            worker_flags: Vec::new(),
            pin: None,
            binary: None,
            register: None,
            bench: true,
            tenants: Vec::new(),
            waits: true,
            deploys: false,
            has_file: true,
            worker_plugin_settings: Vec::new(),
        }
    }

    /// The plugin file; the Rust bench if none is named.
    #[must_use]
    pub fn plugin_file(mut self, file: &Path) -> Self {
        self.plugin = Some(file.to_owned());
        self
    }

    /// A plugin that does not speak the bench protocol: `start` cannot ask who serves whom.
    #[must_use]
    pub fn other_plugin_file(mut self, file: &Path) -> Self {
        self.bench = false;
        self.plugin_file(file)
    }

    /// A tenant with these listeners, instead of `default`. Gateways then serve the Client API, with
    /// the token [`tenants::token_of`] for each.
    #[must_use]
    pub fn tenant(mut self, name: &str, transports: &[Transport]) -> Self {
        self.tenants.push(Tenant {
            name: name.to_owned(),
            transports: transports.to_vec(),
            command: None,
        });
        self
    }

    /// The command component of the tenant that was named last.
    #[must_use]
    pub fn command(mut self, file: &Path) -> Self {
        if let Some(tenant) = self.tenants.last_mut() {
            tenant.command = Some(file.to_owned());
        }
        self
    }

    /// A cluster that many tests share: it does not count among those that run at a time, since
    /// it lasts as long as they do.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.waits = false;
        self
    }

    /// Sections of the configuration file of all nodes, such as `[link]`.
    #[must_use]
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings.push_str(toml);
        self.settings.push('\n');
        self
    }

    /// Lines of each `[[gateway.listener]]`.
    #[must_use]
    pub fn listener(mut self, toml: &str) -> Self {
        self.listener_settings.push_str(toml);
        self.listener_settings.push('\n');
        self
    }

    /// Lines of the `[[gateway.listener]]` of WebSockets only.
    #[must_use]
    pub fn web_socket_listener(mut self, toml: &str) -> Self {
        self.web_socket_settings.push_str(toml);
        self.web_socket_settings.push('\n');
        self
    }

    /// Lines of the `[[plugin]]`.
    #[must_use]
    pub fn plugin_settings(mut self, toml: &str) -> Self {
        self.plugin_settings.push_str(toml);
        self.plugin_settings.push('\n');
        self
    }

    /// Lines of the `[[plugin]]` of one worker.
    #[must_use]
    pub fn worker_plugin_settings(mut self, worker: usize, toml: &str) -> Self {
        self.worker_plugin_settings.push((worker, toml.to_owned()));
        self
    }

    /// Nodes keep what is deployed, each in a folder of its own, and gateways serve the Client API
    /// with a token of `default` that may deploy.
    #[must_use]
    pub const fn deploys(mut self) -> Self {
        self.deploys = true;
        self
    }

    /// Workers have no plugin file: they serve what is deployed.
    #[must_use]
    pub const fn without_file(mut self) -> Self {
        self.has_file = false;
        self
    }

    /// More of the command line of gateways, and of `serve`.
    #[must_use]
    pub fn gateway_flags(mut self, flags: &[&str]) -> Self {
        self.gateway_flags.extend(flags.iter().map(OsString::from));
        self
    }

    /// What a shell is told before it becomes a gateway, like `ulimit -n 256`.
    #[must_use]
    pub fn gateway_limits(mut self, limits: &str) -> Self {
        self.gateway_limits = Some(limits.to_owned());
        self
    }

    /// The same of workers.
    #[must_use]
    pub fn worker_limits(mut self, limits: &str) -> Self {
        self.worker_limits = Some(limits.to_owned());
        self
    }

    /// More of the command line of workers, and of `serve`.
    #[must_use]
    pub fn worker_flags(mut self, flags: &[&str]) -> Self {
        self.worker_flags.extend(flags.iter().map(OsString::from));
        self
    }

    /// All processes on this core.
    #[must_use]
    pub fn pinned(mut self, core: Option<usize>) -> Self {
        self.pin = core;
        self
    }

    /// All processes from another build than the one under test.
    #[must_use]
    pub fn binary(mut self, binary: Option<&Path>) -> Self {
        self.binary = binary.map(Path::to_owned);
        self
    }

    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When something does not become ready; the error says what.
    pub async fn start(mut self) -> Result<Cluster> {
        let turn = self.waits.then(Turn::take);
        let folder = tempfile::tempdir()?;
        if self.plugin.is_none() {
            self.plugin = Some(Plugin::Bench.path()?);
        }
        let mut cluster = Cluster {
            register: None,
            gateways: Vec::new(),
            workers: Vec::new(),
            folder,
            _turn: turn,
            builder: self,
        };
        cluster.start_nodes()?;
        for node in cluster.nodes_mut() {
            node.ready().await?;
        }
        if cluster.builder.bench {
            cluster.meshed().await?;
        }
        Ok(cluster)
    }

    pub(super) fn register_node(&mut self, folder: &Path) -> Result<Node> {
        let address = ports::free()?;
        self.register = Some(address);
        let admin = ports::free()?;
        let mut node = self.node("register")?;
        node.admin = Some(admin);
        node.lan = Some(address);
        node.args = words(&["register", "--listen", &address.to_string()]);
        node.args.extend(words(&["--admin", &admin.to_string()]));
        self.add_config(&mut node, folder, "")?;
        Ok(node)
    }

    pub(super) fn gateway(&self, number: usize, folder: &Path) -> Result<Node> {
        self.gateway_at(&format!("gateway-{number}"), ports::free()?, folder)
    }

    /// Announces `lan`, but is bound elsewhere: as behind a wrong address translation.
    pub(super) fn twin(&self, lan: SocketAddrV4, folder: &Path) -> Result<Node> {
        let mut node = self.gateway_at("twin", lan, folder)?;
        let bind = ports::free()?.to_string();
        node.args.extend(words(&["--lan-bind", &bind]));
        Ok(node)
    }

    fn gateway_at(&self, name: &str, lan: SocketAddrV4, folder: &Path) -> Result<Node> {
        let register = self.register.context("a gateway needs a register")?;
        let admin = ports::free()?;
        let mut node = self.node(name)?;
        node.admin = Some(admin);
        node.lan = Some(lan);
        node.limits = self.gateway_limits.clone();
        node.args = words(&["gateway", "--register", &register.to_string()]);
        node.args.extend(words(&["--lan", &lan.to_string()]));
        node.args.extend(words(&["--admin", &admin.to_string()]));
        node.args.extend(self.gateway_flags.iter().cloned());
        node.is_served = self.has_file;
        let config = self.add_listeners(&mut node)?;
        self.add_config(&mut node, folder, &config)?;
        Ok(node)
    }

    pub(super) fn worker(&self, number: usize, folder: &Path) -> Result<Node> {
        self.worker_named(&format!("worker-{number}"), folder)
    }

    pub(super) fn worker_named(&self, name: &str, folder: &Path) -> Result<Node> {
        let register = self.register.context("a worker needs a register")?;
        let admin = ports::free()?;
        let mut node = self.node(name)?;
        node.admin = Some(admin);
        node.limits = self.worker_limits.clone();
        node.args = words(&["worker", "--register", &register.to_string()]);
        node.args.extend(words(&["--name", name]));
        node.args.extend(words(&["--admin", &admin.to_string()]));
        node.args.extend(self.worker_flags.iter().cloned());
        let mut config = self.add_plugin(&mut node)?;
        let of_it = |(number, _): &&(usize, String)| format!("worker-{number}") == name;
        for (_, lines) in self.worker_plugin_settings.iter().filter(of_it) {
            config.push_str(lines);
        }
        self.add_config(&mut node, folder, &config)?;
        Ok(node)
    }

    pub(super) fn serve_node(&self, folder: &Path) -> Result<Node> {
        let admin = ports::free()?;
        let mut node = self.node("serve")?;
        node.admin = Some(admin);
        node.args = words(&["serve", "--admin", &admin.to_string()]);
        node.args.extend(self.gateway_flags.iter().cloned());
        node.args.extend(self.worker_flags.iter().cloned());
        node.is_served = self.has_file;
        let mut config = self.add_listeners(&mut node)?;
        config.push_str(&self.add_plugin(&mut node)?);
        self.add_config(&mut node, folder, &config)?;
        Ok(node)
    }

    fn node(&self, name: &str) -> Result<Node> {
        let mut node = Node::new(name, &self.secret, log_folder()?);
        node.pin = self.pin;
        node.binary.clone_from(&self.binary);
        Ok(node)
    }

    /// One listener of each kind; returns what the file must say for that.
    fn add_listeners(&self, node: &mut Node) -> Result<String> {
        if !self.tenants.is_empty() {
            return tenants::gateway(&self.tenants, node);
        }
        let mut config = String::new();
        for transport in Transport::ALL {
            let address = ports::free()?;
            let url = format!("{}://{address}", transport.scheme());
            let own = match transport {
                Transport::Ws => self.web_socket_settings.as_str(),
                Transport::Tcp | Transport::Text | Transport::Frame => "",
            };
            let lines = format!("{}{own}", self.listener_settings);
            // Flags replace the listeners of the file: all stand in one or the other.
            if self.listener_settings.is_empty() && self.web_socket_settings.is_empty() {
                node.args.extend(words(&["--listen", &url]));
            } else {
                writeln!(config, "[[gateway.listener]]\nlisten = \"{url}\"\n{lines}")?;
            }
            node.listeners.push((transport, address));
        }
        if self.deploys {
            let (api, token) = (ports::free()?, tenants::token_of("default"));
            node.api = Some(api);
            writeln!(
                config,
                "[api]\nlisten = \"{api}\"\n[[api-token]]\nname = \"tests\"\ndeploy = true\n\
                 token = \"{token}\""
            )?;
        }
        Ok(config)
    }

    fn add_plugin(&self, node: &mut Node) -> Result<String> {
        let file = self.plugin.as_ref().context("no plugin")?;
        if !self.tenants.is_empty() {
            return tenants::worker(&self.tenants, file, &self.plugin_settings);
        }
        let lines = &self.plugin_settings;
        if !self.has_file {
            return Ok(format!("[[plugin]]\n{lines}"));
        }
        if lines.is_empty() && self.worker_plugin_settings.is_empty() {
            node.args.push(file.into());
            return Ok(String::new());
        }
        Ok(format!("[[plugin]]\nfile = {file:?}\n{lines}"))
    }

    fn add_config(&self, node: &mut Node, folder: &Path, own: &str) -> Result<()> {
        if self.deploys {
            let state = folder.join(&node.name).with_extension("state");
            let set = format!("deploy.state-dir={}", state.display());
            node.args.extend(words(&["--set", &set]));
        }
        if self.settings.is_empty() && own.is_empty() {
            return Ok(());
        }
        let file = folder.join(&node.name).with_extension("toml");
        std::fs::write(&file, format!("{}\n{own}", self.settings))?;
        node.args.push("--config".into());
        node.args.push(file.into());
        Ok(())
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// `target/harness-logs/TEST`
pub(crate) fn log_folder() -> Result<PathBuf> {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed").replace("::", "-");
    Ok(target_dir()?.join("harness-logs").join(test))
}
