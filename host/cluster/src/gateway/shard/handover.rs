//! Custody that changes hands while the custodian still lives: a worker leaves in peace. Each of its
//! clients gets an heir; both are told what others change, until the heir has said that it knows the
//! client. Then the heir is the custodian and the earlier one is released. A worker that leaves is let
//! go when no handover of its clients is open, so that there is always somebody who could tell a close.

use std::collections::BTreeMap;

use tidegate_wire::frame::Frame;
use tidegate_wire::id::ClientId;

use super::State;
use crate::gateway::pending::WorkerKey;

/// Those that are open.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    number: u64,
    open: Vec<Handover>,
}

#[derive(Debug)]
struct Handover {
    number: u64,
    from: WorkerKey,
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
                self.lanes.name_heir(number, heir);
                self.tell_custody(number, heir);
                by_heir.entry(heir).or_default().push(number);
            }
        }
        for (heir, clients) in by_heir {
            self.handovers.number += 1;
            let number = self.handovers.number;
            let open = Handover {
                number,
                from,
                heir,
                clients,
            };
            self.handovers.open.push(open);
            self.workers.handover_begins(from);
            self.workers.handover_begins(heir);
            if let Some(worker) = self.workers.get(heir) {
                let shard = self.index;
                // If the link has ended, the loss of the heir ends the handover.
                let _ = worker.link.sender.send(Frame::Confirm { shard, number });
            }
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
        let taken = clients.iter().filter(|it| self.lanes.inherit(**it, heir));
        let taken: Vec<u32> = taken.copied().collect();
        let released: Vec<ClientId> = taken.iter().map(|it| self.client_id(*it)).collect();
        if let Some(worker) = self.workers.get(from) {
            // A worker that has gone has nothing to forget.
            let _ = worker.link.sender.send(Frame::Release(released));
        }
        self.workers.handover_ends(from);
        self.workers.handover_ends(heir);
        if self.workers.is_draining(heir) {
            self.hand_over(heir, taken);
        }
        self.workers.tell_drained(from);
        self.workers.tell_drained(heir);
    }

    /// A worker is lost: what was to be handed over to it goes to others.
    pub(super) fn end_handovers(&mut self, lost: WorkerKey) {
        let concerned = |it: &mut Handover| it.from == lost || it.heir == lost;
        let ended: Vec<Handover> = self.handovers.open.extract_if(.., concerned).collect();
        for it in &ended {
            self.workers.handover_ends(it.from);
            self.workers.handover_ends(it.heir);
        }
        for it in ended {
            self.hand_over(it.from, it.clients);
            self.workers.tell_drained(it.from);
            self.workers.tell_drained(it.heir);
        }
    }
}
