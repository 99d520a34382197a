//! ◆ Who holds a lease, and whom the register tells it to.
//!
//! Guarantees: two gateways never hold one address; a gateway whose lease ran out while others
//! could see it is never taken back in the same life; before `settled`, and while nobody is
//! linked, an absent node is not yet known to be gone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role, View};
use tokio::time::Instant;

use tidegate_link::membership::Lost;

/// For so many of its leases it is told that a node has left: another register may have been lost just
/// before, and be believed for one.
const LEFT_LEASES: u32 = 2;
/// So many at most; the others are told by the lease alone.
const LEFT_MAX: usize = 256;

/// Names one link for the life of the register.
pub(super) type LinkId = u64;

#[derive(Debug)]
pub(super) struct NodeTable {
    nodes: BTreeMap<Incarnation, TableNode>,
    lost: Lost,
    /// Gateways that were dropped while no node could learn of it. They are lost only if they are
    /// not back when the view settles: a register that was cut off from all must not kill all.
    doubtful: Lost,
    /// Who has left by its own word, and until when that is told: nobody believes a register that cannot be
    /// reached any longer for more than a lease.
    left: VecDeque<(Incarnation, Instant)>,
    /// None while no node is linked.
    settles: Option<Instant>,
    announced_settled: bool,
    grace: Duration,
    nodes_max: u32,
}

#[derive(Debug)]
struct TableNode {
    node: Node,
    lease: Duration,
    place: NodePlace,
}

/// What keeps a node in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodePlace {
    Link(LinkId),
    Lease(Instant),
}

/// An admitted node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    New,
    /// It is back, or has joined again on the same link.
    Again,
    /// It is back before its old link has ended.
    Instead(LinkId),
}

impl NodeTable {
    pub(super) fn new(grace: Duration, nodes_max: u32) -> Self {
        Self {
            nodes: BTreeMap::new(),
            lost: Lost::default(),
            doubtful: Lost::default(),
            left: VecDeque::new(),
            settles: None,
            announced_settled: false,
            grace,
            nodes_max,
        }
    }

    pub(super) fn join(
        &mut self,
        node: Node,
        lease: Duration,
        link: LinkId,
        now: Instant,
    ) -> Result<Joined, Refusal> {
        self.check(&node)?;
        let alone = !self.is_anybody_linked();
        self.doubtful.remove(node.incarnation);
        let place = NodePlace::Link(link);
        let incarnation = node.incarnation;
        let entry = TableNode { node, lease, place };
        let before = self.nodes.insert(incarnation, entry);
        if alone {
            self.settles = Some(now + self.grace);
        }
        Ok(match before.map(|entry| entry.place) {
            None => Joined::New,
            Some(NodePlace::Link(old)) if old != link => Joined::Instead(old),
            Some(NodePlace::Link(_) | NodePlace::Lease(_)) => Joined::Again,
        })
    }

    fn check(&self, node: &Node) -> Result<(), Refusal> {
        match (node.role, node.address) {
            (Role::Register, _) => return Err(Refusal::WrongRole("register".to_owned())),
            (Role::Gateway, None) => {
                let what = "gateway without an announced address";
                return Err(Refusal::WrongRole(what.to_owned()));
            }
            (Role::Gateway, Some(_)) | (Role::Worker, _) => {}
        }
        if self.lost.contains(node.incarnation) {
            return Err(Refusal::Lost);
        }
        if let Some(entry) = self.nodes.get(&node.incarnation) {
            if entry.node.role != node.role {
                let (role, other) = (node.role.name(), entry.node.role.name());
                let what = format!("{role} with the incarnation of a {other}");
                return Err(Refusal::WrongRole(what));
            }
        } else if self.nodes.len() >= self.nodes_max as usize {
            return Err(Refusal::Full(self.nodes_max));
        }
        self.check_address(node)
    }

    /// An address stays with its gateway until its lease has run out, also when its link is gone
    /// and the newcomer is most likely the same gateway, started again. A broken link does not
    /// prove a death, and to give the address away declares the old life lost: its clients' close
    /// would be told while it may still serve them. So a restart after a crash waits for at most
    /// one lease; one after a shutdown does not wait, since that gateway has left.
    fn check_address(&self, node: &Node) -> Result<(), Refusal> {
        let (Role::Gateway, Some(address)) = (node.role, node.address) else {
            return Ok(());
        };
        let holds = |entry: &&TableNode| {
            entry.node.role == Role::Gateway
                && entry.node.address == Some(address)
                && entry.node.incarnation != node.incarnation
        };
        match self.nodes.values().find(holds) {
            Some(_) => Err(Refusal::AddressTaken(address.to_string())),
            None => Ok(()),
        }
    }

    /// The link has ended; the node was last heard then. Its lease goes on from there.
    pub(super) fn ended(&mut self, incarnation: Incarnation, link: LinkId, heard: Instant) {
        if let Some(entry) = self.nodes.get_mut(&incarnation) {
            // A link that was replaced says nothing about the node.
            if entry.place == NodePlace::Link(link) {
                entry.place = NodePlace::Lease(heard + entry.lease);
            }
        }
        self.forget_settled_if_alone();
    }

    /// Whether the node is dropped by this: only its current link can say so.
    pub(super) fn leave(&mut self, incarnation: Incarnation, link: LinkId, now: Instant) -> bool {
        let place = Some(NodePlace::Link(link));
        if self.nodes.get(&incarnation).map(|entry| entry.place) != place {
            return false;
        }
        if let Some(entry) = self.nodes.remove(&incarnation) {
            if entry.node.role == Role::Gateway {
                self.lost.insert(incarnation);
            }
            let until = now + entry.lease * LEFT_LEASES;
            self.left.push_back((incarnation, until));
            if self.left.len() > LEFT_MAX {
                self.left.pop_front();
            }
        }
        self.forget_settled_if_alone();
        true
    }

    /// Drops a gateway that others have declared lost, for good. Some if it was here, with its link.
    pub(super) fn lose(&mut self, incarnation: Incarnation) -> Option<Option<LinkId>> {
        let entry = self.nodes.get(&incarnation)?;
        if entry.node.role != Role::Gateway {
            return None;
        }
        let link = match entry.place {
            NodePlace::Link(link) => Some(link),
            NodePlace::Lease(_) => None,
        };
        self.nodes.remove(&incarnation);
        self.lost.insert(incarnation);
        self.forget_settled_if_alone();
        Some(link)
    }

    /// Drops whose lease has run out. Returns them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Node> {
        let settled = self.is_settled(now);
        if settled {
            for incarnation in self.doubtful.take() {
                self.lost.insert(incarnation);
            }
        }
        let is_over = |_: &Incarnation, entry: &mut TableNode| match entry.place {
            NodePlace::Lease(until) => until <= now,
            NodePlace::Link(_) => false,
        };
        let gone: Vec<Node> = self
            .nodes
            .extract_if(.., is_over)
            .map(|(_, e)| e.node)
            .collect();
        for node in gone.iter().filter(|node| node.role == Role::Gateway) {
            let memory = if settled {
                &mut self.lost
            } else {
                &mut self.doubtful
            };
            memory.insert(node.incarnation);
        }
        gone
    }

    /// A register that was frozen cannot hold the silence of others against them: they get the
    /// grace time to come back.
    pub(super) fn doubt(&mut self, now: Instant) {
        if let Some(settles) = &mut self.settles {
            *settles = now + self.grace;
        }
    }

    /// Whether the view has settled, or is no longer, since the last call.
    pub(super) fn settling(&mut self, now: Instant) -> bool {
        let settled = self.is_settled(now);
        std::mem::replace(&mut self.announced_settled, settled) != settled
    }

    /// When a lease runs out or the view settles.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let leases = self.nodes.values().filter_map(|entry| match entry.place {
            NodePlace::Lease(until) => Some(until),
            NodePlace::Link(_) => None,
        });
        let settles = self.settles.filter(|_| !self.announced_settled);
        leases.chain(settles).min()
    }

    pub(super) fn view(&self, now: Instant) -> View {
        View {
            settled: self.is_settled(now),
            nodes: self
                .nodes
                .values()
                .map(|entry| entry.node.clone())
                .collect(),
            left: self
                .left
                .iter()
                .filter(|(_, until)| *until > now)
                .map(|(incarnation, _)| *incarnation)
                .collect(),
        }
    }

    pub(super) fn count(&self, role: Role) -> usize {
        self.nodes
            .values()
            .filter(|entry| entry.node.role == role)
            .count()
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.settles.is_some_and(|settles| settles <= now)
    }

    fn is_anybody_linked(&self) -> bool {
        let is_linked = |entry: &TableNode| matches!(entry.place, NodePlace::Link(_));
        self.nodes.values().any(is_linked)
    }

    fn forget_settled_if_alone(&mut self) {
        if !self.is_anybody_linked() {
            self.settles = None;
        }
    }
}

#[cfg(test)]
mod tests;
