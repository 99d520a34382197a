//! The cluster that the nodes of a run belong to, and their processes.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cluster::log_folder;
use crate::node::Node;

/// What a node is told of its cluster.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) register: SocketAddrV4,
    /// For the configurations of processes.
    pub(super) folder: PathBuf,
    /// Whether clients have a second custodian on another host.
    pub(super) second: bool,
}

impl Place {
    /// The gateway's name.
    pub(super) const NAME: &str = "bulk-gateway";
    /// The cluster's secret.
    pub(super) const SECRET: &str = "the secret of many clients, long enough";
    /// On which host the gateway says that it is.
    pub(super) const TAG: &str = "host=a";

    /// A process that runs this command with this configuration, not started.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub(super) fn node(&self, name: &str, command: &str, config: String) -> Result<Node> {
        let file = self.folder.join(name).with_extension("toml");
        std::fs::write(&file, config)
            .with_context(|| format!("{} is not written", file.display()))?;
        let mut node = Node::new(name, Self::SECRET, log_folder()?);
        node.args = vec![command.into(), "--config".into(), file.into()];
        Ok(node)
    }
}
