//! The giving side: chunks of what is in the store or offered.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_link::LinkSender;
use tidegate_wire::Name;
use tidegate_wire::deploy::{CHUNK_BYTES_MAX, Deploy};

use super::{Exchange, PeerId};

/// An upload that others may fetch, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Offer {
    exchange: Exchange,
    version: Name,
    bytes: Arc<Bytes>,
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut lines = self.exchange.lines();
        // Another upload of the same bytes may be under way.
        let offered = lines.offered.get(&self.version);
        if offered.is_some_and(|it| Arc::ptr_eq(it, &self.bytes)) {
            lines.offered.remove(&self.version);
        }
    }
}

impl Exchange {
    /// Lets others fetch these bytes.
    pub(crate) fn offer(&self, version: &Name, bytes: Bytes) -> Offer {
        let bytes = Arc::new(bytes);
        let offered = bytes.clone();
        self.lines().offered.insert(version.clone(), offered);
        Offer {
            exchange: self.clone(),
            version: version.clone(),
            bytes,
        }
    }

    /// Answers a fetch. The peer's link is not read meanwhile, so that it cannot ask for more than
    /// it is given.
    pub(crate) async fn lend(&self, peer: PeerId, version: Name, offset: u64, sender: &LinkSender) {
        let bytes = self.lent(peer, &version).await;
        let chunk = bytes.as_ref().and_then(|bytes| chunk(bytes, offset));
        let over = bytes.is_none_or(|it| offset.saturating_add(CHUNK_BYTES_MAX) >= it.len() as u64);
        if over {
            self.lines().lent.remove(&peer);
        }
        let answer = match chunk {
            Some(bytes) => Deploy::Chunk {
                version,
                offset,
                bytes: bytes.into(),
            },
            None => Deploy::Missing { version },
        };
        // A link that has ended needs no answer.
        let _ = sender.send(answer);
    }

    async fn lent(&self, peer: PeerId, version: &Name) -> Option<Arc<Bytes>> {
        {
            let lines = self.lines();
            if let Some(offered) = lines.offered.get(version) {
                return Some(offered.clone());
            }
            if let Some((_, bytes)) = lines.lent.get(&peer).filter(|it| it.0 == *version) {
                return Some(bytes.clone());
            }
        }
        let bytes = self.inner.store.component(version).await?;
        let mut lines = self.lines();
        if lines.peers.contains_key(&peer) {
            lines.lent.insert(peer, (version.clone(), bytes.clone()));
        }
        Some(bytes)
    }
}

fn chunk(bytes: &Bytes, offset: u64) -> Option<Bytes> {
    let start = usize::try_from(offset).ok()?;
    let end = bytes
        .len()
        .min(start.checked_add(CHUNK_BYTES_MAX as usize)?);
    (start < end).then(|| bytes.slice(start..end))
}
