//! Codecs, as the gateway sees them: something that turns the bytes of a `tcp` listener into
//! messages and back, never on a shard's thread.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_hub::outbound::Plain;
use tidegate_wire::Name;
use tidegate_wire::event::Message;

/// A future that can be sent to another thread.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is to be done for one connection: first what is to be sent, then what has come.
#[derive(Debug, Default)]
pub struct CodecJob {
    /// IP address and port of the client.
    pub peer: Arc<str>,
    /// What the job before has left; empty at first.
    pub state: Bytes,
    /// What is to be sent, in order.
    pub send: Vec<Plain>,
    /// What has come and was not taken before.
    pub input: Option<CodecInput>,
}

/// Bytes of a connection.
#[derive(Debug, Default)]
pub struct CodecInput {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// No more will come.
    pub ended: bool,
}

/// What came of a job.
#[derive(Debug, Default)]
pub struct CodecOutcome {
    /// What the next job gets. The same bytes if nothing has changed.
    pub state: Bytes,
    /// Bytes to be sent, in order.
    pub bytes: Vec<Bytes>,
    /// Messages that were refused and are not sent.
    pub unsent: u32,
    /// What was made of the bytes that came.
    pub decoded: Option<Decoded>,
    /// Why the connection is to be closed, behind what was sent before.
    pub fault: Option<CodecFault>,
}

/// What was made of bytes.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Messages, in order.
    pub messages: Vec<Message>,
    /// The bytes that are not done with.
    pub rest: Vec<u8>,
    /// How many bytes, those included, are needed for anything to come of them; 0 if unknown.
    pub needs: usize,
    /// There is more in them: the codec is to be called again at once.
    pub again: bool,
}

/// Whose fault it is that a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecFault {
    /// The client broke the protocol.
    Client,
    /// The codec broke, or is stopped.
    Codec,
}

/// What runs one codec for one tenant. Bounds how many jobs run and wait, and how long each runs;
/// never blocks the caller's thread.
pub trait Codec: Send + Sync + 'static {
    /// Does a job. A connection gives one at a time; a future that is dropped gives it up.
    fn run(&self, job: CodecJob) -> Boxed<CodecOutcome>;
    /// What went wrong lately and is the codec's own fault: a part of a sentence.
    fn trouble(&self) -> Option<String>;
}

/// The codec of a listener.
#[derive(Clone)]
pub struct ListenerCodec {
    /// Its name in the configuration.
    pub name: Name,
    /// What runs it.
    pub codec: Arc<dyn Codec>,
}

impl fmt::Debug for ListenerCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListenerCodec").field(&self.name).finish()
    }
}
