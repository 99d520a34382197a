//! A network without sockets: connections whose bytes arrive late, wait, or never come, as the
//! seed says. Within one direction of a connection nothing is reordered.
//!
//! Every delay is at least [`STEP_MS`], the time that the world lets each process run alone: what
//! a process sends in a step can reach another one only in a later step. Each connection draws its
//! delays from a generator of its own, so that they do not depend on the order in which tasks of
//! one process write.

mod clock;
mod dial;
mod stream;
mod way;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use rand::SeedableRng;
use rand::rngs::SmallRng;

pub(crate) use clock::Clock;
pub(crate) use dial::{Dialer, Socket};
use way::{Connection, Way};

/// How long processes run without seeing each other.
pub(crate) const STEP_MS: u64 = 10;
/// Bytes that one direction holds before its writer waits.
const WAY_BYTES_MAX: usize = 64 << 10;

/// A machine. It keeps its number over the lives of the process on it.
pub(crate) type Host = usize;

#[derive(Debug)]
pub(crate) struct Net {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seed: u64,
    /// The end of the current step.
    now_ms: u64,
    listeners: BTreeMap<SocketAddr, Listener>,
    connections: BTreeMap<u64, Connection>,
    made: u64,
    blocked: BTreeSet<(Host, Host)>,
}

#[derive(Debug)]
struct Listener {
    host: Host,
    incoming: VecDeque<(u64, u64)>,
    waker: Option<Waker>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            seed,
            now_ms: 0,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            made: 0,
            blocked: BTreeSet::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step up to this time begins.
    pub(crate) fn tick(&self, now_ms: u64) {
        self.state().now_ms = now_ms;
    }

    pub(crate) fn listen(
        self: &Arc<Self>,
        host: Host,
        address: SocketAddr,
        clock: Clock,
    ) -> Socket {
        let listener = Listener {
            host,
            incoming: VecDeque::new(),
            waker: None,
        };
        self.state().listeners.insert(address, listener);
        Socket {
            net: self.clone(),
            address,
            clock,
        }
    }

    pub(crate) fn dialer(self: &Arc<Self>, host: Host, clock: Clock) -> Arc<Dialer> {
        Arc::new(Dialer {
            net: self.clone(),
            host,
            clock,
        })
    }

    /// Changes connections and then wakes whoever is concerned.
    fn change(&self, mut change: impl FnMut(&mut Connection, u64) -> bool) {
        let mut wake = Vec::new();
        let mut state = self.state();
        let now = state.now_ms;
        for connection in state.connections.values_mut() {
            if change(connection, now) {
                connection.wakers(&mut wake);
            }
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Lets bytes from one host reach another, or holds them.
    pub(crate) fn set_blocked(&self, from: Host, to: Host, blocked: bool) {
        let mut state = self.state();
        if blocked {
            state.blocked.insert((from, to));
        } else {
            state.blocked.remove(&(from, to));
        }
        drop(state);
        self.change(|connection, now| {
            let hosts = connection.hosts;
            for (way, (a, b)) in [(0, (hosts[0], hosts[1])), (1, (hosts[1], hosts[0]))] {
                if (a, b) == (from, to) {
                    connection.ways[way].block(blocked, now, &mut connection.rng);
                }
            }
            true
        });
    }

    /// The process of this host has gone. With `silently` nobody is told.
    pub(crate) fn gone(&self, host: Host, silently: bool) {
        self.state().listeners.retain(|_, it| it.host != host);
        self.change(|connection, now| {
            let concerned = connection.hosts.contains(&host);
            if concerned && silently {
                for way in &mut connection.ways {
                    way.block(true, now, &mut connection.rng);
                    way.dead = true;
                }
            }
            concerned
        });
    }

    /// The connections, with their hosts.
    pub(crate) fn connections(&self) -> Vec<(u64, [Host; 2])> {
        let state = self.state();
        let all = state.connections.iter();
        all.map(|(number, it)| (*number, it.hosts)).collect()
    }

    /// Lets no byte of one connection pass in either direction, or lets them go on.
    pub(crate) fn pause(&self, number: u64, paused: bool) {
        let mut wake = Vec::new();
        let mut state = self.state();
        let now = state.now_ms;
        if let Some(connection) = state.connections.get_mut(&number) {
            for way in &mut connection.ways {
                way.pause(paused, now, &mut connection.rng);
            }
            connection.wakers(&mut wake);
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Breaks one connection: both ends learn of it, what is on the way is lost.
    pub(crate) fn cut(&self, number: u64) {
        let mut wake = Vec::new();
        let mut state = self.state();
        let now = state.now_ms;
        if let Some(connection) = state.connections.get_mut(&number) {
            connection.cut(now);
            connection.wakers(&mut wake);
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn is_blocked(&self, a: Host, b: Host) -> bool {
        self.blocked.contains(&(a, b)) || self.blocked.contains(&(b, a))
    }

    /// A connection to whoever listens there, and when the listener sees it.
    fn connect(&mut self, from: Host, to: SocketAddr, now: u64) -> Option<(u64, Option<Waker>)> {
        let listener = self.listeners.get_mut(&to)?;
        let number = self.made;
        self.made += 1;
        let seed = self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let connection = Connection {
            hosts: [from, listener.host],
            ways: [Way::default(), Way::default()],
            rng: SmallRng::seed_from_u64(seed),
            dropped: [[false; 2]; 2],
        };
        self.connections.insert(number, connection);
        listener.incoming.push_back((now + STEP_MS, number));
        Some((number, listener.waker.take()))
    }
}
