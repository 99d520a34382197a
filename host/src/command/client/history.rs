//! `tidegate history`: what the cluster runs for the tenant, where, and what it ran.

use tidegate_client::{Client, DeployedAt, Deployment, Release};

use super::deploy::tenant;
use super::output::{Output, ago};
use crate::cli::client::deploy as cli;

/// So much of a hash tells versions apart, and is enough for `--to`.
pub(super) const SHORT: usize = 12;

pub(super) async fn run(
    client: &Client,
    it: &cli::HistoryArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    tenant(client, &it.of).await?;
    let deployment = client.deployment().await?;
    if let Some(warning) = deployment.warning() {
        out.partial(&warning);
    }
    if out.is_json() {
        return out.json(&deployment);
    }
    if deployment.releases.is_empty() {
        let tenant = &deployment.tenant;
        out.line(&format!(
            "the tenant {tenant} was never deployed to the cluster"
        ))?;
    } else {
        let header = ["VERSION", "STATE", "WHEN", "BY", "FILE", "WHY"];
        out.table(&header, deployment.releases.iter().map(row).collect())?;
    }
    if deployment.under_way {
        out.warn("an order is being carried out; its outcome will stand here");
    }
    for line in behind(&deployment).into_iter().chain(failing(&deployment)) {
        out.warn(&line);
    }
    Ok(())
}

fn row(release: &Release) -> Vec<String> {
    let canary = release.canary.as_ref().map(|canary| {
        let (percent, clients) = (canary.percent, canary.clients.len());
        format!("{percent} % and {clients} chosen clients")
    });
    let why = release.reason.clone().or(canary);
    vec![
        short(&release.version),
        release.fate.to_string(),
        format!("{} ago", ago(release.at)),
        release.by.clone(),
        release.source.clone(),
        why.unwrap_or_default(),
    ]
}

/// The beginning of a version's hash.
pub(super) fn short(version: &str) -> String {
    version.chars().take(SHORT).collect()
}

/// Workers that do not run what they should.
pub(super) fn behind(deployment: &Deployment) -> Vec<String> {
    let behind = deployment.workers.iter().filter(|it| it.behind);
    behind.map(|it| lags(it, deployment)).collect()
}

/// Workers at which the version that some clients try does badly.
pub(super) fn failing(deployment: &Deployment) -> impl Iterator<Item = String> {
    deployment.workers.iter().filter_map(|it| {
        let (worker, failing) = (&it.worker, it.failing.as_ref()?);
        Some(format!(
            "the version that some clients try does badly at the worker {worker}: {failing}"
        ))
    })
}

fn lags(worker: &DeployedAt, deployment: &Deployment) -> String {
    let name = &worker.worker;
    let version = worker.version.as_deref().map(short);
    let runs = version.map_or("nothing".to_owned(), |version| format!("version {version}"));
    let why = worker.trouble.as_ref().map(|why| format!(": {why}"));
    let why = why.unwrap_or_default();
    let is_right = worker.version == deployment.version && worker.canary == deployment.canary;
    if is_right && worker.version.is_some() {
        return format!("the worker {name} runs {runs} as it should, but has trouble{why}");
    }
    format!("the worker {name} lags behind, it runs {runs}{why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_runs_the_right_version_does_not_lag_behind_with_it() {
        let deployment = serde_json::json!({
            "tenant": "t", "generation": 3, "version": "abc", "canary": null,
            "under_way": false, "releases": [], "workers": [
                {"worker": "w1", "generation": 2, "version": "abc", "behind": true, "trouble": "disk full"},
                {"worker": "w2", "generation": 2, "version": "old", "behind": true, "trouble": "disk full"},
                {"worker": "w3", "generation": 3, "version": "abc", "behind": false},
            ],
        });
        let deployment: Deployment = serde_json::from_value(deployment).unwrap();
        assert_eq!(
            behind(&deployment),
            [
                "the worker w1 runs version abc as it should, but has trouble: disk full",
                "the worker w2 lags behind, it runs version old: disk full"
            ]
        );
    }
}
