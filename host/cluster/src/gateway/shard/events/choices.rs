//! What routers that are components have chosen for the next event of each lane, or are asked for it.

use rustc_hash::FxHashMap;
use tidegate_hub::lanes::WorkerKey;

use super::Events;

/// Of one lane.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway::shard) enum Choice {
    /// The router is asked, under this number.
    Asked(u64),
    /// It has chosen this worker, or leaves it to `bind`.
    Made(Option<WorkerKey>),
}

/// Of all lanes whose next event has not been sent.
#[derive(Debug, Default)]
pub(super) struct Choices {
    asked: u64,
    lanes: FxHashMap<u32, Choice>,
}

impl Choices {
    /// The event is sent, or there is none any more.
    pub(super) fn forget(&mut self, number: u32) {
        if !self.lanes.is_empty() {
            self.lanes.remove(&number);
        }
    }
}

impl Events {
    /// What is known of the next event of a lane.
    pub(in crate::gateway::shard) fn choice(&self, number: u32) -> Option<Choice> {
        self.choices.lanes.get(&number).copied()
    }

    /// The router is asked for the next event of a lane. Gives the number of that question.
    pub(in crate::gateway::shard) fn ask_router(&mut self, number: u32) -> u64 {
        self.choices.asked += 1;
        let asked = self.choices.asked;
        self.choices.lanes.insert(number, Choice::Asked(asked));
        asked
    }

    /// It has answered. False if nobody waits for that any more.
    pub(in crate::gateway::shard) fn router_answers(
        &mut self,
        number: u32,
        asked: u64,
        worker: Option<WorkerKey>,
    ) -> bool {
        let is_awaited = matches!(self.choice(number), Some(Choice::Asked(it)) if it == asked);
        if is_awaited {
            self.choices.lanes.insert(number, Choice::Made(worker));
        }
        is_awaited
    }

    /// The next event of a lane is sent.
    pub(in crate::gateway::shard) fn forget_choice(&mut self, number: u32) {
        self.choices.forget(number);
    }
}
