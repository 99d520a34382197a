//! The Client API: HTTP with JSON for outside applications, a thin map onto a gateway.
//!
//! It guarantees that a token reaches its tenant only, that every refusal is a problem+json with a
//! named case, that an answer says whom it is without, and bounds on connections, calls under way,
//! headers, bodies and time. It keeps nothing itself: what is asked and done, the gateway asks and
//! does. The caller binds the listener.

mod answers;
mod body;
mod caller;
mod cluster;
mod deployments;
mod effects;
mod names;
mod openapi;
mod problem;
mod questions;
mod router;
mod routes;
mod rules;
mod serve;
mod shared;
mod tokens;

pub use cluster::{Cluster, Deploys, OnceKey};
pub use openapi::document;
pub use router::Settings;
pub use serve::serve;
pub use shared::Apart;
pub use tokens::{Grant, TOKEN_BYTES_MIN, Tokens};
