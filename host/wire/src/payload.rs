//! Payloads: bytes that travel beside a frame's header, so that they are sliced, not copied.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a message. In a header only the length stands; the bytes follow the header in the
/// order in which [`Carry::carry`] visits them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload {
    bytes: Bytes,
    /// Set between reading the header and attaching the bytes.
    announced: u32,
}

impl Payload {
    /// A payload of these bytes.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            announced: 0,
        }
    }

    /// The bytes, shared.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Takes the announced number of bytes from the front of `rest`; false if there are too few.
    pub(crate) fn attach(&mut self, rest: &mut Bytes) -> bool {
        let length = self.announced as usize;
        if rest.len() < length {
            return false;
        }
        self.bytes = rest.split_to(length);
        self.announced = 0;
        true
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes.into())
    }
}

impl std::ops::Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let length = u32::try_from(self.bytes.len()).map_err(serde::ser::Error::custom)?;
        serializer.serialize_u32(length)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            bytes: Bytes::new(),
            announced: u32::deserialize(deserializer)?,
        })
    }
}

/// A value that carries payloads. The order of the visits is part of the protocol.
pub trait Carry {
    /// Calls `visit` for each payload, in order.
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload));
    /// Calls `visit` for each payload, in the same order.
    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload));
}

impl<T: Carry> Carry for Option<T> {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        if let Some(value) = self {
            value.carry(visit);
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        if let Some(value) = self {
            value.carry_mut(visit);
        }
    }
}

impl<T: Carry> Carry for Vec<T> {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        for value in self {
            value.carry(visit);
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        for value in self {
            value.carry_mut(visit);
        }
    }
}
