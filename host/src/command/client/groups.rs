//! `tidegate groups`

use futures_util::TryStreamExt;
use tidegate_client::{Client, GroupInfo};

use super::clients::List;
use super::output::Output;
use crate::cli::client as cli;

pub(super) async fn run(
    client: &Client,
    it: &cli::GroupsArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    if !it.groups.is_empty() {
        return some(client, &it.groups, out).await;
    }
    let mut pages = Box::pin(client.group_pages());
    let mut list = List::default();
    while let Some(page) = pages.try_next().await? {
        list.add(page, &it.bound);
        if list.is_full(&it.bound) {
            break;
        }
    }
    list.tell("groups", out, |groups: &[GroupInfo], out| {
        let rows = groups.iter().map(|it| {
            vec![
                it.group.clone(),
                it.clients.to_string(),
                it.uids.to_string(),
            ]
        });
        out.table(&["GROUP", "CLIENTS", "UIDS"], rows.collect())
    })
}

async fn some(client: &Client, groups: &[String], out: &mut Output) -> anyhow::Result<()> {
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    let counts = client.group_counts(&names).await?;
    match out.is_json() {
        true => out.json(&counts)?,
        false => {
            let rows = counts
                .clients
                .iter()
                .map(|(group, count)| vec![group.clone(), count.to_string()]);
            out.table(&["GROUP", "CLIENTS"], rows.collect())?;
        }
    }
    out.without(&counts.missing);
    Ok(())
}
