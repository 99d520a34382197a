//! The examples that are worth copying, played as people would: over real WebSockets, in one process and
//! over three gateways and three workers, of which each is killed in the middle.

mod game;
pub(crate) mod public_chat;

use std::net::SocketAddrV4;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tidegate_tests::plugins::{another_build, replace};
use tidegate_tests::{Client, Cluster, Received, eventually};

/// A client of an example: JSON messages, told apart by `type`.
struct Talker(Client);

impl Talker {
    async fn connect(door: SocketAddrV4, target: &str) -> Result<Self> {
        Ok(Self(Client::web_socket(door, target).await?))
    }

    async fn say(&mut self, wish: &Value) -> Result<()> {
        self.0.send(&wish.to_string()).await
    }

    /// The next message.
    async fn next(&mut self) -> Result<Value> {
        match self.0.next().await? {
            Received::Text(text) => Ok(serde_json::from_str(&text)?),
            other @ (Received::Binary(_) | Received::Closed(_)) => {
                bail!("{other:?} came, and a message was expected")
            }
        }
    }

    /// Reads over others until one of this type comes.
    async fn told(&mut self, kind: &str) -> Result<Value> {
        self.next_of(&[kind]).await
    }

    /// Reads over others until one of these types comes.
    async fn next_of(&mut self, kinds: &[&str]) -> Result<Value> {
        loop {
            let message = self.next().await;
            let message = message.with_context(|| format!("none of {kinds:?} came"))?;
            if kinds.contains(&text(&message, "type")) {
                return Ok(message);
            }
        }
    }
}

/// A member that is a text.
fn text<'a>(message: &'a Value, key: &str) -> &'a str {
    message.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A member that is a number.
fn number(message: &Value, key: &str) -> u64 {
    message.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// Kills a worker as a power cut would, and starts it again.
async fn kill(cluster: &mut Cluster, worker: &str) -> Result<()> {
    let node = cluster.worker_named(worker)?;
    node.kill().await?;
    node.start()
}

/// Puts a new version of the file there, and gives its hash; does not wait for anybody to take it.
fn swap(file: &Path) -> Result<String> {
    let component = another_build(&std::fs::read(file)?, "second")?;
    replace(file, &component)?;
    Ok(blake3::hash(&component).to_hex().to_string())
}

/// Waits until these nodes run the new version, those that were started meanwhile too.
async fn swapped(cluster: &Cluster, nodes: &[&str], version: &str) -> Result<()> {
    for name in nodes {
        let mut all = cluster.nodes();
        let node = all.find(|node| node.name() == *name);
        let node = node.with_context(|| format!("no node {name}"))?;
        let what = format!("{name} serves the new version");
        eventually(&what, async || {
            let log = node.process()?.log();
            let serves = |line: &str| {
                let new = line.contains(&format!("new=\"{version}"))
                    || line.contains(&format!("version={version}"));
                new && (line.contains("a new version serves") || line.contains("plugin runs"))
            };
            Ok(log.lines().any(serves).then_some(()))
        })
        .await?;
    }
    Ok(())
}
