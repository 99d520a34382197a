//! What an order means for the state as it is: what is to be prepared and decided, or why not.

use tidegate_wire::deploy::{
    CANARY_CLIENTS_MAX, COMPONENT_BYTES_MAX, CanaryPlan, DeployError, DeployOrder, Deployed,
    Desired, Fate, Order, Release, is_version,
};
use tidegate_wire::{NAME_BYTES_MAX, Name, is_name};

use crate::change::{Candidate, Change, again, before, has_room, with_prefix};

/// What is to be done for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// All prepare it, then it is decided.
    Prepare {
        candidate: Candidate,
        change: Change,
        /// Whether the gateway that asks has the bytes.
        upload: bool,
    },
    /// Decided at once; then this version is what the tenant runs.
    Decide { change: Change, version: Name },
    /// It was decided before, in this generation: nothing is left to do, unless its component is lacking
    /// somewhere. The gateway that asks has it.
    Again {
        candidate: Candidate,
        generation: u64,
    },
    /// It is so already, since this generation.
    Nothing { generation: u64, version: Name },
}

/// Finds out. `lingers`: workers still run what was withdrawn.
pub(super) fn resolve(
    order: &Order,
    desired: &Desired,
    lingers: bool,
) -> Result<Target, DeployError> {
    for name in [order.tenant(), order.by()] {
        if !is_name(name) {
            let text = format!("tenant and asker have names of 1 to {NAME_BYTES_MAX} bytes");
            return Err(DeployError::Invalid(text));
        }
    }
    let deployed = desired.tenants.get(order.tenant());
    match order {
        Order::Deploy {
            order,
            version,
            bytes,
        } => deploy(order, version, *bytes, desired),
        Order::Rollback { tenant, to, by } => {
            let known = deployed.ok_or_else(|| not_deployed(tenant))?;
            rollback(known, tenant, to.as_deref(), by, lingers)
        }
        Order::Promote { tenant, .. } => {
            let known = deployed.ok_or_else(|| not_deployed(tenant))?;
            let (release, _) = known.canary().ok_or_else(|| DeployError::NoCanary {
                tenant: tenant.clone(),
            })?;
            Ok(Target::Decide {
                change: Change::Promote,
                version: release.version.clone(),
            })
        }
        Order::Withdraw { tenant, .. } => {
            let known = deployed.ok_or_else(|| not_deployed(tenant))?;
            let is_taken_back = |it: &Release| matches!(it.fate, Fate::RolledBack(_));
            let is_unnamed = known.current().is_none() && known.canary().is_none();
            // Whoever withdraws what was taken back has workers forget it.
            if is_unnamed && !known.counting().any(is_taken_back) {
                // It is so already.
                let served = known.releases.iter().find(|it| it.has_served());
                let served = served.ok_or_else(|| not_deployed(tenant))?;
                return Ok(Target::Nothing {
                    generation: served.generation,
                    version: "".into(),
                });
            }
            Ok(Target::Decide {
                change: Change::Withdraw,
                version: "".into(),
            })
        }
    }
}

fn not_deployed(tenant: &Name) -> DeployError {
    DeployError::NotDeployed {
        tenant: tenant.clone(),
    }
}

fn deploy(
    order: &DeployOrder,
    version: &Name,
    bytes: u64,
    desired: &Desired,
) -> Result<Target, DeployError> {
    let tenant = &order.tenant;
    if bytes > COMPONENT_BYTES_MAX {
        let limit = COMPONENT_BYTES_MAX;
        return Err(DeployError::TooLarge { bytes, limit });
    }
    if bytes == 0 || !is_version(version) || !is_name(&order.source) {
        let text = "a component has bytes, their hash as its version, and a file's name";
        return Err(DeployError::Invalid(text.to_owned()));
    }
    if let Some(plan) = &order.canary {
        check(plan)?;
    }
    if !has_room(desired, tenant) {
        return Err(DeployError::TooManyTenants(desired.tenants.len() as u64));
    }
    let candidate = Candidate {
        version: version.clone(),
        source: order.source.clone(),
        bytes,
        by: order.by.clone(),
        canary: order.canary.clone(),
    };
    if let Some(deployed) = desired.tenants.get(tenant) {
        apart_from_canary(deployed, tenant)?;
        if let Some(current) = deployed.current().filter(|it| it.version == *version) {
            if order.canary.is_some() {
                return Err(already(tenant, version));
            }
            return Ok(Target::Again {
                candidate,
                generation: current.generation,
            });
        }
    }
    Ok(Target::Prepare {
        change: Change::Serve(candidate.clone()),
        candidate,
        upload: true,
    })
}

fn check(plan: &CanaryPlan) -> Result<(), DeployError> {
    let text = if plan.percent > 100 {
        "a canary gets at most 100 percent of the clients".to_owned()
    } else if plan.clients.len() > CANARY_CLIENTS_MAX {
        format!("a canary names at most {CANARY_CLIENTS_MAX} clients")
    } else if plan.percent == 0 && plan.clients.is_empty() {
        "a canary for nobody: name clients or a percentage".to_owned()
    } else {
        return Ok(());
    };
    Err(DeployError::Invalid(text))
}

fn rollback(
    deployed: &Deployed,
    tenant: &Name,
    to: Option<&str>,
    by: &Name,
    lingers: bool,
) -> Result<Target, DeployError> {
    let why = format!("rolled back by {by}");
    if deployed.canary().is_some() && to.is_none() {
        let current = deployed.current().map(|release| release.version.clone());
        return Ok(Target::Decide {
            change: Change::GiveUp(why),
            version: current.unwrap_or_else(|| "".into()),
        });
    }
    apart_from_canary(deployed, tenant)?;
    let release = match to {
        Some(prefix) => with_prefix(deployed, tenant, prefix)?,
        None => before(deployed, lingers).ok_or_else(|| {
            // What never served can neither be gone back from nor withdrawn.
            let served = deployed.releases.iter().any(Release::has_served);
            let tenant = tenant.clone();
            match served {
                true => DeployError::NothingBefore { tenant },
                false => DeployError::NotDeployed { tenant },
            }
        })?,
    };
    let version = &release.version;
    if deployed.current().is_some_and(|it| it.version == *version) {
        return Err(already(tenant, version));
    }
    let candidate = again(release, by.clone());
    Ok(Target::Prepare {
        change: Change::Return(candidate.clone(), why),
        candidate,
        upload: false,
    })
}

fn already(tenant: &Name, version: &Name) -> DeployError {
    DeployError::Already {
        tenant: tenant.clone(),
        version: version.clone(),
    }
}

fn apart_from_canary(deployed: &Deployed, tenant: &Name) -> Result<(), DeployError> {
    match deployed.canary() {
        Some((release, _)) => Err(DeployError::CanaryUnderWay {
            tenant: tenant.clone(),
            version: release.version.clone(),
        }),
        None => Ok(()),
    }
}
