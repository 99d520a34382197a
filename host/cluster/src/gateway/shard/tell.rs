//! What custodians are told of their clients: everything, or what has changed, or that they may forget
//! one. Taken from the hub when it is sent, in batches within each worker's window; see
//! [`telling`](crate::gateway::telling).

use tidegate_wire::Name;
use tidegate_wire::event::{SessionEntries, SessionSnapshot};
use tidegate_wire::frame::{Custody, CustodyChange, Frame, GroupsChange};
use tidegate_wire::id::{ClientId, Incarnation};
use tidegate_wire::session::Session;

use super::State;
use crate::gateway::pending::WorkerKey;
use crate::gateway::telling::{Names, Next, Parts, Task};
use crate::link::weight;

/// What a client's standing counts.
const STANDING_BYTES: usize = 32;

/// A batch that is being made.
#[derive(Default)]
struct Letter {
    custodies: Vec<Custody>,
    changes: Vec<CustodyChange>,
    standings: Vec<(ClientId, Option<Incarnation>)>,
    releases: Vec<ClientId>,
}

impl Letter {
    fn frames(self) -> impl Iterator<Item = Frame> {
        let custodies = (!self.custodies.is_empty()).then_some(Frame::Custody(self.custodies));
        let changes = (!self.changes.is_empty()).then_some(Frame::CustodyChanged(self.changes));
        let releases = (!self.releases.is_empty()).then_some(Frame::Release(self.releases));
        let standings = (!self.standings.is_empty()).then_some(Frame::Standing(self.standings));
        [custodies, changes, standings, releases]
            .into_iter()
            .flatten()
    }
}

/// What is known of a client, in the hub or, once it has gone, in its lane.
struct Record<'a> {
    uid: Option<&'a Name>,
    groups: &'a [Name],
    session: Snapshot<'a>,
}

enum Snapshot<'a> {
    Live(Option<&'a Session>, u64),
    Last(&'a SessionSnapshot),
}

impl Record<'_> {
    fn snapshot(&self) -> SessionSnapshot {
        match self.session {
            Snapshot::Last(session) => session.clone(),
            Snapshot::Live(session, version) => SessionSnapshot {
                version,
                entries: session.map(SessionEntries::from).unwrap_or_default(),
            },
        }
    }

    fn value(&self, key: &Name) -> Option<String> {
        match self.session {
            Snapshot::Live(session, _) => session?.get(key).map(str::to_owned),
            Snapshot::Last(session) => {
                let place = session.entries.binary_search_by(|(it, _)| it.cmp(key));
                session
                    .entries
                    .get(place.ok()?)
                    .map(|(_, value)| value.clone())
            }
        }
    }

    fn groups(&self, groups: &Names) -> GroupsChange {
        match groups {
            Names::All => GroupsChange::All(self.groups.to_vec()),
            Names::Some(names) => {
                let is_member =
                    |name: &Name| (name.clone(), self.groups.binary_search(name).is_ok());
                GroupsChange::Some(names.iter().map(is_member).collect())
            }
        }
    }
}

impl State {
    /// Tells the workers what their windows allow.
    pub(super) fn tell_custodians(&mut self) {
        for key in self.workers.take_untold() {
            self.tell(key);
        }
    }

    fn tell(&mut self, key: WorkerKey) {
        let mut letter = Letter::default();
        let room = self.context.settings.link.queue_bytes_max / 4;
        loop {
            if self.workers.is_busy(key, room) {
                // It goes on in one of the next turns.
                self.workers.has_untold(key);
                return self.send_letter(key, letter);
            }
            let Some(worker) = self.workers.get_mut(key) else {
                return;
            };
            let Some(next) = worker.telling.next_due() else {
                return self.send_letter(key, letter);
            };
            self.write(key, next, &mut letter);
            let worker = self.workers.get(key);
            if worker.is_some_and(|worker| worker.telling.is_full()) {
                self.send_letter(key, std::mem::take(&mut letter));
            }
        }
    }

    /// Sends a batch, and asks the worker to confirm it if somebody waits for that.
    fn send_letter(&mut self, key: WorkerKey, letter: Letter) {
        let shard = self.index;
        let Some(worker) = self.workers.get_mut(key) else {
            return;
        };
        let sender = &worker.link.sender;
        // If the link has ended, other custodians are named when its loss arrives.
        for frame in letter.frames() {
            let _ = sender.send(frame);
        }
        if let Some(number) = worker.telling.ask() {
            let _ = sender.send(Frame::Confirm { shard, number });
        }
    }

    /// Adds one client to a batch.
    fn write(&mut self, key: WorkerKey, next: Next, letter: &mut Letter) {
        let number = next.connection;
        let client = self.client_id(number);
        let Some(worker) = self.workers.get(key) else {
            return;
        };
        let parts = match next.task {
            Task::Release => {
                letter.releases.push(client);
                self.lanes.released(number, key);
                if let Some(worker) = self.workers.get_mut(key) {
                    worker.telling.released();
                }
                return;
            }
            Task::Tell(_) if !next.known => Parts::ALL,
            Task::Tell(parts) => parts,
        };
        let tenant = self.lanes.tenant(number);
        let name = tenant.and_then(|tenant| self.tenant_name(tenant));
        let place = name.and_then(|name| worker.place_of(name));
        let behind = self.lanes.stands_behind(number, key);
        let behind = behind.and_then(|first| Some(self.workers.get(first)?.link.worker));
        // Who was never told otherwise takes itself for the first.
        if parts.standing && (behind.is_some() || next.known) {
            letter.standings.push((client, behind));
        }
        let (Some(place), Some(record)) = (place, self.record(number)) else {
            return;
        };
        // What its own events did to the session it knows, and what they do.
        let mirrors = self.lanes.mirrors(number, key);
        let bytes = if parts.keys == Names::All && !mirrors {
            let custody = Custody {
                tenant: place,
                client,
                uid: record.uid.cloned(),
                groups: record.groups.to_vec(),
                session: record.snapshot(),
            };
            let bytes = weight::custody(&custody);
            letter.custodies.push(custody);
            bytes
        } else if parts.is_only_standing() {
            STANDING_BYTES
        } else {
            let keys = match parts.keys {
                Names::Some(keys) => keys,
                Names::All => Vec::new(),
            };
            let change = CustodyChange {
                client,
                uid: parts.uid.then(|| record.uid.cloned()),
                groups: record.groups(&parts.groups),
                entries: keys
                    .into_iter()
                    .map(|key| (key.clone(), record.value(&key)))
                    .collect(),
            };
            let bytes = weight::custody_change(&change);
            letter.changes.push(change);
            bytes
        };
        self.metrics.custody_told(bytes);
        let entrusts = self.lanes.is_unconfirmed(number, key);
        self.lanes.told(number, key);
        if let Some(worker) = self.workers.get_mut(key) {
            worker.telling.told(number, bytes, entrusts);
        }
    }

    fn record(&self, number: u32) -> Option<Record<'_>> {
        let tenant = self.lanes.tenant(number)?;
        let hub = self.hubs.get(usize::from(tenant))?;
        if let Some(client) = hub.client(number) {
            return Some(Record {
                uid: client.uid(),
                groups: client.groups(),
                session: Snapshot::Live(client.session(), client.session_version()),
            });
        }
        let (closed, session) = self.lanes.closing(number)?;
        Some(Record {
            uid: closed.uid.as_ref(),
            groups: &closed.groups,
            session: Snapshot::Last(session),
        })
    }

    /// Makes a worker the custodian of a client by what goes before an event of it, which counts in the
    /// window of events. Says what it counts.
    pub(super) fn entrust_with_event(&mut self, number: u32, key: WorkerKey, place: u16) -> usize {
        let client = self.client_id(number);
        let Some(record) = self.record(number) else {
            return 0;
        };
        let custody = Custody {
            tenant: place,
            client,
            uid: record.uid.cloned(),
            groups: record.groups.to_vec(),
            session: record.snapshot(),
        };
        let bytes = weight::custody(&custody);
        self.metrics.custody_told(bytes);
        self.lanes.told_with_event(number, key);
        if let Some(worker) = self.workers.get_mut(key) {
            worker.telling.told_apart(number);
            // If the link has ended, another custodian is named when its loss arrives.
            let _ = worker.link.sender.send(Frame::Custody(vec![custody]));
        }
        bytes
    }
}
