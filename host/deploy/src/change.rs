//! What one decision makes of the desired state.
//!
//! Pure. Guarantees: every change is one generation; at most one release of a tenant serves
//! everybody and one some clients; the history is bounded and never forgets those two.

use tidegate_wire::Name;
use tidegate_wire::deploy::{
    CanaryPlan, DeployError, Deployed, Desired, Fate, HISTORY_MAX, Release, TENANTS_MAX, reason,
};
use tidegate_wire::id::Incarnation;

/// Who it is said to have been when the cluster itself goes back.
const BY_ITSELF: &str = "tidegate";

/// So many of the newest releases are remembered, whether they have served or not.
const FAILED_KEPT: usize = 10;

/// Why a canary ends with the release beside which it was tried.
const WITHDRAWN: &str = "the tenant was withdrawn";

/// Who decides, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision {
    pub(super) writer: Incarnation,
    pub(super) at_ms: u64,
    /// Workers still run what was withdrawn.
    pub(super) lingers: bool,
    /// The version that serves everybody is on trial.
    pub(super) on_trial: bool,
}

/// A version to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) version: Name,
    pub(super) source: Name,
    pub(super) bytes: u64,
    pub(super) by: Name,
    pub(super) canary: Option<CanaryPlan>,
}

/// What is decided about one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Serve this; what served before is replaced.
    Serve(Candidate),
    /// Serve this again; what served before is taken back for this reason.
    Return(Candidate, String),
    /// This was not to be.
    Failed(Candidate, String),
    /// The canary serves everybody.
    Promote,
    /// The canary serves nobody.
    GiveUp(String),
    /// The release that serves everybody failed: the one before it serves again, if there is one.
    TakeBack(String),
    /// A version failed whose place another one took before its trial was over.
    Condemn(Name, String),
    /// The cluster no longer says what serves.
    Withdraw,
}

impl Change {
    /// What it is called in the metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Serve(_) => "serve",
            Self::Return(..) => "return",
            Self::Failed(..) => "failed",
            Self::Promote => "promote",
            Self::GiveUp(_) => "give-up",
            Self::TakeBack(_) => "take-back",
            Self::Condemn(..) => "condemn",
            Self::Withdraw => "withdraw",
        }
    }

    /// The next state.
    pub(super) fn apply(self, desired: &Desired, tenant: &Name, decision: Decision) -> Desired {
        let mut next = desired.clone();
        next.generation = next.generation.saturating_add(1);
        next.writer = decision.writer;
        let generation = next.generation;
        if !next.tenants.contains_key(tenant) && next.tenants.len() >= TENANTS_MAX {
            forget_one(&mut next);
        }
        let deployed = next.tenants.entry(tenant.clone()).or_default();
        let before = stood_aside(deployed).or_else(|| before(deployed, decision.lingers));
        let before = before.map(|it| again(it, BY_ITSELF.into()));
        let release = |candidate: Candidate, fate| Release {
            generation,
            version: candidate.version,
            source: candidate.source,
            bytes: candidate.bytes,
            at_ms: decision.at_ms,
            by: candidate.by,
            fate,
            instead_of: 0,
            unproven: false,
        };
        match self {
            Self::Serve(mut candidate) => {
                let fate = match candidate.canary.take() {
                    Some(plan) => Fate::Canary(plan),
                    None => {
                        if let Some(replaced) = deployed.current_mut() {
                            replaced.unproven |= decision.on_trial;
                        }
                        end_running(deployed, decision.lingers, Fate::Replaced);
                        Fate::Active
                    }
                };
                add(deployed, release(candidate, fate));
            }
            Self::Return(candidate, why) => {
                let instead_of = running(deployed, decision.lingers).map_or(0, |it| it.generation);
                end_running(deployed, decision.lingers, Fate::RolledBack(reason(why)));
                let release = Release {
                    instead_of,
                    ..release(candidate, Fate::Active)
                };
                add(deployed, release);
            }
            Self::Failed(candidate, why) => {
                add(deployed, release(candidate, Fate::Failed(reason(why))));
            }
            Self::Promote => {
                end_current(deployed, Fate::Replaced);
                end_canary(deployed, Fate::Active);
            }
            Self::GiveUp(why) => end_canary(deployed, Fate::RolledBack(reason(why))),
            Self::TakeBack(why) => {
                end_running(deployed, decision.lingers, Fate::RolledBack(reason(why)));
                if let Some(candidate) = before {
                    add(deployed, release(candidate, Fate::Active));
                }
            }
            Self::Condemn(version, why) => {
                let replaced = |it: &&mut Release| {
                    it.version == version && it.unproven && it.fate == Fate::Replaced
                };
                if let Some(release) = deployed.releases.iter_mut().find(replaced) {
                    release.fate = Fate::RolledBack(reason(why));
                }
            }
            Self::Withdraw => {
                // It never served everybody, and is no version to go back to.
                end_canary(deployed, Fate::RolledBack(WITHDRAWN.to_owned()));
                end_current(deployed, Fate::Withdrawn);
                deployed.withdrawn_in = generation;
            }
        }
        next
    }
}

/// This release's version once more.
pub(super) fn again(release: &Release, by: Name) -> Candidate {
    Candidate {
        version: release.version.clone(),
        source: release.source.clone(),
        bytes: release.bytes,
        by,
        canary: None,
    }
}

/// The version before: what ran before the release that runs now, and was not taken back since; none
/// where that was what each worker's configuration names. Who withdrew goes back to what was
/// withdrawn, unless `lingers`: then workers still run that.
pub(super) fn before(deployed: &Deployed, lingers: bool) -> Option<&Release> {
    let Some(running) = running(deployed, lingers) else {
        return deployed.withdrawn();
    };
    let mut older = deployed.releases.iter();
    older.by_ref().find(|it| *it == running)?;
    let taken_back = |version: &Name| {
        let mut served = deployed.releases.iter().filter(|it| it.has_served());
        let newest = served.find(|it| it.version == *version);
        newest.is_some_and(|it| matches!(it.fate, Fate::RolledBack(_)))
    };
    let mut replaced = older.filter(|it| matches!(it.fate, Fate::Replaced | Fate::Withdrawn));
    let before = replaced.find(|it| {
        // From a withdrawal on workers ran what their configuration names.
        it.fate == Fate::Withdrawn || it.version != running.version && !taken_back(&it.version)
    });
    before.filter(|it| it.fate == Fate::Replaced)
}

/// The release in whose place somebody has put the current one by going back, unless its version was taken
/// back since: where the current one fails by itself, that one has not.
fn stood_aside(deployed: &Deployed) -> Option<&Release> {
    let current = deployed.current()?;
    let mut releases = deployed.releases.iter();
    let stood = releases.find(|it| it.generation == current.instead_of)?;
    let mut served = deployed.releases.iter().filter(|it| it.has_served());
    let newest = served.find(|it| it.version == stood.version);
    (newest == Some(stood) && stood.version != current.version).then_some(stood)
}

/// The release that runs: the current one, or one that was withdrawn and still runs.
fn running(deployed: &Deployed, lingers: bool) -> Option<&Release> {
    let withdrawn = || deployed.withdrawn().filter(|_| lingers);
    deployed.current().or_else(withdrawn)
}

/// The newest release that served and whose version begins with `prefix`.
pub(super) fn with_prefix<'a>(
    deployed: &'a Deployed,
    tenant: &Name,
    prefix: &str,
) -> Result<&'a Release, DeployError> {
    let mut found: Vec<&Release> = Vec::new();
    for release in deployed.releases.iter().filter(|it| it.has_served()) {
        let known = found.iter().any(|it| it.version == release.version);
        if release.version.starts_with(prefix) && !known {
            found.push(release);
        }
    }
    match found.as_slice() {
        [release] if !prefix.is_empty() => Ok(release),
        [] => Err(DeployError::UnknownVersion {
            tenant: tenant.clone(),
            prefix: prefix.to_owned(),
        }),
        [..] => Err(DeployError::Ambiguous {
            prefix: prefix.to_owned(),
            versions: found.iter().map(|it| it.version.clone()).collect(),
        }),
    }
}

fn end_current(deployed: &mut Deployed, fate: Fate) {
    let current = deployed.releases.iter_mut();
    for release in current.filter(|it| it.fate == Fate::Active) {
        release.fate = fate.clone();
    }
}

/// What was withdrawn and still runs ends as well.
fn end_running(deployed: &mut Deployed, lingers: bool, fate: Fate) {
    let running = running(deployed, lingers).map(|it| it.generation);
    let ended = |it: &&mut Release| {
        Some(it.generation) == running && matches!(it.fate, Fate::Active | Fate::Withdrawn)
    };
    if let Some(release) = deployed.releases.iter_mut().find(ended) {
        if release.fate == Fate::Withdrawn {
            deployed.withdrawn_in = 0;
        }
        release.fate = fate;
    }
}

fn end_canary(deployed: &mut Deployed, fate: Fate) {
    for release in &mut deployed.releases {
        if matches!(release.fate, Fate::Canary(_)) {
            release.fate = fate.clone();
        }
    }
}

fn add(deployed: &mut Deployed, release: Release) {
    let releases = &mut deployed.releases;
    releases.insert(0, release);
    while releases.len() > HISTORY_MAX {
        // What never served is the first to be forgotten, but not before others have come; what serves
        // is not.
        let failed = releases.iter().rposition(|it| !it.has_served());
        let failed = failed.filter(|place| *place >= FAILED_KEPT);
        let over = |it: &Release| !matches!(it.fate, Fate::Active | Fate::Canary(_));
        let Some(place) = failed.or_else(|| releases.iter().rposition(over)) else {
            return;
        };
        releases.remove(place);
    }
}

/// Makes room: the tenant that has not been deployed for the longest time.
fn forget_one(desired: &mut Desired) {
    let idle = desired.tenants.iter().filter(|(_, it)| is_idle(it));
    let last = |it: &Deployed| it.releases.first().map_or(0, |release| release.at_ms);
    let oldest = idle.min_by_key(|(_, it)| last(it));
    if let Some(tenant) = oldest.map(|(tenant, _)| tenant.clone()) {
        desired.tenants.remove(&tenant);
    }
}

/// Whether nothing of the tenant is served by the cluster's word.
fn is_idle(deployed: &Deployed) -> bool {
    deployed.current().is_none() && deployed.canary().is_none()
}

/// Whether one more tenant may be deployed.
pub(super) fn has_room(desired: &Desired, tenant: &Name) -> bool {
    desired.tenants.contains_key(tenant)
        || desired.tenants.len() < TENANTS_MAX
        || desired.tenants.values().any(is_idle)
}

#[cfg(test)]
mod tests;
