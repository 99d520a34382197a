//! Lanes that have nowhere to go, by tenant: while nobody serves a tenant, however many wait, looking
//! for a worker costs one look at the tenant and none at its lanes. Pure.

use std::collections::VecDeque;

/// The numbers of lanes, in the order in which they came, by tenant.
#[derive(Debug, Default)]
pub struct Unrouted {
    by_tenant: Vec<VecDeque<u32>>,
    len: usize,
}

impl Unrouted {
    /// How many wait.
    pub const fn count(&self) -> usize {
        self.len
    }

    /// A lane has nowhere to go.
    pub fn push(&mut self, tenant: u16, number: u32) {
        let place = usize::from(tenant);
        if self.by_tenant.len() <= place {
            self.by_tenant.resize_with(place + 1, VecDeque::new);
        }
        if let Some(lanes) = self.by_tenant.get_mut(place) {
            lanes.push_back(number);
            self.len += 1;
        }
    }

    /// Takes all lanes of the tenants that somebody serves.
    pub fn take_served(&mut self, serves: impl Fn(u16) -> bool) -> Vec<u32> {
        let mut taken = Vec::new();
        for (lanes, tenant) in self.by_tenant.iter_mut().zip(0..) {
            if !lanes.is_empty() && serves(tenant) {
                taken.extend(std::mem::take(lanes));
            }
        }
        self.len -= taken.len();
        taken
    }

    /// Lets only these lanes wait on.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        for lanes in &mut self.by_tenant {
            lanes.retain(|number| keep(*number));
        }
        self.len = self.by_tenant.iter().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn lanes_of_a_tenant_that_nobody_serves_cost_one_look_however_many_wait() {
        let mut unrouted = Unrouted::default();
        for number in 0..100_000 {
            unrouted.push(1, number);
        }
        unrouted.push(2, 100_000);
        let looks = Cell::new(0);
        let serves = |tenant| {
            looks.set(looks.get() + 1);
            tenant == 2
        };
        assert_eq!(unrouted.take_served(serves), [100_000]);
        assert_eq!((looks.get(), unrouted.count()), (2, 100_000));
        assert_eq!(unrouted.take_served(|tenant| tenant == 1).len(), 100_000);
        assert_eq!(unrouted.count(), 0);
    }

    #[test]
    fn lanes_that_are_gone_leave() {
        let mut unrouted = Unrouted::default();
        (0..10).for_each(|number| unrouted.push(0, number));
        unrouted.retain(|number| number % 2 == 0);
        assert_eq!(unrouted.count(), 5);
        assert_eq!(unrouted.take_served(|_| true), [0, 2, 4, 6, 8]);
    }
}
