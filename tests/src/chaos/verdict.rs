//! What follows from all that was seen: whether it is as if nothing had happened.
//!
//! The design excuses four things, and nothing else is excused here:
//! * a close is not told if the client's gateway and all its custodians were lost: two workers, unless
//!   the gateway saw workers on one other machine only, or the client had come, or lost a custodian, so
//!   lately that its gateway had not said yet that it has both. It may say less than the client's last
//!   state if the gateway was lost with the worker that served it, or while that changed;
//! * what a home had not passed on when it died, others do not hear; the handler did run;
//! * a gateway that has just started, or a send to one, does not reach gateways that no register has
//!   told it of yet;
//! * a handler that was told a close may be told it again by another custodian, when the gateway was
//!   lost. Its effects are heard once all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::history::{End, History, TOLD_AFTER_END};
use super::holdings::{self, Values};
use super::ledger::{Asked, Book, Close, Seen, Told, Watch};
use super::runs::{Run, Runs};

/// Gateways know each other, and links between them have been resumed, after so long.
const ACQUAINTED: Duration = Duration::from_secs(8);
/// Clients notice a close later than others hear of it, at most by so much.
const NOTICED: Duration = Duration::from_secs(5);
/// Violations that are told; the rest is counted.
const TOLD_MAX: usize = 40;

/// Figures of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    /// Connections whose handler answered.
    pub(super) connections: usize,
    /// Connections that broke with their gateway.
    pub(super) broken: usize,
    /// Messages that were answered, in order and once.
    pub(super) answered: u64,
    /// Messages from client to client that arrived.
    pub(super) passed_on: u64,
    /// Closes that were told by nobody, the gateway and its custodians being lost.
    pub(super) excused: usize,
    /// The same by the end of the gateway, in the order of the run.
    pub(super) excuses: BTreeMap<Instant, (End, usize)>,
    /// Closes that more than one event told.
    pub(super) told_twice: usize,
    /// Looks at what a watcher heard.
    pub(super) looks: usize,
    /// Looks at what a watcher may miss: a gateway died while it passed it on.
    pub(super) excused_looks: usize,
}

/// Draws the conclusions.
pub(super) fn verdict(book: &Book, runs: &Runs, history: &History) -> (Sums, Vec<String>) {
    let sums = Sums {
        connections: book.seen.len(),
        broken: book.broken.len(),
        answered: book.answered,
        passed_on: book.pairs.values().map(|pair| pair.heard).sum(),
        ..Sums::default()
    };
    let mut judge = Judge {
        book,
        runs,
        history,
        sums,
        wrong: book.violations.clone(),
    };
    judge.breaks();
    let doors = judge.doors();
    for (id, told) in &book.told {
        judge.told(id, told);
        if !book.seen.contains_key(id) {
            judge.stranger(id, told, &doors);
        }
    }
    for (id, seen) in &book.seen {
        judge.client(id, seen);
    }
    let Judge {
        sums, mut wrong, ..
    } = judge;
    if wrong.len() > TOLD_MAX {
        let more = wrong.len() - TOLD_MAX;
        wrong.truncate(TOLD_MAX);
        wrong.push(format!("… and {more} more"));
    }
    (sums, wrong)
}

struct Judge<'a> {
    book: &'a Book,
    runs: &'a Runs,
    history: &'a History,
    sums: Sums,
    wrong: Vec<String>,
}

impl Judge<'_> {
    /// Only the end of its gateway ends a connection.
    fn breaks(&mut self) {
        for broken in &self.book.broken {
            if self
                .history
                .end_that_broke(broken.gateway, broken.asked, broken.at)
                .is_none()
            {
                let text = format!(
                    "gateway {} lives and has closed {}",
                    broken.gateway, broken.who
                );
                self.wrong.push(text);
            }
        }
    }

    /// Which gateway a client id belongs to: by the part of the id that names the gateway.
    fn doors(&self) -> BTreeMap<String, usize> {
        let seen = self.book.seen.iter();
        seen.filter_map(|(id, seen)| Some((id.get(..12)?.to_owned(), seen.asked.gateway)))
            .collect()
    }

    /// One connect, one close; the close says what the client's last state was.
    fn told(&mut self, id: &str, told: &Told) {
        if told.connects.len() > 1 {
            let text = format!("{id} is told connected by {:?}", told.connects);
            self.wrong.push(text);
        }
        let Some(seen) = self.book.seen.get(id) else {
            return;
        };
        let due = (seen.asked.uid.clone(), holdings::told(&seen.asked.groups));
        let excused = self.may_be_stale(seen);
        for (event, close) in &told.closes {
            let Close {
                reason,
                count,
                named,
                value,
            } = close;
            // Also what is stale is of one time.
            let right = seen.values.at(*count);
            if *value != right {
                self.wrong.push(format!(
                    "{id}: its close {event} ({reason}) counts {count} messages and has value {value}, \
                     right would be {right}"
                ));
            }
            if excused {
                continue;
            }
            if !(seen.answered..=seen.sent).contains(count) {
                let Seen { sent, answered, .. } = seen;
                self.wrong.push(format!(
                    "{id} {}: its session counts {count} messages at its close {event} ({reason}), \
                     {answered} of {sent} were answered; run as {:?}",
                    self.about(seen),
                    self.runs_of(id)
                ));
            }
            if *named != due {
                self.wrong.push(format!(
                    "{id}: its close {event} ({reason}) names {named:?}, right would be {due:?}"
                ));
            }
        }
    }

    /// Whether a close may say less than the client's last state: its custodian was lost with the
    /// gateway, or the gateway named another one that had not heard of it when the gateway was lost;
    /// so an earlier custodian told it.
    fn may_be_stale(&self, seen: &Seen) -> bool {
        let end = seen.over.and_then(|over| self.end_of(seen, over));
        end.is_some_and(|end| {
            let Seen { served, worker, .. } = *seen;
            let moved = worker.is_none_or(|it| self.history.may_have_moved(end, served, it));
            moved || self.history.server_may_be_lost(end, served, worker)
        })
    }

    /// The end of a client's gateway with which its close may be lost: it broke the connection, or came
    /// so soon after it that the close was not passed on.
    fn end_of(&self, seen: &Seen, over: Instant) -> Option<End> {
        let (gateway, until) = (seen.asked.gateway, over + TOLD_AFTER_END);
        let asked = seen.asked.at;
        let broke = self.history.end_that_broke(gateway, asked, over);
        broke.or_else(|| self.history.first_end_between(gateway, over, until))
    }

    /// A client that never got its first answer, though a handler saw it connect.
    fn stranger(&mut self, id: &str, told: &Told, doors: &BTreeMap<String, usize>) {
        let Some(gateway) = id.get(..12).and_then(|door| doors.get(door)) else {
            return;
        };
        // A watcher lives until it breaks. Another one broke, or was given up, soon after its connect,
        // if that is what was told of it first; or its gateway ended before its close was told.
        let watch = self.book.watches.iter().find(|watch| watch.id == id);
        if watch.is_some_and(|watch| watch.until.is_none()) {
            return;
        }
        let first = watch.and_then(|it| it.until).unwrap_or(told.first);
        let near = first.checked_sub(TOLD_AFTER_END).unwrap_or(first);
        let until = first + TOLD_AFTER_END;
        let end = self.history.first_end_between(*gateway, near, until);
        let first = end.map_or(first, |end| end.at);
        let seen = Seen {
            asked: Asked {
                gateway: *gateway,
                at: first,
                uid: String::new(),
                groups: BTreeSet::new(),
            },
            known: first,
            over: Some(first),
            sent: 0,
            answered: 0,
            values: Values::default(),
            worker: None,
            served: first,
        };
        self.close(id, &seen, first);
    }

    fn client(&mut self, id: &str, seen: &Seen) {
        let until = seen.known + TOLD_AFTER_END;
        let ended = self.was_new(seen.asked.gateway, seen.asked.at)
            || (self.history).ended_between(seen.asked.gateway, seen.asked.at, until);
        let heard = |watch: &Watch| watch.connects.contains(id);
        for watch in watches(self.book, seen.asked.at) {
            self.sums.looks += 1;
            if !heard(watch) && ended {
                self.sums.excused_looks += 1;
            } else if !heard(watch) {
                self.wrong.push(format!(
                    "the watcher of gateway {} was not told the connect of {id} {}",
                    watch.gateway,
                    self.about(seen)
                ));
            }
        }
        if let Some(over) = seen.over {
            self.close(id, seen, over);
        } else {
            self.wrong.push(format!("{id} is still open"));
        }
    }

    /// The close of a client is run once, and heard by every watcher.
    fn close(&mut self, id: &str, seen: &Seen, over: Instant) {
        let gateway = seen.asked.gateway;
        let none = Vec::new();
        let runs = self.runs.get(id).unwrap_or(&none);
        let end = self.end_of(seen, over);
        let mut events: Vec<_> = runs.iter().map(|run| run.event.as_str()).collect();
        events.sort_unstable();
        events.dedup();
        let by_home = runs.iter().filter(|run| !run.is_custodians());
        let mut homes: Vec<_> = by_home.map(|run| run.event.as_str()).collect();
        homes.sort_unstable();
        homes.dedup();
        if events.len() > 1 {
            self.sums.told_twice += 1;
        }
        if homes.len() > 1 || (events.len() > 1 && end.is_none()) {
            self.wrong.push(format!(
                "{id} of gateway {gateway} is told closed by {events:?}"
            ));
        }
        if runs.is_empty() && !self.is_heard(id) {
            match end {
                Some(end) if self.history.custodians_may_be_lost(end, seen) => {
                    self.sums.excused += 1;
                    self.sums.excuses.entry(end.at).or_insert((end, 0)).1 += 1;
                }
                _ => {
                    let about = self.about(seen);
                    self.wrong
                        .push(format!("no handler saw the close of {id} {about}"));
                }
            }
            return;
        }
        self.hearing(id, seen, over, runs, end);
    }

    /// What is known of a client, with times as the schedule has them.
    fn about(&self, seen: &Seen) -> String {
        let ms = |at| self.history.ms(at);
        format!(
            "of gateway {}, connecting at {} ms, over at {:?} ms, served last by {:?} at {} ms",
            seen.asked.gateway,
            ms(seen.asked.at),
            seen.over.map(ms),
            seen.worker,
            ms(seen.served)
        )
    }

    fn runs_of(&self, id: &str) -> Vec<(&str, usize)> {
        let runs = self.runs.get(id).into_iter().flatten();
        runs.map(|it| (it.event.as_str(), it.worker)).collect()
    }

    fn is_heard(&self, id: &str) -> bool {
        let told = self.book.told.get(id);
        told.is_some_and(|told| !told.closes.is_empty())
    }

    /// Whoever watched all the while hears it.
    fn hearing(&mut self, id: &str, seen: &Seen, over: Instant, runs: &[Run], end: Option<End>) {
        // One that leaves closes after that; what breaks may have closed before it is noticed.
        let since = match end {
            Some(_) => over.checked_sub(NOTICED).unwrap_or(over).max(seen.asked.at),
            None => over,
        };
        for watch in watches(self.book, since) {
            self.sums.looks += 1;
            if watch.closes.contains(id) {
                continue;
            }
            let excused = end.map_or_else(
                || self.was_new(seen.asked.gateway, over),
                |end| self.may_be_unheard(runs, end),
            );
            if excused {
                self.sums.excused_looks += 1;
                continue;
            }
            let events = self.runs_of(id);
            self.wrong.push(format!(
                "the watcher of gateway {} since {} ms was not told the close of {id} {}, run as {events:?}",
                watch.gateway,
                self.history.ms(watch.from),
                self.about(seen)
            ));
        }
    }

    /// Whether a gateway had started so lately that it may not have known all others.
    fn was_new(&self, gateway: usize, at: Instant) -> bool {
        let since = at.checked_sub(ACQUAINTED).unwrap_or(at);
        let together = self.book.acquainted.is_some_and(|since| since <= at);
        !together && self.history.ended_between(gateway, since, at)
    }

    /// Whether what a close had others told may be lost: with the home that had committed it, with
    /// the gateway that had adopted it, or with the worker that ran it.
    fn may_be_unheard(&self, runs: &[Run], end: End) -> bool {
        if !runs.iter().any(Run::is_custodians) {
            return true;
        }
        runs.iter().filter(|run| run.is_custodians()).all(|run| {
            let until = run.at + TOLD_AFTER_END;
            let since = run.at.checked_sub(ACQUAINTED).unwrap_or(run.at);
            self.history.another_ended(end, since, until)
                || self
                    .history
                    .worker_killed_between(run.worker, run.at, until)
        })
    }
}

/// The watchers that watched long before `since`, or since all gateways knew each other, and on until
/// it was told.
fn watches(book: &Book, since: Instant) -> impl Iterator<Item = &Watch> {
    let until = since + TOLD_AFTER_END;
    let together = book.acquainted.filter(|at| *at <= since);
    let settled = move |watch: &&Watch| {
        let knows = together.is_some_and(|at| watch.from < at) || watch.from + ACQUAINTED < since;
        knows && watch.until.is_none_or(|it| until < it)
    };
    book.watches.iter().filter(settled)
}
