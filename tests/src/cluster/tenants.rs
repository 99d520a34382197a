//! Clusters with tenants of their own: each has listeners on every gateway, the cluster's plugin
//! on every worker, a token of the Client API, and a command component if it wants one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::client::Transport;
use crate::node::{Door, Node};
use crate::ports;

/// A tenant of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) name: String,
    pub(super) transports: Vec<Transport>,
    pub(super) command: Option<PathBuf>,
}

/// The token of the Client API that a tenant has in the harness.
#[must_use]
pub fn token_of(tenant: &str) -> String {
    format!("the token of the tenant {tenant}").replace(' ', "-")
}

/// Listeners of the tenants, their commands and the Client API: what a gateway's file says.
pub(super) fn gateway(tenants: &[Tenant], node: &mut Node) -> Result<String> {
    let mut config = String::new();
    for tenant in tenants {
        let name = &tenant.name;
        for &transport in &tenant.transports {
            let address = ports::free()?;
            let url = format!("{}://{address}", transport.scheme());
            writeln!(
                config,
                "[[gateway.listener]]\nlisten = \"{url}\"\ntenant = \"{name}\""
            )?;
            node.doors.push(Door {
                tenant: name.clone(),
                transport,
                address,
            });
        }
        if let Some(file) = &tenant.command {
            writeln!(
                config,
                "[[command]]\nfile = {file:?}\ntenant = \"{name}\"\nwall-ms = 2000"
            )?;
        }
        let token = token_of(name);
        writeln!(
            config,
            "[[api-token]]\ntenant = \"{name}\"\ntoken = \"{token}\""
        )?;
    }
    let api = ports::free()?;
    node.api = Some(api);
    writeln!(config, "[api]\nlisten = \"{api}\"")?;
    Ok(config)
}

/// The plugin of every tenant: what a worker's file says. One instance each, and nobody replaces
/// the file.
pub(super) fn worker(tenants: &[Tenant], file: &Path, settings: &str) -> Result<String> {
    let mut config = String::new();
    for tenant in tenants {
        let name = &tenant.name;
        writeln!(
            config,
            "[[plugin]]\nfile = {file:?}\ntenant = \"{name}\"\ninstances = 1\nwatch = false\n{settings}"
        )?;
    }
    Ok(config)
}
