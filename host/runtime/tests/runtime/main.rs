//! What the runtime promises, shown with real components: a scripted Rust guest for behaviour and
//! components as text for whatever is wrong with a plugin.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod bad_plugins;
mod cache;
mod canary;
mod changes;
mod codecs;
mod commands;
mod directory;
mod effects;
mod fairness;
mod handshakes;
mod harness;
mod http;
mod limits;
mod peers;
mod prepared;
mod reload;
mod requests;
mod routers;
mod state;
mod stream;
mod swap;
mod tasks;
mod trial;
mod versions;
