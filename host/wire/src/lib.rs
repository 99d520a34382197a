//! Bytes and values of Tidegate's links: ids, events, effects, frames.
//!
//! Pure: a value goes in and bytes come out, or the other way round. No sockets, no clocks,
//! no logging. `PROTOCOL.md` beside this crate has the byte layout and the versioning rule.

pub mod cursor;
pub mod deploy;
pub mod effect;
pub mod effect_id;
pub mod event;
pub mod feed;
pub mod frame;
pub mod handshake;
pub mod hello;
pub mod http;
pub mod id;
pub mod json;
pub mod membership;
pub mod payload;
pub mod peers;
pub mod query;
pub mod routing;
pub mod schedule;
pub mod session;
pub mod sketch;
pub mod task;
pub mod timer;
pub mod weight;

use std::sync::Arc;

/// A uid, a group or a tenant: 1 to [`NAME_BYTES_MAX`] bytes of UTF-8, shared by reference.
pub type Name = Arc<str>;

/// The longest uid, group, tenant or session key, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Whether `name` may stand as a uid, a group, a tenant or a session key.
#[must_use]
pub const fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX
}
