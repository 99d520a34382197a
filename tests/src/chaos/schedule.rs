//! What happens when: drawn from a seed. Pure: the same seed and length give the same faults.
//!
//! Three kinds of fault run beside each other and know nothing of each other: those of workers and of
//! the links between nodes, those of gateways and of whole machines, those of registers and versions.
//! One node has one fault at a time, its links any number.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::proxy::Stream;

/// Gateways of the fleet. A gateway and a worker of the same number are on one machine.
pub(super) const GATEWAYS: usize = 3;
/// Workers of the fleet.
pub(super) const WORKERS: usize = 3;
/// Registers of the fleet.
pub(super) const REGISTERS: usize = 2;

/// After a fault a node is left alone for so long: it is starting.
const REST_MS: u64 = 300;
/// A gateway for so long: its clients are to come back to it.
const GATEWAY_REST_MS: u64 = 2500;

/// A node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A register.
    Register(usize),
    /// A gateway.
    Gateway(usize),
    /// A worker.
    Worker(usize),
}

/// Where connections pass a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To a gateway, from workers and other gateways.
    Gateway(usize),
    /// From a gateway or a worker to a register.
    Register(Who, usize),
}

/// A version of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Another build that does the same.
    Good,
    /// Half a file.
    Half,
    /// A component that refuses to start.
    Refusing,
    /// A component that is no handler.
    Other,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// `kill -9`; it is started again at the end of the fault.
    Kill(Who),
    /// The gateway and the worker of one machine at once.
    KillMachine(usize),
    /// SIGSTOP; it goes on at the end of the fault.
    Freeze(Who),
    /// One connection is cut.
    Cut(Way, usize),
    /// One connection carries nothing.
    Hold(Way, usize),
    /// One connection carries nothing in one direction.
    Mute(Way, usize, Stream),
    /// No connection of a way carries anything.
    HoldAll(Way),
    /// The plugin is replaced; a bad version by a good one again at the end of the fault.
    Swap(Version),
}

impl What {
    /// Whether this ends a node with `kill -9`.
    #[must_use]
    pub(super) fn kills(self, who: Who) -> bool {
        match self {
            Self::Kill(it) => it == who,
            Self::KillMachine(machine) => {
                who == Who::Gateway(machine) || who == Who::Worker(machine)
            }
            Self::Freeze(_)
            | Self::Cut(..)
            | Self::Hold(..)
            | Self::Mute(..)
            | Self::HoldAll(_)
            | Self::Swap(_) => false,
        }
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// When it begins, after the start of the run.
    pub(super) at: Duration,
    /// How long it lasts.
    pub(super) lasts: Duration,
    /// What it is.
    pub(super) what: What,
}

impl Fault {
    /// When it is over.
    #[must_use]
    pub(super) fn end(&self) -> Duration {
        self.at + self.lasts
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_millis(), self.lasts.as_millis());
        write!(f, "{at:>8} ms, for {lasts:>5} ms: {:?}", self.what)
    }
}

/// The faults of a run, by their begin. The last one is over at `length`.
#[must_use]
pub(super) fn schedule(seed: u64, length: Duration) -> Vec<Fault> {
    let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut draw = Draw {
        rng: StdRng::seed_from_u64(seed),
        faults: Vec::new(),
        length,
    };
    draw.workers_and_links();
    draw.gateways();
    draw.registers_and_versions();
    draw.faults.sort_by_key(|fault| fault.at);
    draw.faults
}

struct Draw {
    rng: StdRng,
    faults: Vec<Fault>,
    length: u64,
}

impl Draw {
    /// Workers die and freeze, links to gateways are cut, held and half held.
    fn workers_and_links(&mut self) {
        let mut free = [0; WORKERS];
        let mut now = 500;
        while now < self.length {
            let worker = self.rng.random_range(0..WORKERS);
            let way = Way::Gateway(self.rng.random_range(0..GATEWAYS));
            let nth = self.rng.random_range(0..16);
            let is_free = free.get(worker).is_some_and(|free| *free <= now);
            let (what, lasts) = match self.rng.random_range(0..36) {
                0..=3 if is_free => (What::Kill(Who::Worker(worker)), self.lasts(100, 2000)),
                4..=14 if is_free => (What::Freeze(Who::Worker(worker)), self.lasts(200, 4500)),
                15..=20 => (What::Hold(way, nth), self.lasts(200, 4500)),
                21..=26 => (What::Mute(way, nth, self.stream()), self.lasts(200, 4500)),
                27 => {
                    self.all_workers(now, &mut free);
                    now += self.lasts(1000, 2000);
                    continue;
                }
                _ => (What::Cut(way, nth), 0),
            };
            if let (What::Kill(_) | What::Freeze(_), Some(free)) = (what, free.get_mut(worker)) {
                *free = now + lasts + REST_MS;
            }
            self.add(now, lasts, what);
            now += self.rng.random_range(50..1500);
        }
    }

    /// No worker is there for a moment.
    fn all_workers(&mut self, now: u64, free: &mut [u64; WORKERS]) {
        for (worker, free) in free.iter_mut().enumerate() {
            if *free <= now {
                let lasts = self.lasts(100, 1500);
                self.add(now, lasts, What::Kill(Who::Worker(worker)));
                *free = now + lasts + REST_MS;
            }
        }
    }

    /// Whether nothing is done to a worker in this time.
    fn is_left_alone(&self, worker: usize, from: u64, to: u64) -> bool {
        let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
        !self.faults.iter().any(|fault| {
            let its = matches!(fault.what, What::Kill(who) | What::Freeze(who) if who == Who::Worker(worker));
            its && fault.at <= to && from <= fault.end()
        })
    }

    /// Gateways are lost, or seem to be, alone or with their machines; now and then two at a time.
    fn gateways(&mut self) {
        let mut free = [0; GATEWAYS];
        let mut now = self.lasts(500, 4000);
        while now < self.length {
            let number = self.rng.random_range(0..GATEWAYS);
            let lasts = match free.get(number) {
                Some(free) if *free <= now => self.gateway(now, number),
                _ => 0,
            };
            if let (Some(free), 1..) = (free.get_mut(number), lasts) {
                *free = now + lasts + GATEWAY_REST_MS;
            }
            now += self.rng.random_range(500..7000);
        }
    }

    /// One gateway is lost, or seems to be. Returns for how long.
    fn gateway(&mut self, now: u64, number: usize) -> u64 {
        let gateway = Who::Gateway(number);
        match self.rng.random_range(0..8) {
            0..=1 => {
                let lasts = self.lasts(50, 2000);
                self.add(now, lasts, What::Kill(gateway));
                lasts
            }
            2..=4 => {
                let lasts = self.lasts(50, 2000);
                let since = now.saturating_sub(REST_MS);
                if !self.is_left_alone(number, since, now + lasts + REST_MS) {
                    return 0;
                }
                self.add(now, lasts, What::KillMachine(number));
                lasts
            }
            5 => {
                let lasts = self.lasts(200, 1500);
                self.add(now, lasts, What::Freeze(gateway));
                lasts
            }
            6 => {
                let lasts = self.lasts(4500, 6000);
                self.add(now, lasts, What::Freeze(gateway));
                lasts
            }
            _ => {
                // Cut off from the registers only: it serves, and is declared lost.
                let lasts = self.lasts(4500, 6000);
                for register in 0..REGISTERS {
                    self.add(now, lasts, What::HoldAll(Way::Register(gateway, register)));
                }
                lasts
            }
        }
    }

    fn stream(&mut self) -> Stream {
        if self.rng.random() {
            Stream::FromDialler
        } else {
            Stream::ToDialler
        }
    }

    /// Registers die and freeze, links to them are cut and held, versions come.
    fn registers_and_versions(&mut self) {
        let mut now = 1000;
        let mut free = [0; REGISTERS];
        let mut file_free = 0;
        while now < self.length {
            let register = self.rng.random_range(0..REGISTERS);
            let is_free = free.get(register).is_some_and(|free| *free <= now);
            let node = if self.rng.random() {
                Who::Gateway(self.rng.random_range(0..GATEWAYS))
            } else {
                Who::Worker(self.rng.random_range(0..WORKERS))
            };
            let way = Way::Register(node, register);
            let (what, lasts) = match self.rng.random_range(0..10) {
                0..=1 if is_free => (What::Kill(Who::Register(register)), self.lasts(50, 2500)),
                2 if is_free => (What::Freeze(Who::Register(register)), self.lasts(200, 5000)),
                3..=4 => (What::Cut(way, 0), 0),
                5 => (What::Hold(way, 0), self.lasts(200, 5000)),
                6 => (What::Mute(way, 0, self.stream()), self.lasts(200, 5000)),
                7 if file_free <= now => (What::Swap(self.bad()), self.lasts(300, 1200)),
                _ if file_free <= now => (What::Swap(Version::Good), 0),
                _ => (What::Cut(way, 0), 0),
            };
            match (what, free.get_mut(register)) {
                (What::Kill(_) | What::Freeze(_), Some(free)) => *free = now + lasts + REST_MS,
                (What::Swap(_), _) => file_free = now + lasts + REST_MS,
                _ => {}
            }
            self.add(now, lasts, what);
            now += self.rng.random_range(300..2500);
        }
    }

    fn bad(&mut self) -> Version {
        match self.rng.random_range(0..3) {
            0 => Version::Half,
            1 => Version::Refusing,
            _ => Version::Other,
        }
    }

    fn lasts(&mut self, min: u64, max: u64) -> u64 {
        self.rng.random_range(min..max)
    }

    /// What would last longer than the run is left out.
    fn add(&mut self, at: u64, lasts: u64, what: What) {
        if at + lasts <= self.length {
            self.faults.push(Fault {
                at: Duration::from_millis(at),
                lasts: Duration::from_millis(lasts),
                what,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        assert_eq!(schedule(7, MINUTE), schedule(7, MINUTE));
        assert_ne!(schedule(7, MINUTE), schedule(8, MINUTE));
    }

    #[test]
    fn faults_of_one_node_do_not_overlap_and_all_end_in_time() {
        for seed in 0..200 {
            let mut busy = std::collections::BTreeMap::new();
            for fault in schedule(seed, MINUTE) {
                assert!(fault.end() <= MINUTE, "seed {seed}: {fault}");
                let concerned = match fault.what {
                    What::Kill(who) | What::Freeze(who) => vec![who],
                    What::KillMachine(number) => vec![Who::Gateway(number), Who::Worker(number)],
                    What::Cut(..)
                    | What::Hold(..)
                    | What::Mute(..)
                    | What::HoldAll(_)
                    | What::Swap(_) => vec![],
                };
                for who in concerned {
                    let until = busy.insert(who, fault.end());
                    assert!(until.is_none_or(|it| it < fault.at), "seed {seed}: {fault}");
                }
            }
        }
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let faults: Vec<_> = (0..50).flat_map(|seed| schedule(seed, MINUTE)).collect();
        for kind in [
            "Kill(Reg",
            "Kill(Gat",
            "Kill(Wor",
            "KillMachine",
            "Freeze(Reg",
            "Freeze(Gat",
            "Freeze(Wor",
            "Cut(Gat",
            "Cut(Reg",
            "Hold(Gat",
            "Hold(Reg",
            "Mute(Gat",
            "Mute(Reg",
            "HoldAll(Reg",
            "Good",
            "Half",
            "Refusing",
            "Other",
        ] {
            let drawn = faults.iter().filter(|it| it.to_string().contains(kind));
            assert!(drawn.count() > 0, "no {kind}");
        }
    }
}
