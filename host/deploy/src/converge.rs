//! What a worker is to do next so that it runs what is desired.
//!
//! Pure: the desired releases of a tenant and what runs go in, one step comes out.

use tidegate_wire::Name;
use tidegate_wire::deploy::{CanaryPlan, Deployed, Fate, Release};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It runs what is desired.
    Nothing,
    /// The canary serves everybody.
    Promote(Name),
    /// This version is not wanted; what served before it is.
    GiveUp(Name, String),
    /// Serve this, with a plan for some clients only.
    Serve {
        version: Name,
        source: Name,
        bytes: u64,
        generation: u64,
        canary: Option<CanaryPlan>,
        /// When that was decided, in milliseconds since 1970.
        at_ms: u64,
        /// It served before, and is back in the place of one that was taken back, for this reason.
        again: Option<String>,
    },
}

/// What runs for a tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now<'a> {
    pub(super) serving: Option<&'a Name>,
    pub(super) canary: Option<&'a Name>,
}

/// The next step of a worker where this runs.
pub(super) fn next(deployed: &Deployed, now: Now<'_>) -> Next {
    let current = deployed.current();
    let canary = deployed.canary();
    if let Some(running) = now.canary
        && canary.is_none_or(|(release, _)| release.version != *running)
    {
        if current.is_some_and(|it| it.version == *running) {
            return Next::Promote(running.clone());
        }
        return Next::GiveUp(running.clone(), why(deployed, running));
    }
    match current {
        Some(release) if now.serving != Some(&release.version) => {
            return serve(deployed, release, None);
        }
        Some(_) => {}
        None => {
            if let Some(serving) = now.serving
                && let Some(reason) = deployed.taken_back(serving)
            {
                return Next::GiveUp(serving.clone(), reason.to_owned());
            }
        }
    }
    match canary {
        Some((release, plan)) if !runs(now, &release.version) => {
            serve(deployed, release, Some(plan))
        }
        Some(_) | None => Next::Nothing,
    }
}

/// Whether a worker where this runs has done what the newest decision asks of it.
pub(super) fn follows(deployed: &Deployed, now: Now<'_>) -> bool {
    next(deployed, now) == Next::Nothing
}

fn runs(now: Now<'_>, version: &Name) -> bool {
    now.canary == Some(version) || now.serving == Some(version)
}

fn serve(deployed: &Deployed, release: &Release, canary: Option<&CanaryPlan>) -> Next {
    Next::Serve {
        version: release.version.clone(),
        source: release.source.clone(),
        bytes: release.bytes,
        generation: release.generation,
        canary: canary.cloned(),
        at_ms: release.at_ms,
        again: canary.map_or_else(|| again(deployed, release), |_| None),
    }
}

/// Why nothing serves: the only version that there was to serve was taken back.
pub(super) fn nothing_left(deployed: &Deployed, now: Now<'_>) -> Option<String> {
    if now.serving.is_some() || deployed.current().is_some() || deployed.canary().is_some() {
        return None;
    }
    let last = deployed.counting().find(|it| it.has_served())?;
    let why = deployed.taken_back(&last.version);
    why.map(|why| {
        format!(
            "nothing serves: there is no version left that was not taken back: {why}; see `tidegate \
             history`, and `tidegate rollback --to HASH`"
        )
    })
}

/// Why the release before this one was taken back, if this one's version had served before that, had
/// passed its trial and was itself not taken back.
fn again(deployed: &Deployed, release: &Release) -> Option<String> {
    let mut older = deployed.releases.iter();
    older.by_ref().find(|it| *it == release)?;
    let mut served = older.filter(|it| it.has_served());
    let failed = served.next()?;
    let Fate::RolledBack(reason) = &failed.fate else {
        return None;
    };
    let last = served.find(|it| it.version == release.version)?;
    if last.unproven {
        // It goes on where it was interrupted: on trial.
        return None;
    }
    let went_well = matches!(last.fate, Fate::Replaced | Fate::Withdrawn)
        || failed.instead_of == last.generation;
    went_well.then(|| reason.clone())
}

/// Why this version, which some clients try, is not wanted any more.
fn why(deployed: &Deployed, version: &Name) -> String {
    let mut served = deployed.releases.iter().filter(|it| it.has_served());
    match served.find(|it| it.version == *version).map(|it| &it.fate) {
        Some(Fate::RolledBack(reason)) => reason.clone(),
        Some(
            Fate::Active | Fate::Canary(_) | Fate::Replaced | Fate::Failed(_) | Fate::Withdrawn,
        )
        | None => "it is not wanted any more".to_owned(),
    }
}

#[cfg(test)]
mod tests;
