//! What one worker's link is to carry about clients in custody: whom the worker must be told of, in
//! order, within a window that it acknowledges. Pure.
//!
//! Only connection numbers wait here, and which parts of the client changed; what is sent is taken
//! from the hub at that moment, so that changes while a client waits are told at once and nothing
//! older ever follows. A client with events under way at the worker may be put off until they are
//! committed: they may have changed it since. What is sent and not acknowledged is bounded: the worker is asked to confirm
//! each batch, and the next one goes when it has.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_wire::Name;

/// What all shards together may have sent to one worker that it has not confirmed.
const WINDOW_BYTES: usize = 1 << 20;
/// The most that one confirm asks for, unless a single client is larger.
const BATCH_BYTES: usize = 256 << 10;
/// So many changed groups, or keys, are told one by one; with more all are told.
const NAMES_MAX: usize = 16;
/// What a release counts.
const RELEASE_BYTES: usize = 32;

/// Which of some names must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// These.
    Some(Vec<Name>),
    /// All.
    All,
}

impl Default for Names {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl Names {
    fn add(&mut self, name: &Name) {
        let Self::Some(names) = self else { return };
        if names.contains(name) {
            return;
        }
        if names.len() >= NAMES_MAX {
            *self = Self::All;
        } else {
            names.push(name.clone());
        }
    }
}

/// Which parts of a client must be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Its uid.
    pub uid: bool,
    /// Its groups.
    pub groups: Names,
    /// Keys of its session.
    pub keys: Names,
    /// Whether the worker is its first custodian or the second.
    pub rank: bool,
}

impl Parts {
    /// Whether nothing but its rank must be told.
    #[must_use]
    pub fn is_only_rank(&self) -> bool {
        !self.uid && self.groups == Names::default() && self.keys == Names::default()
    }

    /// Everything, also its rank.
    pub const ALL: Self = Self {
        uid: true,
        groups: Names::All,
        keys: Names::All,
        rank: true,
    };

    fn add(&mut self, part: Part<'_>) {
        match part {
            Part::All => {
                self.uid = true;
                self.groups = Names::All;
                self.keys = Names::All;
            }
            Part::Uid => self.uid = true,
            Part::Group(group) => self.groups.add(group),
            Part::Key(key) => self.keys.add(key),
            Part::Session => self.keys = Names::All,
            Part::Rank => self.rank = true,
        }
    }
}

/// A part of a client that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Anything that a close would need.
    All,
    /// Its uid.
    Uid,
    /// Its membership of this group.
    Group(&'a Name),
    /// This key of its session.
    Key(&'a Name),
    /// Its whole session.
    Session,
    /// Whether the worker is its first custodian or the second.
    Rank,
}

/// What a worker must be told of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// These parts of it.
    Tell(Parts),
    /// That it may forget it.
    Release,
}

/// What is to be told next.
#[derive(Debug, PartialEq, Eq)]
pub struct Next {
    /// Of which client.
    pub connection: u32,
    /// What.
    pub task: Task,
    /// The worker was told all of the client before, over this link.
    pub known: bool,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: usize,
    /// Clients whose custodian the worker becomes by it.
    clients: Vec<u32>,
}

/// One worker's link, for one shard.
#[derive(Debug)]
pub struct CustodyUpdates {
    window: usize,
    tasks: FxHashMap<u32, Task>,
    /// Of the tasks, in the order in which they came; a number without a task is passed over.
    order: VecDeque<u32>,
    releases: usize,
    /// Of the tasks, those that wait for events of the client and stand in no order.
    postponed: FxHashSet<u32>,
    /// Clients that the worker was told all of, and the batch in which it was.
    known: FxHashMap<u32, u64>,
    /// The batch that is being sent, and its number.
    batch: Batch,
    number: u64,
    /// Those that the worker was asked to confirm.
    asked: VecDeque<(u64, Batch)>,
    unconfirmed: usize,
}

impl CustodyUpdates {
    /// Nothing to tell; the window is shared by so many shards, and is a part of the link's queue.
    #[must_use]
    pub fn new(shards: usize, queue_bytes_max: usize) -> Self {
        let window = WINDOW_BYTES.min(queue_bytes_max / 4);
        Self {
            window: (window / shards.max(1)).max(1),
            tasks: FxHashMap::default(),
            order: VecDeque::new(),
            releases: 0,
            postponed: FxHashSet::default(),
            known: FxHashMap::default(),
            batch: Batch::default(),
            number: 1,
            asked: VecDeque::new(),
            unconfirmed: 0,
        }
    }

    /// Part of a client must be told.
    pub fn mark(&mut self, connection: u32, part: Part<'_>) {
        if let Some(Task::Tell(parts)) = self.tasks.get_mut(&connection) {
            return parts.add(part);
        }
        let mut parts = Parts::default();
        parts.add(part);
        self.set(connection, Task::Tell(parts));
    }

    /// The worker may forget a client: nothing else need be told of it.
    pub fn release(&mut self, connection: u32) {
        self.known.remove(&connection);
        self.set(connection, Task::Release);
    }

    fn set(&mut self, connection: u32, task: Task) {
        self.releases += usize::from(task == Task::Release);
        let before = self.tasks.insert(connection, task);
        self.releases -= usize::from(before == Some(Task::Release));
        if before.is_none() || self.postponed.remove(&connection) {
            self.enqueue(connection);
        }
    }

    fn enqueue(&mut self, connection: u32) {
        self.order.push_back(connection);
        self.sweep();
    }

    /// These parts of a client, about whom nothing else waits, are told once [`Self::resume`] says so.
    pub fn postpone(&mut self, connection: u32, parts: Parts) {
        self.tasks.insert(connection, Task::Tell(parts));
        self.postponed.insert(connection);
    }

    /// What was postponed of a client may be told.
    pub fn resume(&mut self, connection: u32) {
        if self.postponed.remove(&connection) {
            self.enqueue(connection);
        }
    }

    /// Takes what is to be told of a client whom the worker knows out of its turn, because an event of
    /// it is about to overtake it.
    pub fn take_parts(&mut self, connection: u32) -> Option<Parts> {
        if self.tasks.is_empty() || !self.known.contains_key(&connection) {
            return None;
        }
        match self.tasks.remove(&connection)? {
            Task::Tell(parts) => {
                self.postponed.remove(&connection);
                Some(parts)
            }
            release @ Task::Release => {
                self.tasks.insert(connection, release);
                None
            }
        }
    }

    /// Keeps the order in proportion to the tasks, also if clients are told apart from it.
    fn sweep(&mut self) {
        if self.order.len() > 2 * self.tasks.len() + 64 {
            let mut seen = FxHashSet::default();
            let tasks = &self.tasks;
            let live = |it: &u32| tasks.contains_key(it) && seen.insert(*it);
            self.order.retain(live);
        }
    }

    /// The client is gone and the worker has forgotten it by itself.
    pub fn forget(&mut self, connection: u32) {
        self.told_apart(connection);
        self.known.remove(&connection);
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether a release waits.
    #[must_use]
    pub const fn releases(&self) -> bool {
        self.releases > 0
    }

    /// What is to be told next, if the window has room.
    #[must_use = "it waits no longer"]
    pub fn next_due(&mut self) -> Option<Next> {
        while self.unconfirmed < self.window {
            let connection = self.order.pop_front()?;
            let Some(task) = self.tasks.remove(&connection) else {
                continue;
            };
            self.releases -= usize::from(task == Task::Release);
            let known = self.known.contains_key(&connection);
            return Some(Next {
                connection,
                task,
                known,
            });
        }
        None
    }

    /// A client was told. With `entrusts` the worker is its custodian once it has confirmed.
    pub fn told(&mut self, connection: u32, bytes: usize, entrusts: bool) {
        self.known.entry(connection).or_insert(self.number);
        if entrusts {
            self.batch.clients.push(connection);
        }
        self.sent(bytes);
    }

    /// A release was told.
    pub fn released(&mut self) {
        self.sent(RELEASE_BYTES);
    }

    fn sent(&mut self, bytes: usize) {
        self.batch.bytes += bytes;
        self.unconfirmed += bytes;
    }

    /// A client was told with an event of its own, within the window of events.
    pub fn told_apart(&mut self, connection: u32) {
        if let Some(Task::Release) = self.tasks.remove(&connection) {
            self.releases -= 1;
        }
        self.postponed.remove(&connection);
        self.known.entry(connection).or_insert(self.number);
    }

    /// Takes a release out of its turn: something that concerns the client is about to overtake it.
    /// True if there was one.
    pub fn take_release(&mut self, connection: u32) -> bool {
        let waits = self.releases > 0 && matches!(self.tasks.get(&connection), Some(Task::Release));
        if waits {
            self.tasks.remove(&connection);
            self.releases -= 1;
        }
        waits
    }

    /// Whether the batch is large enough to be confirmed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.batch.bytes >= BATCH_BYTES.min(self.window / 2)
    }

    /// Ends the batch and numbers it, if the worker must confirm it.
    pub fn ask(&mut self) -> Option<u64> {
        if self.batch.clients.is_empty() && !self.is_full() {
            return None;
        }
        let number = self.number;
        self.number += 1;
        let batch = std::mem::take(&mut self.batch);
        self.asked.push_back((number, batch));
        Some(number)
    }

    /// The worker has taken everything up to the batch of this number. Gives the clients that it was
    /// entrusted with and not released from since.
    pub fn confirmed(&mut self, number: u64) -> Vec<u32> {
        let mut clients = Vec::new();
        while let Some((asked, _)) = self.asked.front() {
            if *asked > number {
                break;
            }
            if let Some((_, batch)) = self.asked.pop_front() {
                self.unconfirmed -= batch.bytes;
                clients.extend(batch.clients);
            }
        }
        let known = &self.known;
        clients.retain(|it| known.get(it).is_some_and(|told| *told <= number));
        clients
    }

    /// Bytes that were sent and are not confirmed.
    #[must_use]
    pub const fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }
}

#[cfg(test)]
mod tests;
