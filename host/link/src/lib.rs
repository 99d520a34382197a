//! What every kind of node stands on: sockets with bounds, authenticated links between nodes, and who
//! is a member of the cluster.
//!
//! Knows nothing of gateways, workers and registers beyond the roles by which nodes call themselves.

pub mod deadline;
mod link;
pub mod membership;
pub mod net;

pub use link::*;
