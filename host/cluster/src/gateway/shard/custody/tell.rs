//! What custodians are told of their clients: everything, or what has changed, or that they may forget
//! one. Taken from the hub when it is sent, in batches within each worker's window; see
//! [`CustodyUpdates`](tidegate_hub::custody_updates::CustodyUpdates).

use tidegate_hub::custody_updates::{Names, Next, Parts, Task};
use tidegate_hub::lanes::WorkerKey;
use tidegate_wire::Name;
use tidegate_wire::event::{ClientSnapshot, SessionEntries};
use tidegate_wire::frame::{Custody, CustodyChange, GatewayFrame, GroupsChange};
use tidegate_wire::id::{ClientId, Incarnation};
use tidegate_wire::session::Session;
use tidegate_wire::weight;

use crate::gateway::shard::State;

/// What a custodian's rank counts in the window.
const RANK_BYTES: usize = 32;

/// What a worker is told again that was told amid events.
const ANEW: Parts = Parts {
    rank: false,
    ..Parts::ALL
};

/// A batch that is being made.
#[derive(Default)]
struct CustodyBatch {
    custodies: Vec<Custody>,
    changes: Vec<CustodyChange>,
    ranks: Vec<(ClientId, Option<Incarnation>)>,
    releases: Vec<ClientId>,
}

impl CustodyBatch {
    fn frames(self) -> impl Iterator<Item = GatewayFrame> {
        let custodies =
            (!self.custodies.is_empty()).then_some(GatewayFrame::Custody(self.custodies));
        let changes =
            (!self.changes.is_empty()).then_some(GatewayFrame::CustodyChanged(self.changes));
        let releases = (!self.releases.is_empty()).then_some(GatewayFrame::Release(self.releases));
        let ranks = (!self.ranks.is_empty()).then_some(GatewayFrame::CustodyRank(self.ranks));
        [custodies, changes, ranks, releases].into_iter().flatten()
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
    Last(&'a ClientSnapshot),
}

impl Record<'_> {
    fn snapshot(&self) -> ClientSnapshot {
        match self.session {
            Snapshot::Last(session) => session.clone(),
            Snapshot::Live(session, version) => ClientSnapshot {
                version,
                entries: session.map(SessionEntries::from).unwrap_or_default(),
                arrival: None,
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
    pub(in crate::gateway::shard) fn tell_custodians(&mut self) {
        for key in self.workers.take_untold() {
            self.tell(key);
        }
    }

    fn tell(&mut self, key: WorkerKey) {
        let mut batch = CustodyBatch::default();
        let room = self.context.settings.link.queue_bytes_max / 4;
        loop {
            if self.workers.is_busy(key, room) {
                // It goes on in one of the next turns.
                self.workers.has_untold(key);
                return self.send_batch(key, batch);
            }
            let Some(updates) = self.workers.custody_updates(key) else {
                return;
            };
            let Some(next) = updates.next_due() else {
                return self.send_batch(key, batch);
            };
            self.write(key, next, &mut batch);
            let updates = self.workers.custody_updates(key);
            if updates.is_some_and(|updates| updates.is_full()) {
                self.send_batch(key, std::mem::take(&mut batch));
            }
        }
    }

    fn send_batch(&mut self, key: WorkerKey, batch: CustodyBatch) {
        self.workers.tell(key, batch.frames(), self.index);
    }

    /// Adds one client to a batch.
    fn write(&mut self, key: WorkerKey, next: Next, batch: &mut CustodyBatch) {
        let number = next.connection;
        let client = self.client_id(number);
        let mut parts = match next.task {
            Task::Release => {
                batch.releases.push(client);
                self.events.lanes_mut().released(number, key);
                if let Some(updates) = self.workers.custody_updates(key) {
                    updates.released();
                }
                return;
            }
            Task::Tell(_) if !next.known => Parts::ALL,
            Task::Tell(parts) => parts,
        };
        if parts.rank {
            batch.ranks.extend(self.rank(number, key, next.known));
        }
        let is_at_work = self.events.lanes().is_at_work(number, key);
        if is_at_work && next.known && !parts.is_only_rank() {
            // The worker runs events whose commits are not here yet: what it is told now would lack them.
            // Until they are committed its own record stays as it is, which is of one time.
            let rank = std::mem::take(&mut parts.rank);
            self.events.lanes_mut().postpone(number, key);
            if let Some(updates) = self.workers.custody_updates(key) {
                if rank {
                    updates.told(number, RANK_BYTES, false);
                }
                updates.postpone(number, parts);
            }
            return;
        }
        let bytes = if parts.is_only_rank() {
            RANK_BYTES
        } else if parts.keys == Names::All
            && (is_at_work || !self.events.lanes().mirrors(number, key))
        {
            let place = self.place_of(number, key);
            let Some(custody) = place.and_then(|place| self.custody(number, place)) else {
                return;
            };
            let bytes = weight::custody(&custody);
            batch.custodies.push(custody);
            bytes
        } else {
            let Some(change) = self.change(number, parts) else {
                return;
            };
            let bytes = weight::custody_change(&change);
            batch.changes.push(change);
            bytes
        };
        self.metrics.custody_told(bytes);
        let entrusts = self.events.lanes().is_unconfirmed(number, key);
        if is_at_work && !next.known {
            self.events.lanes_mut().told_amid(number, key);
        } else {
            self.events.lanes_mut().told(number, key);
        }
        if let Some(updates) = self.workers.custody_updates(key) {
            updates.told(number, bytes, entrusts);
            if is_at_work && !next.known {
                updates.postpone(number, ANEW);
            }
        }
    }

    /// Whether a worker is the first custodian or the second. Who was never told otherwise takes itself
    /// for the first.
    fn rank(
        &self,
        number: u32,
        key: WorkerKey,
        known: bool,
    ) -> Option<(ClientId, Option<Incarnation>)> {
        let behind = self.events.lanes().stands_behind(number, key);
        let behind = behind.and_then(|first| self.workers.incarnation(first));
        (behind.is_some() || known).then_some((self.client_id(number), behind))
    }

    /// The place of a client's tenant at a worker.
    fn place_of(&self, number: u32, key: WorkerKey) -> Option<u16> {
        let name = self.tenant_name(self.events.lanes().tenant(number)?)?;
        self.workers.place_of(key, name)
    }

    fn custody(&self, number: u32, place: u16) -> Option<Custody> {
        let record = self.record(number)?;
        let mut session = record.snapshot();
        session.arrival = self.events.lanes().arrival(number).cloned();
        Some(Custody {
            tenant: place,
            client: self.client_id(number),
            uid: record.uid.cloned(),
            groups: record.groups.to_vec(),
            session,
        })
    }

    /// These parts as they are. Where all keys are meant, the worker has the session.
    fn change(&self, number: u32, parts: Parts) -> Option<CustodyChange> {
        let record = self.record(number)?;
        let keys = match parts.keys {
            Names::Some(keys) => keys,
            Names::All => Vec::new(),
        };
        let entry = |key: Name| {
            let value = record.value(&key);
            (key, value)
        };
        Some(CustodyChange {
            client: self.client_id(number),
            uid: parts.uid.then(|| record.uid.cloned()),
            groups: record.groups(&parts.groups),
            entries: keys.into_iter().map(entry).collect(),
        })
    }

    fn record(&self, number: u32) -> Option<Record<'_>> {
        let tenant = self.events.lanes().tenant(number)?;
        let hub = self.clients.hub(tenant)?;
        if let Some(client) = hub.client(number) {
            return Some(Record {
                uid: client.uid(),
                groups: client.groups(),
                session: Snapshot::Live(client.session(), client.session_version()),
            });
        }
        let (closed, session) = self.events.lanes().closing(number)?;
        Some(Record {
            uid: closed.uid.as_ref(),
            groups: &closed.groups,
            session: Snapshot::Last(session),
        })
    }

    /// Sends the custody of a client in front of an event of it. Gives the bytes, which count in the window
    /// of events.
    pub(in crate::gateway::shard) fn entrust_with_event(
        &mut self,
        number: u32,
        key: WorkerKey,
        place: u16,
    ) -> usize {
        let Some(custody) = self.custody(number, place) else {
            return 0;
        };
        let bytes = weight::custody(&custody);
        self.metrics.custody_told(bytes);
        let crosses = self.events.lanes_mut().told_with_event(number, key);
        let again = crosses.then_some(ANEW);
        self.workers.entrust(key, number, custody, again);
        bytes
    }

    /// Sends a custodian what waits to be told of a client in front of an event of it, if no other event of
    /// it is under way: while one is, nothing can be told. The session goes with the event or is known.
    /// Gives the bytes, which count in the window of events.
    pub(in crate::gateway::shard) fn tell_with_event(
        &mut self,
        number: u32,
        key: WorkerKey,
    ) -> usize {
        let Some(mut parts) = self.workers.take_parts(key, number) else {
            return 0;
        };
        parts.keys = Names::default();
        let mut bytes = 0;
        if parts.rank {
            let rank = self.rank(number, key, true);
            let rank = GatewayFrame::CustodyRank(rank.into_iter().collect());
            self.workers.send(key, rank);
            bytes += RANK_BYTES;
        }
        if !parts.is_only_rank()
            && let Some(change) = self.change(number, parts)
        {
            bytes += weight::custody_change(&change);
            self.workers
                .send(key, GatewayFrame::CustodyChanged(vec![change]));
        }
        self.metrics.custody_told(bytes);
        if self.events.lanes().is_unconfirmed(number, key)
            && let Some(updates) = self.workers.custody_updates(key)
        {
            updates.told(number, 0, true);
            self.workers.has_untold(key);
        }
        self.events.lanes_mut().told_with_event(number, key);
        bytes
    }
}
