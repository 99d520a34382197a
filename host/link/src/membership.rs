//! This node among the others: joins every register, keeps its leases and merges what they say.
//!
//! Guarantees: the view shrinks only as `merge` says; reconnects with jittered backoff for as long
//! as the process runs; says in the log why it is not joined, once per reason. Does not connect to
//! other nodes and does not decide what a loss means.

mod follow;
mod lost;
mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tidegate_watchdog::watched;
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role, View};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::deadline;
use crate::link::{Identity, LinkSettings};
use follow::Follower;
pub use lost::Lost;
use merge::Merge;

/// How many views may wait to be merged.
const SAID_MAX: usize = 64;
/// How long leaving may take.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// The nodes of the cluster, as this node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Every gateway and worker, this node too.
    pub nodes: BTreeMap<Incarnation, Node>,
    /// Gateways that were in the view and that every register that answers has dropped. They never
    /// come back in the same life: refuse their links. A worker may come back and is not in here.
    pub lost: Lost,
    /// How many registers have a link and have answered.
    pub connected: usize,
    /// Nodes that no register with a link and past its grace time lists at the moment: nothing says
    /// that they are alive.
    pub unlisted: BTreeSet<Incarnation>,
    /// There are no registers: nobody else will ever come.
    pub fixed: bool,
}

impl Members {
    /// The gateways.
    pub fn gateways(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .values()
            .filter(|node| node.role == Role::Gateway)
    }

    /// Whether a register that is there lists this node, which a dead one does not survive for long.
    #[must_use]
    pub fn is_listed(&self, incarnation: Incarnation) -> bool {
        self.nodes.contains_key(&incarnation) && !self.unlisted.contains(&incarnation)
    }

    /// Whether this is a gateway that was declared lost.
    #[must_use]
    pub fn is_lost(&self, incarnation: Incarnation) -> bool {
        self.lost.contains(incarnation)
    }

    /// The gateway that announces this address.
    #[must_use]
    pub fn by_address(&self, address: SocketAddrV4) -> Option<&Node> {
        self.gateways().find(|node| node.address == Some(address))
    }
}

/// Why a node is not at a register before the first attempt has ended.
const NOT_YET: &str = "being dialled";

/// Times of a membership.
#[derive(Clone, Copy, Debug)]
pub struct MembershipSettings {
    /// Of the links to the registers.
    pub link: LinkSettings,
    /// How long a register keeps this node without a sign of life.
    pub lease: Duration,
    /// The shortest wait before connecting again.
    pub reconnect_min: Duration,
    /// The longest.
    pub reconnect_max: Duration,
}

/// A node's place in the cluster. It lives until [`Self::leave`] or the stop signal, not until it
/// is dropped.
#[derive(Debug)]
pub struct Membership {
    /// The current view. `changed` fails once the membership has ended.
    pub members: watch::Receiver<Arc<Members>>,
    /// Why a register refuses this node, [`Refusal::Lost`] before any other; none once it is
    /// joined.
    pub refused: watch::Receiver<Option<Refusal>>,
    /// How it stands with each register.
    pub joined: watch::Receiver<Joining>,
    leave: CancellationToken,
    tasks: TaskTracker,
    /// Keeps the channels of a fixed membership open.
    fixed: Option<Told>,
}

/// How a node stands with its registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joining {
    /// One of them has taken it in, now or earlier.
    pub ever: bool,
    /// The registers at which it is not at present, and why.
    pub apart: Vec<(String, String)>,
}

#[derive(Debug)]
struct Told {
    joined: watch::Sender<Joining>,
    members: watch::Sender<Arc<Members>>,
    refused: watch::Sender<Option<Refusal>>,
}

/// What a follower has learnt.
#[derive(Debug)]
enum Said {
    View(View),
    /// The link has ended, or there is none, for this reason.
    Apart(String),
    Refused(Refusal),
}

/// Joins all `registers` (`"host:port"`) as `identity.node`; never waits. After `stop` the leases
/// run out; call [`Membership::leave`] before it for a departure that is seen at once.
#[must_use]
pub fn join(
    mut registers: Vec<String>,
    identity: Identity,
    settings: MembershipSettings,
    stop: CancellationToken,
) -> Membership {
    registers.sort_unstable();
    // A register that is named twice would see two links of one incarnation and keep the newest.
    registers.dedup();
    let tasks = TaskTracker::new();
    let leave = stop.child_token();
    let (told, membership) = channels(Members::default(), leave.clone(), tasks.clone());
    let (said, hear) = mpsc::channel(SAID_MAX);
    let merge = Merge::new(registers.len(), settings.lease);
    let refusals = vec![None; registers.len()];
    let reasons = registers
        .iter()
        .map(|it| (it.clone(), Some(NOT_YET.to_owned())));
    let reasons = reasons.collect();
    for (register, address) in registers.into_iter().enumerate() {
        let follower = Follower {
            register,
            address,
            identity: identity.clone(),
            settings,
            stop: stop.clone(),
            leave: leave.clone(),
            said: said.clone(),
            members: membership.members.clone(),
        };
        let name = format!("the membership at {}", follower.address);
        tasks.spawn(watched(name, follower.run()));
    }
    tasks.spawn(watched(
        "the membership",
        listen(merge, refusals, reasons, hear, told),
    ));
    tasks.close();
    membership
}

/// The membership of a process without registers: these nodes and no others, for ever.
#[must_use]
pub fn fixed(nodes: Vec<Node>) -> Membership {
    let nodes = nodes.into_iter().map(|node| (node.incarnation, node));
    let members = Members {
        nodes: nodes.collect(),
        fixed: true,
        ..Members::default()
    };
    let tasks = TaskTracker::new();
    tasks.close();
    let (told, mut membership) = channels(members, CancellationToken::new(), tasks);
    membership.fixed = Some(told);
    membership
}

impl Membership {
    /// Tells every register that this node is gone, and waits a little until they know.
    pub async fn leave(self) {
        self.leave_within(LEAVE_MAX).await;
    }

    /// The same, not longer than this.
    pub async fn leave_within(self, within: Duration) {
        self.leave.cancel();
        let left = timeout(within.min(LEAVE_MAX), self.tasks.wait());
        if left.await.is_err() {
            tracing::warn!("a register did not take the leave in time: it keeps the lease");
        }
    }
}

fn channels(members: Members, leave: CancellationToken, tasks: TaskTracker) -> (Told, Membership) {
    let (members, members_seen) = watch::channel(Arc::new(members));
    let (refused, refused_seen) = watch::channel(None);
    let (joined, joined_seen) = watch::channel(Joining::default());
    let membership = Membership {
        members: members_seen,
        refused: refused_seen,
        joined: joined_seen,
        leave,
        tasks,
        fixed: None,
    };
    let told = Told {
        joined,
        members,
        refused,
    };
    (told, membership)
}

/// Merges until every follower is gone.
async fn listen(
    mut merge: Merge,
    mut refusals: Vec<Option<Refusal>>,
    mut reasons: Vec<(String, Option<String>)>,
    mut hear: mpsc::Receiver<(usize, Said)>,
    told: Told,
) {
    let mut batch = Vec::new();
    loop {
        let deadline = merge.deadline().map(Instant::from_std);
        tokio::select! {
            biased;
            heard = hear.recv_many(&mut batch, SAID_MAX) => if heard == 0 { return },
            () = deadline::reached(deadline) => {}
        }
        for (register, said) in batch.drain(..) {
            let refusal = match said {
                Said::View(view) => {
                    merge.heard(register, view);
                    if let Some((_, reason)) = reasons.get_mut(register) {
                        *reason = None;
                    }
                    None
                }
                Said::Apart(why) => {
                    merge.ended(register, Instant::now().into_std());
                    if let Some((_, reason)) = reasons.get_mut(register) {
                        *reason = Some(why);
                    }
                    continue;
                }
                Said::Refused(refusal) => Some(refusal),
            };
            if let Some(place) = refusals.get_mut(register) {
                *place = refusal;
            }
        }
        merge.conclude(Instant::now().into_std());
        told.tell(&merge, &refusals);
        told.tell_joined(&reasons);
    }
}

impl Told {
    fn tell_joined(&self, reasons: &[(String, Option<String>)]) {
        self.joined.send_if_modified(|joined| {
            let apart = reasons.iter();
            let apart = apart.filter_map(|(register, why)| Some((register.clone(), why.clone()?)));
            let apart: Vec<(String, String)> = apart.collect();
            let ever = joined.ever || apart.len() < reasons.len();
            let now = Joining { ever, apart };
            let changed = *joined != now;
            *joined = now;
            changed
        });
    }

    fn tell(&self, merge: &Merge, refusals: &[Option<Refusal>]) {
        self.members.send_if_modified(|members| {
            let connected = merge.connected();
            let unlisted = merge.unlisted();
            let same = members.nodes == *merge.nodes()
                && members.connected == connected
                && members.unlisted == unlisted;
            if !same {
                *members = Arc::new(Members {
                    nodes: merge.nodes().clone(),
                    lost: merge.lost().clone(),
                    connected,
                    unlisted,
                    fixed: false,
                });
            }
            !same
        });
        // One register that has declared a gateway lost is enough: a node that sees no other
        // register may have told its clients' close already.
        let lost = refusals.iter().flatten().find(|r| **r == Refusal::Lost);
        let refusal = lost.or_else(|| refusals.iter().flatten().next()).cloned();
        self.refused.send_if_modified(|refused| {
            let changed = *refused != refusal;
            *refused = refusal;
            changed
        });
    }
}
