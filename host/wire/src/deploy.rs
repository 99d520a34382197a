//! Deploys: what the cluster is to run, and what gateways, registers and workers say about it.
//!
//! A node opens a link of its own to each register with [`Deploy::Enrol`]; everything here travels
//! on such links only. The desired state with the highest generation wins everywhere; only the
//! first register of the configuration makes new ones.

mod desired;
mod error;

use serde::{Deserialize, Serialize};

pub use desired::{Deployed, Desired, DesiredError, Fate, Release};
pub use error::DeployError;

use crate::Name;
use crate::id::{ClientId, Incarnation};
use crate::membership::Node;
use crate::payload::{Carry, Payload};

/// The most bytes of a component in one frame.
pub const CHUNK_BYTES_MAX: u64 = 256 << 10;
/// The largest component, in bytes.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// How many releases of a tenant are remembered.
pub const HISTORY_MAX: usize = 50;
/// Of how many releases of a tenant the bytes are kept, for a rollback.
pub const KEPT_MAX: usize = 10;
/// How many tenants may be deployed by the cluster.
pub const TENANTS_MAX: usize = 512;
/// The longest reason, in bytes; longer ones are cut.
pub(crate) const REASON_BYTES_MAX: usize = 300;
/// How many clients a canary may name.
pub const CANARY_CLIENTS_MAX: usize = 1000;

/// Who gets a new version first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryPlan {
    /// How many of a hundred clients.
    pub percent: u8,
    /// Clients that get it whatever the percentage says.
    pub clients: Vec<ClientId>,
    /// After how long it serves everybody; 0: when it is promoted by hand.
    pub seconds: u64,
}

/// What is to be deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployOrder {
    /// For whom.
    pub tenant: Name,
    /// The name of the file it came from.
    pub source: Name,
    /// Who asks: the name of an API token.
    pub by: Name,
    /// Whether some clients get it first.
    pub canary: Option<CanaryPlan>,
}

/// What a gateway asks of the first register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// A new version, whose bytes the gateway holds.
    Deploy {
        /// What.
        order: DeployOrder,
        /// The content hash.
        version: Name,
        /// How long it is.
        bytes: u64,
    },
    /// An earlier version again; with a canary under way and no `to`: give that up.
    Rollback {
        /// Whose.
        tenant: Name,
        /// The beginning of a version's hash; none: the release before this one.
        to: Option<String>,
        /// Who asks.
        by: Name,
    },
    /// The canary under way serves everybody.
    Promote {
        /// Whose.
        tenant: Name,
        /// Who asks.
        by: Name,
    },
    /// The cluster no longer says what the tenant runs.
    Withdraw {
        /// Whose.
        tenant: Name,
        /// Who asks.
        by: Name,
    },
}

impl Order {
    /// Whose.
    #[must_use]
    pub const fn tenant(&self) -> &Name {
        match self {
            Self::Deploy { order, .. } => &order.tenant,
            Self::Rollback { tenant, .. }
            | Self::Promote { tenant, .. }
            | Self::Withdraw { tenant, .. } => tenant,
        }
    }

    /// Who asks.
    #[must_use]
    pub const fn by(&self) -> &Name {
        match self {
            Self::Deploy { order, .. } => &order.by,
            Self::Rollback { by, .. } | Self::Promote { by, .. } | Self::Withdraw { by, .. } => by,
        }
    }
}

/// What one worker has done towards a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// It has the bytes.
    Fetched,
    /// It has compiled and checked them.
    Compiled,
    /// Its instances have started and are held.
    Started,
    /// The version serves there.
    Switched,
    /// It cannot.
    Failed(String),
}

/// How an order goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// The register has the component.
    Uploaded {
        /// Its length.
        bytes: u64,
    },
    /// A worker has come this far.
    Worker {
        /// Its name.
        worker: Name,
        /// How far.
        step: Step,
    },
    /// All workers have prepared, and the register has written the next generation: it will serve.
    Decided {
        /// The generation.
        generation: u64,
    },
    /// The last: it is so.
    Done {
        /// The generation that says so.
        generation: u64,
        /// The version that the tenant now runs; empty after a withdrawal or when nothing is left.
        version: Name,
        /// How many workers have switched.
        workers: u32,
        /// It is on trial at one of them: what comes of it stands in the history.
        trial: bool,
    },
    /// The last: it is not so.
    Failed {
        /// Why.
        reason: DeployError,
    },
    /// The register has just started, or was cut off: it waits for workers to find the way back.
    Waiting {
        /// For so long at most.
        at_most_ms: u64,
    },
}

impl Progress {
    /// Whether nothing follows.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        match self {
            Self::Done { .. } | Self::Failed { .. } => true,
            Self::Uploaded { .. }
            | Self::Worker { .. }
            | Self::Decided { .. }
            | Self::Waiting { .. } => false,
        }
    }
}

/// What a worker runs for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The tenant: the worker has settings for it.
    pub tenant: Name,
    /// The version that serves, if any does.
    pub serving: Option<Name>,
    /// The version that some clients get.
    pub canary: Option<Name>,
    /// A version is on trial: it has just come, or some clients try it.
    pub trial: bool,
    /// Why it does not run what is desired; tried again.
    pub trouble: Option<String>,
    /// What the version that some clients get does too badly to become everybody's.
    pub failing: Option<String>,
}

/// A worker, as a register knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerState {
    /// Its name.
    pub worker: Name,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The generation that it follows.
    pub generation: u64,
    /// What it runs.
    pub running: Vec<Running>,
}

/// What a register knows about deploys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// What is to be.
    pub desired: Desired,
    /// What is, at the workers that have a link to it.
    pub workers: Vec<WorkerState>,
    /// The tenant of the order that is being carried out.
    pub under_way: Option<Name>,
    /// For so long yet workers may be missing that live and have not found the way back to this
    /// register; 0: who is missing is away.
    pub settles_in_ms: u64,
}

/// Everything that travels on a link for deploys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deploy {
    /// Gateway or worker → register: the first frame of the link.
    Enrol {
        /// The node, as in its hello.
        node: Node,
        /// Whether the register is the first of the node's configuration.
        first: bool,
        /// What it takes for desired.
        desired: Desired,
    },
    /// Any → any: what I take for desired. A register's answer to an enrolment, and at every
    /// change to an end that knows less.
    State(Desired),
    /// Worker → register: what I run. After an enrolment and at every change.
    Status {
        /// The generation that it follows.
        generation: u64,
        /// All tenants that it has settings for.
        running: Vec<Running>,
    },
    /// Worker → register: this version was taken back here, because it failed too often.
    TakenBack {
        /// Whose.
        tenant: Name,
        /// Which.
        version: Name,
        /// What went wrong.
        reason: String,
    },
    /// Gateway → register.
    Order {
        /// The gateway's number of it.
        number: u64,
        /// What.
        order: Order,
    },
    /// Register → gateway.
    Progress {
        /// The number of the order.
        number: u64,
        /// What has happened.
        progress: Progress,
    },
    /// Gateway → register: what is the state of things?
    Ask {
        /// The gateway's number of the question.
        number: u64,
    },
    /// Register → gateway.
    Answer {
        /// The number of the question.
        number: u64,
        /// The state of things.
        overview: Box<Overview>,
    },
    /// Register → worker: start this version beside what serves, and hold it.
    Prepare {
        /// The register's number of the order.
        order: u64,
        /// Whose.
        tenant: Name,
        /// The content hash.
        version: Name,
        /// The name of the file it came from.
        source: Name,
        /// How long the component is.
        bytes: u64,
        /// Whether some clients get it first.
        canary: Option<CanaryPlan>,
    },
    /// Register → worker: hold on, the order is under way.
    Hold {
        /// Its number.
        order: u64,
    },
    /// Register → worker: it is not to be.
    Discard {
        /// The number of the order.
        order: u64,
    },
    /// Worker → register: so far it has come.
    Step {
        /// The number of the order.
        order: u64,
        /// How far.
        step: Step,
    },
    /// Worker → register: the version is held, or cannot be.
    Prepared {
        /// The number of the order.
        order: u64,
        /// Why it cannot be.
        outcome: Result<(), String>,
    },
    /// Any → any: send me up to [`CHUNK_BYTES_MAX`] bytes of this component from here on.
    Fetch {
        /// The content hash.
        version: Name,
        /// Where.
        offset: u64,
    },
    /// Any → any: the answer to a fetch.
    Chunk {
        /// The content hash.
        version: Name,
        /// Where.
        offset: u64,
        /// The bytes.
        bytes: Payload,
    },
    /// Any → any: the other answer to a fetch: not here.
    Missing {
        /// The content hash.
        version: Name,
    },
}

impl Carry for Deploy {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        if let Self::Chunk { bytes, .. } = self {
            visit(bytes);
        }
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        if let Self::Chunk { bytes, .. } = self {
            visit(bytes);
        }
    }
}

/// The version of a component: its content hash, blake3 as 64 lower-case hex digits.
#[must_use]
pub fn version_of(bytes: &[u8]) -> Name {
    Name::from(blake3::hash(bytes).to_hex().as_str())
}

/// Whether this is a version: 64 lower-case hex digits.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(lower_hex)
}

/// A reason of bounded length.
#[must_use]
pub fn reason(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
