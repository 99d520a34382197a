//! `tidegate status`

use serde_json::json;
use tidegate_client::{Client, Deployment, Error};

use super::history::{behind, short};
use super::output::Output;
use crate::cli::client as cli;

pub(super) async fn run(client: &Client, _: &cli::Status, out: &mut Output) -> anyhow::Result<()> {
    let status = client.status().await?;
    // It comes from the register, without which everything else goes on.
    let deployment = client.deployment().await;
    if out.is_json() {
        let mut all = serde_json::to_value(&status)?;
        if let Some(members) = all.as_object_mut() {
            let deployment = deployment.ok().map(|mut it| {
                // They have a command of their own.
                it.releases.clear();
                it
            });
            members.insert("deployment".to_owned(), json!(deployment));
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
        out.table(&["tenant", &status.tenant], rows)?;
        for line in deployment.iter().flat_map(behind) {
            out.warn(&line);
        }
    }
    out.without(&status.missing);
    Ok(())
}

fn deployed(deployment: &Result<Deployment, Error>) -> String {
    let it = match deployment {
        Ok(it) => it,
        Err(error) => return format!("unknown: {error}"),
    };
    let Some(version) = &it.version else {
        return "nothing; workers run their own file".to_owned();
    };
    let canary = it.canary.as_ref();
    let canary = canary.map(|it| format!(", some clients try {}", short(it)));
    let workers = it.workers.iter().filter(|it| !it.behind).count();
    let (all, generation) = (it.workers.len(), it.generation);
    format!(
        "{} at {workers} of {all} workers, generation {generation}{}",
        short(version),
        canary.unwrap_or_default()
    )
}
