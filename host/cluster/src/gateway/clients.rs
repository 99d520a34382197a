//! Clients and what is between them and their shard: accepting, the handshake, one connection's task,
//! pings, and the memory that they make the shard keep.
//!
//! Knows the shard only as the [`Home`](connection::home::Home) of its connections.

pub(in crate::gateway) mod connection;
pub(in crate::gateway) mod handshake;
pub(in crate::gateway) mod listener;
pub(in crate::gateway) mod memory;
pub(in crate::gateway) mod pings;
pub(in crate::gateway) mod refusals;
pub(in crate::gateway) mod sign_in;
