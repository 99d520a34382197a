//! The operator's one task: which orders and questions are under way, and the gateway's own copy
//! of the desired state.

use std::collections::BTreeMap;

use tidegate_link::LinkSender;
use tidegate_link::deadline;
use tidegate_wire::deploy::{Deploy, DeployError, Desired, Overview, Progress};
use tidegate_wire::id::Incarnation;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{ClientMessage, MESSAGES_MAX};
use crate::Store;
use crate::keeping::Keeping;
use crate::transfer::Offer;
use crate::uplink::News;

#[derive(Debug, Default)]
struct CoordinatorLink {
    sender: Option<LinkSender>,
    /// The state that it has told or was told since its link is there.
    known: Option<(u64, Incarnation)>,
}

#[derive(Debug)]
struct Pending {
    progress: mpsc::Sender<Progress>,
    _offer: Option<Offer>,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct ClientTask {
    store: Store,
    keeping: Keeping,
    register: String,
    coordinators: Vec<CoordinatorLink>,
    up: watch::Sender<bool>,
    orders: BTreeMap<u64, Pending>,
    /// With the coordinator that was asked.
    asks: BTreeMap<u64, (usize, oneshot::Sender<Overview>)>,
    /// Counts orders and questions.
    next: u64,
}

impl ClientTask {
    pub(super) fn new(
        coordinators: usize,
        store: Store,
        keeping: Keeping,
        register: String,
        up: watch::Sender<bool>,
    ) -> Self {
        Self {
            store,
            keeping,
            register,
            coordinators: (0..coordinators)
                .map(|_| CoordinatorLink::default())
                .collect(),
            up,
            orders: BTreeMap::new(),
            asks: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<ClientMessage>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                read = messages.recv_many(&mut batch, MESSAGES_MAX) => if read == 0 { break },
                () = deadline::reached(self.keeping.deadline()) => {}
            }
            for message in batch.drain(..) {
                self.read(message).await;
            }
            self.keeping.in_time().await;
            self.announce();
        }
        self.fail_all(&DeployError::GatewayStopping);
    }

    async fn read(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::News(coordinator, News::Up(sender)) => {
                if let Some(coordinator) = self.coordinators.get_mut(coordinator) {
                    let sender = Some(sender);
                    *coordinator = CoordinatorLink {
                        sender,
                        known: None,
                    };
                }
                if coordinator == 0 {
                    self.up.send_replace(true);
                }
            }
            ClientMessage::News(coordinator, News::Down) => {
                if let Some(coordinator) = self.coordinators.get_mut(coordinator) {
                    *coordinator = CoordinatorLink::default();
                }
                self.asks.retain(|_, (asked, _)| *asked != coordinator);
                if coordinator == 0 {
                    self.up.send_replace(false);
                    let register = self.register.clone();
                    self.fail_all(&DeployError::RegisterLost { register });
                }
            }
            ClientMessage::News(coordinator, News::Said(frame)) => {
                self.hear(coordinator, frame).await
            }
            ClientMessage::Order {
                order,
                progress,
                offer,
                place,
            } => {
                let pending = Pending {
                    progress,
                    _offer: offer,
                    _place: place,
                };
                self.next += 1;
                let number = self.next;
                if self.send(Deploy::Order { number, order }) {
                    self.orders.insert(number, pending);
                } else {
                    let register = self.register.clone();
                    let reason = DeployError::NoRegister { register };
                    last(&pending.progress, Progress::Failed { reason });
                }
            }
            ClientMessage::Ask { first, other } => {
                self.asks.retain(|_, (_, answer)| !answer.is_closed());
                self.ask(0, first);
                let linked =
                    |(_, coordinator): &(usize, &CoordinatorLink)| coordinator.sender.is_some();
                let second = self.coordinators.iter().enumerate().skip(1).find(linked);
                if let (Some(other), Some((coordinator, _))) = (other, second) {
                    self.ask(coordinator, other);
                }
            }
        }
    }

    /// Whoever asks a coordinator without a link is told at once that it does not answer.
    fn ask(&mut self, coordinator: usize, answer: oneshot::Sender<Overview>) {
        self.next += 1;
        let number = self.next;
        if self.send_to(coordinator, Deploy::Ask { number }) {
            self.asks.insert(number, (coordinator, answer));
        }
    }

    async fn hear(&mut self, coordinator: usize, frame: Deploy) {
        match frame {
            Deploy::State(desired) => self.learn(coordinator, desired).await,
            Deploy::Progress { number, progress } if coordinator == 0 => {
                self.pass_on(number, progress)
            }
            Deploy::Answer { number, overview } => {
                let asked = self
                    .asks
                    .get(&number)
                    .is_some_and(|(it, _)| *it == coordinator);
                if let Some((_, answer)) = self.asks.remove(&number).filter(|_| asked) {
                    // Whoever asked may have gone.
                    let _ = answer.send(*overview);
                }
            }
            Deploy::Progress { .. }
            | Deploy::Enrol { .. }
            | Deploy::Status { .. }
            | Deploy::TakenBack { .. }
            | Deploy::Order { .. }
            | Deploy::Ask { .. }
            | Deploy::Prepare { .. }
            | Deploy::Hold { .. }
            | Deploy::Discard { .. }
            | Deploy::Step { .. }
            | Deploy::Prepared { .. }
            | Deploy::Fetch { .. }
            | Deploy::Chunk { .. }
            | Deploy::Missing { .. } => {
                tracing::warn!("a register sent a frame that is not for gateways");
            }
        }
    }

    async fn learn(&mut self, coordinator: usize, desired: Desired) {
        if let Err(error) = desired.check() {
            tracing::warn!(%error, "a register told an impossible state");
            return;
        }
        if let Some(coordinator) = self.coordinators.get_mut(coordinator) {
            coordinator.known = Some(desired.rank());
        }
        self.keeping.adopt(desired).await;
    }

    /// Tells registers that know less.
    fn announce(&mut self) {
        let desired = self.store.desired();
        for coordinator in &mut self.coordinators {
            if let Some(sender) = &coordinator.sender
                && coordinator
                    .known
                    .is_some_and(|known| known < desired.rank())
            {
                coordinator.known = Some(desired.rank());
                // A link that has ended starts over with the whole state.
                let _ = sender.send(Deploy::State((*desired).clone()));
            }
        }
    }

    fn send(&self, frame: Deploy) -> bool {
        self.send_to(0, frame)
    }

    fn send_to(&self, coordinator: usize, frame: Deploy) -> bool {
        let sender = self
            .coordinators
            .get(coordinator)
            .and_then(|coordinator| coordinator.sender.as_ref());
        sender.is_some_and(|sender| sender.send(frame).is_ok())
    }

    fn pass_on(&mut self, number: u64, progress: Progress) {
        if progress.is_last() {
            if let Some(pending) = self.orders.remove(&number) {
                last(&pending.progress, progress);
            }
        } else if let Some(pending) = self.orders.get(&number) {
            // One who is slow to listen misses steps; one who has gone undoes nothing.
            let _ = pending.progress.try_send(progress);
        }
    }

    fn fail_all(&mut self, reason: &DeployError) {
        for (_, pending) in std::mem::take(&mut self.orders) {
            let reason = reason.clone();
            last(&pending.progress, Progress::Failed { reason });
        }
    }
}

/// The last is never left out.
fn last(progress: &mpsc::Sender<Progress>, it: Progress) {
    if let Err(TrySendError::Full(it)) = progress.try_send(it) {
        let progress = progress.clone();
        tokio::spawn(async move {
            // Whoever asked may go without having listened.
            let _ = progress.send(it).await;
        });
    }
}
