//! Accepts clients and nodes and gives them to the shards in turn.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_link::net::admission::Admissions;
use tidegate_wire::event::Transport;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::gateway::clients::refusals::Refusals;
use crate::gateway::shared::Context;
use crate::gateway::shared::inbox::{Incoming, Parcel};

/// How long an accept loop rests when the process has no descriptors left.
const REST: Duration = Duration::from_millis(50);

/// Accepts clients of one listener until `stop`.
pub(in crate::gateway) async fn clients(
    context: Arc<Context>,
    listener: TcpListener,
    index: usize,
    stop: CancellationToken,
) {
    let Some(settings) = context.settings.listeners.get(index).cloned() else {
        return;
    };
    let mut refusals = Refusals::new(settings.name.clone(), context.answers.clone());
    accept(listener, stop, |turn, socket, address| {
        let all: usize = context
            .connections
            .iter()
            .map(|count| count.load(Ordering::Acquire))
            .sum();
        let Some(count) = context.connections.get(index) else {
            return;
        };
        let room = count.load(Ordering::Acquire) < settings.connections_max
            && all < context.settings.connections_max;
        // Strangers that have said nothing must not keep clients out.
        let room = room || make_room(&context, index);
        let has_handshake = settings.transport == Transport::WebSocket;
        if !room {
            return refusals.refuse(socket, has_handshake);
        }
        let Ok(socket) = socket.into_std() else {
            return;
        };
        count.fetch_add(1, Ordering::AcqRel);
        // Without a handshake nobody is a stranger: a client may be there to listen only.
        let strangers = context.strangers.get(index).filter(|_| has_handshake);
        let stranger = strangers.map(|strangers| strangers.admit(address));
        let incoming = Incoming::Client {
            socket,
            listener: index,
            stranger,
        };
        give(&context, turn, incoming);
    })
    .await;
}

/// Accepts nodes until `stop`.
pub(in crate::gateway) async fn nodes(
    context: Arc<Context>,
    listener: TcpListener,
    stop: CancellationToken,
) {
    accept(listener, stop, |turn, socket, address| {
        if let Ok(socket) = socket.into_std() {
            let stranger = context.nodes.admit(address);
            give(&context, turn, Incoming::Node(socket, stranger));
        }
    })
    .await;
}

/// Tells the oldest stranger to go: of this listener, or of another one if all of them together are
/// too many.
fn make_room(context: &Context, index: usize) -> bool {
    let Some(own) = context.strangers.get(index) else {
        return false;
    };
    let of = |index: usize| {
        context
            .connections
            .get(index)
            .map(|it| it.load(Ordering::Acquire))
    };
    let max = context
        .settings
        .listeners
        .get(index)
        .map(|it| it.connections_max);
    own.make_room() || (of(index) < max && context.strangers.iter().any(Admissions::make_room))
}

fn give(context: &Context, turn: usize, incoming: Incoming) {
    if let Some(inbox) = context.inboxes.get(turn % context.inboxes.len()) {
        inbox.push(Parcel::Incoming(incoming));
    }
}

async fn accept(
    listener: TcpListener,
    stop: CancellationToken,
    mut take: impl FnMut(usize, TcpStream, IpAddr),
) {
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, address)) => {
                turn += 1;
                take(turn, socket, address.ip());
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections: is the limit of open files too low?");
                sleep(REST).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
