//! A shard's thread: takes what others have for it and gives each parcel to its owner.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tidegate_hub::lanes::WorkerKey;
use tidegate_link::net::admission::Admitted;
use tidegate_watchdog::{self as watchdog, Pulse};
use tidegate_wire::Name;
use tidegate_wire::event::CloseReason;
use tidegate_wire::task::Step;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use super::links;
use super::{Shard, State, clients, timers};
use crate::gateway::clients::connection::home::Home;
use crate::gateway::clients::handshake;
use crate::gateway::clients::pings;
use crate::gateway::shared::inbox::{Incoming, Parcel};
use crate::gateway::shared::socket::LocalSocket;

/// How often lanes that had nowhere to go look again.
const RETRY: Duration = Duration::from_millis(100);
/// After so many of these it says how it is with each tenant.
const READING: u32 = 5;

/// Runs the shard until it is told to stop.
pub(in crate::gateway) async fn run(shard: Rc<Shard>) {
    for listener in 0..shard.context.settings.listeners.len() {
        tokio::task::spawn_local(pings::turn(shard.clone(), listener));
    }
    tokio::task::spawn_local(wake_links(shard.clone()));
    tokio::task::spawn_local(timers::run(shard.clone()));
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut parcels = Vec::new();
    let mut ticks = 0_u32;
    let pulse = Pulse::new(format!("shard {}", shard.index));
    let own = Rc::downgrade(&shard);
    watchdog::set_soundness(move || {
        let shard = own.upgrade();
        shard.is_none_or(|shard| shard.state.try_borrow().is_ok())
    });
    let Some(inbox) = shard.context.inboxes.get(usize::from(shard.index)) else {
        return;
    };
    loop {
        pulse.beat();
        tokio::select! {
            biased;
            // First, since a full inbox must not keep the clock from its turn.
            _ = retry.tick() => {
                let mut state = shard.state.borrow_mut();
                state.clock();
                state.look_at_wall_clock();
                state.expire_requests();
                state.route_unrouted();
                state.resume_tasks();
                state.pump_all_waiting();
                state.name_waiting();
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(READING) {
                    state.tell_slowness();
                    state.name_late();
                }
                state.look_at_memory();
                state.finish_turn();
            }
            () = inbox.take(&mut parcels) => {}
            // What is bulk waits for whatever else there is.
            () = tokio::task::yield_now(), if shard.has_reviews() => {}
        }
        if !parcels.is_empty() {
            shard.state.borrow_mut().clock();
        }
        for parcel in parcels.drain(..) {
            if matches!(parcel, Parcel::Stop) {
                shard.state.borrow_mut().clients.tell_cuts();
                return inbox.close();
            }
            shard.take(parcel);
        }
        shard.state.borrow_mut().finish_turn();
    }
}

/// Wakes whoever reads what was sent, behind all clients that can be read now.
async fn wake_links(shard: Rc<Shard>) {
    let bell = shard.state.borrow().workers.bell();
    loop {
        bell.notified().await;
        shard.state.borrow_mut().workers.wake_all();
    }
}

/// An IPv4 client of a listener for both families is told as what it is: `1.2.3.4`, not
/// `::ffff:1.2.3.4`.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Shard {
    /// Whether custodians are still to be looked at.
    fn has_reviews(&self) -> bool {
        self.state.borrow().custody.reviews() > 0
    }

    fn take(self: &Rc<Self>, parcel: Parcel) {
        if let Parcel::Incoming(incoming) = parcel {
            match incoming {
                Incoming::Client {
                    socket,
                    listener,
                    stranger,
                } => self.accepted(socket, listener, stranger),
                Incoming::Local {
                    socket,
                    listener,
                    address,
                } => self.accepted_local(socket, listener, address),
                Incoming::Node(socket, stranger) => {
                    links::authenticate(self.clone(), socket, stranger);
                }
                Incoming::Link(link) => links::serve(self.clone(), *link),
            }
        } else if let Parcel::Question(worker, link, question) = parcel {
            self.handler_asks(worker, link, *question);
        } else if let Parcel::Call { asked, caller } = parcel {
            self.caller_asks(*asked, caller);
        } else {
            self.state.borrow_mut().take(parcel);
        }
    }

    fn accepted(
        self: &Rc<Self>,
        socket: std::net::TcpStream,
        listener: usize,
        stranger: Option<Admitted>,
    ) {
        let Some(settings) = self.listener(listener) else {
            return;
        };
        let connected = TcpStream::from_std(socket).and_then(|socket| {
            socket.set_nodelay(true)?;
            let address = canonical(socket.peer_addr()?);
            Ok((socket, address))
        });
        // A client that is gone again needs nothing.
        let Ok((socket, address)) = connected else {
            return handshake::release(&self.context, listener);
        };
        tokio::task::spawn_local(handshake::welcome(
            self.clone(),
            settings,
            listener,
            socket,
            address,
            stranger,
        ));
    }

    fn accepted_local(self: &Rc<Self>, socket: LocalSocket, index: usize, address: SocketAddr) {
        let Some(listener) = self.listener(index) else {
            return;
        };
        let shard = self.clone();
        let welcome = handshake::welcome_local(shard, listener, index, socket, address);
        tokio::task::spawn_local(welcome);
    }

    /// Commits of this shard's own events, straight from a link on the same thread.
    pub(in crate::gateway) fn commits(
        &self,
        worker: WorkerKey,
        commits: Vec<tidegate_wire::effect::Commit>,
    ) {
        let mut state = self.state.borrow_mut();
        state.clock();
        for commit in commits {
            state.commit(worker, commit);
        }
        state.finish_turn();
    }

    /// A step of a task of this shard, straight from a link on the same thread.
    pub(in crate::gateway) fn step(&self, worker: WorkerKey, step: Step) {
        let mut state = self.state.borrow_mut();
        state.clock();
        state.step(worker, step);
        state.finish_turn();
    }
}

impl State {
    fn take(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Worker(link) => self.worker_up(link),
            Parcel::Load(worker, load) => self.workers.set_load(worker, load),
            Parcel::Draining(worker) => self.worker_draining(worker),
            Parcel::Confirmed(worker, number) => self.confirmed(worker, number),
            Parcel::WorkerLost(worker) => self.worker_lost(worker, None),
            Parcel::Commits(worker, commits) => {
                for commit in commits {
                    self.commit(worker, commit);
                }
            }
            Parcel::Step(worker, step) => self.step(worker, *step),
            Parcel::Effects { tenant, effects } => {
                if let Some(tenant) = self.tenant_index(&tenant) {
                    self.apply(tenant, &effects, None);
                }
            }
            Parcel::Adopt { tenant, effects } => self.act(&tenant, effects),
            Parcel::AdoptClose(adoption) => self.adopt_lost(*adoption),
            Parcel::Request(request) => self.request(*request),
            Parcel::Tick(tick) => self.tasks.submit_tick(*tick, &self.metrics),
            Parcel::Routed {
                number,
                asked,
                worker,
            } => self.routed(number, asked, worker),
            Parcel::Watch(watcher) => self.watch(watcher),
            Parcel::Unwatch(number) => self.unwatch(number),
            Parcel::PeerUp {
                incarnation,
                sender,
                life,
            } => self.peers.up(incarnation, sender, life),
            Parcel::PeerDown(incarnation) => self.peer_down(incarnation),
            Parcel::Act {
                tenant,
                effects,
                done,
            } => {
                self.act(&tenant, effects);
                // A caller that is gone needs no answer.
                let _ = done.send(());
            }
            Parcel::Ask(gather) => {
                let part = self.part(&gather.asked);
                gather.give(&self.context, part);
            }
            Parcel::Part { number, answer } => {
                let own = self.context.settings.announced;
                self.questions.rounds().part_of_shards(own, number, answer);
            }
            Parcel::PeerPart {
                incarnation,
                number,
                answer,
            } => {
                let rounds = self.questions.rounds();
                rounds.part_of_peer(incarnation, number, *answer);
            }
            Parcel::PeerAck {
                incarnation,
                sequence,
            } => self.peer_ack(incarnation, sequence),
            Parcel::Members(members) => self.members(members),
            Parcel::Lost => self.lose(),
            Parcel::Quiesce => {
                self.clients.stop_reading();
                self.timers.end();
                self.end_tasks();
                self.end_requests();
            }
            Parcel::GoAway(deadline) => {
                for connection in self.clients.say_goodbye(deadline) {
                    connection.close(1001, clients::GOING_AWAY);
                    self.closed(&connection, CloseReason::GoingAway);
                }
            }
            // Taken by the shard itself.
            Parcel::Incoming(_) | Parcel::Question(..) | Parcel::Call { .. } | Parcel::Stop => {}
        }
    }

    pub(super) fn tenant_index(&self, tenant: &Name) -> Option<u16> {
        self.context.tenants.number(tenant)
    }
}
