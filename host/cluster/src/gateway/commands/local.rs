//! This gateway's part of a tenant's hub, as a command sees it.

use std::net::SocketAddrV4;
use std::sync::Arc;

use tidegate_wire::Name;
use tidegate_wire::query::{Answer, AskError, Query};

use super::{Boxed, LocalHub};
use crate::gateway::shared::Context;
use crate::gateway::shared::gather::ask_local;

/// For one call of a command.
pub(super) struct Local {
    pub(super) context: Arc<Context>,
    pub(super) tenant: Name,
}

impl LocalHub for Local {
    fn address(&self) -> SocketAddrV4 {
        self.context.settings.announced
    }

    fn ask(&self, query: Query) -> Boxed<Result<Answer, AskError>> {
        Box::pin(ask_local(self.context.clone(), self.tenant.clone(), query))
    }
}
