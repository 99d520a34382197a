//! Who comes, talks and goes.

use std::ops::Range;

use rand::RngExt;
use tidegate_wire::id::ClientId;

use super::{ANSWER_MS, Kind, Violation, World};
use crate::holdings::VOLATILE;
use crate::network::Host;
use crate::people::Person;

/// Groups that clients join and leave.
const GROUPS: u64 = 40;
/// Groups that are dissolved now and then.
const VOLATILE_GROUPS: Range<u64> = VOLATILE..VOLATILE + 4;
/// By then everybody has heard that groups are dissolved.
const ARRIVING_MS: u64 = 1_000;

/// A change of what is kept.
enum Keep {
    /// By this line.
    Line(String),
    /// In the session of this client.
    Gift(usize, ClientId),
}

impl World {
    /// A client comes to a gateway that runs.
    pub(super) fn arrive(&mut self, host: Host, monitor: bool) {
        let machine = &self.machines[host];
        let Some(gateway) = machine
            .shown
            .as_ref()
            .and_then(|it| it.gateway.borrow().clone())
        else {
            return;
        };
        let (number, life) = (self.people.len(), machine.life);
        self.log(|| format!("client {number} comes to host {host}, life {life}"));
        let person = Person::connect(number, host, life, monitor, &gateway);
        self.people.push(person);
    }

    /// Clients come, talk and go.
    pub(super) fn chat(&mut self) {
        for place in 0..self.people.len() {
            let person = &self.people[place];
            if person.monitor
                || !person.is_here()
                || person.due.len() >= self.plan.more.under_way
                || self.rng.random_range(0..100) >= self.plan.bulk.talks
            {
                continue;
            }
            let other = self.rng.random_range(0..self.people.len());
            let friends = self.is_lasting(place) && self.is_lasting(other);
            let target = self.people[other]
                .id
                .filter(|_| friends && self.rng.random_bool(0.5));
            let what = self.topic();
            let kept = target.map_or_else(|| self.change(place), |_| None);
            let (record, now) = (self.record.clone(), self.now_ms);
            let person = &mut self.people[place];
            match target {
                Some(id) if !self.rng.random_bool(0.02) => person.greet(other, id, &record, now),
                Some(_) => person.leave(&record, now),
                None if kept.is_some() => match kept {
                    Some(Keep::Line(line)) => person.say(&line, &record, now),
                    Some(Keep::Gift(other, id)) => person.give(other, id, &record, now),
                    None => {}
                },
                None if what == "swap" => person.swap(&record, now),
                None if what.is_empty() && self.plan.timers > self.timers.random_range(0..100) => {
                    person.set_timer(self.timers.random_range(0..2_000), &record, now);
                }
                None if what.is_empty() && self.plan.tasks > self.tasks.random_range(0..100) => {
                    person.submit(self.tasks.random_range(0..8), &record, now);
                }
                None => person.say(what, &record, now),
            }
        }
        if self.people.len() < 40 && self.rng.random_range(0..100) < 5 {
            let gateways = self.hosts(Kind::Gateway);
            let host = gateways[self.rng.random_range(0..gateways.len())];
            self.arrive(host, false);
        }
    }

    /// At the beginning all clients have something kept for them, if any ever has: all at once.
    pub(super) fn settle_in(&mut self) -> Result<(), Violation> {
        if self.plan.bulk.changes == 0 {
            return Ok(());
        }
        for place in 0..self.people.len() {
            if self.people[place].monitor {
                continue;
            }
            let (fill, join) = (self.fill(), self.join(self.plan.bulk.groups_max));
            let (record, now) = (self.record.clone(), self.now_ms);
            self.people[place].say(&fill, &record, now);
            self.people[place].say(&join, &record, now);
        }
        self.until(ANSWER_MS, "all clients to settle in", Self::is_answered)
    }

    /// At the end nobody is in a volatile group any more.
    pub(super) fn dissolve(&mut self) -> Result<(), Violation> {
        let mut lasting = (0..self.people.len()).filter(|place| self.is_lasting(*place));
        let Some(place) = lasting.next().filter(|_| self.plan.bulk.meddles) else {
            return Ok(());
        };
        let groups: Vec<_> = VOLATILE_GROUPS.map(|group| group.to_string()).collect();
        let (record, now) = (self.record.clone(), self.now_ms);
        self.people[place].say(&format!("dissolve {}", groups.join(" ")), &record, now);
        let what = "groups to be dissolved";
        self.until(ANSWER_MS, what, Self::is_answered)?;
        self.pass(ARRIVING_MS)?;
        self.dissolved = true;
        Ok(())
    }

    /// Perhaps a client changes what is kept, for itself or for another one.
    fn change(&mut self, place: usize) -> Option<Keep> {
        let changes = self.plan.bulk.changes;
        if changes == 0 {
            return None;
        }
        if self.people[place].sent == 0 {
            return Some(Keep::Line(self.fill()));
        }
        if self.bulk.random_range(0..100) >= changes {
            return None;
        }
        let groups = self.people[place].holdings.groups();
        let line = match self.bulk.random_range(0..10) {
            0..3 => self.fill(),
            3..6 => {
                let more = self
                    .plan
                    .bulk
                    .groups_max
                    .saturating_sub(groups.len() as u64);
                self.join(more)
            }
            6 => {
                let group = groups
                    .iter()
                    .nth(self.bulk.random_range(0..groups.len().max(1)))?;
                format!("part {group}")
            }
            7 if self.plan.bulk.meddles => {
                format!("dissolve {}", self.bulk.random_range(VOLATILE_GROUPS))
            }
            8..10 if self.plan.bulk.meddles => {
                let other = self.bulk.random_range(0..self.people.len());
                let friends = self.is_lasting(place) && self.is_lasting(other);
                let id = self.people[other].id.filter(|_| friends)?;
                return Some(Keep::Gift(other, id));
            }
            _ => return None,
        };
        Some(Keep::Line(line))
    }

    fn fill(&mut self) -> String {
        let max = self.plan.bulk.value_bytes_max;
        let bytes = match self.bulk.random_range(0..10) {
            0 => 0,
            1..4 => max,
            _ => self.bulk.random_range(1..=max),
        };
        format!("fill {bytes}")
    }

    /// Joins so many groups at most, some of them volatile.
    fn join(&mut self, more: u64) -> String {
        let mut line = "join".to_owned();
        for _ in 0..more.min(self.bulk.random_range(1..=20)) {
            let group = if self.plan.bulk.meddles && self.bulk.random_bool(0.2) {
                self.bulk.random_range(VOLATILE_GROUPS)
            } else {
                self.bulk.random_range(0..GROUPS)
            };
            line += &format!(" {group}");
        }
        line
    }

    /// What a line asks for that goes to nobody else.
    fn topic(&mut self) -> &'static str {
        let more = &self.plan.more;
        if !more.fails && !more.swaps {
            return "";
        }
        match self.more.random_range(0..10) {
            0 if more.fails => "fail",
            1 if more.fails => "trap",
            2..5 if more.swaps => "swap",
            _ => "",
        }
    }

    /// Whether a client's gateway has lived in the same life so far.
    pub(super) fn lives_on(&self, person: &Person) -> bool {
        let machine = &self.machines[person.host];
        machine.is_up() && machine.life == person.life
    }

    /// Whether a client is there, at a gateway that was there from the start: all others know it.
    pub(super) fn is_lasting(&self, place: usize) -> bool {
        let person = &self.people[place];
        person.is_here() && self.lives_on(person) && self.is_first(person.life)
    }

    pub(super) const fn is_first(&self, life: u64) -> bool {
        life <= self.machines.len() as u64
    }
}
