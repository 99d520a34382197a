//! `tidegate feed`: a line for each change, until it is interrupted.

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tidegate_client::{Client, Error, FeedFilter, Happening, Kind, Told};

use super::output::Output;
use crate::cli::client as cli;

pub(super) async fn run(
    client: &Client,
    it: &cli::FeedArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    let kinds: Result<Vec<Kind>, Error> = it
        .kind
        .iter()
        .map(|word| {
            Kind::of(word).ok_or_else(|| {
                Error::Setting(format!(
                    "--kind: `{word}` is none of connected, closed, joined, left, bound, unbound"
                ))
            })
        })
        .collect();
    let filter = FeedFilter {
        kinds: kinds?,
        groups: it.group.clone(),
        uids: it.uid.clone(),
    };
    let mut feed = Box::pin(client.feed(&filter));
    while let Some(told) = feed.try_next().await? {
        match told {
            Told::Happened(kind, happening) if out.is_json() => {
                let mut line = serde_json::to_value(&happening)?;
                if let Some(members) = line.as_object_mut() {
                    members.insert("event".to_owned(), Value::from(kind.as_str()));
                }
                out.json(&line)?;
            }
            Told::Happened(kind, happening) => out.line(&line(kind, &happening))?,
            Told::Missed(missed) if out.is_json() => {
                out.json(&json!({ "event": "missed", "missed": missed }))?;
            }
            Told::Missed(missed) => out.warn(&format!("{missed} changes were missed")),
            Told::Coverage(missing) if out.is_json() => {
                out.json(&json!({ "event": "coverage", "missing": missing }))?;
            }
            Told::Coverage(missing) if missing.is_empty() => out.note("all gateways are heard"),
            Told::Coverage(missing) => {
                out.warn(&format!(
                    "partial: nothing is heard of {}",
                    missing.join(", ")
                ));
            }
            Told::Broken(why) => out.warn(&format!("{why}; connecting again")),
        }
    }
    Ok(())
}

fn line(kind: Kind, it: &Happening) -> String {
    let mut line = format!("{:9} {}", kind.as_str(), it.client);
    if let Some(uid) = &it.uid {
        line.push_str(&format!(" uid {uid}"));
    }
    if let Some(group) = &it.group {
        line.push_str(&format!(" group {group}"));
    }
    if let Some(peer) = &it.peer {
        line.push_str(&format!(" from {} at {}", peer.address, peer.listener));
    }
    if let Some(reason) = it.reason {
        let reason = serde_json::to_value(reason).unwrap_or_default();
        line.push_str(&format!(" reason {}", reason.as_str().unwrap_or("unknown")));
    }
    if let Some(groups) = it.groups.as_ref().filter(|groups| !groups.is_empty()) {
        line.push_str(&format!(" groups {}", groups.join(", ")));
    }
    line
}
