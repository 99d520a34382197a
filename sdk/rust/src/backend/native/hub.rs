//! `hub` of the fake, for command components.

use tidegate_wire::query::{self, Query};

use super::directory::{clients_query, unexpected};
use super::values::{after_client, client_info, page, selectors};
use super::{Result, shard};
use crate::directory::{ClientInfo, Fields, Page, Selector};
use crate::testing::event;

pub(crate) fn gateway_address() -> String {
    shard::GATEWAY.to_string()
}

pub(crate) fn infos(
    of: &[Selector],
    fields: Fields,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<ClientInfo>> {
    let answer = event::ask_hub(&clients_query(of, fields, after, limit)?)?;
    let query::Answer::Clients { page: found, more } = answer else {
        return Err(unexpected(&answer));
    };
    page((found, more), &[], after_client, client_info)
}

pub(crate) fn client_count(of: &[Selector]) -> Result<u64> {
    let answer = event::ask_hub(&Query::ClientCount { of: selectors(of)? })?;
    let query::Answer::Count(count) = answer else {
        return Err(unexpected(&answer));
    };
    Ok(count)
}
