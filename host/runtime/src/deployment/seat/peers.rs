//! What other instances say to those of a seat: to its own and, while that is on trial, to the one of the
//! version before as well. An instance that is not there has nothing to forget.

use std::time::Instant;

use tidegate_wire::peers::PeerMessage;

use super::runner::Side;
use super::{RouteKind, Seat};
use crate::instance::Failure;

impl Seat {
    /// Says whether any version here takes messages of other instances. Quarantine has no instance that
    /// would remember them.
    pub(super) fn listen(&self) {
        let own = &self.own.version.plugin;
        let before = self.before.as_ref().map(|it| &it.version.plugin);
        let is_own = !matches!(self.kind, RouteKind::Quarantine);
        let listens = is_own && (own.hears_peers() || before.is_some_and(|it| it.hears_peers()));
        self.peers.set_listens(listens);
    }

    /// Calls the instances with a message. One that is retired runs nothing more.
    pub(super) async fn hear(&mut self, message: &PeerMessage) {
        if self.aside.is_some() {
            return;
        }
        self.hear_on(Side::Own, message).await;
        if self.before.is_some() {
            self.hear_on(Side::Before, message).await;
        }
    }

    async fn hear_on(&mut self, side: Side, message: &PeerMessage) {
        let (counted, begun) = (self.counted(side), self.now);
        let instance = self.runner(side).instance.as_mut();
        let hears = |it: &&mut crate::instance::Instance| it.hears_peers() && !it.has_said(message);
        let Some(instance) = instance.filter(hears) else {
            return;
        };
        let heard = instance.hear(message, begun.into()).await;
        self.now = Instant::now();
        let took = self.now.saturating_duration_since(begun);
        let failed = match heard {
            Ok(Ok(())) => false,
            Ok(Err(text)) => {
                self.report_unheard(side, message, &text);
                true
            }
            Err(failure) => {
                self.runner(side).instance = None;
                self.report_break(side, message, &failure);
                if let Some(probation) = &counted {
                    probation.tally.broken_by_peer();
                }
                self.pause_before_rebuild(side, self.now);
                true
            }
        };
        self.common.meters.heard(failed);
        if let Some(probation) = counted {
            probation.tally.heard(took, failed);
        }
    }

    fn report_unheard(&self, side: Side, message: &PeerMessage, text: &str) {
        let identity = self.identity(side);
        tracing::warn!(
            tenant = &*identity.tenant,
            plugin = &*identity.plugin,
            version = &*identity.version,
            instance = self.number,
            topic = &*message.topic,
            error = text
                .get(..text.floor_char_boundary(1024))
                .unwrap_or_default(),
            "on-peer-message returned an error"
        );
    }

    fn report_break(&self, side: Side, message: &PeerMessage, failure: &Failure) {
        let identity = self.identity(side);
        self.common.meters.trap(failure.kind);
        tracing::error!(
            tenant = &*identity.tenant,
            plugin = &*identity.plugin,
            version = &*identity.version,
            instance = self.number,
            topic = &*message.topic,
            failure = failure.kind.name(),
            reason = failure.reason,
            stderr = failure.stderr,
            backtrace = failure.backtrace,
            "on-peer-message broke; its instance is built anew"
        );
    }
}
