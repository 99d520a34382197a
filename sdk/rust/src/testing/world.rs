//! Everything round the handler: the fake shard, whoever answers custom commands, and gateways that
//! do not answer. It is with the event while a callback runs, so that questions find it.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use tidegate_hub::directory::{Reach, check, merge, reach};
use tidegate_wire::effect::Effect;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, Answered, AskError, Query, SwapRefusal};
use tidegate_wire::sketch::Sketch;

use crate::backend;
use crate::error::{Error, Refused};
use crate::testing::shard::{Closes, GATEWAY, Shard};

type Result<T> = std::result::Result<T, Refused>;

/// Who answers custom commands.
pub(crate) type Answering = Box<dyn FnMut(&str, &[u8]) -> std::result::Result<Vec<u8>, Error>>;

/// The fake cluster: one gateway that answers, and those that are missing.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) shard: Shard,
    /// None: the tenant has no command component.
    pub(crate) answering: Option<Answering>,
    /// Commands that nobody waits for, with their payloads.
    pub(crate) started: Vec<(String, Vec<u8>)>,
    /// Gateways that give nothing in time.
    pub(crate) missing: Vec<String>,
}

impl World {
    /// Applies the effects of one event, in order.
    pub(crate) fn commit(&mut self, effects: Vec<Effect>) -> Closes {
        let closes = self.shard.apply(&effects);
        for effect in effects {
            if let Effect::Command {
                gateways,
                name,
                payload,
            } = effect
            {
                let here = gateways.is_none_or(|gateways| gateways.contains(&GATEWAY));
                if here && let Some(answering) = &mut self.answering {
                    // Nobody waits for what it says.
                    let _ = answering(&name, &payload);
                }
                self.started.push((name.to_string(), payload.to_vec()));
            }
        }
        closes
    }

    /// The answer to a question, which sees these effects.
    pub(crate) fn ask(&mut self, effects: &[Effect], query: &Query) -> Result<Answered> {
        let asked = self.asked(query)?;
        let part = if *query == Query::Gateways {
            Some(Answer::Gateways(self.gateways()?))
        } else if asked.here {
            self.shard.part(effects, query)
        } else {
            None
        };
        asked.conclude(query, part)
    }

    /// The answer of this gateway alone.
    pub(crate) fn ask_here(&mut self, query: &Query) -> Result<Answer> {
        check(query).map_err(refusal)?;
        let part = self.shard.part(&[], query);
        let parts = part.into_iter().collect();
        merge(query, parts).ok_or(Refused::Timeout)
    }

    /// Checks a question and says who can matter to it.
    pub(crate) fn asked(&self, query: &Query) -> Result<Asked> {
        check(query).map_err(refusal)?;
        let reach = reach(query);
        let mut missing = backend::gateways(self.missing.iter().map(String::as_str))?;
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|gateway| matters(&reach, *gateway));
        let here = matters(&reach, GATEWAY) && !missing.contains(&GATEWAY);
        Ok(Asked { here, missing })
    }

    /// Those that are missing are live: they only give no answer.
    fn gateways(&self) -> Result<Vec<SocketAddrV4>> {
        let missing = backend::gateways(self.missing.iter().map(String::as_str))?;
        let all: BTreeSet<SocketAddrV4> = missing.into_iter().chain([GATEWAY]).collect();
        Ok(all.into_iter().collect())
    }
}

/// Who can matter to a question.
pub(crate) struct Asked {
    /// This gateway does, and answers.
    pub(crate) here: bool,
    /// Gateways that do not answer, ordered.
    pub(crate) missing: Vec<SocketAddrV4>,
}

impl Asked {
    /// The answer of these parts, concluded as a round of the host is.
    pub(crate) fn conclude(self, query: &Query, part: Option<Answer>) -> Result<Answered> {
        let alone = part.is_none() && self.missing.is_empty();
        let answer = if alone && matches!(query, Query::CompareAndSet { .. }) {
            // A client that nobody can have.
            Answer::Swapped(Err(SwapRefusal::Offline))
        } else {
            let parts = part.into_iter().collect();
            merge(query, parts).ok_or(Refused::Timeout)?
        };
        let answer = if let Answer::Sketch(bytes) = answer {
            Answer::Count(Sketch::from_bytes(bytes).unwrap_or_default().estimate())
        } else {
            answer
        };
        Ok(Answered {
            answer,
            missing: self.missing,
        })
    }
}

/// Whether a gateway can matter.
fn matters(reach: &Reach, gateway: SocketAddrV4) -> bool {
    match reach {
        Reach::Nobody | Reach::Owner(_) => false,
        Reach::Homes(clients) => clients.iter().any(|client| client.gateway() == gateway),
        Reach::From(after) => ClientId::new(gateway, u32::MAX) > *after,
        Reach::Everywhere | Reach::EveryGateway => true,
        Reach::Gateways(gateways) => gateways.contains(&gateway),
    }
}

fn refusal(error: AskError) -> Refused {
    match error {
        AskError::Invalid(text) => Refused::InvalidArgument(text),
        AskError::Overloaded(text) => Refused::QuotaExceeded(text),
        AskError::Timeout => Refused::Timeout,
        AskError::Gone => Refused::Other(error.to_string()),
    }
}
