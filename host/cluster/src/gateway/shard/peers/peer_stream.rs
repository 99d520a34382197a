//! The numbered stream of effects to one other gateway, and the link that carries it.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use tidegate_hub::streams::{Full, Stream};
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::frame::PeerFrame;
use tidegate_wire::id::CloseId;
use tokio::time::Instant;

use crate::gateway::shared::Context;
use crate::gateway::shared::life::Life;

/// Another gateway, as this shard sees it.
#[derive(Debug)]
pub(super) struct PeerStream {
    stream: Stream,
    link: Option<LinkSender>,
    /// Tenants of whom something was dropped since they had room.
    full: FxHashSet<Name>,
    /// When it last missed a deadline, and what its link says of its life.
    suspect: Option<Instant>,
    life: Option<Arc<Life>>,
}

/// Effects found no room in the tenant's share of a stream.
#[derive(Debug)]
pub(super) struct Dropped {
    /// Whether the tenant had room until now.
    pub(super) is_first: bool,
}

impl PeerStream {
    pub(super) fn new(context: &Context, shard: u16) -> Self {
        let bytes_max = context.settings.forward_bytes_max;
        Self {
            stream: Stream::new(shard, bytes_max, context.tenants.count()),
            link: None,
            full: FxHashSet::default(),
            suspect: None,
            life: None,
        }
    }

    /// Sends what the window allows.
    fn send(&mut self, window: usize) {
        let Some(link) = &self.link else { return };
        while let Some(forward) = self.stream.next(window) {
            // On a link that has ended it is sent again by the next one.
            let _ = link.send(PeerFrame::Forward(forward));
        }
    }

    /// Adds effects, which are kept until the gateway acknowledges them.
    pub(super) fn push(
        &mut self,
        tenant: &Name,
        effects: Vec<Effect>,
        close: Option<CloseId>,
        window: usize,
    ) -> Result<(), Dropped> {
        match self.stream.push(tenant, effects, close) {
            Ok(()) => {
                if !self.full.is_empty() {
                    self.full.remove(tenant);
                }
                self.send(window);
                Ok(())
            }
            Err(Full) => Err(Dropped {
                is_first: self.full.insert(tenant.clone()),
            }),
        }
    }

    /// There is a link to the gateway: what it has not acknowledged is sent again.
    pub(super) fn up(&mut self, link: LinkSender, life: Arc<Life>, window: usize) {
        self.stream.restart();
        self.link = Some(link);
        self.life = Some(life);
        self.send(window);
    }

    pub(super) fn down(&mut self) {
        self.link = None;
    }

    /// The gateway has everything up to this number; `arrived` is called for each tenant of whom
    /// something was part of that.
    pub(super) fn acknowledge(&mut self, sequence: u64, arrived: impl FnMut(&Name), window: usize) {
        self.stream.acknowledge(sequence, arrived);
        self.send(window);
    }

    /// Whether everything is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.stream.is_empty()
    }

    /// The number of the last effects of a tenant, if they are not acknowledged.
    pub(super) fn last_unacknowledged(&self, tenant: &Name) -> Option<u64> {
        self.stream.last_unacknowledged(tenant)
    }

    /// Whether effects of a tenant are acknowledged up to this number.
    pub(super) fn has_arrived(&self, tenant: &Name, pushed: u64) -> bool {
        self.stream.has_arrived(tenant, pushed)
    }

    /// It has not answered by a deadline.
    pub(super) fn missed_deadline(&mut self) {
        self.suspect = Some(Instant::now());
    }

    /// Whether it missed a deadline and gave no sign of life since.
    fn is_suspect(&self) -> bool {
        let heard = self.life.as_ref().map(|life| life.heard());
        self.suspect
            .is_some_and(|missed| heard.is_none_or(|heard| heard <= missed))
    }

    /// The link over which a question would be answered, as far as is known.
    pub(super) fn link_for_questions(&self) -> Option<&LinkSender> {
        self.link.as_ref().filter(|_| !self.is_suspect())
    }
}
