//! One link of a node at the register: its joins, its leave, its silence, its end.

use std::time::Duration;

use tidegate_deploy::Coordinator;
use tidegate_link::Link;
use tidegate_wire::frame::{Frame, NodeFrame};
use tidegate_wire::hello::Refusal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::table::LinkId;
use super::{RegisterMessage, RegisterSettings};

/// Passes on what the node says until the link ends or the node is silent for its lease.
pub(super) async fn serve_link(
    mut link: Link,
    id: LinkId,
    settings: RegisterSettings,
    messages: mpsc::Sender<RegisterMessage>,
    coordinator: Coordinator,
) {
    let opened = Instant::now();
    let mut lease = None;
    let mut frames = Vec::new();
    loop {
        let deadline = match lease {
            Some(lease) => link.receiver.heard() + lease,
            // A join is the first thing to say.
            None => opened + settings.link.handshake,
        };
        tokio::select! {
            biased;
            received = link.receiver.recv(&mut frames) => if let Err(end) = received {
                tracing::debug!(node = %link.peer.name, %end, "the link of a node has ended");
                break;
            },
            // Heartbeats may have moved the deadline meanwhile.
            () = sleep_until(deadline) => match lease {
                Some(lease) if link.receiver.heard() + lease > Instant::now() => continue,
                Some(_) | None => {
                    tracing::debug!(node = %link.peer.name, "a node was silent for too long");
                    break;
                }
            },
        }
        if lease.is_none() && matches!(frames.first(), Some(Frame::Deploy(_))) {
            return coordinator.attend(link, frames).await;
        }
        for frame in frames.drain(..) {
            let Some(message) = read(frame, &link, id, &settings) else {
                continue;
            };
            if let RegisterMessage::Join { lease: granted, .. } = &message {
                lease = Some(*granted);
            }
            if messages.send(message).await.is_err() {
                return;
            }
        }
    }
    if lease.is_some() {
        let end = RegisterMessage::End {
            link: id,
            incarnation: link.peer.incarnation,
            heard: link.receiver.heard(),
        };
        // The register itself is gone.
        let _ = messages.send(end).await;
    }
}

/// What a frame means; none and the end of the link if it is not for registers.
fn read(
    frame: Frame,
    link: &Link,
    id: LinkId,
    settings: &RegisterSettings,
) -> Option<RegisterMessage> {
    let Frame::FromNode(frame) = frame else {
        tracing::warn!(node = %link.peer.name, "a node sent a frame that is not for registers");
        link.sender.close();
        return None;
    };
    match frame {
        NodeFrame::Join { node, .. } if node != link.peer => {
            let what = "node whose join differs from its hello".to_owned();
            link.sender.refuse(Refusal::WrongRole(what));
            None
        }
        NodeFrame::Join { node, lease_ms } => Some(RegisterMessage::Join {
            link: id,
            sender: link.sender.clone(),
            node,
            lease: lease(lease_ms, settings),
        }),
        NodeFrame::Leave => Some(RegisterMessage::Leave {
            link: id,
            incarnation: link.peer.incarnation,
        }),
        NodeFrame::Lost(incarnations) => Some(RegisterMessage::Lost(incarnations)),
    }
}

/// A lease below two heartbeats would run out between them.
fn lease(asked_ms: u32, settings: &RegisterSettings) -> Duration {
    Duration::from_millis(asked_ms.into())
        .max(settings.link.heartbeat * 2)
        .min(settings.lease_max)
}
