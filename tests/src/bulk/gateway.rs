//! The gateway of a run: a process of its own, whose clients have sockets, or one within this process,
//! whose clients are pipes. The same is asked of both.

use anyhow::Result;

use super::connection::Connection;
use super::place::Place;
use super::within::Within;
use super::{By, metrics};
use crate::client::Transport;
use crate::node::Node;
use crate::ports;

const UNGUARDED: &str = "tidegate_gateway_unguarded_clients";
const CUSTODY_BYTES: &str = "tidegate_gateway_custody_bytes_total";

#[derive(Debug)]
pub(super) enum Gateway {
    Process(Box<Node>),
    Within(Within),
}

impl Gateway {
    /// Starts one in this place.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) async fn start(by: By, place: Place) -> Result<Self> {
        match by {
            By::Sockets => Ok(Self::Process(Box::new(process(&place)?))),
            By::Pipes => Ok(Self::Within(Within::start(place).await?)),
        }
    }

    /// Waits until it serves through so many workers.
    ///
    /// # Errors
    /// When it does not.
    pub(super) async fn ready(&mut self, workers: usize) -> Result<()> {
        match self {
            Self::Process(node) => node.ready().await,
            Self::Within(within) => within.ready(workers).await,
        }
    }

    /// Connects the client with this number.
    ///
    /// # Errors
    /// When it is refused.
    pub(super) async fn connect(&self, number: usize) -> Result<Connection> {
        match self {
            Self::Process(node) => Connection::dial(node.listener(Transport::Ws)?, number).await,
            Self::Within(within) => Connection::pipe(within.gateway(), number),
        }
    }

    /// Clients that handlers know and whose custodians have not all confirmed.
    ///
    /// # Errors
    /// When the gateway does not count them.
    pub(super) async fn unguarded(&self) -> Result<f64> {
        match self {
            Self::Process(node) => metrics::sum(&node.metrics().await?, UNGUARDED),
            Self::Within(within) => Ok(within.gateway().unguarded() as f64),
        }
    }

    /// Bytes of custody that the gateway has sent.
    ///
    /// # Errors
    /// When it does not count them.
    pub(super) async fn custody_bytes(&self) -> Result<f64> {
        match self {
            Self::Process(node) => metrics::sum(&node.metrics().await?, CUSTODY_BYTES),
            Self::Within(within) => within.counted(CUSTODY_BYTES),
        }
    }

    /// The process that it runs in.
    ///
    /// # Errors
    /// When it was never started.
    pub(super) fn pid(&self) -> Result<u32> {
        match self {
            Self::Process(node) => Ok(node.process()?.pid()),
            Self::Within(_) => Ok(std::process::id()),
        }
    }
}

/// A gateway's process with default settings.
fn process(place: &Place) -> Result<Node> {
    let (lan, door, admin) = (ports::free()?, ports::free()?, ports::free()?);
    let (name, register, tag) = (Place::NAME, place.register, Place::TAG);
    let second = place.second;
    let config = format!(
        "[admin]\nlisten = \"{admin}\"\n\
         [gateway]\nname = \"{name}\"\nregisters = [\"{register}\"]\nlan = \"{lan}\"\n\
         tags = [\"{tag}\"]\nsecond-custodian = {second}\n\
         [[gateway.listener]]\nlisten = \"ws://{door}\"\nping-interval-ms = 0\n"
    );
    let mut node = place.node(name, "gateway", config)?;
    node.admin = Some(admin);
    node.lan = Some(lan);
    node.listeners.push((Transport::Ws, door));
    node.start()?;
    Ok(node)
}
