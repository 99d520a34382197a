//! Cursors: where a list goes on, as a text that is opaque to whoever holds it.
//!
//! A cursor is the last key of a page: one letter for its kind, then the key in hex. It is
//! exclusive, and valid also when the client or gateway that it names is gone.

use std::fmt::Write;

use crate::id::ClientId;
use crate::{Name, is_name};

/// The last key of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Of a list of clients.
    Client(ClientId),
    /// Of a list of names.
    Name(Name),
    /// Of a list of groups and clients.
    GroupClient(Name, ClientId),
    /// Of a list of groups and uids.
    GroupUid(Name, Name),
}

/// A text that is not a cursor, or one of another list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cursor of this list: give back what its last page gave as `next`")]
pub struct CursorError(pub String);

impl Cursor {
    /// The text.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Client(client) => format!("c{client}"),
            Self::Name(name) => format!("n{}", hex(name)),
            Self::GroupClient(group, client) => format!("m{client}{}", hex(group)),
            Self::GroupUid(group, uid) => format!("u{}-{}", hex(group), hex(uid)),
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// When it is none that [`Cursor::encode`] wrote.
    pub fn decode(text: &str) -> Result<Self, CursorError> {
        parse(text).ok_or_else(|| CursorError(text.chars().take(40).collect()))
    }

    /// Reads the cursor of a list of clients.
    ///
    /// # Errors
    /// When it is something else.
    pub fn client(text: &str) -> Result<ClientId, CursorError> {
        match Self::decode(text)? {
            Self::Client(client) => Ok(client),
            Self::Name(_) | Self::GroupClient(..) | Self::GroupUid(..) => Err(other(text)),
        }
    }

    /// Reads the cursor of a list of names.
    ///
    /// # Errors
    /// When it is something else.
    pub fn name(text: &str) -> Result<Name, CursorError> {
        match Self::decode(text)? {
            Self::Name(name) => Ok(name),
            Self::Client(_) | Self::GroupClient(..) | Self::GroupUid(..) => Err(other(text)),
        }
    }

    /// Reads the cursor of a list of groups and clients.
    ///
    /// # Errors
    /// When it is something else.
    pub fn group_client(text: &str) -> Result<(Name, ClientId), CursorError> {
        match Self::decode(text)? {
            Self::GroupClient(group, client) => Ok((group, client)),
            Self::Client(_) | Self::Name(_) | Self::GroupUid(..) => Err(other(text)),
        }
    }

    /// Reads the cursor of a list of groups and uids.
    ///
    /// # Errors
    /// When it is something else.
    pub fn group_uid(text: &str) -> Result<(Name, Name), CursorError> {
        match Self::decode(text)? {
            Self::GroupUid(group, uid) => Ok((group, uid)),
            Self::Client(_) | Self::Name(_) | Self::GroupClient(..) => Err(other(text)),
        }
    }
}

fn other(text: &str) -> CursorError {
    CursorError(text.chars().take(40).collect())
}

fn parse(text: &str) -> Option<Cursor> {
    let rest = text.get(1..)?;
    match text.as_bytes().first()? {
        b'c' => Some(Cursor::Client(rest.parse().ok()?)),
        b'n' => Some(Cursor::Name(unhex(rest)?)),
        b'm' => {
            let client = rest.get(..20)?.parse().ok()?;
            Some(Cursor::GroupClient(unhex(rest.get(20..)?)?, client))
        }
        b'u' => {
            let (group, uid) = rest.split_once('-')?;
            Some(Cursor::GroupUid(unhex(group)?, unhex(uid)?))
        }
        _ => None,
    }
}

fn hex(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Name> {
    let digits = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect();
    let name = String::from_utf8(bytes?).ok()?;
    is_name(&name).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> ClientId {
        "7f000001232a00000001".parse().unwrap()
    }

    #[test]
    fn every_cursor_reads_back() {
        let cursors = [
            Cursor::Client(client()),
            Cursor::Name("ключ / 0".into()),
            Cursor::GroupClient("m".into(), client()),
            Cursor::GroupUid("g-1".into(), "0".into()),
        ];
        for cursor in cursors {
            assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "c", "cxyz", "n", "n0", "nzz", "é", "m00", "u-", "x00"] {
            assert!(Cursor::decode(text).is_err(), "{text:?}");
        }
        assert!(Cursor::name(&Cursor::Client(client()).encode()).is_err());
    }
}
