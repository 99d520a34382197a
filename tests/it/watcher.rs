//! A client in the group `watchers`, which the bench tells about every close. It keeps apart what
//! a test asks for: clients of the harness close as well, now and then.

use anyhow::{Result, ensure};
use tidegate_tests::{Client, Cluster};

pub(crate) struct Watcher {
    pub(crate) client: Client,
    heard: Vec<String>,
}

impl Watcher {
    pub(crate) async fn join(cluster: &Cluster, gateway: usize) -> Result<Self> {
        Self::with(cluster.ws(gateway).await?).await
    }

    pub(crate) async fn with(client: Client) -> Result<Self> {
        let mut watcher = Self {
            client,
            heard: Vec::new(),
        };
        watcher.client.send("J:watchers").await?;
        watcher.barrier().await?;
        Ok(watcher)
    }

    /// Waits until what this client sent before is handled.
    pub(crate) async fn barrier(&mut self) -> Result<()> {
        self.client.send("E:barrier").await?;
        loop {
            let text = self.client.text().await?;
            if text == "barrier" {
                return Ok(());
            }
            self.heard.push(text);
        }
    }

    /// Sends a command and waits until it is handled.
    pub(crate) async fn does(&mut self, command: &str) -> Result<()> {
        self.client.send(command).await?;
        self.barrier().await
    }

    /// What is told about the close of this client, after its id.
    pub(crate) async fn told(&mut self, id: &str) -> Result<String> {
        let start = format!("closed:{id}:");
        loop {
            if let Some(place) = self.heard.iter().position(|text| text.starts_with(&start)) {
                let text = self.heard.swap_remove(place);
                return Ok(text.trim_start_matches(&start).to_owned());
            }
            let text = self.client.text().await?;
            self.heard.push(text);
        }
    }

    /// Expects exactly this about the close of this client.
    pub(crate) async fn expect(&mut self, id: &str, expected: &str) -> Result<()> {
        let told = self.told(id).await?;
        ensure!(told == expected, "told {told:?}, not {expected:?}");
        Ok(())
    }

    /// Proves that nothing more was told that contains this text.
    pub(crate) async fn quiet_about(&mut self, text: &str) -> Result<()> {
        self.barrier().await?;
        let more: Vec<_> = self.heard.iter().filter(|it| it.contains(text)).collect();
        ensure!(more.is_empty(), "told more: {more:?}");
        Ok(())
    }
}
