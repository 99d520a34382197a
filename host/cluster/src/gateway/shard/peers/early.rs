//! Closes whose home is not known to be lost, kept until it is.

use tidegate_fair::Shares;
use tidegate_wire::Name;

use crate::gateway::shared::inbox::AdoptClose;

/// A worker may learn of a loss before this gateway does: what it adopts waits here until then. It has no
/// more than a window of closes under way; those beyond this number are refused.
const EARLY_MAX: usize = 1024;

/// Closes whose home is not known to be lost; each tenant has its share.
#[derive(Debug)]
pub(super) struct Early {
    adoptions: Vec<AdoptClose>,
    shares: Shares<Name>,
}

impl Early {
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            adoptions: Vec::new(),
            shares: Shares::new(EARLY_MAX, tenants),
        }
    }

    pub(super) fn add(&mut self, adoption: AdoptClose) -> Result<(), AdoptClose> {
        let shares = &mut self.shares;
        self.adoptions.retain(|it| {
            let is_open = !it.link.is_closed();
            if !is_open {
                shares.give(&it.tenant, 1);
            }
            is_open
        });
        if !shares.has_room(&adoption.tenant) {
            return Err(adoption);
        }
        shares.take(&adoption.tenant, 1);
        self.adoptions.push(adoption);
        Ok(())
    }

    pub(super) fn take(&mut self) -> Vec<AdoptClose> {
        for adoption in &self.adoptions {
            self.shares.give(&adoption.tenant, 1);
        }
        std::mem::take(&mut self.adoptions)
    }
}
