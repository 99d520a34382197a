//! Codecs: a component of its own that turns the bytes of a `tcp` listener into messages and back,
//! in the gateway.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::message::Message;

/// Messages of one call. The host calls again at once while there are more.
const MESSAGES_MAX: usize = 256;

/// A codec: one type, exported with [`#[tidegate_sdk::codec]`](macro@crate::codec). The listener that
/// names it gives it the bytes of each client, and has it make bytes of what is sent to one.
///
/// It has no value of its own, since any instance serves any connection: what is to be known of a
/// connection beside its unfinished bytes, which the host keeps, stands in its `State` (often `()`).
/// So an instance that traps takes nothing with it. A new version reads what the old one has kept:
/// keep the names of its fields.
///
/// ```
/// use tidegate_sdk::prelude::*;
/// use tidegate_sdk::testing::CodecConnection;
///
/// /// A byte of length, then so many bytes.
/// struct Short;
///
/// #[tidegate_sdk::codec]
/// impl Codec for Short {
///     type State = ();
///
///     fn decode(_: &mut (), input: &mut Input<'_>) -> Result<Option<Message>> {
///         let Some(length) = input.bytes().first() else {
///             return Ok(None);
///         };
///         let message = input.take(1 + usize::from(*length));
///         Ok(message.map(|message| Message::Binary(message[1..].to_vec())))
///     }
///
///     fn encode(_: &mut (), message: Message) -> Result<Vec<u8>> {
///         let length = u8::try_from(message.bytes().len())?;
///         Ok([&[length], message.bytes()].concat())
///     }
/// }
///
/// # fn main() -> Result {
/// let mut connection = CodecConnection::<Short>::open();
/// assert_eq!(connection.receive(b"\x02hi\x05hel")?, [Message::Binary(b"hi".to_vec())]);
/// assert_eq!(connection.receive(b"lo")?, [Message::Binary(b"hello".to_vec())]);
/// assert_eq!(connection.send("hey")?, b"\x03hey");
/// assert!(connection.send("x".repeat(256)).is_err());
/// # Ok(())
/// # }
/// ```
pub trait Codec: 'static {
    /// What is kept of a connection between two calls, as JSON; `Default` is that of a new one.
    type State: Serialize + DeserializeOwned + Default;

    /// Takes the next message off the front of what has come. None: its end has not come yet. It is
    /// called until it takes nothing more. An error closes the connection, behind the messages before.
    fn decode(state: &mut Self::State, input: &mut Input<'_>) -> Result<Option<Message>>;

    /// The bytes to send for a message; none: nothing is sent. An error drops this message.
    fn encode(state: &mut Self::State, message: Message) -> Result<Vec<u8>>;
}

/// What has come from a client and was not taken yet.
#[derive(Debug)]
pub struct Input<'a> {
    peer: &'a str,
    bytes: &'a [u8],
    taken: usize,
    needs: usize,
    ended: bool,
}

impl<'a> Input<'a> {
    /// The bytes that are there. They stay there until they are taken.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Takes so many. If fewer are there it takes none, and the host waits for them before it calls
    /// again.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let Some(taken) = self.bytes().get(..count) else {
            self.needs(count);
            return None;
        };
        self.taken += count;
        Some(taken)
    }

    /// Takes all that stands before a delimiter, and that too.
    pub fn take_until(&mut self, delimiter: &[u8]) -> Option<&'a [u8]> {
        let bytes = self.bytes();
        let mut places = bytes.windows(delimiter.len().max(1));
        let place = places.position(|place| place == delimiter)?;
        self.taken += place + delimiter.len();
        bytes.get(..place)
    }

    /// So many bytes must be there before it is worth calling again.
    pub const fn needs(&mut self, count: usize) {
        self.needs = count;
    }

    /// Whether no more will come: what is unfinished now stays so.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// IP address and port of the client.
    #[must_use]
    pub const fn peer(&self) -> &'a str {
        self.peer
    }
}

/// What came of bytes, as the host is told.
pub(crate) struct DecodedAll {
    pub(crate) messages: Vec<Message>,
    pub(crate) taken: usize,
    pub(crate) needs: usize,
    pub(crate) state: Option<Vec<u8>>,
}

/// One call of the host: all messages that are there, or the first of them.
pub(crate) fn decode_all<C: Codec>(
    peer: &str,
    state: &[u8],
    bytes: &[u8],
    ended: bool,
) -> Result<DecodedAll> {
    let (decoded, error) = decode_some::<C>(peer, state, bytes, ended, MESSAGES_MAX)?;
    match (error, decoded.messages.len()) {
        (None, _) => Ok(decoded),
        (Some(error), 0) => Err(error),
        // What came before is good. Once more, without what the bad part has done to the state; the
        // host gives that again, and it is refused then.
        (Some(_), good) => Ok(decode_some::<C>(peer, state, bytes, ended, good)?.0),
    }
}

/// At most so many messages, and the error that ended it.
fn decode_some<C: Codec>(
    peer: &str,
    state: &[u8],
    bytes: &[u8],
    ended: bool,
    messages_max: usize,
) -> Result<(DecodedAll, Option<Error>)> {
    let mut own: C::State = read(state)?;
    let mut input = Input {
        peer,
        bytes,
        taken: 0,
        needs: 0,
        ended,
    };
    let (mut messages, mut error) = (Vec::new(), None);
    loop {
        if messages.len() == messages_max {
            // Whatever is left is worth another call.
            input.needs = 1;
            break;
        }
        let before = input.taken;
        input.needs = 0;
        match C::decode(&mut own, &mut input) {
            Ok(Some(_)) if input.taken == before => {
                error = Some(Error::msg("the codec made a message and took no bytes"));
            }
            Ok(Some(message)) => messages.push(message),
            // It has skipped something.
            Ok(None) if input.taken > before => {}
            Ok(None) => break,
            Err(refused) => error = Some(refused),
        }
        if error.is_some() {
            break;
        }
    }
    let decoded = DecodedAll {
        messages,
        taken: input.taken,
        needs: input.needs,
        state: written::<C>(state, &own)?,
    };
    Ok((decoded, error))
}

/// The bytes for one message, and the state if it is another one now.
pub(crate) fn encode_one<C: Codec>(
    state: &[u8],
    message: Message,
) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let mut own: C::State = read(state)?;
    let bytes = C::encode(&mut own, message)?;
    Ok((bytes, written::<C>(state, &own)?))
}

fn read<S: DeserializeOwned + Default>(state: &[u8]) -> Result<S> {
    match state.is_empty() {
        true => Ok(S::default()),
        false => Ok(serde_json::from_slice(state)?),
    }
}

/// None if nothing has changed.
fn written<C: Codec>(before: &[u8], state: &C::State) -> Result<Option<Vec<u8>>> {
    let now = serde_json::to_vec(state)?;
    let is_same = match before.is_empty() {
        true => now == serde_json::to_vec(&C::State::default())?,
        false => now == before,
    };
    Ok((!is_same).then_some(now))
}
