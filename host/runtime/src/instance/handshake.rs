//! Asking the guest whether somebody may become a client, and checking what it says.

use tidegate_wire::effect::Reply;
use tidegate_wire::event::Arrival;
use tidegate_wire::handshake::{Accepted, Rejected, SignIn};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use wasmtime::Store;

use super::convert;
use crate::bindings::exports::exports::tidegate::plugin::handshake_events as wit;
use crate::host_api::{HostState, json, name};

/// The verdict as a reply, or what is wrong with it.
pub(super) async fn decide(
    guest: &wit::Guest,
    store: &mut Store<HostState>,
    arrival: &Arrival,
    said: &SignIn,
    ends: Instant,
) -> Result<wasmtime::Result<Result<Reply, String>>, Elapsed> {
    let address = arrival.peer.address.to_string();
    let peer = convert::peer(&arrival.peer, &address);
    match said {
        SignIn::Request(request) => {
            let pairs = convert::Pairs::new(request);
            let call = guest.call_on_handshake(store, peer, pairs.request(request));
            let verdict = timeout_at(ends, call).await?;
            Ok(verdict.map(|verdict| match verdict {
                Ok(it) => accepted(it),
                Err(it) => rejected(it),
            }))
        }
        SignIn::Message(message) => {
            let call = guest.call_on_sign_in(store, peer, convert::message(message));
            let verdict = timeout_at(ends, call).await?;
            Ok(verdict.map(|verdict| match verdict {
                Ok(it) => accepted(it),
                Err(text) => Ok(Reply::Rejected(Box::new(Rejected {
                    status: 401,
                    headers: Vec::new(),
                    body: text.into_bytes().into(),
                }))),
            }))
        }
    }
}

fn accepted(it: wit::Accepted) -> Result<Reply, String> {
    let session = it.session.into_iter().map(|(key, value)| {
        json(&key, &value)?;
        name("session key", &key).map(|key| (key, value))
    });
    Ok(Reply::Accepted(Box::new(Accepted {
        session: session.collect::<Result<_, _>>()?,
        uid: it.uid.map(|uid| name("uid", &uid)).transpose()?,
        groups: it
            .groups
            .iter()
            .map(|group| name("group", group))
            .collect::<Result<_, _>>()?,
        subprotocol: it
            .subprotocol
            .map(|it| name("subprotocol", &it))
            .transpose()?,
        headers: it.headers,
    })))
}

fn rejected(it: wit::Rejected) -> Result<Reply, String> {
    if !(300..=599).contains(&it.status) {
        return Err(format!(
            "a handshake is rejected with a status of 300 to 599, not with {}",
            it.status
        ));
    }
    Ok(Reply::Rejected(Box::new(Rejected {
        status: it.status,
        headers: it.headers,
        body: it.body.into(),
    })))
}
