//! A register, a gateway and two workers with the recorder guest, with default settings.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::By;
use super::gateway::Gateway;
use super::place::Place;
use crate::cluster::Turn;
use crate::node::Node;
use crate::plugins::Plugin;
use crate::ports;

/// How many workers there are.
const WORKERS: usize = 2;

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

impl Layout {
    /// The tag of a worker.
    const fn tag(self, worker: usize) -> &'static str {
        match self {
            Self::TwoHosts { .. } if worker == 1 => "host=b",
            Self::OneHost | Self::TwoHosts { .. } => Place::TAG,
        }
    }

    /// Whether clients have a second custodian where there is another host.
    const fn second(self) -> bool {
        match self {
            Self::OneHost => true,
            Self::TwoHosts { second } => second,
        }
    }
}

#[derive(Debug)]
pub(super) struct Nodes {
    gateway: Gateway,
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
    pub(super) async fn start(layout: Layout, by: By) -> Result<Self> {
        let turn = Turn::take_all();
        let folder = tempfile::tempdir()?;
        let plugin = Plugin::Recorder.copy_to(folder.path())?;
        let place = Place {
            register: ports::free()?,
            folder: folder.path().to_owned(),
            second: layout.second(),
        };
        let mut at_register = register(&place)?;
        at_register.start()?;
        at_register.ready().await?;
        let mut workers = Vec::with_capacity(WORKERS);
        for number in 0..WORKERS {
            let mut worker = worker(&place, number, layout.tag(number), &plugin)?;
            worker.start()?;
            workers.push(worker);
        }
        let mut gateway = Gateway::start(by, place).await?;
        for worker in &mut workers {
            worker.ready().await?;
        }
        gateway.ready(WORKERS).await?;
        Ok(Self {
            gateway,
            workers,
            _register: at_register,
            _folder: folder,
            _turn: turn,
        })
    }

    /// Whom clients connect to.
    pub(super) const fn gateway(&self) -> &Gateway {
        &self.gateway
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
            gateway: resident(self.gateway.pid()?),
            workers: workers.collect::<Result<_>>()?,
        })
    }
}

/// The register's process, not started.
fn register(place: &Place) -> Result<Node> {
    let listen = place.register;
    let config = format!("[register]\nlisten = \"{listen}\"\n");
    let mut node = place.node("bulk-register", "register", config)?;
    node.lan = Some(listen);
    Ok(node)
}

/// The process of a worker, not started.
fn worker(place: &Place, number: usize, tag: &str, plugin: &Path) -> Result<Node> {
    let (name, admin) = (format!("bulk-worker-{number}"), ports::free()?);
    let register = place.register;
    let config = format!(
        "[admin]\nlisten = \"{admin}\"\n\
         [worker]\nname = \"{name}\"\nregisters = [\"{register}\"]\n\
         tags = [\"{tag}\"]\n[[plugin]]\nfile = {plugin:?}\n"
    );
    let mut node = place.node(&name, "worker", config)?;
    node.admin = Some(admin);
    Ok(node)
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
