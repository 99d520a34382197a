//! A life that was declared lost: what its workers have in custody is theirs to tell, so it neither
//! takes workers and clients nor says anything that looks as if it were alive.

use tidegate_cluster::gateway::LocalClient;
use tidegate_link::LinkEnd;
use tidegate_wire::hello::Refusal;
use tidegate_wire::query::{Query, Selector};

use super::*;

/// Shards that nothing ends, so that they may be looked at for as long as it takes.
fn shards() -> Gateway {
    let identity = Identity {
        node: node(Role::Gateway, 1),
        secret: Secret::new(b"a secret of tests"),
        net: tidegate_link::net::stream::tcp(),
    };
    Gateway::start(identity, settings(Routing::default(), Transport::TextLines)).unwrap()
}

fn attach(gateway: &Gateway, worker: u64) -> Link {
    let (mine, theirs) = pair(
        node(Role::Worker, worker),
        node(Role::Gateway, 1),
        &LinkSettings::default(),
    );
    gateway.attach(theirs);
    mine
}

fn announce(link: &Link) {
    let announcement = Announcement {
        serving: vec![Serving {
            tenant: "t".into(),
            version: "v1".into(),
            http: false,
        }],
        window_events: 64,
        window_bytes: 1 << 20,
    };
    // A link that was refused takes nothing.
    let _ = link.sender.send(WorkerFrame::Announce(announcement));
}

/// Returns once each shard has had two turns: it serves the links that came before.
async fn two_turns(gateway: &Gateway) {
    for _ in 0..2 {
        let query = Query::ClientCount {
            of: vec![Selector::Everyone],
        };
        let access = gateway.access();
        access.ask(&"t".into(), query, DEADLINE).await.unwrap();
    }
}

/// All that still comes over a link, and how it ended.
async fn rest(mut link: Link) -> (Vec<Frame>, LinkEnd) {
    let mut frames = Vec::new();
    loop {
        if let Err(end) = within(link.receiver.recv(&mut frames)).await {
            return (frames, end);
        }
    }
}

async fn ended(client: &LocalClient) {
    cluster::eventually(async || matches!(client.try_receive(&mut [0; 64]), Ok(0))).await;
}

#[tokio::test]
async fn a_lost_life_refuses_a_worker_that_linked_before_and_announces_itself_after() {
    let gateway = shards();
    let link = attach(&gateway, 2);
    two_turns(&gateway).await;
    gateway.lose();
    announce(&link);
    let (frames, end) = rest(link).await;
    // Anything else would make the worker drop what it has in custody.
    assert_eq!(frames, []);
    assert_eq!(end, LinkEnd::Goodbye(Refusal::Lost));
}

#[tokio::test]
async fn a_lost_life_lets_no_client_in() {
    let gateway = shards();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let before = gateway.connect(0, address);
    two_turns(&gateway).await;
    gateway.lose();
    ended(&before).await;
    let late = gateway.connect(0, address);
    ended(&late).await;
}
