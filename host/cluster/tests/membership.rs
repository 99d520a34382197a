//! Registers and nodes over real sockets.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "membership/captured.rs"]
mod captured;

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::register::{Register, RegisterSettings};
use tidegate_link::membership::{Members, Membership, MembershipSettings, fixed, join};
use tidegate_link::net::stream::tcp;
use tidegate_link::net::{AcceptSettings, accept_links, bind};
use tidegate_link::{Identity, Link, LinkSettings, Secret, dial};
use tidegate_wire::frame::NodeFrame;
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use captured::Captured;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);
const LEASE: Duration = Duration::from_millis(600);
const GRACE: Duration = Duration::from_millis(1200);

fn links() -> LinkSettings {
    LinkSettings {
        heartbeat: Duration::from_millis(50),
        lease: LEASE,
        ..LinkSettings::default()
    }
}

struct TestRegister {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl TestRegister {
    async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), GRACE).await
    }

    async fn start_at(address: SocketAddr, grace: Duration) -> Self {
        let listener = bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let settings = RegisterSettings {
            lease_max: Duration::from_secs(10),
            grace,
            nodes_max: 100,
            link: links(),
        };
        let identity = identity(Role::Register, 1000, "s");
        let task = tokio::spawn(Register::run(listener, identity, settings, stop.clone()));
        Self {
            address,
            stop,
            task,
        }
    }

    /// Ends it. Its address can be used again.
    async fn end(self) -> SocketAddr {
        self.stop.cancel();
        timeout(LONG, self.task).await.unwrap().unwrap();
        self.address
    }

    /// Ends it and starts one that knows nothing at the same address.
    async fn restart(self, grace: Duration) -> Self {
        let address = self.end().await;
        timeout(LONG, async {
            // The accept loop gives the address back a moment after the register's end.
            while std::net::TcpListener::bind(address).is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        Self::start_at(address, grace).await
    }
}

fn identity(role: Role, incarnation: u64, secret: &str) -> Identity {
    Identity {
        node: Node {
            role,
            incarnation: Incarnation(incarnation),
            address: None,
            name: format!("{}-{incarnation}", role.name()).into(),
            tags: Vec::new(),
        },
        secret: Secret::new(secret.as_bytes()),
        net: tcp(),
    }
}

fn gateway(incarnation: u64, port: u16) -> Identity {
    let mut identity = identity(Role::Gateway, incarnation, "s");
    identity.node.address = Some(SocketAddrV4::new([127, 0, 0, 1].into(), port));
    identity
}

fn worker(incarnation: u64) -> Identity {
    identity(Role::Worker, incarnation, "s")
}

fn settings() -> MembershipSettings {
    MembershipSettings {
        link: links(),
        lease: LEASE,
        reconnect_min: Duration::from_millis(20),
        reconnect_max: Duration::from_millis(200),
    }
}

/// A node with the stop signal of its process.
struct TestNode {
    membership: Membership,
    stop: CancellationToken,
}

fn start(registers: &[&TestRegister], identity: Identity) -> TestNode {
    let registers = registers.iter().map(|r| r.address.to_string()).collect();
    let stop = CancellationToken::new();
    TestNode {
        membership: join(registers, identity, settings(), stop.clone()),
        stop,
    }
}

impl TestNode {
    async fn sees(&mut self, what: &str, condition: impl FnMut(&Arc<Members>) -> bool) {
        let mut members = self.membership.members.clone();
        if timeout(LONG, members.wait_for(condition)).await.is_err() {
            let seen = self.membership.members.borrow();
            panic!("{what} was not seen, only {seen:?}");
        }
    }

    async fn sees_nodes(&mut self, nodes: &[u64]) {
        self.sees(&format!("{nodes:?}"), |members| ids(members) == nodes)
            .await;
    }

    /// Whether nothing but these nodes is seen for a while.
    async fn keeps_seeing(&mut self, nodes: &[u64], time: Duration) {
        let mut members = self.membership.members.clone();
        let other = timeout(time, members.wait_for(|members| ids(members) != nodes)).await;
        assert!(other.is_err(), "{:?}", self.membership.members.borrow());
    }

    async fn is_refused(&mut self, reason: &Refusal) {
        let refused = &mut self.membership.refused;
        let refusal = refused.wait_for(|refused| refused.as_ref() == Some(reason));
        drop(timeout(LONG, refusal).await.expect("refused").unwrap());
    }
}

fn ids(members: &Members) -> Vec<u64> {
    members.nodes.keys().map(|n| n.0).collect()
}

/// A gateway that joins and then freezes: it neither reads nor gives signs of life.
async fn frozen(register: &TestRegister, identity: &Identity) -> Link {
    let never = LinkSettings {
        heartbeat: LONG,
        ..links()
    };
    let link = dial(register.address, identity, &never).await.unwrap();
    let join = NodeFrame::Join {
        node: identity.node.clone(),
        lease_ms: u32::try_from(LEASE.as_millis()).unwrap(),
    };
    link.sender.send(join).unwrap();
    link
}

#[tokio::test]
async fn every_node_is_pushed_every_change() {
    let register = TestRegister::start().await;
    let mut one = start(&[&register], gateway(1, 1));
    one.sees_nodes(&[1]).await;
    let mut two = start(&[&register], worker(2));
    one.sees_nodes(&[1, 2]).await;
    two.sees_nodes(&[1, 2]).await;
    let members = two.membership.members.borrow().clone();
    assert_eq!(members.connected, 1);
    assert_eq!(members.gateways().count(), 1);
    let found = members.by_address("127.0.0.1:1".parse().unwrap());
    assert_eq!(found.unwrap().incarnation, Incarnation(1));
    assert!(members.by_address("127.0.0.1:2".parse().unwrap()).is_none());
}

#[tokio::test]
async fn leaving_is_seen_at_once_and_is_final() {
    let register = TestRegister::start().await;
    let mut one = start(&[&register], worker(1));
    let mut two = start(&[&register], gateway(2, 2));
    one.sees_nodes(&[1, 2]).await;
    two.sees_nodes(&[1, 2]).await;
    // Past the grace time, so that an absent node is known to be gone.
    one.keeps_seeing(&[1, 2], GRACE).await;
    timeout(LEASE, two.membership.leave())
        .await
        .expect("a leave does not wait for the lease");
    one.sees_nodes(&[1]).await;
    assert!(one.membership.members.borrow().is_lost(Incarnation(2)));
    let mut again = start(&[&register], gateway(2, 2));
    again.is_refused(&Refusal::Lost).await;
    let mut next = start(&[&register], gateway(3, 2));
    next.sees_nodes(&[1, 3]).await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_logged_once_without_the_secret() {
    let (captured, _guard) = Captured::start();
    let register = TestRegister::start().await;
    let mut stranger = worker(1);
    stranger.secret = Secret::new(b"open-sesame");
    let mut stranger = start(&[&register], stranger);
    stranger.is_refused(&Refusal::WrongSecret).await;
    timeout(LONG, async {
        while captured.text().matches("still not joined").count() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let log = captured.text();
    assert_eq!(log.matches("not joined; trying again").count(), 1, "{log}");
    assert!(log.contains("the cluster secret differs"), "{log}");
    assert!(!log.contains("sesame"), "{log}");
    assert_eq!(ids(&stranger.membership.members.borrow()), [] as [u64; 0]);
}

#[tokio::test]
async fn a_register_that_restarts_shrinks_nobodys_view() {
    let register = TestRegister::start().await;
    let mut one = start(&[&register], gateway(1, 1));
    let mut two = start(&[&register], worker(2));
    let frozen_gateway = gateway(3, 3);
    let link = frozen(&register, &frozen_gateway).await;
    one.sees_nodes(&[1, 2, 3]).await;
    two.sees_nodes(&[1, 2, 3]).await;
    drop(link);
    let grace = Duration::from_secs(3);
    let register = register.restart(grace).await;
    tokio::join!(
        one.keeps_seeing(&[1, 2, 3], grace / 2),
        two.keeps_seeing(&[1, 2, 3], grace / 2)
    );
    // Who is not back when the grace is over is gone.
    one.sees_nodes(&[1, 2]).await;
    two.sees_nodes(&[1, 2]).await;
    assert!(one.membership.members.borrow().is_lost(Incarnation(3)));
    register.end().await;
    one.sees("no register", |members| members.connected == 0)
        .await;
    one.keeps_seeing(&[1, 2], LEASE * 3).await;
}

#[tokio::test]
async fn two_registers_are_one_view() {
    let (first, second) = (TestRegister::start().await, TestRegister::start().await);
    let mut both = start(&[&first, &second], worker(1));
    let mut left = start(&[&first], gateway(2, 2));
    let _right = start(&[&second], gateway(3, 3));
    both.sees_nodes(&[1, 2, 3]).await;
    left.sees_nodes(&[1, 2]).await;
    both.sees("both", |members| members.connected == 2).await;
    // The gateway that only the other register knows must not go with a register that ends.
    first.end().await;
    both.sees("one", |members| members.connected == 1).await;
    assert_eq!(ids(&both.membership.members.borrow()), [1, 2, 3]);
}

#[tokio::test]
async fn a_frozen_gateway_is_dropped_after_its_lease_and_refused_when_it_thaws() {
    let register = TestRegister::start().await;
    let mut one = start(&[&register], worker(1));
    one.sees_nodes(&[1]).await;
    one.keeps_seeing(&[1], GRACE).await;
    let frozen_gateway = gateway(2, 2);
    let _link = frozen(&register, &frozen_gateway).await;
    one.sees_nodes(&[1, 2]).await;
    one.sees_nodes(&[1]).await;
    assert!(one.membership.members.borrow().is_lost(Incarnation(2)));
    let mut thawed = start(&[&register], frozen_gateway);
    thawed.is_refused(&Refusal::Lost).await;
}

#[tokio::test]
async fn a_register_that_was_started_again_learns_who_was_declared_lost() {
    let register = TestRegister::start().await;
    let mut one = start(&[&register], worker(1));
    let frozen_gateway = gateway(2, 2);
    let link = frozen(&register, &frozen_gateway).await;
    one.sees_nodes(&[1, 2]).await;
    one.sees_nodes(&[1]).await;
    drop(link);
    let register = register.restart(GRACE).await;
    let mut thawed = start(&[&register], frozen_gateway);
    thawed.is_refused(&Refusal::Lost).await;
    assert!(!ids(&one.membership.members.borrow()).contains(&2));
}

#[tokio::test]
async fn an_address_is_refused_while_another_gateway_holds_it() {
    let register = TestRegister::start().await;
    let mut first = start(&[&register], gateway(1, 7));
    first.sees_nodes(&[1]).await;
    let mut second = start(&[&register], gateway(2, 7));
    let taken = Refusal::AddressTaken("127.0.0.1:7".to_owned());
    second.is_refused(&taken).await;
    assert_eq!(ids(&first.membership.members.borrow()), [1]);
    // A crash: no leave. The newcomer is let in once the lease has run out.
    first.stop.cancel();
    second
        .sees("itself alone", |members| ids(members) == [2])
        .await;
    assert_eq!(*second.membership.refused.borrow(), None);
}

#[tokio::test]
async fn a_node_that_reconnects_within_its_lease_keeps_its_place() {
    let register = TestRegister::start().await;
    let mut one = start(&[&register], worker(1));
    let mut two = start(&[&register], gateway(2, 2));
    one.sees_nodes(&[1, 2]).await;
    two.sees_nodes(&[1, 2]).await;
    one.keeps_seeing(&[1, 2], GRACE).await;
    // The same life on a new link; the old one ends without a leave.
    two.stop.cancel();
    let mut again = start(&[&register], gateway(2, 2));
    tokio::join!(
        one.keeps_seeing(&[1, 2], LEASE * 3),
        again.sees_nodes(&[1, 2])
    );
    assert_eq!(*again.membership.refused.borrow(), None);
}

#[tokio::test]
async fn a_link_to_something_else_than_a_register_is_named_in_the_log() {
    let (captured, _guard) = Captured::start();
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let bounds = AcceptSettings {
        handshakes_max: 4,
        handshakes_per_address_max: 4,
        links_max: 4,
    };
    let serve = |link: Link| async move { link.sender.closed().await };
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let other = accept_links(listener, worker(9), links(), bounds, stop.clone(), serve);
    tokio::spawn(other);
    let _node = join(vec![address.to_string()], worker(1), settings(), stop);
    timeout(LONG, async {
        while !captured
            .text()
            .contains("a worker answers there, not a register")
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_fixed_membership_never_changes() {
    let mut membership = fixed(vec![gateway(1, 1).node, worker(2).node]);
    assert_eq!(ids(&membership.members.borrow()), [1, 2]);
    let change = timeout(Duration::from_millis(50), membership.members.changed());
    assert!(change.await.is_err(), "neither a change nor an end");
    timeout(LONG, membership.leave()).await.unwrap();
}
