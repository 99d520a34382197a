//! What the workers of a simulation run: handlers that count, answer, send to others and tell
//! monitors of closes, each taking as long as the seed says.
//!
//! A client's line is `n` (answer me), `n to ID WHO K` (and send to that client: I am WHO, this is my
//! Kth for it) or `n watch` (and make me a monitor). It gets `hello ID` and `r n COUNT`; the other
//! client gets `f WHO K`; monitors get `closed ID REASON COUNT`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tidegate_cluster::worker::{Handlers, Lane};
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients, SessionChange};
use tidegate_wire::event::{Delivery, EventKind, Message};
use tidegate_wire::frame::Serving;
use tidegate_wire::id::ClientId;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::network::{Clock, Host};
use crate::record::Record;

/// The tenant of all clients.
pub(crate) fn tenant() -> Name {
    "t".into()
}

const MONITORS: &str = "monitors";
const COUNT: &str = "count";

/// The handlers of one worker.
pub(crate) struct Script {
    host: Host,
    clock: Clock,
    record: Arc<Record>,
    /// Of a hundred events so many are given back.
    returns: u32,
    serving: watch::Sender<Arc<Vec<Serving>>>,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: SmallRng,
    /// Events of each client that wait behind the one that runs.
    lanes: BTreeMap<ClientId, VecDeque<(Delivery, Arc<Lane>)>>,
}

impl Script {
    pub(crate) fn new(
        host: Host,
        clock: Clock,
        record: Arc<Record>,
        seed: u64,
        returns: u32,
    ) -> Self {
        let serving = Serving {
            tenant: tenant(),
            version: "v1".into(),
        };
        Self {
            host,
            clock,
            record,
            returns,
            serving: watch::Sender::new(Arc::new(vec![serving])),
            state: Arc::new(Mutex::new(State {
                rng: SmallRng::seed_from_u64(seed),
                lanes: BTreeMap::new(),
            })),
        }
    }
}

impl Handlers for Script {
    fn serving(&self) -> watch::Receiver<Arc<Vec<Serving>>> {
        self.serving.subscribe()
    }

    fn dispatch(&self, _: &Name, delivery: Delivery, lane: Arc<Lane>) {
        let client = delivery.client;
        let mut state = self.state.lock().unwrap();
        let running = state.lanes.contains_key(&client);
        let queue = state.lanes.entry(client).or_default();
        queue.push_back((delivery, lane));
        drop(state);
        if !running {
            let (state, record) = (self.state.clone(), self.record.clone());
            let (host, clock, returns) = (self.host, self.clock, self.returns);
            tokio::spawn(run(state, record, host, clock, returns, client));
        }
    }

    fn queued_bytes(&self) -> u64 {
        0
    }
}

/// Runs the events of one client until none waits.
async fn run(
    state: Arc<Mutex<State>>,
    record: Arc<Record>,
    host: Host,
    clock: Clock,
    returns: u32,
    client: ClientId,
) {
    loop {
        let (pause, returned) = {
            let mut state = state.lock().unwrap();
            let pause = match state.rng.random_range(0..10) {
                0..5 => 0,
                5..9 => state.rng.random_range(1..20),
                _ => state.rng.random_range(1..150),
            };
            (pause, state.rng.random_range(0..100) < returns)
        };
        if pause > 0 {
            sleep(Duration::from_millis(pause)).await;
        }
        let next = {
            let mut state = state.lock().unwrap();
            let next = state.lanes.get_mut(&client).and_then(VecDeque::pop_front);
            if next.is_none() {
                state.lanes.remove(&client);
            }
            next
        };
        let Some((delivery, lane)) = next else { return };
        let (outcome, effects) = if returned {
            (Outcome::Returned, vec![])
        } else {
            (Outcome::Done, handle(&delivery, &lane, &record))
        };
        record.log(clock.now_ms(), || {
            let (kind, event) = (delivery.kind.name(), delivery.event.sequence);
            let attempt = delivery.attempt;
            format!("host {host} {outcome:?} {kind} {event}.{attempt} of {client}")
        });
        lane.commit(Commit {
            event: delivery.event,
            attempt: delivery.attempt,
            client,
            outcome,
            effects,
            reply: None,
        });
    }
}

fn handle(delivery: &Delivery, lane: &Lane, record: &Record) -> Vec<Effect> {
    let client = delivery.client;
    let session = lane.session();
    let count = session
        .get(COUNT)
        .and_then(|count| count.parse::<u64>().ok());
    let set = |count: u64| Effect::Session {
        client,
        change: SessionChange::Set {
            key: COUNT.into(),
            value: count.to_string(),
        },
    };
    match &delivery.kind {
        EventKind::Connect { .. } => {
            record.saw(client);
            let uid = format!("u{client}").into();
            vec![
                set(0),
                Effect::BindUid { client, uid },
                send(client, format!("hello {client}")),
            ]
        }
        EventKind::Message(message) => {
            let line = String::from_utf8_lossy(message.payload());
            let words: Vec<&str> = line.split(' ').collect();
            let count = count.map_or(0, |count| count + 1);
            let mut effects = vec![set(count)];
            match words[1..] {
                ["to", target, who, k] => {
                    effects.push(send(target.parse().unwrap(), format!("f {who} {k}")));
                }
                ["watch"] => effects.push(Effect::JoinGroup {
                    client,
                    group: MONITORS.into(),
                }),
                _ => {}
            }
            effects.push(send(client, format!("r {} {count}", words[0])));
            effects
        }
        EventKind::Close(closed) => {
            let reason = closed.reason;
            let uid = closed.uid.as_deref().unwrap_or("-");
            let count = count.map_or("-".to_owned(), |count| count.to_string());
            vec![Effect::Send {
                to: Recipients::Groups(vec![MONITORS.into()]),
                message: text(format!("closed {client} {reason:?} {count} {uid}")),
                except: vec![],
            }]
        }
        EventKind::Request { .. } => vec![],
    }
}

fn text(text: String) -> Message {
    Message::Text(Bytes::from(text).into())
}

fn send(client: ClientId, line: String) -> Effect {
    Effect::Send {
        to: Recipients::Client(client),
        message: text(line),
        except: vec![],
    }
}
