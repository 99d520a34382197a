//! The table by itself, with a clock of its own.

use super::*;

const LEASE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(20);

struct Run {
    table: NodeTable,
    now: Instant,
}

fn run() -> Run {
    Run {
        table: NodeTable::new(GRACE, 4),
        now: Instant::now(),
    }
}

fn gateway(incarnation: u64, port: u16) -> Node {
    Node {
        role: Role::Gateway,
        incarnation: Incarnation(incarnation),
        address: Some(format!("10.0.0.1:{port}").parse().unwrap()),
        name: "g".into(),
        tags: Vec::new(),
    }
}

fn worker(incarnation: u64) -> Node {
    Node {
        role: Role::Worker,
        address: None,
        ..gateway(incarnation, 0)
    }
}

impl Run {
    fn join(&mut self, node: Node, link: LinkId) -> Result<Joined, Refusal> {
        self.table.join(node, LEASE, link, self.now)
    }

    fn end(&mut self, incarnation: u64, link: LinkId) {
        self.table.ended(Incarnation(incarnation), link, self.now);
    }

    fn pass(&mut self, time: Duration) -> Vec<u64> {
        self.now += time;
        let gone = self.table.expire(self.now);
        gone.iter().map(|node| node.incarnation.0).collect()
    }

    fn view(&self) -> (bool, Vec<u64>) {
        let view = self.table.view(self.now);
        let nodes = view.nodes.iter().map(|node| node.incarnation.0);
        (view.settled, nodes.collect())
    }
}

#[test]
fn who_has_left_is_told_as_left_for_two_of_its_leases() {
    let mut run = run();
    run.join(gateway(1, 1), 1).unwrap();
    run.join(worker(2), 2).unwrap();
    assert!(run.table.leave(Incarnation(2), 2, run.now));
    assert_eq!(run.table.view(run.now).left, [Incarnation(2)]);
    run.pass(LEASE * 2);
    assert_eq!(run.table.view(run.now).left, []);
}

fn taken() -> Result<Joined, Refusal> {
    Err(Refusal::AddressTaken("10.0.0.1:1".to_owned()))
}

#[test]
fn a_node_keeps_its_place_when_it_is_back_within_its_lease() {
    let mut run = run();
    assert_eq!(run.join(gateway(1, 1), 1), Ok(Joined::New));
    run.end(1, 1);
    assert!(run.pass(LEASE / 2).is_empty());
    assert_eq!(run.join(gateway(1, 1), 2), Ok(Joined::Again));
    assert!(run.pass(LEASE * 2).is_empty());
    assert_eq!(run.join(gateway(1, 1), 3), Ok(Joined::Instead(2)));
    run.end(1, 2);
    assert!(
        run.pass(LEASE * 2).is_empty(),
        "the end of a replaced link is nothing"
    );
}

#[test]
fn a_gateway_whose_lease_ran_out_is_lost_and_a_worker_is_not() {
    let mut run = run();
    run.join(worker(9), 9).unwrap();
    run.join(gateway(1, 1), 1).unwrap();
    run.join(worker(2), 2).unwrap();
    run.pass(GRACE);
    run.end(1, 1);
    run.end(2, 2);
    assert_eq!(run.pass(LEASE), [1, 2]);
    assert_eq!(run.join(gateway(1, 1), 3), Err(Refusal::Lost));
    assert_eq!(run.join(worker(2), 4), Ok(Joined::New));
}

#[test]
fn an_address_is_free_once_its_gateway_has_left_or_its_lease_has_run_out() {
    let mut run = run();
    run.join(worker(9), 9).unwrap();
    run.join(gateway(1, 1), 1).unwrap();
    assert_eq!(run.join(gateway(2, 1), 2), taken());
    run.end(1, 1);
    assert_eq!(run.join(gateway(2, 1), 2), taken(), "its lease still runs");
    assert_eq!(run.pass(LEASE), [1]);
    assert_eq!(run.join(gateway(2, 1), 3), Ok(Joined::New));
    assert!(
        !run.table.leave(Incarnation(2), 1, run.now),
        "an old link cannot leave"
    );
    assert!(run.table.leave(Incarnation(2), 3, run.now));
    assert_eq!(run.join(gateway(3, 1), 4), Ok(Joined::New));
}

#[test]
fn the_view_settles_a_grace_after_the_first_node_is_there() {
    let mut run = run();
    run.pass(GRACE * 2);
    run.join(worker(1), 1).unwrap();
    assert_eq!(run.view(), (false, vec![1]));
    assert_eq!(run.table.deadline(), Some(run.now + GRACE));
    run.pass(GRACE);
    assert_eq!(run.view(), (true, vec![1]));
    assert!(run.table.settling(run.now));
    assert_eq!(run.table.deadline(), None);
}

#[test]
fn a_register_that_was_cut_off_from_all_declares_nobody_lost() {
    let mut run = run();
    run.join(worker(1), 1).unwrap();
    run.join(gateway(2, 1), 2).unwrap();
    run.join(gateway(3, 2), 3).unwrap();
    run.pass(GRACE);
    for n in 1..=3 {
        run.end(n, n);
    }
    assert_eq!(run.pass(LEASE * 3), [1, 2, 3]);
    run.join(worker(1), 4).unwrap();
    assert_eq!(run.view(), (false, vec![1]), "others may be on their way");
    assert_eq!(run.join(gateway(2, 1), 5), Ok(Joined::New));
    run.pass(GRACE);
    let late = run.join(gateway(3, 2), 6);
    assert_eq!(late, Err(Refusal::Lost), "now the others have been told");
}

#[test]
fn a_register_that_was_frozen_takes_back_whom_it_dropped_when_it_thawed() {
    let mut run = run();
    run.join(worker(1), 1).unwrap();
    run.join(gateway(2, 1), 2).unwrap();
    run.pass(GRACE);
    assert!(run.table.settling(run.now));
    run.end(2, 2);
    run.now += LEASE * 5;
    run.table.doubt(run.now);
    assert_eq!(run.pass(Duration::ZERO), [2]);
    assert!(
        run.table.settling(run.now),
        "all are told that it is unsure"
    );
    assert_eq!(run.view(), (false, vec![1]));
    assert_eq!(run.join(gateway(2, 1), 3), Ok(Joined::New));
}

#[test]
fn what_cannot_be_a_member_is_refused_with_the_reason() {
    let mut run = run();
    let register = Node {
        role: Role::Register,
        ..worker(1)
    };
    let nowhere = Node {
        address: None,
        ..gateway(1, 1)
    };
    run.join(worker(5), 5).unwrap();
    let twin = gateway(5, 5);
    for (node, what) in [
        (register, "a register cannot"),
        (nowhere, "without an announced address"),
        (twin, "with the incarnation of a worker"),
    ] {
        let refusal = run.join(node, 1).unwrap_err();
        assert!(refusal.to_string().contains(what), "{refusal}");
    }
    for n in 6..9 {
        run.join(worker(n), n).unwrap();
    }
    assert_eq!(run.join(worker(9), 9), Err(Refusal::Full(4)));
    assert_eq!(run.join(worker(8), 10), Ok(Joined::Instead(8)));
}
