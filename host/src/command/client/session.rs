//! `tidegate session`

use serde_json::Value;
use tidegate_client::{Client, Error, SessionEntries};

use super::output::Output;
use super::send::told;
use crate::cli::client::{Session, SessionGet};

pub(super) async fn run(client: &Client, it: &Session, out: &mut Output) -> anyhow::Result<()> {
    let done = match it {
        Session::Get(it) => return get(client, it, out).await,
        Session::Set(it) => {
            let entries = entries(&it.entries)?;
            client.set_session(&it.client, entries).await?
        }
        Session::Merge(it) => {
            let (change, entries) = (&it.change, entries(&it.change.entries)?);
            client
                .update_session(&change.client, entries, it.deep)
                .await?
        }
        Session::Delete(it) => client.delete_session(&it.client).await?,
    };
    told(done, false, out)
}

async fn get(client: &Client, it: &SessionGet, out: &Output) -> anyhow::Result<()> {
    let mut session = client.session(&it.client).await?;
    if let Some(key) = &it.key {
        // What is not there is null, as in JSON.
        return out.json(&session.remove(key).unwrap_or(Value::Null));
    }
    if out.is_json() {
        return out.json(&session);
    }
    let rows = session
        .iter()
        .map(|(key, value)| vec![key.clone(), value.to_string()]);
    out.table(&["KEY", "VALUE"], rows.collect())
}

fn entries(text: &str) -> Result<SessionEntries, Error> {
    serde_json::from_str(text).map_err(|error| {
        Error::Setting(format!(
            "the entries are not a JSON object like {{\"cart\":[1,2]}}: {error}"
        ))
    })
}
