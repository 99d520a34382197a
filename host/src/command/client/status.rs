//! `tidegate status`

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_client::{AnsweredBy, Client, Deployment, Error, Fate, ScheduleInfo, Tasks};
use tidegate_schedule::rfc3339;

use super::history::{SHORT, behind, failing, short};
use super::output::Output;
use crate::cli::client as cli;

pub(super) async fn run(
    client: &Client,
    _: &cli::StatusArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    let status = client.status().await?;
    // It comes from the register, without which everything else goes on.
    let deployment = client.deployment().await;
    match &deployment {
        Ok(deployment) => {
            if let Some(warning) = deployment.warning() {
                out.partial(&warning);
            }
        }
        Err(error) => out.partial(&format!("what is deployed is not known: {error}")),
    }
    let schedules = match client.schedules().await {
        Ok(it) => it.schedules,
        Err(error) => {
            out.partial(&format!("the schedules are not known: {error}"));
            Vec::new()
        }
    };
    let tasks = match client.tasks(None).await {
        Ok(it) => Some(it),
        Err(error) => {
            out.partial(&format!("the tasks are not known: {error}"));
            None
        }
    };
    if out.is_json() {
        let mut all = serde_json::to_value(&status)?;
        if let Some(members) = all.as_object_mut() {
            let deployment = deployment.ok().map(|mut it| {
                // They have a command of their own.
                it.releases.clear();
                it
            });
            members.insert("deployment".to_owned(), json!(deployment));
            members.insert("schedules".to_owned(), json!(schedules));
            members.insert("tasks".to_owned(), json!(tasks));
        }
        out.json(&all)?;
    } else {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = vec![
            row("answered by", status.gateway),
            row("version", status.version),
            row("gateways", status.gateways.join(", ")),
            row("clients", status.clients.to_string()),
        ];
        rows.push(row("deployed", deployed(&deployment)));
        if let Some(it) = &tasks {
            rows.push(row("tasks", of_tasks(it)));
        }
        let schedules = schedules.iter();
        rows.extend(schedules.map(|it| row(&format!("schedule {}", it.name), schedule(it))));
        out.table(&["tenant", &status.tenant], rows)?;
        if let Some(why) = &status.unserved {
            out.warn(&format!(
                "no event of the tenant is handled at this gateway: {why}"
            ));
        }
        for failing in &status.failing {
            out.warn(&format!("something fails at this gateway: {failing}"));
        }
        if let Some(why) = &status.router_fault {
            out.warn(&format!(
                "the router of the tenant fails at this gateway, and events go where `bind` sends them: {why}"
            ));
        }
        if deployment.as_ref().is_ok_and(|it| it.under_way) {
            out.warn("an order is being carried out: `tidegate history` will say what came of it");
        }
        let lines = deployment.iter().flat_map(behind);
        for line in lines.chain(deployment.iter().flat_map(failing)) {
            out.warn(&line);
        }
    }
    out.without(&status.missing);
    Ok(())
}

fn of_tasks(it: &Tasks) -> String {
    match (it.under_way, it.waiting) {
        (0, 0) => "none".to_owned(),
        (under_way, waiting) => format!(
            "{under_way} under way, {waiting} waiting, the oldest for {} s",
            it.oldest_ms / 1_000
        ),
    }
}

fn schedule(it: &ScheduleInfo) -> String {
    let time = |at_ms: u64| rfc3339(i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX));
    let last = it.last_at.map_or("none yet".to_owned(), time);
    let next = it.next_at.map_or("never".to_owned(), time);
    let running = it
        .running_at
        .map(|at_ms| format!(", running that of {}", time(at_ms)));
    format!(
        "{} {}, last {last}, next {next}{}",
        it.cron,
        it.time_zone,
        running.unwrap_or_default()
    )
}

fn deployed(deployment: &Result<Deployment, Error>) -> String {
    let it = match deployment {
        Ok(it) => it,
        Err(error) => return format!("unknown: {error}"),
    };
    let Some(version) = &it.version else {
        return unnamed(it);
    };
    let canary = it.canary.as_ref();
    let canary = canary.map(|it| format!(", some clients try {}", short(it)));
    let workers = it.workers.iter().filter(|it| !it.behind).count();
    let generation = it.generation;
    let at = match it.answered_by {
        AnsweredBy::Register | AnsweredBy::OtherRegister => {
            format!("at {workers} of {}", seen(it))
        }
        AnsweredBy::Gateway => "at workers that are not known".to_owned(),
    };
    format!(
        "{} {at}, generation {generation}{}",
        short(version),
        canary.unwrap_or_default()
    )
}

/// Of how many workers is told what they run.
fn seen(it: &Deployment) -> String {
    let so_far = if it.settles_in_ms > 0 {
        " seen so far"
    } else {
        ""
    };
    format!("{} workers{so_far}", it.workers.len())
}

/// What really runs where the cluster names nothing.
fn unnamed(it: &Deployment) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for worker in &it.workers {
        *counts
            .entry(worker.version.as_deref().unwrap_or_default())
            .or_default() += 1;
    }
    let all = seen(it);
    let withdrawn = |version: &str| {
        let mut known = it.releases.iter();
        let release = known.find(|it| it.version == version);
        release.is_some_and(|it| it.fate == Fate::Withdrawn)
    };
    let parts = counts.iter().map(|(version, count)| match *version {
        "" => format!("nothing serves at {count} of {all}"),
        version if withdrawn(version) => format!(
            "{}, withdrawn, at {count} of {all} until their next start",
            short(version)
        ),
        version => format!("{}, their own file, at {count} of {all}", short(version)),
    });
    let mut parts: Vec<String> = parts.collect();
    let trying = it.workers.iter().filter_map(|it| it.canary.as_deref());
    let mut trying: Vec<&str> = trying
        .map(|version| version.get(..SHORT).unwrap_or(version))
        .collect();
    trying.sort_unstable();
    trying.dedup();
    parts.extend(
        trying
            .iter()
            .map(|version| format!("some clients try {version}, of a file")),
    );
    match parts.is_empty() {
        true => "nothing is named, and no worker has told what it runs".to_owned(),
        false => format!("nothing is named; what runs: {}", parts.join("; ")),
    }
}
