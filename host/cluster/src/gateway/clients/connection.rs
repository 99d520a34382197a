//! One client connection: its socket, its outbound queue and the task that owns both.
//!
//! The task reads while its lane has room and writes what the shard left in the queue. An idle
//! connection has no buffer of its own beside the WebSocket parser's.
//!
//! A client that has left is noticed whether its socket is read or not; what it sent before is
//! handled first. One that has only ended its own side is answered before it is closed. Both, and
//! every other end (`ending`), take at most the time of an end.

pub(in crate::gateway) mod codec;
pub(in crate::gateway) mod coded;
mod ending;
mod frames;
pub(in crate::gateway) mod home;
mod plain;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidegate_hub::answer::Live;
use tidegate_hub::outbound::{Account, Outbound, Outgoing, Queued, close_frame};
use tidegate_watchdog::{fault, tolerate};
use tidegate_wire::Name;
use tidegate_wire::event::{Arrival, CloseFrame, CloseReason, EventKind, Message, Transport};
use tokio::io::{Interest, Ready};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::gateway::clients::connection::codec::{Codec, Read};
use crate::gateway::clients::connection::home::Home;
use crate::gateway::clients::connection::plain::Unencoded;
use crate::gateway::clients::memory::{Memory, SIP_BYTES};
use crate::gateway::settings::ListenerSettings;
use crate::gateway::shared::socket::Socket;

/// How many bytes of many small frames are gathered into one write.
const GATHER_BYTES: usize = 64 << 10;

/// What tells that a client has left whose socket is not read: its FIN, or an error. Data that
/// waits does not count. (tokio's interest in priority data includes a closed read side.)
#[cfg(any(target_os = "linux", target_os = "android"))]
const LEAVING: Interest = Interest::PRIORITY.add(Interest::ERROR);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const LEAVING: Interest = Interest::ERROR;

thread_local! {
    static GATHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// What is queued is still written.
    Closing,
    /// Nothing more is read or written.
    Ended,
}

/// What is known of the client's end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ClientEnd {
    Open,
    /// It sends no more (FIN). It may have left, or wait for answers.
    HalfClosed,
    /// It takes nothing any more: a reset, or an error of a write.
    Gone,
}

/// What the handler has been told of what waits for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Full,
    /// The event is not committed: until then it is told nothing more, so that no more than these two
    /// wait in a lane.
    Drained,
}

/// What the shard and the client's task share.
pub(in crate::gateway) struct Connection {
    pub(in crate::gateway) number: u32,
    pub(in crate::gateway) tenant: u16,
    pub(in crate::gateway) listener: Rc<ListenerSettings>,
    socket: Socket,
    outbound: RefCell<Outbound>,
    /// Messages that are to be encoded before they are queued; none without a codec.
    unencoded: Option<Box<Unencoded>>,
    buffer: Cell<Told>,
    wake: Notify,
    phase: Cell<Phase>,
    /// Whether the close event is queued.
    told: Cell<bool>,
    /// Whether it is no client yet: its handler is still to say whether it may become one.
    stranger: Cell<bool>,
    /// Takes the first message of a stranger.
    first: RefCell<Option<oneshot::Sender<Message>>>,
    /// Whether the socket is not read, because too much that came before still waits.
    paused: Cell<bool>,
    /// Whether it is not read because the shard is at its memory's limit.
    starved: Cell<bool>,
    /// Whether the kernel was told to ask for signs of life.
    probed: Cell<bool>,
    /// Whether the kernel was told to give up a client that acknowledges nothing.
    limited: Cell<bool>,
    client_end: Cell<ClientEnd>,
    /// Whether everything that the client sent is read.
    input_ended: Cell<bool>,
    memory: Rc<Memory>,
    /// Bytes of a message that is not complete, and since which of the memory's looks there are any.
    unfinished: Cell<usize>,
    unfinished_since: Cell<u32>,
    /// Whether the connection stands in the shard's list of those to be flushed.
    dirty: Cell<bool>,
    /// Whether the last read of this turn took all that the socket had.
    emptied: Cell<bool>,
    arrival: Arc<Arrival>,
    /// The close frame with which the client has ended the connection.
    close_frame: RefCell<Option<Box<CloseFrame>>>,
    /// Zero before the first message.
    last_message_at_ms: Cell<u64>,
    /// When what commits sent it and is not written came, on the shard's clock; zero: all is written.
    late_us: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// Ticks of the ping timer since the client was heard; -1: heard since the last tick.
    pub(in crate::gateway) silent: Cell<i32>,
}

impl Connection {
    pub(in crate::gateway) fn new(
        number: u32,
        tenant: u16,
        listener: Rc<ListenerSettings>,
        socket: Socket,
        arrival: Arc<Arrival>,
        memory: Rc<Memory>,
    ) -> Self {
        Self {
            unencoded: listener.codec.is_some().then(Box::default),
            arrival,
            close_frame: RefCell::default(),
            last_message_at_ms: Cell::new(0),
            late_us: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            number,
            tenant,
            listener,
            socket,
            outbound: RefCell::default(),
            buffer: Cell::new(Told::Nothing),
            wake: Notify::new(),
            phase: Cell::new(Phase::Open),
            told: Cell::new(false),
            stranger: Cell::new(false),
            first: RefCell::default(),
            paused: Cell::new(false),
            starved: Cell::new(false),
            probed: Cell::new(false),
            limited: Cell::new(false),
            client_end: Cell::new(ClientEnd::Open),
            input_ended: Cell::new(false),
            memory,
            unfinished: Cell::new(0),
            unfinished_since: Cell::new(0),
            dirty: Cell::new(false),
            emptied: Cell::new(false),
            silent: Cell::new(-1),
        }
    }

    /// Queues a message. Whoever does so flushes the connection before the end of its turn. None if
    /// it cannot be sent on this listener.
    pub(in crate::gateway) fn send(&self, message: &Outgoing<'_>) -> Option<Queued> {
        Some(self.queue_under(message.key(), self.encoded(message)?))
    }

    fn encoded(&self, message: &Outgoing<'_>) -> Option<Bytes> {
        if self.unencoded.is_some() {
            return Some(message.for_codec(self.memory.outbound()));
        }
        let listener = &self.listener;
        message.encoded(
            listener.transport,
            listener.newlines,
            self.memory.outbound(),
        )
    }

    /// Queues a message that is the last one before a close: no policy drops it.
    pub(in crate::gateway) fn farewell(&self, message: &Outgoing<'_>) -> Option<()> {
        self.queue_last(self.encoded(message)?);
        Some(())
    }

    fn queue_last(&self, frame: Bytes) {
        if self.takes() {
            match &self.unencoded {
                Some(unencoded) => unencoded.waits().borrow_mut().push_last(frame),
                None => self.push_encoded(frame),
            }
        }
    }

    /// Queues bytes that no policy may drop.
    fn push_encoded(&self, bytes: Bytes) {
        let length = bytes.len() as u64;
        self.outbound.borrow_mut().push_last(bytes);
        self.bytes_out.set(self.bytes_out.get() + length);
    }

    /// Queues a frame of this connection alone, such as a pong.
    fn queue_own(&self, frame: &[u8]) -> Queued {
        let frame = frame.to_vec();
        self.queue(self.memory.outbound().hold(frame))
    }

    /// Whether anything is queued any more.
    fn takes(&self) -> bool {
        self.phase.get() == Phase::Open && self.client_end.get() != ClientEnd::Gone
    }

    /// Queues one whole frame.
    pub(in crate::gateway) fn queue(&self, frame: Bytes) -> Queued {
        self.queue_under(None, frame)
    }

    /// The same; with a key in the place of what still waits under it.
    fn queue_under(&self, key: Option<&Name>, frame: Bytes) -> Queued {
        if !self.takes() {
            return Queued::Waits;
        }
        let (max, policy) = (self.listener.queue_bytes_max, self.listener.queue_policy);
        if let Some(unencoded) = &self.unencoded {
            return self.queue_unencoded(unencoded, key, frame);
        }
        let length = frame.len() as u64;
        let mut outbound = self.outbound.borrow_mut();
        let queued = match key {
            Some(key) => outbound.push_latest(key, frame, max, policy),
            None => outbound.push(frame, max, policy),
        };
        let taken = match queued {
            Queued::Waits | Queued::Replaced | Queued::DroppedOld { .. } => true,
            Queued::DroppedNew | Queued::Full => false,
        };
        if taken {
            self.bytes_out.set(self.bytes_out.get() + length);
        }
        queued
    }

    /// The same for a message that its codec has still to make bytes of. What was made of earlier ones
    /// and is not written counts towards the bound too.
    fn queue_unencoded(&self, unencoded: &Unencoded, key: Option<&Name>, frame: Bytes) -> Queued {
        let mut waits = unencoded.waits().borrow_mut();
        let (max, policy) = (self.listener.queue_bytes_max, self.listener.queue_policy);
        let max = max.saturating_sub(self.outbound.borrow().bytes());
        match key {
            Some(key) => waits.push_latest(key, frame, max, policy),
            None => waits.push(frame, max, policy),
        }
    }

    /// Whether messages wait to be encoded.
    fn has_unencoded(&self) -> bool {
        let unencoded = self.unencoded.as_ref();
        unencoded.is_some_and(|it| !it.is_empty())
    }

    /// Lists the connection for the next flush. False if it was listed.
    pub(in crate::gateway) fn mark_dirty(&self) -> bool {
        !self.dirty.replace(true)
    }

    /// Writes what the socket takes; the task writes the rest.
    pub(in crate::gateway) fn flush(&self) {
        self.dirty.set(false);
        if !self.write_some() || self.has_unencoded() {
            self.wake.notify_one();
        }
    }

    /// What the handler is to be told of the queue, once for each time that half of its bound waits, and
    /// that all of it is written then.
    pub(in crate::gateway) fn buffer_event(&self) -> Option<EventKind> {
        let bytes = self.outbound_bytes();
        let (told, event) = match self.buffer.get() {
            Told::Nothing if bytes > 0 && bytes >= self.listener.queue_bytes_max / 2 => {
                let bytes = bytes as u64;
                (Told::Full, EventKind::BufferFull { bytes })
            }
            Told::Full if bytes == 0 && self.takes() => (Told::Drained, EventKind::BufferDrain),
            Told::Nothing | Told::Full | Told::Drained => return None,
        };
        self.buffer.set(told);
        Some(event)
    }

    /// The handler knows that the queue was written.
    pub(in crate::gateway) fn drain_was_told(&self) {
        self.buffer.set(Told::Nothing);
    }

    /// What commits sent it came then, unless something that came earlier is not written yet.
    pub(in crate::gateway) fn set_late(&self, came_us: u64) {
        if self.late_us.get() == 0 {
            self.late_us.set(came_us.max(1));
        }
    }

    /// When that came, once all of it is written.
    pub(in crate::gateway) fn take_late(&self) -> Option<u64> {
        let late_us = self.late_us.get();
        if late_us == 0 || self.outbound_bytes() > 0 {
            return None;
        }
        self.late_us.set(0);
        Some(late_us)
    }

    /// False if something is left for the task to do.
    fn write_some(&self) -> bool {
        let mut outbound = self.outbound.borrow_mut();
        while !outbound.is_empty() {
            let written = GATHER.with_borrow_mut(|scratch| {
                self.socket
                    .try_write(outbound.next_write(scratch, GATHER_BYTES))
            });
            match written {
                Ok(count) => outbound.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {
                    outbound.clear();
                    self.clear_unencoded();
                    // What it sent before it left may still be there to be read.
                    self.client_end.set(ClientEnd::Gone);
                    return false;
                }
            }
        }
        self.phase.get() == Phase::Open
    }

    /// Closes once the queue is written. Code and reason are for a WebSocket's close frame.
    pub(in crate::gateway) fn close(&self, code: u16, reason: &str) {
        if self.phase.get() == Phase::Open {
            if self.listener.transport == Transport::WebSocket {
                self.queue_last(close_frame(code, reason));
            }
            self.phase.set(Phase::Closing);
            self.wake.notify_one();
        }
    }

    /// The same, but drops what is queued, so that its memory is free at once. Says how many bytes
    /// were dropped.
    pub(in crate::gateway) fn close_shedding(&self, code: u16, reason: &str) -> usize {
        let mut shed = self.outbound.borrow_mut().shed();
        if let Some(unencoded) = &self.unencoded {
            shed += unencoded.waits().borrow_mut().shed();
        }
        self.close(code, reason);
        self.flush();
        shed
    }

    /// Closes at once and drops what is queued. Says how many bytes that were.
    pub(in crate::gateway) fn destroy(&self) -> usize {
        self.phase.set(Phase::Ended);
        let dropped = self.outbound_bytes();
        self.outbound.borrow_mut().clear();
        self.clear_unencoded();
        self.wake.notify_one();
        dropped
    }

    fn clear_unencoded(&self) {
        if let Some(unencoded) = &self.unencoded {
            unencoded.clear();
        }
    }

    pub(in crate::gateway) fn outbound_bytes(&self) -> usize {
        let unencoded = self.unencoded.as_ref().map_or(0, |it| it.bytes());
        self.outbound.borrow().bytes() + unencoded
    }

    /// The client has sent a close frame with a code.
    pub(in crate::gateway) fn closed_by_client(&self, frame: CloseFrame) {
        *self.close_frame.borrow_mut() = Some(Box::new(frame));
    }

    /// What the client has closed the connection with, if it has.
    pub(in crate::gateway) fn take_close_frame(&self) -> Option<CloseFrame> {
        Some(*self.close_frame.borrow_mut().take()?)
    }

    /// It is no client before it has signed in; no close of it is told before that.
    pub(in crate::gateway) fn set_stranger(&self) {
        self.stranger.set(true);
        self.told.set(true);
    }

    /// The first message of somebody who has still to sign in.
    pub(in crate::gateway) fn first_message(&self) -> Option<oneshot::Receiver<Message>> {
        if !self.is_stranger() {
            return None;
        }
        let (first, said) = oneshot::channel();
        *self.first.borrow_mut() = Some(first);
        Some(said)
    }

    /// Whether it has still to sign in.
    pub(in crate::gateway) fn is_stranger(&self) -> bool {
        self.stranger.get()
    }

    /// A stranger has said something. It is not read on before it is a client.
    pub(in crate::gateway) fn said(&self, message: Message) {
        self.set_paused(true);
        if let Some(first) = self.first.borrow_mut().take() {
            // Whoever waits for it may have lost patience.
            let _ = first.send(message);
        }
    }

    /// A stranger is gone: nobody waits for it.
    pub(in crate::gateway) fn forget_first(&self) {
        self.first.borrow_mut().take();
    }

    /// It is a client now.
    pub(in crate::gateway) fn sign_in(&self) {
        self.stranger.set(false);
        self.told.set(false);
    }

    /// How it came.
    pub(in crate::gateway) const fn arrival(&self) -> &Arc<Arrival> {
        &self.arrival
    }

    /// True the first time: whoever gets it tells the close.
    pub(in crate::gateway) fn tell_close(&self) -> bool {
        !self.told.replace(true)
    }

    /// Reads the socket, or not.
    pub(in crate::gateway) fn set_paused(&self, paused: bool) {
        let was = self.paused.replace(paused);
        if was && !paused {
            self.wake.notify_one();
        } else if paused {
            self.probe();
        }
    }

    /// Answers to pings are not read while the socket is not: the kernel asks instead, within the
    /// same times.
    fn probe(&self) {
        let (interval, tries) = self.silence();
        if tries > 0 && !interval.is_zero() && !self.probed.replace(true) {
            // Without it such a client is noticed when something is written to it.
            let _ = self.socket.probe(interval, tries);
        }
    }

    /// How often a silent client is asked, and how often it may not answer.
    fn silence(&self) -> (Duration, u32) {
        let listener = &self.listener;
        let tries = listener.ping_not_response_limit.into();
        (listener.ping_interval, tries)
    }

    /// The kernel does not ask a client that has yet to acknowledge something: it would send that again
    /// for a quarter of an hour. While the socket is not read, it gives up in the times of the pings.
    pub(in crate::gateway) fn watch_silence(&self) {
        let is_paused = self.is_paused();
        if is_paused {
            self.probe();
        }
        if self.limited.replace(is_paused) != is_paused {
            let (interval, tries) = self.silence();
            let limit = (is_paused && tries > 0).then(|| interval * (tries + 1));
            // Without it such a client is noticed once the kernel has lost its patience.
            let _ = self.socket.limit_silence(limit);
        }
    }

    /// Whether the socket is not read at present.
    pub(in crate::gateway) fn is_paused(&self) -> bool {
        self.paused.get() || self.starved.get()
    }

    /// The shard has room again.
    pub(in crate::gateway) fn feed(&self) {
        if self.starved.replace(false) {
            self.wake.notify_one();
        }
    }

    /// Whether the client has ended its side, or left.
    pub(in crate::gateway) fn has_left(&self) -> bool {
        self.client_end.get() != ClientEnd::Open
    }

    /// Whether all that the client sent is read, and there will be no more.
    pub(in crate::gateway) fn input_ended(&self) -> bool {
        self.input_ended.get()
    }

    /// So many bytes are kept of a message that is not complete.
    fn keeps(&self, unfinished: usize) {
        let before = self.unfinished.replace(unfinished);
        if before != unfinished {
            self.memory.unfinished(before, unfinished);
        }
        if before == 0 {
            self.unfinished_since.set(self.memory.looks());
        }
    }

    /// How much the client makes the shard keep that is free if it is closed, times how long it has
    /// done so: the larger and older, the more.
    pub(in crate::gateway) fn burden(&self) -> u64 {
        let bytes = self.unfinished.get() + self.outbound_bytes();
        let age = self
            .memory
            .looks()
            .wrapping_sub(self.unfinished_since.get());
        bytes as u64 * (u64::from(age) + 1)
    }

    /// What is free if the client is closed.
    pub(in crate::gateway) fn kept(&self) -> usize {
        self.unfinished.get() + self.outbound_bytes()
    }

    /// The client sent a message of so many bytes, at this time of the wall clock.
    pub(in crate::gateway) fn message_came(&self, bytes: usize, at_ms: u64) {
        self.heard();
        self.last_message_at_ms.set(at_ms);
        self.bytes_in.set(self.bytes_in.get() + bytes as u64);
    }

    /// What is known of the connection.
    pub(in crate::gateway) fn live(&self) -> Live {
        let last_message = self.last_message_at_ms.get();
        Live {
            peer: self.arrival.peer.clone(),
            connected_at_ms: self.arrival.connected_at_ms,
            last_message_at_ms: (last_message > 0).then_some(last_message),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
        }
    }

    /// The client was heard.
    pub(in crate::gateway) fn heard(&self) {
        self.silent.set(-1);
    }

    fn reads(&self) -> bool {
        self.phase.get() == Phase::Open && !self.is_paused() && !self.input_ended.get()
    }

    /// The socket has no more: all that the client sent is read, or with a codec still to be decoded.
    fn socket_ends(&self) {
        match &self.unencoded {
            Some(unencoded) => unencoded.end_socket(),
            None => self.end_input(),
        }
    }

    /// All that the client sent is handed over.
    fn end_input(&self) {
        self.input_ended.set(true);
    }

    /// Whether the socket of a connection with a codec has no more.
    fn socket_ended(&self) -> bool {
        self.unencoded.as_ref().is_some_and(|it| it.socket_ended())
    }

    /// What to wait for: at least for the client's leaving, which is told once.
    fn interest(&self) -> Option<Interest> {
        self.interest_if(self.reads())
    }

    fn interest_if(&self, reads: bool) -> Option<Interest> {
        let reads = match (reads, self.client_end.get()) {
            (true, _) => Some(Interest::READABLE),
            (false, ClientEnd::Open) => Some(LEAVING),
            (false, ClientEnd::HalfClosed) => Some(Interest::ERROR),
            (false, ClientEnd::Gone) => None,
        };
        let writes = !self.outbound.borrow().is_empty();
        let writes = writes.then_some(Interest::WRITABLE);
        reads.into_iter().chain(writes).reduce(Interest::add)
    }

    /// Takes note of whether the client has left.
    fn note(&self, ready: Ready) {
        let end = if ready.is_error() || ready.is_write_closed() {
            ClientEnd::Gone
        } else if ready.is_read_closed() {
            ClientEnd::HalfClosed
        } else {
            return;
        };
        self.client_end.set(end.max(self.client_end.get()));
        if end == ClientEnd::Gone {
            self.outbound.borrow_mut().clear();
            self.clear_unencoded();
        }
    }

    /// Begins a turn of reads: whatever was known of the socket is old.
    pub(in crate::gateway) fn begin_reads(&self) {
        self.emptied.set(false);
    }

    /// Reads what is there. A read that did not fill the buffer has emptied the socket: the next
    /// one of the same turn, with no await between them, waits for the poller without asking the
    /// kernel again, as tokio's own reads do.
    pub(in crate::gateway) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.emptied.take() {
            return self.socket.nothing_to_read();
        }
        let mut buffer = buffer;
        if self.memory.is_full() {
            if self.unfinished.get() > 0 {
                self.starved.set(true);
                self.memory.starve(self.number);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let sip = SIP_BYTES.min(buffer.len());
            buffer = buffer.split_at_mut(sip).0;
        }
        let read = self.socket.try_read(buffer);
        match &read {
            Ok(0) => {
                self.socket_ends();
                self.note(Ready::READ_CLOSED);
            }
            Ok(count) => self.emptied.set(*count < buffer.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.socket_ends();
                self.note(Ready::ERROR);
            }
        }
        read
    }

    /// Whether the last read of this turn took all that the socket had. It is told once: the socket
    /// counts as unreadable from then on, until the poller says otherwise.
    fn was_emptied(&self) -> bool {
        // The error says that there is nothing to read, which is the answer.
        self.emptied.take() && self.socket.nothing_to_read().is_err()
    }

    /// The client's side is at its end, or broke a rule: what is queued is still written.
    fn ended(&self, reason: CloseReason, code: Option<u16>) -> CloseReason {
        match code {
            Some(code) => self.close(code, ""),
            None if self.phase.get() == Phase::Open => self.phase.set(Phase::Closing),
            None => {}
        }
        reason
    }

    /// Whether the client has left and what it sent could not be read in time.
    pub(in crate::gateway) fn is_unread(&self) -> bool {
        self.has_left() && !self.input_ended.get()
    }
}

/// Milliseconds since 1970. Reads a page that the kernel shares, without a call.
pub(in crate::gateway) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// As [`run`]: if the task panics while the shard is whole, its client alone is closed.
pub(in crate::gateway) async fn run_alone(
    connection: Rc<Connection>,
    codec: Codec,
    home: Rc<dyn Home>,
) {
    let run = run(connection.clone(), codec, home.clone());
    if tolerate(run).await.is_err() {
        connection.destroy();
        home.client_ended(&connection, CloseReason::Server);
        connection.keeps(0);
        home.client_gone(&connection);
    }
}

/// Owns the connection until it is closed.
async fn run(connection: Rc<Connection>, mut codec: Codec, home: Rc<dyn Home>) {
    let reason = match &mut codec {
        // Boxed, so that connections without a codec do not carry its state.
        Codec::Coded(coded) => Box::pin(coded::serve(&connection, coded, &home)).await,
        Codec::WebSocket(_) | Codec::Tcp | Codec::Delimited(_) => {
            serve(&connection, &mut codec, &home).await
        }
    };
    home.client_ended(&connection, reason);
    let deadline = home.end_of_client();
    if let Codec::Coded(coded) = &mut codec {
        Box::pin(coded::finish(&connection, coded, deadline)).await;
    }
    // Whoever broke the protocol need not answer, and its frames cannot be told apart any more.
    let frames = codec
        .into_frames()
        .filter(|_| reason != CloseReason::Protocol);
    connection.keeps(0);
    // Boxed, since few connections are ending at a time.
    Box::pin(ending::end(&connection, frames, deadline)).await;
    home.client_gone(&connection);
}

/// Reads and writes until the connection is to close; says why if the client did it.
async fn serve(connection: &Rc<Connection>, codec: &mut Codec, home: &Rc<dyn Home>) -> CloseReason {
    // What came with the handshake is there before the socket is readable.
    let mut try_read = true;
    loop {
        if connection.phase.get() != Phase::Open {
            return CloseReason::Client;
        }
        fault("the task of a client");
        if connection.has_left() {
            return Box::pin(serve_rest(connection, codec, home)).await;
        }
        if try_read && connection.reads() {
            match codec.read(connection, &**home) {
                Read::Blocked => {}
                Read::Yield => tokio::task::yield_now().await,
                Read::HalfClosed => continue,
                Read::End { reason, code } => return connection.ended(reason, code),
            }
        }
        match connection.interest() {
            Some(interest) => tokio::select! {
                biased;
                ready = connection.socket.ready(interest) => match ready {
                    Ok(ready) => {
                        try_read = ready.is_readable() || ready.is_read_closed();
                        if !connection.reads() {
                            connection.note(ready);
                        }
                        if ready.is_writable() {
                            let is_done = connection.write_some();
                            home.written(connection);
                            if !is_done {
                                continue;
                            }
                        }
                    }
                    Err(_) => return CloseReason::Client,
                },
                () = connection.wake.notified() => try_read = true,
            },
            None => {
                connection.wake.notified().await;
                try_read = true;
            }
        }
    }
}

/// The client has left or sends no more: what it sent is still read, even past its lane's bound, since
/// it can be no more than the kernel has; who has only ended its own side is answered. All that
/// within the time of an end.
async fn serve_rest(
    connection: &Rc<Connection>,
    codec: &mut Codec,
    home: &Rc<dyn Home>,
) -> CloseReason {
    let deadline = Instant::now() + home.context().settings.close;
    home.client_left(connection);
    loop {
        if connection.phase.get() != Phase::Open {
            return CloseReason::Client;
        }
        if connection.reads() {
            match codec.read(connection, &**home) {
                Read::Blocked | Read::HalfClosed => {}
                Read::Yield => tokio::task::yield_now().await,
                Read::End { reason, code } => return connection.ended(reason, code),
            }
        }
        let is_gone = connection.client_end.get() == ClientEnd::Gone;
        if connection.input_ended() && (is_gone || home.is_answered(connection)) {
            return connection.ended(CloseReason::Client, None);
        }
        let turned = timeout_at(deadline, async {
            match connection.interest() {
                Some(interest) => tokio::select! {
                    biased;
                    ready = connection.socket.ready(interest) => ready.map(Some),
                    () = connection.wake.notified() => Ok(None),
                },
                None => {
                    connection.wake.notified().await;
                    Ok(None)
                }
            }
        });
        match turned.await {
            Ok(Ok(ready)) => {
                connection.note(ready.unwrap_or(Ready::EMPTY));
                connection.write_some();
            }
            Ok(Err(_)) => return CloseReason::Client,
            Err(_elapsed) => return connection.ended(CloseReason::Client, None),
        }
    }
}

#[cfg(test)]
mod tests;
