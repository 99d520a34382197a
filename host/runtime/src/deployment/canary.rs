//! Some clients go to a new version first, and all of them back again.
//!
//! The canary's seats stand beside the deployment's and start empty. Clients go over, and come back,
//! between two of their events; how their order is kept is told in [`mail`](super::messages).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::DeploymentShared;
use super::messages::{Held, SeatMessage};
use super::prepared::Tried;
use super::probation::Probation;
use super::rollout::{Turn, stopped};
use super::routes::{Canary, RouteKind, RoutePlace, SeatHandle, Share, canary_seat_of};
use super::seat::Order;
use super::starting::Started;
use super::tasks::Served;
use crate::plugin::{Plugin, PluginError};
use crate::version::Version;

impl DeploymentShared {
    /// Gives some of the clients to a version.
    pub(super) async fn start_canary(
        &self,
        _turn: &Turn<'_>,
        version: &Arc<Version>,
        started: Vec<Started>,
        tried: &Tried,
        probation: &Arc<Probation>,
    ) -> Result<(), PluginError> {
        let (plugin, seats) = (&version.plugin, self.seats.len());
        let (marks, after) = marks(seats, started.len());
        let mut canary = Canary {
            served: Served {
                version: Arc::clone(version),
                probation: Some(Arc::clone(probation)),
            },
            share: Share::of(tried),
            seats: Vec::new(),
            leave: Mutex::default(),
        };
        let mut leave = Vec::new();
        for (index, (started, after)) in started.into_iter().zip(after).enumerate() {
            let (seat, room) = self.canary_seat(version, probation, index, started, after)?;
            canary.seats.push(seat);
            leave.push(room);
        }
        canary.leave = Mutex::new(leave);
        let room = self.room(plugin.source()).await?;
        self.divert(canary, marks, room)
            .ok_or_else(|| stopped(plugin.source()))?;
        self.versions().try_out(plugin);
        self.common.meters.canary(true);
        Ok(())
    }

    fn canary_seat(
        &self,
        version: &Arc<Version>,
        probation: &Arc<Probation>,
        index: usize,
        started: Started,
        after: Vec<oneshot::Receiver<()>>,
    ) -> Result<(SeatHandle, mpsc::OwnedPermit<SeatMessage>), PluginError> {
        let place = RoutePlace {
            common: &self.common,
            version,
            number: self.seats.len() + 1 + index,
            // And its last mail.
            mailbox_events: self.settings.mailbox_events + 1,
            kind: RouteKind::Canary {
                quarantine: self.quarantine.mailbox.clone(),
            },
            after,
            probation: Some(Arc::clone(probation)),
        };
        let seat = SeatHandle::spawn(place, Some(started));
        let room = seat.mailbox.clone().try_reserve_owned();
        let room = room.map_err(|_| stopped(version.plugin.source()))?;
        Ok((seat, room))
    }

    /// From here on the share goes to the canary; none if the deployment has stopped.
    fn divert(
        &self,
        canary: Canary,
        marks: Vec<oneshot::Sender<()>>,
        room: Vec<mpsc::Permit<'_, SeatMessage>>,
    ) -> Option<()> {
        let mut routes = self.routes_mut();
        if routes.stopped {
            return None;
        }
        for (room, mark) in room.into_iter().zip(marks) {
            room.send(SeatMessage::Mark(mark));
        }
        routes.canary = Some(Arc::new(canary));
        Some(())
    }

    /// Takes the clients back from the canary, with what they have waiting; ready when all are back.
    /// Gives the version that was tried, or none if there was no canary.
    pub(super) async fn end_canary(&self, turn: &Turn<'_>) -> Result<Option<Plugin>, PluginError> {
        let tenant = &self.settings.tenant;
        if self.routes().canary.is_none() {
            return Ok(None);
        }
        let room = self.room(tenant).await?;
        let (canary, back) = self.take_back(turn, room).ok_or_else(|| stopped(tenant))?;
        for seat in &canary.seats {
            // Refused only if it has ended.
            let _ = seat.orders.send(Order::Retire).await;
        }
        let mut result = Ok(());
        for served in back {
            result = result.and(served.await.map_err(|_| stopped(tenant)));
        }
        self.routes_mut().leaving = None;
        self.common.meters.canary(false);
        result?;
        Ok(Some(canary.plugin().clone()))
    }

    /// From here on the share is served by the deployment's own seats again; none if there is no
    /// canary, or the deployment has stopped.
    fn take_back(
        &self,
        _turn: &Turn<'_>,
        room: Vec<mpsc::Permit<'_, SeatMessage>>,
    ) -> Option<(Arc<Canary>, Vec<oneshot::Receiver<()>>)> {
        let mut routes = self.routes_mut();
        if routes.stopped {
            return None;
        }
        let canary = routes.canary.take()?;
        let (seats, own) = (self.seats.len(), canary.seats.len());
        let mut receivers: Vec<Vec<_>> = canary.seats.iter().map(|_| Vec::new()).collect();
        let mut done = Vec::with_capacity(seats);
        for (seat, room) in room.into_iter().enumerate() {
            let (receiver, back) = oneshot::channel();
            let (served, is_served) = oneshot::channel();
            if let Some(receivers) = receivers.get_mut(canary_seat_of(seat, seats, own)) {
                receivers.push((seat, receiver));
            }
            room.send(SeatMessage::Return(Box::new(Held {
                share: canary.share.clone(),
                back,
                tickets: VecDeque::new(),
                marks: Vec::new(),
                done: served,
            })));
            done.push(is_served);
        }
        for (room, receivers) in canary.take_leave().into_iter().zip(receivers) {
            room.send(SeatMessage::Leave(receivers));
        }
        routes.leaving = Some(Arc::clone(&canary));
        Some((canary, done))
    }

    /// Room for one mail in each of the deployment's own mailboxes.
    async fn room(&self, name: &str) -> Result<Vec<mpsc::Permit<'_, SeatMessage>>, PluginError> {
        let mut room = Vec::with_capacity(self.seats.len());
        for seat in &self.seats {
            room.push(seat.mailbox.reserve().await.map_err(|_| stopped(name))?);
        }
        Ok(room)
    }
}

type Marks = (Vec<oneshot::Sender<()>>, Vec<Vec<oneshot::Receiver<()>>>);

/// A mark for each seat, and for each of the canary's those that it waits for.
fn marks(seats: usize, canary_seats: usize) -> Marks {
    let mut after: Vec<Vec<_>> = (0..canary_seats).map(|_| Vec::new()).collect();
    let mut marks = Vec::with_capacity(seats);
    for seat in 0..seats {
        let (mark, passed) = oneshot::channel();
        if let Some(after) = after.get_mut(canary_seat_of(seat, seats, canary_seats)) {
            after.push(passed);
        }
        marks.push(mark);
    }
    (marks, after)
}
