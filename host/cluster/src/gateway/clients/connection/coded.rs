//! A connection whose listener has a codec: its bytes become messages, and messages its bytes, in a
//! component that runs elsewhere.
//!
//! One job of a connection is at the codec at a time, so that both directions keep their order.
//! While bytes are there the socket is not read: a client has at most one read and what it left
//! unfinished under way. Messages wait as they are, under the listener's policies, until what was
//! encoded before is nearly written.
//!
//! The codec's state and the bytes that it did not take are kept here, so that a codec that breaks
//! loses nothing of other connections.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_hub::outbound::Account;
use tidegate_watchdog::fault;
use tidegate_wire::event::{CloseReason, Message};
use tokio::io::{Interest, Ready};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::codec::READ_BYTES;
use super::home::Home;
use super::{ClientEnd, Connection, Phase};
use crate::gateway::codecs::{
    Boxed, Codec, CodecFault, CodecInput, CodecJob, CodecOutcome, ListenerCodec,
};

/// Messages are encoded while less than this waits to be written.
const ENCODED_BYTES_MAX: usize = 64 << 10;
/// What a message may have around it: its bytes that wait are bounded by the listener's
/// `message-bytes-max` and this.
const FRAME_BYTES_MAX: usize = 1 << 10;
/// Messages that one client may bring in before others have their turn.
const TURN_MESSAGES: usize = 64;
/// If more bytes than this wait, and the codec did not say how many it needs, it looks at them again
/// when they are a quarter more, or after this time: a client that dribbles would have all of them
/// copied and searched for each byte.
const PACED_BYTES: usize = 4 << 10;
const PACE: Duration = Duration::from_millis(50);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The connection is to be closed, for this reason.
struct Over(CloseReason);

/// What has come of a connection's messages, and the job that is under way.
pub(in crate::gateway) struct Coded {
    codec: Arc<dyn Codec>,
    peer: Arc<str>,
    state: Bytes,
    /// Bytes that are not done with.
    unread: Vec<u8>,
    /// How many of them are needed, if that is known.
    needs: usize,
    /// How many were there when the codec last looked at them, and when that was.
    looked: usize,
    looked_at: Instant,
    /// More is in them than one call gave.
    again: bool,
    /// All that will ever come has been looked at.
    ended: bool,
    /// Messages that have come and have found no room yet.
    ready: VecDeque<Message>,
    ready_bytes: usize,
    job: Option<Boxed<CodecOutcome>>,
    /// Whether it has bytes that came.
    decodes: bool,
    /// How many those are.
    decoding: usize,
}

impl Coded {
    pub(in crate::gateway) fn new(codec: &ListenerCodec, connection: &Connection) -> Self {
        Self {
            codec: codec.codec.clone(),
            peer: connection.arrival().peer.address.to_string().into(),
            state: Bytes::new(),
            unread: Vec::new(),
            needs: 0,
            looked: 0,
            looked_at: Instant::now(),
            again: false,
            ended: false,
            ready: VecDeque::new(),
            ready_bytes: 0,
            job: None,
            decodes: false,
            decoding: 0,
        }
    }

    /// What the shard keeps for it.
    fn count(&self, connection: &Connection) {
        connection.keeps(self.unread.len() + self.ready_bytes + self.decoding);
    }

    /// Whether the socket is read.
    fn reads(&self, connection: &Connection) -> bool {
        connection.phase.get() == Phase::Open
            && !connection.is_paused()
            && !connection.socket_ended()
            && !self.decodes
            && !self.again
            && self.ready.is_empty()
            && self.unread.len() <= unread_max(connection)
    }

    /// Reads once what is there.
    fn read(&mut self, connection: &Connection) -> Result<(), Over> {
        connection.begin_reads();
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let count = connection.try_read(scratch)?;
            let bytes = scratch.get(..count).unwrap_or_default();
            self.unread.extend_from_slice(bytes);
            Ok::<(), std::io::Error>(())
        });
        self.count(connection);
        match read {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Over(CloseReason::Client)),
        }
    }

    /// Gives messages to the shard while it has room for them. Says whether some are left for the
    /// next turn.
    fn deliver(&mut self, connection: &Rc<Connection>, home: &dyn Home) -> bool {
        for _ in 0..TURN_MESSAGES {
            if connection.is_paused() || connection.phase.get() != Phase::Open {
                return false;
            }
            let Some(message) = self.ready.pop_front() else {
                return false;
            };
            self.ready_bytes = self.ready_bytes.saturating_sub(message.payload().len());
            home.message(connection, message);
            self.count(connection);
        }
        !self.ready.is_empty()
    }

    /// Whether the codec is to look at the bytes that are there; if only later, when.
    fn decode_at(&self, connection: &Connection) -> Option<Instant> {
        let now = self.looked_at;
        if self.ended || !self.ready.is_empty() || connection.is_paused() {
            return None;
        }
        if self.again || connection.socket_ended() {
            return Some(now);
        }
        let there = self.unread.len();
        if there == self.looked || there < self.needs {
            return None;
        }
        let is_paced = self.needs == 0 && self.looked > PACED_BYTES;
        match is_paced && there < self.looked + self.looked / 4 {
            true => Some(now + PACE),
            false => Some(now),
        }
    }

    /// Begins a job if none is under way and there is something to do. Says when to try again, if
    /// only time has to pass.
    fn begin(&mut self, connection: &Connection) -> Option<Instant> {
        if self.job.is_some() {
            return None;
        }
        let at = self.decode_at(connection);
        let is_due = at.is_some_and(|at| at <= Instant::now());
        let input = is_due.then(|| CodecInput {
            bytes: std::mem::take(&mut self.unread),
            ended: connection.socket_ended(),
        });
        self.start(connection, input);
        match is_due {
            true => None,
            false => at,
        }
    }

    /// Begins a job with this input and with what is to be sent. Says whether there was anything.
    fn start(&mut self, connection: &Connection, input: Option<CodecInput>) -> bool {
        let has_room = connection.outbound.borrow().bytes() < ENCODED_BYTES_MAX;
        let send = match &connection.unencoded {
            Some(unencoded) if has_room => unencoded.take(),
            Some(_) | None => Vec::new(),
        };
        if send.is_empty() && input.is_none() {
            return false;
        }
        self.decodes = input.is_some();
        self.decoding = input.as_ref().map_or(0, |it| it.bytes.len());
        self.job = Some(self.codec.run(CodecJob {
            peer: self.peer.clone(),
            state: self.state.clone(),
            send,
            input,
        }));
        true
    }

    /// Takes what came of the job.
    fn take(&mut self, outcome: CodecOutcome, connection: &Connection) -> Result<(), Over> {
        self.job = None;
        let decodes = std::mem::take(&mut self.decodes);
        self.decoding = 0;
        let account = connection.memory.outbound();
        let is_same = outcome.state.as_ptr() == self.state.as_ptr()
            && outcome.state.len() == self.state.len();
        if !is_same {
            self.state = match outcome.state.is_empty() {
                true => Bytes::new(),
                false => account.hold(outcome.state),
            };
        }
        if let Some(unencoded) = &connection.unencoded {
            unencoded.done();
        }
        for bytes in outcome.bytes {
            connection.push_encoded(account.hold(bytes));
        }
        if let Some(fault) = outcome.fault {
            return Err(Over(match fault {
                CodecFault::Client => CloseReason::Protocol,
                CodecFault::Codec => CloseReason::Server,
            }));
        }
        let Some(decoded) = outcome.decoded.filter(|_| decodes) else {
            return Ok(());
        };
        (self.looked, self.looked_at) = (decoded.rest.len(), Instant::now());
        self.unread = decoded.rest;
        (self.needs, self.again) = (decoded.needs, decoded.again);
        let max = connection.listener.message_bytes_max;
        let is_long = |message: &Message| message.payload().len() > max;
        let unread_max = unread_max(connection);
        if self.needs.max(self.unread.len()) > unread_max || decoded.messages.iter().any(is_long) {
            return Err(Over(CloseReason::Protocol));
        }
        self.ready_bytes = decoded.messages.iter().map(|it| it.payload().len()).sum();
        self.ready = decoded.messages.into();
        if connection.socket_ended() && !self.again {
            self.ended = true;
            self.unread = Vec::new();
        }
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
        self.count(connection);
        Ok(())
    }

    /// Whether all that the client sent has been handed over.
    fn is_drained(&self) -> bool {
        self.ended && self.ready.is_empty() && !self.decodes
    }
}

/// Bytes that may wait for the rest of their message.
fn unread_max(connection: &Connection) -> usize {
    let max = connection.listener.message_bytes_max;
    max.saturating_add(FRAME_BYTES_MAX)
}

/// What comes of the job that is under way; for ever nothing if none is.
async fn outcome(job: &mut Option<Boxed<CodecOutcome>>) -> CodecOutcome {
    poll_fn(|context| match job {
        Some(job) => job.as_mut().poll(context),
        None => std::task::Poll::Pending,
    })
    .await
}

/// Waits until the socket is ready for what is asked of it; for ever if nothing is.
async fn ready(connection: &Connection, interest: Option<Interest>) -> std::io::Result<Ready> {
    match interest {
        Some(interest) => connection.socket.ready(interest).await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Reads and writes until the connection is to close; says why if the client, or its codec, did it.
pub(super) async fn serve(
    connection: &Rc<Connection>,
    coded: &mut Coded,
    home: &Rc<dyn Home>,
) -> CloseReason {
    match turns(connection, coded, home).await {
        Ok(reason) => reason,
        Err(Over(reason)) => connection.ended(reason, None),
    }
}

async fn turns(
    connection: &Rc<Connection>,
    coded: &mut Coded,
    home: &Rc<dyn Home>,
) -> Result<CloseReason, Over> {
    // When the client's end takes too long.
    let mut deadline = None;
    loop {
        if connection.phase.get() != Phase::Open {
            return Ok(CloseReason::Client);
        }
        fault("the task of a client");
        if connection.has_left() && deadline.is_none() {
            deadline = Some(Instant::now() + home.context().settings.close);
            home.client_left(connection);
        }
        if coded.deliver(connection, &**home) {
            tokio::task::yield_now().await;
            continue;
        }
        if coded.reads(connection) {
            coded.read(connection)?;
        }
        let later = coded.begin(connection);
        if coded.is_drained() {
            connection.end_input();
            let is_gone = connection.client_end.get() == ClientEnd::Gone;
            if is_gone || home.is_answered(connection) {
                return Err(Over(CloseReason::Client));
            }
        }
        let interest = connection.interest_if(coded.reads(connection));
        tokio::select! {
            biased;
            outcome = outcome(&mut coded.job) => {
                let taken = coded.take(outcome, connection);
                connection.write_some();
                home.written(connection);
                taken?;
            }
            ready = ready(connection, interest) => match ready {
                Ok(ready) => {
                    if !coded.reads(connection) {
                        connection.note(ready);
                    }
                    if ready.is_writable() {
                        connection.write_some();
                        home.written(connection);
                    }
                }
                Err(_) => return Err(Over(CloseReason::Client)),
            },
            () = connection.wake.notified() => {}
            () = until(later) => {}
            () = until(deadline) => return Err(Over(CloseReason::Client)),
        }
    }
}

/// Has what still waits encoded and queued before the end, and writes what the client takes.
pub(super) async fn finish(connection: &Connection, coded: &mut Coded, deadline: Instant) {
    if connection.phase.get() == Phase::Closing {
        // What is left then is told as cut.
        let _ = timeout_at(deadline, encode_rest(connection, coded)).await;
    }
}

async fn encode_rest(connection: &Connection, coded: &mut Coded) {
    loop {
        connection.write_some();
        let is_gone = connection.client_end.get() == ClientEnd::Gone;
        if is_gone || connection.phase.get() == Phase::Ended {
            return;
        }
        if coded.job.is_none() && !coded.start(connection, None) && !connection.has_unencoded() {
            return;
        }
        let has_bytes = !connection.outbound.borrow().is_empty();
        let interest = has_bytes.then_some(Interest::WRITABLE);
        tokio::select! {
            biased;
            outcome = outcome(&mut coded.job) => {
                if coded.take(outcome, connection).is_err() && !connection.has_unencoded() {
                    return;
                }
            }
            ready = ready(connection, interest) => if ready.is_err() {
                return;
            },
            () = connection.wake.notified() => {}
        }
    }
}
