//! `tidegate uids`

use futures_util::TryStreamExt;
use tidegate_client::Client;

use super::clients::List;
use super::output::Output;
use crate::cli::client as cli;

pub(super) async fn run(
    client: &Client,
    it: &cli::UidsArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    let groups: Vec<&str> = it.group.iter().map(String::as_str).collect();
    if it.count {
        let count = match it.estimate {
            true => client.uid_count_estimate().await?,
            false => client.uid_count(&groups).await?,
        };
        out.without(&count.missing);
        return match out.is_json() {
            true => out.json(&count),
            false => out.line(&count.count.to_string()),
        };
    }
    if !it.uids.is_empty() {
        return some(client, &it.uids, out).await;
    }
    let mut pages = Box::pin(client.uid_pages(&groups));
    let mut list = List::default();
    while let Some(page) = pages.try_next().await? {
        list.add(page, &it.bound);
        if list.is_full(&it.bound) {
            break;
        }
    }
    list.tell("uids", out, |uids: &[String], out| {
        uids.iter().try_for_each(|uid| out.line(uid))
    })
}

async fn some(client: &Client, uids: &[String], out: &mut Output) -> anyhow::Result<()> {
    let names: Vec<&str> = uids.iter().map(String::as_str).collect();
    let found = client.clients_of_uids(&names).await?;
    match out.is_json() {
        true => out.json(&found)?,
        false => {
            let rows = found.clients.iter().map(|(uid, clients)| {
                let online = if clients.is_empty() { "no" } else { "yes" };
                vec![uid.clone(), online.to_owned(), clients.join(", ")]
            });
            out.table(&["UID", "ONLINE", "CLIENTS"], rows.collect())?;
        }
    }
    out.without(&found.missing);
    Ok(())
}
