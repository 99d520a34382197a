//! Register's side: skeleton.

use tidegate_wire::frame::Frame;
use tidegate_wire::membership::Node;
use tokio_util::sync::CancellationToken;

use super::{DeploySettings, Store};
use crate::link::Link;

/// Takes orders, has workers prepare, decides. Clones are one desk.
#[derive(Clone, Debug)]
pub struct Desk {
    node: Node,
}

impl Desk {
    /// Starts it, until `stop`. `node` is the register (or the process that stands in for one).
    #[must_use]
    pub fn start(node: Node, store: Store, settings: DeploySettings, stop: CancellationToken) -> Self {
        let _ = (store, settings, stop);
        Self { node }
    }

    /// Serves a link until it ends. `frames` is what was read of it already.
    pub(crate) async fn attend(&self, link: Link, frames: Vec<Frame>) {
        let _ = (link, frames, &self.node);
    }

    /// Takes a link whose first frame is an enrolment.
    pub fn attach(&self, link: Link) {
        let _ = (link, &self.node);
    }
}
