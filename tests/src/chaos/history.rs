//! What went wrong when: what the schedule did to nodes and links, and which gateways ended. The
//! verdict asks it what the design promises in spite of that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ledger::Seen;
use super::schedule::{WORKERS, Way, What, Who};

/// A gateway that was declared lost closes its clients at most so long before it ends.
const CLOSES_BEFORE_END: Duration = Duration::from_secs(5);
/// A broken connection is noticed at most so long after its gateway's end, on a busy machine.
const NOTICED_AFTER: Duration = Duration::from_secs(4);
/// A gateway that ends by itself was in trouble at most so long before: a freeze beyond its lease, and
/// the time to be told.
const TROUBLED_BEFORE_END: Duration = Duration::from_secs(15);
/// A freeze or a hold of so long may end a gateway: its lease at the registers is a little longer.
const ENDS_A_GATEWAY: Duration = Duration::from_millis(2000);
/// What is done to a custodian so long before its gateway is in trouble may still be unknown to it,
/// if its links were held: twice the lease of a link.
const UNKNOWN_TO_GATEWAY: Duration = Duration::from_secs(4);
/// If they were not, the gateway sees the end of a link at once; on a busy machine a little later.
const SEEN_BY_GATEWAY: Duration = Duration::from_millis(1500);
/// The closes of a lost gateway are told so long after its end: the lease at the registers, a frozen
/// custodian, and the handlers' time.
pub(super) const TOLD_AFTER_END: Duration = Duration::from_secs(15);

/// The history of a run.
#[derive(Debug)]
pub(super) struct History {
    /// When the faults begin.
    pub(super) start: Instant,
    troubles: Vec<Trouble>,
    ends: Vec<End>,
    guards: Guards,
}

/// What each gateway said, when it was asked, of the custodians of its clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Guards {
    said: Arc<Mutex<Vec<Said>>>,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    gateway: usize,
    asked: Instant,
    /// Clients of which a custodian was not known to know them.
    unguarded: f64,
    /// Clients with one custodian only.
    single: f64,
}

impl Guards {
    /// A gateway was asked then, and said so.
    pub(super) fn note(&self, gateway: usize, asked: Instant, unguarded: f64, single: f64) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push(Said {
            gateway,
            asked,
            unguarded,
            single,
        });
    }

    /// What a gateway said last before this.
    fn last(&self, gateway: usize, before: Instant) -> Option<Said> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut its = said.iter().rev();
        its.find(|it| it.gateway == gateway && it.asked < before)
            .copied()
    }

    /// When each client had two custodians last before this, if none was seen with one only since.
    fn two_at_last(&self, gateway: usize, before: Instant) -> Option<Instant> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let its = said.iter().rev();
        let its = its.filter(|it| it.gateway == gateway && it.asked < before);
        let mut its = its.take_while(|it| it.single == 0.0);
        its.find(|it| it.unguarded == 0.0).map(|it| it.asked)
    }
}

/// Something that was done, and for how long.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    what: What,
    from: Instant,
    to: Option<Instant>,
}

/// The end of one life of a gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Which.
    pub(super) gateway: usize,
    /// When it was noticed.
    pub(super) at: Instant,
}

impl History {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            troubles: Vec::new(),
            ends: Vec::new(),
            guards: Guards::default(),
        }
    }

    /// Where gateways are noted that say that their clients are guarded.
    pub(super) fn guards(&self) -> Guards {
        self.guards.clone()
    }

    /// A time as the schedule has it, in milliseconds.
    pub(super) fn ms(&self, at: Instant) -> u128 {
        at.saturating_duration_since(self.start).as_millis()
    }

    /// Something goes wrong from now on.
    pub(super) fn begins(&mut self, what: What) {
        let (from, to) = (Instant::now(), None);
        self.troubles.push(Trouble { what, from, to });
    }

    /// The oldest trouble of this kind is over.
    pub(super) fn ends(&mut self, what: What) {
        let mut open = self.troubles.iter_mut().filter(|it| it.to.is_none());
        if let Some(trouble) = open.find(|it| it.what == what) {
            trouble.to = Some(Instant::now());
        }
    }

    /// A gateway's life has ended.
    pub(super) fn gateway_ended(&mut self, gateway: usize) {
        let at = Instant::now();
        self.ends.push(End { gateway, at });
    }

    /// How many lives of gateways have ended.
    pub(super) fn lives(&self) -> usize {
        self.ends.len()
    }

    /// The end of a gateway that broke a connection at this time, if it was one. The connection was
    /// asked for before it.
    pub(super) fn end_that_broke(
        &self,
        gateway: usize,
        asked: Instant,
        at: Instant,
    ) -> Option<End> {
        let mut ends = self.ends.iter().filter(|end| end.gateway == gateway);
        ends.find(|end| {
            asked <= end.at && end.at <= at + CLOSES_BEFORE_END && at <= end.at + NOTICED_AFTER
        })
        .copied()
    }

    /// Whether this gateway ended in this time.
    pub(super) fn ended_between(&self, gateway: usize, from: Instant, to: Instant) -> bool {
        self.first_end_between(gateway, from, to).is_some()
    }

    /// The first end of this gateway in this time.
    pub(super) fn first_end_between(
        &self,
        gateway: usize,
        from: Instant,
        to: Instant,
    ) -> Option<End> {
        let mut ends = self.ends.iter().filter(|end| end.gateway == gateway);
        ends.find(|end| from <= end.at && end.at <= to).copied()
    }

    /// Whether this worker was killed in this time.
    pub(super) fn worker_killed_between(&self, worker: usize, from: Instant, to: Instant) -> bool {
        let mut kills = self
            .troubles
            .iter()
            .filter(|it| it.what.kills(Who::Worker(worker)));
        kills.any(|it| from <= it.from && it.from <= to)
    }

    /// Whether any gateway ended in this time, other than by this end.
    pub(super) fn another_ended(&self, but: End, from: Instant, to: Instant) -> bool {
        let mut others = self.ends.iter().filter(|end| end.at != but.at);
        others.any(|end| from <= end.at && end.at <= to)
    }

    /// Whether all custodians of a client may have been lost with its gateway. If the gateway said last,
    /// after the client had come, that all had two, that takes two workers. A gateway that sees workers
    /// on one other machine only, the third being away, has its clients guarded by one alone.
    pub(super) fn custodians_may_be_lost(&self, end: End, seen: &Seen) -> bool {
        let guarded = self
            .guards
            .two_at_last(end.gateway, self.last_trouble_before(end));
        let Some(since) = guarded.filter(|at| seen.known < *at) else {
            return self.server_may_be_lost(end, seen.served, seen.worker);
        };
        let until = end.at + TOLD_AFTER_END;
        let is_killed = |worker: &usize| self.worker_killed_between(*worker, since, until);
        let killed: Vec<_> = (0..WORKERS).filter(is_killed).collect();
        let serving = seen
            .worker
            .filter(|it| !self.may_have_moved(end, seen.served, *it));
        killed.len() > 1 && serving.is_none_or(|it| killed.contains(&it))
    }

    /// What an end of a gateway is excused with: what it said last of its clients, and what was done to
    /// nodes from shortly before until its closes were to be told.
    pub(super) fn about(&self, end: End) -> String {
        let said = self.guards.last(end.gateway, self.last_trouble_before(end));
        let said = said.map_or_else(
            || "it never said who knows its clients".to_owned(),
            |it| {
                let Said {
                    unguarded, single, ..
                } = it;
                let before = end.at.saturating_duration_since(it.asked).as_millis();
                format!("{before} ms before {unguarded} clients were unguarded, {single} had one custodian")
            },
        );
        let (from, to) = (end.at - TROUBLED_BEFORE_END, end.at + TOLD_AFTER_END);
        let troubles = self.troubles.iter().filter(|it| {
            let of_node = matches!(
                it.what,
                What::Kill(_) | What::KillMachine(_) | What::Freeze(_)
            );
            of_node && from <= it.from && it.from <= to
        });
        let troubles: Vec<_> = troubles
            .map(|it| {
                let end = it.to.map(|to| self.ms(to));
                format!("{:?} {} to {end:?}", it.what, self.ms(it.from))
            })
            .collect();
        format!(
            "gateway {} ended at {} ms; {said}; {}",
            end.gateway,
            self.ms(end.at),
            troubles.join(", ")
        )
    }

    /// Whether the worker that served a client, and knows it best, may have been lost with its gateway:
    /// the one that served it last, at `served`, was killed while that gateway was in trouble or the
    /// close not told yet; or another one was, and the client may have been moved to it in between.
    /// One that is frozen for longer than its lease just then is as good as lost: the second custodian
    /// tells the close, and may lack the last changes if it was frozen itself when they were made.
    pub(super) fn server_may_be_lost(
        &self,
        end: End,
        served: Instant,
        worker: Option<usize>,
    ) -> bool {
        let begun = self.trouble_before(end);
        let until = end.at + TOLD_AFTER_END;
        let since = begun - self.unknown_for(end.gateway, begun);
        let killed = |which: Option<usize>| {
            self.troubles.iter().any(|it| {
                let killed = (0..WORKERS).filter(|it_is| it.what.kills(Who::Worker(*it_is)));
                let mut killed = killed.filter(|killed| which.is_none_or(|which| which == *killed));
                killed.next().is_some() && since <= it.from && it.from <= until
            })
        };
        match worker {
            Some(worker) if !self.may_have_moved(end, served, worker) => {
                killed(Some(worker)) || self.both_custodians_were_frozen(end, worker, since, until)
            }
            _ => killed(None),
        }
    }

    /// Whether this worker was frozen for longer than its lease while the closes of a gateway were
    /// told, and another one before, when the gateway ended.
    fn both_custodians_were_frozen(
        &self,
        end: End,
        worker: usize,
        since: Instant,
        until: Instant,
    ) -> bool {
        let first = self.troubles.iter().any(|it| {
            let lasted = it.to.unwrap_or(until).saturating_duration_since(it.from);
            let is_it = it.what == What::Freeze(Who::Worker(worker));
            is_it && lasted >= ENDS_A_GATEWAY && since <= it.from && it.from <= until
        });
        let second = self.troubles.iter().any(|it| {
            let others = (0..WORKERS).filter(|it_is| *it_is != worker);
            let mut others = others.map(|it_is| What::Freeze(Who::Worker(it_is)));
            let was_there = it.from <= end.at && it.to.is_none_or(|to| since <= to);
            was_there && others.any(|what| what == it.what)
        });
        first && second
    }

    /// For how long the end of a link may be unknown to a gateway.
    fn unknown_for(&self, gateway: usize, at: Instant) -> Duration {
        let holds = |what| match what {
            What::Hold(way, _) | What::Mute(way, ..) | What::HoldAll(way) => {
                way == Way::Gateway(gateway)
            }
            What::Kill(_)
            | What::KillMachine(_)
            | What::Freeze(_)
            | What::Cut(..)
            | What::Swap(_) => false,
        };
        let since = at - UNKNOWN_TO_GATEWAY;
        let mut troubles = self.troubles.iter();
        let held = troubles
            .any(|it| holds(it.what) && it.from <= at && it.to.is_none_or(|to| since <= to));
        if held {
            UNKNOWN_TO_GATEWAY
        } else {
            SEEN_BY_GATEWAY
        }
    }

    /// Whether something happened, from when it was served until its gateway's end, because of which
    /// a gateway gives a client to another worker.
    pub(super) fn may_have_moved(&self, end: End, served: Instant, worker: usize) -> bool {
        let concerns = |what| match what {
            What::Kill(who) | What::Freeze(who) => who == Who::Worker(worker),
            What::KillMachine(machine) => machine == worker,
            What::Cut(way, _) | What::Hold(way, _) | What::Mute(way, ..) | What::HoldAll(way) => {
                match way {
                    Way::Gateway(gateway) => gateway == end.gateway,
                    Way::Register(who, _) => who == Who::Worker(worker),
                }
            }
            What::Swap(_) => false,
        };
        // What ended a little earlier may still have its consequence ahead of it.
        let since = served - UNKNOWN_TO_GATEWAY;
        self.troubles
            .iter()
            .any(|it| concerns(it.what) && it.from <= end.at && it.to.is_none_or(|to| since <= to))
    }

    /// When the last trouble began that may have ended a gateway. What it says from then on says nothing of
    /// its clients: it may have closed them already.
    fn last_trouble_before(&self, end: End) -> Instant {
        let troubles = self.troubles_before(end);
        let ends_it = |it: &&Trouble| {
            let lasted = it.to.unwrap_or(end.at).saturating_duration_since(it.from);
            it.what.kills(Who::Gateway(end.gateway)) || lasted >= ENDS_A_GATEWAY
        };
        let begins = troubles.filter(ends_it).map(|it| it.from);
        let first = self.troubles_before(end).map(|it| it.from).min();
        let begins = begins.max().or(first);
        begins.unwrap_or(end.at - CLOSES_BEFORE_END)
    }

    /// When the trouble began that ended a gateway.
    fn trouble_before(&self, end: End) -> Instant {
        let begins = self.troubles_before(end).map(|it| it.from);
        begins.min().unwrap_or(end.at)
    }

    /// What may have ended a gateway.
    fn troubles_before(&self, end: End) -> impl Iterator<Item = &Trouble> {
        let gateway = Who::Gateway(end.gateway);
        let concerns = move |what| match what {
            What::Kill(who) | What::Freeze(who) => who == gateway,
            What::KillMachine(machine) => machine == end.gateway,
            What::HoldAll(Way::Register(who, _)) | What::Hold(Way::Register(who, _), _) => {
                who == gateway
            }
            What::HoldAll(Way::Gateway(_))
            | What::Hold(Way::Gateway(_), _)
            | What::Cut(..)
            | What::Mute(..)
            | What::Swap(_) => false,
        };
        let since = end.at - TROUBLED_BEFORE_END;
        let troubles = self.troubles.iter().filter(move |it| concerns(it.what));
        troubles.filter(move |it| since <= it.from && it.from <= end.at)
    }
}
