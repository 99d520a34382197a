//! The tenants of a gateway, each with a number: names are compared once, where they come in, and
//! events carry the number. Pure.

use std::collections::HashMap;

use tidegate_wire::Name;
use tidegate_wire::frame::Serving;

/// The tenants of the listeners, in order. The number of one is its place.
#[derive(Debug, Default)]
pub struct Tenants {
    names: Vec<Name>,
    numbers: HashMap<Name, u16>,
}

impl Tenants {
    /// Each of these once. Those that no number is left for are left out.
    pub fn new(mut names: Vec<Name>) -> Self {
        names.sort();
        names.dedup();
        names.truncate(usize::from(u16::MAX));
        let numbers = names.iter().cloned().zip(0..).collect();
        Self { names, numbers }
    }

    /// The name of this number.
    pub fn name(&self, number: u16) -> Option<&Name> {
        self.names.get(usize::from(number))
    }

    /// The number of a tenant that has listeners here.
    pub fn number(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    /// All, in the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = &Name> {
        self.names.iter()
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.names.len()
    }

    /// For each tenant its place in a worker's announcement, if the worker serves it. Costs one
    /// look at each entry of the announcement.
    pub fn places_in(&self, serving: &[Serving]) -> Vec<Option<u16>> {
        let mut places = vec![None; self.names.len()];
        for (serving, place) in serving.iter().zip(0..) {
            // A tenant that was withdrawn keeps its place, without a version.
            let number = self.number(&serving.tenant);
            let number = number.filter(|_| !serving.version.is_empty());
            if let Some(slot) = number.and_then(|number| places.get_mut(usize::from(number))) {
                slot.get_or_insert(place);
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(tenant: &str, version: &str) -> Serving {
        Serving {
            tenant: tenant.into(),
            version: version.into(),
            http: false,
        }
    }

    #[test]
    fn tenants_have_one_number_each_and_strangers_none() {
        let tenants = Tenants::new(["b", "a", "b"].map(Name::from).into());
        assert_eq!(tenants.count(), 2);
        assert_eq!(tenants.name(1).map(|name| &**name), Some("b"));
        assert_eq!((tenants.number("a"), tenants.number("c")), (Some(0), None));
    }

    #[test]
    fn a_withdrawn_tenant_and_one_without_listeners_have_no_place() {
        let tenants = Tenants::new(["a", "b", "c"].map(Name::from).into());
        let announced = [
            serving("x", "1"),
            serving("c", "1"),
            serving("a", ""),
            serving("b", "2"),
        ];
        assert_eq!(tenants.places_in(&announced), [None, Some(3), Some(1)]);
    }
}
