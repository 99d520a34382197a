//! What hyper, the service and the socket of one connection know of each other: whether a request
//! is under way, and so whose bytes are written.
//!
//! hyper answers a head that it cannot read by itself, without a body. Those bytes are kept from the
//! socket: they are the only ones that are written while no request is under way and all answers
//! are written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::Proven;
use super::heads::Heads;
use crate::net::admission::Admitted;

/// A request is awaited, and all answers are written.
const WAITING: u8 = 0;
/// A request is under way.
const BUSY: u8 = 1;
/// Its answer is with hyper, and some of it may not be written.
const WRITING: u8 = 2;

/// One connection. All of it is used by one task.
pub(super) struct Conversation {
    admitted: Admitted,
    phase: AtomicU8,
    /// Whether a whole head has come.
    known: AtomicBool,
    upgraded: AtomicBool,
    /// Whether hyper has refused a head by itself.
    refused: AtomicBool,
    /// Whether it is known who asked what is under way.
    proven: AtomicBool,
    /// Whether an answer to somebody unknown waits to be taken.
    untaken: AtomicBool,
    /// Requests whose heads hyper has read.
    begun: AtomicU64,
    /// The number of the one that says twice how long its body is; zero: none has come.
    doubtful: AtomicU64,
}

impl Conversation {
    pub(super) fn new(admitted: Admitted) -> Arc<Self> {
        Arc::new(Self {
            admitted,
            phase: AtomicU8::new(WAITING),
            known: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            untaken: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            doubtful: AtomicU64::new(0),
        })
    }

    pub(super) const fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// Whether no whole request has come yet.
    pub(super) fn is_stranger(&self) -> bool {
        !self.known.load(Ordering::Relaxed)
    }

    /// Whether the service has answered 101.
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }

    /// Whether hyper has refused a head by itself, in bytes that were not written.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether bytes that hyper is about to write are its own refusal.
    fn keeps_back(&self) -> bool {
        let keeps = self.phase() == WAITING;
        self.refused.fetch_or(keeps, Ordering::Relaxed);
        keeps
    }

    /// Whether all that the service answered is written, so that what comes next would stand alone.
    pub(super) fn is_unanswered(&self) -> bool {
        self.phase() == WAITING
    }

    /// Whether an answer to somebody unknown waits to be taken: others may need the place.
    pub(super) fn is_untaken(&self) -> bool {
        self.untaken.load(Ordering::Relaxed)
    }

    /// The socket has no room for more of an answer.
    fn waits_to_be_taken(&self) {
        if !self.proven.load(Ordering::Relaxed) {
            self.untaken.store(true, Ordering::Relaxed);
            self.admitted.untaken();
        }
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn set(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn all_is_written(&self) {
        if self.phase() == WRITING {
            self.set(WAITING);
            self.untaken.store(false, Ordering::Relaxed);
            self.admitted.idle();
        }
    }
}

/// One request, from its head until its answer is with hyper.
pub(super) struct UnderWay(Arc<Conversation>);

impl UnderWay {
    pub(super) fn begin(conversation: &Arc<Conversation>) -> Self {
        conversation.known.store(true, Ordering::Relaxed);
        conversation.begun.fetch_add(1, Ordering::Relaxed);
        conversation.set(BUSY);
        conversation.proven.store(false, Ordering::Relaxed);
        conversation.untaken.store(false, Ordering::Relaxed);
        conversation.admitted.busy();
        Self(conversation.clone())
    }

    /// Whether the request says twice how long its body is.
    pub(super) fn is_doubtful(&self) -> bool {
        let begun = self.0.begun.load(Ordering::Relaxed);
        self.0.doubtful.load(Ordering::Relaxed) == begun
    }

    pub(super) fn answers<B>(&self, response: &Response<B>) {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.0.upgraded.store(true, Ordering::Relaxed);
        }
        let proven = response.extensions().get::<Proven>().is_some();
        self.0.proven.store(proven, Ordering::Relaxed);
    }

    /// The request is under way as long as the body of its answer lives.
    pub(super) const fn carried_by<B>(self, body: B) -> Carrier<B> {
        Carrier {
            body,
            _under_way: self,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(WRITING);
    }
}

/// The body of an answer.
pub(super) struct Carrier<B> {
    body: B,
    _under_way: UnderWay,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Carrier<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket as hyper sees it. A write that takes nothing for too long fails.
pub(super) struct Io {
    socket: TcpStream,
    conversation: Arc<Conversation>,
    heads: Heads,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Io {
    pub(super) const fn new(
        socket: TcpStream,
        conversation: Arc<Conversation>,
        patience: Duration,
    ) -> Self {
        Self {
            socket,
            conversation,
            heads: Heads::new(),
            patience,
            stalled: None,
        }
    }

    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Looks at how long nothing was taken.
    fn watched(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        if self.stalled.is_none() {
            self.conversation.waits_to_be_taken();
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        self.heads.pass(came);
        if let Some(doubtful) = self.heads.doubtful() {
            let known = &self.conversation.doubtful;
            known.store(doubtful, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.conversation.keeps_back() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.conversation.keeps_back() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper flushes once it has nothing more to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conversation.all_is_written();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
