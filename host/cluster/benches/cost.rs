//! What grows with what: each operation at a size and at four times that. About 4 is in proportion,
//! about 16 is not. `cargo bench -p tidegate-cluster --bench cost` prints it; nothing is asserted,
//! since times of a shared machine prove nothing: tests count steps instead.

#![allow(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use tidegate_hub::effects::{Changed, Deliver, apply};
use tidegate_hub::hub::{Hub, HubLimits, Refused, Trial};
use tidegate_hub::lanes::Lanes;
use tidegate_hub::outbound::Outgoing;
use tidegate_wire::Name;
use tidegate_wire::effect::{Effect, Recipients, SessionChange};
use tidegate_wire::event::{CloseFrame, EventKind, Message};
use tidegate_wire::id::ClientId;
use tidegate_wire::payload::Payload;
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::task::TaskId;
use tidegate_wire::timer::TimerId;

const GATEWAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
const REPETITIONS: usize = 5;

/// Counts what an effect does.
#[derive(Default)]
struct Counter {
    done: usize,
}

impl Deliver for Counter {
    fn send(&mut self, _: u32, _: &Outgoing<'_>) {
        self.done += 1;
    }
    fn close(&mut self, _: u32, _: Option<&Outgoing<'_>>, _: Option<&CloseFrame>) {
        self.done += 1;
    }
    fn destroy(&mut self, _: u32) {
        self.done += 1;
    }
    fn changed(&mut self, _: &Hub, _: u32, _: Changed<'_>) {
        self.done += 1;
    }
    fn is_watched(&self) -> bool {
        false
    }
    fn refused(&mut self, _: u32, _: &Effect, _: Refused) {}
    fn set_timer(&mut self, _: TimerId, _: u64, _: bool, _: &Payload) {
        self.done += 1;
    }
    fn cancel_timer(&mut self, _: &TimerId) {
        self.done += 1;
    }
    fn submit_task(&mut self, _: TaskId, _: &Payload) {
        self.done += 1;
    }
    fn cancel_task(&mut self, _: &TaskId) {
        self.done += 1;
    }
    fn tell_peers(&mut self, _: &PeerMessage) {
        self.done += 1;
    }
}

fn hub(clients: u32) -> Hub {
    let mut hub = Hub::new(HubLimits {
        groups_per_client_max: usize::MAX,
        session_bytes_max: usize::MAX,
    });
    (0..clients).for_each(|client| hub.insert(client));
    hub
}

fn name(number: u32) -> Name {
    format!("name-{number}").into()
}

fn id(connection: u32) -> ClientId {
    ClientId::new(GATEWAY, connection)
}

fn grouped(clients: u32) -> Hub {
    let mut hub = hub(clients);
    (0..clients).for_each(|client| joins(&mut hub, client, &"g".into()));
    hub
}

/// A client of this bench is there and has no limit of groups.
fn joins(hub: &mut Hub, client: u32, group: &Name) {
    let _ = hub.join(client, group);
}

fn message() -> Message {
    Message::Text(vec![b'x'; 64].into())
}

fn set(key: u32) -> SessionChange {
    SessionChange::Set {
        key: name(key),
        value: "1".repeat(40),
    }
}

/// An operation of some size: what is there before, and what is measured.
struct Operation {
    name: &'static str,
    size: u32,
    run: fn(u32) -> Duration,
}

fn timed<T>(mut before: T, run: impl FnOnce(&mut T)) -> Duration {
    let start = Instant::now();
    run(&mut before);
    start.elapsed()
}

fn applied(hub: Hub, effect: &Effect) -> Duration {
    timed(hub, |hub| {
        apply(hub, GATEWAY, effect, &mut Counter::default())
    })
}

const OPERATIONS: [Operation; 9] = [
    Operation {
        name: "ungroup of a group of n clients",
        size: 25_000,
        run: |n| applied(grouped(n), &Effect::Ungroup { group: "g".into() }),
    },
    Operation {
        name: "send to n clients, except n",
        size: 10_000,
        run: |n| {
            let effect = Effect::Send {
                to: Recipients::Clients((0..n).map(id).collect()),
                message: message(),
                except: (0..n).map(id).collect(),
            };
            applied(hub(n), &effect)
        },
    },
    Operation {
        name: "send to a group of n, except n",
        size: 10_000,
        run: |n| {
            let effect = Effect::Send {
                to: Recipients::Groups(vec!["g".into()]),
                message: message(),
                except: (0..n).map(|it| id(it * 2)).collect(),
            };
            applied(grouped(n), &effect)
        },
    },
    Operation {
        name: "one client joins n groups",
        size: 1_000,
        run: |n| {
            timed(hub(1), |hub| {
                (0..n).for_each(|group| joins(hub, 0, &name(group)));
            })
        },
    },
    Operation {
        name: "n clients get one uid and go",
        size: 25_000,
        run: |n| {
            timed(hub(n), |hub| {
                for client in 0..n {
                    let _ = hub.bind_uid(client, &"u".into());
                }
                (0..n).for_each(|client| drop(hub.remove(client)));
            })
        },
    },
    Operation {
        name: "n keys of one session are set",
        size: 1_000,
        run: |n| {
            timed(hub(1), |hub| {
                (0..n).for_each(|key| drop(hub.change_session(0, &set(key))));
            })
        },
    },
    Operation {
        name: "n session changes on trial, undone",
        size: 1_000,
        run: |n| {
            let change = |key| Effect::Session {
                client: id(0),
                change: set(key),
            };
            let effects: Vec<Effect> = (0..n).map(change).collect();
            timed(hub(1), |hub| Trial::begin(hub, GATEWAY, &effects).undo(hub))
        },
    },
    Operation {
        name: "n events of one lane",
        size: 25_000,
        run: |n| {
            timed(Lanes::default(), |lanes| {
                lanes.open(0, 0, None);
                (0..n).for_each(|_| lanes.push(0, EventKind::Message(message())));
                while let Some(sent) = lanes.send(0, 1) {
                    let _ = lanes.commit(0, 1, sent.sequence, sent.attempt);
                }
            })
        },
    },
    Operation {
        name: "n lanes come and go",
        size: 25_000,
        run: |n| {
            timed(Lanes::default(), |lanes| {
                (0..n).for_each(|client| lanes.open(client, 0, None));
                (0..n).for_each(|client| drop(lanes.remove(client)));
            })
        },
    },
];

/// The least of some repetitions: what disturbs only adds.
fn least(operation: &Operation, size: u32) -> Duration {
    let all = (0..REPETITIONS).map(|_| (operation.run)(size));
    all.min().unwrap_or_default()
}

fn main() {
    println!("| operation | n | ms at n | ms at 4 n | ratio |");
    println!("|---|---|---|---|---|");
    for operation in &OPERATIONS {
        let once = least(operation, operation.size);
        let fourfold = least(operation, operation.size * 4);
        println!(
            "| {} | {} | {:.2} | {:.2} | {:.1} |",
            operation.name,
            operation.size,
            once.as_secs_f64() * 1000.0,
            fourfold.as_secs_f64() * 1000.0,
            fourfold.as_secs_f64() / once.as_secs_f64()
        );
    }
}
