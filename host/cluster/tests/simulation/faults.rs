//! What goes wrong, and how it is put right again.

use std::sync::Arc;

use rand::RngExt;

use crate::handlers::serving;
use crate::network::Host;
use crate::process::LEASE;
use crate::world::{Kind, World};

/// So long after the loss of a machine, closes of its gateways may be still to be told.
const TELLING_MS: u64 = 1_500;

/// How a fault ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    Start(Host),
    Thaw(Host),
    /// It serves its tenant again.
    Serve(Host),
    /// Bytes flow again.
    Unblock(Vec<(Host, Host)>),
    /// Bytes flow again on this connection.
    Resume(u64),
}

impl World {
    /// Perhaps something goes wrong now.
    pub(crate) fn harm(&mut self) {
        if self.rng.random_range(0..1000) >= self.plan.faults {
            return;
        }
        match self.rng.random_range(0..6) {
            0 => self.cut_link(),
            1 if self.plan.partitions => self.part(),
            2 if self.plan.freezes => self.freeze(false),
            3 if self.plan.kills_workers => self.kill_one(Kind::Worker),
            4 if self.plan.kills_registers => self.kill_one(Kind::Register),
            5 if self.plan.kills_gateways => self.kill_one(Kind::Gateway),
            _ => {}
        }
    }

    /// The same for what was added later.
    pub(crate) fn harm_more(&mut self) {
        if self.plan.more.faults == 0 || self.more.random_range(0..1000) >= self.plan.more.faults {
            return;
        }
        match self.more.random_range(0..5) {
            0 if self.plan.more.drains => self.drain(),
            1 if self.plan.more.stops_gateways => self.stop_gateway(),
            2 if self.plan.more.suspends => self.freeze(true),
            3 if self.plan.more.parts_registers => self.part_register(),
            4 if self.plan.more.withdraws => self.withdraw(),
            _ => {}
        }
    }

    /// The same for what was added last.
    pub(crate) fn harm_bulk(&mut self) {
        if self.plan.bulk.faults == 0 || self.bulk.random_range(0..1000) >= self.plan.bulk.faults {
            return;
        }
        match self.bulk.random_range(0..2) {
            0 if self.plan.bulk.pauses => self.pause_link(),
            1 if self.plan.bulk.kills_machines => self.kill_machine(),
            _ => {}
        }
    }

    /// Nothing passes on one connection for a while, and then it goes on: both ends keep it.
    fn pause_link(&mut self) {
        let connections = self.net.connections();
        if connections.is_empty() {
            return;
        }
        let (number, hosts) = connections[self.bulk.random_range(0..connections.len())];
        let lasts = if self.plan.bulk.machines_alone {
            // Nobody is taken for lost.
            self.bulk.random_range(10..LEASE.as_millis() as u64 / 2)
        } else {
            self.draw_ms()
        };
        let end = self.now_ms + lasts;
        self.log(|| format!("connection {number} of hosts {hosts:?} pauses until {end}"));
        self.net.pause(number, true);
        self.due.push((end, Mend::Resume(number)));
    }

    /// All that runs on one machine is gone at once.
    fn kill_machine(&mut self) {
        if self.plan.bulk.places == 0 || (self.plan.bulk.machines_alone && !self.is_guarded()) {
            return;
        }
        let place = self.bulk.random_range(0..self.plan.bulk.places);
        let on_it = |host: &Host| {
            let machine = &self.machines[*host];
            machine.place == Some(place) && machine.is_up()
        };
        let hosts: Vec<Host> = (0..self.machines.len()).filter(on_it).collect();
        let kills_worker = hosts
            .iter()
            .any(|host| self.machines[*host].kind == Kind::Worker);
        self.custodians_safe &= !kills_worker || self.plan.bulk.machines_alone;
        self.log(|| format!("machine {place} is lost with hosts {hosts:?}"));
        self.machine_lost_ms = Some(self.now_ms);
        let silently = self.bulk.random_bool(0.3);
        for host in hosts {
            self.kill(host, silently);
            self.restart_later(host);
        }
    }

    /// Whether everything runs, all workers are linked, no closes of a lost gateway are still to be told,
    /// and every client has custodians who know it.
    fn is_guarded(&self) -> bool {
        let lately = self
            .machine_lost_ms
            .is_some_and(|at| self.now_ms < at + TELLING_MS);
        !lately && self.is_whole() && self.gateways().all(|it| it.unguarded() == 0)
    }

    /// A worker leaves in peace.
    fn drain(&mut self) {
        let workers = self.hosts(Kind::Worker);
        let host = workers[self.rng.random_range(0..workers.len())];
        if !self.machines[host].is_up() || self.machines[host].is_stopping() {
            return;
        }
        self.log(|| format!("host {host} is told to stop"));
        self.machines[host].stop();
        self.machines[host].stopped_ms = Some(self.now_ms);
    }

    /// A worker no longer serves the tenant: its clients move to others.
    fn withdraw(&mut self) {
        let workers = self.hosts(Kind::Worker);
        let host = workers[self.rng.random_range(0..workers.len())];
        let end = self.now_ms + self.draw_ms();
        self.log(|| format!("host {host} serves nobody until {end}"));
        self.machines[host].serving.send_replace(Arc::default());
        self.due.push((end, Mend::Serve(host)));
    }

    fn stop_gateway(&mut self) {
        let gateways = self.hosts(Kind::Gateway);
        let host = gateways[self.rng.random_range(0..gateways.len())];
        if self.machines[host].is_up() && !self.machines[host].is_stopping() {
            self.log(|| format!("host {host} is told to stop"));
            self.machines[host].stop();
        }
    }

    /// Cuts one register off from some nodes: others may still reach it, and they another one.
    fn part_register(&mut self) {
        let registers = self.hosts(Kind::Register);
        let register = registers[self.rng.random_range(0..registers.len())];
        let mut ways = Vec::new();
        for host in 0..self.machines.len() {
            if host != register && self.rng.random_bool(0.5) {
                ways.extend([(host, register), (register, host)]);
            }
        }
        self.block(ways);
    }

    fn draw_ms(&mut self) -> u64 {
        // Around the lease of 250, and well beyond two of them.
        match self.rng.random_range(0..3) {
            0 => self.rng.random_range(10..200),
            1 => self.rng.random_range(200..400),
            _ => self.rng.random_range(400..900),
        }
    }

    fn cut_link(&mut self) {
        let connections = self.net.connections();
        if connections.is_empty() {
            return;
        }
        let (number, hosts) = connections[self.rng.random_range(0..connections.len())];
        self.log(|| format!("connection {number} of hosts {hosts:?} breaks"));
        self.net.cut(number);
    }

    /// Cuts a random set of hosts off from the others, sometimes in one direction only.
    fn part(&mut self) {
        let all: Vec<Host> = (0..self.machines.len()).collect();
        let apart: Vec<Host> = all
            .iter()
            .copied()
            .filter(|_| self.rng.random_bool(0.4))
            .collect();
        let one_way = self.rng.random_range(0..4);
        let mut ways = Vec::new();
        for inside in &apart {
            for outside in all.iter().filter(|host| !apart.contains(host)) {
                if one_way != 1 {
                    ways.push((*inside, *outside));
                }
                if one_way != 2 {
                    ways.push((*outside, *inside));
                }
            }
        }
        self.block(ways);
    }

    /// Holds what goes these ways for a while.
    fn block(&mut self, ways: Vec<(Host, Host)>) {
        for (from, to) in &ways {
            self.net.set_blocked(*from, *to, true);
        }
        let end = self.now_ms + self.draw_ms();
        self.log(|| format!("blocked until {end}: {ways:?}"));
        self.due.push((end, Mend::Unblock(ways)));
    }

    /// With `asleep` its clock stands still too, as when a machine is suspended.
    fn freeze(&mut self, asleep: bool) {
        let host = self.rng.random_range(0..self.machines.len());
        if !self.machines[host].is_up() || self.machines[host].frozen {
            return;
        }
        let end = self.now_ms + self.draw_ms();
        self.log(|| format!("host {host} is frozen until {end}, asleep {asleep}"));
        self.machines[host].frozen = true;
        self.machines[host].asleep = asleep;
        self.due.push((end, Mend::Thaw(host)));
    }

    fn kill_one(&mut self, kind: Kind) {
        let hosts = self.hosts(kind);
        let host = hosts[self.rng.random_range(0..hosts.len())];
        if self.machines[host].is_up() {
            self.custodians_safe &= kind != Kind::Worker;
            let silently = self.rng.random_bool(0.3);
            self.kill(host, silently);
            self.restart_later(host);
        }
    }

    pub(crate) fn restart_later(&mut self, host: Host) {
        let at = self.now_ms + self.draw_ms();
        self.due.push((at, Mend::Start(host)));
    }

    /// Ends the faults whose time has come.
    pub(crate) fn mend(&mut self) {
        let now = self.now_ms;
        let due: Vec<Mend> = self
            .due
            .extract_if(.., |(at, _)| *at <= now)
            .map(|(_, mend)| mend)
            .collect();
        for mend in due {
            self.put_right(mend);
        }
    }

    fn put_right(&mut self, mend: Mend) {
        match mend {
            Mend::Start(host) if !self.machines[host].is_up() => self.start(host),
            Mend::Start(_) => {}
            Mend::Thaw(host) => {
                self.log(|| format!("host {host} thaws"));
                self.machines[host].frozen = false;
            }
            Mend::Serve(host) => {
                self.log(|| format!("host {host} serves again"));
                self.machines[host].serving.send_replace(serving());
            }
            Mend::Resume(number) => {
                let still = self.due.iter().any(|(_, other)| *other == mend);
                if !still {
                    self.log(|| format!("connection {number} goes on"));
                    self.net.pause(number, false);
                }
            }
            Mend::Unblock(ways) => {
                self.log(|| format!("no longer blocked: {ways:?}"));
                for (from, to) in ways {
                    let still = self.due.iter().any(|(_, other)| {
                        matches!(other, Mend::Unblock(other) if other.contains(&(from, to)))
                    });
                    if !still {
                        self.net.set_blocked(from, to, false);
                    }
                }
            }
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        self.log(|| "everything is put right".to_owned());
        for (at, _) in &mut self.due {
            *at = 0;
        }
        self.mend();
    }
}
