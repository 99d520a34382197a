//! `tidegate request`

use std::io::IsTerminal;
use std::time::Duration;

use tidegate_client::{Client, Message};

use super::argument_or_input;
use super::output::Output;
use crate::cli::client as cli;

/// Of the time of a request so much at most is for its way.
const ANSWER: Duration = Duration::from_millis(500);

pub(super) async fn run(
    client: &Client,
    it: &cli::RequestArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    let payload = match &it.text {
        // Nobody has typed an argument and nothing is piped in: there is nothing to say.
        None if std::io::stdin().is_terminal() => Vec::new(),
        text => argument_or_input(text.as_ref())?,
    };
    let payload = Message::of_bytes(payload);
    let whole = it.connect.timeout();
    // Word that the handler was too slow has to come back in time.
    let within = (whole - (whole / 10).min(ANSWER)).max(Duration::from_millis(1));
    let reply = match &it.key {
        Some(key) => {
            client
                .request_with_key(&it.name, payload, within, key)
                .await?
        }
        None => client.request(&it.name, payload, within).await?,
    };
    if out.is_json() {
        return out.json(&reply);
    }
    // Programs get the bytes as they are; a person's terminal is not written to by a stranger.
    match reply {
        Message::Text(text) if std::io::stdout().is_terminal() => {
            text.split('\n').try_for_each(|line| out.line(line))
        }
        reply @ (Message::Text(_) | Message::Binary(_)) => out.bytes(&reply.into_bytes()),
    }
}
