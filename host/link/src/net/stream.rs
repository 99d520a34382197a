//! What a link runs over: sockets, or whatever stands in for them.
//!
//! A node is told with its identity how it reaches others ([`Connect`]); a register is told where
//! others reach it ([`Listen`]). TCP is one way; a simulated network is another.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

/// Both directions of a connection between two nodes.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {
    /// Called once, before the first byte.
    ///
    /// # Errors
    /// When the connection is gone already.
    fn begin(&self) -> io::Result<()> {
        Ok(())
    }

    /// Takes the directions apart. Dropping the write half ends that direction.
    fn halves(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>);
}

/// The way in.
pub trait ReadHalf: AsyncRead + Send + Sync + Unpin {}

impl<T: AsyncRead + Send + Sync + Unpin> ReadHalf for T {}

/// The way out.
pub trait WriteHalf: AsyncWrite + Send + Sync + Unpin {
    /// After a shutdown: reads and forgets until the peer has closed too, where closing earlier
    /// could cost the peer what it has not read.
    fn poll_linger(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// How a node reaches others.
pub trait Connect: fmt::Debug + Send + Sync {
    /// Connects.
    fn connect(&self, to: SocketAddr) -> Connecting;
}

/// Where others reach a node.
pub trait Listen: Send + Sync + 'static {
    /// What comes in.
    type Stream: Duplex;

    /// The next connection, and where it comes from.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

/// Over TCP.
#[must_use]
pub fn tcp() -> Arc<dyn Connect> {
    Arc::new(Tcp)
}

#[derive(Debug)]
struct Tcp;

impl Connect for Tcp {
    fn connect(&self, to: SocketAddr) -> Connecting {
        Box::pin(async move {
            let stream: Box<dyn Duplex> = Box::new(TcpStream::connect(to).await?);
            Ok(stream)
        })
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }
}

impl Duplex for TcpStream {
    fn begin(&self) -> io::Result<()> {
        self.set_nodelay(true)
    }

    fn halves(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>) {
        let (read, write) = self.into_split();
        (Box::new(read), Box::new(write))
    }
}

impl WriteHalf for OwnedWriteHalf {
    /// A socket that is closed with unread bytes in it is reset by the kernel, and the last frames
    /// on their way to the peer could be lost.
    fn poll_linger(&self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = self.as_ref();
        let mut unwanted = [0; 4096];
        while ready!(stream.poll_read_ready(cx)).is_ok() {
            match stream.try_read(&mut unwanted) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}
