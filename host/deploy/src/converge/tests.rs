//! The steps of a worker towards what is desired.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_wire::Name;
use tidegate_wire::deploy::{CanaryPlan, Deployed, Fate, Release};

use super::{Next, Now, follows, next, nothing_left};

fn version(number: u64) -> Name {
    format!("{number:064x}").into()
}

fn plan() -> CanaryPlan {
    CanaryPlan {
        percent: 5,
        clients: Vec::new(),
        seconds: 0,
    }
}

fn deployed(releases: &[(u64, Fate)]) -> Deployed {
    let release = |(number, fate): &(u64, Fate)| Release {
        generation: 1,
        version: version(*number),
        source: "s".into(),
        bytes: 10,
        at_ms: 0,
        by: "b".into(),
        fate: fate.clone(),
        instead_of: 0,
        unproven: false,
    };
    Deployed {
        releases: releases.iter().map(release).collect(),
        withdrawn_in: 0,
    }
}

fn step(releases: &[(u64, Fate)], serving: Option<u64>, canary: Option<u64>) -> Next {
    let (serving, canary) = (serving.map(version), canary.map(version));
    let now = Now {
        serving: serving.as_ref(),
        canary: canary.as_ref(),
    };
    next(&deployed(releases), now)
}

fn serves(next: &Next, number: u64, as_canary: bool) -> bool {
    match next {
        Next::Serve {
            version: it,
            canary,
            ..
        } => *it == version(number) && canary.is_some() == as_canary,
        Next::Nothing | Next::Promote(_) | Next::GiveUp(..) => false,
    }
}

#[test]
fn a_worker_goes_to_the_active_release_from_wherever_it_is() {
    let releases = [(2, Fate::Active), (1, Fate::Replaced)];
    assert!(serves(&step(&releases, None, None), 2, false));
    assert!(serves(&step(&releases, Some(1), None), 2, false));
    assert_eq!(step(&releases, Some(2), None), Next::Nothing);
    assert_eq!(step(&releases, Some(1), Some(2)), Next::Promote(version(2)));
    assert!(matches!(
        step(&releases, Some(1), Some(9)),
        Next::GiveUp(..)
    ));
}

#[test]
fn a_canary_comes_after_the_release_that_it_stands_beside() {
    let releases = [(2, Fate::Canary(plan())), (1, Fate::Active)];
    assert!(serves(&step(&releases, None, None), 1, false));
    assert!(serves(&step(&releases, Some(1), None), 2, true));
    assert_eq!(step(&releases, Some(1), Some(2)), Next::Nothing);
    let alone = [(2, Fate::Canary(plan()))];
    assert!(serves(&step(&alone, Some(9), None), 2, true));
    assert_eq!(step(&alone, Some(2), None), Next::Nothing);
}

#[test]
fn a_canary_that_was_given_up_is_told_why() {
    let releases = [
        (2, Fate::RolledBack("3 traps".to_owned())),
        (1, Fate::Active),
    ];
    let given_up = Next::GiveUp(version(2), "3 traps".to_owned());
    assert_eq!(step(&releases, Some(1), Some(2)), given_up);
}

#[test]
fn without_an_active_release_only_what_was_taken_back_is_given_up() {
    let taken_back = [(1, Fate::RolledBack("3 traps".to_owned()))];
    let given_up = Next::GiveUp(version(1), "3 traps".to_owned());
    assert_eq!(step(&taken_back, Some(1), None), given_up);
    assert_eq!(step(&taken_back, Some(9), None), Next::Nothing);
    assert_eq!(step(&[(1, Fate::Withdrawn)], Some(1), None), Next::Nothing);
    assert_eq!(step(&[], Some(1), None), Next::Nothing);
}

#[test]
fn what_was_taken_back_before_a_withdrawal_is_a_workers_own_affair() {
    let taken_back = |_: ()| Fate::RolledBack("3 traps".to_owned());
    let mut deployed = deployed(&[(2, taken_back(())), (1, Fate::Withdrawn)]);
    let runs = |deployed: &Deployed, number| {
        let version = version(number);
        let now = Now {
            serving: Some(&version),
            canary: None,
        };
        next(deployed, now)
    };
    let nothing = Now {
        serving: None,
        canary: None,
    };
    // Given up after it had been deployed behind the withdrawal.
    deployed.withdrawn_in = 0;
    assert!(matches!(runs(&deployed, 2), Next::GiveUp(..)));
    assert!(nothing_left(&deployed, nothing).is_some());
    // A canary that was given up, and then the release beside it was withdrawn.
    deployed.withdrawn_in = 1;
    assert_eq!(runs(&deployed, 2), Next::Nothing);
    assert_eq!(nothing_left(&deployed, nothing), None);
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Replaced),
        Just(Fate::RolledBack("why".to_owned())),
        Just(Fate::Failed("why".to_owned())),
        Just(Fate::Withdrawn),
    ]
}

proptest! {
    /// Whatever runs and whatever is desired, a worker whose steps work arrives.
    #[test]
    fn steps_that_work_lead_to_what_is_desired(
        active in prop::option::of(0..4u64),
        canary in prop::option::of(0..4u64),
        older in vec((0..4u64, fate()), 0..5),
        serving in prop::option::of(0..5u64),
        trying in prop::option::of(0..5u64),
    ) {
        // The coordinator makes no canary of what serves.
        prop_assume!(canary.is_none() || canary != active);
        let mut releases = Vec::new();
        releases.extend(canary.map(|it| (it, Fate::Canary(plan()))));
        releases.extend(active.map(|it| (it, Fate::Active)));
        releases.extend(older);
        let deployed = deployed(&releases);
        let mut serving: Vec<Name> = serving.map(version).into_iter().collect();
        let mut canary = trying.map(version);
        for _ in 0..6 {
            let now = Now { serving: serving.last(), canary: canary.as_ref() };
            match next(&deployed, now) {
                Next::Nothing => {}
                Next::Promote(version) => {
                    canary = None;
                    serving.push(version);
                }
                Next::GiveUp(version, _) if canary.as_ref() == Some(&version) => canary = None,
                Next::GiveUp(..) => drop(serving.pop()),
                Next::Serve { version, canary: Some(_), .. } => canary = Some(version),
                Next::Serve { version, .. } => serving.push(version),
            }
        }
        let now = Now { serving: serving.last(), canary: canary.as_ref() };
        prop_assert!(follows(&deployed, now), "{:?} {:?}", deployed, now);
        if let Some(active) = active {
            prop_assert_eq!(serving.last(), Some(&version(active)));
        }
    }
}

#[test]
fn what_comes_back_is_told_from_what_is_new() {
    let again = |releases: &[(u64, Fate)]| match step(releases, None, None) {
        Next::Serve { again, .. } => again,
        other @ (Next::Nothing | Next::Promote(_) | Next::GiveUp(..)) => panic!("{other:?}"),
    };
    let bad = || Fate::RolledBack("bad".to_owned());
    let back = [(1, Fate::Active), (2, bad()), (1, Fate::Replaced)];
    assert_eq!(again(&back), Some("bad".to_owned()));
    assert_eq!(again(&[(2, Fate::Active), (1, Fate::Replaced)]), None);
    // Deployed behind a canary that was given up, and that version once more.
    let next = [(3, Fate::Active), (2, bad()), (1, Fate::Replaced)];
    assert_eq!(again(&next), None);
    let retried = [(2, Fate::Active), (2, bad()), (1, Fate::Replaced)];
    assert_eq!(again(&retried), None);
}

#[test]
fn what_comes_back_before_it_was_proven_is_new_again() {
    let releases = [
        (2, Fate::Active),
        (3, Fate::RolledBack("3 fails".to_owned())),
        (2, Fate::Replaced),
        (1, Fate::Replaced),
    ];
    let again = |unproven| {
        let mut deployed = deployed(&releases);
        deployed.releases[2].unproven = unproven;
        let now = Now {
            serving: Some(&version(3)),
            canary: None,
        };
        match next(&deployed, now) {
            Next::Serve { again, .. } => again,
            other @ (Next::Nothing | Next::Promote(_) | Next::GiveUp(..)) => panic!("{other:?}"),
        }
    };
    // The generations of these tests are all the same: the newest is looked at.
    assert_eq!(again(false), Some("3 fails".to_owned()));
    assert_eq!(again(true), None);
}
