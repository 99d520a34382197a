//! What the workers of a simulation run: handlers that count, answer, send to others and tell
//! monitors of closes, each taking as long as the seed says.
//!
//! A client's line is `n` (answer me), `n to ID WHO K` (and send to that client: I am WHO, this is my
//! Kth for it) or `n watch` (and make me a monitor). It gets `hello ID` and `r n COUNT`; the other
//! client gets `f WHO K`; monitors get `closed ID REASON COUNT UID SWAPS VALUE GROUPS VOLATILE GIFTS`.
//! `n fail` makes the handler return an error, `n trap` makes it trap twice: nothing of what it asked
//! for may ever be seen. `n swap K` sets a session key from K - 1 to K by compare-and-set, which must
//! succeed once, however often the handler runs. `n timer MS` sets a timer, of which it gets `t n` once. `n task STEPS`
//! begins a task, of which it gets `s n STEP` for each step, each once and in order, and `d n` at its end.
//! `n fill BYTES` sets a large session value, `n join G…`
//! and `n part G…` join and leave groups, `n dissolve G` removes all members of one, `n gift ID WHO K`
//! sets a key in that client's session; see [`crate::holdings`].
//!
//! Each answer tells the other instances `ID n`, and each instance checks that it hears those of one
//! client in order, none twice, and nothing of what has failed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tidegate_cluster::worker::{Handlers, Lane};
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Outcome, Recipients, Reply, SessionChange};
use tidegate_wire::event::{Delivery, EventKind, Message};
use tidegate_wire::frame::Serving;
use tidegate_wire::id::{ClientId, EventId};
use tidegate_wire::peers::{InstanceId, PeerMessage};
use tidegate_wire::query::{Answer, Query, SwapRefusal};
use tidegate_wire::task::{Step, TaskId};
use tidegate_wire::timer::TimerId;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::holdings;
use crate::network::{Clock, Host};
use crate::record::Record;

/// The tenant of all clients.
pub(crate) fn tenant() -> Name {
    "t".into()
}

/// What a worker announces while it serves that tenant.
pub(crate) fn serving() -> Arc<Vec<Serving>> {
    Arc::new(vec![Serving {
        tenant: tenant(),
        version: "v1".into(),
        http: false,
    }])
}

const MONITORS: &str = "monitors";
pub(crate) const COUNT: &str = "count";
const SWAPS: &str = "swaps";
/// How long an event traps, is tried again and traps again.
const TRAP: Duration = Duration::from_millis(5);
/// How long a compare-and-set may take.
const ASK_MAX: Duration = Duration::from_millis(500);

/// The handlers of one worker.
pub(crate) struct Script {
    host: Host,
    clock: Clock,
    record: Arc<Record>,
    /// Of a hundred events so many are given back.
    returns: u32,
    serving: watch::Sender<Arc<Vec<Serving>>>,
    state: Arc<Mutex<State>>,
    /// The last line of each client of which it heard.
    heard: Mutex<BTreeMap<ClientId, u64>>,
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
        serving: watch::Sender<Arc<Vec<Serving>>>,
    ) -> Self {
        Self {
            host,
            clock,
            record,
            returns,
            serving,
            state: Arc::new(Mutex::new(State {
                rng: SmallRng::seed_from_u64(seed),
                lanes: BTreeMap::new(),
            })),
            heard: Mutex::default(),
        }
    }
}

impl Handlers for Script {
    fn serving(&self) -> watch::Receiver<Arc<Vec<Serving>>> {
        self.serving.subscribe()
    }

    fn dispatch(&self, _: &Name, delivery: Box<Delivery>, lane: Arc<Lane>) {
        let client = delivery.client;
        let mut state = self.state.lock().unwrap();
        let running = state.lanes.contains_key(&client);
        let queue = state.lanes.entry(client).or_default();
        queue.push_back((*delivery, lane));
        drop(state);
        if !running {
            let (state, record) = (self.state.clone(), self.record.clone());
            let (host, clock, returns) = (self.host, self.clock.clone(), self.returns);
            tokio::spawn(run(state, record, host, clock, returns, client));
        }
    }

    fn cancel_task(&self, _: &Name, _: EventId, _: u8) {}

    fn tell_peers(&self, _: &Name, message: PeerMessage) {
        let text = String::from_utf8_lossy(&message.payload);
        let (client, n) = text.split_once(' ').unwrap_or((&text, "0"));
        let (Ok(client), Ok(n)) = (client.parse(), n.parse()) else {
            let wrong = format!("host {} heard {text:?}", self.host);
            return self.record.heard(Some(wrong));
        };
        let before = self.heard.lock().unwrap().insert(client, n);
        let wrong = before.filter(|before| *before >= n);
        let told = |before| format!("host {} heard {client} say {n} after {before}", self.host);
        self.record.heard(wrong.map(told));
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
        } else if let EventKind::Task { .. } = delivery.kind {
            work(&state, &delivery, &lane).await
        } else {
            handle(&delivery, &lane, &record).await
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
            reply: result_of(&delivery.kind).map(Box::new),
        });
    }
}

async fn handle(delivery: &Delivery, lane: &Arc<Lane>, record: &Record) -> (Outcome, Vec<Effect>) {
    let client = delivery.client;
    match &delivery.kind {
        EventKind::Connect { .. } => {
            if record.is_rough() && delivery.event.sequence % 16 == 3 {
                sleep(TRAP).await;
                return (Outcome::DeadLettered, never(client));
            }
            record.saw(client);
            let uid = format!("u{client}").into();
            let effects = vec![
                set(client, 0),
                Effect::BindUid { client, uid },
                send(client, format!("hello {client}")),
            ];
            (Outcome::Done, effects)
        }
        EventKind::Message(message) => {
            let line = String::from_utf8_lossy(message.payload());
            answer(delivery, lane, &line).await
        }
        EventKind::Close(closed) => {
            let session = lane.session();
            let key = |key| session.get(key).map_or("-".to_owned(), ToString::to_string);
            let (count, swaps, reason) = (key(COUNT), key(SWAPS), closed.reason);
            let uid = closed.uid.as_deref().unwrap_or("-");
            let (value, gifts) = (holdings::value_of(&session), holdings::gifts_of(&session));
            let (groups, volatile) = holdings::groups_of(&closed.groups);
            let told = Effect::Send {
                to: Recipients::Groups(vec![MONITORS.into()]),
                message: text(format!(
                    "closed {client} {reason:?} {count} {uid} {swaps} {value} {groups} {volatile} {gifts}"
                )),
                except: vec![],
            };
            (Outcome::Done, vec![told])
        }
        EventKind::Timer { payload, .. } => {
            let k = String::from_utf8_lossy(payload);
            (Outcome::Done, vec![send(client, format!("t {k}"))])
        }
        EventKind::Request { .. }
        | EventKind::BufferFull { .. }
        | EventKind::BufferDrain
        | EventKind::Handshake { .. }
        | EventKind::Http { .. }
        | EventKind::Task { .. } => (Outcome::Done, vec![]),
        EventKind::TaskFinished { outcome, .. } => {
            let told = match outcome {
                Ok(k) => format!("d {}", String::from_utf8_lossy(k)),
                Err(why) => format!("x {why}"),
            };
            (Outcome::Done, vec![send(client, told)])
        }
    }
}

/// Runs a task: so many steps for its client, with pauses between them. Now and then it is given back in
/// the middle.
async fn work(
    state: &Mutex<State>,
    delivery: &Delivery,
    lane: &Arc<Lane>,
) -> (Outcome, Vec<Effect>) {
    let EventKind::Task {
        task,
        payload,
        committed,
    } = &delivery.kind
    else {
        return (Outcome::Returned, vec![]);
    };
    let line = String::from_utf8_lossy(payload);
    let words: Vec<&str> = line.split(' ').collect();
    let (k, steps) = (words[0], words[1].parse::<u32>().unwrap());
    let client = task.client.unwrap_or(delivery.client);
    for number in *committed..steps {
        let pause = state.lock().unwrap().rng.random_range(0..60);
        sleep(Duration::from_millis(pause)).await;
        let step = Step {
            event: delivery.event,
            attempt: delivery.attempt,
            client: delivery.client,
            number,
            effects: vec![send(client, format!("s {k} {number}"))],
        };
        if pause == 1 || !lane.clone().step(step).await {
            return (Outcome::Returned, vec![]);
        }
    }
    (Outcome::Done, vec![send(client, format!("s {k} {steps}"))])
}

/// Answers a line of a client.
async fn answer(delivery: &Delivery, lane: &Arc<Lane>, line: &str) -> (Outcome, Vec<Effect>) {
    let client = delivery.client;
    let count = lane.session().get(COUNT).and_then(|it| it.parse().ok());
    let count = count.map_or(0, |count: u64| count + 1);
    let words: Vec<&str> = line.split(' ').collect();
    let mut effects = vec![set(client, count)];
    match words[1..] {
        ["to", target, who, k] => {
            effects.push(send(target.parse().unwrap(), format!("f {who} {k}")));
        }
        ["watch"] => effects.push(Effect::JoinGroup {
            client,
            group: MONITORS.into(),
        }),
        ["fail"] => return (Outcome::Failed, never(client)),
        ["trap"] => {
            sleep(TRAP).await;
            return (Outcome::DeadLettered, never(client));
        }
        ["swap", k] => match swap(delivery, lane, k.parse().unwrap()).await {
            Some(Ok(()) | Err(SwapRefusal::Offline)) => {}
            Some(Err(refusal)) => effects.push(send(client, format!("refused {refusal:?}"))),
            // The home could not be asked: somebody else may.
            None => return (Outcome::Returned, vec![]),
        },
        ["timer", ms] => effects.push(Effect::SetTimer {
            timer: Box::new(TimerId {
                client: Some(client),
                event: delivery.event,
                nth: 0,
            }),
            delay_ms: ms.parse().unwrap(),
            repeats: false,
            payload: words[0].as_bytes().to_vec().into(),
        }),
        ["task", steps] => effects.push(Effect::SubmitTask {
            task: Box::new(TaskId {
                client: Some(client),
                event: delivery.event,
                nth: 1,
            }),
            payload: format!("{} {steps}", words[0]).into_bytes().into(),
        }),
        ["fill" | "join" | "part" | "dissolve" | "gift", ..] => {
            effects.extend(keep(client, &words))
        }
        _ => {}
    }
    effects.push(send(client, format!("r {} {count}", words[0])));
    effects.push(tell_peers(format!("{client} {}", words[0])));
    (Outcome::Done, effects)
}

/// A task gives the number of the line that has asked for it.
fn result_of(kind: &EventKind) -> Option<Reply> {
    let EventKind::Task { payload, .. } = kind else {
        return None;
    };
    let k = payload.split(|byte| *byte == b' ').next()?;
    Some(Reply::Ok(k.to_vec().into()))
}

/// What a line asks to be kept: in sessions and in groups.
fn keep(client: ClientId, words: &[&str]) -> Vec<Effect> {
    let group = |word: &&str| holdings::group(word.parse().unwrap());
    let session = |client, key: String, value| Effect::Session {
        client,
        change: SessionChange::Set {
            key: key.as_str().into(),
            value,
        },
    };
    match words[1..] {
        ["fill", "0"] => vec![Effect::Session {
            client,
            change: SessionChange::Remove {
                key: holdings::VALUE.into(),
            },
        }],
        ["fill", bytes] => {
            let (number, bytes) = (words[0].parse().unwrap(), bytes.parse().unwrap());
            let value = holdings::value(number, bytes);
            vec![session(client, holdings::VALUE.to_owned(), value)]
        }
        ["gift", target, who, k] => {
            let key = holdings::gift(who);
            vec![session(target.parse().unwrap(), key, k.to_owned())]
        }
        ["join", ..] => {
            let groups = words[2..].iter().map(group);
            groups
                .map(|group| Effect::JoinGroup { client, group })
                .collect()
        }
        ["part", ..] => {
            let groups = words[2..].iter().map(group);
            groups
                .map(|group| Effect::LeaveGroup { client, group })
                .collect()
        }
        _ => {
            let groups = words[2..].iter().map(group);
            groups.map(|group| Effect::Ungroup { group }).collect()
        }
    }
}

/// What became of a compare-and-set; none if that is not known.
async fn swap(delivery: &Delivery, lane: &Arc<Lane>, k: u64) -> Option<Result<(), SwapRefusal>> {
    let query = Query::CompareAndSet {
        client: delivery.client,
        key: SWAPS.into(),
        expected: (k > 1).then(|| (k - 1).to_string()),
        new: Some(k.to_string()),
        nth: 0,
    };
    let (event, attempt) = (delivery.event, delivery.attempt);
    let asking = lane.clone().ask(event, attempt, vec![], query, ASK_MAX);
    match asking.await.ok()?.answer {
        Answer::Swapped(swapped) => Some(swapped),
        _ => None,
    }
}

fn set(client: ClientId, count: u64) -> Effect {
    Effect::Session {
        client,
        change: SessionChange::Set {
            key: COUNT.into(),
            value: count.to_string(),
        },
    }
}

/// What a handler asked for before it failed: a line that its client takes for a fault.
fn never(client: ClientId) -> Vec<Effect> {
    vec![
        send(client, "never".to_owned()),
        tell_peers("never".to_owned()),
    ]
}

fn tell_peers(text: String) -> Effect {
    Effect::PeerMessage(Box::new(PeerMessage {
        from: InstanceId(0),
        topic: "answers".into(),
        payload: Bytes::from(text).into(),
    }))
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
