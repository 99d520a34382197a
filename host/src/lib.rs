//! The binary's parts: command line, configuration, telemetry, admin listener, commands.

pub mod admin;
pub mod cli;
pub mod command;
pub mod config;
pub mod telemetry;
