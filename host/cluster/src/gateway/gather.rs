//! A question to the shards of this gateway: each that can matter answers in one step of its own,
//! and the last one merges and passes the answer on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_hub::directory::{Reach, check, merge, reach};
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::frame::Frame;
use tidegate_wire::query::{Answer, AskError, Query};
use tidegate_wire::sketch::stable_hash;
use tokio::sync::oneshot;

use super::commands::{self, Boxed};
use super::inbox::Parcel;
use super::requests::{self, Call};
use super::shard::Context;

/// What is asked, about whose clients.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) tenant: Name,
    /// Changes that the query sees, and nobody else.
    pub(super) effects: Vec<Effect>,
    pub(super) query: Query,
    /// How long a command may take.
    pub(super) within: Duration,
}

/// Where an answer goes.
#[derive(Debug)]
pub(super) enum Done {
    /// To the round of this number of a shard of this gateway.
    Shard { index: u16, number: u64 },
    /// To a shard of another gateway.
    Peer {
        link: LinkSender,
        shard: u16,
        number: u64,
    },
    /// To a caller beside the shards.
    Caller(oneshot::Sender<Result<Answer, AskError>>),
}

impl Done {
    fn give(self, context: &Context, tenant: &Name, answer: Result<Answer, AskError>) {
        match self {
            Self::Shard { index, number } => {
                if let Some(inbox) = context.inboxes.get(usize::from(index)) {
                    inbox.push(Parcel::Part { number, answer });
                }
            }
            Self::Peer {
                link,
                shard,
                number,
            } => {
                let fit = answer.and_then(|answer| fits(context, &link, tenant, answer));
                let answer = Box::new(fit);
                let frame = Frame::Answer {
                    shard,
                    number,
                    answer,
                };
                // A gateway whose link has ended waits no longer.
                let _ = link.send_for(tenant, frame);
            }
            // A caller that is gone needs no answer.
            Self::Caller(caller) => drop(caller.send(answer)),
        }
    }
}

/// Questions and answers leave room on a link for what must arrive: beyond so many queued bytes
/// they are given up instead. Each tenant has its share of them.
const QUEUED_BYTES_MAX: usize = 16 << 20;

/// Whether there is room for a tenant's question or answer on a link.
pub(super) fn fits<T>(
    context: &Context,
    link: &LinkSender,
    tenant: &Name,
    what: T,
) -> Result<T, AskError> {
    if link.queued_bytes() < QUEUED_BYTES_MAX
        && link.has_room_for(tenant, QUEUED_BYTES_MAX, context.tenants.count())
    {
        return Ok(what);
    }
    let text = format!(
        "{QUEUED_BYTES_MAX} bytes, or the tenant's share of them, wait on the link that it would take"
    );
    Err(AskError::Overloaded(text))
}

/// The parts that have come.
#[derive(Debug)]
pub(super) struct Gather {
    pub(super) asked: Arc<Asked>,
    waiting: AtomicUsize,
    found: Mutex<Found>,
}

#[derive(Debug)]
struct Found {
    parts: Vec<Answer>,
    error: Option<AskError>,
    done: Option<Done>,
}

impl Gather {
    /// Takes one shard's part.
    pub(super) fn give(&self, context: &Context, part: Result<Answer, AskError>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match part {
            Ok(part) => found.parts.push(part),
            Err(error) => found.error = Some(error),
        }
        if self.waiting.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let (parts, error, done) = (
            std::mem::take(&mut found.parts),
            found.error.take(),
            found.done.take(),
        );
        drop(found);
        let answer = match error {
            Some(error) => Err(error),
            None => merge(&self.asked.query, parts).ok_or(AskError::Timeout),
        };
        if let Some(done) = done {
            done.give(context, &self.asked.tenant, answer);
        }
    }
}

/// The shard that serves calls of a tenant from outside.
pub(super) fn shard_of_tenant(context: &Context, tenant: &Name) -> usize {
    let shards = context.inboxes.len() as u64;
    (stable_hash(tenant.as_bytes()) % shards.max(1)) as usize
}

/// The shards of this gateway that can matter.
pub(super) fn shards_of(context: &Context, asked: &Asked) -> Vec<usize> {
    let all = 0..context.inboxes.len();
    match reach(&asked.query) {
        Reach::Homes(clients) => {
            let own = clients
                .iter()
                .filter(|client| client.gateway() == context.settings.announced);
            let mut shards: Vec<usize> = own
                .map(|client| context.shard_of(client.connection))
                .filter(|shard| all.contains(shard))
                .collect();
            shards.sort_unstable();
            shards.dedup();
            shards
        }
        Reach::Owner(_) => vec![shard_of_tenant(context, &asked.tenant)],
        Reach::Nobody => Vec::new(),
        Reach::From(_) | Reach::Everywhere | Reach::Gateways(_) | Reach::EveryGateway => {
            all.collect()
        }
    }
}

/// Asks these shards. Without any, the answer is that of a cluster without clients.
pub(super) fn ask_shards(context: &Context, asked: &Arc<Asked>, shards: &[usize], done: Done) {
    if shards.is_empty() {
        let nothing = merge(&asked.query, Vec::new()).ok_or(AskError::Timeout);
        return done.give(context, &asked.tenant, nothing);
    }
    let gather = Arc::new(Gather {
        asked: asked.clone(),
        waiting: AtomicUsize::new(shards.len()),
        found: Mutex::new(Found {
            parts: Vec::with_capacity(shards.len()),
            error: None,
            done: Some(done),
        }),
    });
    for inbox in shards
        .iter()
        .filter_map(|shard| context.inboxes.get(*shard))
    {
        inbox.push(Parcel::Ask(gather.clone()));
    }
}

/// Whether a gateway works on it beside its shards, for as long as that takes: whoever is slow with
/// it is not lost.
pub(super) const fn is_work(query: &Query) -> bool {
    matches!(query, Query::Command { .. } | Query::Request { .. })
}

/// Answers a question about this gateway alone: asks its shards, runs its command, or makes a
/// request of its own. Call it on a shard's thread.
pub(super) fn ask_here(context: &Arc<Context>, asked: &Arc<Asked>, done: Done) {
    // A little less than the asker waits, so that it learns of work that takes too long and does
    // not take this gateway for missing.
    let within = asked.within - asked.within / 8;
    let context = context.clone();
    if let Query::Command { name, payload, .. } = &asked.query {
        let payload = payload.bytes().clone();
        let run = commands::run(&context, &asked.tenant, name.clone(), payload, within);
        let asked = asked.clone();
        tokio::task::spawn_local(async move {
            let outcome = (context.settings.announced, run.await);
            let answer = Ok(Answer::Commands(vec![outcome]));
            done.give(&context, &asked.tenant, answer);
        });
    } else if let Query::Request {
        key,
        request,
        name,
        payload,
    } = &asked.query
    {
        let payload = payload.bytes().clone();
        let call = Call::new(&asked.tenant, name.clone(), payload, within);
        let replied = requests::call_once(&context, *key, *request, call);
        let asked = asked.clone();
        tokio::task::spawn_local(async move {
            let replied = replied.await.map(Into::into);
            done.give(&context, &asked.tenant, Ok(Answer::Replied(replied)));
        });
    } else {
        ask_shards(&context, asked, &shards_of(&context, asked), done);
    }
}

/// Asks the shards of this gateway and nobody else, for a command that runs beside them. Call it
/// from anywhere.
pub(super) fn ask_local(
    context: Arc<Context>,
    tenant: Name,
    query: Query,
) -> Boxed<Result<Answer, AskError>> {
    Box::pin(async move {
        check(&query)?;
        if !is_local(&query) {
            let text = "a command can only list and count the clients of its gateway";
            return Err(AskError::Invalid(text.to_owned()));
        }
        let asked = Arc::new(Asked {
            tenant,
            effects: Vec::new(),
            query,
            within: Duration::ZERO,
        });
        let (done, answer) = oneshot::channel();
        let shards = shards_of(&context, &asked);
        ask_shards(&context, &asked, &shards, Done::Caller(done));
        answer.await.unwrap_or(Err(AskError::Gone))
    })
}

/// Whether one round of the shards answers it, and it acts on nothing.
const fn is_local(query: &Query) -> bool {
    match query {
        Query::Clients { .. }
        | Query::ClientCount { .. }
        | Query::UidCounts(_)
        | Query::GroupCounts(_)
        | Query::Uids { .. }
        | Query::Groups { .. }
        | Query::GroupClients { .. }
        | Query::GroupUids { .. } => true,
        Query::UidCount { .. }
        | Query::UidEstimate
        | Query::GroupInfos { .. }
        | Query::Gateways
        | Query::CompareAndSet { .. }
        | Query::Command { .. }
        | Query::Once { .. }
        | Query::Request { .. } => false,
    }
}
