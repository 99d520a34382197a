//! A register, a gateway and two workers with the recorder guest, with default settings.

use std::fmt;
use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::client::Transport;
use crate::cluster::{Turn, log_folder};
use crate::node::Node;
use crate::plugins::Plugin;
use crate::ports;

const UNGUARDED: &str = "tidegate_gateway_unguarded_clients";
const CUSTODY_BYTES: &str = "tidegate_gateway_custody_bytes_total";

/// Where the nodes say that they are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// All on one host.
    OneHost,
    /// The gateway and the first worker on one host, the second worker on another one.
    TwoHosts {
        /// Whether clients have a second custodian on the other host.
        second: bool,
    },
}

#[derive(Debug)]
pub(super) struct Nodes {
    gateway: Node,
    workers: Vec<Node>,
    _register: Node,
    _folder: TempDir,
    _turn: Turn,
}

impl Nodes {
    /// Starts all and waits until they are ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub(super) async fn start(layout: Layout) -> Result<Self> {
        let turn = Turn::take_all();
        let folder = tempfile::tempdir()?;
        let plugin = Plugin::Recorder.copy_to(folder.path())?;
        let start = |name: &str, command: &str, config: String| -> Result<Node> {
            let file = folder.path().join(name).with_extension("toml");
            std::fs::write(&file, config)?;
            let mut node = Node::new(
                name,
                "the secret of many clients, long enough",
                log_folder()?,
            );
            node.args = vec![command.into(), "--config".into(), file.into()];
            Ok(node)
        };
        let register = ports::free()?;
        let mut at_register = start(
            "bulk-register",
            "register",
            format!("[register]\nlisten = \"{register}\"\n"),
        )?;
        at_register.lan = Some(register);
        let (lan, door, admin) = (ports::free()?, ports::free()?, ports::free()?);
        let second = match layout {
            Layout::OneHost => String::new(),
            Layout::TwoHosts { second } => format!("second-custodian = {second}\n"),
        };
        let mut gateway = start(
            "bulk-gateway",
            "gateway",
            format!(
                "[admin]\nlisten = \"{admin}\"\n\
                 [gateway]\nname = \"bulk-gateway\"\nregisters = [\"{register}\"]\nlan = \"{lan}\"\n\
                 tags = [\"host=a\"]\n{second}\
                 [[gateway.listener]]\nlisten = \"ws://{door}\"\nping-interval-ms = 0\n"
            ),
        )?;
        gateway.admin = Some(admin);
        gateway.lan = Some(lan);
        gateway.listeners.push((Transport::Ws, door));
        let mut workers = Vec::new();
        for number in 0..2 {
            let host = match layout {
                Layout::TwoHosts { .. } if number == 1 => "b",
                Layout::OneHost | Layout::TwoHosts { .. } => "a",
            };
            let (name, admin) = (format!("bulk-worker-{number}"), ports::free()?);
            let mut worker = start(
                &name,
                "worker",
                format!(
                    "[admin]\nlisten = \"{admin}\"\n\
                     [worker]\nname = \"{name}\"\nregisters = [\"{register}\"]\n\
                     tags = [\"host={host}\"]\n[[plugin]]\nfile = {plugin:?}\n"
                ),
            )?;
            worker.admin = Some(admin);
            workers.push(worker);
        }
        let mut nodes = Self {
            gateway,
            workers,
            _register: at_register,
            _folder: folder,
            _turn: turn,
        };
        nodes._register.start()?;
        nodes._register.ready().await?;
        for node in nodes.workers.iter_mut().chain([&mut nodes.gateway]) {
            node.start()?;
        }
        for node in nodes.workers.iter_mut().chain([&mut nodes.gateway]) {
            node.ready().await?;
        }
        Ok(nodes)
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// Never.
    pub(super) fn door(&self) -> Result<SocketAddrV4> {
        self.gateway.listener(Transport::Ws)
    }

    /// What answers call a worker.
    ///
    /// # Errors
    /// When there is none with this number.
    pub(super) fn name_of_worker(&self, number: usize) -> Result<String> {
        let worker = self.workers.get(number).context("no such worker")?;
        Ok(worker.name.clone())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it is gone already.
    pub(super) async fn kill_worker(&mut self, number: usize) -> Result<()> {
        let worker = self.workers.get_mut(number).context("no such worker")?;
        worker.kill().await.map(drop)
    }

    /// Clients that handlers know and whose custodians have not all confirmed.
    ///
    /// # Errors
    /// When the gateway does not count them.
    pub(super) async fn unguarded(&self) -> Result<f64> {
        self.metric(UNGUARDED).await
    }

    /// Bytes of custody that the gateway has sent.
    ///
    /// # Errors
    /// When it does not count them.
    pub(super) async fn custody_bytes(&self) -> Result<f64> {
        self.metric(CUSTODY_BYTES).await
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        let metrics = self.gateway.metrics().await?;
        let series = metrics
            .lines()
            .filter(|line| line.split([' ', '{']).next() == Some(name));
        let values: Vec<f64> = series
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        ensure!(!values.is_empty(), "the gateway has no metric {name}");
        Ok(values.iter().sum())
    }

    /// What the processes hold in memory.
    ///
    /// # Errors
    /// When one was never started.
    pub(super) fn memory(&self) -> Result<Memory> {
        let workers = self
            .workers
            .iter()
            .map(|it| Ok(resident(it.process()?.pid())));
        Ok(Memory {
            gateway: resident(self.gateway.process()?.pid()),
            workers: workers.collect::<Result<_>>()?,
        })
    }
}

/// Resident memory in bytes; 0 of a process that is gone.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Resident memory of the processes.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    gateway: u64,
    workers: Vec<u64>,
}

impl Memory {
    /// The larger values.
    #[must_use]
    pub(super) fn max(&self, other: &Self) -> Self {
        let workers = self.workers.iter().zip(&other.workers);
        Self {
            gateway: self.gateway.max(other.gateway),
            workers: workers.map(|(one, other)| *one.max(other)).collect(),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: &u64| format!("{} MiB", bytes >> 20);
        let workers: Vec<_> = self.workers.iter().map(mib).collect();
        write!(
            f,
            "gateway {}, workers {}",
            mib(&self.gateway),
            workers.join(" and ")
        )
    }
}
