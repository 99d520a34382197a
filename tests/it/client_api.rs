//! What the Client API promises beside the rows of the table: requests, idempotency keys, batches,
//! the live feed, what it cannot tell, commands that are replaced, and answers while a gateway is frozen.

#![allow(
    clippy::indexing_slicing,
    reason = "an absent member of a JSON value is null, and fails a check"
)]

mod batches;
mod commands;
mod coverage;
mod feed;
mod frozen;
mod keys;
mod numbers;
mod requests;

use std::sync::Arc;

use anyhow::Result;
use tidegate_tests::{Api, Probe, Transport};

use crate::conformance::fixture::{Fixture, Size};

/// One tenant of a cluster that many tests share.
struct Place {
    fixture: Arc<Fixture>,
    tenant: &'static str,
}

impl Place {
    /// The tenant on both clusters.
    fn both(tenant: &'static str) -> Result<[Self; 2]> {
        let place = |size| {
            let fixture = Fixture::get(size)?;
            Ok::<_, anyhow::Error>(Self { fixture, tenant })
        };
        Ok([place(Size::One)?, place(Size::Three)?])
    }

    /// The Client API of a gateway; numbers go round.
    fn api(&self, gateway: usize) -> Result<Api> {
        let cluster = &self.fixture.cluster;
        cluster
            .gateway(gateway % self.fixture.gateways())?
            .api(self.tenant)
    }

    /// A client at a gateway; numbers go round.
    async fn client(&self, gateway: usize, query: &str) -> Result<Probe> {
        let cluster = &self.fixture.cluster;
        let node = cluster.gateway(gateway % self.fixture.gateways())?;
        Probe::connect(node.door(self.tenant, Transport::Ws)?, query).await
    }
}
