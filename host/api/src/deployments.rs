//! Deploys of the cluster → the API's types; refusals of an order → problems.

use axum::http::StatusCode;
use tidegate_client::{
    AnsweredBy, Canary, DeployProgress, DeployStep, DeployedAt, Deployment, ErrorName, Fate,
    Release,
};
use tidegate_deploy::{
    self as cluster, CanaryPlan, DeployError, Deployed, Overview, Progress, Running, Step, Teller,
    WorkerState,
};
use tidegate_wire::Name;

use crate::problem::{ApiRefusal, is_retryable};

/// What is to be and what is, of one tenant.
pub(crate) fn deployment(tenant: &Name, overview: &Overview, teller: Teller) -> Deployment {
    let desired = &overview.desired;
    let deployed = desired.tenants.get(tenant);
    let version = deployed.and_then(Deployed::current).map(|it| &it.version);
    let canary = deployed.and_then(Deployed::canary);
    let canary = canary.map(|(release, _)| &release.version);
    let releases = deployed.map(|it| &it.releases);
    let mut workers: Vec<DeployedAt> = overview
        .workers
        .iter()
        .filter_map(|worker| deployed_at(worker, tenant, version, canary))
        .collect();
    workers.sort_by(|a, b| a.worker.cmp(&b.worker));
    Deployment {
        tenant: tenant.to_string(),
        generation: desired.generation,
        version: version.map(ToString::to_string),
        canary: canary.map(ToString::to_string),
        under_way: overview.under_way.as_ref() == Some(tenant),
        releases: releases.into_iter().flatten().map(release).collect(),
        workers,
        answered_by: match teller {
            Teller::First => AnsweredBy::Register,
            Teller::Other => AnsweredBy::OtherRegister,
            Teller::Own => AnsweredBy::Gateway,
        },
        settles_in_ms: overview.settles_in_ms,
    }
}

fn deployed_at(
    worker: &WorkerState,
    tenant: &Name,
    version: Option<&Name>,
    canary: Option<&Name>,
) -> Option<DeployedAt> {
    let Running {
        serving,
        canary: tried,
        trial,
        trouble,
        failing,
        ..
    } = worker.running.iter().find(|it| it.tenant == *tenant)?;
    let is_right = version.is_none_or(|version| serving.as_ref() == Some(version))
            // Where the cluster names nothing a canary is of the worker's own file.
            && (tried.as_ref() == canary || version.is_none() && canary.is_none());
    Some(DeployedAt {
        worker: worker.worker.to_string(),
        generation: worker.generation,
        version: serving.as_ref().map(ToString::to_string),
        canary: tried.as_ref().map(ToString::to_string),
        trial: *trial,
        behind: !is_right || trouble.is_some(),
        trouble: trouble.clone(),
        failing: failing.clone(),
    })
}

fn release(release: &cluster::Release) -> Release {
    let (fate, reason, canary) = match &release.fate {
        cluster::Fate::Active => (Fate::Active, None, None),
        cluster::Fate::Canary(plan) => (Fate::Canary, None, Some(self::canary(plan))),
        cluster::Fate::Replaced => (Fate::Replaced, None, None),
        cluster::Fate::RolledBack(reason) => (Fate::RolledBack, Some(reason.clone()), None),
        cluster::Fate::Failed(reason) => (Fate::Failed, Some(reason.clone()), None),
        cluster::Fate::Withdrawn => (Fate::Withdrawn, None, None),
    };
    Release {
        generation: release.generation,
        version: release.version.to_string(),
        source: release.source.to_string(),
        bytes: release.bytes,
        at: release.at_ms,
        by: release.by.to_string(),
        fate,
        reason,
        canary,
    }
}

fn canary(plan: &CanaryPlan) -> Canary {
    Canary {
        percent: plan.percent,
        clients: plan.clients.iter().map(ToString::to_string).collect(),
        seconds: plan.seconds,
    }
}

/// One event.
pub(crate) fn progress(progress: &Progress) -> DeployProgress {
    match progress {
        Progress::Uploaded { bytes } => DeployProgress::Uploaded { bytes: *bytes },
        Progress::Worker { worker, step } => {
            let (step, reason) = match step {
                Step::Fetched => (DeployStep::Fetched, None),
                Step::Compiled => (DeployStep::Compiled, None),
                Step::Started => (DeployStep::Started, None),
                Step::Switched => (DeployStep::Switched, None),
                Step::Failed(reason) => (DeployStep::Failed, Some(reason.clone())),
            };
            DeployProgress::Worker {
                worker: worker.to_string(),
                step,
                reason,
            }
        }
        Progress::Decided { generation } => DeployProgress::Decided {
            generation: *generation,
        },
        Progress::Waiting { at_most_ms } => DeployProgress::Waiting {
            at_most_ms: *at_most_ms,
        },
        Progress::Done {
            generation,
            version,
            workers,
            trial,
        } => DeployProgress::Done {
            generation: *generation,
            version: (!version.is_empty()).then(|| version.to_string()),
            workers: *workers,
            trial: *trial,
        },
        Progress::Failed { reason } => {
            let ApiRefusal {
                status,
                name,
                detail,
            } = refusal(reason);
            DeployProgress::Failed {
                status: status.as_u16(),
                error: name,
                detail,
                retryable: is_retryable(status),
            }
        }
    }
}

/// Why an order was not carried out. What may succeed later by itself is 503 or 504, what needs
/// somebody to change something is another status.
pub(crate) fn refusal(error: &DeployError) -> ApiRefusal {
    let (status, name) = match error {
        DeployError::NoRegister { .. }
        | DeployError::NoWorker
        | DeployError::Stopping
        | DeployError::WorkerLost { .. }
        | DeployError::Upload(_) => (StatusCode::SERVICE_UNAVAILABLE, ErrorName::Other),
        DeployError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, ErrorName::Conflict),
        DeployError::RegisterLost { .. }
        | DeployError::GatewayStopping
        | DeployError::TooSlow { .. } => (StatusCode::GATEWAY_TIMEOUT, ErrorName::Timeout),
        DeployError::NothingBefore { .. }
        | DeployError::NotKept { .. }
        | DeployError::Already { .. }
        | DeployError::NoCanary { .. }
        | DeployError::CanaryUnderWay { .. } => (StatusCode::CONFLICT, ErrorName::Conflict),
        DeployError::TenantUnknown { .. }
        | DeployError::Refused { .. }
        | DeployError::TakenBack { .. } => (StatusCode::UNPROCESSABLE_ENTITY, ErrorName::Other),
        DeployError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, ErrorName::InvalidArgument),
        DeployError::NotDeployed { .. } | DeployError::UnknownVersion { .. } => {
            (StatusCode::NOT_FOUND, ErrorName::InvalidArgument)
        }
        DeployError::Ambiguous { .. } | DeployError::Invalid(_) => {
            (StatusCode::BAD_REQUEST, ErrorName::InvalidArgument)
        }
        DeployError::TooManyTenants(_) => (StatusCode::CONFLICT, ErrorName::QuotaExceeded),
        DeployError::Disk(_) => (StatusCode::INSUFFICIENT_STORAGE, ErrorName::Other),
    };
    ApiRefusal::new(status, name, error.to_string())
}

#[cfg(test)]
mod tests {
    use tidegate_wire::id::Incarnation;

    use super::*;

    #[test]
    fn a_canary_of_a_workers_own_file_is_no_lag_and_one_that_the_cluster_does_not_name_is() {
        let worker = |serving: Option<&str>, canary: Option<&str>| WorkerState {
            worker: "w".into(),
            incarnation: Incarnation(1),
            generation: 0,
            running: vec![Running {
                tenant: "t".into(),
                serving: serving.map(Name::from),
                canary: canary.map(Name::from),
                trial: false,
                trouble: None,
                failing: None,
            }],
        };
        let behind = |runs: &WorkerState, version: Option<&Name>, canary: Option<&Name>| {
            let at = deployed_at(runs, &"t".into(), version, canary);
            at.unwrap().behind
        };
        let (one, two) = (Name::from("one"), Name::from("two"));
        assert!(!behind(&worker(Some("file"), Some("next")), None, None));
        assert!(behind(&worker(Some("one"), Some("two")), Some(&one), None));
        assert!(behind(&worker(Some("one"), None), Some(&one), Some(&two)));
        assert!(behind(&worker(Some("file"), None), None, Some(&two)));
        assert!(!behind(
            &worker(Some("one"), Some("two")),
            Some(&one),
            Some(&two)
        ));
    }
}
