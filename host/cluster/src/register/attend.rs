//! One link of a node at the register: its joins, its leave, its silence, its end.

use std::time::Duration;

use tidegate_link::Link;
use tidegate_wire::frame::Frame;
use tidegate_wire::hello::Refusal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::table::LinkId;
use super::{Mail, RegisterSettings};
use crate::deploy::Desk;

/// Passes on what the node says until the link ends or the node is silent for its lease.
pub(super) async fn attend(
    mut link: Link,
    id: LinkId,
    settings: RegisterSettings,
    mail: mpsc::Sender<Mail>,
    desk: Desk,
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
            return desk.attend(link, frames).await;
        }
        for frame in frames.drain(..) {
            let Some(letter) = read(frame, &link, id, &settings) else {
                continue;
            };
            if let Mail::Join { lease: granted, .. } = &letter {
                lease = Some(*granted);
            }
            if mail.send(letter).await.is_err() {
                return;
            }
        }
    }
    if lease.is_some() {
        let end = Mail::End {
            link: id,
            incarnation: link.peer.incarnation,
            heard: link.receiver.heard(),
        };
        // The register itself is gone.
        let _ = mail.send(end).await;
    }
}

/// What a frame means; none and the end of the link if it is not for registers.
fn read(frame: Frame, link: &Link, id: LinkId, settings: &RegisterSettings) -> Option<Mail> {
    if let Frame::Join { node, lease_ms } = frame {
        if node != link.peer {
            let what = "node whose join differs from its hello".to_owned();
            link.sender.refuse(Refusal::WrongRole(what));
            return None;
        }
        return Some(Mail::Join {
            link: id,
            sender: link.sender.clone(),
            node,
            lease: lease(lease_ms, settings),
        });
    }
    if matches!(frame, Frame::Leave) {
        let incarnation = link.peer.incarnation;
        return Some(Mail::Leave {
            link: id,
            incarnation,
        });
    }
    if let Frame::Lost(incarnations) = frame {
        return Some(Mail::Lost(incarnations));
    }
    tracing::warn!(node = %link.peer.name, "a node sent a frame that is not for registers");
    link.sender.close();
    None
}

/// A lease below two heartbeats would run out between them.
fn lease(asked_ms: u32, settings: &RegisterSettings) -> Duration {
    Duration::from_millis(asked_ms.into())
        .max(settings.link.heartbeat * 2)
        .min(settings.lease_max)
}
