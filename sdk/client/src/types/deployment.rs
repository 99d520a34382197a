//! Deploys over the cluster: what is told while one goes on, and what the tenant runs and ran.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ErrorName;

/// Some clients try a version before all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Canary {
    /// Of a hundred clients so many.
    pub percent: u8,
    /// Clients that try it whatever the share is.
    pub clients: Vec<String>,
    /// After so long it serves everybody; with 0 when it is promoted.
    pub seconds: u64,
}

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It serves everybody.
    Active,
    /// Some clients try it.
    Canary,
    /// Another one took its place.
    Replaced,
    /// It served, or was tried, and was taken back; the reason says why.
    RolledBack,
    /// It never served; the reason says why.
    Failed,
    /// The tenant was withdrawn from the cluster.
    Withdrawn,
}

impl Fate {
    /// The name as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Canary => "canary",
            Self::Replaced => "replaced",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One version at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Release {
    /// The generation of the cluster's state that began it.
    pub generation: u64,
    /// The content hash: 64 hex digits.
    pub version: String,
    /// The name of the file that it came from.
    pub source: String,
    /// How long the component is.
    pub bytes: u64,
    /// Milliseconds since 1970, by the clock of the register.
    pub at: u64,
    /// The name of the token that asked for it.
    pub by: String,
    /// What became of it.
    pub fate: Fate,
    /// Why it was rolled back, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who tries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// A worker, and what it runs for the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeployedAt {
    /// Its name.
    pub worker: String,
    /// The generation that it follows.
    pub generation: u64,
    /// The version that serves there; null: none.
    pub version: Option<String>,
    /// The version that some clients get there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// A version is on trial there: it has just come, or some clients try it.
    #[serde(default)]
    pub trial: bool,
    /// It does not run what it should.
    pub behind: bool,
    /// Why not, if it tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What the version that some clients get does too badly there to become everybody's: it is given up
    /// when its time is over, or when it is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
}

/// What the cluster runs for the tenant, and what it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deployment {
    /// The token's tenant.
    pub tenant: String,
    /// The generation of the cluster's state; 0: nothing was ever deployed.
    pub generation: u64,
    /// The version that serves everybody; null: what each worker's configuration names.
    pub version: Option<String>,
    /// The version that some clients try.
    pub canary: Option<String>,
    /// A deploy of the tenant is under way.
    pub under_way: bool,
    /// The last 50, newest first.
    pub releases: Vec<Release>,
    /// The workers that have settings for the tenant.
    pub workers: Vec<DeployedAt>,
    /// Who told it. Without the register that takes deploys it may be out of date.
    #[serde(default)]
    pub answered_by: AnsweredBy,
    /// For so long yet `workers` may lack some that live: the register that has answered has just
    /// started, or was cut off, and they have not all found the way back to it. 0: it is whole.
    #[serde(default)]
    pub settles_in_ms: u64,
}

impl Deployment {
    /// A sentence if it may be out of date, or may lack workers that live.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let unsettled = (self.settles_in_ms > 0).then(|| {
            let seconds = self.settles_in_ms.div_ceil(1000);
            format!(
                "the register has just started, or was cut off: for up to {seconds} s yet workers may \
                 be missing here that live and serve"
            )
        });
        let old = self.answered_by.warning().map(str::to_owned);
        let says: Vec<String> = old.into_iter().chain(unsettled).collect();
        (!says.is_empty()).then(|| says.join("; "))
    }
}

/// Who told what the cluster runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AnsweredBy {
    /// The register that takes deploys.
    #[default]
    Register,
    /// Another register, since that one cannot be reached.
    OtherRegister,
    /// The gateway that was asked, from what it keeps: it does not know what the workers run.
    Gateway,
}

impl AnsweredBy {
    /// A sentence if it is not the register that takes deploys.
    #[must_use]
    pub const fn warning(self) -> Option<&'static str> {
        match self {
            Self::Register => None,
            Self::OtherRegister => Some(
                "the register that takes deploys cannot be reached: another one has answered, and \
                 what it says may be out of date",
            ),
            Self::Gateway => Some(
                "the register that takes deploys cannot be reached: the gateway has answered from \
                 what it keeps, which may be out of date and says nothing of the workers",
            ),
        }
    }
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DeployStep {
    /// It has the component.
    Fetched,
    /// It has compiled and checked it.
    Compiled,
    /// Its instances run and wait.
    Started,
    /// The version serves there.
    Switched,
    /// It cannot; the reason says why.
    Failed,
}

impl DeployStep {
    /// The name as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Compiled => "compiled",
            Self::Started => "started",
            Self::Switched => "switched",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for DeployStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a deploy goes on: the data of an event, whose name is `event` too. The last one is `done` or
/// `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum DeployProgress {
    /// The register has the component.
    Uploaded {
        /// Its length.
        bytes: u64,
    },
    /// A worker has come this far.
    Worker {
        /// Its name.
        worker: String,
        /// How far.
        step: DeployStep,
        /// Why it cannot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The register has just started, or was cut off: it waits for workers to find the way back.
    Waiting {
        /// For so long at most.
        at_most_ms: u64,
    },
    /// All workers are ready and the register has written it down: it is going to serve.
    Decided {
        /// The generation of the cluster's state.
        generation: u64,
    },
    /// It is done.
    Done {
        /// The generation of the cluster's state.
        generation: u64,
        /// What the cluster runs now; null: what each worker's configuration names.
        version: Option<String>,
        /// How many workers have switched.
        workers: u32,
        /// It is on trial at one of them: it is taken back by itself if it crosses a bound.
        #[serde(default)]
        trial: bool,
    },
    /// It is not done. Unless the detail says otherwise, nothing has changed.
    Failed {
        /// The status that a refusal before the first event would have.
        status: u16,
        /// The named case.
        error: ErrorName,
        /// What was wrong, where, and what would be right.
        detail: String,
        /// Whether the same order may succeed later without anybody changing anything.
        #[serde(default)]
        retryable: bool,
    },
}

impl DeployProgress {
    /// The event's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Uploaded { .. } => "uploaded",
            Self::Worker { .. } => "worker",
            Self::Waiting { .. } => "waiting",
            Self::Decided { .. } => "decided",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Where to go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The beginning of a version's hash, as long as it is the only one. Without it the version that
    /// some clients try is given up, or, if there is none, the release before serves again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub to: Option<String>,
}
