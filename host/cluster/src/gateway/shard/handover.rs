//! Custody that changes hands while the custodian still lives: a worker leaves in peace. Each of its
//! clients gets an heir; both are told what others change, until the heir has said that it knows the
//! client. Then the heir is the custodian and the earlier one is released. A worker that leaves is let
//! go when no handover of its clients is open, so that there is always somebody who could tell a close.
//! Custodians named after a loss are asked in the same way, when another worker waits to forget.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;
use tidegate_wire::frame::Frame;
use tidegate_wire::id::ClientId;

use super::State;
use crate::gateway::pending::WorkerKey;

/// Those that are open, and questions to custodians.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    number: u64,
    open: Vec<Handover>,
}

#[derive(Debug)]
struct Handover {
    number: u64,
    /// None: the heir is the custodian already, and is only asked whether it knows.
    from: Option<WorkerKey>,
    heir: WorkerKey,
    clients: Vec<u32>,
}

impl State {
    /// Hands over all clients of a worker that is leaving, as far as there is anybody to take them.
    pub(super) fn hand_over_all(&mut self, from: WorkerKey) {
        let all = self.lanes.connections().collect();
        self.hand_over(from, all);
    }

    /// The same for those of these clients whose custodian it is.
    pub(super) fn hand_over(&mut self, from: WorkerKey, numbers: Vec<u32>) {
        let mut by_heir: BTreeMap<WorkerKey, Vec<u32>> = BTreeMap::new();
        for number in numbers {
            if self.lanes.custodian(number) == Some(from)
                && self.lanes.may_be_handed_over(number)
                && let Some(heir) = self.choose_custodian(number)
            {
                self.name_heir(number, heir);
                by_heir.entry(heir).or_default().push(number);
            }
        }
        for (heir, clients) in by_heir {
            self.ask(Some(from), heir, clients);
        }
    }

    /// Names the heir of a client, and tells it what it would need to tell the close.
    pub(super) fn name_heir(&mut self, number: u32, heir: WorkerKey) {
        self.lanes.name_heir(number, heir);
        self.tell_custody(number, heir);
    }

    /// Asks the custodians of these clients whether they know them, as far as they are not asked.
    pub(super) fn ask_custodians(&mut self, mut numbers: Vec<u32>) {
        let open = self.handovers.open.iter();
        let asked: FxHashSet<(WorkerKey, u32)> = open
            .flat_map(|it| it.clients.iter().map(|number| (it.heir, *number)))
            .collect();
        let mut by_custodian: BTreeMap<WorkerKey, Vec<u32>> = BTreeMap::new();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(custodian) = self.lanes.custodian(number)
                && !asked.contains(&(custodian, number))
            {
                by_custodian.entry(custodian).or_default().push(number);
            }
        }
        for (custodian, clients) in by_custodian {
            self.ask(None, custodian, clients);
        }
    }

    fn ask(&mut self, from: Option<WorkerKey>, heir: WorkerKey, clients: Vec<u32>) {
        self.handovers.number += 1;
        let number = self.handovers.number;
        self.handovers.open.push(Handover {
            number,
            from,
            heir,
            clients,
        });
        for worker in from.into_iter().chain([heir]) {
            self.workers.handover_begins(worker);
        }
        if let Some(worker) = self.workers.get(heir) {
            let shard = self.index;
            // If the link has ended, the loss of the heir ends the handover.
            let _ = worker.link.sender.send(Frame::Confirm { shard, number });
        }
    }

    /// An heir has taken what it was told before this number.
    pub(super) fn confirmed(&mut self, heir: WorkerKey, number: u64) {
        let mut open = self.handovers.open.iter();
        let place = open.position(|it| it.heir == heir && it.number == number);
        let Some(place) = place else {
            return;
        };
        let Handover { from, clients, .. } = self.handovers.open.swap_remove(place);
        if let Some(from) = from {
            self.inherited(from, heir, &clients);
        } else {
            clients.iter().for_each(|it| self.lanes.confirm(*it, heir));
            self.recognise_all();
        }
        self.handover_ended(from, heir);
    }

    fn inherited(&mut self, from: WorkerKey, heir: WorkerKey, clients: &[u32]) {
        let taken = clients.iter().filter(|it| self.lanes.inherit(**it, heir));
        let taken: Vec<u32> = taken.copied().collect();
        let released: Vec<ClientId> = taken.iter().map(|it| self.client_id(*it)).collect();
        if let Some(worker) = self.workers.get(from) {
            // A worker that has gone has nothing to forget.
            let _ = worker.link.sender.send(Frame::Release(released));
        }
        if self.workers.is_draining(heir) {
            self.hand_over(heir, taken);
        }
    }

    /// A worker is lost: what was to be handed over to it goes to others.
    pub(super) fn end_handovers(&mut self, lost: WorkerKey) {
        let concerned = |it: &mut Handover| it.from == Some(lost) || it.heir == lost;
        let ended: Vec<Handover> = self.handovers.open.extract_if(.., concerned).collect();
        for it in ended {
            if let Some(from) = it.from {
                self.hand_over(from, it.clients);
            }
            self.handover_ended(it.from, it.heir);
        }
    }

    fn handover_ended(&mut self, from: Option<WorkerKey>, heir: WorkerKey) {
        for worker in from.into_iter().chain([heir]) {
            self.workers.handover_ends(worker);
            self.workers.tell_drained(worker);
        }
    }
}
