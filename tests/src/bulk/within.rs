//! A gateway within this process, for machines that do not allow one process as many sockets as there
//! are clients: its clients are pipes. All else is real: it has the threads, the runtime and the default
//! settings of `tidegate gateway`, workers reach it over TCP, and registers list it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use metrics_exporter_prometheus::PrometheusHandle;
use tidegate_cluster::gateway::Gateway;
use tidegate_link::membership;
use tidegate_link::net;
use tidegate_link::{Identity, Secret};
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::{metrics, settings};

/// So long may workers take to come.
const COMING: Duration = Duration::from_secs(60);

pub(super) struct Within {
    gateway: Arc<Gateway>,
    recorded: PrometheusHandle,
    /// What earlier gateways of this process have counted.
    before: String,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl std::fmt::Debug for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Within").finish_non_exhaustive()
    }
}

impl Within {
    /// Starts it on a thread of its own, which ends when this is dropped.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) async fn start(place: Place) -> Result<Self> {
        // Before anything counts.
        let recorded = metrics::recorded()?;
        let before = recorded.render();
        let stop = CancellationToken::new();
        let (started, gateway) = oneshot::channel();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(Place::NAME.to_owned())
            .spawn(move || serve(&place, started, stopped))
            .context("the gateway's thread does not start")?;
        let Ok(gateway) = gateway.await else {
            let ended = thread.join().map_err(|_| anyhow!("it panicked"));
            let why = ended.and_then(|ended| ended);
            why.context("the gateway does not start")?;
            anyhow::bail!("the gateway has ended at once");
        };
        Ok(Self {
            gateway,
            recorded,
            before,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits until so many workers have said what they serve.
    ///
    /// # Errors
    /// When they do not come.
    pub(super) async fn ready(&self, workers: usize) -> Result<()> {
        let mut there = self.gateway.workers();
        let all = timeout(COMING, there.wait_for(|count| *count >= workers)).await;
        let all = all.with_context(|| format!("not all of {workers} workers come"))?;
        all.context("the gateway has ended")?;
        Ok(())
    }

    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// What this gateway has added to a counter.
    ///
    /// # Errors
    /// When it does not count that.
    pub(super) fn counted(&self, name: &str) -> Result<f64> {
        let now = metrics::sum(&self.recorded.render(), name)?;
        // The first gateway of this process finds no counter.
        let before = metrics::sum(&self.before, name).unwrap_or(0.0);
        Ok(now - before)
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        // Its end is not measured: nobody waits for closes to be committed.
        self.gateway.lose();
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // What it could say came after the figures.
            let _ = thread.join();
        }
    }
}

/// Serves until it is told to stop, on a runtime like that of `tidegate`.
fn serve(
    place: &Place,
    started: oneshot::Sender<Arc<Gateway>>,
    stop: CancellationToken,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tidegate")
        .event_interval(11)
        .build()
        .context("the runtime's threads cannot be started")?;
    runtime.block_on(run(place, started, stop))
}

async fn run(
    place: &Place,
    started: oneshot::Sender<Arc<Gateway>>,
    stop: CancellationToken,
) -> Result<()> {
    let lan = net::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let announced = SocketAddrV4::new(Ipv4Addr::LOCALHOST, lan.local_addr()?.port());
    let node = Node {
        role: Role::Gateway,
        incarnation: Incarnation(rand::random()),
        address: Some(announced),
        name: Place::NAME.into(),
        tags: vec![Place::TAG.into()],
    };
    let identity = Identity {
        node,
        secret: Secret::new(Place::SECRET.as_bytes()),
        net: net::stream::tcp(),
    };
    let ended = CancellationToken::new();
    let membership = membership::join(
        vec![place.register.to_string()],
        identity.clone(),
        settings::membership(),
        ended.clone(),
    );
    let settings = settings::gateway(announced, place.second);
    let gateway = Gateway::start(identity, settings).context("its shards do not start")?;
    let gateway = Arc::new(gateway);
    if started.send(gateway.clone()).is_err() {
        // Nobody waits for it any more.
        gateway.lose();
        stop.cancel();
    }
    let members = membership.members.clone();
    gateway.run(vec![], Some(lan), members, stop).await;
    membership.leave().await;
    ended.cancel();
    Ok(())
}
