//! One link at the coordinator: its enrolment, what it says, its end.

use tidegate_link::Link;
use tidegate_wire::deploy::{Deploy, Desired};
use tidegate_wire::frame::Frame;
use tidegate_wire::hello::Refusal;
use tidegate_wire::membership::Role;
use tokio::time::timeout;

use super::{CoordinatorInner, CoordinatorMessage};
use crate::transfer::PeerId;

/// Passes on what the node says until the link or the coordinator ends.
pub(super) async fn serve_link(
    inner: &CoordinatorInner,
    mut link: Link,
    peer: PeerId,
    mut frames: Vec<Frame>,
) {
    let serve = async {
        let Some((first, desired)) = enrolment(inner, &mut link, &mut frames).await else {
            return;
        };
        let enrolled = CoordinatorMessage::Enrolled {
            peer,
            node: link.peer.clone(),
            first,
            desired,
            sender: link.sender.clone(),
        };
        inner.exchange.join(peer, link.sender.clone());
        if inner.inbox.send(enrolled).await.is_ok() {
            serve(inner, &mut link, peer, frames).await;
        }
        inner.exchange.leave(peer);
        // The coordinator itself may be gone.
        let _ = inner.inbox.send(CoordinatorMessage::Gone { peer }).await;
    };
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        () = serve => {}
    }
    link.sender.close();
}

/// The first frame; none if the link is refused or says nothing in time.
async fn enrolment(
    inner: &CoordinatorInner,
    link: &mut Link,
    frames: &mut Vec<Frame>,
) -> Option<(bool, Box<Desired>)> {
    if frames.is_empty() {
        let received = link.receiver.recv(frames);
        let received = timeout(inner.settings.link.handshake, received).await;
        received.ok()?.ok()?;
    }
    let refuse = |what: &str| {
        tracing::warn!(node = %link.peer.name, what, "an enrolment was refused");
        link.sender.refuse(Refusal::WrongRole(what.to_owned()));
    };
    let Frame::Deploy(frame) = frames.remove(0) else {
        refuse("node that does not enrol");
        return None;
    };
    let Deploy::Enrol {
        node,
        first,
        desired,
    } = *frame
    else {
        refuse("node that does not enrol");
        return None;
    };
    if node != link.peer {
        refuse("node whose enrolment differs from its hello");
        return None;
    }
    if node.role == Role::Register {
        refuse("register");
        return None;
    }
    if let Err(error) = desired.check() {
        refuse(&format!("node whose desired state is impossible ({error})"));
        return None;
    }
    Some((first, Box::new(desired)))
}

async fn serve(inner: &CoordinatorInner, link: &mut Link, peer: PeerId, mut frames: Vec<Frame>) {
    loop {
        for frame in frames.drain(..) {
            let Frame::Deploy(frame) = frame else {
                tracing::warn!(node = %link.peer.name, "a node sent a frame that is not for deploys");
                return;
            };
            if !may(link.peer.role, &frame) {
                tracing::warn!(node = %link.peer.name, "a node sent what is not for its role");
                return;
            }
            let other = inner.exchange.serve(peer, *frame, &link.sender).await;
            if let Some(frame) = other
                && inner
                    .inbox
                    .send(CoordinatorMessage::Said { peer, frame })
                    .await
                    .is_err()
            {
                return;
            }
        }
        if let Err(end) = link.receiver.recv(&mut frames).await {
            tracing::debug!(node = %link.peer.name, %end, "a link for deploys has ended");
            return;
        }
    }
}

/// Whether a node of this role may say this to a register.
fn may(role: Role, frame: &Deploy) -> bool {
    match frame {
        Deploy::State(desired) => desired.check().is_ok(),
        Deploy::Fetch { .. } | Deploy::Chunk { .. } | Deploy::Missing { .. } => true,
        Deploy::Status { .. }
        | Deploy::TakenBack { .. }
        | Deploy::Step { .. }
        | Deploy::Prepared { .. } => role == Role::Worker,
        Deploy::Order { .. } | Deploy::Ask { .. } => role == Role::Gateway,
        Deploy::Enrol { .. }
        | Deploy::Progress { .. }
        | Deploy::Answer { .. }
        | Deploy::Prepare { .. }
        | Deploy::Hold { .. }
        | Deploy::Discard { .. } => false,
    }
}
