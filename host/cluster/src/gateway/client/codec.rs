//! Bytes of a socket → messages, for each transport.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use tidegate_wire::event::{CloseReason, Message, Transport};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self};

use super::Connection;
use crate::gateway::outbound::Queued;
use crate::gateway::settings::ListenerSettings;
use crate::gateway::shard::Shard;

/// tungstenite fills its buffer with zeros before each read: small is fast, and it is what an idle
/// connection holds.
const WEB_SOCKET_READ_BYTES: usize = 1024;

/// What one read of the other transports asks for; the buffer is shared by the whole thread.
const READ_BYTES: usize = 64 << 10;

/// Messages that one client may bring in before others have their turn.
const TURN_MESSAGES: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Why reading paused.
pub(in crate::gateway) enum Read {
    /// The socket has no more, or the lane has no room.
    Blocked,
    /// There may be more; others first.
    Yield,
    /// The connection is over. With a code, the client is told by a close frame.
    End {
        reason: CloseReason,
        code: Option<u16>,
    },
}

const GONE: Read = Read::End {
    reason: CloseReason::Client,
    code: None,
};

/// How a client speaks, with what it has sent so far of a message.
pub(in crate::gateway) enum Codec {
    WebSocket(Box<WebSocket<Stream>>),
    Tcp,
    /// Lines and length-prefixed frames.
    Delimited(BytesMut),
}

impl Codec {
    /// For a WebSocket after its upgrade; `early` is what came behind the request.
    pub(in crate::gateway) fn web_socket(connection: &Rc<Connection>, early: &Bytes) -> Self {
        let max = connection.listener.message_bytes_max;
        let config = WebSocketConfig::default()
            .read_buffer_size(WEB_SOCKET_READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(max))
            .max_frame_size(Some(max));
        let stream = Stream(connection.clone());
        Self::WebSocket(Box::new(WebSocket::from_partially_read(
            stream,
            early.to_vec(),
            Role::Server,
            Some(config),
        )))
    }

    /// For the other transports.
    pub(in crate::gateway) fn plain(listener: &ListenerSettings) -> Self {
        match listener.transport {
            Transport::Tcp | Transport::WebSocket => Self::Tcp,
            Transport::TextLines | Transport::LengthPrefixed => Self::Delimited(BytesMut::new()),
        }
    }

    /// Reads messages into the shard until the socket or the lane is exhausted.
    pub(in crate::gateway) fn read(&mut self, connection: &Rc<Connection>, shard: &Shard) -> Read {
        connection.begin_reads();
        match self {
            Self::WebSocket(web_socket) => {
                let read = read_web_socket(web_socket, connection, shard);
                // The task itself asks: it need not be woken, and would spin if it were.
                connection.write_some();
                read
            }
            Self::Tcp => read_socket(connection, |bytes| {
                let message = Message::Binary(Bytes::copy_from_slice(bytes).into());
                shard.message(connection, message);
                Ok(())
            }),
            Self::Delimited(buffer) => {
                // Messages that were left when the lane had no more room.
                if let Err(end) = take_messages(buffer, connection, shard) {
                    return end;
                }
                read_socket(connection, |bytes| {
                    buffer.extend_from_slice(bytes);
                    let taken = take_messages(buffer, connection, shard);
                    if buffer.is_empty() {
                        *buffer = BytesMut::new();
                    }
                    taken
                })
            }
        }
    }
}

/// tungstenite's view of the connection: reads come from the socket, writes join the queue that
/// everything else for this client goes through.
pub(in crate::gateway) struct Stream(Rc<Connection>);

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.queue(Bytes::copy_from_slice(bytes)) {
            Queued::Waits | Queued::Dropped { .. } => Ok(bytes.len()),
            Queued::Full => Err(ErrorKind::ConnectionAborted.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_web_socket(
    web_socket: &mut WebSocket<Stream>,
    connection: &Rc<Connection>,
    shard: &Shard,
) -> Read {
    for _ in 0..TURN_MESSAGES {
        if connection.is_paused() {
            return Read::Blocked;
        }
        let message = match web_socket.read() {
            Ok(tungstenite::Message::Text(text)) => Message::Text(Bytes::from(text).into()),
            Ok(tungstenite::Message::Binary(bytes)) => Message::Binary(bytes.into()),
            Ok(tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_)) => {
                if connection.listener.pong_counts {
                    connection.heard();
                }
                continue;
            }
            // The answer is queued by tungstenite; the next read says that it is over.
            Ok(tungstenite::Message::Close(_) | tungstenite::Message::Frame(_)) => continue,
            Err(error) => return web_socket_end(&error),
        };
        shard.message(connection, message);
    }
    Read::Yield
}

fn web_socket_end(error: &Error) -> Read {
    let protocol = |code| Read::End {
        reason: CloseReason::Protocol,
        code: Some(code),
    };
    match error {
        Error::Io(error) if error.kind() == ErrorKind::WouldBlock => Read::Blocked,
        Error::Io(error) if error.kind() == ErrorKind::ConnectionAborted => Read::End {
            reason: CloseReason::Slow,
            code: None,
        },
        Error::Capacity(CapacityError::MessageTooLong { .. }) => protocol(1009),
        Error::Utf8(_) => protocol(1007),
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => GONE,
        Error::Protocol(_) => protocol(1002),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::Capacity(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => GONE,
    }
}

fn read_socket(connection: &Connection, mut take: impl FnMut(&[u8]) -> Result<(), Read>) -> Read {
    SCRATCH.with_borrow_mut(|scratch| {
        for _ in 0..4 {
            if connection.is_paused() {
                return Read::Blocked;
            }
            match connection.try_read(scratch) {
                Ok(0) => return GONE,
                Ok(count) => {
                    if let Err(end) = take(scratch.get(..count).unwrap_or_default()) {
                        return end;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Read::Blocked,
                Err(_) => return GONE,
            }
        }
        Read::Yield
    })
}

/// Takes whole messages off the front of `buffer` while the lane has room.
fn take_messages(
    buffer: &mut BytesMut,
    connection: &Rc<Connection>,
    shard: &Shard,
) -> Result<(), Read> {
    let max = connection.listener.message_bytes_max;
    while !connection.is_paused() {
        let message = match connection.listener.transport {
            Transport::TextLines => take_line(buffer, max),
            Transport::LengthPrefixed => take_frame(buffer, max),
            Transport::WebSocket | Transport::Tcp => Ok(None),
        };
        match message {
            Ok(Some(bytes)) => {
                let text = std::str::from_utf8(&bytes).is_ok();
                let message = if text {
                    Message::Text(bytes.into())
                } else {
                    Message::Binary(bytes.into())
                };
                shard.message(connection, message);
            }
            Ok(None) => return Ok(()),
            Err(TooLong) => {
                return Err(Read::End {
                    reason: CloseReason::Protocol,
                    code: None,
                });
            }
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// One line without its end (`\n` or `\r\n`).
fn take_line(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, TooLong> {
    let searched = buffer.get(..buffer.len().min(max + 2)).unwrap_or_default();
    let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
        return if buffer.len() > max + 1 {
            Err(TooLong)
        } else {
            Ok(None)
        };
    };
    let mut line = buffer.split_to(end).freeze();
    buffer.advance(1);
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    if line.len() > max {
        Err(TooLong)
    } else {
        Ok(Some(line))
    }
}

/// One message behind its length, which counts itself.
fn take_frame(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, TooLong> {
    let Some(mut prefix) = buffer.get(..4) else {
        return Ok(None);
    };
    let length = prefix.get_u32() as usize;
    // A length below its own size would never end.
    if length < 4 || length - 4 > max {
        return Err(TooLong);
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(length).freeze();
    frame.advance(4);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_or_without_a_carriage_return() {
        let mut buffer = BytesMut::from(&b"one\r\ntwo\nthr"[..]);
        assert_eq!(take_line(&mut buffer, 10), Ok(Some("one".into())));
        assert_eq!(take_line(&mut buffer, 10), Ok(Some("two".into())));
        assert_eq!(take_line(&mut buffer, 10), Ok(None));
        assert_eq!(&buffer[..], b"thr");
    }

    #[test]
    fn a_line_over_the_limit_is_refused_before_its_end_comes() {
        assert_eq!(
            take_line(&mut BytesMut::from(&b"12345"[..]), 3),
            Err(TooLong)
        );
        assert_eq!(
            take_line(&mut BytesMut::from(&b"1234\n"[..]), 3),
            Err(TooLong)
        );
        assert_eq!(
            take_line(&mut BytesMut::from(&b"123\r\n"[..]), 3),
            Ok(Some("123".into()))
        );
    }

    #[test]
    fn a_frame_length_is_not_believed_before_it_is_compared() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x06hi\0\0\0\x07x"[..]);
        assert_eq!(take_frame(&mut buffer, 10), Ok(Some("hi".into())));
        assert_eq!(take_frame(&mut buffer, 10), Ok(None));
        for bad in [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x03"] {
            assert_eq!(take_frame(&mut BytesMut::from(&bad[..]), 10), Err(TooLong));
        }
    }
}
