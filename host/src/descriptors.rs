//! Open files: every connection is one, and their number is limited by the system.
//!
//! At the start the limit is raised as far as that goes, and shared out: clients get what the rest of
//! the process does not need, so that they never take the last descriptor from the Client API, from
//! health and metrics, from links between nodes, or from a plugin that is to be loaded.

use anyhow::bail;

use crate::config::{Config, Purpose};
use crate::tenants::cores;

/// What every process has open: standard streams, listeners, logs, locks, plugins and their caches,
/// watched folders.
const OWN: usize = 64;
/// Clients that are told that there is no room for them.
const REFUSED: usize = 16;
/// A thread with an event loop has its poller, its waker and a spare.
const PER_LOOP: usize = 4;
/// Event loops beside the shards'.
const LOOPS: usize = 2;

/// The most connections of each kind, for which descriptors are kept. A small limit is shared out.
const API_MAX: usize = 1_024;
const ADMIN_MAX: usize = 64;
const NODES_MAX: usize = 1_024;
const API_SHARE: usize = 8;
const NODES_SHARE: usize = 8;
const ADMIN_SHARE: usize = 16;
/// A register has two links to each node, that for deploys too.
const LINKS_PER_NODE: usize = 2;

/// With less room than for so many clients or nodes a process does not start.
const ROOM_MIN: usize = 8;
/// What is left of a default that was lowered is worth a warning below this.
const FEW: usize = 512;
const LOWERED: &str =
    "the limit of open files (ulimit -n) is too low for this setting: it is lowered";

/// How many descriptors each part of the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Connections of clients.
    pub clients: usize,
    /// Connections to the Client API.
    pub api: usize,
    /// Connections to the admin listener.
    pub admin: usize,
    /// Nodes at a register.
    pub nodes: usize,
    /// Whatever else has files, beside what every process has.
    pub rest: usize,
}

impl Shares {
    /// Of so many descriptors, in a process with so many shards.
    #[must_use]
    pub fn of(limit: usize, shards: usize) -> Self {
        let own = own(shards);
        let api = API_MAX.min(limit / API_SHARE);
        let admin = ADMIN_MAX.min(limit / ADMIN_SHARE);
        let links = NODES_MAX.min(limit / NODES_SHARE);
        let rest = |taken: usize| limit.saturating_sub(taken).max(1);
        Self {
            clients: rest(own + api + admin + links),
            api,
            admin,
            nodes: (rest(own + admin) / LINKS_PER_NODE).max(1),
            rest: rest(own + admin),
        }
    }
}

/// What every process with so many shards has open by itself.
const fn own(shards: usize) -> usize {
    OWN + REFUSED + PER_LOOP * (shards + LOOPS)
}

/// The least limit with which a process starts, whatever it does: what is left of it when it is
/// shared out has room for a few clients.
const fn least(shards: usize) -> usize {
    // The shares of the API, of admin and of links are an eighth, a sixteenth and an eighth.
    (own(shards) + ROOM_MIN) * 16 / 11 + 1
}

/// Raises the limit, and lowers what the configuration allows to what fits; says so.
///
/// # Errors
/// When hardly anything fits: such a process would only seem to work.
pub fn fit(config: &mut Config) -> anyhow::Result<()> {
    let Some(limit) = raise() else {
        tracing::warn!("the limit of open files could not be read or raised");
        return Ok(());
    };
    let shares = shares(config, limit);
    let room = match config.purpose {
        Purpose::Serve | Purpose::Gateway => shares.clients,
        Purpose::Register => shares.nodes,
        Purpose::Worker | Purpose::Check => shares.rest,
    };
    if room < ROOM_MIN {
        bail!(
            "the limit of open files (ulimit -n) is {limit}, too low for this process: raise it to \
             {} or more",
            least(shards_of(config))
        );
    }
    let given_keys = ["gateway.connections-max", "register.nodes-max"];
    let given_keys = given_keys.map(|key| (key, config.is_given(key)));
    let given = |key: &'static str| given_keys.contains(&(key, true));
    let lowered = |key: &'static str, wanted: usize, fits: usize| {
        if wanted <= fits {
            return wanted;
        }
        // Nobody asked for a default, unless next to nothing is left of it.
        if given(key) || fits < FEW {
            tracing::warn!(key, wanted, fits, limit, "{LOWERED}");
        } else {
            tracing::info!(key, wanted, fits, limit, "{LOWERED}");
        }
        fits
    };
    if matches!(config.purpose, Purpose::Serve | Purpose::Gateway) {
        let wanted = config.gateway.connections_max;
        config.gateway.connections_max = lowered("gateway.connections-max", wanted, shares.clients);
    }
    if config.purpose == Purpose::Register {
        let wanted = config.register.nodes_max;
        config.register.nodes_max = lowered("register.nodes-max", wanted, shares.nodes);
    }
    Ok(())
}

/// Those of this process.
#[must_use]
pub fn of_process(config: &Config) -> Shares {
    shares(
        config,
        limits().map_or(usize::MAX, |it| number(it.rlim_cur)),
    )
}

fn shares(config: &Config, limit: usize) -> Shares {
    Shares::of(limit, shards_of(config))
}

fn shards_of(config: &Config) -> usize {
    match config.gateway.shards {
        0 => cores(),
        shards => shards,
    }
}

fn number(limit: libc::rlim_t) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[allow(
    unsafe_code,
    reason = "getrlimit has no safe form in std; the struct is ours and whole"
)]
fn limits() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 };
    read.then_some(limit)
}

/// The soft limit is often 1024 where the hard one is a million. Gives what is in force now.
#[allow(
    unsafe_code,
    reason = "setrlimit has no safe form in std; the struct is ours and whole"
)]
fn raise() -> Option<usize> {
    let mut limit = limits()?;
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 };
    Some(number(if raised { limit.rlim_max } else { before }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_is_shared_out_and_a_large_one_goes_to_the_clients() {
        let small = Shares::of(256, 2);
        assert_eq!((small.api, small.admin), (32, 16));
        assert_eq!(small.clients, 256 - (64 + 16 + 16) - 32 - 32 - 16);
        let large = Shares::of(1_048_576, 16);
        assert!(large.clients > 1_000_000 && large.api == 1_024 && large.admin == 64);
        let none = Shares::of(10, 2);
        assert!(none.clients == 1 && none.nodes == 1);
        for shards in [1, 2, 64] {
            let least = Shares::of(least(shards), shards);
            assert!(
                (ROOM_MIN..ROOM_MIN + 3).contains(&least.clients),
                "{least:?}"
            );
            assert!(least.nodes >= ROOM_MIN && least.rest >= ROOM_MIN);
        }
    }
}
