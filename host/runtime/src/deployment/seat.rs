//! A seat: the task that owns one instance and runs the events of its clients, one at a time.
//!
//! Clients take turns; each client's events keep their order. An instance that breaks is dropped and
//! built again, and its event is tried once more, when its client has its next turn; if that breaks
//! too, the event is set aside, and what its client sends then runs in quarantine. So does what
//! was under way at two worker losses and, while instances break often, whoever comes anew. A seat
//! never stops serving: while no instance can be built it waits, and its mailbox with it. Between two
//! events it obeys orders: take over a new version, retire, or finish.
//!
//! While its version is on trial the seat has an instance of the one before too, as soon as that is
//! needed: the second try is there, and all that must not go on under the new one.
//!
//! Between two events it also tells its instance what others say to it (seat/peers).
//!
//! The quarantine is a seat too, with a fresh instance for each event. So are a canary's seats, which
//! begin when others have passed their marks, and retire by giving back what still waits.

mod event;
mod lanes;
mod peers;
mod runner;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_wire::event::EventKind;
use tidegate_wire::id::ClientId;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::hand_over::Parties;
use super::messages::{Held, SeatMessage};
use super::meters::Meters;
use super::peers::PeerReceiver;
use super::probation::Probation;
use super::routes::{RouteKind, RoutePlace, seat_of};
use super::settings::Rollout;
use super::starting::Started;
use super::suspects::{Suspects, Treatment};
use super::ticket::Ticket;
use crate::dead_letter::DeadLetters;
use crate::engine::Runtime;
use crate::version::Version;
use lanes::Lanes;
use runner::Runner;

/// How long a seat runs before it lets other tasks of its thread run.
const TURN_MAX: Duration = Duration::from_millis(1);
/// Worker losses after which an event runs alone.
const LOSSES_MAX: u8 = 2;
/// Clients that came while instances broke often, of one seat; more are trusted.
const NEWCOMERS_MAX: usize = 4096;

/// What a seat is told.
pub(super) enum Order {
    /// Serve this version from now on.
    TakeOver {
        version: Arc<Version>,
        /// None for quarantine, which builds its own.
        started: Option<Box<Started>>,
        /// If it is on trial.
        probation: Option<Arc<Probation>>,
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
    pub(super) suspects: Suspects,
    pub(super) meters: Arc<Meters>,
    pub(super) tasks: TaskTracker,
}

pub(super) struct Seat {
    number: u32,
    common: Arc<Common>,
    own: Runner,
    /// The version before, while its own is on trial.
    before: Option<Runner>,
    kind: RouteKind,
    orders: mpsc::Receiver<Order>,
    /// What other instances say.
    peers: PeerReceiver,
    stopping: bool,
    /// Events that wait for their turn.
    lanes: Lanes,
    /// Instances break often: whoever comes anew runs alone.
    guarded: bool,
    /// Clients that came while that was so.
    newcomers: HashSet<ClientId>,
    /// How a version on trial does.
    probation: Option<Arc<Probation>>,
    /// What must be passed before it begins.
    after: Vec<oneshot::Receiver<()>>,
    /// Clients that come back from a canary.
    held: Option<Box<Held>>,
    /// What is left for others, once it is retired.
    aside: Option<Vec<Ticket>>,
    /// It has given that away, and ends.
    left: bool,
    /// The clock, as it was read when the last event ended, or whatever else took time. Reading it costs
    /// as much as much of what is done for an event.
    now: Instant,
}

impl Seat {
    /// A seat that has started; the quarantine has no instance.
    pub(super) fn new(
        place: RoutePlace<'_>,
        started: Option<Started>,
        orders: mpsc::Receiver<Order>,
        peers: PeerReceiver,
    ) -> Self {
        let number = u32::try_from(place.number).unwrap_or(u32::MAX);
        let seat = Self {
            number,
            common: Arc::clone(place.common),
            own: Runner::new(Arc::clone(place.version), number, started),
            before: before(place.probation.as_ref(), number),
            kind: place.kind,
            orders,
            peers,
            stopping: false,
            lanes: Lanes::default(),
            guarded: false,
            newcomers: HashSet::new(),
            probation: place.probation,
            after: place.after,
            held: None,
            aside: None,
            left: false,
            now: Instant::now(),
        };
        seat.listen();
        seat
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        let tenant = &self.own.version.identity.tenant;
        if matches!(self.kind, RouteKind::Quarantine) {
            format!("the quarantine of tenant {tenant}")
        } else {
            format!("seat {} of tenant {tenant}", self.number)
        }
    }

    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<SeatMessage>) {
        if !self.begin().await {
            return;
        }
        self.now = Instant::now();
        let mut turn = self.now;
        while !self.left {
            if !self.orders.is_empty() {
                self.obey_waiting().await;
            }
            if self.orders.is_closed() && !self.stopping {
                // The deployment is gone: what waits is given back as it is dropped.
                return;
            }
            if self.stopping {
                mailbox.close();
            }
            // All that has come is known before it is decided whose turn it is.
            while !self.left
                && self.has_room()
                && let Ok(mail) = mailbox.try_recv()
            {
                if self.held.is_none()
                    && let SeatMessage::Event(ticket) = mail
                {
                    self.take(ticket);
                } else {
                    self.sort(mail).await;
                }
            }
            self.end_trial();
            // One between two events, so that neither keeps the others waiting.
            if let Some(message) = self.peers.try_next() {
                self.hear(&message).await;
            }
            if self.can_run() {
                self.run_next().await;
            } else if !self.left {
                let goes_on = self.wait(&mut mailbox).await;
                self.now = Instant::now();
                if !goes_on {
                    break;
                }
                turn = self.now;
            }
            if self.now.saturating_duration_since(turn) > TURN_MAX {
                tokio::task::yield_now().await;
                self.now = Instant::now();
                turn = self.now;
            }
        }
        if self.held.is_some() {
            let back = come_back(&mut self.held).await;
            self.now = Instant::now();
            self.welcome(back);
            while self.can_run() {
                self.run_next().await;
            }
        }
        let before = self.before.and_then(|it| it.instance);
        for instance in self.own.instance.into_iter().chain(before) {
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

    /// Whether an event can run now: one waits, and an instance is there or may be built.
    fn can_run(&self) -> bool {
        let is_paused = || self.paused().is_some_and(|until| until > Instant::now());
        !self.lanes.is_empty() && (self.stopping || !is_paused())
    }

    /// Until when nothing can run. What its own version cannot run now the one before can.
    fn paused(&self) -> Option<Instant> {
        self.before.as_ref().unwrap_or(&self.own).paused()
    }

    /// The version before goes once its successor is trusted.
    fn end_trial(&mut self) {
        if self.probation.take_if(|it| it.is_over()).is_some() {
            let before = self.before.take();
            self.stop_beside(before);
            self.listen();
        }
    }

    /// Says goodbye beside the events that follow.
    fn stop_beside(&self, runner: Option<Runner>) {
        if let Some(instance) = runner.and_then(|it| it.instance) {
            self.common.tasks.spawn(instance.stop());
        }
    }

    /// Waits for whatever comes first: mail, orders, clients that come back, the end of a pause. False
    /// when nothing will come any more.
    async fn wait(&mut self, mailbox: &mut mpsc::Receiver<SeatMessage>) -> bool {
        let room = self.has_room();
        let pause = self.paused().filter(|_| !self.lanes.is_empty());
        let trial = self.probation.clone();
        tokio::select! {
            biased;
            order = self.orders.recv(), if !self.stopping => {
                // That none will come is seen by the caller.
                if let Some(order) = order {
                    self.obey(order).await;
                }
            }
            back = come_back(&mut self.held) => self.welcome(back),
            () = until(pause) => {}
            () = trial_over(trial) => {}
            mail = mailbox.recv(), if room => match mail {
                Some(mail) => self.sort(mail).await,
                None => return !self.lanes.is_empty(),
            },
            message = self.peers.next(), if self.peers.listens() => {
                self.now = Instant::now();
                self.hear(&message).await;
            }
        }
        true
    }

    async fn sort(&mut self, mail: SeatMessage) {
        if let Some(held) = &mut self.held
            && let Ok(back) = held.back.try_recv()
        {
            self.welcome(back);
        }
        match mail {
            SeatMessage::Event(ticket) => self.take(ticket),
            SeatMessage::Mark(passed) => self.pass(passed),
            SeatMessage::Return(held) => {
                // One way back at a time; should there be two, in their order.
                if self.held.is_some() {
                    let back = come_back(&mut self.held).await;
                    self.now = Instant::now();
                    self.welcome(back);
                }
                self.held = Some(held);
            }
            SeatMessage::Leave(receivers) => self.leave(receivers),
        }
    }

    fn take(&mut self, ticket: Ticket) {
        if let Some(aside) = &mut self.aside {
            aside.push(ticket);
        } else if let Some(held) = &mut self.held
            && held.share.takes(ticket.client())
        {
            held.tickets.push_back(ticket);
        } else if self.must_be_alone(&ticket) {
            self.send_into_quarantine(ticket);
        } else {
            self.lanes.push(ticket);
        }
    }

    fn must_be_alone(&mut self, ticket: &Ticket) -> bool {
        let delivery = &ticket.job().delivery;
        match self.kind {
            RouteKind::Quarantine => return false,
            _ if delivery.losses >= LOSSES_MAX || ticket.follows_into_quarantine() => return true,
            RouteKind::Canary { .. } => return false,
            RouteKind::Own { .. } => {}
        }
        if self.treatment(delivery.client) != Treatment::Good {
            return true;
        }
        if !self.guarded {
            return false;
        }
        // As long as somebody breaks something, here or in quarantine.
        self.guarded = self.common.suspects.broke_of_late(Instant::now());
        match delivery.kind {
            _ if !self.guarded => {
                self.newcomers = HashSet::new();
                false
            }
            _ if !delivery.kind.is_of_client() => true,
            EventKind::Connect { .. } if self.newcomers.len() < NEWCOMERS_MAX => {
                self.newcomers.insert(delivery.client);
                true
            }
            EventKind::Connect { .. }
            | EventKind::Message(_)
            | EventKind::Request { .. }
            | EventKind::Timer { .. }
            | EventKind::BufferFull { .. }
            | EventKind::BufferDrain
            | EventKind::Handshake { .. }
            | EventKind::Http { .. }
            | EventKind::Task { .. }
            | EventKind::TaskFinished { .. } => self.newcomers.contains(&delivery.client),
            EventKind::Close(_) => self.newcomers.remove(&delivery.client),
        }
    }

    fn treatment(&self, client: ClientId) -> Treatment {
        // Almost always nobody is suspect, and no clock is read.
        if self.common.suspects.any() {
            return self.common.suspects.treatment(client, Instant::now());
        }
        Treatment::Good
    }

    /// Behind what its client has there. Without room there it is given back as it is dropped.
    fn send_into_quarantine(&self, mut ticket: Ticket) {
        if let RouteKind::Own { quarantine } | RouteKind::Canary { quarantine } = &self.kind {
            ticket.quarantine();
            drop(quarantine.try_send(SeatMessage::Event(ticket)));
        }
    }

    fn pass(&mut self, passed: oneshot::Sender<()>) {
        match &mut self.held {
            Some(held) => held.marks.push(passed),
            None => self.lanes.mark(passed),
        }
    }

    /// Whether more may be read: what waits here is bounded as what waits in the mailbox.
    fn has_room(&self) -> bool {
        let held = self.held.as_ref().map_or(0, |held| held.tickets.len());
        held + self.lanes.len() < self.common.mailbox_events
    }

    /// Clients are back, with the events that they had waiting: those first, then the held ones.
    fn welcome(&mut self, back: Vec<Ticket>) {
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
            self.take(ticket);
        }
        for mark in marks.into_iter().chain([done]) {
            self.pass(mark);
        }
    }

    /// Gives each of the other seats what it has to run now.
    fn leave(&mut self, receivers: Vec<(usize, oneshot::Sender<Vec<Ticket>>)>) {
        let mut aside = self.aside.take().unwrap_or_default();
        aside.extend(self.lanes.drain());
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
            Order::Retire => self.aside = Some(self.lanes.drain()),
            Order::TakeOver {
                version,
                started,
                probation,
                done,
            } => {
                self.take_over(version, started, probation).await;
                self.now = Instant::now();
                // Nobody waits if the swap was given up.
                let _ = done.send(());
            }
        }
    }

    async fn take_over(
        &mut self,
        version: Arc<Version>,
        started: Option<Box<Started>>,
        probation: Option<Arc<Probation>>,
    ) {
        let earlier = std::mem::replace(&mut self.before, before(probation.as_ref(), self.number));
        self.stop_beside(earlier);
        if self.before.is_some() {
            // Each event has its two tries again: under this version and the one before.
            self.lanes.forgive();
        }
        self.probation = probation;
        self.guarded = false;
        self.newcomers = HashSet::new();
        let new = Runner::new(version, self.number, started.map(|it| *it));
        let mut old = std::mem::replace(&mut self.own, new);
        let (last, first) = match (old.instance.take(), self.own.instance.take()) {
            (Some(last), Some(first)) => {
                let parties = Parties {
                    old: &old.version.identity,
                    new: &self.own.version.identity,
                    seat: self.number,
                    rollout: &self.common.rollout,
                    meters: &self.common.meters,
                };
                parties.hand_over(last, first).await
            }
            others => others,
        };
        self.own.instance = first;
        old.instance = last;
        self.listen();
        self.stop_beside(Some(old));
    }
}

/// The version before one on trial. It is started when it is needed.
fn before(probation: Option<&Arc<Probation>>, number: u32) -> Option<Runner> {
    let version = probation?.before.clone()?;
    Some(Runner::new(version, number, None))
}

/// Pending without a trial.
async fn trial_over(probation: Option<Arc<Probation>>) {
    match probation {
        Some(probation) => probation.tally.over().await,
        None => std::future::pending().await,
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

/// Pending without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
