//! `tidegate deploy --wait`: how the trial of a version ends.

use std::time::Duration;

use serde_json::json;
use tidegate_client::{AnsweredBy, Client, Deployment, ErrorName, Fate};
use tokio::time::{Instant, sleep};

use super::deploy::{Done, failed};
use super::history::behind;
use super::output::Output;

/// How often is asked.
const ASK: Duration = Duration::from_secs(1);
/// The register, or workers with it, may be away for so long: everything else goes on meanwhile.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// As long as the register gives workers to prepare a version.
const PREPARES_MAX: Duration = Duration::from_secs(300);

/// What became of a version.
enum Now {
    OnTrial,
    Stays,
    /// It stays as far as one can see, but fewer workers are there than have switched: a register that has
    /// just started does not see them all yet.
    StaysWhereSeen,
    /// Workers may be missing for a moment, whatever they do.
    Unsettled,
    /// A worker does not run it, which does not end by itself for certain: how long is waited for that,
    /// and what is said then.
    Behind(Duration, String),
    Ended(Fate, Option<String>),
}

/// Waits until the trial is over; an error unless the version stays.
pub(super) async fn wait(client: &Client, done: &Done, out: &mut Output) -> anyhow::Result<()> {
    if !out.is_json() {
        out.line("waiting until its trial is over")?;
    }
    let mut answered = Instant::now();
    loop {
        match client.deployment().await {
            // Others do not know how the trial goes.
            Ok(deployment) if deployment.answered_by != AnsweredBy::Register => {
                if answered.elapsed() >= AWAY_MAX {
                    let why = deployment.answered_by.warning().unwrap_or_default();
                    return Err(failed(503, ErrorName::Other, why.to_owned(), true).into());
                }
            }
            Ok(deployment) => match now(&deployment, done) {
                Now::OnTrial => answered = Instant::now(),
                Now::StaysWhereSeen if answered.elapsed() < AWAY_MAX => {}
                Now::Unsettled => {}
                Now::Behind(most, _) if answered.elapsed() < most => {}
                Now::Behind(_, why) => {
                    let why = format!("the version is to run, and its trial is not over: {why}");
                    return Err(failed(504, ErrorName::Timeout, why, true).into());
                }
                Now::Stays | Now::StaysWhereSeen => return stays(done, out),
                Now::Ended(fate, why) => return ended(done, fate, why, out),
            },
            Err(error) if answered.elapsed() >= AWAY_MAX => return Err(error.into()),
            Err(error) => tracing::debug!(%error, "the register does not answer"),
        }
        sleep(ASK).await;
    }
}

fn now(deployment: &Deployment, done: &Done) -> Now {
    let mut releases = deployment.releases.iter();
    let Some(release) = releases.find(|it| it.generation == done.generation) else {
        return Now::Ended(Fate::Replaced, None);
    };
    let lagging = behind(deployment).into_iter().next();
    match release.fate {
        Fate::Canary => Now::OnTrial,
        Fate::Active if deployment.workers.iter().any(|it| it.trial) => Now::OnTrial,
        Fate::Active if deployment.settles_in_ms > 0 => Now::Unsettled,
        Fate::Active if deployment.workers.is_empty() => {
            Now::Behind(AWAY_MAX, "no worker has a link to the register".to_owned())
        }
        // A worker that is behind has not tried it yet.
        Fate::Active if lagging.is_some() => {
            let in_trouble = deployment.workers.iter().any(|it| it.trouble.is_some());
            let most = if in_trouble { AWAY_MAX } else { PREPARES_MAX };
            Now::Behind(most, lagging.unwrap_or_default())
        }
        Fate::Active if deployment.workers.len() < done.workers as usize => Now::StaysWhereSeen,
        Fate::Active => Now::Stays,
        fate @ (Fate::Replaced | Fate::RolledBack | Fate::Failed | Fate::Withdrawn) => {
            Now::Ended(fate, release.reason.clone())
        }
    }
}

fn stays(done: &Done, out: &Output) -> anyhow::Result<()> {
    match out.is_json() {
        true => {
            out.json(&json!({ "event": "trial-over", "version": done.version, "fate": "active" }))
        }
        false => out.line("its trial is over: it stays"),
    }
}

fn ended(done: &Done, fate: Fate, why: Option<String>, out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        out.json(&json!({
            "event": "trial-over", "version": done.version, "fate": fate, "reason": why,
        }))?;
        out.failure_is_told();
    }
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let text = if fate == Fate::RolledBack {
        format!("the version was taken back{why}")
    } else {
        format!("the version is {fate}, and its trial was not over{why}")
    };
    Err(failed(409, ErrorName::Conflict, text, false).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(workers: &[(bool, bool)]) -> Deployment {
        let at = |&(trial, behind): &(bool, bool)| json!({ "worker": "w", "generation": 2, "version": "2", "canary": null, "trial": trial, "behind": behind });
        let workers: Vec<_> = workers.iter().map(at).collect();
        let release = json!({
            "generation": 2, "version": "2", "source": "s", "bytes": 1, "at": 1, "by": "b",
            "fate": "active",
        });
        serde_json::from_value(json!({
            "tenant": "t", "generation": 2, "version": "2", "canary": null, "under_way": false,
            "releases": [release], "workers": workers,
        }))
        .unwrap()
    }

    #[test]
    fn a_version_stays_for_certain_only_once_every_worker_that_switched_is_seen() {
        let done = Done {
            generation: 2,
            version: "2".to_owned(),
            workers: 2,
            trial: true,
        };
        let now = |workers: &[(bool, bool)]| now(&deployment(workers), &done);
        let over = (false, false);
        assert!(matches!(now(&[]), Now::Behind(AWAY_MAX, _)));
        assert!(matches!(now(&[over]), Now::StaysWhereSeen));
        assert!(matches!(now(&[over, (true, false)]), Now::OnTrial));
        assert!(matches!(now(&[over, (true, true)]), Now::OnTrial));
        // It may be starting, and is not waited for without end.
        assert!(matches!(
            now(&[over, (false, true)]),
            Now::Behind(PREPARES_MAX, _)
        ));
        assert!(matches!(now(&[over, over]), Now::Stays));
    }
}
