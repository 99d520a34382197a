//! The servers that are compared.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Plan;
use crate::client::Transport;
use crate::cluster::Cluster;
use crate::node::Node;
use crate::process::Process;
use crate::wait::eventually;
use crate::{ports, tools};

/// A server under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The baseline: no gateway, no worker, no component.
    Plain,
    /// `tidegate serve`.
    Serve,
    /// Register, gateway and worker as processes.
    Apart,
    /// `tidegate serve` of another build.
    BaseServe,
    /// Register, gateway and worker of another build.
    BaseApart,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Serve, Self::Apart];

    /// Its name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Serve => "one process",
            Self::Apart => "three processes",
            Self::BaseServe => "one process, base",
            Self::BaseApart => "three processes, base",
        }
    }

    pub(super) async fn start(self, plugin: Option<&Path>, plan: Plan) -> Result<Running> {
        let pin = plan.pin;
        let builder = match self {
            Self::Plain => return start_plain(pin).await,
            Self::Serve => Cluster::serve(),
            Self::Apart => Cluster::apart(1, 1),
            Self::BaseServe => Cluster::serve().binary(plan.base),
            Self::BaseApart => Cluster::apart(1, 1).binary(plan.base),
        };
        let builder = match plugin {
            Some(file) => builder.plugin_file(file),
            None => builder,
        };
        let cluster = builder.pinned(pin).start().await?;
        Ok(Running::Tidegate(Box::new(cluster)))
    }
}

pub(super) enum Running {
    Plain(Process, SocketAddrV4),
    Tidegate(Box<Cluster>),
}

impl Running {
    pub(super) fn address(&self) -> Result<SocketAddrV4> {
        match self {
            Self::Plain(_, address) => Ok(*address),
            Self::Tidegate(cluster) => cluster.gateway(0)?.listener(Transport::Ws),
        }
    }

    /// Of all processes together.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        match self {
            Self::Plain(process, _) => process.resident_bytes(),
            Self::Tidegate(cluster) => cluster
                .nodes()
                .map(Node::process)
                .map(|process| process?.resident_bytes())
                .sum(),
        }
    }
}

async fn start_plain(pin: Option<usize>) -> Result<Running> {
    let address = ports::free()?;
    let binary = tools::profile_dir()?.join("plain");
    let mut command = match pin {
        Some(core) => {
            let mut pinned = Command::new("taskset");
            pinned.arg("-c").arg(core.to_string()).arg(binary);
            pinned
        }
        None => Command::new(binary),
    };
    command.arg(address.to_string());
    let logs = tools::target_dir()?.join("harness-logs/figures");
    let process = Process::spawn("plain", command, &logs, false)?;
    eventually("the baseline listens", async || {
        tokio::net::TcpStream::connect(address).await?;
        Ok(Some(()))
    })
    .await
    .context("plain does not start: cargo build --release -p tidegate-tests --bins")?;
    Ok(Running::Plain(process, address))
}
