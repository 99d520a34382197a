//! One client connection: its socket, its outbound queue and the task that owns both.
//!
//! The task reads while its lane has room and writes what the shard left in the queue. An idle
//! connection has no buffer of its own beside the WebSocket parser's.

pub(super) mod codec;
pub(super) mod socket;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidegate_wire::event::{CloseReason, Peer, Transport};
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::answer::Live;
use super::outbound::{Outbound, Outgoing, QueuePolicy, Queued, close_frame};
use super::settings::ListenerSettings;
use super::shard::Shard;
use codec::{Codec, Read};
use socket::Socket;

/// How many bytes of many small frames are gathered into one write.
const GATHER_BYTES: usize = 64 << 10;

/// How long a closing client has to take what is queued, and then to close its side.
const LINGER: Duration = Duration::from_secs(2);

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

/// What the shard and the client's task share.
pub(super) struct Connection {
    pub(super) number: u32,
    pub(super) tenant: u16,
    pub(super) listener: Rc<ListenerSettings>,
    socket: Socket,
    outbound: RefCell<Outbound>,
    wake: Notify,
    phase: Cell<Phase>,
    /// Whether the close event is queued.
    told: Cell<bool>,
    /// Whether the socket is not read.
    paused: Cell<bool>,
    /// Whether the connection stands in the shard's list of those to be flushed.
    dirty: Cell<bool>,
    /// Whether the last read of this turn took all that the socket had.
    emptied: Cell<bool>,
    address: SocketAddr,
    secure: bool,
    connected_at_ms: u64,
    /// Zero before the first message.
    last_message_at_ms: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// Ticks of the ping timer since the client was heard; -1: heard since the last tick.
    pub(super) silent: Cell<i32>,
}

impl Connection {
    pub(super) fn new(
        number: u32,
        tenant: u16,
        listener: Rc<ListenerSettings>,
        socket: Socket,
        peer: &Peer,
    ) -> Self {
        Self {
            address: peer.address,
            secure: peer.secure,
            connected_at_ms: now_ms(),
            last_message_at_ms: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            number,
            tenant,
            listener,
            socket,
            outbound: RefCell::default(),
            wake: Notify::new(),
            phase: Cell::new(Phase::Open),
            told: Cell::new(false),
            paused: Cell::new(false),
            dirty: Cell::new(false),
            emptied: Cell::new(false),
            silent: Cell::new(-1),
        }
    }

    /// Queues a message. Whoever does so flushes the connection before the end of its turn.
    pub(super) fn send(&self, message: &Outgoing<'_>) -> Queued {
        self.queue(message.encoded(self.listener.transport))
    }

    /// Queues one whole frame.
    pub(super) fn queue(&self, frame: Bytes) -> Queued {
        if self.phase.get() != Phase::Open {
            return Queued::Waits;
        }
        let (max, policy) = (self.listener.queue_bytes_max, self.listener.queue_policy);
        let length = frame.len() as u64;
        let queued = self.outbound.borrow_mut().push(frame, max, policy);
        let taken = match queued {
            Queued::Waits => true,
            Queued::Dropped { .. } => policy == QueuePolicy::DropOld,
            Queued::Full => false,
        };
        if taken {
            self.bytes_out.set(self.bytes_out.get() + length);
        }
        queued
    }

    /// Lists the connection for the next flush. False if it was listed.
    pub(super) fn mark_dirty(&self) -> bool {
        !self.dirty.replace(true)
    }

    /// Writes what the socket takes; the task writes the rest.
    pub(super) fn flush(&self) {
        self.dirty.set(false);
        if !self.write_some() {
            self.wake.notify_one();
        }
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
                    self.phase.set(Phase::Ended);
                    return false;
                }
            }
        }
        self.phase.get() == Phase::Open
    }

    /// Closes once the queue is written. `code` is for a WebSocket's close frame.
    pub(super) fn close(&self, code: u16) {
        if self.phase.get() == Phase::Open {
            if self.listener.transport == Transport::WebSocket {
                // Past its bound too: the farewell is the last that it takes.
                let frame = close_frame(code);
                self.outbound
                    .borrow_mut()
                    .push(frame, usize::MAX, self.listener.queue_policy);
            }
            self.phase.set(Phase::Closing);
            self.wake.notify_one();
        }
    }

    /// Closes at once and drops what is queued.
    pub(super) fn destroy(&self) {
        self.phase.set(Phase::Ended);
        self.outbound.borrow_mut().clear();
        self.wake.notify_one();
    }

    /// True the first time: whoever gets it tells the close.
    pub(super) fn tell_close(&self) -> bool {
        !self.told.replace(true)
    }

    /// Reads the socket, or not.
    pub(super) fn set_paused(&self, paused: bool) {
        if self.paused.replace(paused) && !paused {
            self.wake.notify_one();
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// The client sent a message of so many bytes.
    pub(super) fn message_came(&self, bytes: usize) {
        self.heard();
        self.last_message_at_ms.set(now_ms());
        self.bytes_in.set(self.bytes_in.get() + bytes as u64);
    }

    /// What is known of the connection.
    pub(super) fn live(&self) -> Live {
        let last_message = self.last_message_at_ms.get();
        Live {
            peer: Peer {
                address: self.address,
                transport: self.listener.transport,
                listener: self.listener.name.clone(),
                secure: self.secure,
            },
            connected_at_ms: self.connected_at_ms,
            last_message_at_ms: (last_message > 0).then_some(last_message),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
        }
    }

    /// The client was heard.
    pub(super) fn heard(&self) {
        self.silent.set(-1);
    }

    fn reads(&self) -> bool {
        self.phase.get() == Phase::Open && !self.paused.get()
    }

    fn interest(&self) -> Option<Interest> {
        let writes = !self.outbound.borrow().is_empty();
        match (self.reads(), writes) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    /// Begins a turn of reads: whatever was known of the socket is old.
    pub(super) fn begin_reads(&self) {
        self.emptied.set(false);
    }

    /// Reads what is there. A read that did not fill the buffer has emptied the socket: the next
    /// one of the same turn, with no await between them, waits for the poller without asking the
    /// kernel again, as tokio's own reads do.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.emptied.take() {
            return self.socket.nothing_to_read();
        }
        let read = self.socket.try_read(buffer);
        self.emptied
            .set(matches!(read, Ok(count) if 0 < count && count < buffer.len()));
        read
    }
}

/// Milliseconds since 1970. Reads a page that the kernel shares, without a call.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Owns the connection until it is closed.
pub(super) async fn run(connection: Rc<Connection>, mut codec: Codec, shard: Rc<Shard>) {
    let reason = serve(&connection, &mut codec, &shard).await;
    drop(codec);
    shard.client_ended(&connection, reason);
    if connection.phase.get() == Phase::Closing {
        let deadline = Instant::now() + LINGER;
        // A client that takes longer loses what is left, as it was told by the queue's policy.
        let _ = timeout_at(deadline, linger(&connection)).await;
    }
}

/// Reads and writes until the connection is to close; says why if the client did it.
async fn serve(connection: &Rc<Connection>, codec: &mut Codec, shard: &Rc<Shard>) -> CloseReason {
    // What came with the handshake is there before the socket is readable.
    let mut try_read = true;
    loop {
        if connection.phase.get() != Phase::Open {
            return CloseReason::Client;
        }
        if try_read && connection.reads() {
            match codec.read(connection, shard) {
                Read::Blocked => {}
                Read::Yield => tokio::task::yield_now().await,
                Read::End { reason, code } => {
                    if let Some(code) = code {
                        connection.close(code);
                    }
                    connection.write_some();
                    return reason;
                }
            }
        }
        match connection.interest() {
            Some(interest) => tokio::select! {
                biased;
                ready = connection.socket.ready(interest) => match ready {
                    Ok(ready) => {
                        try_read = ready.is_readable() || ready.is_read_closed();
                        if ready.is_writable() && !connection.write_some() {
                            continue;
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

/// Writes the rest, closes this side and waits for the other, so that nothing written is lost to
/// a reset.
async fn linger(connection: &Connection) {
    while !connection.outbound.borrow().is_empty() {
        if connection.socket.ready(Interest::WRITABLE).await.is_err() {
            return;
        }
        connection.write_some();
        if connection.phase.get() == Phase::Ended {
            return;
        }
    }
    if connection.socket.shutdown_write().is_err() {
        return;
    }
    let mut sink = [0; 1024];
    while connection.socket.ready(Interest::READABLE).await.is_ok() {
        match connection.socket.try_read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
