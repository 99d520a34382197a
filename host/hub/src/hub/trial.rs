//! Effects on trial: applied to a hub so that a query sees them, then undone. Nobody is told of
//! them; afterwards the hub is what it was.

use std::net::SocketAddrV4;

use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::session::Replaced;

use super::{Hub, Members};

/// What one change has replaced.
#[derive(Debug)]
enum Undo {
    Uid(u32, Option<Name>),
    Joined(u32, Name),
    Left(u32, Name),
    Ungrouped(Name, Members),
    Session(u32, Replaced),
    Offline(u32),
}

/// Changes that wait to be undone.
#[derive(Debug)]
#[must_use = "a trial that is not undone stays"]
pub struct Trial {
    journal: Vec<Undo>,
}

impl Trial {
    /// Applies effects to the clients of `hub`, which belongs to the gateway announced as
    /// `gateway`. Whoever an effect closes is offline. Sends, commands and timers do nothing.
    pub fn begin(hub: &mut Hub, gateway: SocketAddrV4, effects: &[Effect]) -> Self {
        let mut trial = Self {
            journal: Vec::new(),
        };
        for effect in effects {
            trial.apply(hub, gateway, effect);
        }
        trial
    }

    fn apply(&mut self, hub: &mut Hub, gateway: SocketAddrV4, effect: &Effect) {
        match effect {
            Effect::CloseUid { uid, .. } => {
                let members = hub.uid_members(uid).cloned().unwrap_or_default();
                for connection in members {
                    self.close(hub, connection);
                }
            }
            Effect::Ungroup { group } => {
                let members = hub.ungroup(group);
                self.journal.push(Undo::Ungrouped(group.clone(), members));
            }
            Effect::Close { client, .. }
            | Effect::Destroy { client }
            | Effect::BindUid { client, .. }
            | Effect::UnbindUid { client }
            | Effect::JoinGroup { client, .. }
            | Effect::LeaveGroup { client, .. }
            | Effect::Session { client, .. } => {
                if client.gateway() == gateway {
                    self.change(hub, client.connection, effect);
                }
            }
            Effect::Send { .. }
            | Effect::SendRaw { .. }
            | Effect::SendLatest { .. }
            | Effect::Command { .. }
            | Effect::SetTimer { .. }
            | Effect::CancelTimer { .. }
            | Effect::SubmitTask { .. }
            | Effect::CancelTask { .. }
            | Effect::PeerMessage(_) => {}
        }
    }

    /// What a limit or an absent client refuses changes nothing, as in a commit.
    fn change(&mut self, hub: &mut Hub, connection: u32, effect: &Effect) {
        let Some(client) = hub.client(connection) else {
            return;
        };
        let undo = match effect {
            Effect::BindUid { uid, .. } => {
                let old = client.uid.clone();
                let done = hub.bind_uid(connection, uid) == Ok(true);
                done.then_some(Undo::Uid(connection, old))
            }
            Effect::UnbindUid { .. } => {
                let old = client.uid.clone();
                let done = hub.unbind_uid(connection) == Ok(true);
                done.then_some(Undo::Uid(connection, old))
            }
            Effect::JoinGroup { group, .. } => {
                let done = hub.join(connection, group) == Ok(true);
                done.then(|| Undo::Joined(connection, group.clone()))
            }
            Effect::LeaveGroup { group, .. } => {
                let done = hub.leave(connection, group) == Ok(true);
                done.then(|| Undo::Left(connection, group.clone()))
            }
            Effect::Session { change, .. } => {
                let replaced = hub.change_session(connection, change).ok();
                replaced.map(|replaced| Undo::Session(connection, replaced))
            }
            Effect::Close { .. } | Effect::Destroy { .. } => return self.close(hub, connection),
            Effect::CloseUid { .. }
            | Effect::Ungroup { .. }
            | Effect::Send { .. }
            | Effect::SendLatest { .. }
            | Effect::SendRaw { .. }
            | Effect::Command { .. }
            | Effect::SetTimer { .. }
            | Effect::CancelTimer { .. }
            | Effect::SubmitTask { .. }
            | Effect::CancelTask { .. }
            | Effect::PeerMessage(_) => None,
        };
        self.journal.extend(undo);
    }

    fn close(&mut self, hub: &mut Hub, connection: u32) {
        if hub.go_offline(connection) {
            self.journal.push(Undo::Offline(connection));
        }
    }

    /// Undoes all of it.
    pub fn undo(self, hub: &mut Hub) {
        for undo in self.journal.into_iter().rev() {
            // Each undoes what has succeeded, so that none of them is refused.
            match undo {
                Undo::Uid(connection, Some(uid)) => drop(hub.bind_uid(connection, &uid)),
                Undo::Uid(connection, None) => drop(hub.unbind_uid(connection)),
                Undo::Joined(connection, group) => drop(hub.leave(connection, &group)),
                Undo::Left(connection, group) => drop(hub.join(connection, &group)),
                Undo::Ungrouped(group, members) => hub.regroup(&group, members),
                Undo::Session(connection, replaced) => hub.undo_session(connection, replaced),
                Undo::Offline(connection) => hub.go_online(connection),
            }
        }
    }
}

impl Hub {
    /// Makes these the members of a group that nobody is in.
    fn regroup(&mut self, group: &Name, mut members: Members) {
        let mut offline = Members::new();
        for connection in &members {
            if let Some(client) = self.clients.get_mut(connection)
                && let Err(place) = client.groups.binary_search(group)
            {
                client.groups.insert(place, group.clone());
                if client.offline {
                    offline.insert(*connection);
                }
            }
        }
        members.retain(|connection| !offline.contains(connection));
        self.groups.put(group, members);
        self.offline_groups.put(group, offline);
    }
}
