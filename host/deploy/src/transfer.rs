//! Components over links: asked for chunk by chunk by whoever needs them, checked by their hash.
//!
//! Guarantees: at most [`AHEAD`] chunks of one component are under way to a node, whatever it asks
//! for; what arrives unasked is dropped; a transfer that breaks leaves nothing behind. The bytes
//! come from the store, or from an upload that is offered for as long as its order runs.

mod lend;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::deploy::{CHUNK_BYTES_MAX, COMPONENT_BYTES_MAX, Deploy, is_version};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

pub(super) use lend::Offer;

use super::store::{Pin, Store, StoreError};

/// How many chunks are asked for before the first of them has come.
const AHEAD: usize = 4;

/// A link, as this process numbers it.
pub(super) type PeerId = u64;

/// Why a component could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no node with a link to this one has it")]
    Nowhere,
    #[error("the link was lost")]
    Gone,
    #[error("the other end does not have it")]
    Missing,
    #[error("nothing came for {} seconds", .0.as_secs())]
    Silent(Duration),
    #[error("the other end sent something else")]
    Confused,
    #[error("{0}")]
    OtherBytes(String),
    #[error("{0}")]
    Disk(String),
}

/// Whom a component may come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    Anyone,
    Only(PeerId),
}

/// A component in memory, and kept.
#[derive(Debug)]
pub(super) struct Obtained {
    pub(super) bytes: Arc<Bytes>,
    pub(super) pin: Pin,
}

/// The components of this process and the links over which it gives and takes them.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    inner: Arc<ExchangeInner>,
}

#[derive(Debug)]
struct ExchangeInner {
    store: Store,
    /// How long the next chunk may take.
    patience: Duration,
    /// One component at a time.
    turn: Semaphore,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    peers: BTreeMap<PeerId, LinkSender>,
    expecting: Option<Expecting>,
    /// Uploads, not in the store.
    offered: BTreeMap<Name, Arc<Bytes>>,
    /// What each peer is reading.
    lent: BTreeMap<PeerId, (Name, Arc<Bytes>)>,
}

#[derive(Debug)]
struct Expecting {
    peer: PeerId,
    version: Name,
    arrivals: mpsc::Sender<Arrival>,
}

#[derive(Debug)]
enum Arrival {
    Chunk { offset: u64, bytes: Bytes },
    Missing,
}

impl Exchange {
    pub(super) fn new(store: Store, patience: Duration) -> Self {
        Self {
            inner: Arc::new(ExchangeInner {
                store,
                patience,
                turn: Semaphore::new(1),
                lines: Mutex::default(),
            }),
        }
    }

    /// The lines are plain data: whoever panicked while holding the lock left them usable.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        let lines = self.inner.lines.lock();
        lines.unwrap_or_else(PoisonError::into_inner)
    }

    /// A link is there.
    pub(super) fn join(&self, peer: PeerId, sender: LinkSender) {
        self.lines().peers.insert(peer, sender);
    }

    /// A link has ended.
    pub(super) fn leave(&self, peer: PeerId) {
        let mut lines = self.lines();
        lines.peers.remove(&peer);
        lines.lent.remove(&peer);
        if lines.expecting.as_ref().is_some_and(|it| it.peer == peer) {
            lines.expecting = None;
        }
    }

    /// Does what a frame wants of transfers; gives back one that wants something else.
    pub(super) async fn serve(
        &self,
        peer: PeerId,
        frame: Deploy,
        sender: &LinkSender,
    ) -> Option<Deploy> {
        match frame {
            Deploy::Fetch { version, offset } => {
                self.lend(peer, version, offset, sender).await;
                None
            }
            frame @ (Deploy::Chunk { .. } | Deploy::Missing { .. }) => {
                self.received(peer, frame);
                None
            }
            frame @ (Deploy::Enrol { .. }
            | Deploy::State(_)
            | Deploy::Status { .. }
            | Deploy::TakenBack { .. }
            | Deploy::Order { .. }
            | Deploy::Progress { .. }
            | Deploy::Ask { .. }
            | Deploy::Answer { .. }
            | Deploy::Prepare { .. }
            | Deploy::Hold { .. }
            | Deploy::Discard { .. }
            | Deploy::Step { .. }
            | Deploy::Prepared { .. }) => Some(frame),
        }
    }

    /// A chunk, or word that there is none.
    fn received(&self, peer: PeerId, frame: Deploy) {
        let (version, arrival) = if let Deploy::Chunk {
            version,
            offset,
            bytes,
        } = frame
        {
            let bytes = bytes.into_bytes();
            (version, Arrival::Chunk { offset, bytes })
        } else if let Deploy::Missing { version } = frame {
            (version, Arrival::Missing)
        } else {
            return;
        };
        let lines = self.lines();
        let expecting = lines.expecting.as_ref();
        let asked = |it: &&Expecting| it.peer == peer && it.version == version;
        if let Some(expecting) = expecting.filter(asked) {
            // Full only when more comes than was asked for.
            let _ = expecting.arrivals.try_send(arrival);
        }
    }

    /// The component, from the store or from others; kept for as long as the pin lives.
    pub(super) async fn obtain(
        &self,
        version: &Name,
        bytes: u64,
        from: From,
    ) -> Result<Obtained, FetchError> {
        let store = &self.inner.store;
        let pin = store.pin(version);
        if let Some(bytes) = store.component(version).await {
            return Ok(Obtained { bytes, pin });
        }
        if bytes == 0 || bytes > COMPONENT_BYTES_MAX || !is_version(version) {
            return Err(FetchError::Confused);
        }
        // The semaphore is never closed.
        let _turn = self.inner.turn.acquire().await;
        let mut error = FetchError::Nowhere;
        for peer in self.candidates(from) {
            match self.fetch(peer, version, bytes).await {
                Ok(bytes) => {
                    let bytes = Arc::new(bytes);
                    return Ok(Obtained { bytes, pin });
                }
                Err(FetchError::Missing | FetchError::Gone) => {}
                Err(other) => {
                    tracing::warn!(%version, error = %other, "a component could not be fetched");
                    error = other;
                }
            }
        }
        drop(pin);
        store.tidy().await;
        Err(error)
    }

    fn candidates(&self, from: From) -> Vec<PeerId> {
        match from {
            From::Only(peer) => vec![peer],
            From::Anyone => self.lines().peers.keys().copied().collect(),
        }
    }

    async fn fetch(&self, peer: PeerId, version: &Name, bytes: u64) -> Result<Bytes, FetchError> {
        // One more for word that there is none.
        let (arrivals, mut arrived) = mpsc::channel(AHEAD + 1);
        let sender = {
            let mut lines = self.lines();
            let sender = lines.peers.get(&peer).cloned();
            let sender = sender.ok_or(FetchError::Gone)?;
            lines.expecting = Some(Expecting {
                peer,
                version: version.clone(),
                arrivals,
            });
            sender
        };
        let fetched = self.gather(&sender, version, bytes, &mut arrived).await;
        self.lines().expecting = None;
        let fetched = fetched?;
        let kept = self.inner.store.put(version, fetched.clone()).await;
        kept.map_err(|error| match error {
            StoreError::WrongHash(_) => FetchError::OtherBytes(error.to_string()),
            StoreError::Io { .. }
            | StoreError::Damaged { .. }
            | StoreError::InUse(_)
            | StoreError::Task => FetchError::Disk(error.to_string()),
        })?;
        Ok(fetched)
    }

    async fn gather(
        &self,
        sender: &LinkSender,
        version: &Name,
        total: u64,
        arrived: &mut mpsc::Receiver<Arrival>,
    ) -> Result<Bytes, FetchError> {
        let mut offsets = (0..total).step_by(CHUNK_BYTES_MAX as usize);
        let ask = |offset| {
            let version = version.clone();
            let fetch = Deploy::Fetch { version, offset };
            sender.send(fetch).map_err(|_| FetchError::Gone)
        };
        for offset in offsets.by_ref().take(AHEAD) {
            ask(offset)?;
        }
        let mut gathered = BytesMut::new();
        while (gathered.len() as u64) < total {
            let patience = self.inner.patience;
            let arrival = timeout(patience, arrived.recv()).await;
            let arrival = arrival.map_err(|_| FetchError::Silent(patience))?;
            match arrival.ok_or(FetchError::Gone)? {
                Arrival::Missing => return Err(FetchError::Missing),
                Arrival::Chunk { offset, bytes } => {
                    let here = gathered.len() as u64;
                    let due = CHUNK_BYTES_MAX.min(total - here);
                    if offset != here || bytes.len() as u64 != due {
                        return Err(FetchError::Confused);
                    }
                    gathered.extend_from_slice(&bytes);
                }
            }
            if let Some(offset) = offsets.next() {
                ask(offset)?;
            }
        }
        Ok(gathered.freeze())
    }
}

#[cfg(test)]
mod tests;
