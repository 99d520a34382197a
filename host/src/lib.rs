//! The binary's parts: command line, configuration, telemetry, admin listener, commands, and the
//! bridge between cluster and runtime.

pub mod admin;
pub mod api;
pub mod bridge;
pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod deployables;
pub mod deploys;
pub mod descriptors;
pub mod ending;
pub mod operations;
pub mod settings;
pub mod telemetry;
pub mod tenants;
