//! The commands that ask a running gateway through its Client API: connection, exit codes. One
//! file for each command.

mod clients;
mod connect;
mod deploy;
mod feed;
mod groups;
mod history;
mod kick;
mod output;
mod request;
mod send;
mod session;
mod status;
mod trial;
mod uids;

use std::io::{Read, Write};

use anyhow::Context;
use tidegate_client::{Error, ErrorName};

use crate::cli::client::ClientCommand;
use output::Output;

/// It did what it was told.
const DONE: u8 = 0;
/// No answer, or a refusal.
const FAILED: u8 = 1;
/// Arguments that cannot be right.
const WRONG: u8 = 2;
/// The answer is printed but some gateways gave nothing to it.
const PARTIAL: u8 = 3;
/// No such client is connected.
const OFFLINE: u8 = 4;

/// Standard input and files are read up to this.
const INPUT_BYTES_MAX: u64 = 8 << 20;

/// Runs one command to its end; gives the exit code.
#[must_use]
pub fn run(command: &ClientCommand) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started");
    let mut out = Output::new(command.connect().json);
    let result = runtime.and_then(|runtime| {
        let result = runtime.block_on(go(command, &mut out));
        // Nobody waits for the look-up of a name that was not answered in time.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => DONE,
        Err(error) => {
            // Programs read standard output alone. It may be gone; the exit code says it too.
            let _ = out.failure(&error);
            let hint = hint(command, &error);
            let _ = writeln!(std::io::stderr(), "error: {error:#}{hint}");
            code_of(&error)
        }
    }
}

async fn go(command: &ClientCommand, out: &mut Output) -> anyhow::Result<u8> {
    let environment = |name: &str| std::env::var(name).ok();
    let client = connect::client(command.connect(), environment)?;
    // However many calls it takes. Lists are as long as they are, and deploys are followed.
    let whole = client.ending_within(command.connect().timeout());
    match command {
        ClientCommand::Send(it) => send::run(&whole, it, out).await?,
        ClientCommand::Clients(it) => clients::run(&client, it, out).await?,
        ClientCommand::Groups(it) => groups::run(&client, it, out).await?,
        ClientCommand::Uids(it) => uids::run(&client, it, out).await?,
        ClientCommand::Session(it) => session::run(&whole, it, out).await?,
        ClientCommand::Kick(it) => kick::run(&whole, it, out).await?,
        ClientCommand::Request(it) => request::run(&whole, it, out).await?,
        ClientCommand::Status(it) => status::run(&whole, it, out).await?,
        ClientCommand::Feed(it) => feed::run(&client, it, out).await?,
        ClientCommand::Deploy(it) => deploy::deploy(&client, it, out).await?,
        ClientCommand::Rollback(it) => deploy::rollback(&client, it, out).await?,
        ClientCommand::Promote(it) => deploy::promote(&client, it, out).await?,
        ClientCommand::Withdraw(it) => deploy::withdraw(&client, it, out).await?,
        ClientCommand::History(it) => history::run(&whole, it, out).await?,
    }
    Ok(if out.is_partial() { PARTIAL } else { DONE })
}

/// What helps beside what is wrong.
fn hint(command: &ClientCommand, error: &anyhow::Error) -> &'static str {
    let error = error.downcast_ref();
    let key = if let ClientCommand::Send(it) = command {
        Some(&it.key)
    } else if let ClientCommand::Request(it) = command {
        Some(&it.key)
    } else {
        None
    };
    let is_open = match error {
        Some(Error::Deadline { .. } | Error::Unreachable { unsent: false, .. }) => true,
        Some(Error::Refused(problem)) => problem.status == 504,
        Some(_) | None => false,
    };
    if let Some(key) = key.filter(|_| is_open) {
        return match key {
            Some(_) => {
                "; it may have been done, or be done yet: under the same --key it is not done twice"
            }
            None => {
                "; it may have been done: only under a --key can it be repeated without being done twice"
            }
        };
    }
    match error {
        Some(Error::Unreachable { unsent: false, .. }) => {
            "; it took the connection and gave no answer: --api or TIDEGATE_API is the URL of a gateway's \
             `api.listen`, and a port for nodes, like `register.listen`, does so"
        }
        Some(Error::Unreachable { .. }) => {
            "; --api or TIDEGATE_API is the URL of a gateway's `api.listen`"
        }
        Some(Error::Refused(problem)) if problem.status == 401 => {
            "; tokens are those of [[api-token]] in that gateway's configuration"
        }
        Some(_) | None => "",
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Setting(_)) => WRONG,
        Some(error) if error.name() == Some(ErrorName::Offline) => OFFLINE,
        // What was asked for is not there, however well it was asked.
        Some(Error::Refused(problem)) if problem.status == 404 => FAILED,
        Some(error) if error.name() == Some(ErrorName::InvalidArgument) => WRONG,
        Some(_) | None => FAILED,
    }
}

/// Whoever reads the output has had enough, like `head`.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// An argument, or standard input if there is none.
fn argument_or_input(argument: Option<&String>) -> anyhow::Result<Vec<u8>> {
    if let Some(text) = argument {
        return Ok(text.clone().into_bytes());
    }
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(INPUT_BYTES_MAX + 1);
    input.read_to_end(&mut bytes).context("standard input")?;
    let length = bytes.len() as u64;
    anyhow::ensure!(
        length <= INPUT_BYTES_MAX,
        "standard input has more than {INPUT_BYTES_MAX} bytes"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests;
