//! A TCP proxy between nodes, so that single connections can be cut or held. A held connection is
//! neither read nor written: to both ends it is as if the network swallowed everything.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes that one direction of a connection copies at a time.
const CHUNK: usize = 16 * 1024;

/// A proxy to one address. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    lines: Arc<Mutex<Lines>>,
    all_held: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Lines {
    last: u64,
    open: BTreeMap<u64, Line>,
}

#[derive(Debug)]
struct Line {
    /// What comes from the dialler, and what goes to it.
    held: [watch::Sender<bool>; 2],
    pump: JoinHandle<()>,
}

/// A connection of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineId(u64);

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// From the one who dialled.
    FromDialler,
    /// To the one who dialled.
    ToDialler,
}

impl Proxy {
    /// Listens at `address` for connections to `target`.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(address: SocketAddrV4, target: SocketAddrV4) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let lines: Arc<Mutex<Lines>> = Arc::default();
        let (all_held, hold) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, target, lines.clone(), hold));
        Ok(Self {
            lines,
            all_held,
            accepting,
        })
    }

    /// One of the connections, by any number; none if there is none.
    #[must_use]
    pub fn pick(&self, nth: usize) -> Option<LineId> {
        let mut lines = lock(&self.lines);
        lines.open.retain(|_, line| !line.pump.is_finished());
        let count = lines.open.len().max(1);
        let number = lines.open.keys().nth(nth % count);
        number.copied().map(LineId)
    }

    /// Ends a connection: both ends see it closed or reset.
    pub fn cut(&self, line: LineId) {
        if let Some(line) = lock(&self.lines).open.remove(&line.0) {
            line.pump.abort();
        }
    }

    /// Holds a connection, or lets it go on.
    pub fn hold(&self, line: LineId, held: bool) {
        self.hold_one(line, Stream::FromDialler, held);
        self.hold_one(line, Stream::ToDialler, held);
    }

    /// Holds one direction of a connection, or lets it go on: a half-open link.
    pub fn hold_one(&self, line: LineId, stream: Stream, held: bool) {
        if let Some(line) = lock(&self.lines).open.get(&line.0) {
            let [from, to] = &line.held;
            let gate = match stream {
                Stream::FromDialler => from,
                Stream::ToDialler => to,
            };
            gate.send_replace(held);
        }
    }

    /// Holds all connections, new ones too, or lets them go on.
    pub fn hold_all(&self, held: bool) {
        self.all_held.send_replace(held);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        for line in lock(&self.lines).open.values() {
            line.pump.abort();
        }
    }
}

fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(
    listener: TcpListener,
    target: SocketAddrV4,
    lines: Arc<Mutex<Lines>>,
    all_held: watch::Receiver<bool>,
) {
    loop {
        // Out of file descriptors is the only error that is to be expected, and it passes.
        let Ok((near, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let held = [watch::channel(false).0, watch::channel(false).0];
        let gates = held.each_ref().map(|it| [it.subscribe(), all_held.clone()]);
        let pump = tokio::spawn(async move {
            // Nobody there, or the end of either side: dropping both is what a link would show.
            let _ = carry(near, target, gates).await;
        });
        let mut lines = lock(&lines);
        lines.last += 1;
        let number = lines.last;
        lines.open.retain(|_, line| !line.pump.is_finished());
        lines.open.insert(number, Line { held, pump });
    }
}

type Gates = [watch::Receiver<bool>; 2];

async fn carry(near: TcpStream, target: SocketAddrV4, gates: [Gates; 2]) -> Result<()> {
    let [from, to] = gates;
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    tokio::select! {
        ended = copy(from_near, to_far, from) => ended,
        ended = copy(from_far, to_near, to) => ended,
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gates: Gates) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        // Also what was read before: nothing passes a held connection, not even its end.
        open(&mut gates).await?;
        match chunk.get(..read) {
            None | Some([]) => return Ok(()),
            Some(bytes) => to.write_all(bytes).await?,
        }
    }
}

async fn open(gates: &mut Gates) -> Result<()> {
    for gate in gates {
        gate.wait_for(|held| !*held).await?;
    }
    Ok(())
}
