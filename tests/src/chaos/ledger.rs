//! What was seen of every connection, by its client and by the watchers, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fleet::End;

/// A connection that its gateway's end has closed is noticed at most so long before or after it:
/// a gateway that was declared lost closes its clients first.
const END_NOTICED: Duration = Duration::from_secs(8);

/// Violations that are told; the rest is counted.
const TOLD_MAX: usize = 40;

/// The book of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    seen: BTreeMap<String, Seen>,
    told: BTreeMap<String, Told>,
    broken: Vec<Broken>,
    pairs: BTreeMap<(String, String), Pair>,
    violations: Vec<String>,
    answered: u64,
    broken_before_answer: u64,
}

/// A connection, as its client sees it.
#[derive(Clone, Debug)]
struct Seen {
    gateway: usize,
    open: bool,
    sent: u64,
    answered: u64,
}

/// What watchers heard of a client.
#[derive(Debug, Default)]
struct Told {
    connects: BTreeSet<String>,
    /// By event: the reason and the session's count.
    closes: BTreeMap<String, (String, u64)>,
}

#[derive(Debug)]
struct Broken {
    gateway: usize,
    at: Instant,
    who: String,
}

/// What one client sent to another.
#[derive(Debug, Default)]
struct Pair {
    sent: u64,
    heard: u64,
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    /// Connections whose handler answered.
    pub(super) connections: usize,
    /// Connections that broke with their gateway.
    pub(super) broken: usize,
    /// Messages that were answered, in order and once.
    pub(super) answered: u64,
    /// Messages from client to client that arrived.
    pub(super) passed_on: u64,
}

impl Ledger {
    /// Something that must not be.
    pub(super) fn violation(&self, text: String) {
        self.book().violations.push(text);
    }

    /// A client knows its id.
    pub(super) fn connected(&self, id: &str, gateway: usize) {
        let seen = Seen {
            gateway,
            open: true,
            sent: 0,
            answered: 0,
        };
        let mut book = self.book();
        if book.seen.insert(id.to_owned(), seen).is_some() {
            book.violations
                .push(format!("two clients have the id {id}"));
        }
    }

    /// A client has sent so many messages.
    pub(super) fn sent(&self, id: &str, sent: u64) {
        if let Some(seen) = self.book().seen.get_mut(id) {
            seen.sent = sent;
        }
    }

    /// A client has got so many answers.
    pub(super) fn answered(&self, id: &str, answered: u64) {
        let mut book = self.book();
        book.answered += 1;
        if let Some(seen) = book.seen.get_mut(id) {
            seen.answered = answered;
        }
    }

    /// A client closes its connection.
    pub(super) fn left(&self, id: &str) {
        if let Some(seen) = self.book().seen.get_mut(id) {
            seen.open = false;
        }
    }

    /// A connection was broken from the other side, of a client that knows its id or not yet.
    pub(super) fn broken(&self, id: Option<&str>, gateway: usize, why: &str) {
        let mut book = self.book();
        match id.and_then(|id| book.seen.get_mut(id)) {
            Some(seen) => seen.open = false,
            None => book.broken_before_answer += 1,
        }
        let id = id.unwrap_or("one that had no answer yet");
        book.broken.push(Broken {
            gateway,
            at: Instant::now(),
            who: format!("{id}: {why}"),
        });
    }

    /// Some client that is connected, by any number.
    pub(super) fn any_open(&self, nth: usize) -> Option<String> {
        let book = self.book();
        let open: Vec<_> = book.seen.iter().filter(|(_, seen)| seen.open).collect();
        let (id, _) = open.get(nth % open.len().max(1))?;
        Some((*id).clone())
    }

    /// The clients that are connected.
    pub(super) fn open(&self) -> BTreeSet<String> {
        let book = self.book();
        let open = book.seen.iter().filter(|(_, seen)| seen.open);
        open.map(|(id, _)| id.clone()).collect()
    }

    /// A client has sent so many messages to another.
    pub(super) fn passed_on(&self, from: &str, to: &str, sent: u64) {
        let mut book = self.book();
        let pair = book.pairs.entry((from.to_owned(), to.to_owned()));
        pair.or_default().sent = sent;
    }

    /// A client has heard the message `number` of another.
    pub(super) fn heard(&self, from: &str, to: &str, number: u64) {
        let mut book = self.book();
        let key = (from.to_owned(), to.to_owned());
        let pair = book.pairs.entry(key).or_default();
        let due = pair.heard;
        pair.heard = number + 1;
        if number != due {
            let text = format!("{to} hears message {number} of {from} where {due} was due");
            book.violations.push(text);
        }
    }

    /// What is still on its way between clients that are connected.
    pub(super) fn on_the_way(&self) -> Vec<String> {
        let book = self.book();
        let is_open = |id: &String| book.seen.get(id).is_some_and(|seen| seen.open);
        let waits = book
            .pairs
            .iter()
            .filter(|((from, to), pair)| is_open(from) && is_open(to) && pair.heard < pair.sent);
        waits
            .map(|((from, to), pair)| {
                format!(
                    "{to} heard {} of {} messages of {from}",
                    pair.heard, pair.sent
                )
            })
            .collect()
    }

    /// What a watcher was sent. `before` is what this connection of it was sent already.
    pub(super) fn told(&self, text: &str, before: &mut BTreeSet<String>) {
        let parts: Vec<_> = text.split(':').collect();
        let mut book = self.book();
        let key = match parts.as_slice() {
            ["connected", id, event, ..] => {
                let told = book.told.entry((*id).to_owned()).or_default();
                told.connects.insert((*event).to_owned());
                format!("connected:{id}:{event}")
            }
            ["closed", id, event, reason, count] => {
                let told = book.told.entry((*id).to_owned()).or_default();
                let close = ((*reason).to_owned(), count.parse().unwrap_or(0));
                told.closes.insert((*event).to_owned(), close);
                format!("closed:{id}:{event}")
            }
            _ => return,
        };
        if !before.insert(key) {
            book.violations
                .push(format!("a watcher is told twice: {text}"));
        }
    }

    /// Connections that are over and whose close no watcher has heard.
    pub(super) fn untold(&self) -> Vec<String> {
        let book = self.book();
        let over = book.seen.iter().filter(|(_, seen)| !seen.open);
        let known = over.map(|(id, _)| id);
        let heard = book.told.keys().filter(|id| !book.seen.contains_key(*id));
        let is_untold = |id: &&String| book.told.get(*id).is_none_or(|it| it.closes.is_empty());
        known.chain(heard).filter(is_untold).cloned().collect()
    }

    /// Draws the conclusions. `runs` are the closes that handlers ran, `ends` the ends of gateways'
    /// lives.
    pub(super) fn conclude(&self, runs: &BTreeSet<String>, ends: &[End]) -> (Sums, Vec<String>) {
        let untold = self.untold();
        let book = self.book();
        let mut wrong = book.violations.clone();
        for broken in &book.broken {
            let ended = ends.iter().any(|end| {
                let between = end.at.max(broken.at) - end.at.min(broken.at);
                end.gateway == broken.gateway && between < END_NOTICED
            });
            if !ended {
                let Broken { gateway, who, .. } = broken;
                wrong.push(format!("gateway {gateway} lives and has closed {who}"));
            }
        }
        for id in &untold {
            // A gateway that dies takes along what it had not sent on; the handler did see it.
            if !runs.contains(id) {
                wrong.push(format!("no handler saw the close of {id}"));
            } else if ends.is_empty() {
                wrong.push(format!(
                    "a handler saw the close of {id}, its effects are lost"
                ));
            }
        }
        for (id, told) in &book.told {
            book.check(id, told, &mut wrong);
        }
        if wrong.len() > TOLD_MAX {
            let more = wrong.len() - TOLD_MAX;
            wrong.truncate(TOLD_MAX);
            wrong.push(format!("… and {more} more"));
        }
        let sums = Sums {
            connections: book.seen.len(),
            broken: book.broken.len(),
            answered: book.answered,
            passed_on: book.pairs.values().map(|pair| pair.heard).sum(),
        };
        (sums, wrong)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn check(&self, id: &str, told: &Told, wrong: &mut Vec<String>) {
        if told.connects.len() > 1 {
            wrong.push(format!("{id} is told connected by {:?}", told.connects));
        }
        if told.closes.len() > 1 {
            wrong.push(format!("{id} is told closed by {:?}", told.closes));
        }
        let Some(seen) = self.seen.get(id) else {
            return;
        };
        for (event, (reason, count)) in &told.closes {
            if !(seen.answered..=seen.sent).contains(count) {
                let Seen {
                    gateway,
                    sent,
                    answered,
                    ..
                } = seen;
                wrong.push(format!(
                    "{id} of gateway {gateway}: its session counts {count} messages at its close \
                     {event} ({reason}), {answered} of {sent} were answered"
                ));
            }
        }
    }
}
