//! A question to the shards of this gateway: each that can matter answers in one step of its own,
//! and the last one merges and passes the answer on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_hub::directory::{Reach, check, merge, reach};
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::frame::PeerFrame;
use tidegate_wire::query::{Answer, AskError, Query};
use tidegate_wire::sketch::stable_hash;
use tokio::sync::oneshot;

use crate::gateway::shared::Context;
use crate::gateway::shared::inbox::Parcel;

/// What is asked, about whose clients.
#[derive(Debug)]
pub(in crate::gateway) struct Asked {
    pub(in crate::gateway) tenant: Name,
    /// Changes that the query sees, and nobody else.
    pub(in crate::gateway) effects: Vec<Effect>,
    pub(in crate::gateway) query: Query,
    /// How long a command may take.
    pub(in crate::gateway) within: Duration,
}

/// Where an answer goes.
#[derive(Debug)]
pub(in crate::gateway) enum Done {
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
    /// Gives it there.
    pub(in crate::gateway) fn give(
        self,
        context: &Context,
        tenant: &Name,
        answer: Result<Answer, AskError>,
    ) {
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
                let frame = PeerFrame::Answer {
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
pub(in crate::gateway) fn fits<T>(
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
pub(in crate::gateway) struct Gather {
    pub(in crate::gateway) asked: Arc<Asked>,
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
    pub(in crate::gateway) fn give(&self, context: &Context, part: Result<Answer, AskError>) {
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
pub(in crate::gateway) fn shard_of_tenant(context: &Context, tenant: &Name) -> usize {
    let shards = context.inboxes.len() as u64;
    (stable_hash(tenant.as_bytes()) % shards.max(1)) as usize
}

/// The shards of this gateway that can matter.
pub(in crate::gateway) fn shards_of(context: &Context, asked: &Asked) -> Vec<usize> {
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
pub(in crate::gateway) fn ask_shards(
    context: &Context,
    asked: &Arc<Asked>,
    shards: &[usize],
    done: Done,
) {
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

/// Asks the shards of this gateway and nobody else, for a command that runs beside them. Call it
/// from anywhere.
pub(in crate::gateway) async fn ask_local(
    context: Arc<Context>,
    tenant: Name,
    query: Query,
) -> Result<Answer, AskError> {
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
        | Query::GroupUids { .. }
        | Query::Timers { .. }
        | Query::Tasks { .. } => true,
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
