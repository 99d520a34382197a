//! Effects + hub → deliveries. Pure: what is to be sent or closed goes to a [`Deliver`].
//!
//! An effect may reach any number of shards; each applies it to the clients that it owns. No
//! client gets one send twice, whatever lists it is on.

use std::net::SocketAddrV4;

use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, Recipients, SessionChange};
use tidegate_wire::event::{CloseFrame, Message};
use tidegate_wire::id::ClientId;
use tidegate_wire::payload::Payload;
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::task::TaskId;
use tidegate_wire::timer::TimerId;

use crate::hub::{Hub, Members, Refused};
use crate::outbound::Outgoing;

/// Which part of a client changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed<'a> {
    /// It joined a group.
    Joined(&'a Name),
    /// It left a group.
    Left(&'a Name),
    /// It got or lost its uid.
    Uid {
        /// What it had before, if somebody watches.
        before: Option<Name>,
    },
    /// Its session.
    Session(&'a SessionChange),
}

/// Where deliveries go.
pub trait Deliver {
    /// Queue this for a client.
    fn send(&mut self, connection: u32, message: &Outgoing<'_>);
    /// Close a client once its queue and the farewell are written, a WebSocket with this frame.
    fn close(
        &mut self,
        connection: u32,
        farewell: Option<&Outgoing<'_>>,
        frame: Option<&CloseFrame>,
    );
    /// Close a client at once.
    fn destroy(&mut self, connection: u32);
    /// A client's part of the hub changed.
    fn changed(&mut self, hub: &Hub, connection: u32, what: Changed<'_>);
    /// Whether somebody watches and must know what uids were before.
    fn is_watched(&self) -> bool;
    /// An effect was refused by a limit.
    fn refused(&mut self, connection: u32, effect: &Effect, why: Refused);
    /// Set a timer: of a client that is connected, or of nobody.
    fn set_timer(&mut self, timer: TimerId, delay_ms: u64, repeats: bool, payload: &Payload);
    /// End a timer, if it is known.
    fn cancel_timer(&mut self, timer: &TimerId);
    /// Begin a task: of a client that is connected, or of nobody.
    fn submit_task(&mut self, task: TaskId, payload: &Payload);
    /// End a task, if it is known.
    fn cancel_task(&mut self, task: &TaskId);
    /// Bring this to the other instances of the tenant's handler.
    fn tell_peers(&mut self, message: &PeerMessage);
}

/// Applies one effect to the clients of `hub`, which belongs to the gateway announced as `gateway`.
pub fn apply(
    hub: &mut Hub,
    gateway: SocketAddrV4,
    effect: &Effect,
    deliver: &mut (impl Deliver + ?Sized),
) {
    let own = |client: &ClientId| own(gateway, *client);
    match effect {
        Effect::Send {
            to,
            message,
            except,
        } => {
            send(
                hub,
                gateway,
                to,
                &Outgoing::message(message),
                except,
                deliver,
            );
        }
        Effect::SendLatest {
            to,
            key,
            message,
            except,
        } => {
            send(
                hub,
                gateway,
                to,
                &Outgoing::latest(message, key),
                except,
                deliver,
            );
        }
        Effect::SendRaw { to, bytes, except } => {
            send(
                hub,
                gateway,
                to,
                &Outgoing::raw(bytes.bytes()),
                except,
                deliver,
            );
        }
        Effect::Close {
            client,
            farewell,
            frame,
        } => {
            if let Some(connection) = own(client).filter(|c| hub.is_online(*c)) {
                close(&[connection], farewell.as_ref(), frame.as_deref(), deliver);
            }
        }
        Effect::CloseUid {
            uid,
            farewell,
            frame,
        } => {
            let members: Vec<u32> = hub
                .uid_members(uid)
                .into_iter()
                .flatten()
                .copied()
                .collect();
            close(&members, farewell.as_ref(), frame.as_deref(), deliver);
        }
        Effect::Destroy { client } => {
            if let Some(connection) = own(client).filter(|c| hub.is_online(*c)) {
                deliver.destroy(connection);
            }
        }
        Effect::Ungroup { group } => {
            for connection in hub.ungroup(group) {
                deliver.changed(hub, connection, Changed::Left(group));
            }
        }
        Effect::SetTimer { timer: id, .. } | Effect::SubmitTask { task: id, .. }
            if id
                .client
                .is_some_and(|client| !is_here(hub, gateway, client)) => {}
        Effect::SetTimer {
            timer,
            delay_ms,
            repeats,
            payload,
        } => deliver.set_timer(**timer, *delay_ms, *repeats, payload),
        Effect::CancelTimer { timer } => deliver.cancel_timer(timer),
        Effect::SubmitTask { task, payload } => deliver.submit_task(**task, payload),
        Effect::CancelTask { task } => deliver.cancel_task(task),
        Effect::PeerMessage(message) => deliver.tell_peers(message),
        // Run beside the hub, not in it.
        Effect::Command { .. } => {}
        Effect::BindUid { client, .. }
        | Effect::UnbindUid { client }
        | Effect::JoinGroup { client, .. }
        | Effect::LeaveGroup { client, .. }
        | Effect::Session { client, .. } => {
            if let Some(connection) = own(client) {
                change(hub, connection, effect, deliver);
            }
        }
    }
}

fn is_here(hub: &Hub, gateway: SocketAddrV4, client: ClientId) -> bool {
    own(gateway, client).is_some_and(|connection| hub.is_online(connection))
}

fn own(gateway: SocketAddrV4, client: ClientId) -> Option<u32> {
    (client.gateway() == gateway).then_some(client.connection)
}

/// The effects that change one client's entry in the hub.
fn change(hub: &mut Hub, connection: u32, effect: &Effect, deliver: &mut (impl Deliver + ?Sized)) {
    let before = |hub: &Hub| {
        let client = hub.client(connection).filter(|_| deliver.is_watched());
        let before = client.and_then(|client| client.uid().cloned());
        Changed::Uid { before }
    };
    let (result, what) = match effect {
        Effect::BindUid { uid, .. } => {
            let what = before(hub);
            (hub.bind_uid(connection, uid), what)
        }
        Effect::UnbindUid { .. } => {
            let what = before(hub);
            (hub.unbind_uid(connection), what)
        }
        Effect::JoinGroup { group, .. } => (hub.join(connection, group), Changed::Joined(group)),
        Effect::LeaveGroup { group, .. } => (hub.leave(connection, group), Changed::Left(group)),
        Effect::Session { change, .. } => {
            let result = hub.change_session(connection, change);
            (result.map(|_| true), Changed::Session(change))
        }
        Effect::Send { .. }
        | Effect::SendLatest { .. }
        | Effect::SendRaw { .. }
        | Effect::Close { .. }
        | Effect::CloseUid { .. }
        | Effect::Destroy { .. }
        | Effect::Ungroup { .. }
        | Effect::Command { .. }
        | Effect::SetTimer { .. }
        | Effect::CancelTimer { .. }
        | Effect::SubmitTask { .. }
        | Effect::CancelTask { .. }
        | Effect::PeerMessage(_) => return,
    };
    match result {
        Ok(true) => deliver.changed(hub, connection, what),
        Ok(false) | Err(Refused::Offline) => {}
        Err(why) => deliver.refused(connection, effect, why),
    }
}

fn close(
    connections: &[u32],
    farewell: Option<&Message>,
    frame: Option<&CloseFrame>,
    deliver: &mut (impl Deliver + ?Sized),
) {
    let farewell = farewell.map(Outgoing::message);
    for connection in connections {
        deliver.close(*connection, farewell.as_ref(), frame);
    }
}

fn send(
    hub: &Hub,
    gateway: SocketAddrV4,
    to: &Recipients,
    message: &Outgoing<'_>,
    except: &[ClientId],
    deliver: &mut (impl Deliver + ?Sized),
) {
    let except: Members = except
        .iter()
        .filter_map(|client| own(gateway, *client))
        .collect();
    let mut deliver = |connection: u32| {
        if except.is_empty() || !except.contains(&connection) {
            deliver.send(connection, message);
        }
    };
    match to {
        Recipients::Client(client) => {
            own(gateway, *client)
                .filter(|c| hub.is_online(*c))
                .map(deliver);
        }
        Recipients::Clients(clients) => {
            connected(hub, gateway, clients)
                .into_iter()
                .for_each(deliver);
        }
        Recipients::Uids(uids) => union(uids, |uid| hub.uid_members(uid), &mut deliver),
        Recipients::Groups(groups) => union(groups, |g| hub.group_members(g), &mut deliver),
        Recipients::Everyone => hub.connections().for_each(deliver),
        Recipients::AnyOf {
            clients,
            uids,
            groups,
        } => {
            let mut all = connected(hub, gateway, clients);
            let by_uid = uids.iter().filter_map(|uid| hub.uid_members(uid));
            let by_group = groups.iter().filter_map(|group| hub.group_members(group));
            all.extend(by_uid.chain(by_group).flatten());
            all.into_iter().for_each(deliver);
        }
    }
}

/// Those of these clients that are connected here, each once.
fn connected(hub: &Hub, gateway: SocketAddrV4, clients: &[ClientId]) -> Members {
    let own = clients.iter().filter_map(|client| own(gateway, *client));
    own.filter(|c| hub.is_online(*c)).collect()
}

/// Each member of any of these sets, once.
fn union<'a>(
    names: &[Name],
    members: impl Fn(&str) -> Option<&'a Members>,
    deliver: &mut impl FnMut(u32),
) {
    if let [name] = names {
        return members(name)
            .into_iter()
            .flatten()
            .copied()
            .for_each(deliver);
    }
    let mut all = Members::default();
    for name in names {
        all.extend(members(name).into_iter().flatten());
    }
    all.into_iter().for_each(deliver);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tidegate_wire::effect::SessionChange;
    use tidegate_wire::event::Transport;
    use tidegate_wire::peers::InstanceId;

    use super::*;
    use crate::outbound::Newlines;

    const GATEWAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2000);

    #[derive(Default)]
    struct Recorder {
        sent: Vec<(u32, String)>,
        closed: Vec<(u32, bool)>,
        destroyed: Vec<u32>,
        changed: Vec<(u32, String)>,
        refused: Vec<Refused>,
        timers: Vec<(TimerId, u64)>,
        tasks: Vec<(TaskId, usize)>,
        told: Vec<PeerMessage>,
    }

    impl Deliver for Recorder {
        fn set_timer(&mut self, timer: TimerId, delay_ms: u64, _repeats: bool, _payload: &Payload) {
            self.timers.push((timer, delay_ms));
        }
        fn cancel_timer(&mut self, timer: &TimerId) {
            self.timers.retain(|(it, _)| it != timer);
        }
        fn submit_task(&mut self, task: TaskId, payload: &Payload) {
            self.tasks.push((task, payload.len()));
        }
        fn cancel_task(&mut self, task: &TaskId) {
            self.tasks.retain(|(it, _)| it != task);
        }
        fn tell_peers(&mut self, message: &PeerMessage) {
            self.told.push(message.clone());
        }
        fn send(&mut self, connection: u32, message: &Outgoing<'_>) {
            let bytes = message
                .encoded(Transport::Tcp, Newlines::default(), &())
                .unwrap();
            self.sent
                .push((connection, String::from_utf8_lossy(&bytes).into_owned()));
        }
        fn close(
            &mut self,
            connection: u32,
            farewell: Option<&Outgoing<'_>>,
            _frame: Option<&CloseFrame>,
        ) {
            self.closed.push((connection, farewell.is_some()));
        }
        fn destroy(&mut self, connection: u32) {
            self.destroyed.push(connection);
        }
        fn changed(&mut self, _hub: &Hub, connection: u32, what: Changed<'_>) {
            self.changed.push((connection, format!("{what:?}")));
        }
        fn is_watched(&self) -> bool {
            true
        }
        fn refused(&mut self, _connection: u32, _effect: &Effect, why: Refused) {
            self.refused.push(why);
        }
    }

    fn id(connection: u32) -> ClientId {
        ClientId::new(GATEWAY, connection)
    }

    fn hub() -> Hub {
        let mut hub = Hub::default();
        for connection in 1..=4 {
            hub.insert(connection);
        }
        for (connection, group) in [(1, "a"), (2, "a"), (2, "b"), (3, "b")] {
            hub.join(connection, &group.into()).unwrap();
        }
        hub.bind_uid(4, &"u".into()).unwrap();
        hub
    }

    fn sent(to: Recipients, except: Vec<ClientId>) -> Vec<u32> {
        let message = Message::Text(b"m".to_vec().into());
        let mut recorder = Recorder::default();
        apply(
            &mut hub(),
            GATEWAY,
            &Effect::Send {
                to,
                message,
                except,
            },
            &mut recorder,
        );
        let mut connections: Vec<u32> = recorder.sent.iter().map(|(c, _)| *c).collect();
        connections.sort_unstable();
        connections
    }

    #[test]
    fn overlapping_groups_deliver_once() {
        assert_eq!(
            sent(Recipients::Groups(vec!["a".into(), "b".into()]), vec![]),
            [1, 2, 3]
        );
    }

    #[test]
    fn a_client_that_several_selectors_name_gets_one_copy() {
        let to = Recipients::AnyOf {
            clients: vec![id(1), id(1), id(9)],
            uids: vec!["u".into(), "none".into()],
            groups: vec!["a".into()],
        };
        assert_eq!(sent(to, vec![id(2)]), [1, 4]);
    }

    #[test]
    fn duplicate_ids_deliver_once_and_foreign_or_unknown_ids_never() {
        let mut elsewhere = id(1);
        elsewhere.port = 1;
        let clients = vec![id(1), id(1), elsewhere, id(99)];
        assert_eq!(sent(Recipients::Clients(clients), vec![]), [1]);
        assert_eq!(sent(Recipients::Clients(vec![]), vec![]), [0; 0]);
    }

    #[test]
    fn an_except_list_leaves_out_its_clients() {
        assert_eq!(sent(Recipients::Everyone, vec![id(2), id(3)]), [1, 4]);
        assert_eq!(
            sent(Recipients::Uids(vec!["u".into(), "none".into()]), vec![]),
            [4]
        );
    }

    #[test]
    fn a_session_change_is_told_and_a_limit_is_reported() {
        let mut hub = hub();
        let mut recorder = Recorder::default();
        let change = SessionChange::Set {
            key: "k".into(),
            value: "1".into(),
        };
        apply(
            &mut hub,
            GATEWAY,
            &Effect::Session {
                client: id(1),
                change,
            },
            &mut recorder,
        );
        let change = SessionChange::Set {
            key: "k".into(),
            value: "1".repeat(70_000),
        };
        apply(
            &mut hub,
            GATEWAY,
            &Effect::Session {
                client: id(1),
                change,
            },
            &mut recorder,
        );
        assert_eq!(recorder.changed.len(), 1);
        assert!(recorder.changed[0].1.starts_with("Session("));
        assert_eq!(recorder.refused, [Refused::Session]);
    }

    #[test]
    fn closing_a_uid_closes_all_its_clients_with_the_farewell() {
        let farewell = Some(Message::Text(b"bye".to_vec().into()));
        let mut recorder = Recorder::default();
        let effect = Effect::CloseUid {
            uid: "u".into(),
            farewell,
            frame: None,
        };
        apply(&mut hub(), GATEWAY, &effect, &mut recorder);
        assert_eq!(recorder.closed, [(4, true)]);
    }

    #[test]
    fn a_message_to_other_instances_is_passed_on_and_concerns_no_client() {
        let message = PeerMessage {
            from: InstanceId(7),
            topic: "prices".into(),
            payload: b"stale".to_vec().into(),
        };
        let mut recorder = Recorder::default();
        let effect = Effect::PeerMessage(Box::new(message.clone()));
        apply(&mut hub(), GATEWAY, &effect, &mut recorder);
        assert_eq!(recorder.told, [message]);
        assert!(recorder.sent.is_empty() && recorder.changed.is_empty());
    }
}
