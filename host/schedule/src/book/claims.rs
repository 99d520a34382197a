//! Claims: how one gateway gets to begin a tick, and what it says to those of others.

use tidegate_wire::id::Incarnation;
use tidegate_wire::schedule::{KnownSchedule, ScheduleSaid, Tick, TickVerdict};

use super::{
    Act, Book, CLOCK_WRONG_S, Entry, GREETING_MS, Next, Now, Open, Peer, Turn, UNLISTED_MS,
};
use crate::due::due;

/// How long answers to a claim are waited for.
const ANSWER_MS: u64 = 1_000;
/// A gateway waits so long for each one before it in the order, since their clocks may be behind.
const STAND_IN_MS: i64 = 2_000;
/// How much clocks may differ before a tick counts as early.
const EARLY_MS: i64 = 1_000;
/// After a claim that was refused.
const REFUSED_PAUSE_MS: u64 = 300;
/// After one that somebody has to be waited for with, or a task that found no room.
const PAUSE_MS: u64 = 1_000;

/// Claims of this gateway.
impl Book {
    /// Time has passed.
    pub fn look(&mut self, now: Now) {
        if self.ended || !self.is_ready(now) {
            return;
        }
        for place in 0..self.entries.len() {
            self.look_at(place, now);
        }
    }

    /// All gateways of the view have said what they know, or have had the time to.
    fn is_ready(&self, now: Now) -> bool {
        let mut listed = self.peers.values().filter(|peer| peer.address.is_some());
        let has_greeted = |peer: &Peer| peer.heard || now.steady_ms >= peer.since_ms + GREETING_MS;
        self.joined && listed.all(has_greeted)
    }

    fn look_at(&mut self, place: usize, now: Now) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        match entry.turn {
            Turn::Idle => {}
            Turn::Asking { .. } => return self.decide(place, now),
            Turn::Begun { .. } => return,
        }
        if entry.over_s > now.wall_s() + CLOCK_WRONG_S {
            self.acts.push(Act::ClockSetBack(place, entry.over_s));
            entry.over_s = now.wall_s();
            entry.next = Next::Unknown;
        }
        let open = entry.open.as_ref();
        if open.is_some_and(|open| is_waited_for(&self.peers, open, now))
            || now.steady_ms < entry.pause_until_ms
        {
            return;
        }
        let Some(next_s) = entry.next_s() else { return };
        if next_s > now.wall_s() {
            return;
        }
        let before = self.before(place).len();
        let wait_ms = STAND_IN_MS.saturating_mul(i64::try_from(before).unwrap_or(i64::MAX));
        if now.wall_ms < next_s.saturating_mul(1_000).saturating_add(wait_ms) {
            return;
        }
        self.claim(place, before == 0, now);
    }

    /// Something is due: its tick is claimed.
    fn claim(&mut self, place: usize, first: bool, now: Now) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        let Some(due) = due(&entry.schedule, entry.over_s, now.wall_s()) else {
            // What was due is so no more, because the clock was set back.
            entry.next = Next::Unknown;
            return;
        };
        let Some(at_s) = due.tick_s else {
            entry.over(due.newest_s);
            self.changes += 1;
            if first {
                self.acts.push(Act::Missed(place, due.missed));
            }
            return;
        };
        entry.turn = Turn::Asking {
            at_s,
            missed: due.missed,
            since_ms: now.steady_ms,
            verdicts: std::collections::BTreeMap::new(),
        };
        let claim = ScheduleSaid::Claim(entry.tick(at_s));
        self.say_to_all(&claim);
        self.decide(place, now);
    }

    /// The gateways of the view that look after a schedule and go before this one.
    fn before(&self, place: usize) -> Vec<Incarnation> {
        let Some(entry) = self.entries.get(place) else {
            return Vec::new();
        };
        let own = entry.rank(self.own, self.address);
        let key = (entry.schedule.tenant.clone(), entry.schedule.name.clone());
        let peers = self.peers.iter().filter(|(incarnation, peer)| {
            let address = peer.address.filter(|_| peer.looks_after.contains(&key));
            address.is_some_and(|address| entry.rank(**incarnation, address) > own)
        });
        peers.map(|(incarnation, _)| *incarnation).collect()
    }

    /// Begins a tick that was claimed, once nobody objects.
    fn decide(&mut self, place: usize, now: Now) {
        let before = self.before(place);
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        let Turn::Asking {
            at_s,
            missed,
            since_ms,
            verdicts,
        } = &entry.turn
        else {
            return;
        };
        let (at_s, missed) = (*at_s, *missed);
        if verdicts.values().any(|it| *it == TickVerdict::Refused) {
            return self.withdraw(place, now.steady_ms + REFUSED_PAUSE_MS);
        }
        let has_answered = |peer: &Incarnation| verdicts.contains_key(peer);
        let mut asked = self.peers.iter().filter(|(_, peer)| peer.linked);
        let all = asked.all(|(peer, _)| has_answered(peer));
        if !all && now.steady_ms < since_ms + ANSWER_MS {
            return;
        }
        let early = verdicts.values();
        let early = early.filter(|it| **it == TickVerdict::Early).count();
        if early > 0 && early * 2 > verdicts.len() {
            self.acts.push(Act::ClockAhead(place, at_s));
            return self.withdraw(place, now.steady_ms + PAUSE_MS);
        }
        // Who goes before this one may have begun the tick already, for all that is known here.
        if !before.iter().all(has_answered) {
            return self.withdraw(place, now.steady_ms + PAUSE_MS);
        }
        entry.turn = Turn::Begun { at_s };
        self.acts.push(Act::Begin {
            schedule: place,
            at_s,
            missed,
        });
    }

    /// Gives a claim up, if there is one.
    pub(super) fn withdraw(&mut self, place: usize, pause_until_ms: u64) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        let Turn::Asking { at_s, .. } = entry.turn else {
            return;
        };
        entry.turn = Turn::Idle;
        entry.pause_until_ms = pause_until_ms;
        let withdrawn = ScheduleSaid::Withdrawn(entry.tick(at_s));
        self.say_to_all(&withdrawn);
    }

    /// The task of a tick that was to begin is over: it has ended, or this gateway has lost it.
    pub fn ended(&mut self, place: usize, at_s: i64, done: bool, now: Now) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        if !matches!(entry.turn, Turn::Begun { at_s: begun_s } if begun_s == at_s) {
            return;
        }
        entry.turn = Turn::Idle;
        let tick = entry.tick(at_s);
        let said = if done {
            entry.over(at_s);
            entry.last_s = entry.last_s.max(Some(at_s));
            self.changes += 1;
            ScheduleSaid::Over(tick)
        } else {
            entry.pause_until_ms = now.steady_ms + PAUSE_MS;
            ScheduleSaid::Withdrawn(tick)
        };
        self.say_to_all(&said);
    }
}

/// Whether another gateway's tick is not to be begun here.
fn is_waited_for(
    peers: &std::collections::BTreeMap<Incarnation, Peer>,
    open: &Open,
    now: Now,
) -> bool {
    let peer = peers.get(&open.by);
    peer.is_some_and(|peer| peer.address.is_some()) || now.steady_ms < open.heard_ms + UNLISTED_MS
}

/// What others say.
impl Book {
    /// Another gateway has said something. Gives what it is answered on the same link.
    pub fn hear(&mut self, from: Incarnation, said: ScheduleSaid, now: Now) -> Vec<ScheduleSaid> {
        let peer = self.peers.entry(from);
        let peer = peer.or_insert_with(|| Peer::new(now.steady_ms));
        if peer.address.is_none() {
            peer.since_ms = now.steady_ms;
        }
        match said {
            ScheduleSaid::Known(known) => {
                self.hear_known(from, known, now);
                return vec![ScheduleSaid::Known(self.known())];
            }
            ScheduleSaid::Claim(tick) => return self.hear_claim(from, tick, now),
            ScheduleSaid::Verdict(tick, verdict) => self.hear_verdict(from, &tick, verdict, now),
            ScheduleSaid::Over(tick) => self.hear_over(from, &tick, now),
            ScheduleSaid::Withdrawn(tick) => {
                if let Some(entry) = self.entry_mut(&tick.tenant, &tick.schedule) {
                    entry.open.take_if(|open| open.by == from);
                }
            }
        }
        Vec::new()
    }

    fn hear_claim(&mut self, from: Incarnation, tick: Tick, now: Now) -> Vec<ScheduleSaid> {
        let Some(place) = self.place(&tick) else {
            // This gateway does not look after it and will not begin it.
            return vec![ScheduleSaid::Verdict(tick, TickVerdict::Granted)];
        };
        let mut answer = Vec::new();
        let verdict = self.verdict(place, from, tick.at_s, now);
        if let Some(entry) = self.entries.get_mut(place) {
            if entry.told && tick.at_s <= entry.over_s {
                answer.push(ScheduleSaid::Over(entry.tick(entry.over_s)));
            }
            if verdict == TickVerdict::Granted {
                entry.open = Some(Open {
                    by: from,
                    at_s: tick.at_s,
                    heard_ms: now.steady_ms,
                });
            }
        }
        answer.push(ScheduleSaid::Verdict(tick, verdict));
        answer
    }

    fn verdict(&mut self, place: usize, from: Incarnation, at_s: i64, now: Now) -> TickVerdict {
        let address = self.peers.get(&from).and_then(|peer| peer.address);
        let Some(entry) = self.entries.get(place) else {
            return TickVerdict::Granted;
        };
        if entry.told && at_s <= entry.over_s {
            return TickVerdict::Refused;
        }
        if at_s.saturating_mul(1_000) > now.wall_ms.saturating_add(EARLY_MS) {
            return TickVerdict::Early;
        }
        let goes_before = |address| entry.rank(from, address) > entry.rank(self.own, self.address);
        match &entry.turn {
            Turn::Begun { .. } => return TickVerdict::Refused,
            Turn::Asking { .. } if !address.is_some_and(goes_before) => {
                return TickVerdict::Refused;
            }
            Turn::Asking { .. } => {
                self.withdraw(place, now.steady_ms + REFUSED_PAUSE_MS);
                return TickVerdict::Granted;
            }
            Turn::Idle => {}
        }
        let open = entry.open.as_ref().filter(|open| open.by != from);
        match open.is_some_and(|open| is_waited_for(&self.peers, open, now)) {
            true => TickVerdict::Refused,
            false => TickVerdict::Granted,
        }
    }

    fn hear_verdict(&mut self, from: Incarnation, tick: &Tick, verdict: TickVerdict, now: Now) {
        let Some(place) = self.place(tick) else {
            return;
        };
        let entry = self.entries.get_mut(place);
        if let Some(Turn::Asking { at_s, verdicts, .. }) = entry.map(|it| &mut it.turn)
            && *at_s == tick.at_s
        {
            verdicts.insert(from, verdict);
            self.decide(place, now);
        }
    }

    fn hear_over(&mut self, from: Incarnation, tick: &Tick, now: Now) {
        let Some(place) = self.place(tick) else {
            return;
        };
        self.over(place, tick.at_s, now);
        if let Some(entry) = self.entries.get_mut(place) {
            entry.last_s = entry.last_s.max(Some(tick.at_s));
            entry
                .open
                .take_if(|open| open.by == from && open.at_s <= tick.at_s);
        }
    }

    /// Somebody says that ticks up to this one are over.
    fn over(&mut self, place: usize, at_s: i64, now: Now) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        // Whoever says so has a wrong clock.
        if at_s > now.wall_s() + CLOCK_WRONG_S || !entry.over(at_s) {
            return;
        }
        self.changes += 1;
        if matches!(entry.turn, Turn::Asking { at_s: own_s, .. } if own_s <= at_s) {
            self.withdraw(place, 0);
        }
    }

    fn hear_known(&mut self, from: Incarnation, known: Vec<KnownSchedule>, now: Now) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heard = true;
            let names = known.iter();
            let names = names.map(|it| (it.tenant.clone(), it.schedule.clone()));
            peer.looks_after = names.collect();
        }
        for it in known {
            let mut entries = self.entries.iter();
            let place = entries.position(|entry| entry.is(&it.tenant, &it.schedule));
            let Some(place) = place else { continue };
            if let Some(over_s) = it.over_s {
                self.over(place, over_s, now);
            }
            if let Some(entry) = self.entries.get_mut(place) {
                entry.hear_known(from, &it, now);
            }
        }
    }
}

impl Entry {
    fn hear_known(&mut self, from: Incarnation, known: &KnownSchedule, now: Now) {
        self.last_s = self.last_s.max(known.last_s);
        if !self.told && known.over_s.is_none() && known.since_s < self.over_s {
            self.over_s = known.since_s;
            self.next = Next::Unknown;
        }
        match known.open_s {
            None => _ = self.open.take_if(|open| open.by == from),
            Some(at_s) if self.open.is_none() && !(self.told && at_s <= self.over_s) => {
                self.open = Some(Open {
                    by: from,
                    at_s,
                    heard_ms: now.steady_ms,
                });
            }
            Some(_) => {}
        }
    }
}
