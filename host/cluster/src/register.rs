//! Tells gateways and workers about each other. Keeps only soft state.
//!
//! Guarantees: one task owns the table, all changes of one turn are one push to everybody; a node
//! is dropped when it leaves or when its lease has run out, not when its link breaks. Does not
//! talk to other registers: nodes merge what several say.

mod link;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_link::deadline;
use tidegate_link::net::stream::Listen;
use tidegate_link::net::{
    AcceptSettings, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, accept_links,
};
use tidegate_link::{Identity, Link, LinkSender, LinkSettings};
use tidegate_watchdog::vital;
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use table::{Joined, LinkId, NodeTable};
use tidegate_deploy::{Coordinator, DeploySettings, Store};

/// How many messages of links may wait for the table.
const MESSAGES_MAX: usize = 256;
/// Whole views go to everybody: when many nodes join at once, this often.
const PUSH_PAUSE: Duration = Duration::from_millis(10);

/// It turns at least so often.
const TURN_MAX: Duration = Duration::from_millis(500);
/// A turn that is this late was frozen, and perhaps the whole process with it.
const LATE_MAX: Duration = Duration::from_secs(1);

/// Times and bounds of a register.
#[derive(Clone, Copy, Debug)]
pub struct RegisterSettings {
    /// The longest lease that a node gets.
    pub lease_max: Duration,
    /// How long after its first node joined this register does not yet take an absent node for
    /// gone: longer than the longest wait of a node before it connects again.
    pub grace: Duration,
    /// How many nodes there may be.
    pub nodes_max: u32,
    /// Of the links to the nodes.
    pub link: LinkSettings,
}

/// The register service.
#[derive(Debug)]
pub struct Register;

/// What a link tells the table.
#[derive(Debug)]
enum RegisterMessage {
    Join {
        link: LinkId,
        sender: LinkSender,
        node: Node,
        lease: Duration,
    },
    Leave {
        link: LinkId,
        incarnation: Incarnation,
    },
    /// Somebody knows that these gateways were declared lost.
    Lost(Vec<Incarnation>),
    End {
        link: LinkId,
        incarnation: Incarnation,
        heard: Instant,
    },
}

impl Register {
    /// As [`Self::run_with`], with a coordinator that holds what is deployed in memory only.
    pub async fn run(
        listener: impl Listen,
        identity: Identity,
        settings: RegisterSettings,
        stop: CancellationToken,
    ) {
        let deploys = DeploySettings {
            link: settings.link,
            grace: settings.grace,
            ..DeploySettings::default()
        };
        let node = identity.node.clone();
        let coordinator = Coordinator::start(node, Store::in_memory(), deploys, stop.clone());
        Self::run_with(listener, identity, settings, coordinator, stop).await;
    }

    /// Serves nodes until `stop`, then closes their links. Links for deploys go to `coordinator`.
    pub async fn run_with(
        listener: impl Listen,
        identity: Identity,
        settings: RegisterSettings,
        coordinator: Coordinator,
        stop: CancellationToken,
    ) {
        let (messages, received) = mpsc::channel(MESSAGES_MAX);
        let links = Arc::new(AtomicU64::new(0));
        let serve = move |link: Link| {
            let id = links.fetch_add(1, Ordering::Relaxed);
            link::serve_link(link, id, settings, messages.clone(), coordinator.clone())
        };
        let bounds = AcceptSettings {
            handshakes_max: HANDSHAKES_MAX,
            handshakes_per_address_max: HANDSHAKES_PER_ADDRESS_MAX,
            // A node that is back may still hold its old link.
            // Two links a node: this one and that for deploys.
            links_max: (settings.nodes_max as usize).saturating_mul(4),
        };
        let accept = accept_links(
            listener,
            identity,
            settings.link,
            bounds,
            stop.clone(),
            serve,
        );
        tokio::spawn(vital("the register's listener", stop.clone(), accept));
        let task = RegisterTask {
            table: NodeTable::new(settings.grace, settings.nodes_max),
            links: BTreeMap::new(),
            changed: false,
            next_push: Instant::now(),
        };
        task.run(received, stop).await;
    }
}

/// The table with the ways to its nodes.
struct RegisterTask {
    table: NodeTable,
    links: BTreeMap<LinkId, LinkSender>,
    changed: bool,
    next_push: Instant,
}

impl RegisterTask {
    async fn run(mut self, mut received: mpsc::Receiver<RegisterMessage>, stop: CancellationToken) {
        let mut batch = Vec::new();
        let mut turned = Instant::now();
        loop {
            let push = self.changed.then_some(self.next_push);
            let others = self.table.deadline().into_iter().chain(push);
            // It turns where there is nothing to do, too, or it would not know that it was frozen.
            let deadline = Some(others.fold(turned + TURN_MAX, Instant::min));
            // Messages before leases: a node that is back in time is not dropped because this task
            // was late.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                read = received.recv_many(&mut batch, MESSAGES_MAX) => if read == 0 { break },
                () = deadline::reached(deadline) => {}
            }
            let now = Instant::now();
            turned = now;
            if deadline.is_some_and(|deadline| now > deadline + LATE_MAX) {
                tracing::warn!("the register was frozen: it waits for nodes before it drops any");
                self.table.doubt(now);
            }
            for message in batch.drain(..) {
                self.read(message, now);
            }
            if received.is_empty() {
                self.expire(now);
            }
            self.push(now);
        }
        for sender in self.links.values() {
            sender.close();
        }
    }

    fn read(&mut self, message: RegisterMessage, now: Instant) {
        match message {
            RegisterMessage::Join {
                link,
                sender,
                node,
                lease,
            } => self.join(link, sender, node, lease, now),
            RegisterMessage::Leave { link, incarnation } => {
                if self.table.leave(incarnation, link, now) {
                    tracing::info!(%incarnation, "a node has left");
                    self.changed = true;
                }
                if let Some(sender) = self.links.remove(&link) {
                    sender.close();
                }
            }
            RegisterMessage::Lost(incarnations) => {
                for incarnation in incarnations {
                    self.lose(incarnation);
                }
            }
            RegisterMessage::End {
                link,
                incarnation,
                heard,
            } => {
                self.links.remove(&link);
                self.table.ended(incarnation, link, heard);
            }
        }
    }

    fn join(
        &mut self,
        link: LinkId,
        sender: LinkSender,
        node: Node,
        lease: Duration,
        now: Instant,
    ) {
        let (role, name, incarnation) = (node.role.name(), node.name.clone(), node.incarnation);
        let result = match self.table.join(node, lease, link, now) {
            Ok(joined) => {
                if let Joined::Instead(old) = joined
                    && let Some(old) = self.links.remove(&old)
                {
                    old.close();
                }
                self.links.insert(link, sender);
                // Pushed also to a node that is back: it waits for its first view.
                self.changed = true;
                tracing::info!(role, %name, %incarnation, ?joined, "a node has joined");
                "joined"
            }
            Err(refusal) => {
                tracing::warn!(role, %name, %incarnation, %refusal, "a node was refused");
                sender.refuse(refusal);
                "refused"
            }
        };
        metrics::counter!("tidegate_register_joins_total", "result" => result).increment(1);
    }

    /// This register did not know, mostly because it was started again.
    fn lose(&mut self, incarnation: Incarnation) {
        let Some(link) = self.table.lose(incarnation) else {
            return;
        };
        tracing::warn!(%incarnation, "a gateway that others have declared lost is refused");
        self.changed = true;
        if let Some(sender) = link.and_then(|link| self.links.remove(&link)) {
            sender.refuse(Refusal::Lost);
        }
    }

    fn expire(&mut self, now: Instant) {
        for node in self.table.expire(now) {
            let (role, name, incarnation) = (node.role.name(), &node.name, node.incarnation);
            tracing::warn!(role, %name, %incarnation, "a node's lease has run out");
            self.changed = true;
        }
        self.changed |= self.table.settling(now);
    }

    fn push(&mut self, now: Instant) {
        if !self.changed || now < self.next_push {
            return;
        }
        let view = self.table.view(now);
        for sender in self.links.values() {
            // A link that has ended says so by message.
            let _ = sender.send(view.clone());
        }
        for role in [Role::Gateway, Role::Worker] {
            let count = self.table.count(role) as f64;
            metrics::gauge!("tidegate_register_nodes", "role" => role.name()).set(count);
        }
        self.changed = false;
        self.next_push = now + PUSH_PAUSE;
    }
}
