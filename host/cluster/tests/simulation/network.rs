//! A network without sockets: connections whose bytes arrive late, wait, or never come, as the
//! seed says. Within one direction of a connection nothing is reordered.
//!
//! Every delay is at least [`STEP_MS`], the time that the world lets each process run alone: what
//! a process sends in a step can reach another one only in a later step. Each connection draws its
//! delays from a generator of its own, so that they do not depend on the order in which tasks of
//! one process write.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tidegate_cluster::net::stream::{Connect, Connecting, Duplex, Listen, ReadHalf, WriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// How long processes run without seeing each other.
pub(crate) const STEP_MS: u64 = 10;
/// Bytes that one direction holds before its writer waits.
const WAY_BYTES_MAX: usize = 64 << 10;

/// A machine. It keeps its number over the lives of the process on it.
pub(crate) type Host = usize;

/// The clock of one process, which stands still while the process is frozen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
    started_ms: u64,
}

impl Clock {
    /// Of the current runtime, which is made at this time of the world.
    pub(crate) fn start(started_ms: u64) -> Self {
        let base = Instant::now();
        Self { base, started_ms }
    }

    /// The time of the world as this process sees it; inside its runtime only.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started_ms + self.base.elapsed().as_millis() as u64
    }

    pub(crate) fn instant(&self, ms: u64) -> Instant {
        self.base + Duration::from_millis(ms.saturating_sub(self.started_ms))
    }
}

#[derive(Debug)]
pub(crate) struct Net {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seed: u64,
    /// The end of the current step.
    now_ms: u64,
    listeners: BTreeMap<SocketAddr, Listener>,
    connections: BTreeMap<u64, Connection>,
    made: u64,
    blocked: BTreeSet<(Host, Host)>,
}

#[derive(Debug)]
struct Listener {
    host: Host,
    incoming: VecDeque<(u64, u64)>,
    waker: Option<Waker>,
}

/// End 0 has connected to end 1; way 0 leads from end 0 to end 1.
#[derive(Debug)]
struct Connection {
    hosts: [Host; 2],
    ways: [Way; 2],
    rng: SmallRng,
    /// Of each end: the read half and the write half are dropped.
    dropped: [[bool; 2]; 2],
}

#[derive(Debug, Default)]
struct Way {
    /// With the time of arrival; none while it is held.
    chunks: VecDeque<(Option<u64>, Bytes)>,
    bytes: usize,
    end: Option<(Option<u64>, End)>,
    last_ms: u64,
    held: bool,
    /// When the writer learns that nobody reads.
    broken: Option<u64>,
    /// One of its hosts vanished: nothing arrives any more.
    dead: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

fn delay_ms(rng: &mut SmallRng) -> u64 {
    let more = match rng.random_range(0..100) {
        0..80 => rng.random_range(0..=STEP_MS / 2),
        80..97 => rng.random_range(0..=3 * STEP_MS),
        _ => rng.random_range(0..=10 * STEP_MS),
    };
    STEP_MS + more
}

impl Way {
    fn schedule(&mut self, now: u64, rng: &mut SmallRng) -> Option<u64> {
        if self.held || self.dead {
            return None;
        }
        self.last_ms = self.last_ms.max(now + delay_ms(rng));
        Some(self.last_ms)
    }

    fn finish(&mut self, end: End, now: u64, rng: &mut SmallRng) {
        if self.end.is_none() {
            self.end = Some((self.schedule(now, rng), end));
        }
    }

    /// Everything that has not arrived waits from now on, or goes on.
    fn hold(&mut self, held: bool, now: u64, rng: &mut SmallRng) {
        if self.held == held || self.dead {
            return;
        }
        self.held = held;
        let mut chunks = std::mem::take(&mut self.chunks);
        for (at, _) in &mut chunks {
            match (held, *at) {
                (true, Some(due)) if due > now => *at = None,
                (false, None) => *at = self.schedule(now, rng),
                (true | false, _) => {}
            }
        }
        self.chunks = chunks;
        if let Some((at, end)) = self.end {
            let at = match (held, at) {
                (true, Some(due)) if due > now => None,
                (false, None) => self.schedule(now, rng),
                (true | false, at) => at,
            };
            self.end = Some((at, end));
        }
    }

    fn next(&self) -> Option<u64> {
        match self.chunks.front() {
            Some((at, _)) => *at,
            None => self.end.and_then(|(at, _)| at),
        }
    }
}

impl Connection {
    /// Wakes whoever waits for anything; not under the lock of the net.
    fn wakers(&mut self, wake: &mut Vec<Waker>) {
        for way in &mut self.ways {
            wake.extend(way.reader.take());
            wake.extend(way.writer.take());
        }
    }

    fn cut(&mut self, now: u64) {
        for way in &mut self.ways {
            way.chunks.retain(|(at, _)| at.is_some_and(|at| at <= now));
            way.bytes = way.chunks.iter().map(|(_, bytes)| bytes.len()).sum();
            way.end = None;
            way.finish(End::Reset, now, &mut self.rng);
            way.broken.get_or_insert(now + STEP_MS);
        }
    }
}

impl Net {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            seed,
            now_ms: 0,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            made: 0,
            blocked: BTreeSet::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step up to this time begins.
    pub(crate) fn tick(&self, now_ms: u64) {
        self.state().now_ms = now_ms;
    }

    pub(crate) fn listen(
        self: &Arc<Self>,
        host: Host,
        address: SocketAddr,
        clock: Clock,
    ) -> Socket {
        let listener = Listener {
            host,
            incoming: VecDeque::new(),
            waker: None,
        };
        self.state().listeners.insert(address, listener);
        Socket {
            net: self.clone(),
            address,
            clock,
        }
    }

    pub(crate) fn dialer(self: &Arc<Self>, host: Host, clock: Clock) -> Arc<Dialer> {
        Arc::new(Dialer {
            net: self.clone(),
            host,
            clock,
        })
    }

    /// Changes connections and then wakes whoever is concerned.
    fn change(&self, mut change: impl FnMut(&mut Connection, u64) -> bool) {
        let mut wake = Vec::new();
        let mut state = self.state();
        let now = state.now_ms;
        for connection in state.connections.values_mut() {
            if change(connection, now) {
                connection.wakers(&mut wake);
            }
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Lets bytes from one host reach another, or holds them.
    pub(crate) fn set_blocked(&self, from: Host, to: Host, blocked: bool) {
        let mut state = self.state();
        if blocked {
            state.blocked.insert((from, to));
        } else {
            state.blocked.remove(&(from, to));
        }
        drop(state);
        self.change(|connection, now| {
            let hosts = connection.hosts;
            for (way, (a, b)) in [(0, (hosts[0], hosts[1])), (1, (hosts[1], hosts[0]))] {
                if (a, b) == (from, to) {
                    connection.ways[way].hold(blocked, now, &mut connection.rng);
                }
            }
            true
        });
    }

    /// The process of this host has gone. With `silently` nobody is told.
    pub(crate) fn gone(&self, host: Host, silently: bool) {
        self.state().listeners.retain(|_, it| it.host != host);
        self.change(|connection, now| {
            let concerned = connection.hosts.contains(&host);
            if concerned && silently {
                for way in &mut connection.ways {
                    way.hold(true, now, &mut connection.rng);
                    way.dead = true;
                }
            }
            concerned
        });
    }

    /// The connections, with their hosts.
    pub(crate) fn connections(&self) -> Vec<(u64, [Host; 2])> {
        let state = self.state();
        let all = state.connections.iter();
        all.map(|(number, it)| (*number, it.hosts)).collect()
    }

    /// Breaks one connection: both ends learn of it, what is on the way is lost.
    pub(crate) fn cut(&self, number: u64) {
        let mut wake = Vec::new();
        let mut state = self.state();
        let now = state.now_ms;
        if let Some(connection) = state.connections.get_mut(&number) {
            connection.cut(now);
            connection.wakers(&mut wake);
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn is_blocked(&self, a: Host, b: Host) -> bool {
        self.blocked.contains(&(a, b)) || self.blocked.contains(&(b, a))
    }

    /// A connection to whoever listens there, and when the listener sees it.
    fn connect(&mut self, from: Host, to: SocketAddr, now: u64) -> Option<(u64, Option<Waker>)> {
        let listener = self.listeners.get_mut(&to)?;
        let number = self.made;
        self.made += 1;
        let seed = self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let connection = Connection {
            hosts: [from, listener.host],
            ways: [Way::default(), Way::default()],
            rng: SmallRng::seed_from_u64(seed),
            dropped: [[false; 2]; 2],
        };
        self.connections.insert(number, connection);
        listener.incoming.push_back((now + STEP_MS, number));
        Some((number, listener.waker.take()))
    }
}

/// How one process reaches others.
#[derive(Debug)]
pub(crate) struct Dialer {
    net: Arc<Net>,
    host: Host,
    clock: Clock,
}

impl Connect for Dialer {
    fn connect(&self, to: SocketAddr) -> Connecting {
        let (net, host, clock) = (self.net.clone(), self.host, self.clock);
        Box::pin(async move {
            let step = Duration::from_millis(STEP_MS);
            sleep(step).await;
            loop {
                let listener = net.state().listeners.get(&to).map(|it| it.host);
                match listener {
                    None => return Err(io::ErrorKind::ConnectionRefused.into()),
                    Some(there) if net.state().is_blocked(host, there) => sleep(step).await,
                    Some(_) => break,
                }
            }
            let made = net.state().connect(host, to, clock.now_ms());
            let (number, waker) = made.ok_or(io::ErrorKind::ConnectionRefused)?;
            waker.into_iter().for_each(Waker::wake);
            let stream = Stream::new(net, number, 0, clock);
            sleep(step * 2).await;
            let stream: Box<dyn Duplex> = Box::new(stream);
            Ok(stream)
        })
    }
}

/// Where others reach one process.
#[derive(Debug)]
pub(crate) struct Socket {
    net: Arc<Net>,
    address: SocketAddr,
    clock: Clock,
}

impl Listen for Socket {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        loop {
            let due = std::future::poll_fn(|cx| {
                let mut state = self.net.state();
                match state.listeners.get_mut(&self.address) {
                    None => Poll::Ready(None),
                    Some(listener) => match listener.incoming.front() {
                        Some(next) => Poll::Ready(Some(*next)),
                        None => {
                            listener.waker = Some(cx.waker().clone());
                            Poll::Pending
                        }
                    },
                }
            });
            let Some((at, number)) = due.await else {
                std::future::pending::<()>().await;
                continue;
            };
            // Nothing is taken before an await, so that a cancelled call loses nothing.
            if self.clock.now_ms() < at {
                sleep_until(self.clock.instant(at)).await;
            }
            let mut state = self.net.state();
            if let Some(listener) = state.listeners.get_mut(&self.address) {
                listener.incoming.pop_front();
            }
            drop(state);
            let stream = Stream::new(self.net.clone(), number, 1, self.clock);
            return Ok((stream, self.address));
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    read: Reader,
    write: Writer,
}

impl Stream {
    fn new(net: Arc<Net>, number: u64, end: usize, clock: Clock) -> Self {
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
                way.broken.get_or_insert(now + STEP_MS);
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
