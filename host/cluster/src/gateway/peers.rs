//! Links to the other gateways: this one dials each of them and sends it the effects that concern
//! its clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_link::membership::Members;
use tidegate_link::net::Backoff;
use tidegate_link::{Link, LinkEnd};
use tidegate_watchdog::watched;
use tidegate_wire::frame::{Frame, PeerFrame};
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::Node;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::services::Services;
use super::shared::Context;
use super::shared::life::Life;
use crate::gateway::shared::inbox::Parcel;

/// How often it is looked when another gateway was last heard.
const LOOK: Duration = Duration::from_millis(200);

/// Follows the view until it ends: dials gateways that come, gives up those that go.
pub(super) async fn follow(services: Arc<Services>, mut members: watch::Receiver<Arc<Members>>) {
    let mut tasks: BTreeMap<Incarnation, JoinHandle<()>> = BTreeMap::new();
    loop {
        let view = members.borrow_and_update().clone();
        let context = &services.context;
        context.all(|| Parcel::Members(view.clone()));
        let own = context.incarnation();
        services.feed.members(&view, own);
        services.schedules.members(&view, own);
        tasks.retain(|incarnation, task| {
            let live = view.nodes.contains_key(incarnation);
            if !live {
                task.abort();
            }
            live
        });
        for node in view.gateways().filter(|node| node.incarnation != own) {
            tasks.entry(node.incarnation).or_insert_with(|| {
                let name = format!("the link to gateway {}", node.name);
                tokio::spawn(watched(name, keep_linked(services.clone(), node.clone())))
            });
        }
        refuse_lost(&services.context, &view);
        if members.changed().await.is_err() {
            tasks.values().for_each(JoinHandle::abort);
            return;
        }
    }
}

/// What a lost gateway still sends is not taken, not even by links that do not know yet.
fn refuse_lost(context: &Context, view: &Members) {
    let mut received = context
        .received
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    received.refuse(|incarnation| view.is_lost(incarnation));
}

/// Dials one gateway again and again.
async fn keep_linked(services: Arc<Services>, node: Node) {
    let context = &services.context;
    let Some(address) = node.address else { return };
    let (least, most) = context.settings.reconnect;
    let seed = context.incarnation().0 ^ node.incarnation.0;
    let mut backoff = Backoff::new(least, most, seed);
    loop {
        let dialled = tidegate_link::dial(
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
                let end = serve(&services, link).await;
                tracing::info!(gateway = %node.name, %address, %end, "link to gateway ended");
                if matches!(end, LinkEnd::Goodbye(Refusal::Lost)) {
                    // That gateway heard that this one was lost: it takes nothing more from this
                    // life, whose clients' closes workers tell.
                    context.lose();
                }
            }
            Err(error) => tracing::debug!(gateway = %node.name, %address, %error, "not linked"),
        }
        sleep(backoff.next()).await;
    }
}

/// Hands the link to all shards and brings them acknowledgements and answers.
async fn serve(services: &Services, link: Link) -> LinkEnd {
    let context = &services.context;
    let Link {
        peer,
        sender,
        mut receiver,
    } = link;
    let incarnation = peer.incarnation;
    let life = Arc::new(Life::new());
    context.all(|| Parcel::PeerUp {
        incarnation,
        sender: sender.clone(),
        life: life.clone(),
    });
    let _linked = services.feed.linked(incarnation, sender.clone());
    let _schedules = services.schedules.linked(incarnation, sender.clone());
    // A heartbeat alone does not end a `recv`.
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut frames = Vec::new();
    loop {
        tokio::select! {
            biased;
            received = receiver.recv(&mut frames) => if let Err(end) = received {
                context.all(|| Parcel::PeerDown(incarnation));
                return end;
            },
            _ = look.tick() => {}
        }
        life.tell(receiver.heard());
        for frame in frames.drain(..) {
            // Others are not sent on this link.
            if let Frame::Peer(frame) = frame {
                take(services, incarnation, frame);
            }
        }
    }
}

/// Brings one frame to the shard that waits for it.
fn take(services: &Services, incarnation: Incarnation, frame: PeerFrame) {
    let (shard, parcel) = match frame {
        PeerFrame::ForwardAck { shard, sequence } => {
            let ack = Parcel::PeerAck {
                incarnation,
                sequence,
            };
            (shard, ack)
        }
        PeerFrame::Answer {
            shard,
            number,
            answer,
        } => {
            let part = Parcel::PeerPart {
                incarnation,
                number,
                answer,
            };
            (shard, part)
        }
        PeerFrame::Happened {
            watch,
            happenings,
            missed,
        } => return services.feed.told(incarnation, watch, happenings, missed),
        PeerFrame::Schedule(said) => {
            // Answers to what this gateway has said are not answered.
            let _ = services.schedules.hear(incarnation, *said);
            return;
        }
        // These come on the link that the other gateway has dialled.
        PeerFrame::Forward(_)
        | PeerFrame::Ask(_)
        | PeerFrame::Watch { .. }
        | PeerFrame::Unwatch { .. } => return,
    };
    if let Some(inbox) = services.context.inboxes.get(usize::from(shard)) {
        inbox.push(parcel);
    }
}
