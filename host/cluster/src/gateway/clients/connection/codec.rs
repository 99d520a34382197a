//! Bytes of a socket → messages, for each transport.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use tidegate_hub::outbound::{Queued, close_frame};
use tidegate_wire::event::{CloseFrame, CloseReason, Message, Transport};
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self};

use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::connection::coded::Coded;
use crate::gateway::clients::connection::frames::Frames;
use crate::gateway::clients::connection::home::Home;
use crate::gateway::settings::ListenerSettings;

/// tungstenite fills its buffer with zeros before each read: small is fast, and it is what an idle
/// connection holds.
const WEB_SOCKET_READ_BYTES: usize = 1024;

/// What one read of the other transports asks for; the buffer is shared by the whole thread.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Once a WebSocket's parser has held so much, it is made anew when it holds nothing: it would keep
/// the buffer of its largest message for as long as the client stays.
const WEB_SOCKET_KEPT_BYTES: usize = 4 << 10;

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
    /// The client sends no more, but may well wait for answers.
    HalfClosed,
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
    Delimited(Delimited),
    /// What a component makes of bytes. Its connection is served by `coded`.
    Coded(Box<Coded>),
}

/// What has come of a line or a length-prefixed frame.
#[derive(Default)]
pub(in crate::gateway) struct Delimited {
    buffer: BytesMut,
    /// How much of it is known to have no end of line, so that nothing is searched twice.
    searched: usize,
}

impl Codec {
    /// For a WebSocket after its upgrade; `early` is what came behind the request.
    pub(in crate::gateway) fn web_socket(connection: &Rc<Connection>, early: &Bytes) -> Self {
        let mut stream = Stream {
            connection: connection.clone(),
            frames: Frames::default(),
        };
        stream.frames.pass(early);
        Self::WebSocket(Box::new(WebSocket::from_partially_read(
            stream,
            early.to_vec(),
            Role::Server,
            Some(config(&connection.listener)),
        )))
    }

    /// For the other transports.
    pub(in crate::gateway) fn plain(connection: &Connection) -> Self {
        let listener = &connection.listener;
        if let Some(codec) = &listener.codec {
            return Self::Coded(Box::new(Coded::new(codec, connection)));
        }
        match listener.transport {
            Transport::Tcp | Transport::WebSocket => Self::Tcp,
            Transport::TextLines | Transport::LengthPrefixed => {
                Self::Delimited(Delimited::default())
            }
        }
    }

    /// What is known of the client's frames, for who waits for its close frame. The buffers go.
    pub(super) fn into_frames(self) -> Option<Frames> {
        match self {
            Self::WebSocket(web_socket) => Some(web_socket.get_ref().frames.clone()),
            Self::Tcp | Self::Delimited(_) | Self::Coded(_) => None,
        }
    }

    /// Reads messages into the shard until the socket or the lane is exhausted.
    pub(in crate::gateway) fn read(
        &mut self,
        connection: &Rc<Connection>,
        home: &dyn Home,
    ) -> Read {
        connection.begin_reads();
        match self {
            Self::WebSocket(web_socket) => {
                let read = read_web_socket(web_socket, connection, home);
                if matches!(read, Read::Blocked) && !connection.is_paused() {
                    shrink(web_socket);
                }
                // The task itself asks: it need not be woken, and would spin if it were.
                connection.write_some();
                read
            }
            Self::Tcp => read_socket(connection, |bytes| {
                let message = Message::Binary(Bytes::copy_from_slice(bytes).into());
                home.message(connection, message);
                Ok(())
            }),
            Self::Delimited(delimited) => {
                // Messages that were left when the lane had no more room.
                if let Err(end) = delimited.take_messages(connection, home) {
                    return end;
                }
                read_socket(connection, |bytes| {
                    delimited.buffer.extend_from_slice(bytes);
                    delimited.take_messages(connection, home)
                })
            }
            Self::Coded(_) => Read::Blocked,
        }
    }
}

fn config(listener: &ListenerSettings) -> WebSocketConfig {
    let max = listener.message_bytes_max;
    WebSocketConfig::default()
        .read_buffer_size(WEB_SOCKET_READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
}

/// tungstenite's view of the connection: reads come from the socket, writes join the queue that
/// everything else for this client goes through.
pub(in crate::gateway) struct Stream {
    connection: Rc<Connection>,
    frames: Frames,
}

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.connection.try_read(buffer)?;
        self.frames.pass(buffer.get(..count).unwrap_or_default());
        self.connection.keeps(self.frames.kept());
        Ok(count)
    }
}

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The answer to a close frame comes last, and no policy may drop it.
        if bytes.first() == Some(&CLOSE_FRAME) {
            self.connection.queue_last(match self.frames.close_code() {
                Some(BAD_GATEWAY) => close_frame(BAD_GATEWAY, ""),
                _ => Bytes::copy_from_slice(bytes),
            });
            return Ok(bytes.len());
        }
        match self.connection.queue_own(bytes) {
            Queued::Waits | Queued::Replaced | Queued::DroppedNew | Queued::DroppedOld { .. } => {
                Ok(bytes.len())
            }
            Queued::Full => Err(ErrorKind::ConnectionAborted.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first byte of a close frame.
const CLOSE_FRAME: u8 = 0x88;

/// The one registered code that tungstenite does not know and would answer as a fault: it came after
/// RFC 6455, into the registry of section 11.7.
const BAD_GATEWAY: u16 = 1014;

/// Gives the parser's buffers back if they were large and nothing is in them.
fn shrink(web_socket: &mut WebSocket<Stream>) {
    let stream = web_socket.get_ref();
    if stream.frames.buffer() < WEB_SOCKET_KEPT_BYTES || stream.frames.unfinished() > 0 {
        return;
    }
    let stream = Stream {
        connection: stream.connection.clone(),
        frames: Frames::default(),
    };
    let config = config(&stream.connection.listener);
    *web_socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
}

fn read_web_socket(
    web_socket: &mut WebSocket<Stream>,
    connection: &Rc<Connection>,
    home: &dyn Home,
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
            Ok(tungstenite::Message::Close(frame)) => {
                let code = web_socket.get_ref().frames.close_code();
                if let Some(frame) = code.and_then(|code| close_frame_of(code, frame)) {
                    connection.closed_by_client(frame);
                }
                continue;
            }
            Ok(tungstenite::Message::Frame(_)) => continue,
            Err(error) => return web_socket_end(&error),
        };
        home.message(connection, message);
        // A read that brought this message alone has left nothing in the parser, and if it emptied the
        // socket too, another one would bring nothing.
        if web_socket.get_mut().frames.take_alone() && connection.was_emptied() {
            return Read::Blocked;
        }
    }
    Read::Yield
}

/// The client's close frame. tungstenite puts another one in its place where it takes the code for a
/// fault: `code` is what came.
fn close_frame_of(
    code: u16,
    frame: Option<tungstenite::protocol::CloseFrame>,
) -> Option<CloseFrame> {
    let frame = frame?;
    let reason = match u16::from(frame.code) == code {
        true => frame.reason.as_str().to_owned(),
        false => String::new(),
    };
    Some(CloseFrame { code, reason })
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
                Ok(0) => return Read::HalfClosed,
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

impl Delimited {
    /// Takes whole messages off the front while the lane has room, and counts what stays.
    fn take_messages(&mut self, connection: &Rc<Connection>, home: &dyn Home) -> Result<(), Read> {
        let max = connection.listener.message_bytes_max;
        let mut taken = Ok(());
        while !connection.is_paused() {
            let message = match connection.listener.transport {
                Transport::TextLines => self.take_line(max),
                Transport::LengthPrefixed => take_frame(&mut self.buffer, max),
                Transport::WebSocket | Transport::Tcp => Ok(None),
            };
            match message {
                Ok(Some(bytes)) => home.message(connection, of_unknown_kind(bytes)),
                Ok(None) => break,
                Err(TooLong) => {
                    taken = Err(Read::End {
                        reason: CloseReason::Protocol,
                        code: None,
                    });
                    break;
                }
            }
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        connection.keeps(self.buffer.len());
        taken
    }

    /// One line without its end (`\n` or `\r\n`).
    fn take_line(&mut self, max: usize) -> Result<Option<Bytes>, TooLong> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(place) = memchr::memchr(b'\n', unsearched) else {
            self.searched = self.buffer.len();
            // A carriage return at its end may belong to the end of the line.
            return if self.buffer.len() > max + 1 {
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let mut line = self.buffer.split_to(self.searched + place).freeze();
        self.searched = 0;
        self.buffer.advance(1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > max {
            Err(TooLong)
        } else {
            Ok(Some(line))
        }
    }
}

/// A transport without kinds: what is UTF-8 is text.
fn of_unknown_kind(bytes: Bytes) -> Message {
    if std::str::from_utf8(&bytes).is_ok() {
        Message::Text(bytes.into())
    } else {
        Message::Binary(bytes.into())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct TooLong;

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

    fn lines(bytes: &[u8]) -> Delimited {
        Delimited {
            buffer: bytes.into(),
            searched: 0,
        }
    }

    #[test]
    fn lines_end_with_or_without_a_carriage_return() {
        let mut delimited = lines(b"one\r\ntwo\nthr");
        assert_eq!(delimited.take_line(10), Ok(Some("one".into())));
        assert_eq!(delimited.take_line(10), Ok(Some("two".into())));
        assert_eq!(delimited.take_line(10), Ok(None));
        assert_eq!(&delimited.buffer[..], b"thr");
        delimited.buffer.extend_from_slice(b"ee\nf");
        assert_eq!(delimited.take_line(10), Ok(Some("three".into())));
        assert_eq!(delimited.take_line(10), Ok(None));
    }

    #[test]
    fn a_line_that_dribbles_in_is_searched_once() {
        let mut delimited = Delimited::default();
        let length = 1 << 20;
        for at in 0..length {
            delimited.buffer.extend_from_slice(b"x");
            assert_eq!(delimited.take_line(length), Ok(None));
            assert_eq!(delimited.searched, at + 1);
        }
        delimited.buffer.extend_from_slice(b"\n");
        let line = delimited.take_line(length).unwrap().unwrap();
        assert_eq!(line.len(), length);
    }

    #[test]
    fn a_line_over_the_limit_is_refused_before_its_end_comes() {
        assert_eq!(lines(b"12345").take_line(3), Err(TooLong));
        assert_eq!(lines(b"1234\n").take_line(3), Err(TooLong));
        assert_eq!(lines(b"123\r\n").take_line(3), Ok(Some("123".into())));
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
