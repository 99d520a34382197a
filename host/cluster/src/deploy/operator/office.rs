//! The operator's one task: which orders and questions are under way, and the gateway's own copy
//! of the desired state.

use std::collections::BTreeMap;

use tidegate_link::LinkSender;
use tidegate_link::deadline;
use tidegate_wire::deploy::{Deploy, DeployError, Desired, Overview, Progress};
use tidegate_wire::frame::Frame;
use tidegate_wire::id::Incarnation;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{MAIL_MAX, Mail};
use crate::deploy::Store;
use crate::deploy::keeping::Keeping;
use crate::deploy::transfer::Offer;
use crate::deploy::uplink::News;

#[derive(Debug, Default)]
struct DeskLink {
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
pub(super) struct Office {
    store: Store,
    keeping: Keeping,
    register: String,
    desks: Vec<DeskLink>,
    up: watch::Sender<bool>,
    orders: BTreeMap<u64, Pending>,
    /// With the desk that was asked.
    asks: BTreeMap<u64, (usize, oneshot::Sender<Overview>)>,
    /// Counts orders and questions.
    next: u64,
}

impl Office {
    pub(super) fn new(
        desks: usize,
        store: Store,
        keeping: Keeping,
        register: String,
        up: watch::Sender<bool>,
    ) -> Self {
        Self {
            store,
            keeping,
            register,
            desks: (0..desks).map(|_| DeskLink::default()).collect(),
            up,
            orders: BTreeMap::new(),
            asks: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) async fn run(mut self, mut letters: mpsc::Receiver<Mail>, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                read = letters.recv_many(&mut batch, MAIL_MAX) => if read == 0 { break },
                () = deadline::reached(self.keeping.deadline()) => {}
            }
            for letter in batch.drain(..) {
                self.read(letter).await;
            }
            self.keeping.in_time().await;
            self.spread();
        }
        self.fail_all(&DeployError::Stopping);
    }

    async fn read(&mut self, letter: Mail) {
        match letter {
            Mail::News(desk, News::Up(sender)) => {
                if let Some(desk) = self.desks.get_mut(desk) {
                    let sender = Some(sender);
                    *desk = DeskLink {
                        sender,
                        known: None,
                    };
                }
                if desk == 0 {
                    self.up.send_replace(true);
                }
            }
            Mail::News(desk, News::Down) => {
                if let Some(desk) = self.desks.get_mut(desk) {
                    *desk = DeskLink::default();
                }
                self.asks.retain(|_, (asked, _)| *asked != desk);
                if desk == 0 {
                    self.up.send_replace(false);
                    let register = self.register.clone();
                    self.fail_all(&DeployError::RegisterLost { register });
                }
            }
            Mail::News(desk, News::Said(frame)) => self.hear(desk, frame).await,
            Mail::Order {
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
            Mail::Ask { first, other } => {
                self.asks.retain(|_, (_, answer)| !answer.is_closed());
                self.ask(0, first);
                let linked = |(_, desk): &(usize, &DeskLink)| desk.sender.is_some();
                let second = self.desks.iter().enumerate().skip(1).find(linked);
                if let (Some(other), Some((desk, _))) = (other, second) {
                    self.ask(desk, other);
                }
            }
        }
    }

    /// Whoever asks a desk without a link is told at once that it does not answer.
    fn ask(&mut self, desk: usize, answer: oneshot::Sender<Overview>) {
        self.next += 1;
        let number = self.next;
        if self.send_to(desk, Deploy::Ask { number }) {
            self.asks.insert(number, (desk, answer));
        }
    }

    async fn hear(&mut self, desk: usize, frame: Deploy) {
        match frame {
            Deploy::State(desired) => self.learn(desk, desired).await,
            Deploy::Progress { number, progress } if desk == 0 => self.pass_on(number, progress),
            Deploy::Answer { number, overview } => {
                let asked = self.asks.get(&number).is_some_and(|(it, _)| *it == desk);
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

    async fn learn(&mut self, desk: usize, desired: Desired) {
        if let Err(error) = desired.check() {
            tracing::warn!(%error, "a register told an impossible state");
            return;
        }
        if let Some(desk) = self.desks.get_mut(desk) {
            desk.known = Some(desired.rank());
        }
        self.keeping.adopt(desired).await;
    }

    /// Tells registers that know less.
    fn spread(&mut self) {
        let desired = self.store.desired();
        for desk in &mut self.desks {
            if let Some(sender) = &desk.sender
                && desk.known.is_some_and(|known| known < desired.rank())
            {
                desk.known = Some(desired.rank());
                // A link that has ended starts over with the whole state.
                let _ = sender.send(Frame::Deploy(Box::new(Deploy::State((*desired).clone()))));
            }
        }
    }

    fn send(&self, frame: Deploy) -> bool {
        self.send_to(0, frame)
    }

    fn send_to(&self, desk: usize, frame: Deploy) -> bool {
        let sender = self.desks.get(desk).and_then(|desk| desk.sender.as_ref());
        sender.is_some_and(|sender| sender.send(Frame::Deploy(Box::new(frame))).is_ok())
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
