//! One register: connect, join, pass its views on, connect again.

use std::sync::Arc;

use tidegate_wire::frame::{Frame, NodeFrame};
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Role, View};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{LEAVE_MAX, Members, MembershipSettings, Said};
use crate::link::{self, Identity, Link, LinkEnd, LinkError};
use crate::net::{Backoff, resolve};

pub(super) struct Follower {
    pub(super) register: usize,
    pub(super) address: String,
    pub(super) identity: Identity,
    pub(super) settings: MembershipSettings,
    pub(super) stop: CancellationToken,
    /// A child of `stop`.
    pub(super) leave: CancellationToken,
    pub(super) said: mpsc::Sender<(usize, Said)>,
    /// What all registers together have said.
    pub(super) members: watch::Receiver<Arc<Members>>,
}

/// Why this node is not joined.
enum Apart {
    Error(String),
    Refused(Refusal),
}

impl From<LinkError> for Apart {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Refused(reason) => Self::Refused(reason),
            LinkError::Io(_)
            | LinkError::Timeout(_)
            | LinkError::Crowded
            | LinkError::NotTidegate
            | LinkError::Frame(_)
            | LinkError::Unproven => Self::Error(error.to_string()),
        }
    }
}

impl From<LinkEnd> for Apart {
    fn from(end: LinkEnd) -> Self {
        match end {
            LinkEnd::Goodbye(reason) => Self::Refused(reason),
            LinkEnd::Closed
            | LinkEnd::ClosedHere
            | LinkEnd::Silent(_)
            | LinkEnd::Overflow(_)
            | LinkEnd::Frame(_)
            | LinkEnd::Io(_) => Self::Error(end.to_string()),
        }
    }
}

impl Follower {
    /// Runs until the stop signal or until this node has left.
    pub(super) async fn run(self) {
        let settings = &self.settings;
        let seed = self.identity.node.incarnation.0 ^ self.register as u64;
        let mut backoff = Backoff::new(settings.reconnect_min, settings.reconnect_max, seed);
        let mut told = None;
        loop {
            let connected = tokio::select! {
                biased;
                () = self.leave.cancelled() => return,
                connected = self.connect() => connected,
            };
            let apart = match connected {
                Ok(link) => {
                    let since = Instant::now();
                    let Some(apart) = self.stay(link, &mut told).await else {
                        return;
                    };
                    // Two links that end each other again and again must not do so at full speed.
                    if since.elapsed() >= settings.lease {
                        backoff.reset();
                    }
                    apart
                }
                Err(apart) => apart,
            };
            self.tell(apart, &mut told).await;
            tokio::select! {
                biased;
                () = self.leave.cancelled() => return,
                () = sleep(backoff.next()) => {}
            }
        }
    }

    async fn connect(&self) -> Result<Link, Apart> {
        let limit = self.settings.link.handshake;
        let address = timeout(limit, resolve(&self.address))
            .await
            .map_err(|_| LinkError::Timeout(limit))?
            .map_err(LinkError::Io)?;
        let link = link::dial(address, &self.identity, &self.settings.link).await?;
        if link.peer.role != Role::Register {
            let role = link.peer.role.name();
            let text = format!("a {role} answers there, not a register");
            return Err(Apart::Error(text));
        }
        Ok(link)
    }

    /// Until the link ends; none if this node is to go.
    async fn stay(&self, mut link: Link, told: &mut Option<String>) -> Option<Apart> {
        let lease_ms = u32::try_from(self.settings.lease.as_millis()).unwrap_or(u32::MAX);
        let node = self.identity.node.clone();
        if let Err(end) = link.sender.send(NodeFrame::Join { node, lease_ms }) {
            return Some(end.into());
        }
        let mut joined = false;
        let mut frames = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.leave.cancelled() => {
                    self.part(&link).await;
                    return None;
                }
                received = link.receiver.recv(&mut frames) => if let Err(end) = received {
                    return Some(end.into());
                },
            }
            for frame in frames.drain(..) {
                let Frame::View(view) = frame else {
                    let text = "the register sent a frame that is not for nodes".to_owned();
                    return Some(Apart::Error(text));
                };
                if !joined {
                    joined = true;
                    *told = None;
                    tracing::info!(register = %self.address, nodes = view.nodes.len(), "joined");
                }
                self.object(&view, &link);
                self.say(Said::View(view)).await;
            }
        }
    }

    /// A register that was started again does not know whom it once declared lost.
    fn object(&self, view: &View, link: &Link) {
        let members = self.members.borrow();
        let known = view.nodes.iter().map(|node| node.incarnation);
        let lost: Vec<Incarnation> = known.filter(|it| members.is_lost(*it)).collect();
        if !lost.is_empty() {
            // A link that has ended starts over with a whole view.
            let _ = link.sender.send(NodeFrame::Lost(lost));
        }
    }

    /// Says good-bye, but not when the whole process is told to stop: then the lease tells.
    async fn part(&self, link: &Link) {
        if !self.stop.is_cancelled() {
            // A link that has ended leaves it to the lease as well.
            let _ = link.sender.send(NodeFrame::Leave);
        }
        link.sender.close();
        let _ = timeout(LEAVE_MAX, link.sender.flushed()).await;
    }

    async fn tell(&self, apart: Apart, told: &mut Option<String>) {
        let (reason, refusal) = match apart {
            Apart::Error(error) => (error, None),
            Apart::Refused(refusal) => (format!("refused: {refusal}"), Some(refusal)),
        };
        self.say(Said::Apart(reason.clone())).await;
        if let Some(refusal) = refusal {
            self.say(Said::Refused(refusal)).await;
        }
        let register = &self.address;
        if told.as_ref() == Some(&reason) {
            tracing::debug!(%register, reason, "still not joined");
        } else {
            tracing::warn!(%register, reason, "not joined; trying again until it works");
            *told = Some(reason);
        }
    }

    /// The listener lives as long as any follower.
    async fn say(&self, said: Said) {
        let _ = self.said.send((self.register, said)).await;
    }
}
