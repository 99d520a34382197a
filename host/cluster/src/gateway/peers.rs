//! Links to the other gateways: this one dials each of them and sends it the effects that concern
//! its clients.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_wire::frame::Frame;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::Node;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::inbox::Parcel;
use super::shard::Context;
use crate::link::{self, Link, LinkEnd};
use crate::membership::Members;
use crate::net::Backoff;

/// Follows the view until it ends: dials gateways that come, gives up those that go.
pub(super) async fn follow(context: Arc<Context>, mut members: watch::Receiver<Arc<Members>>) {
    let mut tasks: HashMap<Incarnation, JoinHandle<()>> = HashMap::new();
    loop {
        let view = members.borrow_and_update().clone();
        context.all(|| Parcel::Members(view.clone()));
        let own = context.incarnation();
        context.feed.members(&view, own);
        tasks.retain(|incarnation, task| {
            let live = view.nodes.contains_key(incarnation);
            if !live {
                task.abort();
            }
            live
        });
        for node in view.gateways().filter(|node| node.incarnation != own) {
            tasks
                .entry(node.incarnation)
                .or_insert_with(|| tokio::spawn(keep_linked(context.clone(), node.clone())));
        }
        forget_lost(&context, &view);
        if members.changed().await.is_err() {
            tasks.values().for_each(JoinHandle::abort);
            return;
        }
    }
}

/// A gateway that was lost for good sends nothing that would have to be recognised.
fn forget_lost(context: &Context, view: &Members) {
    let mut received = context
        .received
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    received.retain(|incarnation| !view.is_lost(incarnation));
}

/// Dials one gateway again and again.
async fn keep_linked(context: Arc<Context>, node: Node) {
    let Some(address) = node.address else { return };
    let (least, most) = context.settings.reconnect;
    let mut backoff = Backoff::new(least, most);
    loop {
        let dialled = link::dial(
            SocketAddr::V4(address),
            &context.identity,
            &context.settings.link,
        );
        match dialled.await {
            // Somebody else has the address by now; the view will say so.
            Ok(link) if link.peer.incarnation != node.incarnation => {}
            Ok(link) => {
                backoff.reset();
                tracing::info!(gateway = %node.name, %address, "linked to gateway");
                let end = serve(&context, link).await;
                tracing::info!(gateway = %node.name, %address, %end, "link to gateway ended");
            }
            Err(error) => tracing::debug!(gateway = %node.name, %address, %error, "not linked"),
        }
        sleep(backoff.next()).await;
    }
}

/// Hands the link to all shards and brings them the acknowledgements.
async fn serve(context: &Context, link: Link) -> LinkEnd {
    let Link {
        peer,
        sender,
        mut receiver,
    } = link;
    let incarnation = peer.incarnation;
    context.all(|| Parcel::PeerUp {
        incarnation,
        sender: sender.clone(),
    });
    let _linked = context.feed.linked(incarnation, sender.clone());
    let mut frames = Vec::new();
    loop {
        if let Err(end) = receiver.recv(&mut frames).await {
            return end;
        }
        for frame in frames.drain(..) {
            answer(context, incarnation, frame);
        }
    }
}

/// What comes back over a link that this gateway has dialled.
fn answer(context: &Context, incarnation: Incarnation, frame: Frame) {
    if let Frame::ForwardAck { shard, sequence } = frame {
        if let Some(inbox) = context.inboxes.get(usize::from(shard)) {
            inbox.push(Parcel::PeerAck {
                incarnation,
                sequence,
            });
        }
    } else if let Frame::Happened {
        watch,
        happenings,
        missed,
    } = frame
    {
        context.feed.told(incarnation, watch, happenings, missed);
    }
}
