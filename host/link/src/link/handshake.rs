//! The first bytes of a link: hellos, then the proofs that both ends know the cluster secret.
//! What each side sends is in `tidegate_wire::hello`.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;
use tidegate_wire::frame::{FrameError, decode, encode};
use tidegate_wire::hello::{HELLO_BYTES_MAX, Hello, MAGIC, Proof, Refusal, VERSION};
use tidegate_wire::membership::Node;
use tidegate_wire::payload::Carry;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::LinkError;
use crate::net::stream::Connect;

/// What all nodes of a cluster know. Never printed, never sent.
#[derive(Clone)]
pub struct Secret {
    own: Arc<[u8]>,
    /// Taken from those who dial as well.
    also: Option<Arc<[u8]>>,
}

impl Secret {
    /// A secret of these bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            own: secret.into(),
            also: None,
        }
    }

    /// Nodes that dial may know this one instead, unless it is empty: while one is replaced by the
    /// other.
    #[must_use]
    pub fn or_also(self, also: &[u8]) -> Self {
        let also = (!also.is_empty()).then(|| also.into());
        Self { also, ..self }
    }

    /// All that are taken from those who dial.
    fn taken(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.own).chain(self.also.as_deref())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Who this node is on its links, and how it makes them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node.
    pub node: Node,
    /// The cluster secret.
    pub secret: Secret,
    /// How it reaches others.
    pub net: Arc<dyn Connect>,
}

/// Both directions, before they are taken apart.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for S {}

/// The labels keep a proof from being reflected to the side that it came from.
const DIAL: &[u8] = b"tidegate dial";
const ACCEPT: &[u8] = b"tidegate accept";

pub(super) async fn dial<S: Socket>(
    stream: &mut S,
    identity: &Identity,
) -> Result<Node, LinkError> {
    let mine = hello(identity);
    send(stream, &mine).await?;
    let theirs: Hello = receive(stream).await?;
    check(&theirs)?;
    send(
        stream,
        &Proof::Mac(seal(&identity.secret.own, DIAL, &mine, &theirs)?),
    )
    .await?;
    match receive(stream).await? {
        Proof::Mac(proof) if proves(&identity.secret.own, ACCEPT, &mine, &theirs, &proof) => {
            Ok(theirs.node)
        }
        Proof::Mac(_) => Err(LinkError::Unproven),
        Proof::Refused(reason) => Err(LinkError::Refused(reason)),
    }
}

pub(super) async fn accept<S: Socket>(
    stream: &mut S,
    identity: &Identity,
    heard: impl Fn(),
) -> Result<Node, LinkError> {
    // Nothing is said to a stranger before it has said a hello.
    let theirs: Hello = receive(stream).await?;
    if theirs.magic != MAGIC {
        return Err(LinkError::NotTidegate);
    }
    heard();
    let mine = hello(identity);
    send(stream, &mine).await?;
    if theirs.version != VERSION {
        let reason = Refusal::WrongVersion {
            theirs: theirs.version,
            ours: VERSION,
        };
        return refuse(stream, reason).await;
    }
    let proven = match receive(stream).await? {
        Proof::Mac(proof) => {
            let mut taken = identity.secret.taken();
            taken.find(|secret| proves(secret, DIAL, &theirs, &mine, &proof))
        }
        Proof::Refused(reason) => return Err(LinkError::Refused(reason)),
    };
    let Some(secret) = proven else {
        return refuse(stream, Refusal::WrongSecret).await;
    };
    send(stream, &Proof::Mac(seal(secret, ACCEPT, &theirs, &mine)?)).await?;
    Ok(theirs.node)
}

async fn refuse<S: Socket>(stream: &mut S, reason: Refusal) -> Result<Node, LinkError> {
    // The reason for the refusal is worth more than a dialer that did not stay to hear it.
    if send(stream, &Proof::Refused(reason.clone())).await.is_ok() {
        let _ = stream.shutdown().await;
    }
    Err(LinkError::Refused(reason))
}

fn hello(identity: &Identity) -> Hello {
    Hello {
        magic: MAGIC,
        version: VERSION,
        node: identity.node.clone(),
        nonce: rand::random(),
    }
}

fn check(hello: &Hello) -> Result<(), LinkError> {
    if hello.magic != MAGIC {
        return Err(LinkError::NotTidegate);
    }
    if hello.version != VERSION {
        let reason = Refusal::WrongVersion {
            theirs: VERSION,
            ours: hello.version,
        };
        return Err(LinkError::Refused(reason));
    }
    Ok(())
}

fn mac(
    secret: &[u8],
    label: &[u8],
    dialer: &Hello,
    acceptor: &Hello,
) -> Result<Hmac<Sha256>, LinkError> {
    let mut both = BytesMut::new();
    encode(dialer, &mut both)?;
    encode(acceptor, &mut both)?;
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(secret).map_err(|_| LinkError::Unproven)?;
    mac.update(label);
    mac.update(&both);
    Ok(mac)
}

fn seal(
    secret: &[u8],
    label: &[u8],
    dialer: &Hello,
    acceptor: &Hello,
) -> Result<[u8; 32], LinkError> {
    Ok(mac(secret, label, dialer, acceptor)?
        .finalize()
        .into_bytes()
        .into())
}

/// Compared in constant time by the crate.
fn proves(secret: &[u8], label: &[u8], dialer: &Hello, acceptor: &Hello, proof: &[u8; 32]) -> bool {
    mac(secret, label, dialer, acceptor).is_ok_and(|mac| mac.verify_slice(proof).is_ok())
}

async fn send<T: Serialize + Carry>(stream: &mut impl Socket, value: &T) -> Result<(), LinkError> {
    let mut bytes = BytesMut::new();
    encode(value, &mut bytes)?;
    // The length field does not count. The peer could not say what is wrong with a longer one.
    let length = bytes.len().saturating_sub(4);
    if length > HELLO_BYTES_MAX {
        let limit = HELLO_BYTES_MAX;
        return Err(FrameError::TooLarge { length, limit }.into());
    }
    stream.write_all(&bytes).await?;
    Ok(())
}

/// Reads exactly one frame, so that nothing of what follows is consumed.
async fn receive<T: DeserializeOwned + Carry>(stream: &mut impl Socket) -> Result<T, LinkError> {
    let mut bytes = BytesMut::zeroed(4);
    stream.read_exact(&mut bytes).await?;
    // The limit is checked before the body is read or room is made for it.
    if let Some(value) = decode(&mut bytes, HELLO_BYTES_MAX).map_err(|_| LinkError::NotTidegate)? {
        return Ok(value);
    }
    let length = bytes
        .iter()
        .rev()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    let start = bytes.len();
    bytes.resize(start + length, 0);
    stream
        .read_exact(bytes.get_mut(start..).unwrap_or_default())
        .await?;
    match decode(&mut bytes, HELLO_BYTES_MAX) {
        Ok(Some(value)) => Ok(value),
        Ok(None) | Err(_) => Err(LinkError::NotTidegate),
    }
}
