//! The end of a connection, in the order that loses nothing which was written.
//!
//! What is queued is written, the close frame last; a WebSocket waits for the client's close frame
//! (RFC 6455, section 7.1.1). Then this side is shut, and what the client still sends is read and
//! dropped until it shuts its own: closing a socket with unread bytes in it resets the connection,
//! and a reset destroys what is on its way. All of it takes until the deadline at most.

use std::cell::RefCell;
use std::io;

use tokio::io::Interest;
use tokio::time::{Instant, timeout_at};

use crate::gateway::clients::connection::frames::Frames;
use crate::gateway::clients::connection::{ClientEnd, Connection, Phase};

/// What one read takes; the buffer is shared by the whole thread.
const SINK_BYTES: usize = 16 << 10;

/// Reads of one client before others have their turn.
const TURN_READS: usize = 16;

thread_local! {
    static SINK: RefCell<Vec<u8>> = RefCell::new(vec![0; SINK_BYTES]);
}

/// Ends a connection that is closing; with `frames`, the client's close frame is waited for. What is
/// not written by `deadline` stays in the queue.
pub(super) async fn end(connection: &Connection, frames: Option<Frames>, deadline: Instant) {
    if connection.phase.get() == Phase::Closing {
        // A client that takes longer loses what is left, and that is told.
        let _ = timeout_at(deadline, finish(connection, frames)).await;
    }
}

async fn finish(connection: &Connection, mut frames: Option<Frames>) {
    let mut input_open = !connection.input_ended();
    let mut shut = false;
    loop {
        connection.write_some();
        if connection.client_end.get() == ClientEnd::Gone || connection.phase.get() == Phase::Ended
        {
            return;
        }
        if input_open {
            input_open = drop_input(connection, frames.as_mut());
        }
        let written = connection.outbound.borrow().is_empty();
        let answered = !input_open || frames.as_ref().is_none_or(Frames::closed);
        if written && answered && !shut {
            if connection.socket.shutdown_write().is_err() {
                return;
            }
            shut = true;
        }
        if shut && !input_open {
            return;
        }
        let reads = input_open.then_some(Interest::READABLE);
        let writes = (!written).then_some(Interest::WRITABLE);
        let interest = reads.into_iter().chain(writes).reduce(Interest::add);
        let ready = connection.socket.ready(interest.unwrap_or(Interest::ERROR));
        tokio::select! {
            biased;
            () = connection.wake.notified() => {}
            ready = ready => if ready.is_err() {
                return;
            },
        }
        tokio::task::yield_now().await;
    }
}

/// Reads what is there. False if there will be no more.
fn drop_input(connection: &Connection, mut frames: Option<&mut Frames>) -> bool {
    SINK.with_borrow_mut(|sink| {
        for _ in 0..TURN_READS {
            match connection.socket.try_read(sink) {
                Ok(0) => return false,
                Ok(count) => {
                    if let Some(frames) = frames.as_deref_mut() {
                        frames.pass(sink.get(..count).unwrap_or_default());
                    }
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    })
}
