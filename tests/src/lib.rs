//! The harness of the end-to-end tests: real processes, real sockets, real components.
//!
//! A test starts a [`Cluster`] of `tidegate` processes on loopback, talks to it through
//! [`Client`]s and waits for what it claims with a deadline. Nothing here knows how Tidegate is
//! made: it uses the command line, the listeners, the admin port and the protocol of the bench
//! plugin. Only [`bulk`] can have a gateway within its own process, for want of file descriptors. The same parts, and the [`load`] generator, make the figures.

pub mod alone;
pub mod api;
pub mod bulk;
pub mod chaos;
pub mod client;
pub mod cluster;
pub mod deploys;
pub mod feed;
pub mod figures;
pub mod handshakes;
pub mod http;
pub mod load;
pub mod node;
pub mod plugins;
pub mod ports;
pub mod probe;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod swaps;
pub mod talkers;
pub mod timers;
pub mod tools;
pub mod traps;
pub mod wait;

pub use alone::Alone;
pub use api::{Api, Reply};
pub use client::{Client, Received, Transport};
pub use cluster::{Builder, Cluster};
pub use feed::{Feed, Told};
pub use node::{Node, Ran};
pub use plugins::Plugin;
pub use probe::{Answer, Probe};
pub use process::{Process, Signal};
pub use talkers::Talkers;
pub use wait::{DEADLINE, eventually, within};

/// What a test returns: an error names the claim that does not hold.
pub type Outcome = anyhow::Result<()>;
