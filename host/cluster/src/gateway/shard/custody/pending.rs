//! What is still to be done about custody.

use std::collections::VecDeque;

use tidegate_wire::id::CloseId;

/// What is still to be done about custody.
#[derive(Debug, Default)]
pub(in crate::gateway::shard) struct Custody {
    /// Clients whose custodians may be missing or leaving.
    reviews: VecDeque<u32>,
    /// Closes of lost gateways that were told and applied here: second custodians forget them.
    told: Vec<CloseId>,
}

impl Custody {
    /// The custodians of a client are to be looked at.
    pub(super) fn review_later(&mut self, number: u32) {
        self.reviews.push_back(number);
    }

    /// Those of all clients are, and these are all.
    pub(super) fn review_all(&mut self, clients: impl Iterator<Item = u32>) {
        self.reviews.clear();
        self.reviews.extend(clients);
    }

    pub(super) fn next_review(&mut self) -> Option<u32> {
        self.reviews.pop_front()
    }

    /// How many clients are to be looked at.
    pub(in crate::gateway::shard) fn reviews(&self) -> usize {
        self.reviews.len()
    }

    /// A close of a lost gateway was told and is applied here.
    pub(in crate::gateway::shard) fn close_told(&mut self, close: CloseId) {
        self.told.push(close);
    }

    pub(in crate::gateway::shard) fn take_told(&mut self) -> Vec<CloseId> {
        std::mem::take(&mut self.told)
    }
}
