//! `tidegate session`

use serde_json::Value;
use tidegate_client::{Client, Error, SessionEntries};

use super::output::Output;
use super::send::told;
use crate::cli::client::{SessionCommand, SessionGet};

pub(super) async fn run(
    client: &Client,
    it: &SessionCommand,
    out: &mut Output,
) -> anyhow::Result<()> {
    let done = match it {
        SessionCommand::Get(it) => return get(client, it, out).await,
        SessionCommand::Set(it) => {
            let entries = entries(&it.entries)?;
            client.set_session(&it.client, entries).await?
        }
        SessionCommand::Merge(it) => {
            let (change, entries) = (&it.change, entries(&it.change.entries)?);
            client
                .update_session(&change.client, entries, it.deep)
                .await?
        }
        SessionCommand::Delete(it) => client.delete_session(&it.client).await?,
    };
    told(done, false, out)
}

async fn get(client: &Client, it: &SessionGet, out: &Output) -> anyhow::Result<()> {
    let mut session = client.session(&it.client).await?;
    if let Some(key) = &it.key {
        // What is not there is null, as in JSON.
        return out.json(&session.remove(key).unwrap_or_else(|| Value::Null.into()));
    }
    if out.is_json() {
        return out.json(&session);
    }
    if session.is_empty() {
        out.none("keys in this session");
        return Ok(());
    }
    let rows = session
        .iter()
        .map(|(key, value)| vec![key.clone(), value.to_string()]);
    out.table(&["KEY", "VALUE"], rows.collect())
}

fn entries(text: &str) -> Result<SessionEntries, Error> {
    serde_json::from_str(text).map_err(|error| {
        let like = suggested(text).unwrap_or_else(|| "'{\"cart\":[1,2]}'".to_owned());
        Error::Setting(format!(
            "the entries are not a JSON object: {error}; like {like} is right"
        ))
    })
}

/// What `key=value` would be as JSON, quoted for a shell.
fn suggested(text: &str) -> Option<String> {
    let (key, value) = text.split_once('=')?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    let object = Value::from_iter([(key.to_owned(), value)]).to_string();
    Some(format!("'{}'", object.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_refused_with_what_would_be() {
        for (text, like) in [
            ("a=1", r#"'{"a":1}'"#),
            ("name=Ann", r#"'{"name":"Ann"}'"#),
            ("it=Ann's", r#"'{"it":"Ann'\''s"}'"#),
            ("[1]", r#"'{"cart":[1,2]}'"#),
        ] {
            let error = entries(text).expect_err(text).to_string();
            assert!(error.contains(like), "{error}");
        }
        assert!(entries("{}").is_ok());
    }
}
