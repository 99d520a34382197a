//! A seat: the task that owns one instance and drains its mailbox, event by event.
//!
//! An instance that breaks is dropped and built again, and its event is tried once more on the
//! fresh one; if that breaks too, the event is set aside and the next one runs. A seat never stops
//! serving: while no instance can be built it waits, and its mailbox with it. Between two events it
//! obeys orders: take over a new version, retire, or finish.
//!
//! The quarantine seat is one of them, with a fresh instance for each event. So are a canary's seats,
//! which begin when others have passed their marks, and retire by giving back what still waits.

mod event;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::breaker::Breaker;
use super::hand_over::Parties;
use super::mail::{Held, Mail};
use super::meters::Meters;
use super::routes::{Place, seat_of};
use super::settings::Rollout;
use super::starting::Started;
use super::tally::Tally;
use super::ticket::Ticket;
use crate::dead_letter::DeadLetters;
use crate::engine::Runtime;
use crate::host_api::OutputLog;
use crate::instance::Instance;
use crate::version::Version;

/// Taken from the mailbox at once.
const BATCH_MAX: usize = 64;
/// How long a seat runs before it lets other tasks of its thread run.
const TURN_MAX: Duration = Duration::from_millis(1);

/// What a seat is told.
pub(super) enum Order {
    /// Serve this version from now on.
    TakeOver {
        version: Arc<Version>,
        /// None for quarantine, which builds its own.
        started: Option<Box<Started>>,
        tally: Option<Arc<Tally>>,
        done: oneshot::Sender<()>,
    },
    /// Run nothing more; set it aside for the seats that the clients go back to.
    Retire,
    /// Finish what waits, run on-stop, end.
    Stop,
}

/// What all seats of a deployment share.
pub(super) struct Common {
    pub(super) runtime: Runtime,
    pub(super) rollout: Rollout,
    pub(super) seats: usize,
    pub(super) mailbox_events: usize,
    pub(super) letters: DeadLetters,
    pub(super) meters: Arc<Meters>,
    pub(super) tasks: TaskTracker,
}

pub(super) struct Seat {
    number: u32,
    common: Arc<Common>,
    version: Arc<Version>,
    output: Arc<OutputLog>,
    instance: Option<Instance>,
    quarantine: bool,
    orders: mpsc::Receiver<Order>,
    stopping: bool,
    breaker: Breaker,
    /// How long to wait before the next instance is built.
    delay: Duration,
    /// How a version on trial does.
    tally: Option<Arc<Tally>>,
    /// What must be passed before it begins.
    after: Vec<oneshot::Receiver<()>>,
    /// Clients that come back from a canary.
    held: Option<Box<Held>>,
    /// What is left for others, once it is retired.
    aside: Option<Vec<Ticket>>,
    /// It has given that away, and ends.
    left: bool,
}

impl Seat {
    /// A seat that has started; without an instance it is the quarantine.
    pub(super) fn new(
        place: Place<'_>,
        started: Option<Started>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let quarantine = started.is_none();
        let number = u32::try_from(place.number).unwrap_or(u32::MAX);
        let version = Arc::clone(place.version);
        let (instance, output) = match started {
            Some(started) => (Some(started.instance), started.output),
            None => (None, version.output(number)),
        };
        Self {
            number,
            common: Arc::clone(place.common),
            version,
            output,
            instance,
            quarantine,
            orders,
            stopping: false,
            breaker: Breaker::default(),
            delay: Duration::ZERO,
            tally: place.tally,
            after: place.after,
            held: None,
            aside: None,
            left: false,
        }
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        let tenant = &self.version.identity.tenant;
        if self.quarantine {
            format!("the quarantine of tenant {tenant}")
        } else {
            format!("seat {} of tenant {tenant}", self.number)
        }
    }

    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Mail>) {
        if !self.begin().await {
            return;
        }
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while !self.left {
            if self.stopping {
                mailbox.close();
            }
            let room = self.has_room();
            tokio::select! {
                biased;
                order = self.orders.recv(), if !self.stopping => match order {
                    Some(order) => self.obey(order).await,
                    // The deployment is gone: what waits is given back as it is dropped.
                    None => return,
                },
                back = come_back(&mut self.held) => self.welcome(back).await,
                count = mailbox.recv_many(&mut batch, BATCH_MAX), if room => {
                    if count == 0 {
                        break;
                    }
                    self.handle_batch(&mut batch).await;
                }
            }
        }
        if self.held.is_some() {
            let back = come_back(&mut self.held).await;
            self.welcome(back).await;
        }
        if let Some(instance) = self.instance.take() {
            instance.stop().await;
        }
    }

    /// Waits until the clients' earlier events are done elsewhere; false if the deployment is gone.
    async fn begin(&mut self) -> bool {
        for mut mark in std::mem::take(&mut self.after) {
            loop {
                tokio::select! {
                    biased;
                    order = self.orders.recv(), if !self.stopping => match order {
                        Some(order) => self.obey(order).await,
                        None => return false,
                    },
                    // Dropped only with the events themselves.
                    _ = &mut mark => break,
                }
            }
        }
        true
    }

    async fn handle_batch(&mut self, batch: &mut Vec<Mail>) {
        let mut turn = Instant::now();
        for mail in batch.drain(..) {
            self.obey_waiting().await;
            if let Some(held) = &mut self.held
                && let Ok(back) = held.back.try_recv()
            {
                self.welcome(back).await;
            }
            match mail {
                Mail::Event(ticket) => self.take(ticket).await,
                Mail::Mark(passed) => self.pass(passed),
                Mail::Return(held) => {
                    // One way back at a time; should there be two, in their order.
                    if self.held.is_some() {
                        let back = come_back(&mut self.held).await;
                        self.welcome(back).await;
                    }
                    self.held = Some(held);
                }
                Mail::Leave(receivers) => self.leave(receivers),
            }
            if turn.elapsed() > TURN_MAX {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
    }

    async fn take(&mut self, ticket: Ticket) {
        if let Some(aside) = &mut self.aside {
            aside.push(ticket);
        } else if let Some(held) = &mut self.held
            && held.share.takes(ticket.client())
        {
            held.tickets.push_back(ticket);
        } else {
            self.handle(ticket).await;
        }
    }

    fn pass(&mut self, passed: oneshot::Sender<()>) {
        match &mut self.held {
            Some(held) => held.marks.push(passed),
            // Nobody waits if the canary is gone.
            None => drop(passed.send(())),
        }
    }

    /// Whether more may be read: held events are bounded as those in the mailbox.
    fn has_room(&self) -> bool {
        let held = self.held.as_ref().map_or(0, |held| held.tickets.len());
        held < self.common.mailbox_events
    }

    /// Clients are back, with the events that they had waiting: those first, then the held ones.
    async fn welcome(&mut self, back: Vec<Ticket>) {
        let Some(held) = self.held.take() else {
            return;
        };
        let Held {
            tickets,
            marks,
            done,
            ..
        } = *held;
        for ticket in back.into_iter().chain(tickets) {
            self.obey_waiting().await;
            self.take(ticket).await;
        }
        for mark in marks {
            self.pass(mark);
        }
        let _ = done.send(());
    }

    /// Gives each of the other seats what it has to run now.
    fn leave(&mut self, receivers: Vec<(usize, oneshot::Sender<Vec<Ticket>>)>) {
        let mut aside = self.aside.take().unwrap_or_default();
        for (seat, receiver) in receivers {
            let of_seat = |ticket: &mut Ticket| seat_of(ticket.client(), self.common.seats) == seat;
            // In order. A receiver that is gone drops them, and so gives them back.
            let _ = receiver.send(aside.extract_if(.., of_seat).collect());
        }
        self.left = true;
    }

    async fn obey_waiting(&mut self) {
        while !self.stopping
            && let Ok(order) = self.orders.try_recv()
        {
            self.obey(order).await;
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Stop => self.stopping = true,
            Order::Retire => self.aside = Some(Vec::new()),
            Order::TakeOver {
                version,
                started,
                tally,
                done,
            } => {
                self.tally = tally;
                self.take_over(version, started).await;
                // Nobody waits if the swap was given up.
                let _ = done.send(());
            }
        }
    }

    async fn take_over(&mut self, version: Arc<Version>, started: Option<Box<Started>>) {
        let before = std::mem::replace(&mut self.version, version);
        self.output = match &started {
            Some(started) => Arc::clone(&started.output),
            None => self.version.output(self.number),
        };
        self.breaker = Breaker::default();
        self.delay = Duration::ZERO;
        let new = started.map(|started| started.instance);
        let (old, new) = match (self.instance.take(), new) {
            (Some(old), Some(new)) => {
                let parties = Parties {
                    old: &before.identity,
                    new: &self.version.identity,
                    seat: self.number,
                    rollout: &self.common.rollout,
                    meters: &self.common.meters,
                };
                parties.hand_over(old, new).await
            }
            others => others,
        };
        self.instance = new;
        // The old one says goodbye beside the new one's first events.
        if let Some(old) = old {
            self.common.tasks.spawn(old.stop());
        }
    }

    /// Waits as long as the breaker said, but obeys: a new version ends the wait.
    async fn wait_before_rebuild(&mut self) {
        let delay = std::mem::take(&mut self.delay);
        if delay.is_zero() || self.stopping {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            order = self.orders.recv() => match order {
                Some(order) => self.obey(order).await,
                None => self.stopping = true,
            },
        }
    }
}

/// What clients that come back had waiting; pending while none do.
async fn come_back(held: &mut Option<Box<Held>>) -> Vec<Ticket> {
    match held {
        // If the canary is gone, so are the events: given back.
        Some(held) => (&mut held.back).await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}
