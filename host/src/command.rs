//! The commands, one file each.

pub mod check;
pub mod client;
pub mod config;
pub mod gateway;
pub mod register;
pub mod serve;
pub mod worker;
