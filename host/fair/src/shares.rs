//! A limit that tenants share, so that none of them can use up what the others need. Pure.
//!
//! Half of the whole is divided among the tenants: each has its own part, whatever the others do.
//! The other half is common: of it a tenant may have as much as it leaves free. One that is alone so
//! gets half of it, two get a third each, and there is always room for one more. A part
//! is at least one, so that with as many tenants as places each has its place; with still more tenants
//! all is common. A single tenant has the whole.
//!
//! Guarantees, as long as nobody takes more than its room: all together never have more than the
//! whole; a tenant that has less than its own part has room; so has one that has nothing, while
//! anything is free.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// A limit and who has how much of it.
#[derive(Debug)]
pub struct Shares<K> {
    whole: usize,
    /// What each tenant has to itself.
    own: usize,
    common: usize,
    used: FxHashMap<K, usize>,
    total: usize,
    common_used: usize,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// A limit for so many tenants.
    #[must_use]
    pub fn new(whole: usize, tenants: usize) -> Self {
        let mut shares = Self {
            whole: 0,
            own: 0,
            common: 0,
            used: FxHashMap::default(),
            total: 0,
            common_used: 0,
        };
        shares.resize(whole, tenants);
        shares
    }

    /// The limit is another one, or there are more or fewer tenants. What they have they keep.
    pub fn resize(&mut self, whole: usize, tenants: usize) {
        self.whole = whole;
        self.own = if tenants <= 1 {
            whole
        } else {
            (whole / 2 / tenants).max(usize::from(tenants <= whole))
        };
        self.common = whole - self.own * tenants.max(1);
        let beyond = |used: &usize| used.saturating_sub(self.own);
        self.common_used = self.used.values().map(beyond).sum();
    }

    /// How much more this tenant may have now.
    #[must_use]
    pub fn room(&self, tenant: &K) -> usize {
        let used = self.used(tenant);
        let own = self.own.saturating_sub(used);
        let free = self.common.saturating_sub(self.common_used);
        let common = free.saturating_sub(used.saturating_sub(self.own));
        // Rounded up, so that the last one free goes to who has none.
        let room = own + common.div_ceil(2);
        room.min(self.whole.saturating_sub(self.total))
    }

    /// Whether this tenant may have more.
    #[must_use]
    pub fn has_room(&self, tenant: &K) -> bool {
        self.room(tenant) > 0
    }

    /// Whether this tenant has a quarter of what it could have to spare: who waited for room goes on
    /// then, and not at each little bit of it.
    #[must_use]
    pub fn has_plenty(&self, tenant: &K) -> bool {
        self.room(tenant) > self.used(tenant) / 3
    }

    /// Takes so much, also beyond the tenant's room.
    pub fn take(&mut self, tenant: &K, amount: usize) {
        if amount == 0 {
            return;
        }
        let before = match self.used.get_mut(tenant) {
            Some(used) => std::mem::replace(used, used.saturating_add(amount)),
            None => self.used.insert(tenant.clone(), amount).unwrap_or_default(),
        };
        self.total = self.total.saturating_add(amount);
        let after = before.saturating_add(amount);
        self.common_used += after.saturating_sub(self.own) - before.saturating_sub(self.own);
    }

    /// Gives so much back.
    pub fn give(&mut self, tenant: &K, amount: usize) {
        let Some(used) = self.used.get_mut(tenant) else {
            return;
        };
        let before = *used;
        let after = before.saturating_sub(amount);
        *used = after;
        if after == 0 {
            self.used.remove(tenant);
        }
        self.total -= before - after;
        self.common_used -= before.saturating_sub(self.own) - after.saturating_sub(self.own);
    }

    /// What this tenant has.
    #[must_use]
    pub fn used(&self, tenant: &K) -> usize {
        self.used.get(tenant).copied().unwrap_or_default()
    }

    /// What all have together.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests;
