//! What a row works with: clients and actors in its own tenant, on one side and one cluster at a
//! time, and the count of what was checked.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tidegate_tests::{Answer, Api, Outcome, Probe, Transport, eventually};

use super::actor::Actor;
use super::fixture::{Fixture, Size};

/// From where the calls of a row come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// From a handler, during an event.
    Inside,
    /// From outside, over HTTP.
    Outside,
}

/// One row on one side of one cluster.
pub(crate) struct Trial {
    pub(crate) fixture: Arc<Fixture>,
    pub(crate) side: Side,
    pub(crate) tenant: String,
    pub(crate) checks: u32,
}

impl Trial {
    /// Waits until nobody of an earlier trial is left in the tenant.
    pub(crate) async fn begin(size: Size, side: Side, tenant: String) -> Result<Self> {
        let trial = Self {
            fixture: Fixture::get(size)?,
            side,
            tenant,
            checks: 0,
        };
        for gateway in 0..trial.gateways() {
            let api = trial.api_at(gateway)?;
            eventually("the tenant is empty", async || {
                let count = api.get("/v1/clients/count").await?.ok()?;
                ensure!(count == json!({"count": 0, "missing": []}), "{count}");
                Ok(Some(()))
            })
            .await?;
        }
        Ok(trial)
    }

    pub(crate) fn gateways(&self) -> usize {
        self.fixture.gateways()
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.side == Side::Inside
    }

    /// Who makes the calls of this side, at the first gateway.
    pub(crate) async fn actor(&self) -> Result<Actor> {
        self.actor_at(0).await
    }

    /// Who makes the calls of this side at another gateway; numbers go round.
    pub(crate) async fn actor_at(&self, gateway: usize) -> Result<Actor> {
        Ok(match self.side {
            Side::Inside => Actor::Inside(Box::new(self.client(gateway, "").await?)),
            Side::Outside => Actor::Outside(self.api_at(gateway)?),
        })
    }

    /// A client at a gateway; numbers go round.
    pub(crate) async fn client(&self, gateway: usize, query: &str) -> Result<Probe> {
        self.client_over(gateway, Transport::Ws, query).await
    }

    /// A client of any kind of listener.
    pub(crate) async fn client_over(
        &self,
        gateway: usize,
        transport: Transport,
        query: &str,
    ) -> Result<Probe> {
        let node = self.fixture.cluster.gateway(gateway % self.gateways())?;
        let door = node.door(&self.tenant, transport)?;
        let connected = match transport {
            Transport::Ws => Probe::connect(door, query).await,
            Transport::Tcp | Transport::Text | Transport::Frame => {
                Probe::over(transport, door).await
            }
        };
        connected.with_context(|| format!("a client of {}", node.name()))
    }

    /// Three clients with the same query, one after the other on the gateways that there are.
    pub(crate) async fn three(&self, query: &str) -> Result<[Probe; 3]> {
        Ok([
            self.client(0, query).await?,
            self.client(1, query).await?,
            self.client(2, query).await?,
        ])
    }

    /// The Client API of the first gateway.
    pub(crate) fn api(&self) -> Result<Api> {
        self.api_at(0)
    }

    /// The Client API of a gateway; numbers go round.
    pub(crate) fn api_at(&self, gateway: usize) -> Result<Api> {
        let node = self.fixture.cluster.gateway(gateway % self.gateways())?;
        node.api(&self.tenant)
    }

    /// The id of a client that was there and is gone.
    pub(crate) async fn gone(&self) -> Result<String> {
        let client = self.client(1, "").await?;
        let id = client.id().to_owned();
        client.close().await?;
        self.offline(&id).await?;
        Ok(id)
    }

    /// Waits until every gateway says that this client is gone.
    pub(crate) async fn offline(&self, id: &str) -> Outcome {
        for gateway in 0..self.gateways() {
            let api = self.api_at(gateway)?;
            let target = format!("/v1/clients/{id}");
            eventually(&format!("{id} is offline"), async || {
                Ok((api.get(&target).await?.status == 404).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// One check of the table.
    pub(crate) fn check(
        &mut self,
        claim: &str,
        got: impl Into<Value>,
        wanted: impl Into<Value>,
    ) -> Outcome {
        let (got, wanted) = (got.into(), wanted.into());
        ensure!(got == wanted, "{claim}: expected {wanted}, found {got}");
        self.checks += 1;
        Ok(())
    }

    /// A check that a call is refused with an error of this name.
    pub(crate) fn refused(&mut self, claim: &str, answer: &Answer, name: &str) -> Outcome {
        match answer {
            Err(error) => self.check(claim, error.as_str(), name),
            Ok(value) => bail!("{claim}: expected the error {name}, found {value}"),
        }
    }
}

/// Sorts a list of texts, as ids and names are ordered: by their bytes.
pub(crate) fn sorted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Value {
    let mut names: Vec<_> = names
        .into_iter()
        .map(|name| name.as_ref().to_owned())
        .collect();
    names.sort_unstable();
    json!(names)
}

/// The ids of clients, in order.
pub(crate) fn ids<'a>(clients: impl IntoIterator<Item = &'a Probe>) -> Value {
    sorted(clients.into_iter().map(Probe::id))
}

/// Client ids that no gateway takes.
pub(crate) const MALFORMED: [&str; 5] = [
    "nobody",
    "7f00000107d00000000",
    "7f00000107d0000000011",
    "7F00000107D000000001",
    "7f00000107d00000000g",
];

/// The id of a client of a gateway that was never there.
pub(crate) const ELSEWHERE: &str = "0a63636307d000000001";

/// Names at the edges of what is allowed: all of them are.
pub(crate) fn names() -> [String; 5] {
    [
        "0".to_owned(),
        "n".repeat(255),
        "имя 名前 🌊/?&=#%+".to_owned(),
        "ü".repeat(127),
        " ".to_owned(),
    ]
}

/// Names that are not allowed: empty, and over 255 bytes.
pub(crate) fn not_names() -> [String; 2] {
    [String::new(), "ü".repeat(128)]
}
