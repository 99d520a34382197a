//! The gateway: owns client connections and their uid, groups and session.

pub mod apply;
pub mod hub;
pub mod outbound;
pub mod pending;
pub mod router;
