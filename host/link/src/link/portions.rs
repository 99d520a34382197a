//! What each tenant has waiting on a link of what may be given up, such as questions and answers:
//! each has its share, so that what one of them asks for leaves room for the others'. Pure.

use std::collections::VecDeque;

use tidegate_fair::Shares;
use tidegate_wire::Name;

/// The portions of all tenants.
#[derive(Debug)]
pub(super) struct Portions {
    shares: Shares<Name>,
    /// In the order of the queue, and how much was queued in all up to the end of each.
    queued: VecDeque<(u64, Name, usize)>,
}

impl Portions {
    /// So many tenants share so many bytes.
    pub(super) fn new(bytes_max: usize, tenants: usize) -> Self {
        Self {
            shares: Shares::new(bytes_max, tenants),
            queued: VecDeque::new(),
        }
    }

    /// Whether this tenant may have more, everything up to `written` being gone.
    pub(super) fn has_room(&mut self, tenant: &Name, written: u64) -> bool {
        while let Some((end, tenant, bytes)) = self.queued.front()
            && *end <= written
        {
            self.shares.give(tenant, *bytes);
            self.queued.pop_front();
        }
        self.shares.has_room(tenant)
    }

    /// Counts what was queued for this tenant, with which `queued` bytes were queued in all.
    pub(super) fn add(&mut self, tenant: &Name, bytes: usize, queued: u64) {
        // One that is larger than the tenant's room takes that, and not what is the others'.
        let bytes = bytes.min(self.shares.room(tenant));
        self.shares.take(tenant, bytes);
        self.queued.push_back((queued, tenant.clone(), bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_with_much_on_a_link_leaves_others_their_share_until_it_is_written() {
        let (greedy, other): (Name, Name) = ("greedy".into(), "other".into());
        let (mut portions, mut queued) = (Portions::new(1_000, 2), 0);
        while portions.has_room(&greedy, 0) {
            queued += 100;
            portions.add(&greedy, 100, queued);
        }
        assert!(queued >= 500 && portions.has_room(&other, 0));
        queued += 10_000;
        portions.add(&other, 10_000, queued);
        assert!(!portions.has_room(&greedy, 99), "nothing of it is written");
        assert!(portions.has_room(&greedy, 300));
        assert!(portions.has_room(&other, queued));
        assert_eq!((portions.shares.total(), portions.queued.len()), (0, 0));
    }
}
