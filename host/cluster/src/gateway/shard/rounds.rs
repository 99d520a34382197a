//! Rounds: one question of this shard to whoever can matter, all asked in one step, and the parts
//! that come back.
//!
//! A gateway that gives nothing by the deadline is suspect: it is missing at once in later rounds,
//! until its link shows a sign of life after that. One without a link, or with a full one, is
//! missing at once.

use std::net::SocketAddrV4;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tidegate_hub::directory::{Reach, merge, owner, reach};
use tidegate_wire::frame::PeerFrame;
use tidegate_wire::id::{ClientId, Incarnation};
use tidegate_wire::query::{Answer, Answered, Ask, AskError, Query, SwapRefusal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::State;
use crate::gateway::questions::{ask_here, is_work};
use crate::gateway::shared::gather::{Asked, Done, ask_shards, fits, shards_of};

/// Rounds that wait for parts.
#[derive(Debug, Default)]
pub(super) struct Rounds {
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

impl State {
    /// Asks all who can matter, in this step.
    pub(super) fn begin_round(&mut self, asked: &Arc<Asked>) -> Begun {
        self.questions.rounds.last += 1;
        let number = self.questions.rounds.last;
        let (done, receiver) = oneshot::channel();
        let mut round = Round {
            found: Found::default(),
            here: false,
            peers: Vec::new(),
            done,
        };
        let (own, peers) = self.asked_gateways(asked);
        // The others first: they work while this shard does its own part.
        for (address, incarnation) in peers {
            let peer = self.peers.streams.get(&incarnation);
            let link = peer.filter(|peer| !peer.is_suspect());
            let (context, tenant) = (&self.context, &asked.tenant);
            let sent = link
                .and_then(|peer| peer.link.as_ref())
                .filter(|link| fits(context, link, tenant, ()).is_ok())
                .is_some_and(|link| link.send_for(tenant, self.ask_frame(number, asked)).is_ok());
            if sent {
                round.peers.push((incarnation, address));
            } else {
                round.found.missing.push(address);
            }
        }
        if own {
            self.ask_own(number, asked, &mut round);
        }
        if round.here || !round.peers.is_empty() {
            self.questions.rounds.waiting.insert(number, round);
        } else {
            // The receiver is held by the caller.
            let _ = round.done.send(round.found);
        }
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

    /// Whether this gateway can matter, and which others, in order.
    fn asked_gateways(&self, asked: &Asked) -> (bool, Vec<(SocketAddrV4, Incarnation)>) {
        let own = self.context.settings.announced;
        let pick = |wanted: &dyn Fn(SocketAddrV4) -> bool| {
            let others = self
                .peers
                .addresses
                .iter()
                .map(|(address, node)| (*address, *node));
            let mut others: Vec<_> = others.filter(|(address, _)| wanted(*address)).collect();
            others.sort_unstable_by_key(|(address, _)| *address);
            (wanted(own), others)
        };
        match reach(&asked.query) {
            Reach::Nobody => (false, Vec::new()),
            Reach::Homes(clients) => {
                let homes: std::collections::HashSet<SocketAddrV4> =
                    clients.into_iter().map(ClientId::gateway).collect();
                pick(&|address| homes.contains(&address))
            }
            Reach::From(after) => pick(&|address| ClientId::new(address, u32::MAX) > after),
            Reach::Everywhere | Reach::EveryGateway => pick(&|_| true),
            Reach::Gateways(gateways) => pick(&|address| gateways.contains(&address)),
            Reach::Owner(key) => {
                let all = self.peers.addresses.keys().copied().chain([own]);
                let owner = owner(&key, all);
                pick(&|address| Some(address) == owner)
            }
        }
    }

    /// The other shards of this gateway have answered.
    pub(super) fn part_of_shards(&mut self, number: u64, part: Result<Answer, AskError>) {
        let own = self.context.settings.announced;
        if let Some(round) = self.questions.rounds.waiting.get_mut(&number) {
            round.here = false;
            round.found.take(own, part);
            self.end_if_whole(number);
        }
    }

    /// Another gateway has answered.
    pub(super) fn part_of_peer(
        &mut self,
        peer: Incarnation,
        number: u64,
        part: Result<Answer, AskError>,
    ) {
        let Some(round) = self.questions.rounds.waiting.get_mut(&number) else {
            return;
        };
        let place = round.peers.iter().position(|(asked, _)| *asked == peer);
        if let Some(place) = place {
            let (_, address) = round.peers.swap_remove(place);
            round.found.take(address, part);
            self.end_if_whole(number);
        }
    }

    /// A gateway's link has ended: it answers nothing that it was asked over it.
    pub(super) fn peer_down(&mut self, peer: Incarnation) {
        if let Some(stream) = self.peers.streams.get_mut(&peer) {
            stream.link = None;
        }
        let mut ended = Vec::new();
        for (number, round) in &mut self.questions.rounds.waiting {
            let place = round.peers.iter().position(|(asked, _)| *asked == peer);
            if let Some(place) = place {
                let (_, address) = round.peers.swap_remove(place);
                round.found.missing.push(address);
                ended.push(*number);
            }
        }
        for number in ended {
            self.end_if_whole(number);
        }
    }

    fn end_if_whole(&mut self, number: u64) {
        let whole = |round: &Round| !round.here && round.peers.is_empty();
        if self
            .questions
            .rounds
            .waiting
            .get(&number)
            .is_some_and(whole)
            && let Some(round) = self.questions.rounds.waiting.remove(&number)
        {
            // Whoever asked may have given up.
            let _ = round.done.send(round.found);
        }
    }

    /// The deadline is over: what is there must do.
    pub(super) fn end_round(&mut self, number: u64, suspect: bool) -> Found {
        let Some(mut round) = self.questions.rounds.waiting.remove(&number) else {
            return Found::default();
        };
        if round.here {
            round.found.missing.push(self.context.settings.announced);
        }
        for (incarnation, address) in round.peers {
            round.found.missing.push(address);
            if suspect && let Some(peer) = self.peers.streams.get_mut(&incarnation) {
                peer.suspect = Some(Instant::now());
            }
        }
        round.found
    }

    /// Nobody waits for the round any more.
    pub(super) fn drop_round(&mut self, number: u64) {
        self.questions.rounds.waiting.remove(&number);
    }
}
