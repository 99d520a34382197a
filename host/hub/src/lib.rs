//! The rules of a shard without I/O: who is connected, who gets what, in which order, and what is
//! known of whom.
//!
//! Pure: no task, no socket, no clock and no log; times come in as arguments. A gateway's shards and
//! the SDK's fake gateway run on the same rules.

pub mod answer;
pub mod closes;
pub mod custody_updates;
pub mod directory;
pub mod effects;
pub mod give_back;
pub mod hub;
pub mod idempotency;
pub mod lanes;
pub mod outbound;
pub mod routing;
pub mod select;
pub mod streams;
pub mod strikes;
pub mod tasks;
pub mod tenants;
pub mod timers;
pub mod unrouted;
pub mod window;
