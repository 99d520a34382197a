//! What a process holds of a connection: halves that read and write its ways.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tidegate_link::net::stream::{Duplex, ReadHalf, WriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use super::clock::Clock;
use super::way::End;
use super::{Net, WAY_BYTES_MAX};

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    read: Reader,
    write: Writer,
}

impl Stream {
    pub(super) fn new(net: Arc<Net>, number: u64, end: usize, clock: Clock) -> Self {
        let half = Half {
            net,
            number,
            end,
            clock,
        };
        Self {
            read: Reader {
                half: half.clone(),
                timer: None,
            },
            write: Writer { half },
        }
    }
}

impl Duplex for Stream {
    fn halves(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>) {
        (Box::new(self.read), Box::new(self.write))
    }
}

#[derive(Clone, Debug)]
struct Half {
    net: Arc<Net>,
    number: u64,
    end: usize,
    clock: Clock,
}

impl Half {
    fn dropped(&self, half: usize) {
        let mut wake = Vec::new();
        let mut state = self.net.state();
        let now = state.now_ms;
        let Some(connection) = state.connections.get_mut(&self.number) else {
            return;
        };
        connection.dropped[self.end][half] = true;
        let way = &mut connection.ways[self.end];
        if half == 1 {
            way.finish(End::Closed, now, &mut connection.rng);
        }
        if connection.dropped[self.end] == [true; 2] {
            let way = &mut connection.ways[1 - self.end];
            if !way.dead {
                way.broken.get_or_insert(now + super::STEP_MS);
                way.chunks.clear();
                way.bytes = 0;
            }
        }
        connection.wakers(&mut wake);
        if connection.dropped == [[true; 2]; 2] {
            state.connections.remove(&self.number);
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }
}

/// The way in of one end.
#[derive(Debug)]
struct Reader {
    half: Half,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.half.dropped(0);
    }
}

/// What a look at a way finds.
enum Found {
    Bytes(Bytes),
    End(End),
    Later(Option<u64>),
}

impl Half {
    fn look(&self, max: usize, cx: &Context<'_>) -> (Found, Option<Waker>) {
        let now = self.clock.now_ms();
        let mut state = self.net.state();
        let Some(connection) = state.connections.get_mut(&self.number) else {
            return (Found::End(End::Reset), None);
        };
        let way = &mut connection.ways[1 - self.end];
        match way.next() {
            Some(at) if at <= now => {}
            later => {
                way.reader = Some(cx.waker().clone());
                return (Found::Later(later), None);
            }
        }
        if let Some((_, chunk)) = way.chunks.front_mut() {
            let bytes = chunk.split_to(chunk.len().min(max));
            if !chunk.has_remaining() {
                way.chunks.pop_front();
            }
            way.bytes -= bytes.len();
            return (Found::Bytes(bytes), way.writer.take());
        }
        let end = way.end.map_or(End::Closed, |(_, end)| end);
        (Found::End(end), None)
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let (found, waker) = this.half.look(buffer.remaining(), cx);
            waker.into_iter().for_each(Waker::wake);
            match found {
                Found::Bytes(bytes) => {
                    buffer.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                Found::End(End::Closed) => return Poll::Ready(Ok(())),
                Found::End(End::Reset) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Found::Later(None) => return Poll::Pending,
                Found::Later(Some(at)) => {
                    let at = this.half.clock.instant(at);
                    let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
                    if timer.deadline() != at {
                        timer.as_mut().reset(at);
                    }
                    ready!(timer.as_mut().poll(cx));
                }
            }
        }
    }
}

/// The way out of one end.
#[derive(Debug)]
struct Writer {
    half: Half,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.half.dropped(1);
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let half = &self.half;
        let now = half.clock.now_ms();
        let mut state = half.net.state();
        let Some(connection) = state.connections.get_mut(&half.number) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let way = &mut connection.ways[half.end];
        if way.end.is_some() || way.broken.is_some_and(|at| at <= now) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WAY_BYTES_MAX.saturating_sub(way.bytes);
        if room == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        // Bytes for somebody who is gone are lost.
        if way.broken.is_none() {
            let at = way.schedule(now, &mut connection.rng);
            let chunk = Bytes::copy_from_slice(&bytes[..count]);
            way.chunks.push_back((at, chunk));
            way.bytes += count;
        }
        let waker = way.reader.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let half = &self.half;
        let now = half.clock.now_ms();
        let mut state = half.net.state();
        let mut waker = None;
        if let Some(connection) = state.connections.get_mut(&half.number) {
            let way = &mut connection.ways[half.end];
            way.finish(End::Closed, now, &mut connection.rng);
            waker = way.reader.take();
        }
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl WriteHalf for Writer {
    /// Nothing is lost here by closing early.
    fn poll_linger(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().write).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_shutdown(cx)
    }
}
