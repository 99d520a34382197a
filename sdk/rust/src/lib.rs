//! Write Tidegate plugins in Rust: one type, only the callbacks you want, one attribute.
//!
//! ```
//! use tidegate_sdk::prelude::*;
//!
//! #[derive(Default)]
//! struct Lobby;
//!
//! #[tidegate_sdk::handler]
//! impl Handler for Lobby {
//!     fn on_connect(&mut self, client: Client, _: Peer, _: Option<HttpRequest>) -> Result {
//!         client.join("lobby")
//!     }
//!
//!     fn on_message(&mut self, client: Client, message: Message) -> Result {
//!         gateway::to_group("lobby").except(&client).send(&message)
//!     }
//! }
//! ```
//! In `Cargo.toml` the plugin is a library with `crate-type = ["cdylib", "rlib"]`;
//! `cargo build --release --target wasm32-wasip2` makes the component, and plain `cargo test`
//! tests the same code natively against [`testing::Gateway`].
//!
//! What a callback does to clients is collected and happens when it returns ok, as one step; when
//! it returns an error nothing happens. So write callbacks as if nothing could fail half-way.

// The attribute's expansion says `tidegate_sdk`, also in this crate's own tests.
extern crate self as tidegate_sdk;

mod backend;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "generated code"
)]
pub mod bindings;
pub mod client;
pub mod codec;
pub mod command;
pub mod config;
pub mod directory;
pub mod error;
pub mod event;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod export;
pub mod gateway;
pub mod handler;
pub mod handshake;
pub mod http;
pub mod hub;
pub mod log;
pub mod message;
pub mod peers;
pub mod routing;
pub mod session;
pub mod tasks;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod timers;
pub mod worker;

pub use client::Client;
pub use codec::{Codec, Input};
pub use command::Command;
pub use config::Config;
pub use directory::{ClientInfo, Fields};
pub use error::{Error, Refused, Result};
pub use event::{CloseFrame, CloseReason, Closed, HttpRequest, Peer, Transport};
pub use handler::Handler;
pub use handshake::{Accepted, Rejected, Verdict};
pub use message::{Message, Outgoing};
pub use routing::Router;
pub use tasks::{Finished, Task};
pub use timers::Timer;

/// Exports an `impl Handler for …` as the component's callbacks; one per plugin. If the impl has
/// no `on_start`, it gets one that returns `Self::default()`. Natively nothing is exported, so
/// that the same code runs in unit tests.
pub use tidegate_sdk_macros::handler;

/// Exports an `impl Command for …` as a command component; one per component, and not beside a
/// handler. Natively nothing is exported, so that the same code runs in unit tests.
pub use tidegate_sdk_macros::command;

/// Exports an `impl Codec for …` as a codec; one per component, and not beside a handler. Natively
/// nothing is exported, so that the same code runs in unit tests.
pub use tidegate_sdk_macros::codec;
/// Exports an `impl Router for …` as a router; one per component, and not beside a handler. Natively
/// nothing is exported, so that the same code runs in unit tests.
pub use tidegate_sdk_macros::router;

/// Everything that a plugin usually needs.
pub mod prelude {
    pub use crate::{
        Accepted, Client, ClientInfo, CloseFrame, CloseReason, Closed, Codec, Command, Config,
        Error, Fields, Finished, Handler, HttpRequest, Input, Message, Outgoing, Peer, Refused,
        Rejected, Result, Router, Task, Timer, Transport, Verdict, bail, client, config, directory,
        gateway, http, hub, log, peers, session, tasks, timers, worker,
    };
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the examples of the authors' guide.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/plugins.md")]
struct Guide;
