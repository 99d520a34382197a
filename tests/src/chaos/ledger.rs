//! What was seen of every connection, by its client and by the watchers. It notes at once what can
//! be wrong in no case; `verdict` draws the conclusions from the rest.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::holdings::{self, Values};

/// The book of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    book: Mutex<Book>,
}

/// All facts.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By id, the connections whose handler answered.
    pub(super) seen: BTreeMap<String, Seen>,
    open: BTreeSet<String>,
    /// By id, what was told of a client by a handler.
    pub(super) told: BTreeMap<String, Told>,
    /// When all gateways had been seen to list the same: they know each other since.
    pub(super) acquainted: Option<Instant>,
    /// The connections of watchers.
    pub(super) watches: Vec<Watch>,
    /// Connections that were broken from the other side.
    pub(super) broken: Vec<Broken>,
    /// What clients sent to each other.
    pub(super) pairs: BTreeMap<(String, String), Pair>,
    /// What must not be.
    pub(super) violations: Vec<String>,
    /// Messages that were answered, in order and once.
    pub(super) answered: u64,
}

/// What a client asked for with its connect.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Which gateway.
    pub(super) gateway: usize,
    /// When it began to connect.
    pub(super) at: Instant,
    /// The uid that it asked to be bound to.
    pub(super) uid: String,
    /// The groups that it asked to be in.
    pub(super) groups: BTreeSet<u64>,
}

/// A connection, as its client sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// How it began.
    pub(super) asked: Asked,
    /// When its handler had answered.
    pub(super) known: Instant,
    /// When it was over.
    pub(super) over: Option<Instant>,
    /// How many messages it sent.
    pub(super) sent: u64,
    /// How many were answered.
    pub(super) answered: u64,
    /// The session values that it asked for.
    pub(super) values: Values,
    /// Which worker served it last.
    pub(super) worker: Option<usize>,
    /// When.
    pub(super) served: Instant,
}

/// What any watcher was told of a client.
#[derive(Debug)]
pub(super) struct Told {
    /// The first time.
    pub(super) first: Instant,
    /// The events that told its connect.
    pub(super) connects: BTreeSet<String>,
    /// By event, what a close said.
    pub(super) closes: BTreeMap<String, Close>,
}

/// What a close said.
#[derive(Clone, Debug)]
pub(super) struct Close {
    /// Why.
    pub(super) reason: String,
    /// The session's count.
    pub(super) count: u64,
    /// The uid and the groups.
    pub(super) named: (String, String),
    /// The session's value.
    pub(super) value: String,
}

/// One connection of a watcher.
#[derive(Debug)]
pub(super) struct Watch {
    /// Its id.
    pub(super) id: String,
    /// At which gateway.
    pub(super) gateway: usize,
    /// From when on it is in the group.
    pub(super) from: Instant,
    /// When it broke, if it did.
    pub(super) until: Option<Instant>,
    /// The clients whose connect it was told.
    pub(super) connects: HashSet<String>,
    /// The clients whose close it was told.
    pub(super) closes: HashSet<String>,
}

/// A connection that was broken from the other side.
#[derive(Debug)]
pub(super) struct Broken {
    /// By which gateway.
    pub(super) gateway: usize,
    /// When it began to connect.
    pub(super) asked: Instant,
    /// When.
    pub(super) at: Instant,
    /// Whose, and how.
    pub(super) who: String,
}

/// What one client sent to another.
#[derive(Debug, Default)]
pub(super) struct Pair {
    sent: u64,
    /// How much of it arrived.
    pub(super) heard: u64,
}

impl Ledger {
    /// All facts.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that must not be.
    pub(super) fn violation(&self, text: String) {
        self.book().violations.push(text);
    }

    /// A client knows its id.
    pub(super) fn connected(&self, id: &str, asked: Asked) {
        let now = Instant::now();
        let seen = Seen {
            asked,
            known: now,
            over: None,
            sent: 0,
            answered: 0,
            values: Values::default(),
            worker: None,
            served: now,
        };
        let mut book = self.book();
        book.open.insert(id.to_owned());
        if book.seen.insert(id.to_owned(), seen).is_some() {
            let text = format!("two clients have the id {id}");
            book.violations.push(text);
        }
    }

    /// A client sends so many messages; those with these numbers set a session value.
    pub(super) fn sent(&self, id: &str, sent: u64, values: &[u64]) {
        if let Some(seen) = self.book().seen.get_mut(id) {
            seen.sent = sent;
            values.iter().for_each(|count| seen.values.set(*count));
        }
    }

    /// A client has got so many answers, the last one from this worker.
    pub(super) fn answered(&self, id: &str, answered: u64, worker: Option<usize>) {
        let mut book = self.book();
        book.answered += 1;
        if let Some(seen) = book.seen.get_mut(id) {
            seen.answered = answered;
            seen.worker = worker;
            seen.served = Instant::now();
        }
    }

    /// A client closes its connection.
    pub(super) fn left(&self, id: &str) {
        self.book().over(id);
    }

    /// A connection was broken from the other side, of a client that knows its id or not yet.
    pub(super) fn broken(&self, id: Option<&str>, asked: &Asked, why: &str) {
        let mut book = self.book();
        let who = id.unwrap_or("one that had no answer yet");
        book.over(who);
        book.broken.push(Broken {
            gateway: asked.gateway,
            asked: asked.at,
            at: Instant::now(),
            who: format!("{who}: {why}"),
        });
    }

    /// Some client that is connected for so long, by any number, if `own` is too.
    pub(super) fn any_open(&self, nth: usize, own: &str, since: Duration) -> Option<String> {
        let book = self.book();
        let is_settled = |id: &&String| {
            let seen = book.seen.get(*id);
            seen.is_some_and(|seen| seen.known.elapsed() > since)
        };
        let count = book.open.len().max(1);
        let partner = book.open.iter().nth(nth % count);
        let own = book.open.get(own).filter(is_settled);
        own.and(partner.filter(is_settled)).cloned()
    }

    /// The clients that are connected.
    pub(super) fn open(&self) -> BTreeSet<String> {
        self.book().open.clone()
    }

    /// The groups of those who are connected: how many clients and how many uids each has.
    pub(super) fn groups(&self) -> BTreeMap<String, (u64, u64)> {
        let book = self.book();
        let mut uids = BTreeMap::<_, (u64, BTreeSet<_>)>::new();
        for seen in book.open.iter().filter_map(|id| book.seen.get(id)) {
            for number in &seen.asked.groups {
                let (clients, uids) = uids.entry(holdings::group(*number)).or_default();
                *clients += 1;
                uids.insert(seen.asked.uid.clone());
            }
        }
        let count =
            |(group, (clients, uids)): (_, (_, BTreeSet<_>))| (group, (clients, uids.len() as u64));
        uids.into_iter().map(count).collect()
    }

    /// The uids of those who are connected.
    pub(super) fn uids(&self) -> BTreeSet<String> {
        let book = self.book();
        let open = book.open.iter().filter_map(|id| book.seen.get(id));
        open.map(|seen| seen.asked.uid.clone()).collect()
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
        let waits = book.pairs.iter().filter(|((from, to), pair)| {
            pair.heard < pair.sent && book.open.contains(from) && book.open.contains(to)
        });
        waits
            .map(|((from, to), pair)| {
                let Pair { sent, heard } = pair;
                format!("{to} heard {heard} of {sent} messages of {from}")
            })
            .collect()
    }

    /// All gateways list the same.
    pub(super) fn acquainted(&self) {
        self.book().acquainted = Some(Instant::now());
    }

    /// A watcher is in its group; returns the number of its connection.
    pub(super) fn watches(&self, gateway: usize, id: String) -> usize {
        let mut book = self.book();
        book.watches.push(Watch {
            id,
            gateway,
            from: Instant::now(),
            until: None,
            connects: HashSet::new(),
            closes: HashSet::new(),
        });
        book.watches.len() - 1
    }

    /// A watcher's connection is broken.
    pub(super) fn watched(&self, watch: usize) {
        if let Some(watch) = self.book().watches.get_mut(watch) {
            watch.until = Some(Instant::now());
        }
    }

    /// What a watcher was sent.
    pub(super) fn told(&self, watch: usize, text: &str) {
        let parts: Vec<_> = text.split(':').collect();
        let mut book = self.book();
        let Book { told, watches, .. } = &mut *book;
        let Some(watch) = watches.get_mut(watch) else {
            return;
        };
        let is_new = match parts.as_slice() {
            ["connected", id, event] => {
                of(told, id).connects.insert((*event).to_owned());
                watch.connects.insert((*id).to_owned())
            }
            ["closed", id, event, reason, count, uid, groups, value] => {
                let close = Close {
                    reason: (*reason).to_owned(),
                    count: count.parse().unwrap_or(u64::MAX),
                    named: ((*uid).to_owned(), (*groups).to_owned()),
                    value: (*value).to_owned(),
                };
                of(told, id).closes.insert((*event).to_owned(), close);
                watch.closes.insert((*id).to_owned())
            }
            _ => false,
        };
        if !is_new {
            let text = format!("a watcher is told twice, or nonsense: {text}");
            book.violations.push(text);
        }
    }
}

impl Book {
    fn over(&mut self, id: &str) {
        self.open.remove(id);
        if let Some(seen) = self.seen.get_mut(id) {
            seen.over = Some(Instant::now());
        }
    }
}

fn of<'a>(told: &'a mut BTreeMap<String, Told>, id: &str) -> &'a mut Told {
    told.entry(id.to_owned()).or_insert_with(Told::new)
}

impl Told {
    fn new() -> Self {
        Self {
            first: Instant::now(),
            connects: BTreeSet::new(),
            closes: BTreeMap::new(),
        }
    }
}
