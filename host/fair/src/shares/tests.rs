//! Whatever tenants take and give back, nobody gets what is another's.

use proptest::prelude::*;

use super::Shares;

/// Takes as much as there is room for, one by one.
fn fill(shares: &mut Shares<usize>, tenant: usize) -> usize {
    let mut taken = 0;
    while shares.has_room(&tenant) {
        shares.take(&tenant, 1);
        taken += 1;
    }
    taken
}

#[test]
fn a_single_tenant_has_the_whole() {
    let mut shares = Shares::new(4096, 1);
    assert_eq!(fill(&mut shares, 0), 4096);
}

#[test]
fn a_greedy_tenant_leaves_every_other_its_part_and_more() {
    let mut shares = Shares::new(1000, 2);
    assert_eq!(fill(&mut shares, 0), 500);
    let second = fill(&mut shares, 1);
    assert!((350..500).contains(&second), "{second}");
}

#[test]
fn a_thousand_tenants_each_get_something_after_each_other() {
    for whole in [1_000, 2_048, 4_096, 100_000] {
        let mut shares = Shares::new(whole, 1_000);
        for tenant in 0..1_000 {
            let taken = fill(&mut shares, tenant);
            assert!(taken >= (whole / 2_000).max(1), "{whole}: {taken}");
        }
        assert!(shares.total() <= whole);
    }
}

#[test]
fn with_more_tenants_than_places_the_whole_is_used_and_who_has_nothing_is_next() {
    let mut shares = Shares::new(8, 1_000);
    for tenant in 0..8 {
        assert!(shares.has_room(&tenant), "{tenant}");
        shares.take(&tenant, 1);
    }
    assert!(!shares.has_room(&8));
    shares.give(&3, 1);
    assert!(shares.has_room(&8) && !shares.has_room(&4));
}

#[test]
fn who_had_too_much_when_others_came_gets_nothing_until_it_gave_back() {
    let mut shares = Shares::new(100, 1);
    fill(&mut shares, 0);
    shares.resize(100, 4);
    assert!(!shares.has_room(&0) && !shares.has_room(&1));
    shares.give(&0, 50);
    assert!(shares.has_room(&1) && !shares.has_room(&0));
}

proptest! {
    #[test]
    fn nobody_gets_what_is_anothers(
        whole in 1_usize..5_000,
        tenants in 1_usize..50,
        steps in prop::collection::vec((0_usize..50, 1_usize..200, any::<bool>()), 1..400),
    ) {
        let mut shares = Shares::new(whole, tenants);
        let least = usize::from(tenants <= whole);
        let own = if tenants == 1 { whole } else { (whole / 2 / tenants).max(least) };
        let mut model = vec![0_usize; tenants];
        for (tenant, amount, takes) in steps {
            let tenant = tenant % tenants;
            if takes {
                let amount = amount.min(shares.room(&tenant));
                shares.take(&tenant, amount);
                model[tenant] += amount;
            } else {
                let amount = amount.min(model[tenant]);
                shares.give(&tenant, amount);
                model[tenant] -= amount;
            }
            let total: usize = model.iter().sum();
            prop_assert_eq!(shares.total(), total);
            prop_assert!(total <= whole);
            for (tenant, used) in model.iter().enumerate() {
                prop_assert_eq!(shares.used(&tenant), *used);
                // Its own part is there, whatever the others have.
                prop_assert!(shares.room(&tenant) >= own.saturating_sub(*used));
                // Who has nothing is served while anything is free.
                prop_assert!(*used > 0 || total == whole || shares.has_room(&tenant));
            }
        }
        for (tenant, used) in model.iter().enumerate() {
            shares.give(&tenant, *used);
        }
        prop_assert_eq!((shares.total(), shares.common_used), (0, 0));
        prop_assert!(shares.used.is_empty());
    }
}
