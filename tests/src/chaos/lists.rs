//! The lists of the cluster, page by page, beside what the clients know.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::ledger::Ledger;
use super::schedule::GATEWAYS;
use crate::api::Api;

/// The group of the watchers.
const WATCHERS: &str = "watchers";

/// Whether a gateway lists exactly those clients, uids and groups that the clients know of, and the
/// watchers.
///
/// # Errors
/// When it does not, or gateways are missing in the answer.
pub(super) async fn as_seen(api: &Api, ledger: &Ledger) -> Result<()> {
    let clients = all(api, "/v1/clients").await?;
    let listed: BTreeSet<_> = clients
        .iter()
        .filter_map(|it| it["client"].as_str())
        .collect();
    let open = ledger.open();
    let missing: Vec<_> = open
        .iter()
        .filter(|id| !listed.contains(id.as_str()))
        .take(5)
        .collect();
    ensure!(
        missing.is_empty() && listed.len() == open.len() + GATEWAYS,
        "{} clients are listed, {} are connected with the watchers, not listed: {missing:?}",
        listed.len(),
        open.len() + GATEWAYS
    );
    let uids = all(api, "/v1/uids").await?;
    let uids: BTreeSet<_> = uids
        .iter()
        .filter_map(|it| it.as_str())
        .map(str::to_owned)
        .collect();
    let due = ledger.uids();
    let differ: Vec<_> = uids.symmetric_difference(&due).take(5).collect();
    ensure!(
        differ.is_empty(),
        "the uids differ, among others by {differ:?}"
    );
    let groups = all(api, "/v1/groups/counts").await?;
    let mut due = ledger.groups();
    due.insert(WATCHERS.to_owned(), (GATEWAYS as u64, 0));
    let groups: BTreeMap<_, _> = groups.iter().filter_map(counts).collect();
    let differ: Vec<_> = groups
        .iter()
        .filter(|(group, counts)| due.get(*group) != Some(counts))
        .take(5)
        .collect();
    ensure!(
        differ.is_empty() && groups.len() == due.len(),
        "{} groups of {}, with a wrong count, among others: {differ:?}",
        groups.len(),
        due.len()
    );
    Ok(())
}

/// Whether a gateway lists nobody and nothing.
///
/// # Errors
/// When it does.
pub(super) async fn empty(api: &Api) -> Result<()> {
    for list in ["/v1/groups", "/v1/uids", "/v1/clients"] {
        let ghosts = all(api, list).await?;
        ensure!(ghosts.is_empty(), "{list} has ghosts: {ghosts:?}");
    }
    Ok(())
}

/// Whether a gateway counts so many clients.
///
/// # Errors
/// When it does not.
pub(super) async fn count(api: &Api, clients: usize) -> Result<()> {
    let count = api.get("/v1/clients/count").await?.ok()?;
    ensure!(is_whole(&count) && count["count"] == clients, "{count}");
    Ok(())
}

fn counts(item: &Value) -> Option<(String, (u64, u64))> {
    let group = item["group"].as_str()?.to_owned();
    Some((group, (item["clients"].as_u64()?, item["uids"].as_u64()?)))
}

/// All entries of a list.
async fn all(api: &Api, list: &str) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let target = format!("{list}?limit=1000{after}");
        let page = api.get(&target).await?.ok()?;
        ensure!(is_whole(&page), "gateways are missing: {}", page["missing"]);
        items.extend_from_slice(page["items"].as_array().context("no items")?);
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", crate::api::part(next)),
            None => return Ok(items),
        }
    }
}

fn is_whole(answer: &Value) -> bool {
    answer["missing"].as_array().is_some_and(Vec::is_empty)
}
