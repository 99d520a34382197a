//! Questions about this gateway alone: its shards answer them, or work beside them does.

use std::sync::Arc;

use tidegate_wire::query::{Answer, Query};

use super::requests;
use super::requests::Call;
use super::services::Services;
use super::shared::gather::{Asked, Done, ask_shards, shards_of};

/// Whether a gateway works on it beside its shards, for as long as that takes: whoever is slow with
/// it is not lost.
pub(in crate::gateway) const fn is_work(query: &Query) -> bool {
    matches!(query, Query::Command { .. } | Query::Request { .. })
}

/// Answers a question about this gateway alone: asks its shards, runs its command, or makes a
/// request of its own. Call it on a shard's thread.
pub(in crate::gateway) fn ask_here(services: &Arc<Services>, asked: &Arc<Asked>, done: Done) {
    // A little less than the asker waits, so that it learns of work that takes too long and does
    // not take this gateway for missing.
    let within = asked.within - asked.within / 8;
    let services = services.clone();
    if let Query::Command { name, payload, .. } = &asked.query {
        let payload = payload.bytes().clone();
        let run = services
            .commands
            .run(&asked.tenant, name.clone(), payload, within);
        let asked = asked.clone();
        tokio::task::spawn_local(async move {
            let outcome = (services.context.settings.announced, run.await);
            let answer = Ok(Answer::Commands(vec![outcome]));
            done.give(&services.context, &asked.tenant, answer);
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
        let replied = requests::call_once(&services.requests, *key, *request, call);
        let asked = asked.clone();
        tokio::task::spawn_local(async move {
            let replied = replied.await.map(Into::into);
            done.give(
                &services.context,
                &asked.tenant,
                Ok(Answer::Replied(replied)),
            );
        });
    } else {
        ask_shards(
            &services.context,
            asked,
            &shards_of(&services.context, asked),
            done,
        );
    }
}
