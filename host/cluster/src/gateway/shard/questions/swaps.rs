//! The compare-and-sets of events under way, so that a further try at an event, on the same worker
//! or another, gets the results of the first. Pure.

use rustc_hash::FxHashMap;
use tidegate_wire::query::{Answered, AskError, Query};
use tokio::sync::watch;

/// Compare-and-sets of one event. Of each only a digest is kept: values may be long.
const PER_EVENT_MAX: usize = 1000;

/// What became of one.
pub(super) type Outcome = Result<Answered, AskError>;

/// By the sequence of their event.
#[derive(Debug, Default)]
pub(super) struct Swaps {
    events: FxHashMap<u64, Vec<Swap>>,
}

#[derive(Debug)]
struct Swap {
    query: blake3::Hash,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Swap {
    /// Whether it has a result or will have one. What failed on the way was not done, as far as
    /// anybody knows: it is done again.
    fn counts(&self) -> bool {
        match &*self.outcome.borrow() {
            Some(outcome) => outcome.is_ok(),
            None => self.outcome.has_changed().is_ok(),
        }
    }
}

/// Whether the result is known, or on its way.
#[derive(Debug)]
pub(super) enum Known {
    /// It is not: do it, and tell the result.
    No(watch::Sender<Option<Outcome>>),
    /// It is.
    Yes(watch::Receiver<Option<Outcome>>),
}

impl Swaps {
    /// One compare-and-set of an event; `nth` counts those of one try at it.
    pub(super) fn ask(
        &mut self,
        sequence: u64,
        nth: u32,
        query: &Query,
    ) -> Result<Known, AskError> {
        let place = nth as usize;
        if place >= PER_EVENT_MAX {
            let text = format!("{PER_EVENT_MAX} compare-and-sets in one event");
            return Err(AskError::Overloaded(text));
        }
        let swaps = self.events.entry(sequence).or_default();
        let query = digest(query)?;
        let known = |swap: &&Swap| swap.query == query && swap.counts();
        if let Some(swap) = swaps.get(place).filter(known) {
            return Ok(Known::Yes(swap.outcome.clone()));
        }
        // A handler that asks for something else now has left the path of the first try.
        swaps.truncate(place);
        let (tell, outcome) = watch::channel(None);
        swaps.push(Swap { query, outcome });
        Ok(Known::No(tell))
    }

    /// The event is committed.
    pub(super) fn forget(&mut self, sequence: u64) {
        if !self.events.is_empty() {
            self.events.remove(&sequence);
        }
    }
}

fn digest(query: &Query) -> Result<blake3::Hash, AskError> {
    let text = serde_json::to_vec(query).map_err(|error| AskError::Invalid(error.to_string()))?;
    Ok(blake3::hash(&text))
}

#[cfg(test)]
mod tests {
    use tidegate_wire::id::ClientId;
    use tidegate_wire::query::Answer;

    use super::*;

    #[test]
    fn a_further_try_gets_the_result_of_the_same_question_only_and_no_value_is_kept() {
        let client = ClientId {
            ip: 1,
            port: 2,
            connection: 3,
        };
        let query = |value: &str| Query::CompareAndSet {
            client,
            key: "k".into(),
            expected: None,
            new: Some(value.repeat(50_000)),
            nth: 0,
        };
        let mut swaps = Swaps::default();
        let Ok(Known::No(tell)) = swaps.ask(1, 0, &query("a")) else {
            panic!("nobody has asked before");
        };
        let done = Answered {
            answer: Answer::Swapped(Ok(())),
            missing: vec![],
        };
        tell.send(Some(Ok(done))).unwrap();
        assert!(matches!(swaps.ask(1, 0, &query("a")), Ok(Known::Yes(_))));
        assert!(matches!(swaps.ask(1, 0, &query("b")), Ok(Known::No(_))));
        assert!(size_of::<Swap>() < 100);
        swaps.forget(1);
        assert!(swaps.events.is_empty());
    }
}
