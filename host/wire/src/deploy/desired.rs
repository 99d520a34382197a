//! What the cluster is to run, and what it ran before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    CANARY_CLIENTS_MAX, COMPONENT_BYTES_MAX, CanaryPlan, HISTORY_MAX, KEPT_MAX, REASON_BYTES_MAX,
    TENANTS_MAX, is_version,
};
use crate::id::Incarnation;
use crate::{Name, is_name};

/// What the cluster is to run. The highest [`Self::rank`] wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Counts the decisions.
    pub generation: u64,
    /// The register that made this one: two that were made apart differ in it.
    pub writer: Incarnation,
    /// Every tenant that the cluster has deployed.
    pub tenants: BTreeMap<Name, Deployed>,
}

impl Default for Desired {
    fn default() -> Self {
        Self {
            generation: 0,
            writer: Incarnation(0),
            tenants: BTreeMap::new(),
        }
    }
}

/// The releases of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Newest first, at most [`HISTORY_MAX`].
    pub releases: Vec<Release>,
    /// The generation in which the cluster last ceased to say what serves; 0 if it has never done so,
    /// or if what it ceased to name has ended since.
    #[serde(default)]
    pub withdrawn_in: u64,
}

/// One version at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The generation that began it.
    pub generation: u64,
    /// The content hash.
    pub version: Name,
    /// The name of the file it came from.
    pub source: Name,
    /// How long the component is.
    pub bytes: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who asked for it: the name of an API token.
    pub by: Name,
    /// What became of it.
    pub fate: Fate,
    /// The generation of the release in whose place somebody has put it by going back; 0: of none.
    #[serde(default)]
    pub instead_of: u64,
    /// Another one took its place before its trial was over: if it comes back by that one's being taken
    /// back, it is on trial again.
    #[serde(default)]
    pub unproven: bool,
}

/// What became of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It serves everybody.
    Active,
    /// It serves some clients beside the active one.
    Canary(CanaryPlan),
    /// Another one took its place.
    Replaced,
    /// It served and was taken back.
    RolledBack(String),
    /// It never served.
    Failed(String),
    /// The tenant is no longer deployed by the cluster.
    Withdrawn,
}

impl Deployed {
    /// What serves everybody; none: what each worker's configuration names.
    #[must_use]
    pub fn current(&self) -> Option<&Release> {
        let active = |release: &&Release| release.fate == Fate::Active;
        self.releases.iter().find(active)
    }

    /// The same, to be changed.
    pub fn current_mut(&mut self) -> Option<&mut Release> {
        let active = |release: &&mut Release| release.fate == Fate::Active;
        self.releases.iter_mut().find(active)
    }

    /// Whether a version failed, or may yet fail, whose place another one took before its trial was over.
    #[must_use]
    pub fn is_unproven(&self, version: &Name) -> bool {
        let replaced = |it: &&Release| it.version == *version && it.fate == Fate::Replaced;
        self.releases
            .iter()
            .find(replaced)
            .is_some_and(|it| it.unproven)
    }

    /// What was withdrawn last, if nothing has been named since that went well: workers run it until
    /// their next start.
    #[must_use]
    pub fn withdrawn(&self) -> Option<&Release> {
        let went_well = |it: &&Release| match it.fate {
            Fate::Active | Fate::Withdrawn => true,
            Fate::Replaced => !it.unproven,
            Fate::Canary(_) | Fate::RolledBack(_) | Fate::Failed(_) => false,
        };
        let last = self.releases.iter().find(went_well);
        last.filter(|it| it.fate == Fate::Withdrawn)
    }

    /// Why this version may not serve where the cluster names none: it was taken back. What was taken back
    /// before the cluster ceased to name a version is forgotten: a worker that runs the same bytes has them
    /// from its own file.
    #[must_use]
    pub fn taken_back(&self, version: &Name) -> Option<&str> {
        let mut served = self.counting().filter(|it| it.has_served());
        match &served.find(|it| it.version == *version)?.fate {
            Fate::RolledBack(reason) => Some(reason),
            Fate::Active | Fate::Canary(_) | Fate::Replaced | Fate::Failed(_) | Fate::Withdrawn => {
                None
            }
        }
    }

    /// Those that have begun since the cluster last ceased to name a version, newest first.
    pub fn counting(&self) -> impl Iterator<Item = &Release> {
        let since = self.withdrawn_in;
        self.releases.iter().filter(move |it| it.generation > since)
    }

    /// What serves some clients.
    #[must_use]
    pub fn canary(&self) -> Option<(&Release, &CanaryPlan)> {
        self.releases
            .iter()
            .find_map(|release| match &release.fate {
                Fate::Canary(plan) => Some((release, plan)),
                Fate::Active
                | Fate::Replaced
                | Fate::RolledBack(_)
                | Fate::Failed(_)
                | Fate::Withdrawn => None,
            })
    }

    /// The release whose bytes are kept, current and canary first, each version once.
    #[must_use]
    pub fn kept(&self) -> Vec<&Release> {
        let mut kept: Vec<&Release> = Vec::new();
        let first = self.current().into_iter();
        let first = first.chain(self.canary().map(|(release, _)| release));
        let served = self.releases.iter().filter(|it| it.has_served());
        for release in first.chain(served) {
            let known = kept.iter().any(|it| it.version == release.version);
            if !known && kept.len() < KEPT_MAX {
                kept.push(release);
            }
        }
        kept
    }
}

impl Release {
    /// Whether it served anybody.
    #[must_use]
    pub const fn has_served(&self) -> bool {
        match self.fate {
            Fate::Failed(_) => false,
            Fate::Active
            | Fate::Canary(_)
            | Fate::Replaced
            | Fate::RolledBack(_)
            | Fate::Withdrawn => true,
        }
    }
}

impl Desired {
    /// Decides which of two states wins.
    #[must_use]
    pub const fn rank(&self) -> (u64, Incarnation) {
        (self.generation, self.writer)
    }

    /// Whether this is to replace `other`.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// What serves the tenant's clients; none: what each worker's configuration names.
    #[must_use]
    pub fn current(&self, tenant: &str) -> Option<&Release> {
        self.tenants.get(tenant)?.current()
    }

    /// Whether everything in it is within the limits and can be a state at all.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check(&self) -> Result<(), DesiredError> {
        if self.tenants.len() > TENANTS_MAX {
            return Err(DesiredError("it has too many tenants".to_owned()));
        }
        for (tenant, deployed) in &self.tenants {
            if !is_name(tenant) {
                return Err(DesiredError("a tenant has no proper name".to_owned()));
            }
            let wrong = |what: &str| Err(DesiredError(format!("tenant {tenant:?} {what}")));
            if deployed.releases.len() > HISTORY_MAX {
                return wrong("has too many releases");
            }
            if !deployed.releases.iter().all(is_proper) {
                return wrong("has a release that cannot be one");
            }
            let served = |active: bool| {
                let fates = deployed.releases.iter().map(|it| &it.fate);
                let which = |fate: &&Fate| match fate {
                    Fate::Active => active,
                    Fate::Canary(_) => !active,
                    Fate::Replaced | Fate::RolledBack(_) | Fate::Failed(_) | Fate::Withdrawn => {
                        false
                    }
                };
                fates.filter(which).count()
            };
            if served(true) > 1 || served(false) > 1 {
                return wrong("has two releases that serve at once");
            }
        }
        Ok(())
    }
}

fn is_proper(release: &Release) -> bool {
    let fate = match &release.fate {
        Fate::Canary(plan) => plan.percent <= 100 && plan.clients.len() <= CANARY_CLIENTS_MAX,
        Fate::RolledBack(reason) | Fate::Failed(reason) => reason.len() <= REASON_BYTES_MAX,
        Fate::Active | Fate::Replaced | Fate::Withdrawn => true,
    };
    fate && is_version(&release.version)
        && is_name(&release.source)
        && is_name(&release.by)
        && release.bytes <= COMPONENT_BYTES_MAX
}

/// Why something is not a desired state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DesiredError(pub String);

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::NAME_BYTES_MAX;
    use crate::deploy::{Deploy, reason};
    use crate::frame::{Frame, encode};
    use crate::id::ClientId;

    fn release(fate: Fate) -> Release {
        Release {
            generation: u64::MAX,
            version: "f".repeat(64).into(),
            source: "s".repeat(NAME_BYTES_MAX).into(),
            bytes: COMPONENT_BYTES_MAX,
            at_ms: u64::MAX,
            by: "b".repeat(NAME_BYTES_MAX).into(),
            fate,
            instead_of: u64::MAX,
            unproven: true,
        }
    }

    #[test]
    fn what_took_no_place_for_good_does_not_hide_what_was_withdrawn() {
        let replaced = |unproven| Release {
            unproven,
            ..release(Fate::Replaced)
        };
        let withdrawn = |newer: Vec<Release>| {
            let releases = newer.into_iter().chain([release(Fate::Withdrawn)]);
            let deployed = Deployed {
                releases: releases.collect(),
                withdrawn_in: 0,
            };
            deployed.withdrawn().is_some()
        };
        assert!(withdrawn(vec![]));
        let back = || release(Fate::RolledBack("it fails".to_owned()));
        assert!(withdrawn(vec![back(), replaced(true)]));
        assert!(!withdrawn(vec![back(), replaced(false)]));
        assert!(!withdrawn(vec![release(Fate::Active), replaced(true)]));
    }

    #[test]
    fn the_largest_state_fits_a_frame() {
        let client = ClientId {
            ip: u32::MAX,
            port: u16::MAX,
            connection: u32::MAX,
        };
        let plan = CanaryPlan {
            percent: 100,
            clients: vec![client; CANARY_CLIENTS_MAX],
            seconds: u64::MAX,
        };
        let why = reason("é".repeat(REASON_BYTES_MAX));
        assert!(why.len() <= REASON_BYTES_MAX && why.ends_with('…'));
        let mut releases = vec![release(Fate::RolledBack(why)); HISTORY_MAX - 1];
        releases.push(release(Fate::Canary(plan)));
        let deployed = Deployed {
            releases,
            withdrawn_in: u64::MAX,
        };
        let tenant = |number| format!("{number:0>NAME_BYTES_MAX$}").into();
        let tenants = (0..TENANTS_MAX).map(|number| (tenant(number), deployed.clone()));
        let desired = Desired {
            generation: u64::MAX,
            writer: Incarnation(u64::MAX),
            tenants: tenants.collect(),
        };
        desired.check().unwrap();
        let frame = Frame::Deploy(Box::new(Deploy::State(desired)));
        encode(&frame, &mut BytesMut::new()).unwrap();
    }

    #[test]
    fn states_that_no_register_makes_are_refused() {
        let of = |releases: Vec<Release>| Desired {
            tenants: [(
                "t".into(),
                Deployed {
                    releases,
                    withdrawn_in: 0,
                },
            )]
            .into(),
            ..Desired::default()
        };
        of(vec![release(Fate::Active)]).check().unwrap();
        let active = release(Fate::Active);
        of(vec![active.clone(); 2]).check().unwrap_err();
        of(vec![release(Fate::Replaced); HISTORY_MAX + 1])
            .check()
            .unwrap_err();
        let traversal = Release {
            version: "../../etc/passwd".into(),
            ..active.clone()
        };
        of(vec![traversal]).check().unwrap_err();
        let long = Release {
            bytes: COMPONENT_BYTES_MAX + 1,
            ..active.clone()
        };
        of(vec![long]).check().unwrap_err();
        let nameless = Desired {
            tenants: [("".into(), Deployed::default())].into(),
            ..Desired::default()
        };
        nameless.check().unwrap_err();
    }
}
