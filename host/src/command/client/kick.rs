//! `tidegate kick`

use tidegate_client::{Action, Client, Close, CloseUid, Message, OneClient};

use super::output::Output;
use super::send::told;
use crate::cli::client as cli;

pub(super) async fn run(
    client: &Client,
    it: &cli::KickArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    let mut clients = it.clients.clone();
    let mut actions = Vec::new();
    if it.now && !it.uid.is_empty() {
        // Only single clients can be destroyed.
        let uids: Vec<&str> = it.uid.iter().map(String::as_str).collect();
        let found = client.clients_of_uids(&uids).await?;
        out.without(&found.missing);
        clients.extend(found.clients.into_values().flatten());
    } else {
        actions.extend(it.uid.iter().map(|uid| {
            Action::CloseUid(CloseUid {
                uid: uid.clone(),
                farewell: it.farewell.clone().map(Message::Text),
                code: it.code,
                reason: it.reason.clone(),
            })
        }));
    }
    actions.extend(clients.into_iter().map(|client| match it.now {
        true => Action::Destroy(OneClient { client }),
        false => Action::Close(Close {
            client,
            farewell: it.farewell.clone().map(Message::Text),
            code: it.code,
            reason: it.reason.clone(),
        }),
    }));
    told(client.batch(actions).await?, false, out)
}
