//! Why an order was not carried out.

use serde::{Deserialize, Serialize};

use crate::Name;

/// Why an order was not carried out: nothing has changed, unless the text says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DeployError {
    /// Only the first register takes orders, and it has no link.
    #[error(
        "the register {register} cannot be reached, and only it takes deploys: \
         it is the first entry of `registers`"
    )]
    NoRegister {
        /// Its address.
        register: String,
    },
    /// The link broke while the order was under way.
    #[error(
        "the link to the register {register} was lost while the order was under way: \
         whether it was decided stands in the history once the register is back"
    )]
    RegisterLost {
        /// Its address.
        register: String,
    },
    /// One order at a time.
    #[error("an order for tenant {tenant:?} is being carried out: try again when it is done")]
    Busy {
        /// Whose order that is.
        tenant: Name,
    },
    /// There is nobody to run it.
    #[error("no worker has a link to the register")]
    NoWorker,
    /// A worker would not know how to run it.
    #[error("worker {worker:?} has no settings for tenant {tenant:?}: add a [[plugin]] for it")]
    TenantUnknown {
        /// Whose.
        tenant: Name,
        /// Where.
        worker: Name,
    },
    /// A worker cannot run it.
    #[error("worker {worker:?} cannot run it, nobody switches: {reason}")]
    Refused {
        /// Which.
        worker: Name,
        /// Why.
        reason: String,
    },
    /// A worker went away before the decision.
    #[error("worker {worker:?} was lost while it prepared, nobody switches")]
    WorkerLost {
        /// Which.
        worker: Name,
    },
    /// A worker was not ready in time.
    #[error("worker {worker:?} was not ready within {seconds} seconds, nobody switches")]
    TooSlow {
        /// Which.
        worker: Name,
        /// How long was waited.
        seconds: u64,
    },
    /// The component is too long.
    #[error("a component of {bytes} bytes is over the limit of {limit} ({} MiB)", .limit >> 20)]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The component did not arrive.
    #[error("the component could not be fetched from the gateway: {0}")]
    Upload(String),
    /// Nothing is known of the tenant.
    #[error(
        "tenant {tenant:?} was never deployed to the cluster: workers run the file of their [[plugin]]"
    )]
    NotDeployed {
        /// Whose.
        tenant: Name,
    },
    /// There is no release before.
    #[error(
        "tenant {tenant:?} has no earlier release to go back to: name one of its history (`rollback --to`), \
         deploy another version (or the same one again, to take a withdrawal back), or withdraw, and \
         workers begin with the file of their [[plugin]] at their next start"
    )]
    NothingBefore {
        /// Whose.
        tenant: Name,
    },
    /// No release has this version.
    #[error(
        "no release of tenant {tenant:?} that has served has a version that begins with {prefix:?}: the \
         history lists them, beside those that have failed"
    )]
    UnknownVersion {
        /// Whose.
        tenant: Name,
        /// What was asked for.
        prefix: String,
    },
    /// Several releases have such a version.
    #[error("{prefix:?} is the beginning of several versions, give more of it: {}", .versions.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// Which it may mean.
        versions: Vec<Name>,
    },
    /// The bytes are gone.
    #[error(
        "no node has the component of version {version} any more: give its file again \
         (`tidegate deploy FILE`)"
    )]
    NotKept {
        /// Which.
        version: Name,
    },
    /// It serves already.
    #[error("tenant {tenant:?} is to run version {version} already")]
    Already {
        /// Whose.
        tenant: Name,
        /// Which.
        version: Name,
    },
    /// There is no canary.
    #[error("tenant {tenant:?} has no canary under way")]
    NoCanary {
        /// Whose.
        tenant: Name,
    },
    /// There is one.
    #[error(
        "tenant {tenant:?} has a canary under way, version {version}: promote it or roll it back first"
    )]
    CanaryUnderWay {
        /// Whose.
        tenant: Name,
        /// Which.
        version: Name,
    },
    /// Too many tenants.
    #[error("the cluster runs deploys of {0} tenants already, which is the limit: withdraw one")]
    TooManyTenants(u64),
    /// The order makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It served, and failed too often.
    #[error("version {version} served and was taken back everywhere: {reason}")]
    TakenBack {
        /// Which.
        version: Name,
        /// Where and why.
        reason: String,
    },
    /// The register could not keep it.
    #[error("the register could not write it down, nobody switches: {0}")]
    Disk(String),
    /// The register ends.
    #[error("the register is stopping")]
    Stopping,
    /// The gateway that was asked ends.
    #[error(
        "the gateway is stopping; an order that the register has goes on there: look at the history first"
    )]
    GatewayStopping,
}
