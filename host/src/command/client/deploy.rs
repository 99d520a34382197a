//! `tidegate deploy`, `rollback`, `promote`, `withdraw`: a line for each thing that happens, until it
//! is done or has failed; with `deploy --wait` until the trial is over. Whoever interrupts the command undoes nothing.

use std::io::Read;
use std::path::Path;
use std::pin::pin;

use anyhow::Context;
use futures_util::{Stream, TryStreamExt};
use tidegate_client::{Client, Deploy, DeployProgress, Error, ErrorName, Problem};

use super::output::Output;
use super::trial;
use crate::cli::client::deploy as cli;

/// What serves now.
pub(super) struct Done {
    pub(super) generation: u64,
    pub(super) version: String,
    /// How many workers have switched.
    pub(super) workers: u32,
    pub(super) trial: bool,
}

/// A larger file is no component that a cluster takes.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;

pub(super) async fn deploy(
    client: &Client,
    it: &cli::DeployArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    let component = component(&it.plugin)?;
    let whose = tenant(client, &it.to).await?;
    let name = it.plugin.file_name().unwrap_or_default();
    let source = name.to_string_lossy().into_owned();
    if !out.is_json() {
        let bytes = component.len();
        out.line(&format!("{source}, {bytes} bytes, for the tenant {whose}"))?;
    }
    let progress = client.deploy(Deploy {
        component,
        source,
        canary_percent: it.canary_percent,
        canary_clients: it.canary_client.clone(),
        canary_uids: it.canary_uid.clone(),
        canary_seconds: it.canary_seconds,
    });
    let done = follow(progress.await?, out).await?;
    match done {
        Some(done) if it.wait => trial::wait(client, &done, out).await,
        Some(done) if done.trial && !out.is_json() => out.line(
            "it is on trial: if it crosses a bound it is taken back by itself; `tidegate history` says \
             what came of it, and `deploy --wait` waits for that",
        ),
        Some(_) | None => Ok(()),
    }
}

pub(super) async fn rollback(
    client: &Client,
    it: &cli::RollbackArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    tenant(client, &it.of).await?;
    follow(client.rollback(it.to.as_deref()).await?, out).await?;
    Ok(())
}

pub(super) async fn promote(
    client: &Client,
    it: &cli::PromoteArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    tenant(client, &it.of).await?;
    follow(client.promote().await?, out).await?;
    Ok(())
}

pub(super) async fn withdraw(
    client: &Client,
    it: &cli::WithdrawArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    tenant(client, &it.of).await?;
    follow(client.withdraw().await?, out).await?;
    Ok(())
}

/// The token's tenant, which must be the one that was named.
pub(super) async fn tenant(client: &Client, of: &cli::For) -> anyhow::Result<String> {
    let own = client.status().await?.tenant;
    match &of.tenant {
        Some(named) if *named != own => {
            let message = format!("the token is of the tenant `{own}`, not of `{named}`");
            Err(Error::Setting(message).into())
        }
        Some(_) | None => Ok(own),
    }
}

fn component(file: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    let failed = |error| Error::Setting(format!("cannot read the plugin {shown}: {error}"));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(failed)?;
    let mut limited = opened.take(COMPONENT_BYTES_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > COMPONENT_BYTES_MAX {
        let message = format!(
            "{shown} has more than {COMPONENT_BYTES_MAX} bytes (64 MiB), the limit of a component"
        );
        return Err(Error::Setting(message).into());
    }
    Ok(bytes)
}

async fn follow(
    progress: impl Stream<Item = Result<DeployProgress, Error>>,
    out: &Output,
) -> anyhow::Result<Option<Done>> {
    let mut done = None;
    let mut progress = pin!(progress);
    while let Some(told) = progress.try_next().await? {
        match out.is_json() {
            true => out.json(&told)?,
            false => say(&told, out)?,
        }
        match told {
            DeployProgress::Failed {
                status,
                error,
                detail,
                retryable,
            } => {
                out.failure_is_told();
                return Err(failed(status, error, detail, retryable).into());
            }
            DeployProgress::Done {
                generation,
                version: Some(version),
                workers,
                trial,
            } => {
                done = Some(Done {
                    generation,
                    version,
                    workers,
                    trial,
                });
            }
            DeployProgress::Done { version: None, .. }
            | DeployProgress::Uploaded { .. }
            | DeployProgress::Worker { .. }
            | DeployProgress::Waiting { .. }
            | DeployProgress::Decided { .. } => {}
        }
    }
    Ok(done)
}

pub(super) fn failed(status: u16, error: ErrorName, detail: String, retryable: bool) -> Error {
    Error::Refused(Box::new(Problem {
        kind: "about:blank".to_owned(),
        title: String::new(),
        status,
        detail,
        error,
        retryable,
    }))
}

fn say(told: &DeployProgress, out: &Output) -> anyhow::Result<()> {
    match told {
        DeployProgress::Uploaded { .. } => out.line("the register has it"),
        DeployProgress::Worker {
            worker,
            step,
            reason,
        } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}"));
            out.line(&format!("{worker}  {step}{}", reason.unwrap_or_default()))
        }
        DeployProgress::Waiting { at_most_ms } => {
            let seconds = at_most_ms.div_ceil(1000);
            out.line(&format!(
                "the register has just started, or was cut off: waiting up to {seconds} s for workers \
                 to find the way back"
            ))
        }
        DeployProgress::Decided { generation } => {
            out.line(&format!("decided: generation {generation}"))
        }
        DeployProgress::Done {
            version: Some(version),
            workers,
            ..
        } => {
            let plural = if *workers == 1 { "" } else { "s" };
            out.line(&format!("done: {version} at {workers} worker{plural}"))
        }
        DeployProgress::Done { version: None, .. } => out.line(
            "done: the cluster names no version; workers run on, and begin with their own file at \
                 their next start: one that has none serves nothing then",
        ),
        // Told with the exit code.
        DeployProgress::Failed { .. } => Ok(()),
    }
    .context("standard output")
}
