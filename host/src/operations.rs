//! What every service command does around its service: metrics, the admin listener, readiness.

use std::fmt::Write;
use std::time::Duration;

use tidegate_api::Apart;
use tidegate_cluster::gateway::GatewayHealth;
use tidegate_deploy::Store;
use tidegate_link::membership::Joining;
use tidegate_watchdog::watched;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::config::Config;
use crate::{control, descriptors};

/// How often a register looks whether it can write.
const PROBE: Duration = Duration::from_secs(2);

/// What a node knows of its registers.
pub type Joined = watch::Receiver<Joining>;

/// Starts metrics and the admin listener, if one is configured. Call it before any service, so
/// that all counters are seen.
///
/// # Errors
/// When the admin address cannot be bound.
pub async fn start(config: &Config, stop: &CancellationToken) -> anyhow::Result<Readiness> {
    let readiness = Readiness::new();
    // Conditions are added step by step; none of them must look like all of them.
    readiness.set("start", false, "the service is starting");
    let settings = admin::Settings {
        connections_max: descriptors::of_process(config).admin,
        purpose: config.purpose,
        readiness: readiness.clone(),
    };
    // It answers until the process has ended: operators look at it while clients are still served.
    let bound = admin::start(&config.admin, settings, CancellationToken::new()).await?;
    let (stopping, ending) = (readiness.clone(), stop.clone());
    control::handle().spawn(async move {
        ending.cancelled().await;
        stopping.set("stop", false, "the process is stopping");
    });
    if let Some(address) = bound {
        tracing::info!(%address, "admin listens");
    }
    Ok(readiness)
}

/// A gateway is ready while it has workers for a tenant of its own, and room for one more client.
pub fn ready_as_gateway(readiness: &Readiness, gateway: GatewayHealth, joined: Option<Joined>) {
    let health = gateway.clone();
    let at_registers = joined.clone();
    readiness.look("workers", move || {
        let workers = health.workers();
        if workers == 0 {
            return Err(format!(
                "no worker is linked{}",
                apart(at_registers.as_ref())
            ));
        }
        if health.serves_any() {
            return Ok(());
        }
        let tenants = health.tenants().map(|name| &**name);
        let tenants = tenants.collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "workers are linked ({workers}), but none serves a tenant of this gateway: {tenants}"
        );
        for name in health.tenants().filter(|name| health.lacks_tags(name)) {
            let why = health.unserved(name).unwrap_or_default();
            let _ = write!(text, "; {name}: {why}");
        }
        Err(text)
    });
    readiness.look("connections", move || gateway.full().map_or(Ok(()), Err));
    ready_once_joined(readiness, joined);
}

/// A worker is ready while a gateway is linked and it runs what the cluster wants it to run.
pub fn ready_as_worker(
    readiness: &Readiness,
    links: watch::Receiver<usize>,
    lags: watch::Receiver<Vec<String>>,
    joined: Option<Joined>,
) {
    let at_registers = joined.clone();
    readiness.look("gateways", move || match *links.borrow() {
        0 => Err(format!(
            "no gateway is linked{}",
            apart(at_registers.as_ref())
        )),
        _ => Ok(()),
    });
    ready_unless_it_lags(readiness, lags);
    ready_once_joined(readiness, joined);
}

/// Not while this process cannot run what the cluster wants it to run.
pub fn ready_unless_it_lags(readiness: &Readiness, lags: watch::Receiver<Vec<String>>) {
    readiness.look("deploys", move || {
        let lags = lags.borrow();
        match lags.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "this worker lags behind what the cluster is to run: {}",
                lags.join("; ")
            )),
        }
    });
}

/// Once a register has taken the node in, existing links do without: it stays ready.
fn ready_once_joined(readiness: &Readiness, joined: Option<Joined>) {
    let Some(joined) = joined else { return };
    readiness.look("registers", move || not_joined(&joined).map_or(Ok(()), Err));
}

/// The same for the Client API of a gateway.
#[must_use]
pub fn apart_until_joined(joined: Joined) -> Apart {
    Apart::new(move || not_joined(&joined))
}

fn not_joined(joined: &Joined) -> Option<String> {
    if joined.borrow().ever {
        return None;
    }
    let apart = apart(Some(joined));
    Some(format!("no register has taken this node in yet{apart}"))
}

/// Why the node is not at registers at present, to be put behind something.
fn apart(joined: Option<&Joined>) -> String {
    let mut text = String::new();
    for (register, reason) in joined.iter().flat_map(|it| it.borrow().apart.clone()) {
        let _ = write!(text, "; register {register}: {reason}");
    }
    text
}

/// A register that takes orders is ready while it can write down what is decided, and has the
/// components of what serves, which workers that come ask it for.
pub fn ready_while_writable(readiness: &Readiness, store: Store, stop: CancellationToken) {
    let told = readiness.clone();
    let probe = async move {
        loop {
            match store.probe().await {
                Ok(()) => match store.lacks_in_use() {
                    None => told.set("state-dir", true, "can be written"),
                    Some((tenant, version)) => {
                        let text = format!(
                            "the component of what serves the tenant {tenant}, {version}, is not here: \
                             no node that has it is linked, or the disk has no room for it"
                        );
                        told.set("state-dir", false, text);
                    }
                },
                Err(error) => {
                    let text = format!("what is deployed cannot be written down: {error}");
                    told.set("state-dir", false, text);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PROBE) => {}
            }
        }
    };
    tokio::spawn(watched("the probe of the state folder", probe));
}
