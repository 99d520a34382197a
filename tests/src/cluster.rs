//! A cluster of real processes on loopback: `serve` alone, or register, gateways and workers
//! apart. It is ready when `start` returns: every gateway serves through every worker and reaches
//! every other gateway. Dropping it kills what is left.

mod builder;
mod tenants;
mod turn;

pub use builder::Builder;
pub(crate) use builder::log_folder;
pub use tenants::token_of;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::client::Client;
use crate::node::Node;
use crate::wait::eventually;
pub(crate) use turn::Turn;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    builder: Builder,
    /// The register, if it is a process of its own.
    pub register: Option<Node>,
    /// The gateways; `serve` is one.
    pub gateways: Vec<Node>,
    /// The workers that are processes of their own.
    pub workers: Vec<Node>,
    folder: TempDir,
    // Last: the next cluster starts when the processes of this one are gone.
    _turn: Option<Turn>,
}

impl Cluster {
    /// One process that is everything.
    #[must_use]
    pub fn serve() -> Builder {
        Builder::new(0, 0)
    }

    /// A register and as many gateways and workers.
    #[must_use]
    pub fn apart(gateways: usize, workers: usize) -> Builder {
        Builder::new(gateways, workers)
    }

    /// A folder that lives as long as the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A gateway.
    ///
    /// # Errors
    /// When there is none with this number.
    pub fn gateway(&self, number: usize) -> Result<&Node> {
        self.gateways
            .get(number)
            .with_context(|| format!("no gateway {number}"))
    }

    /// A gateway.
    ///
    /// # Errors
    /// When there is none with this number.
    pub fn gateway_mut(&mut self, number: usize) -> Result<&mut Node> {
        self.gateways
            .get_mut(number)
            .with_context(|| format!("no gateway {number}"))
    }

    /// A worker.
    ///
    /// # Errors
    /// When there is none with this number.
    pub fn worker(&self, number: usize) -> Result<&Node> {
        self.workers
            .get(number)
            .with_context(|| format!("no worker {number}"))
    }

    /// The register.
    ///
    /// # Errors
    /// When it is not a process of its own.
    pub fn register_mut(&mut self) -> Result<&mut Node> {
        self.register.as_mut().context("no register")
    }

    /// The worker with this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn worker_named(&mut self, name: &str) -> Result<&mut Node> {
        self.workers
            .iter_mut()
            .find(|worker| worker.name == name)
            .with_context(|| format!("no worker {name}"))
    }

    /// A new WebSocket client of a gateway.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ws(&self, gateway: usize) -> Result<Client> {
        self.gateway(gateway)?.ws().await
    }

    /// A new WebSocket client that this worker serves.
    ///
    /// # Errors
    /// When no client gets there.
    pub async fn ws_at_worker(&self, gateway: usize, worker: &str) -> Result<Client> {
        let mut others = Vec::new();
        for _ in 0..64 {
            let mut client = self.ws(gateway).await?;
            if client.worker().await? == worker {
                return Ok(client);
            }
            // The others stay until one is found, so that the least connections move on.
            others.push(client);
        }
        anyhow::bail!("none of 64 clients of gateway {gateway} is served by {worker}")
    }

    fn start_nodes(&mut self) -> Result<()> {
        // What was started is kept here at once, so that it is killed when a later one fails.
        let folder = self.folder.path();
        if self.builder.gateways == 0 {
            self.gateways.push(self.builder.serve_node(folder)?);
        } else {
            self.register = Some(self.builder.register_node(folder)?);
        }
        for number in 0..self.builder.gateways {
            self.gateways.push(self.builder.gateway(number, folder)?);
        }
        for number in 0..self.builder.workers {
            self.workers.push(self.builder.worker(number, folder)?);
        }
        self.nodes_mut().try_for_each(Node::start)
    }

    /// Every node.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.register
            .iter()
            .chain(&self.gateways)
            .chain(&self.workers)
    }

    /// Every node.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.register
            .iter_mut()
            .chain(&mut self.gateways)
            .chain(&mut self.workers)
    }

    /// A worker with another secret, not started yet.
    ///
    /// # Errors
    /// When there is no register.
    pub fn stranger(&self, name: &str, secret: &str) -> Result<Node> {
        let mut node = self.builder.worker_named(name, self.folder.path())?;
        secret.clone_into(&mut node.secret);
        Ok(node)
    }

    /// A gateway that announces the address of another one, not started yet.
    ///
    /// # Errors
    /// When there is no such gateway.
    pub fn twin_of_gateway(&self, number: usize) -> Result<Node> {
        let lan = self.gateway(number)?.lan()?;
        self.builder.twin(lan, self.folder.path())
    }

    /// Adds a gateway and waits until it is part of the whole.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn add_gateway(&mut self) -> Result<()> {
        let number = self.gateways.len();
        let mut node = self.builder.gateway(number, self.folder.path())?;
        node.start()?;
        node.ready().await?;
        self.gateways.push(node);
        self.meshed().await
    }

    /// Adds a worker and waits until every gateway uses it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn add_worker(&mut self) -> Result<()> {
        let number = self.workers.len();
        let mut node = self.builder.worker(number, self.folder.path())?;
        node.start()?;
        node.ready().await?;
        self.workers.push(node);
        match self.builder.bench {
            true => self.meshed().await,
            false => Ok(()),
        }
    }

    /// Waits until every gateway serves through every worker and reaches every other gateway.
    /// Only for plugins that speak the bench protocol.
    ///
    /// # Errors
    /// When that is not so at the deadline.
    pub async fn meshed(&self) -> Result<()> {
        for from in &self.gateways {
            self.uses_all_workers(from).await?;
            for to in &self.gateways {
                if from.name != to.name {
                    reaches(from, to).await?;
                }
            }
        }
        Ok(())
    }

    async fn uses_all_workers(&self, gateway: &Node) -> Result<()> {
        let names: BTreeSet<_> = self.workers.iter().map(|node| node.name.clone()).collect();
        if names.len() < 2 {
            return Ok(());
        }
        let what = format!("{} uses all of {names:?}", gateway.name);
        eventually(&what, async || {
            let mut seen = BTreeSet::new();
            let mut clients = Vec::new();
            for _ in 0..4 * names.len() {
                let mut client = gateway.ws().await?;
                seen.insert(client.worker().await?);
                clients.push(client);
                if seen.is_superset(&names) {
                    return Ok(Some(()));
                }
            }
            anyhow::bail!("it uses {seen:?}")
        })
        .await
    }
}

async fn reaches(from: &Node, to: &Node) -> Result<()> {
    let mut sender = from.ws().await?;
    let mut receiver = to.ws().await?;
    let command = format!("C:{}:reached", receiver.id().await?);
    let what = format!("{} reaches {}", from.name, to.name);
    eventually(&what, async || {
        sender.send(&command).await?;
        // The barrier on the other side says whether it has come yet.
        receiver.send("E:yet").await?;
        Ok((receiver.text().await? == "reached").then_some(()))
    })
    .await
}
