//! Where the deliveries of the host's rules go: queues that a test reads. What an event sends waits
//! until its commit is applied whole, so that a destroyed client loses what was queued for it.

use std::collections::{BTreeMap, VecDeque};

use tidegate_hub::effects::{Changed, Deliver};
use tidegate_hub::hub::{Hub, Refused};
use tidegate_hub::outbound::{Content, Newlines, Outgoing};
use tidegate_hub::timers::{Setting, Timers};
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::event;
use tidegate_wire::id::ClientId;
use tidegate_wire::payload::Payload;
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::task::TaskId;
use tidegate_wire::timer::TimerId;

use crate::event::CloseFrame;
use crate::message::Message;
use crate::testing::shard::{Connection, GATEWAY};

/// What is sent to one client.
pub(super) enum Parcel {
    Message(Message),
    Raw(Vec<u8>),
}

/// What waits for the end of the commit.
pub(super) struct QueuedParcel {
    /// What comes under the same key takes its place.
    key: Option<Name>,
    pub(super) parcel: Parcel,
}

/// The parts of the shard that effects reach, beside the hub.
pub(super) struct Deliveries<'a> {
    pub(super) connections: &'a mut BTreeMap<u32, Connection>,
    pub(super) timers: &'a mut Timers,
    /// Tasks that wait.
    pub(super) tasks: &'a mut VecDeque<(TaskId, Payload)>,
    pub(super) told_peers: &'a mut Vec<PeerMessage>,
    pub(super) now_us: u64,
    /// Whom the effects have closed, in order.
    pub(super) closing: Vec<u32>,
}

impl Deliver for Deliveries<'_> {
    fn send(&mut self, connection: u32, message: &Outgoing<'_>) {
        let connection = self.connections.get_mut(&connection);
        let Some(connection) = connection.filter(|it| !it.is_closing) else {
            return;
        };
        // Framed as for its listener: a line with a newline in it is not sent.
        let framed = message.encoded(connection.transport(), Newlines::default(), &());
        if let Some(framed) = framed {
            connection.bytes_out += framed.len() as u64;
            let queued = QueuedParcel {
                key: message.key().cloned(),
                parcel: parcel(message.content()),
            };
            let same = |it: &&mut QueuedParcel| queued.key.is_some() && it.key == queued.key;
            match connection.queued.iter_mut().find(same) {
                Some(place) => *place = queued,
                None => connection.queued.push(queued),
            }
        }
    }

    fn close(
        &mut self,
        connection: u32,
        farewell: Option<&Outgoing<'_>>,
        frame: Option<&event::CloseFrame>,
    ) {
        if let Some(farewell) = farewell {
            self.send(connection, farewell);
        }
        if let Some(closed) = self.connections.get_mut(&connection)
            && closed.transport() == event::Transport::WebSocket
        {
            let (code, reason) = frame.map_or((1000, ""), |it| (it.code, it.reason.as_str()));
            closed.close_frame = Some(CloseFrame {
                code,
                reason: reason.to_owned(),
            });
        }
        self.end(connection);
    }

    fn destroy(&mut self, connection: u32) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.queued.clear();
        }
        self.end(connection);
    }

    fn set_timer(&mut self, timer: TimerId, delay_ms: u64, repeats: bool, payload: &Payload) {
        let setting = Setting {
            tenant: 0,
            delay_ms,
            repeats,
            payload: payload.clone(),
        };
        if let Err(why) = self.timers.set(timer, setting, self.now_us) {
            eprintln!("a limit refused timer {timer}: {why:?}");
        }
    }

    fn cancel_timer(&mut self, timer: &TimerId) {
        self.timers.cancel(0, timer);
    }

    fn submit_task(&mut self, task: TaskId, payload: &Payload) {
        self.tasks.push_back((task, payload.clone()));
    }

    fn cancel_task(&mut self, task: &TaskId) {
        self.tasks.retain(|(waiting, _)| waiting != task);
    }

    fn tell_peers(&mut self, message: &PeerMessage) {
        self.told_peers.push(message.clone());
    }

    fn changed(&mut self, _: &Hub, _: u32, _: Changed<'_>) {}

    fn is_watched(&self) -> bool {
        false
    }

    fn refused(&mut self, connection: u32, _: &Effect, why: Refused) {
        // The host counts it; a test's author wants to know.
        let client = ClientId::new(GATEWAY, connection);
        eprintln!("a limit refused an effect on client {client}: {why:?}");
    }
}

impl Deliveries<'_> {
    fn end(&mut self, number: u32) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.is_closing = true;
            self.closing.push(number);
        }
    }
}

fn parcel(content: Content<'_>) -> Parcel {
    match content {
        Content::Raw(bytes) => Parcel::Raw(bytes.to_vec()),
        Content::Message(event::Message::Binary(bytes)) => {
            Parcel::Message(Message::Binary(bytes.to_vec()))
        }
        // Only a `str` becomes a text.
        Content::Message(event::Message::Text(text)) => {
            Parcel::Message(Message::Text(String::from_utf8_lossy(text).into_owned()))
        }
    }
}
