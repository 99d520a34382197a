//! A link over a byte stream: many frames a read and a write, heartbeats, the lease, the orderly end.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tidegate_wire::frame::{FRAME_BYTES_MAX, Frame, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, Sleep, interval, sleep};

use super::queue::Queue;
use super::{LinkEnd, LinkSettings};
use crate::net::stream::{ReadHalf, WriteHalf};

/// Frames are gathered up to this many bytes before they are written.
const WRITE_BYTES: usize = 256 << 10;
/// How much room a new read buffer has.
const READ_BYTES: usize = 64 << 10;
/// With less room than this a new buffer is made. Payloads are slices of the buffer that they were read
/// into, so one buffer serves many reads.
const ROOM_BYTES_MIN: usize = 16 << 10;
/// A buffer that grew beyond this for a large frame is given back.
const KEPT_BYTES: usize = 1 << 20;
/// An interval of nothing would never rest.
const HEARTBEAT_MIN: Duration = Duration::from_millis(1);

pub(super) struct StreamReceiver {
    socket: Box<dyn ReadHalf>,
    buffer: BytesMut,
    lease: Duration,
    /// When the peer last gave a sign of life. Kept here and not in a timer of `recv`, which a
    /// caller may cancel and start again for ever.
    heard: Instant,
    /// Runs out a lease after some sign of life, and is set anew then if there was another: setting it
    /// for each read would cost as much as the read of a small frame.
    alarm: Pin<Box<Sleep>>,
    /// The lease seemed to be over, and the socket is read once more before the peer is given up.
    doubted: bool,
    /// Why nothing more can be read, told once the frames before it are handed out.
    fault: Option<LinkEnd>,
}

impl fmt::Debug for StreamReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReceiver")
            .field("heard", &self.heard)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl StreamReceiver {
    pub(super) fn new(socket: Box<dyn ReadHalf>, lease: Duration) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            lease,
            heard: Instant::now(),
            alarm: Box::pin(sleep(lease)),
            doubted: false,
            fault: None,
        }
    }

    pub(super) const fn heard(&self) -> Instant {
        self.heard
    }

    pub(super) async fn recv(
        &mut self,
        frames: &mut Vec<Frame>,
        outgoing: &Queue,
    ) -> Result<(), LinkEnd> {
        loop {
            if self.decode_all(frames) {
                return Ok(());
            }
            if let Some(fault) = &self.fault {
                return Err(fault.clone());
            }
            self.make_room();
            // Reading comes before the clock: what has arrived is a sign of life, however late this task
            // was to look.
            let read = tokio::select! {
                biased;
                end = outgoing.finished_here() => return Err(end),
                read = self.socket.read_buf(&mut self.buffer) => read,
                () = self.alarm.as_mut() => {
                    self.look_at_lease().await?;
                    continue;
                }
            };
            match read {
                Ok(0) => return Err(LinkEnd::Closed),
                Ok(_) => (self.heard, self.doubted) = (Instant::now(), false),
                Err(error) => return Err(LinkEnd::Io(error.to_string())),
            }
        }
    }

    /// A process that was stopped sees its timers run out before the poller has told which sockets can
    /// be read. A yield lets the poller tell, and the socket is read once more.
    async fn look_at_lease(&mut self) -> Result<(), LinkEnd> {
        let (ends, now) = (self.heard + self.lease, Instant::now());
        if ends <= now && self.doubted {
            return Err(LinkEnd::Silent(self.lease.as_millis() as u64));
        }
        self.doubted = ends <= now;
        self.alarm.as_mut().reset(ends);
        if self.doubted {
            yield_now().await;
        }
        Ok(())
    }

    fn make_room(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() - self.buffer.len() < ROOM_BYTES_MIN {
            self.buffer.reserve(READ_BYTES);
        }
    }

    /// Whether a frame other than a heartbeat was there. Nothing is decoded behind a fault.
    fn decode_all(&mut self, frames: &mut Vec<Frame>) -> bool {
        let before = frames.len();
        while self.fault.is_none() {
            match decode(&mut self.buffer, FRAME_BYTES_MAX) {
                Ok(Some(Frame::Heartbeat)) => {}
                Ok(Some(Frame::Goodbye(reason))) => self.fault = Some(LinkEnd::Goodbye(reason)),
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => self.fault = Some(error.into()),
            }
        }
        frames.len() > before
    }
}

/// Writes what is queued until the link ends. After an orderly end the peer gets a lease to read
/// the rest; after any other the socket is dropped at once, also in the middle of a write that a
/// peer that does not read would block for ever.
pub(super) async fn write(
    mut socket: Box<dyn WriteHalf>,
    queue: Arc<Queue>,
    settings: LinkSettings,
) {
    tokio::select! {
        biased;
        () = write_all(&mut *socket, &queue, settings.heartbeat) => {}
        () = out_of_patience(&queue, settings.lease) => {}
    }
    drop(socket);
    queue.done();
}

async fn out_of_patience(queue: &Queue, lease: Duration) {
    queue.finished().await;
    if matches!(queue.end(), Some(LinkEnd::ClosedHere | LinkEnd::Closed)) {
        sleep(lease).await;
    }
}

async fn write_all(socket: &mut dyn WriteHalf, queue: &Queue, heartbeat: Duration) {
    let mut frames = Vec::new();
    let mut buffer = BytesMut::new();
    let mut beat = interval(heartbeat.max(HEARTBEAT_MIN));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            taken = queue.take(&mut frames) => if taken.is_err() { break },
            _ = beat.tick() => frames.push(Frame::Heartbeat),
        }
        if let Err(end) = write_batch(socket, &mut frames, &mut buffer).await {
            queue.finish(end);
            return;
        }
    }
    // The peer sees an orderly end; if it is gone there is nobody to tell.
    if socket.shutdown().await.is_ok() {
        poll_fn(|cx| socket.poll_linger(cx)).await;
    }
}

async fn write_batch(
    socket: &mut dyn WriteHalf,
    frames: &mut Vec<Frame>,
    buffer: &mut BytesMut,
) -> Result<(), LinkEnd> {
    for frame in frames.drain(..) {
        encode(&frame, buffer)?;
        if buffer.len() >= WRITE_BYTES {
            flush(socket, buffer).await?;
        }
    }
    flush(socket, buffer).await
}

async fn flush(socket: &mut dyn WriteHalf, buffer: &mut BytesMut) -> Result<(), LinkEnd> {
    let written = socket.write_all(buffer).await;
    if buffer.capacity() > KEPT_BYTES {
        *buffer = BytesMut::new();
    } else {
        buffer.clear();
    }
    written.map_err(|error| LinkEnd::Io(error.to_string()))
}
