//! A link over TCP: many frames a read and a write, heartbeats, the lease.

use std::time::Duration;

use bytes::BytesMut;
use tidegate_wire::frame::{FRAME_BYTES_MAX, Frame, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::LinkEnd;
use super::queue::Queue;

/// Frames are gathered up to this many bytes before they are written.
const WRITE_BYTES: usize = 256 << 10;
/// What one read asks for.
const READ_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this for a large frame is given back.
const KEPT_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct TcpReceiver {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    lease: Duration,
}

impl TcpReceiver {
    pub(super) const fn new(socket: OwnedReadHalf, buffer: BytesMut, lease: Duration) -> Self {
        Self {
            socket,
            buffer,
            lease,
        }
    }

    pub(super) async fn recv(
        &mut self,
        frames: &mut Vec<Frame>,
        outgoing: &Queue,
    ) -> Result<(), LinkEnd> {
        let result = loop {
            match self.decode_all(frames) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(end) => break end,
            }
            self.buffer.reserve(READ_BYTES);
            let read = tokio::select! {
                read = timeout(self.lease, self.socket.read_buf(&mut self.buffer)) => read,
                () = outgoing.finished() => break outgoing.end().unwrap_or(LinkEnd::ClosedHere),
            };
            match read {
                Ok(Ok(0)) => break LinkEnd::Closed,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => break LinkEnd::Io(error.to_string()),
                Err(_) => break LinkEnd::Silent(self.lease.as_millis() as u64),
            }
        };
        outgoing.finish(result.clone());
        Err(result)
    }

    /// Whether a frame other than a heartbeat was there.
    fn decode_all(&mut self, frames: &mut Vec<Frame>) -> Result<bool, LinkEnd> {
        let before = frames.len();
        loop {
            match decode(&mut self.buffer, FRAME_BYTES_MAX) {
                Ok(Some(Frame::Heartbeat)) => {}
                Ok(Some(Frame::Goodbye(reason))) => return Err(LinkEnd::Goodbye(reason)),
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return Ok(frames.len() > before),
                // What came before the fault is still good and is handed out first.
                Err(_) if frames.len() > before => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Writes what is queued until the link ends.
pub(super) async fn write(
    mut socket: OwnedWriteHalf,
    queue: std::sync::Arc<Queue>,
    heartbeat: Duration,
) {
    let mut frames = Vec::new();
    let mut buffer = BytesMut::new();
    let mut beat = interval(heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            taken = queue.take(&mut frames) => if taken.is_err() { break },
            _ = beat.tick() => frames.push(Frame::Heartbeat),
        }
        if let Err(end) = write_batch(&mut socket, &mut frames, &mut buffer).await {
            queue.finish(end);
            return;
        }
    }
    // The peer sees an orderly end; if it is gone there is nobody to tell.
    let _ = socket.shutdown().await;
}

async fn write_batch(
    socket: &mut OwnedWriteHalf,
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

async fn flush(socket: &mut OwnedWriteHalf, buffer: &mut BytesMut) -> Result<(), LinkEnd> {
    let written = socket.write_all(buffer).await;
    if buffer.capacity() > KEPT_BYTES {
        *buffer = BytesMut::new();
    } else {
        buffer.clear();
    }
    written.map_err(|error| LinkEnd::Io(error.to_string()))
}
