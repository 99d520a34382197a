//! What is right for each listener: its own pings, addresses as they are, lines that are one message.

use std::net::{Ipv6Addr, SocketAddr};

use crate::gateway::clients::connection::tests::*;

#[tokio::test]
async fn two_listeners_on_one_address_ping_each_its_own_clients() {
    let set = |settings: &mut GatewaySettings| {
        // Both are written as 127.0.0.1:0.
        let mut pings = settings.listeners[0].clone();
        pings.ping_interval = Duration::from_millis(50);
        pings.ping_data = Some("there?".to_owned());
        settings.listeners.push(pings);
    };
    let mut gateway = Running::start_as(1, Arc::new(NoCommands), LOOPBACK, set).await;
    let mut worker = gateway.worker().await;
    let mut client = TcpStream::connect(gateway.addresses[1]).await.unwrap();
    worker.welcome(|_| vec![]).await;
    let mut ping = [0; 7];
    soon("a ping", client.read_exact(&mut ping)).await.unwrap();
    assert_eq!(&ping, b"there?\n");
}

#[tokio::test]
async fn an_ipv4_client_of_a_listener_for_both_families_is_told_as_ipv4() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let mut gateway = Running::start_as(1, Arc::new(NoCommands), any, |_| {}).await;
    let mut worker = gateway.worker().await;
    let port = gateway.addresses[0].port();
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let delivery = worker.delivery().await;
    let EventKind::Connect { arrival, .. } = &delivery.kind else {
        panic!("expected a connect, got {delivery:?}");
    };
    assert_eq!(arrival.peer.address, client.local_addr().unwrap());
}

#[tokio::test]
async fn a_message_with_a_newline_never_becomes_two() {
    let mut gateway = gateway(Transport::TextLines, |_| {}).await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    worker
        .welcome(|id| vec![say(id, "one\nforged"), say(id, "two"), close(id, "bye")])
        .await;
    assert_eq!(rest(&mut client).await.unwrap(), b"two\nbye\n");
}
