//! Accepts clients and nodes and gives them to the shards in turn.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::inbox::{Arrival, Parcel};
use super::shard::Context;

/// How long an accept loop rests when the process has no descriptors left.
const REST: Duration = Duration::from_millis(50);

/// Accepts clients of one listener until `stop`.
pub(super) async fn clients(
    context: Arc<Context>,
    listener: TcpListener,
    index: usize,
    stop: CancellationToken,
) {
    let Some(settings) = context.settings.listeners.get(index).cloned() else {
        return;
    };
    let refused = metrics::counter!("tidegate_gateway_refused_connections_total");
    accept(listener, stop, |turn, socket| {
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
        // Dropping the socket is the only answer that costs a full gateway nothing.
        let Some(socket) = socket.into_std().ok().filter(|_| room) else {
            refused.increment(1);
            return;
        };
        count.fetch_add(1, Ordering::AcqRel);
        give(
            &context,
            turn,
            Arrival::Client {
                socket,
                listener: index,
            },
        );
    })
    .await;
}

/// Accepts nodes until `stop`.
pub(super) async fn nodes(context: Arc<Context>, listener: TcpListener, stop: CancellationToken) {
    accept(listener, stop, |turn, socket| {
        if let Ok(socket) = socket.into_std() {
            give(&context, turn, Arrival::Node(socket));
        }
    })
    .await;
}

fn give(context: &Context, turn: usize, arrival: Arrival) {
    if let Some(inbox) = context.inboxes.get(turn % context.inboxes.len()) {
        inbox.push(Parcel::Arrival(arrival));
    }
}

async fn accept(
    listener: TcpListener,
    stop: CancellationToken,
    mut take: impl FnMut(usize, TcpStream),
) {
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, _)) => {
                turn += 1;
                take(turn, socket);
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
