//! Who comes, talks and goes.

use rand::RngExt;

use super::{Kind, World};
use crate::network::Host;
use crate::people::Person;

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
                || self.rng.random_range(0..100) >= 25
            {
                continue;
            }
            let other = self.rng.random_range(0..self.people.len());
            let friends = self.is_lasting(place) && self.is_lasting(other);
            let target = self.people[other]
                .id
                .filter(|_| friends && self.rng.random_bool(0.5));
            let what = self.topic();
            let (record, now) = (self.record.clone(), self.now_ms);
            let person = &mut self.people[place];
            match target {
                Some(id) if !self.rng.random_bool(0.02) => person.greet(other, id, &record, now),
                Some(_) => person.leave(&record, now),
                None if what == "swap" => person.swap(&record, now),
                None => person.say(what, &record, now),
            }
        }
        if self.people.len() < 40 && self.rng.random_range(0..100) < 5 {
            let gateways = self.hosts(Kind::Gateway);
            let host = gateways[self.rng.random_range(0..gateways.len())];
            self.arrive(host, false);
        }
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
