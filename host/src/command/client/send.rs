//! `tidegate send`

use std::io::IsTerminal;

use anyhow::Context;
use tidegate_client::{Client, Done, DoneStatus, Message, Selector, Send};

use super::argument_or_input;
use super::output::Output;
use crate::cli::client::{self as cli, Which};

pub(super) async fn run(
    client: &Client,
    it: &cli::SendArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    if it.text.is_none() && std::io::stdin().is_terminal() {
        out.note("the message is read from here until Ctrl-D");
    }
    let bytes = argument_or_input(it.text.as_ref())?;
    let message = if it.binary {
        Message::Binary(bytes)
    } else {
        let text = String::from_utf8(bytes);
        Message::Text(text.context("standard input is not UTF-8: send it with --binary")?)
    };
    let mut to = selectors(&it.which);
    if it.everyone {
        to.push(Selector::everyone());
    }
    let mut send = Send::new(to, message);
    send.except.clone_from(&it.except);
    send.raw = it.raw;
    send.latest.clone_from(&it.latest);
    let done = match &it.key {
        Some(key) => client.send_with_key(&send, key).await?,
        None => client.send(&send).await?,
    };
    told(done, it.key.is_some(), out)
}

/// What is given of clients, uids and groups.
pub(super) fn selectors(which: &Which) -> Vec<Selector> {
    let mut selectors = Vec::new();
    if !which.client.is_empty() {
        selectors.push(Selector::clients(which.client.iter().cloned()));
    }
    if !which.uid.is_empty() {
        selectors.push(Selector::uids(which.uid.iter().cloned()));
    }
    if !which.group.is_empty() {
        selectors.push(Selector::groups(which.group.iter().cloned()));
    }
    selectors
}

/// Says that something is done.
pub(super) fn told(done: Done, keyed: bool, out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        return out.json(&done);
    }
    match done.status {
        DoneStatus::Repeated if keyed => out.line("done before, under the same key"),
        DoneStatus::Done | DoneStatus::Repeated => out.line("done"),
    }
}
