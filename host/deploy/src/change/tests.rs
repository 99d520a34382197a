//! What decisions make of the state, one by one and many in a row.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_wire::Name;
use tidegate_wire::deploy::{CanaryPlan, Desired, Fate, HISTORY_MAX, KEPT_MAX};
use tidegate_wire::id::Incarnation;

use super::{Candidate, Change, Decision, before, has_room, with_prefix};

const DECISION: Decision = Decision {
    writer: Incarnation(7),
    at_ms: 1000,
    lingers: false,
    on_trial: false,
};

fn candidate(number: u64, canary: bool) -> Candidate {
    Candidate {
        version: format!("{number:064x}").into(),
        source: "s".into(),
        bytes: 10,
        by: "b".into(),
        canary: canary.then(|| CanaryPlan {
            percent: 1,
            clients: Vec::new(),
            seconds: 0,
        }),
    }
}

fn apply(desired: &Desired, change: Change) -> Desired {
    change.apply(desired, &"t".into(), DECISION)
}

fn fates(desired: &Desired) -> Vec<Fate> {
    let releases = desired.tenants["t"].releases.iter();
    releases.map(|it| it.fate.clone()).collect()
}

#[test]
fn a_release_replaces_the_one_before() {
    let one = apply(&Desired::default(), Change::Serve(candidate(1, false)));
    let two = apply(&one, Change::Serve(candidate(2, false)));
    assert_eq!(fates(&two), [Fate::Active, Fate::Replaced]);
    assert_eq!((two.generation, two.writer), (2, Incarnation(7)));
    assert!(two.beats(&one));
}

#[test]
fn a_canary_leaves_the_active_release_until_it_is_promoted() {
    let one = apply(&Desired::default(), Change::Serve(candidate(1, false)));
    let two = apply(&one, Change::Serve(candidate(2, true)));
    assert_eq!(two.tenants["t"].current().unwrap().generation, 1);
    assert_eq!(two.tenants["t"].canary().unwrap().0.generation, 2);
    let promoted = apply(&two, Change::Promote);
    assert_eq!(fates(&promoted), [Fate::Active, Fate::Replaced]);
    let given_up = apply(&two, Change::GiveUp("why".to_owned()));
    assert_eq!(
        fates(&given_up),
        [Fate::RolledBack("why".to_owned()), Fate::Active]
    );
}

#[test]
fn a_first_release_that_is_taken_back_leaves_nothing() {
    let one = apply(&Desired::default(), Change::Serve(candidate(1, false)));
    let none = apply(&one, Change::TakeBack("why".to_owned()));
    assert_eq!(fates(&none), [Fate::RolledBack("why".to_owned())]);
    assert_eq!(none.current("t"), None);
}

#[test]
fn going_back_never_returns_to_what_was_taken_back() {
    let mut desired = Desired::default();
    for number in 1..=3 {
        desired = apply(&desired, Change::Serve(candidate(number, false)));
    }
    let current = |desired: &Desired| desired.current("t").unwrap().version.clone();
    desired = apply(&desired, Change::TakeBack("3 fails".to_owned()));
    assert_eq!(current(&desired), candidate(2, false).version);
    desired = apply(&desired, Change::TakeBack("2 fails".to_owned()));
    assert_eq!(current(&desired), candidate(1, false).version);
    assert_eq!(before(&desired.tenants["t"], false), None);
}

const LINGERS: Decision = Decision {
    lingers: true,
    ..DECISION
};

/// As the coordinator decides while what serves is on trial.
const ON_TRIAL: Decision = Decision {
    on_trial: true,
    ..DECISION
};

#[test]
fn whose_place_another_one_took_before_its_trial_was_over_is_not_proven() {
    let one = apply(&Desired::default(), Change::Serve(candidate(1, false)));
    let two = apply(&one, Change::Serve(candidate(2, false)));
    let three = Change::Serve(candidate(3, false)).apply(&two, &"t".into(), ON_TRIAL);
    let unproven = |desired: &Desired| {
        let releases = desired.tenants["t"].releases.iter();
        releases.map(|it| it.unproven).collect::<Vec<_>>()
    };
    assert_eq!(unproven(&three), [false, true, false]);
    // It comes back by itself, to be on trial again...
    let back = apply(&three, Change::TakeBack("3 fails".to_owned()));
    let version = |number| candidate(number, false).version;
    assert_eq!(back.current("t").unwrap().version, version(2));
    // ...and not once a worker has said that it fails.
    let why = "2 has failed, too".to_owned();
    let condemned = apply(&three, Change::Condemn(version(2), why.clone()));
    assert_eq!(fates(&condemned)[1], Fate::RolledBack(why));
    assert!(!condemned.tenants["t"].is_unproven(&version(2)));
    let back = apply(&condemned, Change::TakeBack("3 fails".to_owned()));
    assert_eq!(back.current("t").unwrap().version, version(1));
}

#[test]
fn the_newest_failures_are_remembered_also_when_there_is_no_room_for_all() {
    let mut desired = Desired::default();
    for number in 0..HISTORY_MAX as u64 + 10 {
        desired = apply(&desired, Change::Serve(candidate(number, false)));
    }
    for number in 100..120 {
        let failed = Change::Failed(candidate(number, false), "no".to_owned());
        desired = apply(&desired, failed);
    }
    let fates = fates(&desired);
    assert_eq!(fates.len(), HISTORY_MAX);
    let failed = fates.iter().filter(|it| matches!(it, Fate::Failed(_)));
    assert_eq!(failed.count(), 10);
    assert!(matches!(fates[0], Fate::Failed(_)));
}

fn before_of(desired: &Desired, lingers: bool) -> Option<Name> {
    before(&desired.tenants["t"], lingers).map(|it| it.version.clone())
}

/// Two releases, of which the second is withdrawn.
fn withdrawn() -> Desired {
    let one = apply(&Desired::default(), Change::Serve(candidate(1, false)));
    let two = apply(&one, Change::Serve(candidate(2, false)));
    apply(&two, Change::Withdraw)
}

#[test]
fn what_was_withdrawn_and_still_runs_is_what_a_release_goes_back_to() {
    let three = Change::Serve(candidate(3, false));
    let three = three.apply(&withdrawn(), &"t".into(), LINGERS);
    assert_eq!(
        fates(&three),
        [Fate::Active, Fate::Replaced, Fate::Replaced]
    );
    assert_eq!(before_of(&three, false), Some(candidate(2, false).version));
    let back = apply(&three, Change::TakeBack("3 fails".to_owned()));
    assert_eq!(
        back.current("t").unwrap().version,
        candidate(2, false).version
    );
}

#[test]
fn once_workers_run_their_own_file_nothing_of_before_the_withdrawal_comes_back_by_itself() {
    let three = apply(&withdrawn(), Change::Serve(candidate(3, false)));
    assert_eq!(
        fates(&three),
        [Fate::Active, Fate::Withdrawn, Fate::Replaced]
    );
    assert_eq!(before_of(&three, false), None);
    let none = apply(&three, Change::TakeBack("3 fails".to_owned()));
    assert_eq!(none.current("t"), None);
}

#[test]
fn what_was_rolled_back_by_hand_is_back_when_what_took_its_place_fails() {
    let mut desired = Desired::default();
    for number in 1..=2 {
        desired = apply(&desired, Change::Serve(candidate(number, false)));
    }
    // From 2 to 1 by hand, and by hand to 3, which had failed once.
    let bad = apply(&desired, Change::Serve(candidate(3, false)));
    let bad = apply(&bad, Change::TakeBack("3 fails".to_owned()));
    let back = |number| Change::Return(candidate(number, false), "rolled back by b".to_owned());
    let one = apply(&bad, back(1));
    let three = apply(&one, back(3));
    let failed = apply(&three, Change::TakeBack("3 fails".to_owned()));
    let current = |desired: &Desired| desired.current("t").map(|it| it.version.clone());
    assert_eq!(current(&failed), Some(candidate(1, false).version));
    // What came back by itself has nobody beside it whom somebody set aside.
    let none = apply(&failed, Change::TakeBack("1 fails".to_owned()));
    assert_ne!(current(&none), Some(candidate(3, false).version));
    // By hand what was left is not gone back to.
    assert_ne!(before_of(&one, false), Some(candidate(2, false).version));
}

#[test]
fn a_withdrawal_forgets_what_was_taken_back_before_it() {
    let one = apply(&Desired::default(), Change::Serve(candidate(1, false)));
    let tried = apply(&one, Change::Serve(candidate(2, true)));
    let given_up = apply(&tried, Change::GiveUp("by hand".to_owned()));
    let two = candidate(2, false).version;
    let taken_back = |desired: &Desired, version: &Name| {
        let deployed = &desired.tenants["t"];
        deployed.taken_back(version).map(str::to_owned)
    };
    assert_eq!(taken_back(&given_up, &two), Some("by hand".to_owned()));
    let withdrawn = apply(&given_up, Change::Withdraw);
    assert_eq!(taken_back(&withdrawn, &two), None);
    // What comes after it counts.
    let three = apply(&withdrawn, Change::Serve(candidate(3, false)));
    let none = apply(&three, Change::TakeBack("3 fails".to_owned()));
    let three = candidate(3, false).version;
    assert_eq!(taken_back(&none, &three), Some("3 fails".to_owned()));
    assert_eq!(taken_back(&none, &two), None);
    // Until that is withdrawn too.
    let settled = apply(&none, Change::Withdraw);
    assert_eq!(taken_back(&settled, &three), None);
}

#[test]
fn a_withdrawn_release_that_still_runs_is_taken_back_like_any_other() {
    let withdrawn = withdrawn();
    // By hand: from what runs to what ran before, or else back to what was withdrawn.
    assert_eq!(
        before_of(&withdrawn, true),
        Some(candidate(1, false).version)
    );
    assert_eq!(
        before_of(&withdrawn, false),
        Some(candidate(2, false).version)
    );
    let back = Change::TakeBack("2 fails".to_owned());
    let back = back.apply(&withdrawn, &"t".into(), LINGERS);
    let why = Fate::RolledBack("2 fails".to_owned());
    assert_eq!(fates(&back), [Fate::Active, why, Fate::Replaced]);
    assert_eq!(
        back.current("t").unwrap().version,
        candidate(1, false).version
    );
}

#[test]
fn a_canary_that_is_withdrawn_is_no_version_to_go_back_to() {
    let one = apply(&Desired::default(), Change::Serve(candidate(1, false)));
    let two = apply(&one, Change::Serve(candidate(2, true)));
    let none = apply(&two, Change::Withdraw);
    let why = Fate::RolledBack("the tenant was withdrawn".to_owned());
    assert_eq!(fates(&none), [why, Fate::Withdrawn]);
    assert_eq!(before_of(&none, false), Some(candidate(1, false).version));
}

#[test]
fn what_failed_is_no_version_to_go_back_to() {
    let one = apply(&Desired::default(), Change::Serve(candidate(1, false)));
    let failed = Change::Failed(candidate(2, false), "x".repeat(9999));
    let desired = apply(&one, failed);
    desired.check().unwrap();
    let deployed = &desired.tenants["t"];
    let prefix = candidate(2, false).version;
    assert!(with_prefix(deployed, &"t".into(), &prefix).is_err());
    assert_eq!(deployed.kept().len(), 1);
}

#[test]
fn the_tenant_that_is_idle_for_longest_makes_room() {
    let mut desired = Desired::default();
    for number in 0..512u64 {
        let tenant: Name = format!("t{number}").into();
        let change = Change::Serve(candidate(1, false));
        desired = change.apply(&desired, &tenant, DECISION);
    }
    assert!(!has_room(&desired, &"new".into()));
    let desired = Change::Withdraw.apply(&desired, &"t5".into(), DECISION);
    assert!(has_room(&desired, &"new".into()));
    let change = Change::Serve(candidate(1, false));
    let desired = change.apply(&desired, &"new".into(), DECISION);
    desired.check().unwrap();
    assert!(!desired.tenants.contains_key("t5"));
}

fn change() -> impl Strategy<Value = Change> {
    let candidate = || (0..30u64, any::<bool>()).prop_map(|(it, canary)| candidate(it, canary));
    let plain = || (0..30u64).prop_map(|it| self::candidate(it, false));
    prop_oneof![
        4 => candidate().prop_map(Change::Serve),
        1 => plain().prop_map(|it| Change::Return(it, "back".to_owned())),
        3 => plain().prop_map(|it| Change::Failed(it, "no".to_owned())),
        1 => Just(Change::Promote),
        1 => Just(Change::GiveUp("why".to_owned())),
        1 => Just(Change::TakeBack("why".to_owned())),
        1 => plain().prop_map(|it| Change::Condemn(it.version, "why".to_owned())),
        1 => Just(Change::Withdraw),
    ]
}

proptest! {
    #[test]
    fn every_state_that_decisions_make_is_a_possible_one(changes in vec(change(), 0..150)) {
        let mut desired = Desired::default();
        for change in changes {
            // The coordinator refuses a second canary.
            let canary = matches!(&change, Change::Serve(it) if it.canary.is_some());
            let deployed = desired.tenants.get("t");
            if canary && deployed.is_some_and(|it| it.canary().is_some()) {
                continue;
            }
            let before = desired.clone();
            desired = apply(&before, change.clone());
            prop_assert_eq!(desired.check(), Ok(()), "{:?}", change);
            prop_assert!(desired.beats(&before));
            let deployed = &desired.tenants["t"];
            prop_assert!(deployed.releases.len() <= HISTORY_MAX);
            let kept = deployed.kept();
            prop_assert!(kept.len() <= KEPT_MAX);
            if let Some(current) = deployed.current() {
                prop_assert!(kept.contains(&current));
            }
        }
    }
}
