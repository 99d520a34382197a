//! Rounds: one question of this shard to whoever can matter, all asked in one step, and the parts
//! that come back.
//!
//! A gateway that gives nothing by the deadline is suspect: it is missing at once in later rounds,
//! until its link shows a sign of life after that. One without a link, or with a full one, is
//! missing at once.

use std::net::SocketAddrV4;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tidegate_hub::directory::merge;
use tidegate_wire::frame::PeerFrame;
use tidegate_wire::id::Incarnation;
use tidegate_wire::query::{Answer, Answered, Ask, AskError, Query, SwapRefusal};
use tokio::sync::oneshot;

use crate::gateway::questions::{ask_here, is_work};
use crate::gateway::shard::State;
use crate::gateway::shard::peers::Reached;
use crate::gateway::shared::gather::{Asked, Done, ask_shards, shards_of};

/// Rounds that wait for parts.
#[derive(Debug, Default)]
pub(in crate::gateway::shard) struct Rounds {
    waiting: FxHashMap<u64, Round>,
    last: u64,
}

#[derive(Debug)]
struct Round {
    found: Found,
    /// Shards of this gateway are still to answer.
    here: bool,
    /// Gateways that are still to answer.
    peers: Vec<(Incarnation, SocketAddrV4)>,
    done: oneshot::Sender<Found>,
}

impl Round {
    /// Nobody is still to answer.
    fn is_whole(&self) -> bool {
        !self.here && self.peers.is_empty()
    }

    /// A gateway is not waited for any more, if it was.
    fn strike_out(&mut self, peer: Incarnation) -> Option<SocketAddrV4> {
        let place = self.peers.iter().position(|(asked, _)| *asked == peer)?;
        Some(self.peers.swap_remove(place).1)
    }
}

/// What a round has brought.
#[derive(Debug, Default)]
pub(super) struct Found {
    parts: Vec<Answer>,
    missing: Vec<SocketAddrV4>,
    error: Option<AskError>,
}

impl Found {
    fn take(&mut self, gateway: SocketAddrV4, part: Result<Answer, AskError>) {
        match part {
            Ok(part) => self.parts.push(part),
            Err(error) => {
                self.error = Some(error);
                self.missing.push(gateway);
            }
        }
    }

    /// The answer, with whoever is missing in it.
    pub(super) fn conclude(mut self, query: &Query) -> Result<Answered, AskError> {
        if self.parts.is_empty()
            && let Some(error) = self.error
        {
            return Err(error);
        }
        self.missing.sort_unstable();
        self.missing.dedup();
        let alone = self.parts.is_empty() && self.missing.is_empty();
        // A client that nobody can have.
        let offline = alone && matches!(query, Query::CompareAndSet { .. });
        let answer = if offline {
            Answer::Swapped(Err(SwapRefusal::Offline))
        } else {
            merge(query, self.parts).ok_or(AskError::Timeout)?
        };
        Ok(Answered {
            answer,
            missing: self.missing,
        })
    }
}

/// A round that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) number: u64,
    pub(super) found: oneshot::Receiver<Found>,
}

impl Rounds {
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Lets a round wait for its parts, if any are still to come.
    fn wait(&mut self, number: u64, round: Round) {
        if round.is_whole() {
            // The receiver is held by the caller.
            let _ = round.done.send(round.found);
        } else {
            self.waiting.insert(number, round);
        }
    }

    /// The other shards of this gateway, whose address is `own`, have answered.
    pub(in crate::gateway::shard) fn part_of_shards(
        &mut self,
        own: SocketAddrV4,
        number: u64,
        part: Result<Answer, AskError>,
    ) {
        if let Some(round) = self.waiting.get_mut(&number) {
            round.here = false;
            round.found.take(own, part);
            self.end_if_whole(number);
        }
    }

    /// Another gateway has answered.
    pub(in crate::gateway::shard) fn part_of_peer(
        &mut self,
        peer: Incarnation,
        number: u64,
        part: Result<Answer, AskError>,
    ) {
        if let Some(round) = self.waiting.get_mut(&number)
            && let Some(address) = round.strike_out(peer)
        {
            round.found.take(address, part);
            self.end_if_whole(number);
        }
    }

    /// A gateway answers nothing that it was asked until now.
    pub(in crate::gateway::shard) fn peer_down(&mut self, peer: Incarnation) {
        let mut ended = Vec::new();
        for (number, round) in &mut self.waiting {
            if let Some(address) = round.strike_out(peer) {
                round.found.missing.push(address);
                ended.push(*number);
            }
        }
        for number in ended {
            self.end_if_whole(number);
        }
    }

    fn end_if_whole(&mut self, number: u64) {
        if self.waiting.get(&number).is_some_and(Round::is_whole)
            && let Some(round) = self.waiting.remove(&number)
        {
            // Whoever asked may have given up.
            let _ = round.done.send(round.found);
        }
    }

    /// Nobody waits for the round any more.
    pub(super) fn forget(&mut self, number: u64) {
        self.remove(number);
    }

    fn remove(&mut self, number: u64) -> Option<Round> {
        self.waiting.remove(&number)
    }
}

impl State {
    /// Asks all who can matter, in this step.
    pub(super) fn begin_round(&mut self, asked: &Arc<Asked>) -> Begun {
        let number = self.questions.rounds().next_number();
        let (done, receiver) = oneshot::channel();
        let mut round = Round {
            found: Found::default(),
            here: false,
            peers: Vec::new(),
            done,
        };
        let Reached { own, peers } = self.peers.reached(&asked.query);
        // The others first: they work while this shard does its own part.
        for (address, peer) in peers {
            let question = || self.ask_frame(number, asked);
            if self.peers.ask(peer, &asked.tenant, question) {
                round.peers.push((peer, address));
            } else {
                round.found.missing.push(address);
            }
        }
        if own {
            self.ask_own(number, asked, &mut round);
        }
        self.questions.rounds().wait(number, round);
        Begun {
            number,
            found: receiver,
        }
    }

    fn ask_frame(&self, number: u64, asked: &Asked) -> PeerFrame {
        PeerFrame::Ask(Box::new(Ask {
            shard: self.index,
            number,
            tenant: asked.tenant.clone(),
            effects: asked.effects.clone(),
            query: asked.query.clone(),
            within_ms: u32::try_from(asked.within.as_millis()).unwrap_or(u32::MAX),
        }))
    }

    fn ask_own(&mut self, number: u64, asked: &Arc<Asked>, round: &mut Round) {
        let done = Done::Shard {
            index: self.index,
            number,
        };
        if is_work(&asked.query) {
            round.here = true;
            return ask_here(&self.services, asked, done);
        }
        let mut shards = shards_of(&self.context, asked);
        let own = usize::from(self.index);
        let mine = shards.contains(&own);
        shards.retain(|shard| *shard != own);
        if !shards.is_empty() {
            round.here = true;
            ask_shards(&self.context, asked, &shards, done);
        }
        if mine {
            let part = self.part(asked);
            round.found.take(self.context.settings.announced, part);
        }
    }

    /// The deadline is over: what is there must do.
    pub(super) fn end_round(&mut self, number: u64, suspect: bool) -> Found {
        let Some(mut round) = self.questions.rounds().remove(number) else {
            return Found::default();
        };
        if round.here {
            round.found.missing.push(self.context.settings.announced);
        }
        for (peer, address) in round.peers {
            round.found.missing.push(address);
            if suspect {
                self.peers.missed_deadline(peer);
            }
        }
        round.found
    }
}
