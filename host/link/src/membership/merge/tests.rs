//! Tables for the cases that have a name, properties for all others.

use proptest::prelude::*;

use super::*;

const HOLD: Duration = Duration::from_secs(10);

/// Odd incarnations are gateways, even ones workers.
fn view(settled: bool, nodes: &[u64]) -> View {
    let node = |n: &u64| Node {
        role: if n % 2 == 1 {
            Role::Gateway
        } else {
            Role::Worker
        },
        incarnation: Incarnation(*n),
        address: None,
        name: n.to_string().into(),
        tags: Vec::new(),
    };
    View {
        settled,
        nodes: nodes.iter().map(node).collect(),
        left: Vec::new(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Heard(usize, bool, Vec<u64>),
    Ended(usize),
    Pass(Duration),
}

use Step::{Ended, Heard, Pass};

struct Run {
    merge: Merge,
    now: Instant,
}

impl Run {
    fn new(registers: usize) -> Self {
        Self {
            merge: Merge::new(registers, HOLD),
            now: Instant::now(),
        }
    }

    fn step(&mut self, step: &Step) -> bool {
        match step {
            Heard(register, settled, nodes) => {
                self.merge.heard(*register, view(*settled, nodes));
            }
            Ended(register) => self.merge.ended(*register, self.now),
            Pass(time) => self.now += *time,
        }
        self.merge.conclude(self.now)
    }

    fn nodes(&self) -> Vec<u64> {
        self.merge.nodes().keys().map(|n| n.0).collect()
    }
}

#[test]
fn the_view_shrinks_only_when_every_register_that_answers_agrees() {
    let all = |register| Heard(register, true, vec![1, 2, 3]);
    let table: &[(&str, &[Step], &[u64])] = &[
        (
            "one register drops",
            &[all(0), Heard(0, true, vec![1, 2])],
            &[1, 2],
        ),
        (
            "one of two drops",
            &[all(0), all(1), Heard(0, true, vec![1])],
            &[1, 2, 3],
        ),
        (
            "both drop",
            &[
                all(0),
                all(1),
                Heard(0, true, vec![1]),
                Heard(1, true, vec![1, 3]),
            ],
            &[1, 3],
        ),
        (
            "it restarts empty",
            &[all(0), Ended(0), Heard(0, false, vec![])],
            &[1, 2, 3],
        ),
        (
            "it restarts and settles",
            &[
                all(0),
                Ended(0),
                Heard(0, false, vec![2]),
                Heard(0, true, vec![2, 3]),
            ],
            &[2, 3],
        ),
        (
            "it is lost for ever",
            &[all(0), Ended(0), Pass(HOLD * 100)],
            &[1, 2, 3],
        ),
        (
            "the other had dropped, its own link breaks for a moment",
            &[
                all(0),
                Heard(1, true, vec![1]),
                Ended(0),
                all(0),
                Pass(HOLD * 2),
            ],
            &[1, 2, 3],
        ),
        (
            "the other had dropped, its own link stays away",
            &[all(0), Heard(1, true, vec![1]), Ended(0), Pass(HOLD)],
            &[1],
        ),
        (
            "a register in its grace time only adds",
            &[all(0), Heard(1, false, vec![5]), Heard(0, true, vec![1])],
            &[1, 5],
        ),
    ];
    for (name, steps, expected) in table {
        let mut run = Run::new(2);
        for step in *steps {
            run.step(step);
        }
        assert_eq!(run.nodes(), *expected, "{name}");
    }
}

#[test]
fn a_lost_gateway_stays_away_and_a_worker_may_come_back() {
    let mut run = Run::new(1);
    run.step(&Heard(0, true, vec![1, 2]));
    assert!(run.step(&Heard(0, true, vec![])));
    assert!(run.merge.lost().contains(Incarnation(1)));
    assert!(!run.merge.lost().contains(Incarnation(2)));
    assert!(run.step(&Heard(0, true, vec![1, 2])));
    assert_eq!(run.nodes(), [2]);
}

#[test]
fn the_end_of_a_hold_is_a_deadline() {
    let mut run = Run::new(2);
    run.step(&Heard(0, true, vec![1]));
    assert_eq!(run.merge.deadline(), None);
    assert_eq!(run.merge.connected(), 1);
    run.step(&Ended(0));
    assert_eq!(run.merge.deadline(), Some(run.now + HOLD));
    assert_eq!(run.merge.connected(), 0);
    run.step(&Pass(HOLD / 2));
    run.step(&Ended(0));
    assert!(run.merge.deadline().unwrap() < run.now + HOLD);
    run.step(&Pass(HOLD));
    assert_eq!(run.merge.deadline(), None);
}

#[test]
fn registers_that_do_not_exist_are_ignored() {
    let mut run = Run::new(1);
    assert!(!run.step(&Heard(7, true, vec![1])));
    run.step(&Ended(7));
    assert!(run.nodes().is_empty());
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nodes = proptest::collection::btree_set(0_u64..8, 0..6);
    let heard = (0..3_usize, any::<bool>(), nodes).prop_map(|(register, settled, nodes)| {
        Heard(register, settled, nodes.into_iter().collect())
    });
    let step = prop_oneof![
        5 => heard,
        2 => (0..3_usize).prop_map(Ended),
        1 => (1..20_u64).prop_map(|s| Pass(Duration::from_secs(s))),
    ];
    proptest::collection::vec(step, 1..40)
}

#[test]
fn who_has_left_is_gone_whatever_a_register_says_that_cannot_be_reached() {
    let mut run = Run::new(2);
    run.step(&Heard(0, true, vec![1, 2, 3]));
    run.step(&Heard(1, true, vec![1, 2, 3]));
    // It still speaks for its nodes for a while.
    run.step(&Ended(0));
    let left = View {
        left: vec![Incarnation(1), Incarnation(2)],
        ..view(true, &[3])
    };
    run.merge.heard(1, left);
    assert!(run.merge.conclude(run.now));
    let nodes: Vec<u64> = run.merge.nodes().keys().map(|it| it.0).collect();
    assert_eq!(nodes, [3]);
    assert!(
        run.merge.lost().contains(Incarnation(1)) && !run.merge.lost().contains(Incarnation(2))
    );
    // It is back, and has not heard of it.
    run.step(&Heard(0, true, vec![1, 2, 3]));
    let nodes: Vec<u64> = run.merge.nodes().keys().map(|it| it.0).collect();
    assert_eq!(nodes, [3]);
}

proptest! {
    #[test]
    fn nobody_vanishes_without_cause_and_no_lost_gateway_returns(steps in steps()) {
        let mut run = Run::new(3);
        let mut said: [Option<(bool, Vec<u64>)>; 3] = [const { None }; 3];
        let mut lost = BTreeSet::new();
        for step in &steps {
            let before: BTreeSet<u64> = run.nodes().into_iter().collect();
            let changed = run.step(step);
            let after: BTreeSet<u64> = run.nodes().into_iter().collect();
            match step {
                Heard(register, settled, nodes) => said[*register] = Some((*settled, nodes.clone())),
                Ended(register) => said[*register] = None,
                Pass(_) => {}
            }
            prop_assert_eq!(changed, before != after);
            for gone in before.difference(&after) {
                prop_assert!(said.iter().flatten().any(|(settled, _)| *settled));
                prop_assert!(!said.iter().flatten().any(|(_, nodes)| nodes.contains(gone)));
                if gone % 2 == 1 {
                    lost.insert(*gone);
                }
            }
            for listed in said.iter().flatten().flat_map(|(_, nodes)| nodes) {
                prop_assert!(after.contains(listed) || lost.contains(listed));
            }
            prop_assert!(after.is_disjoint(&lost));
            prop_assert!(lost.iter().all(|n| run.merge.lost().contains(Incarnation(*n))));
        }
    }

    #[test]
    fn the_order_of_the_registers_does_not_matter(
        views in proptest::collection::vec(proptest::collection::btree_set(0_u64..8, 0..6), 3)
    ) {
        let said = |order: [usize; 3]| {
            let mut run = Run::new(3);
            for register in order {
                let nodes = views[register].iter().copied().collect();
                run.step(&Heard(register, true, nodes));
            }
            run.nodes()
        };
        let union: BTreeSet<u64> = views.iter().flatten().copied().collect();
        let union: Vec<u64> = union.into_iter().collect();
        prop_assert_eq!(said([0, 1, 2]), union.clone());
        prop_assert_eq!(said([2, 0, 1]), union);
    }
}
