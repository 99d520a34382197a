//! The register's side: takes orders, has workers prepare, decides, keeps the state.
//!
//! Guarantees: one order at a time, others are told that it is busy; a decision is on the disk
//! before anybody hears of it; whoever enrols with a higher state teaches this coordinator, and learns
//! from it otherwise. Only the first register of the nodes' configuration is given orders; the
//! others keep copies.

mod again;
mod ending;
mod link;
mod lost;
mod reports;
mod resolve;
mod task;
mod under_way;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_link::{Link, LinkSender, LinkSettings, pair};
use tidegate_watchdog::watched;
use tidegate_wire::deploy::{Deploy, Desired};
use tidegate_wire::frame::Frame;
use tidegate_wire::membership::Node;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::store::Pin;
use super::transfer::{Exchange, FetchError, PeerId};
use super::{DeploySettings, Store};

/// How many messages of links may wait.
const MESSAGES_MAX: usize = 256;

/// Takes orders, has workers prepare, decides. Clones are one coordinator.
#[derive(Clone, Debug)]
pub struct Coordinator {
    inner: Arc<CoordinatorInner>,
}

#[derive(Debug)]
struct CoordinatorInner {
    node: Node,
    inbox: mpsc::Sender<CoordinatorMessage>,
    exchange: Exchange,
    settings: DeploySettings,
    links: AtomicU64,
    stop: CancellationToken,
}

/// What reaches the room.
#[derive(Debug)]
enum CoordinatorMessage {
    Enrolled {
        peer: PeerId,
        node: Node,
        first: bool,
        desired: Box<Desired>,
        sender: LinkSender,
    },
    Said {
        peer: PeerId,
        frame: Deploy,
    },
    Gone {
        peer: PeerId,
    },
    /// The component of this order is there, or cannot be had.
    Obtained {
        order: u64,
        outcome: Result<Pin, FetchError>,
    },
    /// What was lacking has been looked for.
    Collected,
}

impl Coordinator {
    /// Starts it, until `stop`. `node` is the register, or the process that stands in for one.
    #[must_use]
    pub fn start(
        node: Node,
        store: Store,
        settings: DeploySettings,
        stop: CancellationToken,
    ) -> Self {
        let (inbox, messages) = mpsc::channel(MESSAGES_MAX);
        let exchange = Exchange::new(store.clone(), settings.link.lease);
        let room = task::CoordinatorTask::new(
            node.clone(),
            store,
            exchange.clone(),
            settings,
            inbox.clone(),
        );
        tokio::spawn(watched(
            "the deploy coordinator",
            room.run(messages, stop.clone()),
        ));
        Self {
            inner: Arc::new(CoordinatorInner {
                node,
                inbox,
                exchange,
                settings,
                links: AtomicU64::new(0),
                stop,
            }),
        }
    }

    /// Serves a link until it ends; its first frame is an enrolment.
    pub fn attach(&self, link: Link) {
        let coordinator = self.clone();
        tokio::spawn(async move { coordinator.attend(link, Vec::new()).await });
    }

    /// A link inside this process.
    pub(super) fn connect(&self, node: Node, settings: &LinkSettings) -> Link {
        let (theirs, mine) = pair(node, self.inner.node.clone(), settings);
        self.attach(mine);
        theirs
    }

    /// Serves a link until it ends. `frames` is what was read of it already.
    pub async fn attend(&self, link: Link, frames: Vec<Frame>) {
        let peer = self.inner.links.fetch_add(1, Ordering::Relaxed);
        link::serve_link(&self.inner, link, peer, frames).await;
    }
}
