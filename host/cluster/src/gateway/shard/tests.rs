//! What a shard keeps and looks at, counted while many clients send much.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tidegate_hub::outbound::{Outgoing, Queued};
use tidegate_link::{Identity, Secret};
use tidegate_wire::event::{Arrival, Peer};
use tidegate_wire::membership::Role;

use super::*;
use crate::gateway::commands::NoCommands;
use crate::gateway::rig;
use crate::gateway::routers::NoRouters;
use crate::gateway::settings::{GatewaySettings, ListenerSettings};
use crate::gateway::shared::socket::LocalClient;

const PENDING_BYTES_MAX: usize = 64 << 10;

/// A shard without a thread; nobody serves its tenant.
fn state() -> State {
    let announced = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    let identity = Identity {
        node: rig::node(Role::Gateway, 1, Some(announced)),
        secret: Secret::new(b"a secret of tests"),
        net: tidegate_link::net::stream::tcp(),
    };
    let settings = GatewaySettings {
        shards: 1,
        pending_bytes_max: PENDING_BYTES_MAX,
        ..rig::settings(announced)
    };
    let context = Context::new(identity, settings).unwrap();
    State::new(
        Services::new(context, Arc::new(NoCommands), Arc::new(NoRouters)),
        0,
    )
}

fn client(state: &mut State) -> (LocalClient, Rc<Connection>) {
    let listener = state.context.settings.listeners[0].clone();
    client_at(state, listener)
}

fn client_at(state: &mut State, listener: ListenerSettings) -> (LocalClient, Rc<Connection>) {
    let (client, socket) = LocalClient::pair();
    let listener = Rc::new(listener);
    let arrival = Arrival {
        peer: Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 2)),
            transport: listener.transport,
            listener: listener.name.clone(),
            secure: false,
        },
        connected_at_ms: 0,
        subprotocol: None,
    };
    let newcomer = Newcomer {
        arrival,
        request: None,
        accepted: None,
    };
    let connection = state.open(Socket::Local(socket), &listener, 0, newcomer);
    (client, connection)
}

#[tokio::test]
async fn a_client_is_held_once_however_much_it_still_sends() {
    let mut state = state();
    let clients: Vec<_> = (0..10).map(|_| client(&mut state)).collect();
    // What was read before the pause still comes: one read brings many messages.
    for _ in 0..5_000 {
        for (_, connection) in &clients {
            state.message(connection, Message::Text(vec![b'x'; 8].into()));
        }
    }
    assert!(state.events.lanes().bytes() > PENDING_BYTES_MAX);
    assert_eq!(state.events.held(), clients.len());
    assert!(clients.iter().all(|(_, connection)| connection.is_paused()));
    // Who has gone is not held.
    state.closed(&clients[0].1, CloseReason::Client);
    assert_eq!(state.events.held(), clients.len() - 1);
}

#[tokio::test]
async fn a_ping_for_which_there_is_no_room_closes_a_client_as_slow() {
    let mut state = state();
    let listener = ListenerSettings {
        ping_interval: std::time::Duration::from_secs(1),
        ping_data: Some("are you there?".to_owned()),
        queue_bytes_max: 1_000,
        ..state.context.settings.listeners[0].clone()
    };
    let (_reads_nothing, connection) = client_at(&mut state, listener);
    // More than the pipe takes.
    let message = Message::Text(vec![b'x'; 1 << 20].into());
    assert_eq!(
        connection.send(&Outgoing::message(&message)),
        Some(Queued::Waits)
    );
    assert_eq!(state.clients.count(), 1);
    for _ in 0..10_000 {
        state.ping(0);
        if state.clients.count() == 0 {
            return;
        }
    }
    panic!("the client is neither pinged nor closed");
}
