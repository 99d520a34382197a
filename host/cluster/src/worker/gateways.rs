//! Links to every gateway in the view: dialled, dialled again with jittered backoff, served.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_link::membership::Members;
use tidegate_link::net::Backoff;
use tidegate_link::{Link, LinkEnd, LinkReceiver};
use tidegate_watchdog::watched;
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::gateway_link::GatewayLink;
use super::link::{LinkTask, Over};
use super::{Phase, WorkerInner};

/// The dialling tasks, by the gateway they dial.
#[derive(Debug, Default)]
pub(super) struct Dialers {
    tasks: BTreeMap<Incarnation, JoinHandle<()>>,
}

impl Dialers {
    /// Dials each gateway in the view that has neither a link nor a task.
    pub(super) fn follow(
        &mut self,
        inner: &Arc<WorkerInner>,
        members: &watch::Receiver<Arc<Members>>,
        view: &Members,
    ) {
        self.tasks.retain(|_, task| !task.is_finished());
        for node in view.gateways() {
            let gateway = node.incarnation;
            let Some(address) = node.address else {
                continue;
            };
            if self.tasks.contains_key(&gateway) || inner.is_linked(gateway) {
                continue;
            }
            let name = format!("the link to gateway {}", node.name);
            let dialer = dial(inner.clone(), members.clone(), gateway, address.into());
            self.tasks
                .insert(gateway, inner.tasks.spawn(watched(name, dialer)));
        }
    }
}

/// Keeps a link to one gateway until that leaves the view or the worker drains and needs it no more.
async fn dial(
    inner: Arc<WorkerInner>,
    members: watch::Receiver<Arc<Members>>,
    gateway: Incarnation,
    address: SocketAddr,
) {
    let settings = &inner.settings;
    let seed = inner.identity.node.incarnation.0 ^ gateway.0;
    let mut backoff = Backoff::new(settings.reconnect_min, settings.reconnect_max, seed);
    let mut phase = inner.phase.subscribe();
    let mut failures = 0_u32;
    loop {
        let wanted = members.borrow().nodes.contains_key(&gateway);
        if !wanted || inner.is_linked(gateway) || !inner.may_link() {
            return;
        }
        let dialled = tokio::select! {
            biased;
            dialled = tidegate_link::dial(address, &inner.identity, &settings.link) => dialled,
            _ = phase.wait_for(|phase| *phase == Phase::Closing) => return,
        };
        match dialled {
            // A frozen gateway may answer after it was declared lost: its clients' closes are told or
            // being told, so it gets no link. Only that process is refused: a new one at its address
            // would end at once if it were called lost.
            Ok(link) if members.borrow().is_lost(link.peer.incarnation) => {
                return link.sender.refuse(Refusal::Lost);
            }
            Ok(link) if link.peer.incarnation == gateway => {
                failures = 0;
                let since = Instant::now();
                if let Some(begun) = begin(&inner, link) {
                    serve(&inner, begun).await;
                }
                // A link that ends at once must not be dialled in a tight loop.
                if since.elapsed() >= settings.reconnect_max {
                    backoff.reset();
                }
            }
            Ok(link) => {
                debug!(%gateway, %address, found = %link.peer.incarnation, "another process listens there: waiting for the view to follow");
                link.sender.close();
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    warn!(%gateway, %address, %error, "no link to the gateway: trying on");
                } else {
                    debug!(%gateway, %address, %error, failures, "no link to the gateway");
                }
            }
        }
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Closing) => return,
            () = sleep(backoff.next()) => {}
        }
    }
}

/// A link that has announced itself and waits to be served.
pub(super) struct Begun {
    task: LinkTask,
    home: Arc<GatewayLink>,
    peer: Node,
    receiver: LinkReceiver,
}

/// Begins a link: from now on its gateway counts as linked. None if it is refused.
pub(super) fn begin(inner: &Arc<WorkerInner>, link: Link) -> Option<Begun> {
    let Link {
        peer,
        sender,
        receiver,
    } = link;
    if peer.role != Role::Gateway {
        let role = peer.role.name();
        warn!(peer = %peer.name, role, "a worker serves gateways only: link refused");
        sender.refuse(Refusal::WrongRole(role.to_owned()));
        return None;
    }
    if !inner.may_link() {
        sender.close();
        return None;
    }
    let home = Arc::new(GatewayLink::new(
        inner.links_made.fetch_add(1, Ordering::Relaxed),
        peer.incarnation,
        sender,
        inner.adoptions.clone(),
        inner.meters.clone(),
        inner.settled.clone(),
    ));
    info!(gateway = %peer.incarnation, name = %peer.name, "link to gateway is up");
    // Announces before another task may send an adoption over this link.
    let task = LinkTask::new(inner.clone(), home.clone());
    inner.link_up(&home);
    Some(Begun {
        task,
        home,
        peer,
        receiver,
    })
}

/// Serves a link until it is over.
pub(super) async fn serve(inner: &WorkerInner, begun: Begun) {
    let Begun {
        mut task,
        home,
        peer,
        receiver,
    } = begun;
    let over = task.run(receiver).await;
    inner.link_down(&home, task.into_lanes());
    home.sender.close();
    match over {
        Over::End(end @ (LinkEnd::Closed | LinkEnd::ClosedHere)) => {
            info!(gateway = %peer.incarnation, name = %peer.name, reason = %end, "link to gateway ended");
        }
        over @ (Over::End(_) | Over::BeyondWindow { .. } | Over::Unexpected) => {
            warn!(gateway = %peer.incarnation, name = %peer.name, reason = %over, "link to gateway ended");
        }
    }
}
