//! What a client is connected by: a socket, or a pipe inside this process.
//!
//! A [`LocalClient`] is the other end of such a pipe: for programs that embed a gateway, and for
//! simulations, which have no sockets.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::TcpKeepalive;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes that may wait in each direction of a pipe.
const PIPE_BYTES_MAX: usize = 64 << 10;

/// A client's connection, as its task sees it.
#[derive(Debug)]
pub(in crate::gateway) enum Socket {
    Tcp(TcpStream),
    Local(LocalSocket),
}

impl Socket {
    pub(in crate::gateway) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Local(socket) => socket.pipe.write(End::Gateway, bytes),
        }
    }

    pub(in crate::gateway) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_read(buffer),
            Self::Local(socket) => socket.pipe.read(End::Gateway, buffer),
        }
    }

    /// Says that there is nothing to read, as a read would, without asking the kernel.
    pub(in crate::gateway) fn nothing_to_read(&self) -> io::Result<usize> {
        let nothing = || Err(io::ErrorKind::WouldBlock.into());
        match self {
            Self::Tcp(socket) => socket.try_io(Interest::READABLE, nothing),
            Self::Local(_) => nothing(),
        }
    }

    pub(in crate::gateway) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(socket) => socket.ready(interest).await,
            Self::Local(socket) => Ok(socket.ready(interest).await),
        }
    }

    /// Has the kernel ask whether a client that says nothing is still there, every `interval`, and
    /// end its connection when it has not answered so many times. For one that is not read: it may
    /// have vanished without a word.
    pub(in crate::gateway) fn probe(&self, interval: Duration, tries: u32) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => {
                // The kernel counts in seconds.
                let interval = interval.max(Duration::from_secs(1));
                let keepalive = TcpKeepalive::new()
                    .with_time(interval)
                    .with_interval(interval)
                    .with_retries(tries);
                socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
            }
            Self::Local(_) => Ok(()),
        }
    }

    /// Has the kernel end the connection of a client that acknowledges nothing for so long, or, as
    /// before, only after its own time.
    pub(in crate::gateway) fn limit_silence(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Tcp(socket) => socket2::SockRef::from(socket).set_tcp_user_timeout(limit),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Self::Tcp(_) => {
                let _ = limit;
                Ok(())
            }
            Self::Local(_) => Ok(()),
        }
    }

    pub(in crate::gateway) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write),
            Self::Local(socket) => {
                socket.pipe.close(End::Gateway);
                Ok(())
            }
        }
    }
}

/// The gateway's end of a pipe. Closed when it is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct LocalSocket {
    pipe: Arc<Pipe>,
}

impl LocalSocket {
    async fn ready(&self, interest: Interest) -> Ready {
        loop {
            // A permit of an earlier change costs one more look.
            let changed = self.pipe.changed.notified();
            let ready = self.pipe.ready(interest);
            if !ready.is_empty() {
                return ready;
            }
            changed.await;
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        self.pipe.close(End::Gateway);
    }
}

/// A client in this process, without a socket. Closed when it is dropped.
#[derive(Debug)]
pub struct LocalClient {
    pipe: Arc<Pipe>,
}

impl LocalClient {
    /// Both ends of a new connection.
    pub(in crate::gateway) fn pair() -> (Self, LocalSocket) {
        let pipe = Arc::new(Pipe::default());
        (Self { pipe: pipe.clone() }, LocalSocket { pipe })
    }

    /// Sends what there is room for, and says how much that was.
    ///
    /// # Errors
    /// When there is no room at the moment, or the gateway has closed.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.pipe.write(End::Client, bytes)
    }

    /// Takes what has come; nothing at the end.
    ///
    /// # Errors
    /// When there is nothing at the moment.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pipe.read(End::Client, buffer)
    }

    /// Sends no more; what the gateway still sends can be read.
    pub fn close(&self) {
        self.pipe.close(End::Client);
    }
}

impl Drop for LocalClient {
    fn drop(&mut self) {
        self.pipe.close(End::Client);
        self.pipe.forget();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Client,
    Gateway,
}

/// Two queues of bytes. Only the gateway's end waits; the client's looks.
#[derive(Debug, Default)]
struct Pipe {
    state: Mutex<PipeState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct PipeState {
    to_gateway: PipeWay,
    to_client: PipeWay,
}

#[derive(Debug, Default)]
struct PipeWay {
    bytes: VecDeque<u8>,
    /// Its writer has ended it.
    ended: bool,
    /// Its reader is gone.
    broken: bool,
}

impl PipeState {
    /// What this end writes.
    const fn from(&mut self, end: End) -> &mut PipeWay {
        match end {
            End::Client => &mut self.to_gateway,
            End::Gateway => &mut self.to_client,
        }
    }

    /// What this end reads.
    const fn to(&mut self, end: End) -> &mut PipeWay {
        match end {
            End::Client => &mut self.to_client,
            End::Gateway => &mut self.to_gateway,
        }
    }
}

impl Pipe {
    /// Plain data: whoever panicked while holding the lock left it usable.
    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, end: End, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        let way = state.from(end);
        if way.ended || way.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = PIPE_BYTES_MAX.saturating_sub(way.bytes.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if taken.is_empty() && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        way.bytes.extend(taken);
        let count = taken.len();
        drop(state);
        self.changed(end);
        Ok(count)
    }

    fn read(&self, end: End, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        let way = state.to(end);
        if way.bytes.is_empty() && !way.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(way.bytes.len());
        for (place, byte) in buffer.iter_mut().zip(way.bytes.drain(..count)) {
            *place = byte;
        }
        drop(state);
        self.changed(end);
        Ok(count)
    }

    fn close(&self, end: End) {
        let mut state = self.state();
        state.from(end).ended = true;
        if end == End::Gateway {
            state.to(end).broken = true;
        }
        drop(state);
        self.changed(end);
    }

    /// The client is gone and reads no more.
    fn forget(&self) {
        self.state().to_client.broken = true;
        self.changed.notify_one();
    }

    fn changed(&self, by: End) {
        if by == End::Client {
            self.changed.notify_one();
        }
    }

    /// For the gateway's end.
    fn ready(&self, interest: Interest) -> Ready {
        let state = self.state();
        let mut ready = Ready::EMPTY;
        let way = &state.to_gateway;
        if interest.is_readable() && (way.ended || !way.bytes.is_empty()) {
            ready |= Ready::READABLE;
        }
        if way.ended && watches_leaving(interest) {
            ready |= Ready::READ_CLOSED;
        }
        let way = &state.to_client;
        if interest.is_error() && way.broken {
            ready |= Ready::ERROR;
        }
        if interest.is_writable() && (way.broken || way.bytes.len() < PIPE_BYTES_MAX) {
            ready |= Ready::WRITABLE;
        }
        ready
    }
}

/// Whether a closed read side is asked for, as a TCP socket would tell it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const fn watches_leaving(interest: Interest) -> bool {
    interest.is_priority()
}
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const fn watches_leaving(_: Interest) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_asks_for_signs_of_life_where_it_is_told_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let socket = Socket::Tcp(client.unwrap());
        socket.probe(Duration::from_millis(100), 2).unwrap();
        socket.limit_silence(Some(Duration::from_secs(3))).unwrap();
        let Socket::Tcp(socket) = socket else {
            panic!("it is a TCP socket");
        };
        assert!(socket2::SockRef::from(&socket).keepalive().unwrap());
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let limit = socket2::SockRef::from(&socket).tcp_user_timeout();
            assert_eq!(limit.unwrap(), Some(Duration::from_secs(3)));
        }
    }
}
