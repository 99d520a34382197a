//! What concerns many clients with large sessions at once: it goes in windows behind live events.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const CLIENTS: usize = 60;
const SESSION: usize = 60 << 10;
/// What may be sent to a worker and not confirmed, over all shards, one client more in each, and
/// clients that came with their live events.
const UNCONFIRMED_MAX: usize = (1 << 20) + 5 * (SESSION + 1024);

/// Clients with large sessions at the first of two workers.
struct Crowd {
    home: Home,
    first: Scripted,
    second: Scripted,
    clients: Vec<(ClientId, Client)>,
}

impl Crowd {
    async fn gather() -> Self {
        let mut home = Home::start(Router::Bind, Transport::TextLines).await;
        let mut first = home.worker(1000).await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = home.client().await;
            let connect = first.delivery().await;
            let id = connect.client;
            first.done(&connect, vec![set(id, &large('a')), say(id, "welcome")]);
            assert_eq!(client.line().await, "welcome");
            clients.push((id, client));
        }
        let mut second = home.worker(1000).await;
        let mut frames = Vec::new();
        while !frames.contains(&GatewayFrame::Recognised.into()) {
            within(second.link.receiver.recv(&mut frames))
                .await
                .unwrap();
        }
        Self {
            home,
            first,
            second,
            clients,
        }
    }
}

fn large(letter: char) -> String {
    format!("\"{}\"", letter.to_string().repeat(SESSION))
}

/// What a worker has learnt, and what it has not confirmed.
#[derive(Default)]
struct Learnt {
    sessions: BTreeMap<ClientId, String>,
    /// How often each client was told.
    times: BTreeMap<ClientId, usize>,
    unconfirmed: usize,
    confirms: Vec<(u16, u64)>,
}

impl Learnt {
    /// Takes a frame; gives a delivery back.
    fn take(&mut self, frame: GatewayFrame) -> Option<Delivery> {
        match frame {
            GatewayFrame::Custody(list) => {
                for custody in list {
                    let value = custody.session.entries[0].1.clone();
                    self.unconfirmed += value.len();
                    *self.times.entry(custody.client).or_default() += 1;
                    self.sessions.insert(custody.client, value);
                }
            }
            GatewayFrame::CustodyChanged(list) => {
                for change in list {
                    *self.times.entry(change.client).or_default() += 1;
                    for (_, value) in change.entries {
                        self.sessions.insert(change.client, value.unwrap());
                    }
                }
            }
            GatewayFrame::Confirm { shard, number } => self.confirms.push((shard, number)),
            GatewayFrame::Deliver(delivery) => {
                if let Some(session) = &delivery.session {
                    let value = session.entries[0].1.clone();
                    self.sessions.insert(delivery.client, value);
                }
                return Some(*delivery);
            }
            GatewayFrame::Release(_) | GatewayFrame::CustodyRank(_) | GatewayFrame::Recognised => {}
            other => panic!("unexpected: {other:?}"),
        }
        None
    }

    fn confirm(&mut self, worker: &Scripted) {
        self.unconfirmed = 0;
        for (shard, number) in self.confirms.drain(..) {
            let confirmed = WorkerFrame::Confirmed { shard, number };
            worker.link.sender.send(confirmed).unwrap();
        }
    }

    /// Waits until every shard has begun.
    async fn begun(&mut self, worker: &mut Scripted) {
        while BTreeSet::from_iter(self.confirms.iter().map(|(shard, _)| shard)).len() < 2 {
            assert!(self.take(worker.frame().await).is_none());
        }
    }

    /// Waits for the next event; nothing is confirmed meanwhile.
    async fn delivery(&mut self, worker: &mut Scripted) -> Delivery {
        loop {
            let delivery = self.take(worker.frame().await);
            assert!(self.unconfirmed <= UNCONFIRMED_MAX, "{}", self.unconfirmed);
            if let Some(delivery) = delivery {
                return delivery;
            }
        }
    }

    /// Confirms what comes until all clients are known.
    async fn everybody(&mut self, worker: &mut Scripted) {
        while self.sessions.len() < CLIENTS {
            self.confirm(worker);
            self.take(worker.frame().await);
            assert!(self.unconfirmed <= UNCONFIRMED_MAX, "{}", self.unconfirmed);
        }
        self.confirm(worker);
    }
}

/// One client's message is answered by a worker.
async fn live(crowd: &mut Crowd, place: usize, learnt: &mut Learnt, effects: Vec<Effect>) {
    let (id, client) = &mut crowd.clients[place];
    client.send("hello").await;
    let delivery = learnt.delivery(&mut crowd.second).await;
    let mut all = effects;
    all.push(say(*id, "answer"));
    crowd.second.done(&delivery, all);
    assert_eq!(client.line().await, "answer");
}

/// Waits until the first worker may leave, while the second confirms; gives who was released.
async fn let_go(crowd: &mut Crowd, learnt: &mut Learnt) -> BTreeSet<ClientId> {
    let mut released = BTreeSet::new();
    loop {
        learnt.confirm(&crowd.second);
        tokio::select! {
            frame = crowd.first.frame() => match frame {
                GatewayFrame::Release(list) => released.extend(list),
                GatewayFrame::Drained => return released,
                GatewayFrame::Custody(_) | GatewayFrame::CustodyChanged(_) => {}
                other => panic!("unexpected: {other:?}"),
            },
            frame = crowd.second.frame() => assert!(learnt.take(frame).is_none()),
        }
    }
}

async fn bulk_in_windows(crowd: &mut Crowd, learnt: &mut Learnt) {
    learnt.begun(&mut crowd.second).await;
    // Nothing is confirmed, and live events are answered all the same.
    for place in [0, CLIENTS - 1, 1] {
        live(crowd, place, learnt, vec![]).await;
    }
    assert!(
        learnt.sessions.len() < CLIENTS,
        "the window holds the rest back"
    );
    learnt.everybody(&mut crowd.second).await;
    let ids: BTreeSet<ClientId> = crowd.clients.iter().map(|(id, _)| *id).collect();
    let told: BTreeSet<ClientId> = learnt.sessions.keys().copied().collect();
    assert_eq!(told, ids);
}

#[tokio::test]
async fn after_a_loss_custody_goes_in_a_window_and_live_events_are_answered_meanwhile() {
    let mut crowd = Crowd::gather().await;
    crowd.first.link.sender.close();
    bulk_in_windows(&mut crowd, &mut Learnt::default()).await;
}

#[tokio::test]
async fn a_worker_that_leaves_hands_over_in_a_window_and_is_let_go_at_its_end() {
    let mut crowd = Crowd::gather().await;
    crowd.first.link.sender.send(WorkerFrame::Drain).unwrap();
    let mut learnt = Learnt::default();
    bulk_in_windows(&mut crowd, &mut learnt).await;
    let released = let_go(&mut crowd, &mut learnt).await;
    assert_eq!(released.len(), CLIENTS, "each was handed over before");
}

#[tokio::test]
async fn changes_of_a_client_that_waits_are_told_together() {
    let mut crowd = Crowd::gather().await;
    crowd.first.link.sender.send(WorkerFrame::Drain).unwrap();
    let mut learnt = Learnt::default();
    learnt.begun(&mut crowd.second).await;
    live(&mut crowd, 0, &mut learnt, vec![]).await;
    let waits = crowd.clients.iter().map(|(id, _)| *id);
    let mut waits = waits.filter(|id| !learnt.sessions.contains_key(id));
    let waits = waits.next_back().unwrap();
    for letter in ['b', 'c', 'd'] {
        live(&mut crowd, 0, &mut learnt, vec![set(waits, &large(letter))]).await;
    }
    assert!(!learnt.sessions.contains_key(&waits), "it waits");
    learnt.everybody(&mut crowd.second).await;
    assert_eq!(learnt.sessions[&waits], large('d'));
    assert_eq!(learnt.times[&waits], 1);
}

#[tokio::test]
async fn a_link_that_ends_in_the_middle_loses_nobody() {
    let mut crowd = Crowd::gather().await;
    crowd.first.link.sender.send(WorkerFrame::Drain).unwrap();
    let mut learnt = Learnt::default();
    learnt.begun(&mut crowd.second).await;
    live(&mut crowd, 0, &mut learnt, vec![]).await;
    let again = crowd.home.link_again(crowd.home.workers, 1000).await;
    drop(std::mem::replace(&mut crowd.second, again));
    let mut learnt = Learnt::default();
    learnt.everybody(&mut crowd.second).await;
    let_go(&mut crowd, &mut learnt).await;
}
