//! The links that others have dialled: workers bring commits, other gateways bring forwards. Each
//! is served by a task on the thread of one shard.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tidegate_hub::lanes::WorkerKey;
use tidegate_hub::routing::Standing;
use tidegate_link::net::admission::Admitted;
use tidegate_link::net::{admit, not_admitted};
use tidegate_link::{Link, LinkEnd, LinkReceiver, LinkSender};
use tidegate_watchdog::tolerate;
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Scope};
use tidegate_wire::frame::{Announcement, Forward, Frame, GatewayFrame, PeerFrame, WorkerFrame};
use tidegate_wire::hello::Refusal;
use tidegate_wire::membership::{Node, Role};
use tidegate_wire::query::{Ask, AskError, Question};
use tidegate_wire::task::Step;
use tokio::net::TcpStream;

use crate::gateway::feed::Remote;
use crate::gateway::questions::ask_here;
use crate::gateway::services::Services;
use crate::gateway::shard::Shard;
use crate::gateway::shared::gather::{Asked, Done};
use crate::gateway::shared::inbox::{AdoptClose, Parcel};
use crate::gateway::shared::worker_link::WorkerLink;
use crate::gateway::workers::host;

/// Authenticates a node that has connected, and serves its link.
pub(in crate::gateway) fn authenticate(
    shard: Rc<Shard>,
    socket: std::net::TcpStream,
    stranger: Admitted,
) {
    // Without an address it is gone already.
    let Ok(address) = socket.peer_addr() else {
        return;
    };
    let context = shard.context.clone();
    tokio::task::spawn_local(async move {
        let accepted = match TcpStream::from_std(socket) {
            Ok(socket) => {
                let accept = admit(socket, &context.identity, &context.settings.link, &stranger);
                Box::pin(tolerate(accept)).await
            }
            Err(error) => Ok(Err(error.into())),
        };
        drop(stranger);
        match accepted {
            Ok(Ok(link)) => run(shard, link, Some(address.ip())).await,
            Ok(Err(error)) => not_admitted(address, &error),
            // Its panic was told.
            Err(_) => {}
        }
    });
}

/// Serves a link that is authenticated.
pub(in crate::gateway) fn serve(shard: Rc<Shard>, link: Link) {
    tokio::task::spawn_local(run(shard, link, None));
}

async fn run(shard: Rc<Shard>, link: Link, from: Option<IpAddr>) {
    let Link {
        peer,
        sender,
        receiver,
    } = link;
    let lost = shard.context.lost.is_cancelled();
    if lost || shard.is_lost(peer.incarnation) {
        return sender.refuse(Refusal::Lost);
    }
    let end = match peer.role {
        Role::Worker => {
            WorkerLinkTask::new(shard, peer.clone(), sender, from)
                .run(receiver)
                .await
        }
        Role::Gateway => forwards(&shard, &peer, &sender, receiver).await,
        Role::Register => {
            sender.refuse(Refusal::WrongRole(peer.role.name().to_owned()));
            return;
        }
    };
    tracing::info!(role = peer.role.name(), name = %peer.name, %end, "link ended");
}

/// One worker's link.
struct WorkerLinkTask {
    shard: Rc<Shard>,
    node: Node,
    sender: LinkSender,
    key: WorkerKey,
    /// The machine that it is on.
    host: Name,
    undrained: Arc<AtomicUsize>,
    unrecognised: Arc<AtomicUsize>,
    /// With its last announcement.
    announced: Option<Arc<WorkerLink>>,
    adopted: u64,
    /// Commits of other shards' events, by shard, for one batch. Those of different homes have no
    /// order among each other; what one home commits reaches others in its order.
    others: Vec<Vec<Commit>>,
}

impl WorkerLinkTask {
    fn new(shard: Rc<Shard>, node: Node, sender: LinkSender, from: Option<IpAddr>) -> Self {
        let context = &shard.context;
        let key = context.next_worker.fetch_add(1, Ordering::Relaxed);
        let shards = context.inboxes.len();
        let others = vec![Vec::new(); shards];
        let undrained = Arc::new(AtomicUsize::new(shards));
        let unrecognised = Arc::new(AtomicUsize::new(shards));
        Self {
            host: host::of_worker(&node, from, &shard.context),
            shard,
            node,
            sender,
            key,
            undrained,
            unrecognised,
            announced: None,
            adopted: 0,
            others,
        }
    }

    async fn run(mut self, mut receiver: LinkReceiver) -> LinkEnd {
        let context = self.shard.context.clone();
        let mut frames = Vec::new();
        let end = loop {
            // The answer to a full shard is not to read what would fill it more.
            for inbox in &context.inboxes {
                inbox.room().await;
            }
            if let Err(end) = receiver.recv(&mut frames).await {
                break end;
            }
            self.batch(&mut frames);
        };
        if matches!(end, LinkEnd::Goodbye(Refusal::Lost)) {
            // That worker tells the closes of its clients: their lanes must not go to another one,
            // which would run their events and tell them again.
            context.lose();
        }
        if self.announced.is_some() {
            context.all(|| Parcel::WorkerLost(self.key));
            context.announced.is_gone(self.key);
        }
        end
    }

    fn batch(&mut self, frames: &mut Vec<Frame>) {
        let mut own = Vec::new();
        for frame in frames.drain(..) {
            if !matches!(frame, Frame::FromWorker(WorkerFrame::Commit(_))) {
                // What was sent before must have been applied before.
                self.hand_over(&mut own);
            }
            let Frame::FromWorker(frame) = frame else {
                unexpected(&self.node, &self.sender);
                continue;
            };
            self.frame(frame, &mut own);
        }
        self.hand_over(&mut own);
    }

    /// Adds a commit to those that are handed over together.
    fn gather(&mut self, commit: Commit, own: &mut Vec<Commit>) {
        if commit.event.gateway != self.shard.context.incarnation() {
            return;
        }
        let shard = usize::from(commit.event.shard);
        if shard == usize::from(self.shard.index) {
            own.push(commit);
        } else if let Some(list) = self.others.get_mut(shard) {
            list.push(commit);
        }
    }

    fn hand_over(&mut self, own: &mut Vec<Commit>) {
        if !own.is_empty() {
            self.shard.commits(self.key, std::mem::take(own));
        }
        for (list, inbox) in self.others.iter_mut().zip(&self.shard.context.inboxes) {
            if !list.is_empty() {
                inbox.push(Parcel::Commits(self.key, std::mem::take(list)));
            }
        }
    }

    fn frame(&mut self, frame: WorkerFrame, own: &mut Vec<Commit>) {
        let context = &self.shard.context;
        match frame {
            WorkerFrame::Commit(commit) => self.gather(commit, own),
            WorkerFrame::Announce(announcement) => self.announce(announcement),
            WorkerFrame::Load(load) => context.all(|| Parcel::Load(self.key, load)),
            WorkerFrame::Drain => context.all(|| Parcel::Draining(self.key)),
            WorkerFrame::Confirmed { shard, number } => {
                if let Some(inbox) = context.inboxes.get(usize::from(shard)) {
                    inbox.push(Parcel::Confirmed(self.key, number));
                }
            }
            WorkerFrame::Adopt {
                sequence,
                tenant,
                effects,
                close,
            } => {
                if sequence > self.adopted {
                    self.adopted = sequence;
                    self.adopt(AdoptClose {
                        tenant,
                        effects,
                        close,
                        link: self.sender.clone(),
                        sequence,
                    });
                }
            }
            WorkerFrame::Question(question) => self.question(question),
            WorkerFrame::Step(step) => self.step(step),
        }
    }

    /// Gives a step of a task to the shard of its event, behind the commits that came before it.
    fn step(&self, step: Box<Step>) {
        let context = &self.shard.context;
        if step.event.gateway != context.incarnation() {
            return;
        }
        let shard = step.event.shard;
        if shard == self.shard.index {
            self.shard.step(self.key, *step);
        } else if let Some(inbox) = context.inboxes.get(usize::from(shard)) {
            inbox.push(Parcel::Step(self.key, step));
        }
    }

    /// Gives a close whose home is lost to this shard. Of a tenant that the worker never announced it
    /// cannot have told any: that is answered, so that nobody waits, and changes nothing.
    fn adopt(&self, adoption: AdoptClose) {
        let serving = self
            .announced
            .iter()
            .flat_map(|it| &it.announcement.serving);
        if !serving.into_iter().any(|it| it.tenant == adoption.tenant) {
            tracing::warn!(worker = %self.node.name, tenant = %adoption.tenant,
                "a worker gave away a close of a tenant that it never announced: refused");
            let sequence = adoption.sequence;
            // A link that has ended waits for nothing.
            let _ = self.sender.send(GatewayFrame::Adopted { sequence });
        } else if let Some(inbox) = self
            .shard
            .context
            .inboxes
            .get(usize::from(self.shard.index))
        {
            inbox.push(Parcel::AdoptClose(Box::new(adoption)));
        }
    }

    /// Gives a question to the shard of its event, behind the commits that came before it.
    fn question(&self, question: Box<Question>) {
        let context = &self.shard.context;
        let own = question.event.gateway == context.incarnation();
        let shard = question.event.shard;
        let link = self.sender.clone();
        match context.inboxes.get(usize::from(shard)) {
            Some(_) if own && shard == self.shard.index => {
                self.shard.handler_asks_now(self.key, link, *question);
            }
            Some(inbox) if own => inbox.push(Parcel::Question(self.key, link, question)),
            Some(_) | None => {
                let (number, answer) = (question.number, Box::new(Err(AskError::Gone)));
                // A link that has ended waits for nothing.
                let _ = link.send(GatewayFrame::Answered { number, answer });
            }
        }
    }

    fn announce(&mut self, announcement: Announcement) {
        let context = &self.shard.context;
        let tenants: Vec<_> = announcement
            .serving
            .iter()
            .filter(|s| !s.version.is_empty())
            .map(|s| s.tenant.to_string())
            .collect();
        tracing::info!(worker = %self.node.name, ?tenants, "worker serves");
        let mut places = context.tenants.places_in(&announcement.serving);
        let runs: Vec<bool> = places.iter().map(Option::is_some).collect();
        let standings = context.standings(&runs, &self.node.tags);
        for (number, standing) in (0..).zip(&standings) {
            if *standing == Standing::LacksTags
                && let Some(place) = places.get_mut(usize::from(number))
                && let Some(tenant) = context.tenants.name(number)
            {
                *place = None;
                tracing::info!(worker = %self.node.name, %tenant,
                    worker_tags = ?context.routing(number).worker_tags, tags = ?self.node.tags,
                    "a worker gets no events of a tenant: it lacks one of its worker-tags");
            }
        }
        let link = Arc::new(WorkerLink {
            key: self.key,
            worker: self.node.incarnation,
            name: self.node.name.clone(),
            tags: self.node.tags.clone(),
            host: self.host.clone(),
            sender: self.sender.clone(),
            announcement,
            places,
            undrained: self.undrained.clone(),
            unrecognised: self.unrecognised.clone(),
        });
        context.all(|| Parcel::Worker(link.clone()));
        self.announced = Some(link);
        context.announced.says(self.key, standings);
    }
}

/// Another gateway's link: its forwards are taken once each and acknowledged, its questions
/// answered behind them.
async fn forwards(
    shard: &Rc<Shard>,
    peer: &Node,
    sender: &LinkSender,
    mut receiver: LinkReceiver,
) -> LinkEnd {
    let context = &shard.context;
    tracing::info!(gateway = %peer.name, incarnation = %peer.incarnation, "gateway connected");
    let mut watchers = Remote::new(&shard.services.feed, sender);
    let mut frames = Vec::new();
    loop {
        for inbox in &context.inboxes {
            inbox.room().await;
        }
        if let Err(end) = receiver.recv(&mut frames).await {
            return end;
        }
        if shard.is_lost(peer.incarnation) {
            sender.refuse(Refusal::Lost);
            return LinkEnd::Goodbye(Refusal::Lost);
        }
        let mut arrived = Vec::new();
        for frame in frames.drain(..) {
            let Frame::Peer(frame) = frame else {
                unexpected(peer, sender);
                continue;
            };
            match frame {
                PeerFrame::Forward(forward) => {
                    let ack = (forward.shard, forward.sequence);
                    arrived.retain(|(stream, _)| *stream != ack.0);
                    arrived.push(ack);
                    let mut received = context
                        .received
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    if received.is_new(peer.incarnation, forward.shard, forward.sequence) {
                        distribute(shard, forward);
                    }
                }
                PeerFrame::Ask(ask) => answer(&shard.services, *ask, sender),
                PeerFrame::Watch {
                    watch,
                    tenant,
                    filter,
                } => watchers.watch(watch, tenant, *filter),
                PeerFrame::Unwatch { watch } => watchers.unwatch(watch),
                PeerFrame::Schedule(said) => {
                    let answers = shard.services.schedules.hear(peer.incarnation, *said);
                    for answer in answers {
                        // Without an answer it is asked again.
                        let _ = sender.send(PeerFrame::Schedule(Box::new(answer)));
                    }
                }
                // These go to the gateway that has dialled.
                PeerFrame::ForwardAck { .. }
                | PeerFrame::Answer { .. }
                | PeerFrame::Happened { .. } => unexpected(peer, sender),
            }
        }
        for (shard, sequence) in arrived {
            // Without this answer the forwards come again and are known.
            let _ = sender.send(PeerFrame::ForwardAck { shard, sequence });
        }
    }
}

/// Asks the shards here for another gateway.
fn answer(services: &Arc<Services>, ask: Ask, link: &LinkSender) {
    let asked = Asked {
        tenant: ask.tenant,
        effects: ask.effects,
        query: ask.query,
        within: Duration::from_millis(ask.within_ms.into()),
    };
    let done = Done::Peer {
        link: link.clone(),
        shard: ask.shard,
        number: ask.number,
    };
    ask_here(services, &Arc::new(asked), done);
}

/// Gives a forward to the shards that it concerns, then runs its commands, here and once.
fn distribute(shard: &Shard, forward: Forward) {
    let Forward {
        tenant,
        effects,
        close,
        ..
    } = forward;
    let context = &shard.context;
    if close.is_some_and(|close| !context.closes.is_new(&tenant, close)) {
        return;
    }
    let is_command = |effect: &Effect| matches!(effect.scope(), Scope::Gateways(_));
    let commands: Vec<Effect> = effects
        .iter()
        .filter(|it| is_command(it))
        .cloned()
        .collect();
    if commands.len() < effects.len() {
        let only = only_shard(shard, &effects);
        let effects = Arc::new(effects);
        for (index, inbox) in context.inboxes.iter().enumerate() {
            if only.is_none_or(|only| only == index) {
                let tenant = tenant.clone();
                inbox.push(Parcel::Effects {
                    tenant,
                    effects: effects.clone(),
                });
            }
        }
    }
    shard.services.commands.start(&tenant, commands);
}

/// The one shard that all these effects concern, if there is one; commands concern none.
fn only_shard(shard: &Shard, effects: &[Effect]) -> Option<usize> {
    let mut only = None;
    for effect in effects {
        let client = match effect.scope() {
            Scope::Client(client) => client,
            Scope::Gateways(_) => continue,
            // Only commits and closes bring what is for whoever takes it.
            Scope::Here => continue,
            Scope::Clients(_) | Scope::Everywhere => return None,
        };
        let owner = shard.context.shard_of(client.connection);
        if only.is_some_and(|only| only != owner) {
            return None;
        }
        only = Some(owner);
    }
    only
}

fn unexpected(peer: &Node, sender: &LinkSender) {
    tracing::warn!(role = peer.role.name(), name = %peer.name,
        "a frame that this role does not send: the link is closed");
    sender.refuse(Refusal::WrongRole(peer.role.name().to_owned()));
}
